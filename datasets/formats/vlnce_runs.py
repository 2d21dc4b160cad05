"""What was walked in VLN-CE: ground truth that a follower made, and submissions of agents.

    {split}_gt.json[.gz]   {"<episode_id>": {locations: [[x, y, z]], forward_steps: int, actions: [1|2|3, …, 0]}}
    R2R-CE submission      {"<episode_id>": [{position: [x, y, z], heading: float, stop: bool}, …]}, one JSON object
    RxR-CE submission      {instruction_id: int, path: [[x, y, z], …]}, one JSON object a line

Files have Habitat's axes (y up) and headings that grow to the left; everything here is z up and clockwise.
Actions: 0 stop, 1 forward, 2 left, 3 right (RxR-CE: 4 look up, 5 look down).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...vla.errors import DataError
from ...vla.navigation import NavResult
from .fields import (
    WRITTEN,
    Fields,
    Vector,
    as_number,
    distinct,
    remember,
    restore,
    to_habitat,
    unknown,
    with_extra,
    without,
    wrong,
)
from .jsonfile import dumps, is_lines, parse, read_bytes, write, write_bytes

_ONE_LINE = re.compile(rb'\s*\{\s*"(instruction_id|path)"\s*:')
FORM = "vlnce"
_STEP = ("position", "heading", "stop")


@dataclass(frozen=True)
class GroundTruth:
    """A reference run of one episode.

    Args:
        locations: floor points, one before each forward move and the last [m], z up.
        forward_steps: how many forward moves there were.
        actions: all moves in order, a 0 at the end.
        extra: further fields of its file, kept as they came.
    """

    locations: tuple[Vector, ...]
    forward_steps: int
    actions: tuple[int, ...]
    extra: Mapping[str, Any] = field(default_factory=dict)


def ground_truth_path(path: Path | str) -> Path:
    """Where the ground truth of an episode file lies: `val_gt.json.gz` beside `val.json.gz`."""
    path = Path(path)
    stem, dot, rest = path.name.partition(".")
    return path.with_name(f"{stem}_gt{dot}{rest}")


def load_ground_truth(path: Path | str) -> dict[str, GroundTruth]:
    """The reference runs of a file by episode id; raises `DataError` that names file, episode, field and type."""
    top = Fields(parse(read_bytes(path), str(path)), str(path))
    made: dict[str, GroundTruth] = {}
    for name, row in top.value.items():
        truth = _decode_truth(Fields(row, f"{path}, episode '{name}'"))
        made[name] = with_extra(truth, remember(FORM, row, _encode_truth(truth)))
    return made


def save_ground_truth(path: Path | str, truths: Mapping[str, GroundTruth]) -> None:
    """Write reference runs by episode id."""
    made = {k: restore(FORM, t, _encode_truth, lambda item: _decode_truth(Fields(item, ""))) for k, t in truths.items()}
    write(path, made)


def _decode_truth(item: Fields) -> GroundTruth:
    known = ("locations", "forward_steps", "actions")
    return GroundTruth(
        item.points("locations"), item.integer("forward_steps"), item.integers("actions"), item.rest(known)
    )


def _encode_truth(truth: GroundTruth) -> dict[str, Any]:
    item = {"locations": [to_habitat(p) for p in truth.locations], "forward_steps": truth.forward_steps}
    return item | {"actions": list(truth.actions)} | unknown(truth.extra)


def load_results(path: Path | str) -> list[NavResult]:
    """The runs of a submission, of R2R-CE or of RxR-CE.

    Fields that each step of an R2R-CE run has beyond those of the format become columns in the result's `extra`.

    Raises:
        DataError: with file, episode or line, field and expected type of the first mistake.
    """
    data = read_bytes(path)
    if is_lines(path) or _ONE_LINE.match(data):
        lines = [(n, line) for n, line in enumerate(data.split(b"\n"), 1) if line.strip()]
        rows = [(f"{path}, line {n}", parse(line, f"{path}, line {n}")) for n, line in lines]
        return [_kept(_decode_path(Fields(row, place)), row) for place, row in rows]
    top = Fields(parse(data, str(path)), str(path))
    return [_decode_run(Fields({name: row}, str(path)), name) for name, row in top.value.items()]


def _kept(result: NavResult, row: dict[str, Any]) -> NavResult:
    return with_extra(result, remember(FORM, row, _encode_path(result)))


def save_results(path: Path | str, results: Iterable[NavResult]) -> None:
    """Write runs: as RxR-CE's lines where the name ends in `.jsonl`, else as R2R-CE's object.

    R2R-CE's needs a heading for each position; positions that repeat the one before are left out of RxR-CE's.
    """
    results = list(results)
    if is_lines(path):
        items = [restore(FORM, r, _encode_path, lambda item: _decode_path(Fields(item, ""))) for r in results]
        write_bytes(path, "".join(f"{dumps(item)}\n" for item in items).encode())
        return
    distinct([r.id for r in results], [f"{path}, result {i}" for i in range(len(results))], "episode id")
    write(path, {r.id: _encode_run(r) for r in results})


def _decode_path(item: Fields) -> NavResult:
    return NavResult(
        item.id("instruction_id"), positions=item.points("path"), extra=item.rest(("instruction_id", "path"))
    )


def _encode_path(result: NavResult) -> dict[str, Any]:
    # The original rule: a position counts once however long the agent stands there.
    moved = [p for i, p in enumerate(result.positions) if i == 0 or p != result.positions[i - 1]]
    return {"instruction_id": as_number(result.id), "path": [to_habitat(p) for p in moved]} | unknown(result.extra)


def _decode_run(item: Fields, name: str) -> NavResult:
    steps = item.objects(name)
    stops = [step.boolean("stop") for step in steps]
    columns = [k for k in (steps[0].value if steps else ()) if k not in _STEP]
    for step in steps:
        if set(step.rest(_STEP)) != set(columns):
            raise wrong(step.place, step.path.rstrip("."), f"the fields {', '.join([*_STEP, *columns])}", step.value)
    extra: dict[str, Any] = {k: [step.value[k] for step in steps] for k in columns}
    result = NavResult(
        name,
        positions=tuple(step.point("position") for step in steps),
        headings=tuple(-step.number("heading") for step in steps),
        stopped=any(stops),
        extra=extra,
    )
    rows = item.value[name]
    return with_extra(result, remember(FORM, {"rows": rows}, {"rows": _rows(result)}))


def _encode_run(result: NavResult) -> list[dict[str, Any]]:
    def encode(result: NavResult) -> dict[str, Any]:
        return {"rows": _rows(result)}

    def decode(item: dict[str, Any]) -> NavResult:
        return without(_decode_run(Fields({result.id: item["rows"]}, ""), result.id), WRITTEN)

    return restore(FORM, result, encode, decode)["rows"]


def _rows(result: NavResult) -> list[dict[str, Any]]:
    columns = unknown(result.extra)
    counts = {name: len(c) if isinstance(c, list | tuple) else 0 for name, c in columns.items()}
    counts |= {"headings": len(result.headings)}
    for name, count in counts.items():
        if count != len(result.positions):
            raise DataError(
                f"The run of episode '{result.id}' cannot be written as R2R-CE",
                expected=f"{len(result.positions)} {name}, one for each position",
                got=str(count),
            )
    last = len(result.positions) - 1
    rows: list[dict[str, Any]] = []
    for i, (point, heading) in enumerate(zip(result.positions, result.headings, strict=True)):
        row = {"position": to_habitat(point), "heading": -heading, "stop": bool(result.stopped) and i == last}
        rows.append(row | {k: v[i] for k, v in columns.items()})
    return rows
