"""Laws of instructions in houses: whoever knows words and house arrives; mirrors and twins show in the words."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from wayhand.envs.house import generate, viewpoints
from wayhand.envs.house.derive import Detail, derive, rooms_along, turns_of
from wayhand.envs.house.distractors import with_distractors
from wayhand.envs.house.follower import APART, Follower
from wayhand.envs.house.goals import describe_goal, meant, targets
from wayhand.envs.house.grammar import realise
from wayhand.envs.house.house import House
from wayhand.envs.house.instructions import BOUNDS, combinations, describe, holds_out, make_episodes
from wayhand.envs.house.paths import LONG, SHORT, Path, fits, is_kept_for_validation, sample_paths, straight_end
from wayhand.envs.house.program import Op, Program, Step, operations
from wayhand.envs.house.renderer import HouseRenderer
from wayhand.envs.house.scene_graph import SceneGraph
from wayhand.envs.house.solids import instances
from wayhand.envs.house.verification import verify
from wayhand.vla.errors import WayhandError
from wayhand.vla.navigation import NavEpisode, ViewpointGraph

SEED = 2


@pytest.fixture(scope="module")
def house() -> House:
    return generate.generate(SEED)


@pytest.fixture(scope="module")
def graph(house: House) -> ViewpointGraph:
    return viewpoints.viewpoint_graph(house)


@pytest.fixture(scope="module")
def scene(house: House, graph: ViewpointGraph) -> SceneGraph:
    return SceneGraph(house, graph)


@pytest.fixture(scope="module")
def follower(scene: SceneGraph) -> Follower:
    return Follower(scene)


@pytest.fixture(scope="module")
def episodes(scene: SceneGraph) -> list[NavEpisode]:
    return make_episodes(scene.house, scene.graph, 1, 8, scene=scene)


# --- paths -----------------------------------------------------------------------------------------------------------


def test_paths_are_what_a_benchmark_demands(scene: SceneGraph) -> None:
    for demands in (SHORT, LONG):
        paths = sample_paths(scene.house, scene.graph, 3, 20, demands=demands, scene=scene)
        assert paths == sample_paths(scene.house, scene.graph, 3, 20, demands=demands, scene=scene)
        assert len({(p.viewpoints[0], p.viewpoints[-1]) for p in paths}) == len(paths)
        for path in paths:
            nodes = [scene.graph.index(v) for v in path.viewpoints]
            length = scene.graph.length(path.viewpoints)
            assert demands.edges[0] <= len(nodes) - 1 <= demands.edges[1]
            assert demands.length[0] <= length <= demands.length[1]
            assert length == pytest.approx(scene.graph.distance(path.viewpoints[0], path.viewpoints[-1]))
            assert all(scene.graph.adjacency[a, b] for a, b in zip(nodes, nodes[1:], strict=False))
            assert len(set(rooms_along(scene, nodes))) >= demands.rooms
            assert fits(scene, path.viewpoints, path.heading, demands)
            assert all(scene.graph.distances[n, nodes[-1]] > APART for n in straight_end(scene, nodes[0], path.heading))
    assert len(sample_paths(scene.house, scene.graph, 3, 20, scene=scene)) == 20


def test_validation_asks_for_other_ways_than_training(scene: SceneGraph) -> None:
    asked = {
        split: {
            (p.viewpoints[0], p.viewpoints[-1])
            for p in sample_paths(scene.house, scene.graph, 0, 1000, split=split, scene=scene)
        }
        for split in ("train", "val_seen")
    }
    assert asked["train"] and asked["val_seen"] and not asked["train"] & asked["val_seen"]
    assert all(is_kept_for_validation(scene.house.scan, a, b) for a, b in asked["val_seen"])


# --- episodes --------------------------------------------------------------------------------------------------------


def test_every_episode_can_be_followed_by_its_words(episodes: list[NavEpisode], follower: Follower) -> None:
    assert len(episodes) >= 5
    low, high = BOUNDS["r2r"]
    for e in episodes:
        assert [i.id for i in e.instructions] == [f"{e.id}_{k}" for k in range(3)]
        assert e.distance == pytest.approx(follower.scene.graph.length(e.path), abs=1e-3)
        assert len({i.text for i in e.instructions}) == 3
        for told in e.instructions:
            assert low <= len(told.text.split()) <= high
            walked = follower.follow(e.path[0], e.heading, told.text)
            assert follower.scene.graph.distance(walked.path[-1], e.path[-1]) <= APART
            assert not walked.rival


def test_the_same_seed_gives_the_same_episodes(scene: SceneGraph, episodes: list[NavEpisode]) -> None:
    assert make_episodes(scene.house, scene.graph, 1, 8) == episodes
    assert make_episodes(scene.house, scene.graph, 1, 4, scene=scene) == episodes[:4]
    assert make_episodes(scene.house, scene.graph, 2, 4, scene=scene) != episodes[:4]
    with pytest.raises(WayhandError, match="1,000"):
        make_episodes(scene.house, scene.graph, 0, 0)


def test_words_decide(episodes: list[NavEpisode], follower: Follower) -> None:
    """Without words, with another's words, or with left and right exchanged, the follower does not arrive."""

    def rate(texts: Sequence[str]) -> float:
        hits = [
            follower.scene.graph.distance(follower.follow(e.path[0], e.heading, text).path[-1], e.path[-1]) <= APART
            for e, text in zip(episodes, texts, strict=True)
        ]
        return float(np.mean(hits))

    own = [e.instructions[0].text for e in episodes]
    assert rate(own) == 1.0
    assert rate([""] * len(own)) == 0.0
    assert rate(own[1:] + own[:1]) <= 0.5
    # A follower with a map may still arrive by landmarks, but not on a walk that fits the words.
    turned = [
        verify(follower, Path(e.path, e.heading), exchanged(text)).accepted
        for e, text in zip(episodes, own, strict=True)
        if exchanged(text) != text
    ]
    assert len(turned) >= 5 and np.mean(turned) <= 0.2


