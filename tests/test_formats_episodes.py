"""What episodes of navigation benchmarks mean, and what is written for episodes that come from no file."""

from __future__ import annotations

import math
import os
from dataclasses import replace
from pathlib import Path

import formats_fixtures as samples
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wayhand.datasets.formats import connectivity, habitat, r2r, reverie, rxr, soon, vlnce
from wayhand.datasets.formats.fields import Fields, same, to_habitat
from wayhand.datasets.formats.rotation import heading_of, rotation_of
from wayhand.datasets.formats.vocabulary import Vocabulary, words
from wayhand.vla.errors import DataError
from wayhand.vla.navigation import Goal, NavResult

DATA = os.environ.get("WAYHAND_TEST_DATA")
real = pytest.mark.skipif(not DATA, reason="WAYHAND_TEST_DATA does not name the folder of real benchmark files")


@given(st.floats(-100, 100))
def test_headings_and_rotations_undo_each_other(heading: float) -> None:
    turned = heading_of(rotation_of(heading)) - heading
    assert abs((turned + math.pi) % (2 * math.pi) - math.pi) < 1e-12
    assert 0 <= heading_of(rotation_of(heading)) < 2 * math.pi


@given(st.lists(st.floats(-1, 1), min_size=4, max_size=4).filter(lambda q: np.linalg.norm(q) > 0.1))
def test_a_rotation_looks_where_its_heading_says(rotation: list[float]) -> None:
    x, y, z, w = np.array(rotation) / np.linalg.norm(rotation)
    look = np.array([-2 * (x * z + w * y), -2 * (y * z - w * x), -(1 - 2 * (x * x + y * y))])  # −z, rotated
    ahead = np.array([look[0], -look[2]])  # east and north in our axes
    heading = heading_of(rotation)
    if np.linalg.norm(ahead) > 1e-3:
        assert ahead / np.linalg.norm(ahead) == pytest.approx([math.sin(heading), math.cos(heading)], abs=1e-6)


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=3, max_size=3))
def test_axes_are_turned_exactly(point: list[float]) -> None:
    ours = Fields({"p": point}, "").point("p")
    assert (ours[0], ours[2]) == (point[0], point[1])
    assert same(to_habitat(ours), point)


def test_continuous_episodes_are_in_our_axes(tmp_path: Path) -> None:
    episode = vlnce.load(samples.put(tmp_path / "a.json", samples.VLNCE))[0]
    assert (episode.id, episode.scan, episode.distance) == ("1", samples.SCAN, 6.425291538238525)
    assert episode.start == (-16.267200469970703, 0.0, 0.1518409252166748)
    assert episode.heading == pytest.approx(2 * math.pi - 2 * 0.0007963267107332633, abs=1e-9)
    assert episode.goals == (Goal((-12.337400436401367, -4.213699817657471, 0), 3.0),)
    assert [i.id for i in episode.instructions] == ["1"]
    (told,) = vlnce.load(samples.put(tmp_path / "b.json", samples.RXR_CE))
    assert (told.id, told.instructions[0].id, told.instructions[0].language) == ("1", "26", "hi-IN")


def test_a_submission_tells_stops_and_headings_to_the_right(tmp_path: Path) -> None:
    runs = vlnce.load_results(samples.put(tmp_path / "a.json", samples.VLNCE_RESULTS))
    assert [r.stopped for r in runs] == [True, False, True, False]
    assert runs[0].headings == (0.0, -6) and runs[0].positions[1] == (1.5, -2, 0)
    assert runs[1].headings == (1.5,) and runs[1].extra["distance"] == [3.5]
    (first, second) = vlnce.load_results(samples.put(tmp_path / "a.jsonl", samples.RXR_CE_RESULTS))
    assert first.stopped is None and len(first.positions) == 3 and second.positions == ()


