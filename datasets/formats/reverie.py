"""REVERIE: `REVERIE_{split}.json`, the objects of `BBox/`, and submissions (Qi et al. 2020).

Layout, a JSON list with one object a target (fields and their order differ between its two releases):

    id: "<path_id>_<objId>", path_id: int, objId: int, scan, path: [viewpoint], heading: float [rad],
    instructions: [str, …], distance: float [m]?, ix: int?, instructions_l: [str, …]?

    BBox/<scan>_<viewpoint>.json: {viewpoint: {objId: {name, visible_pos: [0-35, …], bbox2d: [[x, y, w, h], …]}}}

Submissions are R2R's with `predObjId`, the object pointed at (DUET writes `pred_objid`; both are read, and kept).
Test splits tell neither the object nor more than the start of a path.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...vla.errors import DataError
from ...vla.navigation import Goal, Instruction, NavEpisode, NavResult
from .fields import (
    WRITTEN,
    Fields,
    as_number,
    decoded,
    distinct,
    is_numbers,
    remember,
    restore,
    unknown,
    with_extra,
    without,
)
from .jsonfile import read, read_items, write, write_items
from .r2r import steps, to_steps

FORM = "reverie"
_KNOWN = ("id", "path", "objId", "instructions", "heading", "scan", "distance")
_POINTED = ("predObjId", "pred_objid")


def load(path: Path | str) -> list[NavEpisode]:
    """The episodes of a file, one a target; instruction i of target t has the id "t_i", the goal has the object's id.

    Raises:
        DataError: with file, item, field and expected type of the first mistake.
    """
    rows = read_items(path)
    episodes = decoded(FORM, rows, _decode, _encode)
    distinct([e.id for e in episodes], [place for place, _ in rows], "id")
    return episodes


def save(path: Path | str, episodes: Iterable[NavEpisode]) -> None:
    """Write episodes; those that `load` gave come out as they were.

    Raises:
        DataError: an id is not "<path_id>_<objId>", which the original evaluator takes it apart for.
    """
    items = [restore(FORM, e, _encode, lambda item: _decode(Fields(item, ""))) for e in episodes]
    distinct([str(i["id"]) for i in items], [f"{path}, item {n}" for n in range(len(items))], "id")
    write_items(path, items)


def _decode(item: Fields) -> NavEpisode:
    name = item.id("id")
    if item.has("path_id"):
        item.id("path_id")
    return NavEpisode(
        id=name,
        scan=item.text("scan"),
        instructions=tuple(Instruction(f"{name}_{i}", text) for i, text in enumerate(item.texts("instructions"))),
        path=item.texts("path") if "path" in item.value else (),
        heading=item.number("heading"),
        goals=(Goal(object_id=item.id("objId")),) if item.has("objId") else (),
        distance=item.number("distance", finite=False) if item.has("distance") else None,
        extra=item.rest(_KNOWN),
    )


def _encode(episode: NavEpisode) -> dict[str, Any]:
    target = _target(episode)
    name = episode.id
    if target is not None:
        name = name if "_" in name else f"{name}_{target}"
        if name.count("_") != 1 or name.split("_")[1] != target:
            raise DataError(
                f"Episode '{episode.id}' cannot be written as REVERIE", expected=f"an id '<path_id>_{target}'", got=name
            )
    item: dict[str, Any] = {"id": name, "path": list(episode.path)}
    if target is not None:
        item["objId"] = as_number(target)
    item |= {"instructions": [i.text for i in episode.instructions], "heading": episode.heading, "scan": episode.scan}
    extra = unknown(episode.extra)
    item["path_id"] = extra.pop("path_id", as_number(name.split("_")[0]))
    if episode.distance is not None:
        item["distance"] = episode.distance
    return item | extra


def _target(episode: NavEpisode) -> str | None:
    """The id of the object that is meant; None in test splits."""
    named = {goal.object_id for goal in episode.goals}
    if len(named) > 1 or None in named:
        raise DataError(
            f"Episode '{episode.id}' cannot be written as REVERIE",
            expected="goals that name one object",
            got=", ".join(sorted(str(n) for n in named)),
        )
    return named.pop() if named else None


def load_results(path: Path | str) -> list[NavResult]:
    """The trajectories of a submission with the objects pointed at; raises `DataError` as `load` does."""
    return decoded(FORM, read_items(path), _decode_result, _encode_result)


def save_results(path: Path | str, results: Iterable[NavResult]) -> None:
    """Write trajectories, with `predObjId` where they have an object; angles they do not have are zeros."""
    write_items(
        path, [restore(FORM, r, _encode_result, lambda item: _decode_result(Fields(item, ""))) for r in results]
    )


def _decode_result(item: Fields) -> NavResult:
    path, headings, elevations = steps(item, "trajectory")
    pointed = [item.id(name) for name in _POINTED if item.has(name)]
    if len(set(pointed)) > 1:
        raise item.wrong(_POINTED[1], f"the object of '{_POINTED[0]}'")
    return NavResult(
        item.id("instr_id"),
        path,
        headings,
        elevations,
        object_id=pointed[0] if pointed else None,
        extra=item.rest(("instr_id", "trajectory", *_POINTED)),
    )


def _encode_result(result: NavResult) -> dict[str, Any]:
    item: dict[str, Any] = {"instr_id": result.id, "trajectory": to_steps(result)}
    if result.object_id is not None:
        item["predObjId"] = as_number(result.object_id)
    return item | unknown(result.extra)


@dataclass(frozen=True)
class SeenObject:
    """An object as a viewpoint sees it.

    Args:
        name: what it is.
        views: the views, 0 to 35, that see it; the evaluator counts it as visible where there is one.
        boxes: in each of them, [x y w h] in pixels of a 640 × 480 view.
        extra: further fields of its file, kept as they came.
    """

    name: str
    views: tuple[int, ...]
    boxes: tuple[tuple[float, ...], ...]
    extra: Mapping[str, Any] = field(default_factory=dict)


def load_objects(folder: Path | str) -> dict[str, dict[str, dict[str, SeenObject]]]:
    """The objects of a BBox folder: scan → viewpoint → object id → how it is seen; raises `DataError` as `load`."""
    made: dict[str, dict[str, dict[str, SeenObject]]] = {}
    files = sorted(Path(folder).glob("*.json"))
    if not files:
        raise DataError(f"{folder} holds no objects", expected="files named <scan>_<viewpoint>.json")
    for file in files:
        scan, _, named = file.stem.partition("_")
        top = Fields(read(file), str(file))
        if list(top.value) != [named]:
            raise top.wrong(named, "the viewpoint of the file's name, alone")
        objects = top.object(named)
        made.setdefault(scan, {})[named] = {name: _decode_object(objects.object(name)) for name in objects.value}
    return made


def _decode_object(item: Fields) -> SeenObject:
    boxes = item.list("bbox2d")
    if not all(is_numbers(box, 4) for box in boxes):
        raise item.wrong("bbox2d", "a list of [x, y, w, h]")
    known = ("name", "visible_pos", "bbox2d")
    seen = SeenObject(
        item.text("name"), item.integers("visible_pos"), tuple(tuple(box) for box in boxes), item.rest(known)
    )
    return with_extra(seen, remember(FORM, item.value, _encode_object(seen)))


def _encode_object(seen: SeenObject) -> dict[str, Any]:
    boxes = [list(box) for box in seen.boxes]
    return {"name": seen.name, "visible_pos": list(seen.views), "bbox2d": boxes} | unknown(seen.extra)


def save_objects(folder: Path | str, objects: Mapping[str, Mapping[str, Mapping[str, SeenObject]]]) -> None:
    """Write a BBox folder."""
    for scan, viewpoints in objects.items():
        for viewpoint, seen in viewpoints.items():
            row = {name: restore(FORM, one, _encode_object, _plain_object) for name, one in seen.items()}
            write(Path(folder) / f"{scan}_{viewpoint}.json", {viewpoint: row})


def _plain_object(item: dict[str, Any]) -> SeenObject:
    return without(_decode_object(Fields(item, "")), WRITTEN)


def visible_from(
    objects: Mapping[str, Mapping[str, Mapping[str, SeenObject]]],
) -> dict[tuple[str, str], tuple[str, ...]]:
    """(scan, object id) → the viewpoints that see the object, in order."""
    made: dict[tuple[str, str], tuple[str, ...]] = {}
    for scan, viewpoints in objects.items():
        for viewpoint, seen in viewpoints.items():
            for name, one in seen.items():
                if one.views:
                    made[scan, name] = (*made.get((scan, name), ()), viewpoint)
    return made
