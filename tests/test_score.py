"""`wayhand score` end to end: tiny files of every format, real files where they are, and the words of its errors."""

import gzip
import json
import os
from pathlib import Path

import numpy as np
import pytest
from houses import flat

from wayhand.datasets.formats import connectivity
from wayhand.scripts.cli import main as cli
from wayhand.vla.navigation import ViewpointGraph

DATA = Path(os.environ.get("WAYHAND_TEST_DATA", ""))
needs_data = pytest.mark.skipif("WAYHAND_TEST_DATA" not in os.environ, reason="WAYHAND_TEST_DATA is not set")
TEST_DATA_R2R = DATA / "r2r" / "R2R_val_train_seen.json"


def line(scan: str = "house") -> ViewpointGraph:
    """Viewpoints a to f in a row, two metres apart."""
    poses = np.tile(np.eye(4), (6, 1, 1))
    poses[:, 0, 3] = 2.0 * np.arange(6)
    joined = np.abs(np.subtract.outer(np.arange(6), np.arange(6))) == 1
    return ViewpointGraph(scan, tuple("abcdef"), poses, np.full(6, 1.5), np.ones(6, bool), joined, joined)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    connectivity.save(tmp_path / "connectivity", [line()])
    return tmp_path


def write(name: str, value) -> str:
    text = "".join(f"{json.dumps(v)}\n" for v in value) if ".jsonl" in name else json.dumps(value)
    data = text.encode()
    Path(name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return name


def scored(capsys, **options) -> dict:
    assert cli(["score", *(f"{k}={v}" for k, v in options.items())]) == 0, capsys.readouterr().err
    return json.loads(capsys.readouterr().out)


def refused(capsys, code=1, **options) -> str:
    assert cli(["score", *(f"{k}={v}" for k, v in options.items())]) == code
    out, err = capsys.readouterr()
    assert out == ""
    return err


def trajectory(path: str) -> list:
    return [[v, 0.0, 0.0] for v in path]


def r2r(paths=("abcd", "abcde", "abcdef")) -> dict:
    """Three runs of one path, a to d."""
    item = {"distance": 6.0, "scan": "house", "path_id": 1, "path": list("abcd"), "heading": 0.0}
    write("r2r.json", [item | {"instructions": ["one", "two", "three"]}])
    write("runs.json", [{"instr_id": f"1_{i}", "trajectory": trajectory(p)} for i, p in enumerate(paths)])
    return {"annotations": "r2r.json", "results": "runs.json", "connectivity": "connectivity"}


def test_r2r(folder, capsys):
    found = scored(capsys, protocol="r2r-v1", **r2r(), out="rows.json")
    wanted = {"tl": 8.0, "ne": 2.0, "sr": 2 / 3, "osr": 1.0, "spl": 1.75 / 3}
    assert {k: found["metrics"][k] for k in wanted} == pytest.approx(wanted, abs=1e-12)
    assert {"ndtw", "sdtw", "cls"} <= set(found["metrics"]) == set(found["intervals"])
    assert found["n"] == 3 and found["paths"] == 1
    assert found["protocol"]["id"] == f"r2r-v1/{found['protocol']['hash']}/{found['split_hash']}/3"
    assert found["baselines"]["shortest_path"]["spl"] == 1
    assert found["baselines"]["stop"]["ndtw"] == pytest.approx(np.exp(-1))
    rows = json.loads((folder / "rows.json").read_text())["episodes"]
    assert [r["id"] for r in rows] == ["1_0", "1_1", "1_2"]
    assert [r["sr"] for r in rows] == [1, 1, 0]


def test_the_same_command_prints_the_same_bytes(folder, capsys):
    options = [f"{k}={v}" for k, v in ({"protocol": "r2r-v1"} | r2r()).items()]
    printed = []
    for _ in range(2):
        assert cli(["score", *options]) == 0
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1]


def test_a_comparison_is_paired(folder, capsys):
    options = r2r()
    others = [{"instr_id": f"1_{i}", "trajectory": trajectory("a")} for i in range(3)]
    found = scored(capsys, protocol="r2r-v1", **options, compare=write("other.json", others), baselines="false")
    assert "baselines" not in found
    assert found["compare"]["metrics"]["sr"] == 0
    assert found["compare"]["difference"]["sr"] == pytest.approx(2 / 3)
    assert found["compare"]["only_this_succeeds"] == 2