def test_hops_are_strung_together(tmp_path: Path) -> None:
    results = r2r.load_results(samples.put(tmp_path / "a.json", samples.R2R_RESULTS))
    assert results[0].path == (samples.A, samples.B) and results[0].elevations == (0.0, -0.25)
    assert results[1].path == (samples.A, samples.B, samples.C) and results[1].headings == ()
    with pytest.raises(DataError, match="for all viewpoints or for none"):
        r2r.load_results(
            samples.put(tmp_path / "a.json", [{"instr_id": "1_0", "trajectory": [[samples.A, 0, 0], [samples.B]]}])
        )


def test_pointing_results_name_their_object(tmp_path: Path) -> None:
    results = reverie.load_results(samples.put(tmp_path / "a.json", samples.REVERIE_RESULTS))
    assert [r.object_id for r in results] == ["66", "156", None]
    results = soon.load_results(samples.put(tmp_path / "a.json", samples.SOON_RESULTS))
    assert results[1].extra["obj_heading"] == [0.2] and results[1].path == (samples.A, samples.B)


def test_a_field_that_was_changed_is_written_and_the_others_stay_as_they_were(tmp_path: Path) -> None:
    loaded = vlnce.load(samples.put(tmp_path / "a.json", samples.VLNCE))
    turned = [replace(e, heading=1.0) if e.id == "2" else e for e in loaded]
    vlnce.save(tmp_path / "b.json", turned)
    before, after = (samples.got(tmp_path / name)["episodes"] for name in ("a.json", "b.json"))
    assert after[1]["start_rotation"] == rotation_of(1.0)
    after[1]["start_rotation"] = before[1]["start_rotation"]
    assert same(before, after)


def test_made_episodes_become_r2r_files(tmp_path: Path) -> None:
    r2r.save(tmp_path / "a.json", [samples.made(0), samples.made(1)])
    (item, _) = samples.got(tmp_path / "a.json")
    assert list(item) == ["distance", "scan", "path_id", "path", "heading", "instructions"]
    assert len(item["instructions"]) == 3 and item["path_id"] == "house-0"
    r2r.save(tmp_path / "b.json", r2r.numbered([samples.made(0), samples.made(1)]))
    loaded = r2r.load(tmp_path / "b.json")
    assert [e.id for e in loaded] == ["1", "2"] and loaded[1].instructions[2].id == "2_2"
    assert loaded[1].extra["source_id"] == "house-1" and r2r.numbered(loaded) == loaded
    two = samples.made(instructions=samples.made().instructions[:2])
    with pytest.raises(DataError, match=r"expected: 3 instructions[\s\S]*got:      2"):
        r2r.save(tmp_path / "c.json", [two])
    assert not (tmp_path / "c.json").exists()


def test_made_episodes_become_whole_vlnce_files(tmp_path: Path) -> None:
    episodes = [samples.made(n, extra={"program": ["walk"]}) for n in range(2)]
    vlnce.save(tmp_path / "a.json", episodes)
    top = samples.got(tmp_path / "a.json")
    item, vocabulary = top["episodes"][4], top["instruction_vocab"]
    assert [e["episode_id"] for e in top["episodes"]] == [1, 2, 3, 4, 5, 6]
    assert [e["trajectory_id"] for e in top["episodes"]] == [1, 1, 1, 2, 2, 2]
    assert item["scene_id"] == "mp3d/house/house.glb" and item["start_position"] == [1.5, 0.0, 2.25]
    assert item["goals"] == [{"position": [3.0, 0.0, 2.25], "radius": 3.0}]
    assert item["info"] == {"geodesic_distance": 1.5, "program": ["walk"]}
    assert set(item) == set(samples.vlnce_episode(1)), "readers of this format refuse any other field"
    tokens = item["instruction"]["instruction_tokens"]
    spelled = [vocabulary["word_list"][t] for t in tokens]
    assert len(tokens) == 200 and spelled[:8] == ["walk", "past", "the", "red", "chair", "wait", ".", "<pad>"]
    assert vocabulary["num_vocab"] == len(vocabulary["itos"]) == 11 and vocabulary["stoi"]["<unk>"] == 1
    loaded = vlnce.load(tmp_path / "a.json")
    assert [e.id for e in loaded] == [e.id for e in vlnce.numbered(episodes)]
    vlnce.save(tmp_path / "b.json", loaded)
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


