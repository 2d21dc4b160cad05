"""Splits scored: every instruction counts, protocols are frozen, intervals are reproducible, sanity agents behave."""

import json
import random

import numpy as np
import pytest

from wayhand.vla.errors import ConfigError, DataError
from wayhand.vla.evaluation import nav_baselines as baselines
from wayhand.vla.evaluation.nav_protocols import PRESETS, nav_protocol
from wayhand.vla.evaluation.nav_score import RECORDED, World, compare, items, score, split_hash, unmoved
from wayhand.vla.evaluation.statistics import bootstrap_mean, cluster_bootstrap
from wayhand.vla.navigation import Goal, Instruction, NavEpisode, NavigationError, NavResult, ViewpointGraph

# What a protocol fixes never changes: a number here may only ever be added, together with a new name.
HASHES = {
    "r2r-v1": "b35811880456580f",
    "rxr-v1": "5267844493c9c4b7",
    "reverie-v1": "ef58910dcc2fa441",
    "soon-v1": "25951e9837ec67a3",
    "vlnce-r2r-v1-3": "1905170463e15df4",
    "vlnce-rxr": "64aaa8cadd9a4df4",
    "objectnav": "4657e6c011fc25e2",
    "pointnav": "767db1de1ce1d55e",
    "wayhand-nav-v1": "64c8fa5f4b59e16c",
    "wayhand-nav-ce-v1": "1a9bfb58e2e1f752",
}


def grid(side: int = 4, scan: str = "grid") -> ViewpointGraph:
    """Viewpoints two metres apart on a square, named by column and row."""
    places = [(x, y) for x in range(side) for y in range(side)]
    poses = np.tile(np.eye(4), (len(places), 1, 1))
    poses[:, :3, 3] = [(2.0 * x, 2.0 * y, 1.5) for x, y in places]
    joined = np.array([[abs(a - c) + abs(b - d) == 1 for c, d in places] for a, b in places])
    yes = np.ones(len(places), bool)
    return ViewpointGraph(
        scan, tuple(f"{x}{y}" for x, y in places), poses, np.full(len(places), 1.5), yes, joined, joined
    )


GRAPHS = {"grid": grid()}
WORLD = World(GRAPHS)
PATHS = [("00", "01", "02", "03", "13"), ("00", "10", "20", "30"), ("33", "32", "31", "21", "11", "10")]
EPISODES = [
    NavEpisode(str(k), "grid", tuple(Instruction(f"{k}_{i}", f"go {i}") for i in range(3)), path, heading=0.1 * k)
    for k, path in enumerate(PATHS)
]
R2R, OURS = nav_protocol("r2r-v1"), nav_protocol("wayhand-nav-v1")


def walked(agent=baselines.random_heading, protocol=R2R, episodes=EPISODES):
    return baselines.run(agent, GRAPHS, items(protocol, episodes))


def test_protocols_are_frozen_and_told_apart():
    assert {p.name: p.hash for p in PRESETS} == HASHES
    assert len(set(HASHES.values())) == len(PRESETS)


def test_an_unknown_protocol_lists_those_there_are():
    with pytest.raises(ConfigError, match=r"did you mean 'r2r-v1'(.|\n)*vlnce-r2r-v1-3"):
        nav_protocol("r2r_v1")


def test_the_mean_is_over_instructions_and_their_order_does_not_matter():
    results = walked()
    scored = score(R2R, EPISODES, results, WORLD)
    assert len(scored.rows) == 9
    assert scored.metrics["ne"] == pytest.approx(np.mean([r.metrics["ne"] for r in scored.rows]))
    random.Random(0).shuffle(results)
    again = score(R2R, EPISODES, results, WORLD)
    assert again == scored
    assert again.intervals() == scored.intervals()


def test_intervals_hold_the_mean_and_repeat():
    scored = score(R2R, EPISODES, walked(), WORLD)
    first, second = scored.intervals(seed=3), scored.intervals(seed=3)
    assert first == second
    for name, (low, high) in first.items():
        assert low <= scored.metrics[name] <= high


