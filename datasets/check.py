"""Is every byte of a dataset what was written, and which episodes suffer where one is not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..vla.errors import CorruptDataError, DataError
from .codecs import flipped_bit
from .files import LOCK, STAGING, read_inside
from .layout import GROUPS, RECORD, dumps, first_difference, group, meta_group
from .shards import Column, Shard
from .store import Dataset


@dataclass(frozen=True)
class Problem:
    """Damage: what, in which file, at which byte, and the episodes it touches (None: all of them).

    `bit` is set where a single flipped bit explains the damage: bit `bit` (0 the lowest) of the byte at `offset`.
    """

    file: str
    offset: int
    what: str
    episodes: tuple[int, ...] | None = None
    bit: int | None = None

    def __str__(self) -> str:
        if self.episodes is None:
            whom = "all episodes"
        else:
            shown = ", ".join(map(str, self.episodes[:8])) + (" …" if len(self.episodes) > 8 else "")
            whom = f"episode{'s' * (len(self.episodes) != 1)} {shown or '(none)'}"
        return f"{self.file}, offset {self.offset}: {self.what}; touches {whom}"


@dataclass
class Report:
    """Problems are damage to what was committed; leftovers are what interrupted writes left, which nothing reads."""

    episodes: int = 0
    frames: int = 0
    problems: list[Problem] = field(default_factory=list)
    leftovers: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.problems

    @property
    def damaged(self) -> set[int]:
        """Episodes that cannot be read as they were written."""
        if any(p.episodes is None for p in self.problems):
            return set(range(self.episodes))
        return {e for p in self.problems for e in p.episodes or ()}


def validate(path: str | Path) -> Report:
    """Read everything: record, metadata, every chunk's checksum, every episode's SHA-256.

    Raises:
        DataError: there is no dataset at all; damage is reported, not raised.
    """
    root = Path(path)
    try:
        dataset = Dataset(root)
    except CorruptDataError as error:
        return Report(problems=[Problem(RECORD, _record_offset(root), error.what)])
    report = Report(len(dataset), dataset.frames)
    _check_metadata(dataset, report)
    ends = _check_chunks(dataset, report)
    report.leftovers += [f"{name} is not part of the dataset" for name in strays(dataset)]
    if ends:
        _check_episodes(dataset, report)
    return report


def expected_metadata(dataset: Dataset) -> dict[str, bytes]:
    """What every zarr.json below the record should hold, by its path."""
    files = {f"{name}/{RECORD}": dumps(group()) for name in GROUPS if name != "meta"}
    files[f"meta/{RECORD}"] = dumps(meta_group(dataset.spec, dataset.layout))
    return files | {f"{n}/{RECORD}": dumps(c.array.metadata(len(c))) for n, c in dataset.arrays.items()}


def strays(dataset: Dataset) -> Iterator[str]:
    """Paths below the root that nothing refers to: of writes that were not committed, or of somebody else."""
    known = {RECORD, LOCK, STAGING, *GROUPS, *expected_metadata(dataset), *dataset.arrays}
    for name, column in dataset.arrays.items():
        known |= {f"{name}/{column.array.key(i)}" for i in range(column.array.files(len(column)))}
    for item in sorted(dataset.path.rglob("*")):
        name = str(item.relative_to(dataset.path))
        if name not in known:
            yield name


def lagging(dataset: Dataset, name: str, have: bytes) -> bool:
    """Whether an array's own metadata is intact and only shorter than the record says."""
    column = dataset.arrays.get(name.rsplit("/", 1)[0])
    try:
        rows = json.loads(have)["shape"][0]
        return column is not None and 0 <= rows < len(column) and dumps(column.array.metadata(rows)) == have
    except (ValueError, KeyError, TypeError, IndexError):
        return False


def _check_metadata(dataset: Dataset, report: Report) -> None:
    for name, want in expected_metadata(dataset).items():
        try:
            have = read_inside(dataset.path, name)
        except (FileNotFoundError, DataError) as error:
            report.problems.append(Problem(name, 0, str(error).splitlines()[0], ()))
            continue
        if have == want:
            continue
        if lagging(dataset, name, have):
            report.leftovers.append(f"{name} lags behind the record")
        else:
            where = first_difference(want, have)
            report.problems.append(Problem(name, where, "the metadata is not what the record says", ()))


