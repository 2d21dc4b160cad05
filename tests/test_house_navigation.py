"""The continuous task: the same laws on every house, an expert that solves it, and measures as they are defined."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from houses import flat, tower
from hypothesis import given, settings
from hypothesis import strategies as st

from wayhand.envs.house.house import House
from wayhand.envs.house.navigation import PRESETS, HouseNavigation
from wayhand.envs.house.registration import register
from wayhand.envs.house.simulator import HouseSimulator
from wayhand.envs.navigation import NavigationEnv
from wayhand.envs.navigation_spec import NavBody, NavTask, episodic, half_turn, polar
from wayhand.vla.contract import EpisodeBuilder, Observation
from wayhand.vla.demonstrations import demonstrate
from wayhand.vla.errors import ConfigError, DataError, SpecError
from wayhand.vla.navigation import Goal, Instruction, NavEpisode

HOUSES = {h.scan: h for h in (flat(), tower())}
BLIND = NavBody(sensors=())
angle, coordinate = st.floats(-math.pi, math.pi), st.floats(-20, 20)
quick = settings(max_examples=40, deadline=None)


class Painter:
    """Paints where it looks from instead of a house."""

    def __init__(self, size: int) -> None:
        self.size, self.loaded, self.closed = size, [], 0

    def load(self, house: House) -> None:
        self.loaded.append(house.scan)

    def render(self, positions: np.ndarray, headings: np.ndarray, elevations: np.ndarray) -> Mapping[str, np.ndarray]:
        n = self.size
        level = int(positions[0, 0] * 20) % 256
        return {
            "rgb": np.full((1, n, n, 3), level, np.uint8),
            "depth": np.full((1, n, n), positions[0, 2], np.float32),
            "semantics": np.full((1, n, n), int(headings[0] * 100), np.int32),
        }

    def close(self) -> None:
        self.closed += 1


def made(count: int = 12, seed: int = 0) -> list[NavEpisode]:
    """Episodes from random starts to random goals, in both houses by turns."""
    sim, rng, out = HouseSimulator(HOUSES, BLIND), np.random.default_rng(seed), []
    while len(out) < count:
        scan = list(HOUSES)[len(out) % 2]
        mesh = sim.mesh(scan)
        start, goal = mesh.random_point(rng.random(3)), mesh.random_point(rng.random(3))
        distance = mesh.geodesic(start, goal)
        if distance < 2:
            continue
        out.append(
            NavEpisode(
                id=str(len(out)),
                scan=scan,
                instructions=(Instruction("a", "Walk over there."), Instruction("b", "Go there.")),
                heading=float(rng.uniform(0, 2 * math.pi)),
                start=start,
                reference=tuple((float(x), float(y), float(z)) for x, y, z in mesh.path(start, goal)),
                goals=(Goal(goal, category="plant"),),
                distance=distance,
            )
        )
    return out


EPISODES = made()


def env_for(body: NavBody = BLIND, task: NavTask | None = None, **more: Any) -> NavigationEnv:
    eye = Painter(body.width) if body.sensors else None
    return NavigationEnv(HouseSimulator(HOUSES, body, eye=eye), EPISODES, body=body, task=task, **more)


def play(env: NavigationEnv, seed: int, **options: Any) -> dict[str, Any]:
    env.reset(seed=seed, options=options)
    rng = np.random.default_rng(seed)
    while True:
        *_, terminated, truncated, info = env.step(env.oracle(rng))
        if terminated or truncated:
            return {**info, "terminated": terminated}


# --- the expert ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sliding", [True, False], ids=["sliding", "stopping"])
@pytest.mark.parametrize(("task", "turn"), [("vln", 15.0), ("pointnav", 10.0)])
def test_the_expert_arrives_by_the_shortest_path(task: str, turn: float, sliding: bool) -> None:
    body = NavBody(sensors=(), turn=turn, sliding=sliding)
    env = env_for(body, NavTask(name=task, radius=3.0 if task == "vln" else 0.2))
    results = [play(env, seed)["measures"] for seed in range(len(EPISODES))]
    assert all(m["success"] == 1 for m in results)
    assert np.mean([m["spl"] for m in results]) >= 0.9
    if task == "vln":
        assert all(m["ndtw"] > 0.8 for m in results)


def test_the_expert_drives_a_continuous_base_there() -> None:
    env = env_for(task=NavTask(name="pointnav", radius=0.25, max_steps=900), continuous=True)
    results = [play(env, seed)["measures"] for seed in range(4)]
    assert all(m["success"] == 1 and m["spl"] > 0.8 for m in results)


def test_demonstrations_are_recorded_as_they_are_of_any_environment() -> None:
    env = env_for()
    episode = demonstrate(env, 3)
    episode.check()
    assert episode.success and episode.provenance["oracle"] == "shortest-path"
    assert episode.columns["action"][-1, 0] == 0  # STOP


# --- the contract ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", ["vln", "pointnav", "objectnav"])
@pytest.mark.parametrize("continuous", [False, True], ids=["moves", "base"])
def test_observations_fit_the_spec_and_the_space(task: str, continuous: bool) -> None:
    body = NavBody(sensors=("rgb", "depth", "semantics"), width=8, height=8, looks=True)
    env = env_for(body, NavTask(name=task), continuous=continuous, categories=("sofa", "plant"))
    nested, info = env.reset(seed=1)
    builder = EpisodeBuilder(env.body, info["instruction"])
    for _ in range(3):
        observation = Observation.from_nested(nested)
        observation.check(env.body)
        assert env.observation_space.contains(nested)
        again = observation.to_nested()
        assert again.keys() == nested.keys()
        np.testing.assert_array_equal(again["instruction"], nested["instruction"])
        action = env.oracle(np.random.default_rng(0))
        nested, reward, *_ = env.step(action)
        builder.add(observation, action, reward)
    builder.finish(Observation.from_nested(nested), None, {}).check()
    if task == "objectnav":
        assert nested["extras"]["objectgoal"] == [1]


@pytest.mark.parametrize("task", ["vln", "pointnav", "objectnav"])
def test_gymnasium_finds_nothing_to_say(task: str) -> None:
    env = env_for(NavBody(sensors=("rgb",), width=8, height=8), NavTask(name=task))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env, skip_render_check=True)


def test_the_same_seed_and_actions_give_the_same_bits() -> None:
    rng = np.random.default_rng(2)
    moves = rng.integers(1, 4, 40)
    traces = []
    for _ in range(2):
        env = env_for()
        env.reset(seed=int(rng.integers(100)))
        env.reset(seed=5)
        traces.append([env.step(int(a))[0]["state"].tobytes() for a in moves])
    assert traces[0] == traces[1]


def test_a_chunk_is_its_moves_and_looks_once() -> None:
    body = NavBody(sensors=("rgb",), width=8, height=8)
    one, many = env_for(body), env_for(body)
    moves = np.array([[1], [2], [1], [1], [0], [1]], np.float32)
    one.reset(seed=0)
    many.reset(seed=0)
    last = [one.step(a) for a in moves[:5]][-1]
    nested, rewards, terminated, truncated, info = many.step_chunk(moves)
    assert terminated and not truncated and len(rewards) == 5
    np.testing.assert_array_equal(nested["state"], last[0]["state"])
    np.testing.assert_array_equal(nested["images"]["head"], last[0]["images"]["head"])
    assert info["measures"] == last[4]["measures"]


def test_seeds_count_round_the_episodes_and_their_instructions() -> None:
    env = env_for()
    n = len(EPISODES)
    told = [env.reset(seed=s)[1] for s in (2, n + 2, 2 * n + 2)]
    assert {i["episode"] for i in told} == {"2"}
    assert [i["instruction_id"] for i in told] == ["a", "b", "a"]
    assert env.reset(seed=0, options={"episode": 5})[1]["episode"] == "5"
    assert env.reset(options={"episode": EPISODES[4], "instruction": 1})[1]["instruction"] == "Go there."


def test_wrong_use_is_said() -> None:
    env = env_for()
    with pytest.raises(SpecError, match="no episode yet"):
        env.oracle(np.random.default_rng(0))
    with pytest.raises(ConfigError, match="Unknown reset options"):
        env.reset(options={"scene": 3})
    env.reset(seed=0)
    for action in (7, [1, 2], float("nan")):
        with pytest.raises(SpecError, match="no move of this body"):
            env.step(action)
    env.step(0)
    with pytest.raises(SpecError, match="over"):
        env.step(1)
    with pytest.raises(ConfigError, match="Unknown sensors"):
        NavBody(sensors=("sonar",))
    with pytest.raises(ConfigError, match="Unknown task"):
        NavTask(name="vnl")
    with pytest.raises(DataError, match="no such house"):
        env.simulator.begin("flatt", (0, 0, 0), 0, [(1, 1, 0)])


# --- measures --------------------------------------------------------------------------------------------------


def test_measures_are_what_they_say() -> None:
    env = env_for(task=NavTask(max_steps=30))
    env.reset(seed=0)
    rng = np.random.default_rng(1)
    places, hits, first = [env.state.position], 0, env.state.distance
    truncated, measures = False, {}
    while not truncated:
        *_, truncated, info = env.step(int(rng.integers(1, 4)))
        places.append(env.state.position)
        hits += env.state.collided
        measures = info["measures"]
    walked = sum(math.dist(a, b) for a, b in zip(places, places[1:], strict=False))
    mesh = env.simulator.mesh(env.episode.scan)  # type: ignore[attr-defined]
    left = mesh.geodesic(env.state.position, env.episode.goals[0].position)
    assert measures["steps"] == 30 and measures["success"] == measures["spl"] == 0
    assert measures["path_length"] == pytest.approx(walked) and measures["collisions"] == hits
    assert measures["distance_to_goal"] == pytest.approx(left)
    assert measures["soft_spl"] == pytest.approx(max(0, 1 - left / first) * first / max(first, walked))


def test_success_needs_stop_and_less_than_the_radius() -> None:
    env = env_for()
    env.reset(seed=0)
    distance = env.state.distance
    for radius, wanted in ((distance, 0.0), (distance + 1e-6, 1.0)):
        env = env_for(task=NavTask(radius=radius))
        env.reset(seed=0)
        *_, info = env.step(2)
        assert info["measures"]["success"] == 0 and info["measures"]["oracle_success"] == wanted
        _, reward, terminated, _, info = env.step(0)
        assert terminated and reward == info["measures"]["success"] == info["measures"]["spl"] == wanted


def test_progress_rewards_add_up_to_the_way_made() -> None:
    env = env_for(task=NavTask(reward="progress", radius=1.0))
    env.reset(seed=1)
    first, total, over = env.state.distance, 0.0, False
    while not over:
        _, reward, over, _, _ = env.step(env.oracle(np.random.default_rng(0)))
        total += reward
    steps = first - env.state.distance - 0.01 * (env._now.steps) + 2.5
    assert total == pytest.approx(steps)


# --- motion and senses -----------------------------------------------------------------------------------------


@quick
@given(x=coordinate, y=coordinate, h=angle, sx=coordinate, sy=coordinate, sh=angle, turn=angle)
def test_gps_and_compass_do_not_depend_on_the_world_frame(x, y, h, sx, sy, sh, turn) -> None:  # type: ignore[no-untyped-def]
    def moved(px: float, py: float) -> tuple[float, float, float]:
        s, c = math.sin(turn), math.cos(turn)  # clockwise, as headings grow
        return px * c + py * s + 3, -px * s + py * c - 7, 0.0

    here = episodic((x, y, 0), h, (sx, sy, 0), sh)
    there = episodic(moved(x, y), h + turn, moved(sx, sy), sh + turn)
    assert there[:2] == pytest.approx(here[:2], abs=1e-6)
    assert half_turn(there[2] - here[2]) == pytest.approx(0, abs=1e-9)
    assert episodic((sx, sy, 0), sh, (sx, sy, 0), sh) == pytest.approx((0, 0, 0), abs=1e-9)
    a, b = polar((x, y, 0), h, (sx, sy, 0)), polar(moved(x, y), h + turn, moved(sx, sy))
    assert a[0] == pytest.approx(b[0], abs=1e-6)
    assert a[0] < 1e-6 or math.cos(a[1] - b[1]) == pytest.approx(1, abs=1e-6)


def test_gps_and_compass_have_habitats_signs() -> None:
    assert episodic((0, 2, 0), 0.0, (0, 0, 0), 0.0) == pytest.approx((2, 0, 0))
    assert episodic((2, 0, 0), math.pi / 2, (0, 0, 0), 0.0) == pytest.approx((0, 2, -math.pi / 2))
    assert polar((0, 0, 0), 0.0, (-1, 0, 0)) == pytest.approx((1, math.pi / 2))


def test_the_goal_may_be_part_of_the_state() -> None:
    env = HouseNavigation(task="pointnav", houses=1, rooms=(2, 2), sensors=(), goal_in_state=True)
    nested, _ = env.reset(seed=3)
    assert [e.name for e in env.body.state][-2:] == ["goal_ahead", "goal_left"]
    assert env.observation_space.contains(nested)
    distance, left = nested["extras"]["pointgoal"]
    np.testing.assert_allclose(nested["state"][-2:], [distance * np.cos(left), distance * np.sin(left)], atol=1e-4)
    env.close()
    with pytest.raises(ConfigError, match="Only PointNav"):
        HouseNavigation(task="vln", goal_in_state=True)


def test_moves_turn_walk_and_tilt() -> None:
    sim = HouseSimulator(HOUSES, BLIND)
    start = sim.begin("flat", (3.0, 2.5, 0.0), 0.0, [(1.0, 1.0, 0.0)])
    assert sim.step("right").heading == pytest.approx(math.radians(15))
    assert sim.step("left").heading == pytest.approx(0, abs=1e-12)
    ahead = sim.step("forward")
    assert ahead.position == pytest.approx((3.0, 2.75, 0.0)) and not ahead.collided
    assert ahead.distance == pytest.approx(math.hypot(2, 1.75)) and start.distance == pytest.approx(2.5)
    assert sim.step("up").elevation == pytest.approx(math.radians(30))
    assert sim.step("down").elevation == pytest.approx(0)
    with pytest.raises(SpecError, match="Unknown move"):
        sim.step("jump")


@pytest.mark.parametrize("seconds", [0.05, 0.2, 1.0])
def test_a_base_drives_circles(seconds: float) -> None:
    sim = HouseSimulator(HOUSES, BLIND)
    sim.begin("flat", (2.5, 2.0, 0.0), 0.0, [(1.0, 1.0, 0.0)])
    speed, spin, total = 0.2, 0.5, 2.0
    state = None
    for _ in range(round(total / seconds)):
        state = sim.drive(speed, spin, seconds)
    assert state is not None
    radius, turned = speed / spin, spin * total
    wanted = (2.5 - radius * (1 - math.cos(turned)), 2.0 + radius * math.sin(turned), 0.0)
    assert state.position == pytest.approx(wanted, abs=1e-9)
    assert half_turn(state.heading + turned) == pytest.approx(0, abs=1e-9)


def test_the_camera_is_where_the_body_is() -> None:
    painter = Painter(4)
    body = NavBody(width=4, height=4, sensors=("rgb", "depth", "semantics"), camera_height=1.25)
    sim = HouseSimulator(HOUSES, body, eye=painter)
    seen = sim.begin("tower", (5.4, 3.5, 2.9), 1.0, [(1.0, 1.0, 0.0)])
    assert seen.images["depth"][0, 0] == pytest.approx(2.9 + 1.25)
    assert seen.images["rgb"].shape == (4, 4, 3) and seen.images["semantics"][0, 0] == 100
    assert sim.step("left", render=False).images == {}
    sim.begin("flat", (3.0, 2.5, 0.0), 0.0, [(1.0, 1.0, 0.0)])
    assert painter.loaded == ["tower", "flat"]
    sim.close()
    sim.close()
    assert painter.closed == 1


# --- generated houses ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=sorted(PRESETS))
def generated(request: pytest.FixtureRequest) -> Iterator[HouseNavigation]:
    env = HouseNavigation(task=request.param, houses=4, rooms=(4, 6), sensors=())
    yield env
    env.close()


def test_generated_episodes_are_solved_and_follow_from_their_number(generated: HouseNavigation) -> None:
    for seed in (0, 1):
        result = play(generated, seed)
        assert result["success"] and result["measures"]["spl"] > 0.7
    first = generated.episode
    generated.reset(seed=0)
    again = HouseNavigation(task=generated.task.name, houses=4, rooms=(4, 6), sensors=())
    again.reset(seed=1)
    assert again.episode == first
    again.close()


def test_splits_are_different_houses() -> None:
    env = HouseNavigation(rooms=(2, 4), sensors=())
    scans = {split: env.reset(seed=0, options={"split": split})[1]["scan"] for split in ("seen", "val", "test")}
    assert len(set(scans.values())) == 3
    with pytest.raises(ConfigError, match="Unknown split"):
        env.reset(seed=0, options={"split": "dev"})
    env.close()


def test_the_ids_are_registered() -> None:
    register()
    register()
    env = gym.make("wayhand/HousePointNav-v0", sensors=(), houses=2, rooms=(2, 3), disable_env_checker=True)
    assert isinstance(env.unwrapped, HouseNavigation) and env.unwrapped.task.radius == 0.2
    env.close()
    with pytest.raises(ConfigError, match="both"):
        HouseNavigation(episodes=EPISODES)