def test_clusters_of_one_are_the_plain_bootstrap_and_copies_add_nothing():
    x = np.random.default_rng(0).random((40, 1))
    low, high = cluster_bootstrap(x, range(40), seed=1)
    plain = bootstrap_mean(x[:, 0], seed=1)
    assert (low[0], high[0]) == pytest.approx(plain, abs=1e-12)
    thrice = cluster_bootstrap(np.repeat(x, 3, axis=0), [i for i in range(40) for _ in range(3)], seed=1)
    np.testing.assert_allclose(np.ravel(thrice), plain, atol=1e-12)
    with pytest.raises(ValueError, match="one cluster per row"):
        cluster_bootstrap(x, range(39))


def test_the_original_leaves_no_instruction_out():
    with pytest.raises(DataError, match="missing for 1 of 9") as error:
        score(R2R, EPISODES, walked()[1:], WORLD)
    assert "0_0" in str(error.value)


def test_a_run_that_never_came_back_is_a_failure_in_our_protocol():
    results = walked(baselines.shortest_path, OURS)
    scored = score(OURS, EPISODES, results[1:], WORLD)
    row = scored.rows[0].metrics
    assert scored.missing == 1 and len(scored.rows) == 9
    assert scored.metrics["sr"] == pytest.approx(8 / 9)
    assert row["ne"] == 8 and row["tl"] == 0
    assert row["sr"] == row["osr"] == row["spl"] == row["ndtw"] == row["sdtw"] == row["cls"] == 0


def test_repeated_and_unknown_results_are_ignored_by_the_originals_and_refused_by_ours():
    results = walked(baselines.shortest_path)
    twice = [*results, NavResult(results[0].id, path=("00",)), NavResult("99_0", path=("00",))]
    scored = score(R2R, EPISODES, twice, WORLD)
    assert scored.ignored == 2
    assert scored.metrics == score(R2R, EPISODES, results, WORLD).metrics
    with pytest.raises(DataError, match="'0_0' occurs twice"):
        score(OURS, EPISODES, twice[:-1], WORLD)
    with pytest.raises(DataError, match="'99_0' is not an id"):
        score(OURS, EPISODES, [*results, twice[-1]], WORLD)


def test_r2r_asks_for_three_instructions_whatever_the_file_holds():
    four = [NavEpisode("0", "grid", tuple(Instruction(f"0_{i}", "") for i in range(4)), PATHS[0])]
    assert [name for name, _ in items(R2R, four)] == ["0_0", "0_1", "0_2"]
    assert [name for name, _ in items(OURS, four)] == ["0_0", "0_1", "0_2", "0_3"]


def test_a_building_without_its_graph_is_named():
    with pytest.raises(DataError, match="no viewpoint graph of 'grid'"):
        score(R2R, EPISODES, walked(), World({"other": grid(2, "other")}))


def test_the_splits_hash_is_of_what_is_asked():
    assert split_hash(EPISODES) == split_hash(EPISODES[::-1])
    assert split_hash(EPISODES) != split_hash(EPISODES[1:])
    first = EPISODES[0]
    for other in (
        NavEpisode("0", "grid", first.instructions, PATHS[1]),
        NavEpisode("0", "grid", (Instruction("0_0", "go back"), *first.instructions[1:]), first.path),
        NavEpisode("0", "grid", first.instructions, first.path, goals=(Goal((0, 0, 1)),)),
        NavEpisode("0", "grid", first.instructions, first.path, heading=1.0),
    ):
        assert split_hash([other, *EPISODES[1:]]) != split_hash(EPISODES)
    assert split_hash([NavEpisode("0", "s", start=(0.0, -0.0, 1e-9))]) == split_hash(
        [NavEpisode("0", "s", start=(0, 0, 0))]
    )


def test_two_agents_side_by_side():
    good = score(R2R, EPISODES, walked(baselines.shortest_path), WORLD)
    bad = score(R2R, EPISODES, walked(baselines.stop), WORLD)
    both = compare(good, bad)
    assert both["difference"]["sr"] == 1 and both["intervals"]["sr"] == [1, 1]
    assert both["only_this_succeeds"] == 9 and both["only_other_succeeds"] == 0
    assert compare(good, good)["difference"] == dict.fromkeys(good.names, 0.0)
    with pytest.raises(DataError, match="same instructions"):
        compare(good, score(R2R, EPISODES[1:], walked(episodes=EPISODES[1:]), WORLD))


