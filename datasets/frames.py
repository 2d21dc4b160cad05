"""Columns of large rows, over several datasets, into batch buffers: in parallel, and from memory once remembered."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from .shards import Column

Array = np.ndarray[Any, Any]
Job = tuple[Column, Array, Array, Array]
"""A column, rows [n], the buffer, and the places [n] in it."""

_BUFFERS = 8
_MIN_JOB = 4


class Frames:
    """One column of large rows over the concatenation of several datasets."""

    def __init__(self, columns: Sequence[Column]) -> None:
        self.columns = columns
        self.row_shape, self.dtype = columns[0].array.row_shape, columns[0].array.dtype
        self._first = np.cumsum([0, *(len(c) for c in columns)])
        self._kept: Array | None = None
        self._known: Array = np.zeros(0, bool)
        self._buffers: list[Array] = []

    @property
    def nbytes(self) -> int:
        """Bytes of all rows, decoded."""
        return int(self._first[-1]) * self.columns[0].array.row_bytes

    def keep(self) -> None:
        """Remember every decoded row from now on."""
        self._kept = np.empty((int(self._first[-1]), *self.row_shape), self.dtype)
        self._known = np.zeros(len(self._kept), bool)

    def buffer(self, shape: tuple[int, ...]) -> Array:
        """An array [*shape, *row_shape] to fill; memory that nobody refers to any more is used again.

        Fresh memory costs a page fault every 4 KiB, which is more than the copy into it.
        """
        shape = (*shape, *self.row_shape)
        unused = 3  # references: the list, `base`, and the argument of getrefcount
        for base in self._buffers:
            if base.shape == shape and sys.getrefcount(base) == unused:
                return base.view()
        base = np.empty(shape, self.dtype)
        self._buffers = [*self._buffers[1 - _BUFFERS :], base]
        return base.view()

    def missing(self, rows: Array, out: Array) -> tuple[Array, Array, Array]:
        """What must be decoded so that `finish` can fill `out`: distinct rows, the buffer, and the places in it."""
        if self._kept is None:
            return rows, out, np.arange(len(rows))
        new = np.unique(rows[~self._known[rows]])
        return new, self._kept, new

    def finish(self, rows: Array, out: Array, new: Array) -> None:
        """Copy remembered rows to `out`, once those that were missing are decoded."""
        if self._kept is not None:
            self._known[new] = True
            np.take(self._kept, rows, axis=0, out=out, mode="clip")

    def jobs(self, rows: Array, out: Array, places: Array) -> list[Job]:
        """Reads of `rows` of the concatenation, per dataset."""
        if len(self.columns) == 1:
            return [(self.columns[0], rows, out, places)] if len(rows) else []
        which = np.searchsorted(self._first, rows, "right") - 1
        split = [(w, np.flatnonzero(which == w)) for w in np.unique(which).tolist()]
        return [(self.columns[w], rows[mine] - self._first[w], out, places[mine]) for w, mine in split]


def fill(wanted: Sequence[tuple[Frames, Array]], rows: Array, pool: ThreadPoolExecutor | None, threads: int) -> None:
    """Fill every buffer [n, …] with the same `rows` [n] of its column, all columns at once."""
    plans = [(frames, out, *frames.missing(rows, out)) for frames, out in wanted]
    jobs = [job for frames, _, new, into, places in plans for job in frames.jobs(new, into, places)]
    if pool is None or sum(len(job[1]) for job in jobs) < 2 * _MIN_JOB:
        for column, some, into, places in jobs:
            column.gather(some, into, places)
    else:
        # Several pieces per thread, so that a thread that was held up does not hold up the batch.
        size = max(_MIN_JOB, -(-sum(len(job[1]) for job in jobs) // (4 * threads)))
        pieces = [
            pool.submit(column.gather, some[i : i + size], into, places[i : i + size])
            for column, some, into, places in jobs
            for i in range(0, len(some), size)
        ]
        for piece in pieces:
            piece.result()
    for frames, out, new, _, _ in plans:
        frames.finish(rows, out, new)