def test_what_the_original_ignores_is_said(folder, capsys):
    options = r2r()
    runs = json.loads(Path("runs.json").read_text())
    write("runs.json", [*runs, runs[0], {"instr_id": "9_0", "trajectory": trajectory("a")}])
    assert cli(["score", "protocol=r2r-v1", *(f"{k}={v}" for k, v in options.items())]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["ignored"] == 2
    assert "2 results of unknown ids" in err
    assert "'1_0' occurs twice" in refused(capsys, protocol="wayhand-nav-v1", **options)


def test_a_missing_result_stops_the_original_and_fails_in_ours(folder, capsys):
    options = r2r()
    write("runs.json", json.loads(Path("runs.json").read_text())[1:])
    assert "1 of 3 instructions" in refused(capsys, protocol="r2r-v1", **options)
    found = scored(capsys, protocol="wayhand-nav-v1", **options)
    assert found["missing"] == 1 and found["n"] == 3
    assert found["metrics"]["sr"] == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("bcd", "does not begin at the start"),
        ("axd", "no such viewpoint"),
        ("acd", "not joined"),
        ("", "empty trajectory"),
    ],
)
def test_broken_runs(folder, capsys, path, says):
    error = refused(capsys, protocol="r2r-v1", **r2r(("abcd", path, "abcd")))
    assert says in error and "1_1" in error


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"protocol": "r2r"}, "did you mean"),
        ({"protocol": ""}, "needs protocol"),
        ({"results": ""}, "needs results"),
        ({"connectivity": ""}, "connectivity=DIR"),
        ({"reslts": "x"}, "did you mean 'results'"),
        ({"confidence": "2"}, "'confidence' does not fit"),
        ({"resamples": "many"}, "'resamples' does not fit"),
        ({"baselines": "yes"}, "true or false"),
        ({"distance": "manhattan"}, "Unknown kind of distance"),
    ],
)
def test_usage_errors(folder, capsys, change, says):
    assert says in refused(capsys, 2, **{"protocol": "r2r-v1", **r2r(), **change})


def test_a_missing_file_and_a_missing_building(folder, capsys):
    options = r2r()
    assert "nowhere.json" in refused(capsys, protocol="r2r-v1", **{**options, "results": "nowhere.json"})
    connectivity.save(folder / "connectivity", [line("other")])
    (folder / "connectivity" / "house_connectivity.json").unlink()
    assert "no viewpoint graph of 'house'" in refused(capsys, protocol="r2r-v1", **options)


def test_files_of_another_benchmark_are_told_apart(folder, capsys):
    options = r2r()
    assert "looks like r2r" in refused(capsys, protocol="reverie-v1", **options)
    rows = [{"instruction_id": 1, "path": ["a"]}]
    assert "looks like rxr" in refused(capsys, protocol="r2r-v1", **{**options, "results": write("x.jsonl", rows)})


def test_rxr(folder, capsys):
    guide = {
        "split": "val_seen",
        "annotator_id": 1,
        "path_id": 11,
        "scan": "house",
        "path": list("abcd"),
        "heading": 0.0,
    }
    rest = {"timed_instruction": [{"word": "go", "start_time": 0.0, "end_time": 1.0}], "edit_distance": 0.0}
    lines = [
        guide | {"instruction_id": i, "language": spoken, "instruction": "go"} | rest
        for i, spoken in ((26, "en-IN"), (27, "hi-IN"))
    ]
    options = {
        "protocol": "rxr-v1",
        "annotations": write("rxr.jsonl.gz", lines),
        "results": write("rxr_runs.jsonl", [{"instruction_id": i, "path": list("abc")} for i in (26, 27)]),
        "connectivity": "connectivity",
    }
    found = scored(capsys, **options)
    assert (found["n"], found["paths"], found["metrics"]["ne"], found["metrics"]["spl"]) == (2, 1, 2, 1)
    assert found["metrics"]["ndtw"] == pytest.approx(np.exp(-2 / 12))
    english = scored(capsys, **options, languages="en-IN")
    assert english["n"] == 1 and english["split_hash"] != found["split_hash"]
    assert "te-IN" in refused(capsys, 2, **options, languages="te-IN")