def reverie(seen, path, object_id="5"):
    episode = NavEpisode(
        "0", "grid", (Instruction("0_0", ""),), PATHS[0], goals=(Goal(object_id="5", viewpoint_ids=seen),)
    )
    return score(nav_protocol("reverie-v1"), [episode], [NavResult("0_0", path, object_id=object_id)], WORLD).metrics


def test_reverie_counts_seeing_and_naming_apart():
    there = reverie(("13", "02"), PATHS[0])
    assert (there["sr"], there["osr"], there["spl"], there["rgs"], there["rgspl"]) == (1, 1, 1, 1, 1)
    passed = reverie(("02",), PATHS[0])
    assert (passed["sr"], passed["osr"], passed["spl"], passed["rgs"], passed["ne"]) == (0, 1, 0, 1, 0)
    nowhere = reverie(("33",), ("00",))
    assert (nowhere["sr"], nowhere["rgs"], nowhere["rgspl"]) == (0, 1, 1)  # naming does not ask where from
    wrong = reverie(("13",), PATHS[0], object_id="6")
    assert (wrong["sr"], wrong["rgs"], wrong["rgspl"]) == (1, 0, 0)
    assert "rgs" not in reverie(("13",), PATHS[0], object_id=None)


def test_objects_are_named_by_all_results_or_by_none():
    episode = NavEpisode(
        "0", "grid", (Instruction("a", ""), Instruction("b", "")), PATHS[0], goals=(Goal(object_id="5"),)
    )
    results = [NavResult("a", ("00",), object_id="5"), NavResult("b", ("00",))]
    with pytest.raises(NavigationError, match="'b' names no object, but 1 others do"):
        score(nav_protocol("reverie-v1"), [episode], results, WORLD)


BOX = {
    "left_top": {"heading": -0.1, "elevation": 0.1},
    "right_top": {"heading": 0.1, "elevation": 0.1},
    "right_bottom": {"heading": 0.1, "elevation": -0.1},
    "left_bottom": {"heading": -0.1, "elevation": -0.1},
}


def soon(path, heading=0.0):
    goals = tuple(Goal(viewpoint_ids=(v,), extra={"target": BOX}) for v in ("13", "03"))
    episodes = [NavEpisode(k, "grid", (Instruction(k, ""),), PATHS[0], goals=goals) for k in ("x", "y")]
    pointed = {"obj_heading": [heading], "obj_elevation": 0.0}
    return score(nav_protocol("soon-v1"), episodes, [NavResult("x", tuple(path), extra=pointed)], WORLD)


def test_soon_takes_a_viewpoint_that_sees_the_object_for_the_goal():
    early = soon(PATHS[0][:4])
    assert early.metrics["ne"] == 0 and early.metrics["sr"] == 1 and early.metrics["rgs"] == 1
    assert early.metrics["spl"] == early.metrics["rgspl"] == 1  # held against the way to the new goal
    assert early.missing == 1 and len(early.rows) == 1  # as the original, which averages over what it is given
    aside = soon(PATHS[0][:4], heading=0.2)
    assert (aside.metrics["sr"], aside.metrics["rgs"], aside.metrics["rgspl"]) == (1, 0, 0)
    blind = soon(PATHS[0][:3])
    assert (blind.metrics["ne"], blind.metrics["rgs"]) == (4, 0)


def test_soon_takes_the_path_that_begins_where_the_result_does():
    ways = {"paths": [["00", "01"], ["21", "11", "01"]]}
    episode = NavEpisode("x", "grid", (Instruction("x", ""),), ("00", "01"), extra=ways)
    result = NavResult("x", ("21", "11", "01"), extra={"obj_heading": 0, "obj_elevation": 0})
    assert score(nav_protocol("soon-v1"), [episode], [result], WORLD).metrics["spl"] == 1


def test_soon_says_what_a_detection_needs():
    goals = (Goal(viewpoint_ids=("13",), extra={"target": BOX}),)
    episode = NavEpisode("x", "grid", (Instruction("x", ""),), PATHS[0], goals=goals)
    with pytest.raises(NavigationError, match=r"obj_heading and obj_elevation in the result"):
        score(nav_protocol("soon-v1"), [episode], [NavResult("x", PATHS[0])], WORLD)


