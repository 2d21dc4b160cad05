"""Files of navigation benchmarks: reading and writing undo each other, and broken files say where they are broken."""

from __future__ import annotations

import copy
import gzip
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import formats_fixtures as samples
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wayhand.datasets.formats import connectivity, habitat, jsonfile, r2r, reverie, rxr, soon, vlnce
from wayhand.datasets.formats.detect import detect
from wayhand.datasets.formats.fields import same
from wayhand.vla.errors import DataError

Load, Save = Callable[[Any], Any], Callable[[Any, Any], None]
CASES: dict[str, tuple[Load, Save, str, Any, str]] = {
    "r2r": (r2r.load, r2r.save, "a.json", samples.R2R, "r2r"),
    "r2r lines": (r2r.load, r2r.save, "a.jsonl", samples.R2R, "r2r"),
    "r2r results": (r2r.load_results, r2r.save_results, "a.json", samples.R2R_RESULTS, "r2r"),
    "rxr": (rxr.load, rxr.save, "a.jsonl", samples.RXR, "rxr"),
    "rxr results": (rxr.load_results, rxr.save_results, "a.jsonl", samples.RXR_RESULTS, "rxr"),
    "reverie": (reverie.load, reverie.save, "a.json", samples.REVERIE, "reverie"),
    "reverie results": (reverie.load_results, reverie.save_results, "a.json", samples.REVERIE_RESULTS, "reverie"),
    "soon": (soon.load, soon.save, "a.json", samples.SOON, "soon"),
    "soon results": (soon.load_results, soon.save_results, "a.json", samples.SOON_RESULTS, "soon"),
    "vlnce": (vlnce.load, vlnce.save, "a.json", samples.VLNCE, "vlnce"),
    "rxr-ce": (vlnce.load, vlnce.save, "a.json", samples.RXR_CE, "vlnce"),
    "vlnce gt": (vlnce.load_ground_truth, vlnce.save_ground_truth, "a_gt.json", samples.VLNCE_GT, "vlnce"),
    "vlnce results": (vlnce.load_results, vlnce.save_results, "a.json", samples.VLNCE_RESULTS, "vlnce"),
    "rxr-ce results": (vlnce.load_results, vlnce.save_results, "a.jsonl", samples.RXR_CE_RESULTS, "vlnce"),
    "pointnav": (habitat.load, habitat.save, "a.json", samples.POINTNAV, "habitat"),
}
every_format = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


@every_format
def test_a_file_that_is_loaded_and_saved_holds_the_same_json_in_the_same_order(case: Any, tmp_path: Path) -> None:
    load, save, name, content, _ = case
    first = load(samples.put(tmp_path / name, content))
    save(tmp_path / "again" / name, first)
    again = samples.got(tmp_path / "again" / name)
    assert same(json.loads(json.dumps(again)), json.loads(json.dumps(content)))
    assert load(tmp_path / "again" / name) == first


@every_format
def test_gzipped_files_are_read_by_their_suffix_and_written_as_the_same_bytes_each_time(
    case: Any, tmp_path: Path
) -> None:
    load, save, name, content, _ = case
    plain = load(samples.put(tmp_path / name, content))
    for folder in ("x", "y"):
        save(tmp_path / folder / f"{name}.gz", plain)
    assert (tmp_path / "x" / f"{name}.gz").read_bytes() == (tmp_path / "y" / f"{name}.gz").read_bytes()
    assert load(tmp_path / "x" / f"{name}.gz") == plain
    save(tmp_path / "z" / name, plain)
    assert gzip.decompress((tmp_path / "x" / f"{name}.gz").read_bytes()) == (tmp_path / "z" / name).read_bytes()


@every_format
def test_the_format_is_told_from_the_content(case: Any, tmp_path: Path) -> None:
    *_, name, content, module = case
    assert detect(samples.put(tmp_path / name, content)) == module


def test_the_format_of_something_else_is_an_error(tmp_path: Path) -> None:
    for content in ([], {}, [{"a": 1}], {"a": 1}, [1]):
        with pytest.raises(DataError, match=r"no format known here[\s\S]*expected: a file of connectivity"):
            detect(samples.put(tmp_path / "a.json", content))


def _mistakes(content: Any) -> Iterator[tuple[str, Any]]:
    """Copies of a file's content, each with one value of the wrong type, and the field that it is in."""
    roots = content["episodes"] if isinstance(content, dict) and "episodes" in content else content
    keys = roots.keys() if isinstance(roots, dict) else range(len(roots))
    for root in keys:
        top = roots[root]
        for field in top if isinstance(top, dict) else []:
            if field in _CHECKED:
                broken = copy.deepcopy(content)
                rows = broken["episodes"] if roots is not content else broken
                rows[root][field] = 0.5 if field == "info" or isinstance(top[field], dict) else {"not": "this"}
                yield field, broken