def test_reverie(folder, capsys):
    item = {"distance": 6.0, "ix": 0, "scan": "house", "heading": 0.0, "path_id": 4, "objId": 12, "id": "4_12"}
    item |= {"instructions": ["bring it", "take it"], "instructions_l": ["bring it", "take it"], "path": list("abcd")}
    runs = [
        {"instr_id": "4_12_0", "trajectory": trajectory("abc"), "predObjId": 12},
        {"instr_id": "4_12_1", "trajectory": trajectory("abcde"), "predObjId": 13},
    ]
    boxes = folder / "BBox"
    boxes.mkdir()
    seen = {"name": "lamp", "visible_pos": [3], "bbox2d": [[1, 2, 3, 4]]}
    write("BBox/house_c.json", {"c": {"12": seen}})
    write("BBox/house_d.json", {"d": {"12": seen, "13": seen}})
    write("BBox/house_e.json", {"e": {"12": seen | {"visible_pos": [], "bbox2d": []}}})
    options = {
        "protocol": "reverie-v1",
        "annotations": write("reverie.json", [item]),
        "results": write("reverie_runs.json", runs),
        "connectivity": "connectivity",
    }
    assert "bboxes=DIR" in refused(capsys, 2, **options)
    found = scored(capsys, **options, bboxes="BBox")["metrics"]
    assert (found["sr"], found["osr"], found["spl"], found["rgs"], found["rgspl"]) == (0.5, 1, 0.5, 0.5, 0.5)
    for name in "cd":
        (boxes / f"house_{name}.json").unlink()
    assert "Object 12 of episode '4_12' is visible from nowhere" in refused(capsys, **options, bboxes="BBox")


def vlnce(ends=(1.5, 4.0), extra=({}, {})) -> dict:
    """Two runs along Habitat's −z, which is north; the goal is 4 m ahead."""
    episode = {
        "trajectory_id": 3,
        "scene_id": "mp3d/house/house.glb",
        "start_position": [0, 0, 0],
        "start_rotation": [0, 0, 0, 1],
        "info": {"geodesic_distance": 5.0},
        "goals": [{"position": [0, 0, -4], "radius": 3.0}],
        "reference_path": [[0, 0, 0], [0, 0, -4]],
        "instruction": {"instruction_text": "go", "instruction_tokens": [1] + [0] * 199},
    }
    write("val.json.gz", {"episodes": [episode | {"episode_id": i} for i in (5, 6)], "instruction_vocab": {}})
    truth = {"locations": [[0, 0, -z] for z in range(5)], "forward_steps": 4, "actions": [1, 1, 1, 1, 0]}
    write("val_gt.json.gz", {"5": truth, "6": truth})
    runs = {
        str(i): [
            {"position": [0, 0, -z], "heading": 0.0, "stop": z == end, **{k: v[j] for k, v in more.items()}}
            for j, z in enumerate((0.0, end))
        ]
        for i, end, more in zip((5, 6), ends, extra, strict=True)
    }
    return {"annotations": "val.json.gz", "results": write("ce.json", runs)}


def test_vlnce_in_straight_lines_only_when_asked(folder, capsys):
    options = vlnce()
    error = refused(capsys, 2, protocol="vlnce-r2r-v1-3", **options)
    assert "houses=DIR" in error and "distance=recorded" in error and "distance=euclid" in error
    found = scored(capsys, protocol="vlnce-r2r-v1-3", **options, distance="euclid")
    assert "not comparable" in found["warning"] and found["protocol"]["id"].endswith("/euclid")
    wanted = {"tl": 2.75, "ne": 1.25, "sr": 1.0, "osr": 1.0, "spl": 1.0, "steps": 1.0}
    assert {k: found["metrics"][k] for k in wanted} == pytest.approx(wanted)
    short = (0 + 0.5 + 0.5 + 1.5 + 2.5, 0 + 1 + 2 + 1 + 0)
    assert found["metrics"]["ndtw"] == pytest.approx(np.mean(np.exp(-np.array(short) / 15)))
    assert found["baselines"]["stop"]["ne"] == 4 and "shortest_path" not in found["baselines"]


