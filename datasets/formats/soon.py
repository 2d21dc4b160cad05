"""SOON: scenario-oriented object navigation, annotations and predictions (Zhu et al. 2021).

Layout, a JSON list or one object a line (DUET's files):

    path_id | instr_id, scan, path: [viewpoint] or several such paths to one target, heading: float [rad]?
    instructions: [[object, attribute, relation, region, whole text], …] or [{full: whole text, …}, …]
    bboxes: [{image_id: viewpoint, obj_name, heading, elevation, target: {left_top | right_top | right_bottom |
             left_bottom: {heading, elevation}}, …}]

Predictions: `{instr_id, trajectory: {path: [[viewpoint, heading, elevation], …], obj_heading: [float],
obj_elevation: [float]}}`; paths as lists of hops are read too. Angles are radians.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ...vla.errors import DataError
from ...vla.navigation import Goal, Instruction, NavEpisode, NavResult
from .fields import Fields, as_number, decoded, distinct, restore, unknown, wrong
from .jsonfile import read_items, write_items
from .r2r import steps, to_steps

FORM = "soon"
PARTS = 4
_KNOWN = ("path_id", "instr_id", "scan", "path", "heading", "instructions", "bboxes")


def load(path: Path | str) -> list[NavEpisode]:
    """The episodes of a file; each box is a goal with its viewpoint, category and, in `extra`, its angles.

    Where there are several paths, `path` is the first and `extra["paths"]` has them all.

    Raises:
        DataError: with file, item (or line), field and expected type of the first mistake.
    """
    rows = read_items(path)
    episodes = decoded(FORM, rows, _decode, _encode)
    # Items of test splits stand once for each start, with the same instr_id.
    once = [i for i, (_, row) in enumerate(rows) if "path_id" in row]
    distinct([episodes[i].id for i in once], [rows[i][0] for i in once], "path_id")
    return episodes


def save(path: Path | str, episodes: Iterable[NavEpisode]) -> None:
    """Write episodes; those that `load` gave come out as they were. Parts of an instruction not known are empty."""
    items = [restore(FORM, e, _encode, lambda item: _decode(Fields(item, ""))) for e in episodes]
    write_items(path, items)


def _decode(item: Fields) -> NavEpisode:
    name = item.id("path_id" if "path_id" in item.value else "instr_id")
    boxes = item.objects("bboxes") if item.has("bboxes") else []
    extra = item.rest(_KNOWN)
    paths = item.list("path") if item.has("path") else []
    if paths and all(type(p) is list for p in paths):
        if not all(type(v) is str for p in paths for v in p):
            raise item.wrong("path", "a list of viewpoints, or a list of such lists")
        extra["paths"] = paths
        first = tuple(paths[0])
    else:
        first = item.texts("path") if paths else ()
    told = item.list("instructions")
    return NavEpisode(
        id=name,
        scan=item.text("scan") if "scan" in item.value or not boxes else boxes[0].text("scan"),
        instructions=tuple(
            _decode_instruction(one, f"{name}_{i}", f"{item.path}instructions[{i}]", item) for i, one in enumerate(told)
        ),
        path=first,
        heading=item.number("heading") if item.has("heading") else 0.0,
        goals=tuple(_decode_box(box) for box in boxes),
        extra=extra,
    )


def _decode_instruction(value: Any, name: str, where: str, item: Fields) -> Instruction:
    if type(value) is list and len(value) == PARTS + 1 and all(type(v) is str for v in value):
        return Instruction(name, value[PARTS], extra={"parts": value[:PARTS]})
    if type(value) is dict and type(value.get("full")) is str:
        return Instruction(name, value["full"], extra={"fields": {k: v for k, v in value.items() if k != "full"}})
    if type(value) is str:
        return Instruction(name, value)
    raise wrong(item.place, where, f"a list of {PARTS + 1} texts, an object with 'full', or text", value)


def _decode_box(box: Fields) -> Goal:
    return Goal(
        category=box.text("obj_name") if box.has("obj_name") else None,
        viewpoint_ids=(box.text("image_id"),),
        extra=box.rest(("image_id", "obj_name")),
    )


def _encode(episode: NavEpisode) -> dict[str, Any]:
    extra = unknown(episode.extra)
    paths = extra.pop("paths", None)
    several = paths is not None and tuple(paths[0]) == episode.path
    item: dict[str, Any] = {"path_id": as_number(episode.id), "scan": episode.scan}
    item |= {"path": paths if several else list(episode.path), "heading": episode.heading}
    item["instructions"] = [_encode_instruction(i, episode) for i in episode.instructions]
    item["bboxes"] = [_encode_box(goal, episode) for goal in episode.goals]
    return item | extra


def _encode_instruction(instruction: Instruction, episode: NavEpisode) -> Any:
    if "fields" in instruction.extra:
        return {**instruction.extra["fields"], "full": instruction.text}
    category = next((g.category for g in episode.goals if g.category), "")
    return [*instruction.extra.get("parts", [category, "", "", ""]), instruction.text]


def _encode_box(goal: Goal, episode: NavEpisode) -> dict[str, Any]:
    if len(goal.viewpoint_ids) != 1:
        raise DataError(
            f"Episode '{episode.id}' cannot be written as SOON",
            expected="goals with one viewpoint each",
            got=f"{len(goal.viewpoint_ids)} viewpoints",
        )
    item: dict[str, Any] = {"image_id": goal.viewpoint_ids[0]}
    return item | ({"obj_name": goal.category} if goal.category is not None else {}) | unknown(goal.extra)


def load_results(path: Path | str) -> list[NavResult]:
    """The predictions of a file; `extra["obj_heading"]` and `["obj_elevation"]` say where each sees its object.

    Raises:
        DataError: as `load` does.
    """
    return decoded(FORM, read_items(path), _decode_result, _encode_result)


def save_results(path: Path | str, results: Iterable[NavResult]) -> None:
    """Write predictions; angles of the path that are not known are zeros."""
    write_items(
        path, [restore(FORM, r, _encode_result, lambda item: _decode_result(Fields(item, ""))) for r in results]
    )


def _decode_result(item: Fields) -> NavResult:
    trajectory = item.object("trajectory")
    path, headings, elevations = steps(trajectory, "path")
    extra = item.rest(("instr_id", "trajectory")) | trajectory.rest(("path",))
    return NavResult(item.id("instr_id"), path, headings, elevations, extra=extra)


def _encode_result(result: NavResult) -> dict[str, Any]:
    extra = unknown(result.extra)
    inside = {k: extra.pop(k) for k in list(extra) if k.startswith("obj_")}
    return {"instr_id": result.id, "trajectory": {"path": to_steps(result), **inside}} | extra
