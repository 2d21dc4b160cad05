"""Laws of discrete navigation: adjacency, headings in closed form, the oracle's scores, stopping."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from nav_fixtures import Named, cross, episode, line

from wayhand.datasets.formats import connectivity, r2r
from wayhand.envs.atlas import Atlas, view_angles, view_index
from wayhand.envs.graph import LOOKS, GraphNavigation
from wayhand.envs.graph_batch import GraphBatch
from wayhand.vla.contract import Observation
from wayhand.vla.errors import ConfigError, SpecError
from wayhand.vla.navigation import Goal, NavEpisode, NavigationError

NORTH, EAST, SOUTH, WEST = 0.0, np.pi / 2, np.pi, 3 * np.pi / 2


def make(*episodes: NavEpisode, **options: object) -> GraphNavigation:
    given = episodes or (episode("cross", "abf"), episode("cross", "dacg", heading=EAST))
    graphs = {"cross": cross(), "line": line()}
    return GraphNavigation(graphs=graphs, episodes=given, **options)  # type: ignore[arg-type]


def drive(env: GraphNavigation, seed: int = 0) -> dict[str, float]:
    """The measures of the oracle's episode."""
    env.reset(seed=seed)
    for _ in range(100):
        _, _, terminated, truncated, info = env.step(env.oracle(np.random.default_rng(0)))
        if terminated or truncated:
            return info["measures"]
    raise AssertionError("the oracle never ends")


# --- the atlas -------------------------------------------------------------------------------------------------


def test_views_are_numbered_as_in_mattersim() -> None:
    angles = view_angles()
    assert np.allclose(angles[0], [0, -np.pi / 6]) and np.allclose(angles[12], [0, 0])
    assert np.allclose(angles[35], [11 * np.pi / 6, np.pi / 6])
    assert (view_index(angles[:, 0], angles[:, 1]) == np.arange(36)).all()
    assert view_index(np.array(2 * np.pi - 0.01), np.array(0.0)) == 12


@pytest.mark.parametrize(("heading", "expected"), [(NORTH, "bcde"), (EAST, "cbde"), (WEST, "ebdc")])
def test_candidates_follow_the_angle_from_the_gaze(heading: float, expected: str) -> None:
    atlas = Atlas({"cross": cross()}, 8)
    seen = atlas.look(np.array([0]), np.array([heading]), np.array([0.0]))
    found = [atlas.viewpoint(r) for r in seen.row[0][seen.mask[0]]]
    assert found[0] == "a" and found[1] == expected[0] and set(found[1:]) == set(expected)
    assert (np.diff(np.hypot(seen.heading, seen.elevation)[0, 1:5]) >= -1e-6).all()


def test_directions_have_their_closed_form() -> None:
    atlas = Atlas({"cross": cross()}, 8)
    seen = atlas.look(np.array([0, 1]), np.array([NORTH, EAST]), np.zeros(2))
    east = seen.row[0].tolist().index(2)
    assert seen.heading[0, east] == pytest.approx(np.pi / 2) and seen.view[0, east] == 15
    assert seen.angles[0, east] == pytest.approx([1, 0, 0, 1], abs=1e-6)
    up = seen.row[1].tolist().index(5)  # north of b and 2 m higher, for someone who looks east
    assert seen.heading[1, up] == pytest.approx(-np.pi / 2) and seen.elevation[1, up] == pytest.approx(np.pi / 4)
    assert seen.view[1, up] == 24 and seen.distance[1, up] == pytest.approx(8**0.5)


def test_candidates_are_the_adjacency() -> None:
    atlas = Atlas({"cross": cross(), "line": line()}, 8)
    everywhere = atlas.look(np.arange(len(atlas)), np.linspace(0, 6, len(atlas)), np.zeros(len(atlas)))
    joined = np.zeros((len(atlas), len(atlas)), bool)
    for row, (targets, mask) in enumerate(zip(everywhere.row, everywhere.mask, strict=True)):
        joined[row, targets[1:][mask[1:]]] = True
    first = len(cross().ids)
    assert (joined == joined.T).all() and not joined[:first, first:].any()
    assert (joined[:first, :first] == cross().adjacency).all() and (joined[first:, first:] == line().adjacency).all()


def test_the_next_hop_shortens_the_way_by_its_length() -> None:
    atlas = Atlas({"line": line(), "cross": cross()}, 8)
    rows = np.arange(len(atlas))
    scan = np.array([name[0] for name in atlas.names])
    for goal in rows:
        near = rows[scan == scan[goal]]
        goals = np.full((len(near), 1), goal)
        follow = atlas.next_row(near, goals)
        step = atlas.distance(near, follow[:, None])
        assert np.allclose(atlas.distance(near, goals), step + atlas.distance(follow, goals))
        assert (follow[near == goal] == goal).all()


def test_too_many_neighbours_are_named() -> None:
    with pytest.raises(NavigationError, match="too many neighbours"):
        Atlas({"cross": cross()}, 4)