def _check_chunks(dataset: Dataset, report: Report) -> bool:
    """Every checksum of every file; whether the episodes' bounds are readable."""
    try:
        ends = dataset.episode_ends
        provenance_ends = dataset.arrays["meta/provenance_ends"].read()
    except DataError:
        ends = provenance_ends = None
    for name, column in dataset.arrays.items():
        bounds = ends if name.startswith("data/") else provenance_ends if name == "meta/provenance" else None
        for problem, rows in damage(column):
            if name == "meta/episode_ends" or (name.startswith("data/") and ends is None):
                touched = None
            elif bounds is None:
                touched = tuple(rows)
            else:
                first, last = np.searchsorted(bounds, [rows.start, rows.stop - 1], "right").tolist()
                touched = tuple(range(first, last + 1))
            report.problems.append(Problem(problem.file, problem.offset, problem.what, touched, problem.bit))
    return ends is not None


def damage(column: Column) -> Iterator[tuple[Problem, range]]:
    """Damaged places of one array, each with the rows it touches."""
    array, total = column.array, len(column)
    for file in range(array.files(total)):
        rows = range(file * array.file_rows, min(total, (file + 1) * array.file_rows))
        name = f"{array.path}/{array.key(file)}"
        try:
            shard = Shard(column.root, array, file, -(-len(rows) // array.chunk_rows))
        except DataError as error:
            data = _read(column.root, name)
            yield _located(name, data, max(0, len(data) - array.index_bytes), len(data), error.what), rows
            continue
        offset = 0
        for chunk, (start, stop) in enumerate(zip(shard.starts, shard.stops, strict=True)):
            touched = range(
                rows.start + chunk * array.chunk_rows, min(rows.stop, rows.start + (chunk + 1) * array.chunk_rows)
            )
            if start != offset:
                yield Problem(name, offset, f"chunk {chunk} does not follow the one before it"), touched
            offset = stop
            try:
                shard.decode(chunk, np.empty((array.chunk_rows, *array.row_shape), array.dtype))
            except CorruptDataError:
                what = f"chunk {chunk} (bytes {start} to {stop}) does not match its CRC-32C"
                yield _located(name, bytes(shard.bytes), start, stop, what), touched


def _check_episodes(dataset: Dataset, report: Report) -> None:
    damaged = report.damaged
    for i in range(len(dataset)):
        if i in damaged:
            continue
        try:
            intact = dataset.digest(i, verify=True) == dataset.digest(i)
            dataset.provenance(i)
        except (DataError, ValueError) as error:
            report.problems.append(Problem(f"episode {i}", 0, str(error).splitlines()[0], (i,)))
            continue
        if not intact:
            report.problems.append(Problem(f"episode {i}", 0, "the content does not match its SHA-256", (i,)))
        start, stop = dataset.span(i)
        for path in ("observation.state", "action"):
            bad = np.flatnonzero(~np.isfinite(dataset.read(path, start, stop)).reshape(stop - start, -1).all(1))
            if len(bad):
                report.problems.append(Problem(f"data/{path}", int(bad[0]), f"row {bad[0]} is not finite", (i,)))


def _located(name: str, data: bytes, start: int, stop: int, what: str) -> Problem:
    """A problem somewhere in [start, stop), narrowed to the bit where one flipped bit explains it."""
    found = flipped_bit(data[start:stop])
    if found is None:
        return Problem(name, start, what)
    return Problem(name, start + found[0], f"{what}: bit {found[1]} of this byte is flipped", bit=found[1])


def _read(root: Path, name: str) -> bytes:
    try:
        return read_inside(root, name, 1 << 32)
    except (FileNotFoundError, DataError):
        return b""


def _record_offset(root: Path) -> int:
    """Where the record departs from the one that the rest of the dataset implies."""
    from .repair import rebuilt_record

    data = _read(root, RECORD)
    try:
        return first_difference(rebuilt_record(root), data)
    except DataError:
        return 0