_CHECKED = {
    *("scan", "path_id", "path", "heading", "instructions", "distance", "instr_id", "trajectory", "instruction_id"),
    *("language", "instruction", "timed_instruction", "id", "objId", "predObjId", "pred_objid", "bboxes", "episode_id"),
    *("scene_id", "start_position", "start_rotation", "info", "goals", "reference_path", "locations", "forward_steps"),
    *("actions",),
}


@every_format
def test_a_field_of_the_wrong_type_is_named_with_its_file_and_place(case: Any, tmp_path: Path) -> None:
    load, _, name, content, _ = case
    for field, broken in _mistakes(content):
        path = samples.put(tmp_path / name, broken)
        with pytest.raises(DataError) as error:
            load(path)
        message = str(error.value)
        assert str(path) in message and f"'{field}" in message
        assert "expected: " in message and "got: " in message
        assert any(word in message for word in ("item ", "line ", "episode "))


def test_an_error_reads_well(tmp_path: Path) -> None:
    items = copy.deepcopy(samples.R2R)
    items[1]["heading"] = "1.8"
    path = samples.put(tmp_path / "R2R_train.json", items)
    with pytest.raises(DataError) as error:
        r2r.load(path)
    assert str(error.value) == (
        f"{path}, item 1: field 'heading' has the wrong type or form\n"
        "  expected: a finite number\n"
        "  got:      text: '1.8'"
    )
    del items[1]["heading"]
    with pytest.raises(DataError, match=r"item 1: field 'heading' is missing[\s\S]*exists:   path_id, scan"):
        r2r.load(samples.put(path, items))
    lines = [*samples.RXR[:1], samples.RXR[1] | {"timed_instruction": [{"word": 3}]}]
    with pytest.raises(DataError, match=r"line 2: field 'timed_instruction\[0\].word'[\s\S]*expected: text"):
        rxr.load(samples.put(tmp_path / "a.jsonl", lines))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[{"a": 1,\n "b" 2}]', "got:      Expecting ':' delimiter at line 2, column 6"),
        ('[{"scan": 1, "scan": 2}]', "key twice[\\s\\S]*'scan'"),
        ("[1, 2", "is not JSON"),
        ("[1]", "item 0 has the wrong type\n  expected: an object\n  got:      an integer: 1"),
        ("[" * 100_000, "nested too deeply"),
        ("[" + "9" * 5000 + "]", "cannot be read"),
        (b"[\xff]", "is not UTF-8[\\s\\S]*offset 1"),
        (None, "There is no file"),
    ],
)
def test_a_file_that_is_no_json_says_where(text: str | bytes | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DataError, match=message):
        r2r.load(path)


@pytest.mark.parametrize("case", [c for c in CASES.values() if c[0] in (r2r.load, reverie.load, rxr.load, soon.load)])
def test_an_id_that_stands_twice_is_named_with_both_places(case: Any, tmp_path: Path) -> None:
    load, _, name, content, _ = case
    with pytest.raises(DataError, match=r"was used before[\s\S]*each once[\s\S]*also in .*(item 0|line 1)"):
        load(samples.put(tmp_path / name, [*content, content[0]]))


def test_damaged_and_swelling_archives_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = gzip.compress(json.dumps(samples.R2R).encode())
    path = tmp_path / "a.json.gz"
    for data in (whole[:-12], whole[:30] + b"xx" + whole[32:], b"no gzip"):
        path.write_bytes(data)
        with pytest.raises(DataError, match="cannot be unpacked[\\s\\S]*a whole gzip file"):
            r2r.load(path)
    monkeypatch.setattr(jsonfile, "FREE_BYTES", 1 << 10)
    path.write_bytes(gzip.compress(b"[" + b" " * 1_000_000 + b"]"))
    with pytest.raises(DataError, match="unpacks to far more"):
        r2r.load(path)


@every_format
def test_what_cannot_be_written_leaves_the_old_file_as_it_was(case: Any, tmp_path: Path) -> None:
    load, save, name, content, _ = case
    values = load(samples.put(tmp_path / name, content))
    before = (tmp_path / name).read_bytes()
    rows = dict(values) if isinstance(values, dict) else list(values)
    key = next(iter(rows)) if isinstance(rows, dict) else 0
    rows[key] = _with_extra(rows[key], {"bad": {1, 2}})
    with pytest.raises(DataError):
        save(tmp_path / name, rows)
    assert (tmp_path / name).read_bytes() == before and [p.name for p in tmp_path.iterdir()] == [name]


def _with_extra(value: Any, more: dict[str, Any]) -> Any:
    from dataclasses import replace

    return replace(value, extra={**value.extra, **more})


