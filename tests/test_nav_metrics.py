"""Navigation formulas: golden vectors, closed forms, a slow and obvious twin, and what must not change a number."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from wayhand.vla.evaluation import nav_metrics as formulas
from wayhand.vla.evaluation.nav_protocols import nav_protocol
from wayhand.vla.evaluation.nav_score import World, track
from wayhand.vla.evaluation.nav_tracks import graph_track, measures
from wayhand.vla.navigation import Goal, NavEpisode, NavigationError, NavResult, ViewpointGraph

COSTS = st.integers(1, 7).flatmap(
    lambda n: st.integers(1, 7).flatmap(lambda m: arrays(np.float64, (n, m), elements=st.floats(0, 100)))
)
POINTS = st.integers(1, 8).flatmap(lambda n: arrays(np.float64, (n, 3), elements=st.floats(-20, 20)))


def graph(positions, edges, ids=None, scan="line") -> ViewpointGraph:
    positions = np.asarray(positions, float)
    n = len(positions)
    poses = np.tile(np.eye(4), (n, 1, 1))
    poses[:, :3, 3] = positions
    joined = np.zeros((n, n), bool)
    for a, b in edges:
        joined[a, b] = joined[b, a] = True
    names = tuple(ids or "ABCDEFGHIJKLMNOPQRSTUVWXYZ"[:n])
    return ViewpointGraph(scan, names, poses, np.full(n, 1.5), np.ones(n, bool), joined, joined)


LINE = graph([[2.0 * i, 0, 1.5] for i in range(6)], [(i, i + 1) for i in range(5)])


def measured(path, reference="ABCD", protocol="r2r-v1", on=LINE):
    episode = NavEpisode("0", on.scan, path=tuple(reference))
    return measures(
        nav_protocol(protocol), graph_track(nav_protocol(protocol), on, episode, NavResult("0", tuple(path)))
    )


def slow_dtw(costs: np.ndarray) -> float:
    """The least cost over all monotone alignments, each written out."""

    def cheapest(i: int, j: int) -> float:
        if i == 0 and j == 0:
            return costs[0, 0]
        before = [(i - 1, j), (i, j - 1), (i - 1, j - 1)]
        return costs[i, j] + min(cheapest(a, b) for a, b in before if a >= 0 and b >= 0)

    return cheapest(costs.shape[0] - 1, costs.shape[1] - 1)


GOLDEN = [
    ("ABCD", 0, 1, 1, 6, 1.0, 0, 1.0, 1.0, 1.0),
    ("ABCDE", 2, 1, 1, 8, 0.75, 2, 0.8465, 0.8465, 0.75),
    ("ABCDEF", 4, 0, 1, 10, 0, 6, 0.6065, 0, 0.6),
    ("ABCDEFED", 0, 1, 1, 14, 0.4286, 8, 0.5134, 0.5134, 0.4286),
    ("AB", 4, 0, 0, 2, 0, 6, 0.6065, 0, 0.4568),
    ("A", 6, 0, 0, 0, 0, 12, 0.3679, 0, 0.2390),
]


@pytest.mark.parametrize(("path", "ne", "sr", "osr", "tl", "spl", "dtw", "ndtw", "sdtw", "cls"), GOLDEN)
def test_the_published_vectors(path, ne, sr, osr, tl, spl, dtw, ndtw, sdtw, cls):
    found = measured(path)
    wanted = {"ne": ne, "sr": sr, "osr": osr, "tl": tl, "spl": spl, "dtw": dtw, "ndtw": ndtw, "sdtw": sdtw, "cls": cls}
    assert {k: found[k] for k in wanted} == pytest.approx(wanted, abs=0.5001e-4)


def test_closed_forms():
    assert measured("ABCDE")["ndtw"] == pytest.approx(math.exp(-2 / 12), abs=1e-12)
    assert measured("A")["ndtw"] == pytest.approx(math.exp(-12 / 12), abs=1e-12)
    assert measured("ABCDEFED")["spl"] == pytest.approx(6 / 14, abs=1e-12)
    covered = (2 + math.exp(-2 / 3) + math.exp(-4 / 3)) / 4
    expected = covered * 6
    assert measured("AB")["cls"] == pytest.approx(covered * expected / (expected + abs(expected - 2)), abs=1e-12)
    covered = sum(math.exp(-2 * i / 3) for i in range(4)) / 4
    assert measured("A")["cls"] == pytest.approx(covered / 2, abs=1e-12)


@given(COSTS)
@settings(max_examples=60, deadline=None)
def test_dtw_is_the_best_alignment_to_the_last_bit(costs):
    assert formulas.dtw(costs) == pytest.approx(slow_dtw(costs), rel=1e-14)
    table = np.full((costs.shape[0] + 1, costs.shape[1] + 1), np.inf)
    table[0, 0] = 0
    for i, j in itertools.product(range(costs.shape[0]), range(costs.shape[1])):
        table[i + 1, j + 1] = costs[i, j] + min(table[i, j + 1], table[i + 1, j], table[i, j])
    assert formulas.dtw(costs) == table[-1, -1] == formulas.dtw(costs.T)


@given(COSTS, st.integers(0, 8))
@settings(max_examples=60, deadline=None)
def test_a_band_never_finds_a_better_alignment_and_a_wide_one_the_same(costs, band):
    assert formulas.dtw(costs, band=band) >= formulas.dtw(costs)
    assert formulas.dtw(costs, band=max(costs.shape)) == formulas.dtw(costs)


def test_dtw_refuses_what_is_no_matrix():
    for bad in (np.zeros((0, 3)), np.zeros(3)):
        with pytest.raises(ValueError, match="non-empty matrix"):
            formulas.dtw(bad)


@given(POINTS, POINTS, st.floats(0, 6.2), arrays(np.float64, 3, elements=st.floats(-9, 9)))
@settings(max_examples=40, deadline=None)
def test_moving_and_turning_the_world_changes_nothing(path, reference, angle, shift):
    turn = np.array([[math.cos(angle), -math.sin(angle), 0], [math.sin(angle), math.cos(angle), 0], [0, 0, 1]])
    there = [p @ turn.T + shift for p in (path, reference)]
    for a, b in (((path, reference), there),):
        assert formulas.dtw(formulas.euclidean(*a)) == pytest.approx(formulas.dtw(formulas.euclidean(*b)), abs=1e-9)
        assert formulas.path_length(a[0]) == pytest.approx(formulas.path_length(b[0]), abs=1e-9)
        assert formulas.coverage(formulas.euclidean(*a), 3) == pytest.approx(
            formulas.coverage(formulas.euclidean(*b), 3), abs=1e-9
        )


@given(POINTS)
@settings(max_examples=30, deadline=None)
def test_a_path_is_like_itself(path):
    costs, length = formulas.euclidean(path, path), formulas.path_length(path)
    assert formulas.dtw(costs) == 0
    assert formulas.ndtw(0, len(path), 3) == 1
    assert formulas.cls(costs, length, length, 3) == pytest.approx(1)


@st.composite
def walks(draw):
    """A random connected graph, a reference path over it and a walk from the same start."""
    n = draw(st.integers(2, 9))
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    edges = {(int(rng.integers(i)), i) for i in range(1, n)}
    edges |= {tuple(sorted(rng.choice(n, 2, replace=False).tolist())) for _ in range(int(rng.integers(n)))}
    on = graph(rng.uniform(-6, 6, (n, 3)), sorted(edges))
    start, goal = (on.ids[int(i)] for i in rng.integers(n, size=2))
    path = [start]
    for _ in range(int(rng.integers(8))):
        around = on.neighbours(path[-1])
        path.append(around[int(rng.integers(len(around)))])
    return on, on.path(start, goal), tuple(path)


@given(walks())
@settings(max_examples=60, deadline=None)
def test_bounds(walk):
    on, reference, path = walk
    found = measured(path, reference, on=on)
    assert 0 <= found["spl"] <= found["sr"] <= found["osr"] <= 1
    assert 0 <= found["sdtw"] <= found["ndtw"] <= 1
    assert 0 <= found["cls"] <= 1
    assert found["one"] <= found["ne"]
    assert found["tl"] >= found["gp"] - 1e-9
    best = measured(on.path(reference[0], reference[-1]), reference, on=on)
    assert best["sr"] == best["spl"] == 1


@given(walks(), st.randoms(use_true_random=False))
@settings(max_examples=30, deadline=None)
def test_names_and_order_of_viewpoints_change_nothing(walk, random):
    on, reference, path = walk
    order = list(range(len(on.ids)))
    random.shuffle(order)
    new = {on.ids[i]: f"v{k}" for k, i in enumerate(order)}
    edges = [(order.index(int(a)), order.index(int(b))) for a, b in np.argwhere(on.adjacency)]
    other = graph(on.positions[order], edges, ids=[f"v{k}" for k in range(len(order))])
    renamed = measured([new[v] for v in path], [new[v] for v in reference], on=other)
    assert renamed == pytest.approx(measured(path, reference, on=on), abs=1e-9)


@given(walks(), st.integers(1, 3))
@settings(max_examples=30, deadline=None)
def test_standing_still_is_free_where_the_protocol_drops_repeats(walk, times):
    on, reference, path = walk
    slow = [v for v in path for _ in range(times)]
    ours, theirs = measured(path, reference, "wayhand-nav-v1", on), measured(slow, reference, "wayhand-nav-v1", on)
    assert {k: v for k, v in theirs.items() if k != "steps"} == {k: v for k, v in ours.items() if k != "steps"}
    kept = measured(slow, reference, "r2r-v1", on)
    assert kept["ndtw"] <= ours["ndtw"]
    assert {k: kept[k] for k in ("tl", "ne", "sr", "osr", "spl", "cls")} == {
        k: ours[k] for k in ("tl", "ne", "sr", "osr", "spl", "cls")
    }


def test_exactly_three_metres_is_too_far_unless_the_protocol_is_inclusive():
    assert not formulas.within(3.0, 3.0)
    assert formulas.within(3.0, 3.0, strict=False)
    far = graph([[0, 0, 0], [3, 0, 0], [6, 0, 0]], [(0, 1), (1, 2)])
    assert measured("AB", "ABC", on=far)["sr"] == 0


def test_spl_against_the_reference_path_and_against_the_shortest():
    square = graph([[0, 0, 0], [4, 0, 0], [4, 4, 0], [0, 4, 0]], [(0, 1), (1, 2), (2, 3), (3, 0)])
    assert measured("AD", "ABCD", "r2r-v1", square)["spl"] == 1
    assert measured("AD", "ABCD", "rxr-v1", square)["spl"] == 1
    assert measured("ABCD", "ABCD", "r2r-v1", square)["spl"] == pytest.approx(1 / 3)
    assert measured("ABCD", "ABCD", "rxr-v1", square)["spl"] == 1


def test_ends_of_the_ratios():
    assert formulas.spl(1, 0, 0) == 1
    assert formulas.spl(1, 0, 0, floor=0.01) == 0
    assert formulas.spl(1, 0, 5) == 0
    assert formulas.soft_spl(10, 5, 5) == 0.5
    assert formulas.soft_spl(10, 15, 5) == 0
    assert formulas.soft_spl(10, 0, 20) == 0.5


def test_a_polygon_across_the_seam_is_missed_as_in_the_original_and_found_when_wrapped():
    box = [(3.0, 0.2), (-3.0, 0.2), (-3.0, -0.2), (3.0, -0.2)]
    assert not formulas.contains(box, 3.1, 0)
    assert formulas.contains(box, 0.0, 0)
    assert formulas.contains(box, 3.1, 0, wrap=True)
    assert formulas.contains(box, -3.1, 0, wrap=True)
    assert not formulas.contains(box, 0.0, 0, wrap=True)
    assert not formulas.contains(box, 3.0, 0)  # a border is outside


ROOM = NavEpisode("7", "room", start=(0, 0, 0), goals=(Goal((4.0, 0, 0)),), reference=((0, 0, 0), (4, 0, 0)))


def straight(scan, points, goals):
    return np.linalg.norm(points[:, None] - goals[None], axis=-1).min(axis=1)


def walked(xs, *, stopped=True, protocol="vlnce-r2r-v1-3", dense=None, episode=ROOM, extra=None, distances=straight):
    result = NavResult("7", positions=tuple((float(x), 0.0, 0.0) for x in xs), stopped=stopped, extra=extra or {})
    fixed = nav_protocol(protocol)
    world = World(distances=distances, references={} if dense is None else {"7": dense})
    return measures(fixed, track(fixed, world, episode, result))


def test_a_continuous_episode_in_closed_form():
    found = walked([0, 1, 1, 2, 1.5], dense=np.array([[0.0, 0, 0], [2, 0, 0], [4, 0, 0]]))
    assert {k: found[k] for k in ("tl", "ne", "one", "sr", "osr", "steps")} == {
        "tl": 2.5, "ne": 2.5, "one": 2.0, "sr": 1.0, "osr": 1.0, "steps": 4.0
    }  # fmt: skip
    assert found["spl"] == 1.0
    assert found["soft_spl"] == pytest.approx(1.5 / 4)
    # 0|0, 1|0 or 1|2, 2|2, 1.5|4: the repeated place counts once.
    assert found["dtw"] == pytest.approx(1 + 2.5)
    assert found["ndtw"] == pytest.approx(math.exp(-3.5 / 9))


def test_a_continuous_success_needs_its_stop_and_the_oracle_does_not():
    assert walked([0, 3], stopped=False)["sr"] == 0
    assert walked([0, 3], stopped=False)["osr"] == 1
    assert walked([0, 3], stopped=None)["sr"] == 1  # the format has no such thing
    assert walked([0, 1])["sr"] == 0  # exactly 3 m
    assert "ndtw" not in walked([0, 3])


def test_object_goals_count_from_their_viewpoints():
    episode = NavEpisode("7", "room", start=(0, 0, 0), goals=(Goal((9, 0, 0), viewpoints=((3, 0, 0), (8, 0, 0))),))
    assert walked([0, 3.05], protocol="objectnav", episode=episode)["sr"] == 1
    assert walked([0, 3.15], protocol="objectnav", episode=episode)["sr"] == 0


@pytest.mark.parametrize(
    "extra", [{"collisions": 1}, {"collisions": {"count": 1, "is_collision": False}}, {"collided": [False, True]}]
)
def test_collisions_are_passed_on(extra):
    assert walked([0, 3], extra=extra)["collisions"] == 1
    assert "collisions" not in walked([0, 3])


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("", "empty trajectory"),
        ("B", "begin at the start"),
        ("AX", "no such viewpoint"),
        ("AC", "not joined"),
    ],
)
def test_broken_paths_say_what_is_wrong(path, says):
    with pytest.raises(NavigationError, match=f"Result '0'.*{says}" if "such" not in says else says):
        measured(path)


def test_only_protocols_that_check_steps_refuse_jumps():
    assert measured("AC", protocol="reverie-v1")["tl"] == 4


def test_broken_positions_say_what_is_wrong():
    with pytest.raises(NavigationError, match="no positions"):
        walked([])
    with pytest.raises(NavigationError, match="more steps"):
        walked([0] * 502)
    with pytest.raises(NavigationError, match="further in one step"):
        walked([0, 0.5], protocol="wayhand-nav-ce-v1")
    with pytest.raises(NavigationError, match="further in one step"):
        walked([1, 1.25], protocol="wayhand-nav-ce-v1")  # not from the start
    with pytest.raises(NavigationError, match="no distance to the goal at position 1"):
        walked([0, 1], distances=lambda scan, points, goals: np.array([1, np.inf]))
    with pytest.raises(NavigationError, match="has no goal"):
        walked([0], episode=NavEpisode("7", "room"))