def test_vlnce_with_the_distances_habitat_measured(folder, capsys):
    options = vlnce(extra=({"distance": [5.0, 3.5]}, {"distance": [5.0, 0.5]}))
    found = scored(capsys, protocol="vlnce-r2r-v1-3", **options, distance="recorded")
    assert found["metrics"]["ne"] == 2 and found["metrics"]["sr"] == 0.5
    assert found["metrics"]["spl"] == 0.5 and found["baselines"]["stop"]["ne"] == 5
    assert "no recorded distances" in refused(capsys, protocol="vlnce-r2r-v1-3", **vlnce(), distance="recorded")


def test_vlnce_without_dense_references(folder, capsys):
    options = vlnce()
    Path("val_gt.json.gz").unlink()
    assert cli(["score", "protocol=vlnce-r2r-v1-3", *(f"{k}={v}" for k, v in options.items()), "distance=euclid"]) == 0
    out, err = capsys.readouterr()
    assert "ndtw" not in json.loads(out)["metrics"] and "no nDTW without" in err


def test_rxr_ce(folder, capsys):
    vlnce()
    with gzip.open("val.json.gz", "rt", encoding="utf-8") as file:
        top = json.load(file)
    for episode, name in zip(top["episodes"], (70, 71), strict=True):
        spoken = {"instruction_id": name, "language": "en-US", "annotator_id": 1, "edit_distance": 0.0}
        episode["instruction"] = {"instruction_text": "go", "timed_instruction": [], **spoken}
    runs = [{"instruction_id": i, "path": [[0, 0, 0], [0, 0, -2]]} for i in (70, 71)]
    found = scored(
        capsys,
        protocol="vlnce-rxr",
        annotations=write("val.json.gz", top),
        results=write("rxr_ce.jsonl", runs),
        distance="euclid",
        languages="en-US",
    )
    assert (found["n"], found["metrics"]["sr"], found["metrics"]["ne"]) == (2, 1, 2)
    assert found["metrics"]["ndtw"] == pytest.approx(np.exp(-4 / 15))


@needs_data
def test_shortest_paths_on_real_paths_score_one_and_random_ones_as_published(capsys, tmp_path):
    graphs = connectivity.load(DATA / "connectivity.tar.gz")
    from wayhand.datasets.formats import r2r as files
    from wayhand.vla.evaluation import nav_baselines as baselines
    from wayhand.vla.evaluation.nav_protocols import nav_protocol
    from wayhand.vla.evaluation.nav_score import World, items, score

    episodes, protocol = files.load(TEST_DATA_R2R), nav_protocol("r2r-v1")
    wanted = items(protocol, episodes)
    assert len(wanted) == 1500
    best = score(protocol, episodes, baselines.run(baselines.shortest_path, graphs, wanted), World(graphs)).metrics
    assert (best["sr"], best["spl"], best["ndtw"], best["ne"]) == (1, 1, 1, 0)
    results = baselines.run(baselines.random_heading, graphs, wanted)
    found = score(protocol, episodes, results, World(graphs)).metrics
    # Anderson et al. 2018, Table 2, val-unseen: 9.77 m, 9.23 m, 16.3 %, 22.0 %; here other paths and buildings.
    assert found["tl"] == pytest.approx(9.77, abs=0.5)
    assert found["ne"] == pytest.approx(9.23, abs=1.0)
    assert found["sr"] == pytest.approx(0.163, abs=0.03)
    assert found["osr"] == pytest.approx(0.220, abs=0.03)