def exchanged(text: str) -> str:
    return re.sub("left|right|Left|Right", lambda m: {"l": "right", "r": "left"}[m[0][0].lower()], text)


@pytest.mark.parametrize("split", ["val_unseen_phrasing", "val_compositional", "val_distractor", "val_long", "test"])
def test_splits_hold_what_they_promise(scene: SceneGraph, follower: Follower, split: str) -> None:
    made = make_episodes(scene.house, scene.graph, 5, 2, split=split, scene=scene)
    assert made or split == "val_long"
    for e in made:
        for told in e.instructions:
            assert (
                follower.scene.graph.distance(follower.follow(e.path[0], e.heading, told.text).path[-1], e.path[-1])
                <= APART
            )
            held_out = {t.split("/")[1] for t in told.extra["templates"]}
            assert held_out == {"held_out" if split == "val_unseen_phrasing" else "training"}
            kinds = [row["op"]["kind"] for row in told.extra["program"]]
            assert (sum(k in ("ignore", "avoid", "slip", "remark") for k in kinds) == 2) == (split == "val_distractor")
            steps = tuple(Op.from_dict(row["op"]) for row in told.extra["program"])
            program: Program = tuple(Step(op) for op in steps)
            assert holds_out(program) == (split == "val_compositional")


def test_distractors_do_not_change_the_way(scene: SceneGraph, follower: Follower) -> None:
    paths = sample_paths(scene.house, scene.graph, 4, 8, scene=scene)
    for k, path in enumerate(paths):
        told = describe(scene, path, str(k), held_out_combinations=None)
        if told is None:
            continue
        more = with_distractors(scene, told.program, "x", 3)
        kept = [s for s in more if s.op.kind not in ("ignore", "avoid", "slip", "remark")]
        assert tuple(kept) == told.program and len(more) == len(told.program) + 3


def test_what_is_asked_for_is_made_and_not_waited_for(scene: SceneGraph) -> None:
    """Paths whose landmarks make a combination that is held out are told with one, and without where not asked to."""
    paths = sample_paths(scene.house, scene.graph, 15, 20, scene=scene)
    for held_out in (True, False):
        made = [derive(scene, p.viewpoints, p.heading, str(k), Detail(), held_out) for k, p in enumerate(paths)]
        programs = [program for program in made if program is not None]
        assert len(programs) >= (15 if held_out else 20)
        assert all(holds_out(program) == held_out for program in programs)


