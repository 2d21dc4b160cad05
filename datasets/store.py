"""Datasets on disk: zarr v3 that any zarr reader opens, read here without one.

with create("runs/pick", spec) as writer:
    writer.append(episode)
dataset = Dataset("runs/pick")
dataset.episode(0), dataset.stats["action"], dataset.hash()
"""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ..vla.contract import Episode, Observation, decode_text
from ..vla.errors import CorruptDataError, DataError
from .digest import dataset_hash, episode_digest
from .files import read_inside
from .layout import RECORD, arrays, parse_record, rows_of
from .shards import Column
from .stats import Stats
from .writer import Writer, create, open_for_append

__all__ = ["Dataset", "Writer", "create", "open_for_append"]


class Dataset:
    """The episodes committed when this was opened; later appends do not show and do not disturb.

    Args:
        path: folder of the dataset.

    Raises:
        DataError: there is no dataset, or not one this version reads.
        CorruptDataError: here or on any read, a checksum does not match.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            data = read_inside(self.path, RECORD)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise DataError(
                f"There is no dataset at {self.path}",
                expected=f"a folder with {RECORD}",
                run="wayhand collect env=tabletop/pick episodes=50 out=PATH",
            ) from error
        self._open(data)

    @classmethod
    def at_record(cls, path: Path, data: bytes) -> Dataset:
        """The dataset at `path` as if its commit record were `data`."""
        dataset = cls.__new__(cls)
        dataset.path = path
        dataset._open(data)
        return dataset

    def _open(self, data: bytes) -> None:
        self.spec, self.layout, self.counts = parse_record(data, str(self.path / RECORD))
        self.arrays = {
            name: Column(self.path, array, rows_of(name, self.counts))
            for name, array in arrays(self.spec, self.layout).items()
        }
        self._small: dict[str, np.ndarray[Any, Any]] = {}

    def __len__(self) -> int:
        """Committed episodes."""
        return self.counts.episodes

    @property
    def frames(self) -> int:
        """Rows of all episodes together."""
        return self.counts.frames

    @cached_property
    def columns(self) -> dict[str, Column | None]:
        """Dotted path → random access to its rows; None where a row is empty."""
        return {path: self.arrays.get(f"data/{path}") for path in self.spec.columns()}

    @cached_property
    def episode_ends(self) -> np.ndarray[Any, Any]:
        """int64 [episodes]: the row after each episode's last."""
        ends = self.arrays["meta/episode_ends"].read()
        if len(ends) and (int(ends[-1]) != self.frames or ends[0] <= 0 or bool(np.any(np.diff(ends) <= 0))):
            raise CorruptDataError(f"{self.path}: episode_ends is not increasing to {self.frames}", got=str(ends[-3:]))
        return ends

    @cached_property
    def instructions(self) -> list[str]:
        """One per episode."""
        return [decode_text(row) for row in self.arrays["meta/instruction"].read()]

    @cached_property
    def successes(self) -> list[bool | None]:
        """One per episode."""
        return [None if x < 0 else bool(x) for x in self.arrays["meta/success"].read().tolist()]

    @cached_property
    def stats(self) -> Stats:
        """Exact statistics per column, each computed at its first use."""
        return Stats(self.columns)

    def span(self, episode: int) -> tuple[int, int]:
        """First row and the row after the last of an episode."""
        if not 0 <= episode < len(self):
            raise DataError(f"{self.path} has no such episode", expected=f"0 … {len(self) - 1}", got=str(episode))
        ends = self.episode_ends
        return int(ends[episode - 1]) if episode else 0, int(ends[episode])

    def read(self, path: str, start: int = 0, stop: int | None = None) -> np.ndarray[Any, Any]:
        """Rows [start, stop) of a column, by dotted path."""
        return self._read("data", path, start, self.frames if stop is None else stop)

    def small(self, path: str) -> np.ndarray[Any, Any]:
        """A whole column, kept in memory and read-only; for columns of small rows."""
        if path not in self._small:
            values = self.read(path)
            values.flags.writeable = False
            self._small[path] = values
        return self._small[path]

    def episode(self, index: int) -> Episode:
        """Everything about one episode."""
        start, stop = self.span(index)
        instruction = self.instructions[index]
        columns = {path: self.read(path, start, stop) for path in self.columns}
        final = Observation.from_columns(self._final(index), instruction)
        return Episode(self.spec, instruction, columns, final, self.successes[index], self.provenance(index))

    def provenance(self, index: int) -> dict[str, Any]:
        """Where an episode came from, as it was appended."""
        self.span(index)
        first, last = max(0, index - 1), index + 1
        ends = [0, *self.arrays["meta/provenance_ends"].read(first, last).tolist()]
        return json.loads(self.arrays["meta/provenance"].read(ends[-2] if index else 0, ends[-1]).tobytes())

    def digest(self, index: int, *, verify: bool = False) -> bytes:
        """SHA-256 of an episode's content, as committed or, with `verify`, from its data."""
        start, stop = self.span(index)
        if not verify:
            return self.arrays["meta/sha256"].read(index, index + 1).tobytes()
        columns = {path: self.read(path, start, stop) for path in self.columns}
        return episode_digest(self.instructions[index], self.successes[index], columns, self._final(index))

    def hash(self, *, verify: bool = False) -> str:
        """Hex SHA-256 of spec and episodes in order: equal for equal content, however chunked, coded or split.

        Provenance is not part of it. With `verify` it is computed from the data instead of the committed digests.
        """
        if verify:
            return dataset_hash(self.spec, (self.digest(i, verify=True) for i in range(len(self))))
        return dataset_hash(self.spec, (row.tobytes() for row in self.arrays["meta/sha256"].read()))

    def _final(self, index: int) -> dict[str, np.ndarray[Any, Any]]:
        paths = (path for path in self.columns if path.startswith("observation."))
        return {path: self._read("final", path, index, index + 1)[0] for path in paths}

    def _read(self, group: str, path: str, start: int, stop: int) -> np.ndarray[Any, Any]:
        want = self.spec.columns().get(path)
        if want is None:
            raise DataError(f"{self.path} has no column '{path}'", exists=self.spec.columns())
        column = self.arrays.get(f"{group}/{path}")
        if column is None:
            return np.zeros((stop - start, *want.shape), want.dtype)
        return column.read(start, stop)
