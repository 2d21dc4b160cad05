"""Appending episodes, each whole or absent whatever happens.

An append stages complete files, gives them their names, and then replaces the commit record, the root's `zarr.json`,
in one rename. That record holds the size of every array, so before the rename no reader sees the episode and after it
every reader sees all of it. A file that existed is replaced by one that begins with the same chunks, so what was
committed stays readable at every moment. The arrays' own `zarr.json` follow the record when the writer closes (after
a crash, when the next one opens), `episode_ends` last: a reader that ignores consolidated metadata may see sizes that
lag, never a row that is not committed.
"""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from ..vla.contract import EnvSpec, Episode, encode_text
from ..vla.errors import DataError
from .digest import digest_of, final_columns
from .files import Disk, Lock, read_inside
from .layout import GROUPS, RECORD, Counts, Layout, arrays, dumps, group, meta_group, parse_record, record, rows_of
from .shards import Column, Tail

SUCCESS = {None: -1, False: 0, True: 1}


class Writer:
    """Appends episodes to one dataset: an `EpisodeSink`, made by `create` or `open_for_append`; a context manager."""

    def __init__(self, path: Path, *, disk: Disk | None = None) -> None:
        with ExitStack() as stack:
            lock = Lock(path)
            stack.callback(lock.release)
            self.path = path
            self._disk = disk or Disk(path)
            self.spec, self.layout, self._counts = parse_record(read_inside(path, RECORD), str(path / RECORD))
            self.arrays = arrays(self.spec, self.layout)
            self._disk.clear_staging()
            for name in self.arrays:  # an unfinished file that is damaged is told now, not at the first episode
                self._tail(name)
            self._refresh()
            self._closed = False
            self._release = stack.pop_all().close

    def __len__(self) -> int:
        """Committed episodes."""
        return self._counts.episodes

    def __enter__(self) -> Writer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let another writer in. Every episode that `append` returned for is already committed."""
        if not self._closed:
            self._closed = True
            self._refresh()
            self._release()

    def append(self, episode: Episode) -> int:
        """Commit one episode and return its index. When this returns, the episode survives a crash.

        Raises:
            SpecError: the episode does not fit the dataset's spec.
            DataError: its provenance is not JSON, or the disk failed; the dataset is as it was and can go on.
            CorruptDataError: an unfinished file, which the episode would continue, is damaged.
        """
        if self._closed:
            raise DataError(f"The writer of {self.path} is closed", run="open_for_append")
        self.spec.require_same(episode.spec, f"dataset {self.path} → episode {len(self)}")
        episode.check()
        if not len(episode):
            raise DataError("An episode needs at least one row")
        rows = self._rows(episode)
        counts = Counts(
            self._counts.episodes + 1,
            self._counts.frames + len(episode),
            self._counts.provenance_bytes + len(rows["meta/provenance"]),
        )
        what = f"Episode {len(self)} could not be written to {self.path}; the {len(self)} before it are safe"
        try:
            self._write(rows, counts)
            self._counts = counts
            what = f"Episode {len(self) - 1} of {self.path} is committed, but may not survive a power cut"
            self._disk.flush([self.path])
        except OSError as error:
            raise DataError(what, expected="a writable disk with room", got=str(error)) from error
        return counts.episodes - 1

    def _rows(self, episode: Episode) -> dict[str, np.ndarray[Any, Any]]:
        """What the episode adds to each array, by path."""
        provenance = np.frombuffer(_json(episode.provenance), np.uint8)
        rows = {f"data/{name}": column for name, column in episode.columns.items()}
        rows |= {f"final/{name}": column[None] for name, column in final_columns(self.spec, episode.final).items()}
        rows["meta/provenance"] = provenance
        rows["meta/provenance_ends"] = np.array([self._counts.provenance_bytes + len(provenance)], np.int64)
        rows["meta/sha256"] = np.frombuffer(digest_of(episode), np.uint8)[None]
        rows["meta/success"] = np.array([SUCCESS[episode.success]], np.int8)
        rows["meta/instruction"] = encode_text(episode.instruction)[None]
        rows["meta/episode_ends"] = np.array([self._counts.frames + len(episode)], np.int64)
        return {name: rows[name] for name in self.arrays}

    def _tail(self, name: str) -> Tail:
        """The end of an array, from the disk and verified: kept in memory, it would grow with what is written."""
        return Column(self.path, self.arrays[name], rows_of(name, self._counts)).tail()

    def _write(self, rows: dict[str, np.ndarray[Any, Any]], counts: Counts) -> None:
        """Stage everything, then name everything, the record last: a full disk fails before any file is touched."""
        staged: list[tuple[Path, str]] = []
        try:
            for name, values in rows.items():
                files = self._tail(name).extend(values)
                staged += [(self._disk.stage(parts), f"{name}/{key}") for key, parts in files.items()]
            commit = self._disk.stage([record(self.spec, self.layout, counts)])
            self._disk.flush([commit, *(path for path, _ in staged)])
            for path, name in staged:
                self._disk.publish(path, name)
            self._disk.flush(self.path / name for name in rows)
            self._disk.publish(commit, RECORD)
        except (OSError, DataError):
            self._abandon()
            raise

    def _abandon(self) -> None:
        try:
            self._disk.clear_staging()
        except OSError:
            return  # The next writer clears it; the first error is the one to report.

    def _refresh(self) -> None:
        """Bring the arrays' own metadata up to the record; what cannot be written now, the next writer writes."""
        try:
            for name, array in self.arrays.items():
                data = dumps(array.metadata(rows_of(name, self._counts)))
                file = self.path / name / RECORD
                if not file.exists() or file.read_bytes() != data:
                    self._disk.publish(self._disk.stage([data]), f"{name}/{RECORD}")
        except OSError:
            return