def test_splits_share_a_vocabulary_and_a_scene_pattern(tmp_path: Path) -> None:
    shared = Vocabulary(("<pad>", "<unk>", "walk"))
    vlnce.save(tmp_path / "a.json", [samples.made()], vocabulary=shared, scene="houses/{scan}.glb")
    top = samples.got(tmp_path / "a.json")
    assert top["episodes"][0]["scene_id"] == "houses/house.glb"
    assert top["episodes"][0]["instruction"]["instruction_tokens"][:3] == [2, 1, 1]
    with pytest.raises(DataError, match=r"got:      no start, distance"):
        vlnce.save(tmp_path / "b.json", [samples.made(start=None, distance=None)])
    hidden = samples.made(goals=(), reference=(), distance=None)
    vlnce.save(tmp_path / "b.json", [hidden], vocabulary=shared)
    assert not {"goals", "reference_path", "info"} & samples.got(tmp_path / "b.json")["episodes"][0].keys()


def test_words_with_times_become_rxr_files(tmp_path: Path) -> None:
    vlnce.save(tmp_path / "a.json", [samples.spoken()])
    (item,) = samples.got(tmp_path / "a.json")["episodes"]
    assert item["instruction"]["timed_instruction"] == [
        {"start_time": 0.25, "word": "Walk", "end_time": 0.5},
        {"word": "on."},
    ]
    assert item["instruction"]["instruction_id"] == 1 and item["instruction"]["language"] == "en-US"
    rxr.save(tmp_path / "a.jsonl", [samples.spoken(0), samples.made(1)])
    rows = samples.got(tmp_path / "a.jsonl")
    assert [r["instruction_id"] for r in rows] == [1, 2, 3, 4] and [r["path_id"] for r in rows] == [1, 2, 2, 2]
    rxr.save(tmp_path / "b.jsonl", rxr.load(tmp_path / "a.jsonl"))
    assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "b.jsonl").read_bytes()


def test_made_episodes_become_reverie_and_soon_files(tmp_path: Path) -> None:
    episode = samples.made(id="12", goals=(Goal(object_id="7", category="chair", viewpoint_ids=(samples.C,)),))
    reverie.save(tmp_path / "a.json", [episode])
    (item,) = samples.got(tmp_path / "a.json")
    assert (item["id"], item["objId"], item["path_id"]) == ("12_7", 7, 12)
    assert reverie.load(tmp_path / "a.json")[0].instructions[2].id == "12_7_2"
    with pytest.raises(DataError, match="an id '<path_id>_7'"):
        reverie.save(tmp_path / "a.json", [replace(episode, id="1_2_3")])
    soon.save(tmp_path / "b.json", [episode])
    (item,) = samples.got(tmp_path / "b.json")
    assert item["instructions"][0] == ["chair", "", "", "", "Walk past the red chair, stop."]
    assert item["bboxes"] == [{"image_id": samples.C, "obj_name": "chair"}]


def test_objects_of_reverie_survive_and_say_who_sees_them(tmp_path: Path) -> None:
    objects = {
        "1": {"name": "chair", "visible_pos": [3, 4], "bbox2d": [[1, 2, 3, 4], [5.5, 6, 7, 8]], "x": 1},
        "2": {"visible_pos": [], "name": "bed", "bbox2d": []},
    }
    samples.put(tmp_path / "in" / f"{samples.SCAN}_{samples.A}.json", {samples.A: objects})
    loaded = reverie.load_objects(tmp_path / "in")
    assert reverie.visible_from(loaded) == {(samples.SCAN, "1"): (samples.A,)}
    reverie.save_objects(tmp_path / "out", loaded)
    assert same(samples.got(tmp_path / "out" / f"{samples.SCAN}_{samples.A}.json"), {samples.A: objects})
    samples.put(tmp_path / "in" / f"{samples.SCAN}_{samples.B}.json", {samples.A: {}})
    with pytest.raises(DataError, match="the viewpoint of the file's name"):
        reverie.load_objects(tmp_path / "in")