# --- the environment -------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:.*Box action spaces.*")
@pytest.mark.parametrize("options", [{}, {"hfov_deg": 80.0}, {"features": Named(), "discretized": True}])
def test_gymnasium_accepts_it(options: dict[str, object]) -> None:
    check_env(make(**options), skip_render_check=True)


def test_observations_fit_the_spec() -> None:
    env = make(features=Named())
    nested, _ = env.reset(seed=1)
    for _ in range(3):
        Observation.from_nested(nested).check(env.body)
        nested, *_ = env.step(env.oracle(np.random.default_rng(0)))
    assert (nested["extras"]["panorama"] == Named()("cross", "g")).all()


@pytest.mark.parametrize("options", [{}, {"discretized": True}, {"hfov_deg": 80.0, "max_steps": 40}])
def test_the_oracle_is_perfect(options: dict[str, object]) -> None:
    for seed in range(2):
        measures = drive(make(**options), seed)
        assert measures["sr"] == measures["osr"] == measures["ndtw"] == 1 and measures["ne"] == 0
        assert measures["spl"] == pytest.approx(1, abs=1e-12)


def test_a_hop_turns_the_agent_to_where_it_went() -> None:
    env = make(episode("cross", "dacg", heading=WEST))
    env.reset(seed=0)
    headings = []
    for _ in range(3):
        nested, *_ = env.step(env.oracle(np.random.default_rng(0)))
        headings.append(float(nested["state"][3]))
    assert headings == pytest.approx([NORTH, EAST, EAST], abs=1e-6)


def test_discretized_gazes_are_views() -> None:
    env = make(episode("cross", "ab", heading=0.4), discretized=True)
    nested, _ = env.reset(seed=0)
    assert nested["state"][3] == pytest.approx(np.pi / 6)


def test_restricted_navigation_shows_what_is_ahead() -> None:
    env = make(episode("cross", "ac", heading=NORTH), hfov_deg=80.0)
    nested, _ = env.reset(seed=0)
    assert nested["extras"]["candidate_mask"].sum() == 2 and nested["extras"]["candidate_id"][1] == 1
    for _ in range(3):
        nested, _, terminated, *_ = env.step(np.array([0, LOOKS.index("right")], np.float32))
        assert not terminated
    assert nested["extras"]["candidate_id"][1] == 2 and nested["state"][3] == pytest.approx(EAST)


@pytest.mark.parametrize(
    ("path", "hops", "expected"),
    [
        ("abcd", "bcd", (0, 1, 1, 6, 1.0, 1.0)),
        ("abcd", "bcde", (2, 1, 1, 8, 0.75, 0.8465)),
        ("abcd", "b", (4, 0, 0, 2, 0, 0.6065)),
    ],
)
def test_measures_match_the_golden_vectors(path: str, hops: str, expected: tuple[float, ...]) -> None:
    env = make(episode("line", path))
    nested, _ = env.reset(seed=0)
    for name in hops:
        ids = nested["extras"]["candidate_id"].tolist()
        nested, *_ = env.step(np.array([ids.index(line().index(name))], np.float32))
    *_, info = env.step(np.zeros(1, np.float32))
    measures = info["measures"]
    got = [measures[k] for k in ("ne", "sr", "osr", "tl", "spl", "ndtw")]
    assert got == pytest.approx(expected, abs=1e-4) and info["success"] is bool(expected[1])


def test_stopping_ends_and_standing_still_at_a_wall_does_not() -> None:
    env = make(max_steps=3)
    env.reset(seed=0)
    _, reward, terminated, truncated, info = env.step(np.zeros(1, np.float32))
    assert terminated and not truncated and reward == 0 and not info["success"]
    with pytest.raises(SpecError, match="over"):
        env.step(np.zeros(1, np.float32))
    env.reset(seed=0)
    ends = [env.step(np.array([15], np.float32))[2:4] for _ in range(3)]
    assert ends == [(False, False), (False, False), (False, True)] and env.trajectory[0][0] == "a"


def test_stop_may_be_required() -> None:
    for required, success in ((False, True), (True, False)):
        env = make(episode("cross", "ab"), max_steps=1, stop_required=required)
        env.reset(seed=0)
        assert env.step(env.oracle(np.random.default_rng(0)))[4]["success"] is success


def test_any_of_several_goals_will_do() -> None:
    goal = Goal(viewpoint_ids=("f", "g"))
    env = make(NavEpisode("1", "cross", (), ("c",), 0.0, goals=(goal,)))
    assert drive(env)["tl"] == pytest.approx(2)


def test_episodes_follow_from_the_seed() -> None:
    env = make()
    first, info = env.reset(seed=3)
    again, _ = make().reset(seed=1)
    assert info["instruction_id"] == "dacg_0"
    assert all((first["extras"][k] == again["extras"][k]).all() for k in first["extras"])