def test_recorded_distances_are_taken_as_they_are():
    protocol = nav_protocol("vlnce-r2r-v1-3")
    episode = NavEpisode("1", "s", start=(0, 0, 0), goals=(Goal((9, 0, 0)),), distance=9.0)
    path = ((0, 0, 0), (3, 0, 0), (7, 0, 0))
    result = NavResult("1", positions=path, stopped=True, extra={RECORDED: (12.0, 8.0, 2.5)})
    found = score(protocol, [episode], [result], World()).metrics
    assert (found["ne"], found["sr"], found["tl"], found["spl"]) == (2.5, 1, 7, 1)
    assert found["soft_spl"] == pytest.approx(1 - 2.5 / 12)
    with pytest.raises(NavigationError, match="no recorded distances"):
        score(protocol, [episode], [NavResult("1", positions=path)], World())
    with pytest.raises(NavigationError, match="a distance for each position"):
        score(protocol, [episode], [NavResult("1", positions=path, extra={RECORDED: (1.0,)})], World())
    ours = nav_protocol("wayhand-nav-ce-v1")
    assert score(ours, [episode], [], World()).metrics["ne"] == 9
    assert score(ours, [episode], [unmoved("1", episode)], World()).metrics["sr"] == 0


def test_missing_dense_locations_are_named():
    episode = NavEpisode("1", "s", start=(0, 0, 0), goals=(Goal((9, 0, 0)),), distance=9.0)
    world = World(references={"2": np.zeros((1, 3))})
    with pytest.raises(DataError, match="do not hold episode '1'"):
        score(nav_protocol("vlnce-r2r-v1-3"), [episode], [unmoved("1", episode)], world)


def test_sanity_agents():
    best = score(R2R, EPISODES, walked(baselines.shortest_path), WORLD).metrics
    assert best["sr"] == best["spl"] == best["osr"] == 1
    still = score(R2R, EPISODES, walked(baselines.stop), WORLD).metrics
    assert still["sr"] == still["tl"] == 0 and 0 < still["ndtw"] < 1
    for agent in (baselines.random_heading, baselines.forward, baselines.matched_random(EPISODES)):
        score(OURS, EPISODES, walked(agent), WORLD)  # every step is along an edge, from the start on


def test_forward_goes_straight_until_nothing_lies_ahead():
    episode = [NavEpisode("0", "grid", path=("00", "01"), heading=0.3)]
    assert walked(baselines.forward, OURS, episode)[0].path == ("00", "01", "02", "03")
    assert baselines.in_view(GRAPHS["grid"], "00", np.radians(39)) == "01"
    assert baselines.in_view(GRAPHS["grid"], "00", np.radians(45)) is None
    assert baselines.in_view(GRAPHS["grid"], "00", np.radians(51)) == "10"


def test_the_random_agent_turns_then_makes_five_moves():
    for result in walked():
        moves = sum(a != b for a, b in zip(result.path, result.path[1:], strict=False))
        assert moves == 5 or len(result.path) == 31
        turns = np.degrees(np.diff(result.headings)) % 360
        assert set(np.round(turns).astype(int) % 360) <= {0, 30}


def test_a_matched_walk_is_as_long_as_a_training_path():
    assert {len(r.path) - 1 for r in walked(baselines.matched_random(EPISODES[:1]))} == {4}
    with pytest.raises(ValueError, match="numbers of moves"):
        baselines.RandomWalk([])


def test_continuous_moves_follow_their_prior():
    runs = [baselines.random_moves(np.random.default_rng(i)) for i in range(300)]
    assert all("stop" not in run[:-1] and len(run) <= 500 for run in runs)
    prior = baselines.move_prior(runs)
    assert prior["forward"] == pytest.approx(0.68, abs=0.02) and prior["stop"] == pytest.approx(0.02, abs=0.004)
    assert sum(prior.values()) == pytest.approx(1)
    assert baselines.random_moves(np.random.default_rng(0), prior={"left": 1.0}, max_steps=4) == ["left"] * 4
    moves = baselines.forward_moves(np.random.default_rng(1))
    turns = moves.count("right")
    assert turns <= 24 and moves == ["right"] * turns + ["forward"] * 37 + ["stop"]


def test_an_ids_randomness_is_its_own():
    alone = walked(episodes=EPISODES[1:2])
    assert alone == walked()[3:6]
    assert json.dumps([r.path for r in walked()]) == json.dumps([r.path for r in walked()])
