"""Mending a dataset.

One flipped bit per chunk is flipped back, leftovers of interrupted writes go, and a damaged commit record is rebuilt
from the episodes themselves.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from ..vla.errors import CorruptDataError, DataError
from .check import Problem, Report, expected_metadata, strays, validate
from .files import Disk, Lock, read_inside
from .layout import RECORD, ArrayLayout, Counts, arrays, parse, parse_record, record
from .shards import Column
from .store import Dataset


def repair(path: str | Path) -> tuple[list[str], Report]:
    """Mend what can be mended. Returns what was done, and the report on what is left.

    Committed episodes are never dropped: damage that checksums cannot undo stays, and stays reported. No step changes
    a file in place, so an interrupted repair can be run again.

    Raises:
        DataError: there is no dataset, or a writer has it open.
    """
    root = Path(path)
    if not (root / "meta" / RECORD).is_file() and not (root / RECORD).is_file():
        raise DataError(f"There is no dataset at {root}", expected=f"a folder with {RECORD}")
    done: list[str] = []
    lock = Lock(root)
    try:
        disk = Disk(root)
        if left := disk.clear_staging():
            done.append(f"removed {len(left)} unfinished files")
        try:
            parse_record(read_inside(root, RECORD), RECORD)
        except (CorruptDataError, FileNotFoundError):
            _publish(disk, RECORD, rebuilt_record(root))
            done.append(f"rebuilt {RECORD}")
        for problem in validate(root).problems:
            if problem.bit is not None:
                done.append(_flip_back(disk, problem))
        dataset = Dataset(root)
        done += [_remove(root, name) for name in strays(dataset)]
        for name, want in expected_metadata(dataset).items():
            if not (root / name).is_file() or (root / name).read_bytes() != want:
                _publish(disk, name, want)
                done.append(f"rewrote {name}")
        done += _trim(dataset, disk)
    finally:
        lock.release()
    return done, validate(root)


def rebuilt_record(root: Path) -> bytes:
    """The commit record that the episodes on disk imply: all that are complete, proved by their SHA-256."""
    spec, layout, _ = parse(read_inside(root, f"meta/{RECORD}"), f"meta/{RECORD}")
    by_path = arrays(spec, layout)
    ends, provenance_ends = (_written(root, by_path[f"meta/{name}"]) for name in ("episode_ends", "provenance_ends"))
    episodes = min(len(ends), len(provenance_ends))
    while episodes:
        data = record(spec, layout, Counts(episodes, int(ends[episodes - 1]), int(provenance_ends[episodes - 1])))
        # Only the last can be half written; damage further back is for `validate` to name.
        if _last_is_whole(root, data):
            return data
        episodes -= 1
    return record(spec, layout, Counts())


def _written(root: Path, array: ArrayLayout) -> np.ndarray:
    """The increasing positive values of a cumulative array, however many there are: unwritten rows are zero."""
    files = 0
    while (root / array.path / array.key(files)).is_file():
        files += 1
    values = Column(root, array, files * array.file_rows).read()
    return values[: int(np.argmin(values > 0)) if not np.all(values > 0) else len(values)]


def _last_is_whole(root: Path, data: bytes) -> bool:
    dataset = Dataset.at_record(root, data)
    last = len(dataset) - 1
    try:
        return dataset.digest(last) == dataset.digest(last, verify=True) and isinstance(dataset.provenance(last), dict)
    except (DataError, ValueError):
        return False


def _flip_back(disk: Disk, problem: Problem) -> str:
    assert problem.bit is not None
    data = bytearray(read_inside(disk.root, problem.file, 1 << 32))
    data[problem.offset] ^= 1 << problem.bit
    _publish(disk, problem.file, bytes(data))
    return f"flipped bit {problem.bit} of byte {problem.offset} of {problem.file} back"


def _remove(root: Path, name: str) -> str:
    path = root / name
    if path.is_dir() and not path.is_symlink():
        if any(path.iterdir()):
            return f"left {name} alone: it is a folder with other content"
        path.rmdir()
    elif path.exists() or path.is_symlink():
        path.unlink()
    return f"removed {name}"


def _trim(dataset: Dataset, disk: Disk) -> list[str]:
    """Rewrite last files that hold rows beyond the committed ones."""
    done: list[str] = []
    for name, column in dataset.arrays.items():
        if not len(column) % column.array.file_rows:
            continue
        try:
            tail = column.tail()
        except DataError:
            continue  # Damaged: reported, and nothing to trim it to.
        files = replace(tail, rows=tail.rows - len(tail.partial), partial=tail.partial[:0]).extend(tail.partial)
        for key, parts in files.items():
            if read_inside(dataset.path, f"{name}/{key}", 1 << 32) != b"".join(parts):
                _publish(disk, f"{name}/{key}", *parts)
                done.append(f"removed uncommitted rows from {name}/{key}")
    return done


def _publish(disk: Disk, name: str, *parts: bytes | memoryview) -> None:
    staged = disk.stage(parts)
    disk.flush([staged])
    disk.publish(staged, name)
    disk.flush([(disk.root / name).parent])