def test_object_goals_stand_once_in_the_files_of_their_buildings(tmp_path: Path) -> None:
    samples.put(
        tmp_path / "val" / "val.json",
        samples.OBJECTNAV_TOP | {"content_scenes_path": "{data_path}/content/{scene}.json"},
    )
    samples.put(tmp_path / "val" / "content" / "one.json", samples.OBJECTNAV_CONTENT)
    loaded = habitat.load(tmp_path / "val" / "val.json")
    assert [e.id for e in loaded] == ["one/0", "one/1"] and loaded[0].goals is loaded[1].goals
    (goal,) = loaded[0].goals
    assert (goal.object_id, goal.category, goal.viewpoints) == ("17", "chair", ((1.0, 2.0, 0.5),))
    habitat.save(tmp_path / "again" / "val.json", loaded)
    for name in ("val.json", "content/one.json"):
        assert same(samples.got(tmp_path / "again" / name), samples.got(tmp_path / "val" / name))
    (tmp_path / "again" / "content" / "two.json").write_text("{}")
    with pytest.raises(DataError, match=r"files of other buildings[\s\S]*two.json"):
        habitat.save(tmp_path / "again" / "val.json", loaded)
    other = replace(loaded[1], goals=(replace(goal, radius=0.5),))
    with pytest.raises(DataError, match="have different goals"):
        habitat.save(tmp_path / "x" / "val.json", [loaded[0], other])


def test_made_episodes_become_pointnav_and_objectnav_files(tmp_path: Path) -> None:
    point = samples.made(instructions=(), path=(), reference=())
    habitat.save(tmp_path / "p.json", [point])
    (item,) = samples.got(tmp_path / "p.json")["episodes"]
    assert item["goals"] == [{"position": [3.0, 0.0, 2.25], "radius": None}]
    goal = Goal((3.0, -2.25, 0.5), object_id="7", category="chair", viewpoints=((2.0, -2.25, 0.0),))
    habitat.save(tmp_path / "o" / "o.json.gz", [replace(point, goals=(goal,))], scene_files=True)
    assert (tmp_path / "o" / "content" / "house.json.gz").is_file()
    (episode,) = habitat.load(tmp_path / "o" / "o.json.gz")
    assert episode.goals[0].viewpoints == goal.viewpoints and episode.goals[0].category == "chair"
    with pytest.raises(DataError, match="has instructions"):
        habitat.save(tmp_path / "p.json", [samples.made()])


def test_results_from_nowhere_are_written_as_the_evaluators_want_them(tmp_path: Path) -> None:
    walked = NavResult("5", path=(samples.A, samples.B), object_id="7")
    r2r.save_results(tmp_path / "a.json", [replace(walked, object_id=None)])
    assert samples.got(tmp_path / "a.json") == [{"instr_id": "5", "trajectory": [[samples.A, 0, 0], [samples.B, 0, 0]]}]
    reverie.save_results(tmp_path / "a.json", [walked])
    assert samples.got(tmp_path / "a.json")[0]["predObjId"] == 7
    run = NavResult("5", positions=((0.0, 1.0, 2.0),) * 2, headings=(0.5, 1.0), stopped=True)
    vlnce.save_results(tmp_path / "a.json", [run])
    assert samples.got(tmp_path / "a.json")["5"][1] == {"position": [0.0, 2.0, -1.0], "heading": -1.0, "stop": True}
    vlnce.save_results(tmp_path / "a.jsonl", [run])
    assert samples.got(tmp_path / "a.jsonl") == [{"instruction_id": 5, "path": [[0.0, 2.0, -1.0]]}]
    with pytest.raises(DataError, match=r"2 headings, one for each position[\s\S]*got:      0"):
        vlnce.save_results(tmp_path / "a.json", [replace(run, headings=())])