numbers = st.one_of(st.integers(-(10**6), 10**6), st.floats(allow_nan=False, allow_infinity=False))
points = st.lists(numbers, min_size=3, max_size=3)
names = st.text(min_size=1, max_size=8)
anything = st.recursive(
    st.none() | st.booleans() | numbers | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=6,
)


@st.composite
def continuous_items(draw: st.DrawFn) -> dict[str, Any]:
    rotation = draw(st.lists(st.floats(-1, 1), min_size=4, max_size=4).filter(any))
    item = samples.vlnce_episode(draw(st.integers(0, 99)), start_position=draw(points), start_rotation=rotation)
    item["goals"] = draw(st.lists(st.fixed_dictionaries({"position": points, "radius": numbers}), max_size=2))
    item["reference_path"] = draw(st.lists(points, max_size=3))
    item["info"] = {"geodesic_distance": draw(numbers)} | draw(st.dictionaries(names, anything, max_size=1))
    for name, value in draw(st.dictionaries(names.filter(lambda n: n not in item), anything, max_size=2)).items():
        item[name] = value
    keys = draw(st.permutations(list(item)))
    return {k: item[k] for k in keys}


@given(continuous_items())
def test_any_continuous_episode_survives(tmp_path_factory: pytest.TempPathFactory, item: dict[str, Any]) -> None:
    folder = tmp_path_factory.mktemp("vlnce")
    loaded = vlnce.load(samples.put(folder / "a.json", {"episodes": [item], "x": 1}))
    vlnce.save(folder / "b.json", loaded)
    assert same(samples.got(folder / "b.json"), {"episodes": [item], "x": 1})
    assert vlnce.load(folder / "b.json") == loaded


@given(
    st.fixed_dictionaries(
        {
            "scan": names,
            "path_id": st.integers() | names,
            "heading": numbers,
            "instructions": st.lists(st.text(), max_size=5),
        },
        optional={"path": st.lists(names), "distance": numbers | st.none(), "other": anything},
    )
)
def test_any_discrete_episode_survives(tmp_path_factory: pytest.TempPathFactory, item: dict[str, Any]) -> None:
    folder = tmp_path_factory.mktemp("r2r")
    loaded = r2r.load(samples.put(folder / "a.json", [item]))
    r2r.save(folder / "b.json", loaded)
    assert same(samples.got(folder / "b.json"), json.loads(json.dumps([item])))


def test_a_graph_survives_as_folder_file_and_archive(tmp_path: Path) -> None:
    import tarfile

    rows = samples.connectivity()
    rows[1] = {"note": "x"} | dict(reversed(rows[1].items()))
    folder = tmp_path / "connectivity"
    samples.put(folder / "s_connectivity.json", rows)
    graph = connectivity.load(folder)["s"]
    assert graph.neighbours(samples.A) == (samples.B,) and graph.distance(samples.A, samples.B) == 2.5
    connectivity.save(tmp_path / "again", {"s": graph})
    again = samples.got(tmp_path / "again" / "s_connectivity.json")
    assert again == rows and [list(row) for row in again] == [list(row) for row in rows]
    assert (tmp_path / "again" / "scans.txt").read_text() == "s\n"
    with tarfile.open(tmp_path / "graphs.tar.gz", "w:gz") as archive:
        archive.add(folder, "connectivity")
    for path in (folder / "s_connectivity.json", tmp_path / "graphs.tar.gz", tmp_path / "again"):
        (other,) = connectivity.load(path).values()
        assert connectivity.to_json(other) == connectivity.to_json(graph) and detect(path) == "connectivity"


def test_broken_graphs_name_the_field(tmp_path: Path) -> None:
    path = tmp_path / "s_connectivity.json"
    wrong = {
        "pose": [1] * 15,
        "included": 1,
        "visible": [True],
        "unobstructed": [1, 0, 1],
        "height": "1.5",
        "image_id": 7,
    }
    for field, value in wrong.items():
        rows = samples.connectivity()
        rows[2][field] = value
        with pytest.raises(DataError, match=rf"s_connectivity.json, item 2: field '{field}'[\s\S]*expected"):
            connectivity.load(samples.put(path, rows))
    rows = samples.connectivity()
    rows[0]["unobstructed"] = [False] * 3
    with pytest.raises(DataError, match="s_connectivity.json: .* is not symmetric"):
        connectivity.load(samples.put(path, rows))
    samples.put(path, samples.connectivity())
    (tmp_path / "scans.txt").write_text("s\nt\n")
    with pytest.raises(DataError, match=r"scans.txt names a scan without a graph[\s\S]*t_connectivity.json"):
        connectivity.load(tmp_path)