def test_soon(folder, capsys):
    corners = {
        "left_top": (-0.1, 0.1),
        "right_top": (0.1, 0.1),
        "right_bottom": (0.1, -0.1),
        "left_bottom": (-0.1, -0.1),
    }
    target = {name: {"heading": h, "elevation": e} for name, (h, e) in corners.items()}
    box = {"image_id": "c", "scan": "house", "obj_name": "lamp", "heading": 0.0, "elevation": 0.0, "target": target}
    item = {"path_id": 8, "scan": "house", "path": list("abcd"), "bboxes": [box]}
    item |= {"instructions": [["lamp", "red", "near", "hall", "find it"], ["lamp", "", "", "", "look for it"]]}
    runs = [
        {"instr_id": f"8_{i}", "trajectory": {"path": trajectory("abc"), "obj_heading": [h], "obj_elevation": [0.0]}}
        for i, h in enumerate((0.0, 0.5))
    ]
    found = scored(
        capsys,
        protocol="soon-v1",
        annotations=write("soon.json", [item]),
        results=write("soon_runs.json", runs),
        connectivity="connectivity",
        baselines="false",
    )["metrics"]
    assert (found["ne"], found["sr"], found["spl"], found["rgs"], found["rgspl"]) == (0, 1, 1, 0.5, 0.5)


def objects(name: str, goals: dict, more: dict) -> str:
    """habitat-lab's episode from the origin, with north at −z."""
    episode = {
        "episode_id": "0",
        "scene_id": "x/house.glb",
        "start_position": [0, 0, 0],
        "start_rotation": [0, 0, 0, 1],
    }
    return write(name, {"episodes": [episode | {"info": {"geodesic_distance": 4.0}} | goals]} | more)


def test_objectnav_and_pointnav(folder, capsys):
    rows = [{"position": [0, 0, -z], "heading": 0.0, "stop": z == 3.85, "collided": z > 1} for z in (0, 2, 3.85)]
    results = write("nav.json", {"0": rows})
    seen = [{"agent_state": {"position": [0, 0, -z], "rotation": [0, 0, 0, 1]}, "iou": 0.1} for z in (3.8, 9)]
    goal = {
        "object_id": 5,
        "object_name": "chair_5",
        "object_category": "chair",
        "position": [1, 0, -4],
        "radius": None,
    }
    chairs = {"goals_by_category": {"house.glb_chair": [goal | {"view_points": seen}]}}
    annotations = objects("objects.json", {"object_category": "chair", "goals": []}, chairs)
    found = scored(capsys, protocol="objectnav", annotations=annotations, results=results, distance="euclid")["metrics"]
    assert found["sr"] == 1 and found["ne"] == pytest.approx(0.05) and found["collisions"] == 2
    points = objects("points.json", {"goals": [{"position": [0, 0, -4], "radius": None}]}, {})
    found = scored(capsys, protocol="pointnav", annotations=points, results=results, distance="euclid")["metrics"]
    assert found["sr"] == 1 and found["ne"] == pytest.approx(0.15)
    assert found["soft_spl"] == pytest.approx(1 - 0.15 / 4)


def test_a_house_that_is_not_there_is_named(folder, capsys):
    (folder / "houses").mkdir()
    assert "There is no house 'house'" in refused(capsys, protocol="vlnce-r2r-v1-3", **vlnce(), houses="houses")


def test_distances_along_the_floors_of_our_houses(folder, capsys):
    house = flat()
    (folder / "houses").mkdir()
    (folder / "houses" / f"{house.scan}.json").write_text(house.to_json(), encoding="utf-8")
    options = vlnce()
    with gzip.open("val.json.gz", "rt", encoding="utf-8") as file:
        top = json.load(file)
    here, there = [2.5, 0, -0.6], [6.5, 0, -0.6]
    for episode in top["episodes"]:
        episode |= {"scene_id": f"x/{house.scan}.glb", "start_position": here, "reference_path": [here, there]}
        episode["goals"] = [{"position": there, "radius": 3.0}]
    rows = [{"position": here, "heading": 0.0, "stop": True}]
    write("ce.json", {"5": rows, "6": rows})
    options["annotations"] = write("val.json.gz", top)
    found = scored(capsys, protocol="vlnce-r2r-v1-3", **options, houses="houses")
    assert 4.2 < found["metrics"]["ne"] < 8  # the wall between them is walked around, through its door
    assert found["protocol"]["distances"] == "houses"