@real
def test_real_r2r_and_reverie_files_come_out_as_they_went_in(tmp_path: Path) -> None:
    folder = Path(str(DATA))
    for module, name, count in (
        (r2r, "r2r/R2R_val_train_seen.json", 500),
        (reverie, "reverie/REVERIE_val_seen.json", 515),
        (reverie, "reverie/REVERIE_v2_train.json", 4071),
    ):
        episodes = module.load(folder / name)
        module.save(tmp_path / "a.json", episodes)
        assert len(episodes) == count
        assert same(samples.got(folder / name), samples.got(tmp_path / "a.json"))


@real
def test_real_continuous_files_come_out_as_they_went_in(tmp_path: Path) -> None:
    import gzip

    folder = Path(str(DATA)) / "r2r_ce_v1-2"
    counts = {"val_seen": (778, 259, 53), "train": (10_819, 3_603, 61)}
    for split, (episodes, paths, scans) in counts.items():
        loaded = vlnce.load(folder / f"{split}.json.gz")
        told = len(loaded), len({e.extra["trajectory_id"] for e in loaded}), len({e.scan for e in loaded})
        assert told == (episodes, paths, scans)
        vlnce.save(tmp_path / f"{split}.json", loaded)
        assert (tmp_path / f"{split}.json").read_bytes() == gzip.decompress((folder / f"{split}.json.gz").read_bytes())
    seen = vlnce.load(folder / "val_seen.json.gz")
    known = Vocabulary.from_field(samples.got(tmp_path / "val_seen.json")["instruction_vocab"])
    for episode in seen:
        told = episode.instructions[0]
        assert known.encode(told.text) == told.extra["instruction_tokens"]


@real
def test_real_ground_truth_starts_at_the_start_and_sets_off_along_the_heading() -> None:
    folder = Path(str(DATA)) / "r2r_ce_v1-2"
    episodes = {e.id: e for e in vlnce.load(folder / "val_seen.json.gz")}
    truths = vlnce.load_ground_truth(vlnce.ground_truth_path(folder / "val_seen.json.gz"))
    assert len(truths) == 778 and truths.keys() == episodes.keys()
    off: list[float] = []
    for name, truth in truths.items():
        heading = episodes[name].heading
        for action in truth.actions[: truth.actions.index(1)]:
            heading += math.radians(15) * {2: -1, 3: 1}[action]
        (x, y, _), (u, v, _) = truth.locations[:2]
        off.append(abs((math.atan2(u - x, v - y) - heading + math.pi) % (2 * math.pi) - math.pi))
        assert truth.locations[0] == episodes[name].start
        assert len(truth.locations) == truth.forward_steps + 1
    assert np.mean(np.array(off) < 1e-3) > 0.95  # a wall in the way turns a few of the first moves


@real
def test_the_real_graphs_have_the_statistics_that_are_published(tmp_path: Path) -> None:
    graphs = connectivity.load(Path(str(DATA)) / "connectivity.tar.gz")
    included = sum(int(g.included.sum()) for g in graphs.values())
    edges = np.concatenate([g.lengths[np.triu(g.adjacency)] for g in graphs.values()])
    assert (len(graphs), sum(len(g.ids) for g in graphs.values()), included, len(edges)) == (90, 10_800, 10_567, 21_468)
    assert 2 * len(edges) / included == pytest.approx(4.06, abs=5e-3)
    assert [edges.mean(), np.median(edges), edges.max()] == pytest.approx([2.27, 2.06, 16.8], abs=0.01)
    assert np.quantile(edges, [0.05, 0.25, 0.75, 0.95, 0.99]) == pytest.approx([0.84, 1.46, 2.92, 4.31, 4.85], abs=5e-3)
    connectivity.save(tmp_path, {name: graphs[name] for name in ("17DRP5sb8fy", "8194nk5LbLH")})
    for name, again in connectivity.load(tmp_path).items():
        assert connectivity.to_json(again) == connectivity.to_json(graphs[name])
        assert np.array_equal(again.poses, graphs[name].poses) and again.ids == graphs[name].ids


def test_words_are_split_as_in_vlnce() -> None:
    assert words("Go, don't stop?  At the X-ray; then...") == [
        "go",
        "don",
        "'",
        "t",
        "stop",
        "at",
        "the",
        "x-ray",
        ";",
        "then",
        "...",
    ]