def create(
    path: str | Path,
    spec: EnvSpec,
    *,
    codec: str = "lz4",
    chunk_frames: int = 1,
    shard_frames: int = 0,
    durable: bool = True,
) -> Writer:
    """Make an empty dataset and open it for writing.

    Args:
        codec, chunk_frames, shard_frames: see `Layout`.
        durable: fsync every episode. Without it a killed process still loses nothing, a power cut may.

    Raises:
        DataError: something is at `path` already.
    """
    root = Path(path)
    layout = Layout(codec, chunk_frames, shard_frames)
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise DataError(
            f"{root} exists already", expected="a new folder", run="open_for_append, or choose another path"
        )
    empty = record(spec, layout, Counts())
    root.mkdir(parents=True, exist_ok=True)
    disk = Disk(root, durable=durable)
    disk.clear_staging()
    files = {name: group() for name in GROUPS} | {"meta": meta_group(spec, layout)}
    files |= {name: array.metadata(0) for name, array in arrays(spec, layout).items()}
    for name, document in files.items():
        (root / name).mkdir()
        disk.publish(disk.stage([dumps(document)]), f"{name}/{RECORD}")
    staged = disk.stage([empty])
    disk.flush([staged, *(root / name / RECORD for name in files), *(root / name for name in files)])
    disk.publish(staged, RECORD)
    disk.flush([root])
    return Writer(root, disk=disk)


def open_for_append(path: str | Path, *, durable: bool = True) -> Writer:
    """Open an existing dataset to append; what an interrupted append left behind is overwritten or removed."""
    root = Path(path)
    if not (root / RECORD).is_file():
        raise DataError(f"There is no dataset at {root}", expected=f"a folder with {RECORD}")
    return Writer(root, disk=Disk(root, durable=durable))


def _json(value: Any) -> bytes:
    def plain(x: Any) -> Any:
        if isinstance(x, np.generic):
            return x.item()
        raise TypeError(f"{type(x).__name__} is not JSON")

    try:
        return json.dumps(dict(value), sort_keys=True, default=plain).encode()
    except (TypeError, ValueError) as error:
        raise DataError("Provenance cannot be stored", expected="JSON types", got=str(error)) from error
