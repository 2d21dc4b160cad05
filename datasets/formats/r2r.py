"""Room-to-Room: `R2R_{split}.json`, and the trajectories agents hand in (Anderson et al. 2018).

Layout, a JSON list with one object a path (so are R4R's and augmentation files; one object a line is read too):

    distance: float [m]       scan: str                 path_id: int
    path: [viewpoint]         heading: float [rad]      instructions: [str, str, str]

Results, a JSON list: `{instr_id: "<path_id>_<i>", trajectory: [[viewpoint, heading, elevation], …]}`. Lists of hops
(`trajectory: [[viewpoint, …], …]`, as DUET predicts them) and plain viewpoints are read too, and written back as such.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...vla.errors import DataError
from ...vla.navigation import Instruction, NavEpisode, NavResult
from .fields import Fields, as_number, distinct, kept, remember, restore, unknown, with_extra, wrong
from .jsonfile import read_items, write_items
from .numbering import is_integer

# The original evaluator looks for the results "<path_id>_0" to "<path_id>_2" of every path.
INSTRUCTIONS = 3
FORM = "r2r"
_KNOWN = ("distance", "scan", "path_id", "path", "heading", "instructions")


def load(path: Path | str) -> list[NavEpisode]:
    """The episodes of a file, one a path; instruction i of path p has the id "p_i".

    Raises:
        DataError: with file, item (or line), field and expected type of the first mistake.
    """
    items = read_items(path)
    episodes: list[NavEpisode] = []
    for place, item in items:
        episode = _decode(Fields(item, place))
        odd = () if len(episode.instructions) == INSTRUCTIONS else ("instructions",)
        episodes.append(with_extra(episode, remember(FORM, item, _encode(episode), keep=odd)))
    distinct([e.id for e in episodes], [place for place, _ in items], "path_id")
    return episodes


def numbered(episodes: Sequence[NavEpisode]) -> list[NavEpisode]:
    """The same paths with ids from 1, and instruction i of path p as "p_i"; themselves where ids are integers.

    The original evaluator reads no other ids. What they were stays in `extra["source_id"]`.
    """
    if all(is_integer(e.id) for e in episodes):
        return list(episodes)
    made: list[NavEpisode] = []
    for n, episode in enumerate(episodes, 1):
        told = tuple(replace(told, id=f"{n}_{i}") for i, told in enumerate(episode.instructions))
        made.append(replace(episode, id=str(n), instructions=told, extra={**episode.extra, "source_id": episode.id}))
    return made


def save(path: Path | str, episodes: Iterable[NavEpisode]) -> None:
    """Write episodes; those that `load` gave come out as they were. For the original evaluator, see `numbered`.

    Raises:
        DataError: an episode has not three instructions and did not come from a file that had so many.
    """
    items: list[dict[str, Any]] = []
    for episode in episodes:
        item = restore(FORM, episode, _encode, lambda item: _decode(Fields(item, "")))
        before = kept(FORM, episode.extra, "instructions") or ()
        if len(item["instructions"]) not in (INSTRUCTIONS, len(before)):
            raise DataError(
                f"Path '{episode.id}' cannot be written as R2R",
                expected=f"{INSTRUCTIONS} instructions: the original evaluator asks for so many",
                got=str(len(item["instructions"])),
            )
        items.append(item)
    distinct([str(i["path_id"]) for i in items], [f"{path}, item {n}" for n in range(len(items))], "path_id")
    write_items(path, items)


def _decode(item: Fields) -> NavEpisode:
    path_id = item.id("path_id")
    return NavEpisode(
        id=path_id,
        scan=item.text("scan"),
        instructions=tuple(Instruction(f"{path_id}_{i}", text) for i, text in enumerate(item.texts("instructions"))),
        path=item.texts("path") if "path" in item.value else (),
        heading=item.number("heading"),
        distance=item.number("distance", finite=False) if item.has("distance") else None,
        extra=item.rest(_KNOWN),
    )


def _encode(episode: NavEpisode) -> dict[str, Any]:
    item: dict[str, Any] = {} if episode.distance is None else {"distance": episode.distance}
    item |= {"scan": episode.scan, "path_id": as_number(episode.id), "path": list(episode.path)}
    item |= {"heading": episode.heading, "instructions": [i.text for i in episode.instructions]}
    return item | unknown(episode.extra)


def load_results(path: Path | str) -> list[NavResult]:
    """The trajectories of a result file, one an instruction; raises `DataError` as `load` does.

    An `instr_id` that stands twice stays twice: which of them counts is the protocol's to say.
    """
    return [load_result(item, place) for place, item in read_items(path)]


def load_result(item: Any, place: str) -> NavResult:
    """One object of a result file."""
    result = _decode_result(Fields(item, place))
    return with_extra(result, remember(FORM, item, _encode_result(result)))


def save_results(path: Path | str, results: Iterable[NavResult]) -> None:
    """Write trajectories. One without headings is written with zeros, which no evaluator of paths reads."""
    write_items(path, [save_result(result) for result in results])


def save_result(result: NavResult) -> dict[str, Any]:
    """One object of a result file."""
    return restore(FORM, result, _encode_result, lambda item: _decode_result(Fields(item, "")))


def _decode_result(item: Fields) -> NavResult:
    path, headings, elevations = steps(item, "trajectory")
    return NavResult(item.id("instr_id"), path, headings, elevations, extra=item.rest(("instr_id", "trajectory")))


def _encode_result(result: NavResult) -> dict[str, Any]:
    return {"instr_id": result.id, "trajectory": to_steps(result)} | unknown(result.extra)


def steps(item: Fields, name: str) -> tuple[tuple[str, ...], tuple[float, ...], tuple[float, ...]]:
    """Viewpoints, headings and elevations of a trajectory field in any of its forms; the latter two may be empty."""
    path: list[str] = []
    views: list[tuple[float, float]] = []
    for i, step in enumerate(item.list(name)):
        if type(step) is str:
            path.append(step)
        elif type(step) is list and len(step) == 3 and type(step[0]) is str and all(map(_is_angle, step[1:])):
            path.append(step[0])
            views.append((step[1], step[2]))
        elif type(step) is list and all(type(v) is str for v in step):
            path += step
        else:
            expected = "[viewpoint, heading, elevation], a viewpoint, or a list of viewpoints"
            raise wrong(item.place, f"{item.path}{name}[{i}]", expected, step)
    if len(views) not in (0, len(path)):
        raise item.wrong(name, "headings for all viewpoints or for none")
    return tuple(path), tuple(h for h, _ in views), tuple(e for _, e in views)


def _is_angle(value: Any) -> bool:
    return type(value) is float or type(value) is int


def to_steps(result: NavResult) -> list[list[Any]]:
    """The trajectory as [viewpoint, heading, elevation]; angles the result does not have are zeros."""
    none = (0.0,) * len(result.path)
    return [list(s) for s in zip(result.path, result.headings or none, result.elevations or none, strict=True)]