def test_turns_that_go_without_saying_are_left_out_and_can_be_followed(scene: SceneGraph, follower: Follower) -> None:
    """Toward a named room or thing one turns unasked; not so right after a turn that is told."""
    terse, told = Detail(implied=1.0), Detail()
    turns = {True: 0, False: 0}
    for k, path in enumerate(sample_paths(scene.house, scene.graph, 16, 20, scene=scene)):
        for detail in (terse, told):
            program = derive(scene, path.viewpoints, path.heading, str(k), detail)
            assert program is not None
            turns[detail is terse] += sum(s.op.kind == "turn" for s in program)
    assert 0 < turns[True] < 0.85 * turns[False]
    reached = [
        verify(follower, path, realise(program, "w").text).reached
        for path in sample_paths(scene.house, scene.graph, 16, 10, scene=scene)
        if (program := derive(scene, path.viewpoints, path.heading, "t", terse)) is not None
    ]
    assert np.mean(reached) >= 0.7


# --- registers -------------------------------------------------------------------------------------------------------


def test_spoken_words_have_times_and_places_in_order(scene: SceneGraph) -> None:
    (e,) = make_episodes(scene.house, scene.graph, 7, 1, register="rxr", paraphrases=1, scene=scene)
    (told,) = e.instructions
    assert 60 <= len(told.words) <= 100
    assert [w.word for w in told.words] == told.text.split()
    starts, ends = [w.start or 0.0 for w in told.words], [w.end or 0.0 for w in told.words]
    assert all(a < b for a, b in zip(starts, ends, strict=True))
    assert all(b >= a for a, b in zip(ends, starts[1:], strict=False))
    nodes = told.extra["word_nodes"]
    assert len(nodes) == len(told.words) and set(nodes) <= set(range(len(e.path)))
    assert nodes[0] == 0 and nodes[-1] == len(e.path) - 1


def test_goals_fit_one_object_until_it_has_a_twin(scene: SceneGraph) -> None:
    checked = 0
    for item in targets(scene)[::3]:
        program = describe_goal(scene, item, "g")
        if program is None:
            continue
        checked += 1
        assert meant(scene, operations(program)) == [item]
        there = scene.house.items[item]
        twin = replace(there, id=len(scene.house.items))
        double = SceneGraph(replace(scene.house, items=(*scene.house.items, twin)), scene.graph)
        assert meant(double, operations(program)) == [item, twin.id]
        # A twin beside it cannot be told apart; one elsewhere can, by its room.
        assert describe_goal(double, item, "g") is None
        other = next(r.id for r in scene.house.rooms if r.kind != scene.house.rooms[there.room].kind)
        apart = SceneGraph(replace(scene.house, items=(*scene.house.items, replace(twin, room=other))), scene.graph)
        again = describe_goal(apart, item, "g")
        assert again is not None and meant(apart, operations(again)) == [item]
    assert checked >= 5


def test_a_twin_of_the_last_landmark_makes_a_text_ambiguous(scene: SceneGraph) -> None:
    checked = 0
    for k, path in enumerate(sample_paths(scene.house, scene.graph, 11, 20, scene=scene)):
        told = describe(scene, path, str(k), held_out_combinations=None)
        if told is None or told.program[-1].item < 0 or not verify(Follower(scene), path, told.text).accepted:
            continue
        checked += 1
        there = scene.house.items[told.program[-1].item]
        twin = replace(there, id=len(scene.house.items))
        double = SceneGraph(replace(scene.house, items=(*scene.house.items, twin)), scene.graph)
        assert not verify(Follower(double), path, told.text).accepted
        if checked == 3:
            return
    pytest.fail("no path ends at a landmark")


@pytest.mark.parametrize("register", ["reverie", "soon", "alfred"])
def test_other_registers_can_be_followed_too(scene: SceneGraph, follower: Follower, register: str) -> None:
    accepted = 0
    for k, path in enumerate(sample_paths(scene.house, scene.graph, 12, 12, scene=scene)):
        told = describe(scene, path, str(k), register=register, held_out_combinations=None)  # type: ignore[arg-type]
        if told is None:
            continue
        accepted += verify(follower, path, told.text).accepted
        assert " ".join(told.parts) == told.text
        assert told.program[0].op.kind == "find"
        if register == "alfred":
            assert told.program[-1].op.kind == "stop" and told.program[-1].item == told.program[0].item
            assert len(told.parts) >= 3
        else:
            assert meant(scene, operations(told.program)) == [told.program[0].item]
    assert accepted >= 3


# --- mirror ----------------------------------------------------------------------------------------------------------