def test_mistakes_are_named() -> None:
    with pytest.raises(ConfigError, match="at least one episode"):
        GraphNavigation(graphs={"cross": cross()}, episodes=[])
    with pytest.raises(NavigationError, match="no such viewpoint"):
        make(episode("cross", "az"))
    env = make()
    with pytest.raises(ConfigError, match="Unknown reset options"):
        env.reset(seed=0, options={"task": "x"})
    env.reset(seed=0)
    with pytest.raises(SpecError, match="does not fit"):
        env.step(np.zeros(2, np.float32))


def test_the_id_is_registered() -> None:
    import wayhand.envs  # noqa: F401

    env = gym.make("wayhand/GraphNavigation-v0", graphs={"line": line()}, episodes=[episode("line", "abc")])
    env.reset(seed=0)
    env.close()


# --- many at once ----------------------------------------------------------------------------------------------


def test_a_batch_sees_what_one_agent_sees() -> None:
    episodes = [episode("cross", "abf"), episode("cross", "dacg", heading=1.0), episode("line", "abcd", heading=2.0)]
    graphs = {"cross": cross(), "line": line()}
    batch = GraphBatch(graphs=graphs, episodes=episodes, features=Named(), batch_size=3, numbers="float32")
    observed = batch.begin(0)
    envs = []
    for index in batch._episodes(0):  # pyright: ignore[reportPrivateUsage]
        env = GraphNavigation(graphs=graphs, episodes=episodes, features=Named())
        envs.append((env, env.reset(options={"episode": int(index)})[0]))
    for _ in range(3):
        expert = batch.expert()
        for row, (env, nested) in enumerate(envs):
            columns = Observation.from_nested(nested).columns()
            for path, values in observed.items():
                if path != "task":
                    assert np.allclose(values[row], columns[path], atol=1e-6), path
            action = env.oracle(np.random.default_rng(0))
            assert action[0] == expert[row]
            if expert[row]:
                envs[row] = (env, env.step(action)[0])
        observed = batch.step(expert)
    assert batch.left().max() == 0


def test_a_mirrored_episode_happens_in_the_mirrored_building() -> None:
    flip = np.diag([-1.0, 1, 1, 1])
    plain, order = cross(), np.arange(Named.width)[::-1]
    other = replace(plain, poses=flip @ plain.poses @ flip)
    views = np.arange(36) // 12 * 12 + -np.arange(36) % 12

    class Flipped(Named):
        def __call__(self, scan: str, viewpoint: str) -> np.ndarray:
            return super().__call__(scan, viewpoint)[views][:, order]

    told, heard = episode("cross", "dacg", "turn left", 1.0), episode("cross", "dacg", "turn right", -1.0)
    common = {"batch_size": 4, "numbers": "float32"}
    batch = GraphBatch(
        graphs={"cross": plain},
        episodes=[told],
        features=Named(),
        mirror=order,
        reword=lambda text: text.replace("left", "right"),
        **common,
    )
    apart = [
        GraphBatch(graphs={"cross": g}, episodes=[e], features=f, **common)
        for g, e, f in ((plain, told, Named()), (other, heard, Flipped()))
    ]
    mixed, each = batch.begin(1), [b.begin(1) for b in apart]
    flipped = [text == "turn right" for text in mixed["task"]]
    assert 0 < sum(flipped) < 4
    for _ in range(4):
        for path in mixed:
            for row, which in enumerate(flipped):
                want, got = each[int(which)][path][row], mixed[path][row]
                if path == "observation.state":  # headings are the same where they differ by a whole turn
                    want, got = ([*v[:3], np.sin(v[3]), np.cos(v[3])] for v in (want, got))
                assert want == got if path == "task" else np.allclose(want, got, atol=1e-5), path
        expert = batch.expert()
        assert all((b.expert() == expert).all() for b in apart)
        mixed, each = batch.step(expert), [b.step(expert) for b in apart]


def test_an_epoch_visits_every_instruction_once() -> None:
    episodes = [episode("line", path) for path in ("abc", "bcd", "cde", "def", "fed")]
    batch = GraphBatch(graphs={"line": line()}, episodes=episodes, batch_size=2)
    seen = np.concatenate([batch._episodes(k) for k in range(5)])  # pyright: ignore[reportPrivateUsage]
    assert sorted(seen[:5]) == sorted(seen[5:]) == list(range(5)) and (seen[:5] != seen[5:]).any()


# --- real graphs -----------------------------------------------------------------------------------------------

DATA = os.environ.get("WAYHAND_TEST_DATA")


@pytest.mark.skipif(not DATA, reason="needs the Matterport graphs: set WAYHAND_TEST_DATA to the folder that holds them")
def test_real_graphs_and_real_paths() -> None:
    root = Path(str(DATA))
    episodes = r2r.load(root / "r2r" / "R2R_val_train_seen.json")[:40]
    graphs = connectivity.load(root / "connectivity.tar.gz")
    env = GraphNavigation(graphs={e.scan: graphs[e.scan] for e in episodes}, episodes=episodes)
    for seed in range(0, len(env.items), 4):
        measures = drive(env, seed)
        assert measures["sr"] == 1 and measures["spl"] == pytest.approx(1, abs=1e-9)