def mirrored_house(house: House) -> House:
    """x becomes −x. An item that stands at yaw a stands at −a then; its own x changes sign too."""

    def flip(p: tuple[float, float]) -> tuple[float, float]:
        return -p[0], p[1]

    rooms = tuple(replace(r, polygon=tuple(flip(p) for p in reversed(r.polygon))) for r in house.rooms)
    walls = tuple(replace(w, start=flip(w.start), end=flip(w.end), left=w.right, right=w.left) for w in house.walls)
    openings = tuple(replace(o, start=flip(o.start), end=flip(o.end), rooms=o.rooms[::-1]) for o in house.openings)
    items = tuple(
        replace(
            i,
            position=(-i.position[0], *i.position[1:]),
            yaw=-i.yaw,
            parts=tuple(replace(p, centre=(-p.centre[0], *p.centre[1:]), yaw=-p.yaw) for p in i.parts),
        )
        for i in house.items
    )
    stairs = tuple(replace(s, start=flip(s.start), end=flip(s.end)) for s in house.stairs)
    return replace(house, rooms=rooms, walls=walls, openings=openings, items=items, stairs=stairs)


def test_a_mirrored_house_is_told_with_left_and_right_exchanged(scene: SceneGraph) -> None:
    graph = scene.graph
    poses = graph.poses.copy()
    poses[:, 0, 3] *= -1
    mirror = SceneGraph(mirrored_house(scene.house), replace(graph, poses=poses))
    assert np.array_equal(mirror.visible, scene.visible)
    compared = 0
    for k, path in enumerate(sample_paths(scene.house, graph, 13, 8, scene=scene)):
        image = Path(path.viewpoints, -path.heading)
        for register in ("r2r", "rxr"):
            here = describe(scene, path, str(k), register=register, held_out_combinations=None)
            there = describe(mirror, image, str(k), register=register, held_out_combinations=None)
            assert (here is None) == (there is None)
            if here is not None and there is not None:
                compared += 1
                assert re.sub("[.,]", "", there.text) == re.sub("[.,]", "", exchanged(here.text))
                assert combinations(here.program) == combinations(there.program)
    assert compared >= 5


# --- views -----------------------------------------------------------------------------------------------------------


def test_landmarks_that_are_told_of_are_in_the_pictures(scene: SceneGraph, episodes: list[NavEpisode]) -> None:
    """Lines of sight against the renderer's instance mask: at least 25 pixels of 240 × 240 at 90 degrees."""
    rows = {x.item: k for k, x in enumerate(instances(scene.house)) if x.item >= 0}
    wanted: list[tuple[int, int]] = []
    for e in episodes:
        for told in e.instructions:
            for row in told.extra["program"]:
                near = [scene.graph.index(v) for v in e.path[row["node"] : row["node"] + 2]]
                seen = [n for n in near if row["item"] >= 0 and scene.visible[n, row["item"]]]
                assert row["item"] < 0 or seen, row
                wanted += [(seen[0], row["item"])] if seen else []
    pairs = sorted(set(wanted))[:24]
    assert len(pairs) >= 8
    with HouseRenderer(240, 240, 90.0, sensors=("semantics",)) as renderer:
        renderer.load(scene.house)
        eyes = scene.eye[[n for n, _ in pairs]]
        middle = np.array([scene.house.items[i].position for _, i in pairs])
        middle[:, 2] += [scene.house.items[i].size[2] / 2 for _, i in pairs]
        d = middle - eyes
        headings = np.arctan2(d[:, 0], d[:, 1])
        elevations = np.clip(np.arctan2(d[:, 2], np.hypot(d[:, 0], d[:, 1])), -math.pi / 3, math.pi / 3)
        masks = renderer.render(eyes, headings, elevations)["semantics"]
    pixels = [int((mask == rows[i]).sum()) for mask, (_, i) in zip(masks, pairs, strict=True)]
    assert all(n >= 25 for n in pixels), dict(zip(pairs, pixels, strict=True))


def test_changes_of_heading_add_up(scene: SceneGraph) -> None:
    for path in sample_paths(scene.house, scene.graph, 14, 5, scene=scene):
        nodes = [scene.graph.index(v) for v in path.viewpoints]
        total = path.heading + sum(turns_of(scene, nodes, path.heading))
        last = scene.heading(nodes[-2], nodes[-1])
        assert math.cos(total - last) == pytest.approx(1.0)
