"""Chunk files: what the writer appends to and what the hot read path maps.

A shard is zarr v3's `sharding_indexed`: the chunks one after the other, then an index of (offset, size) per chunk
and its CRC-32C. An array of small rows has files of one bare chunk, read as a shard of one.
"""

from __future__ import annotations

import mmap
import os
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..vla.errors import CorruptDataError, DataError
from .codecs import CRC_BYTES, crc_ok, decode, encode, with_crc
from .files import open_inside
from .layout import ArrayLayout

Array = np.ndarray[Any, Any]
Blob = bytes | memoryview
_MISSING = 2**64 - 1
_MAPPED_FILES = 256


def shard_file(array: ArrayLayout, chunks: Sequence[Blob]) -> list[Blob]:
    """The parts of a file that holds `chunks`; a shard may be filled in part."""
    if not array.shard_chunks:
        return list(chunks)
    index = np.full((array.shard_chunks, 2), _MISSING, np.dtype("<u8"))
    sizes = np.array([len(c) for c in chunks], np.uint64)
    index[: len(chunks), 1] = sizes
    index[: len(chunks), 0] = np.cumsum(sizes) - sizes
    return [*chunks, with_crc(index.tobytes())]


@dataclass(frozen=True)
class Tail:
    """The end of an array that the next append continues.

    Args:
        rows: rows of the array so far.
        chunks: the encoded whole chunks of the unfinished file, mapped.
        partial: rows [n, …] of the unfinished chunk, n < chunk_rows.
    """

    array: ArrayLayout
    rows: int
    chunks: tuple[memoryview, ...]
    partial: Array

    @staticmethod
    def empty(array: ArrayLayout) -> Tail:
        return Tail(array, 0, (), np.empty((0, *array.row_shape), array.dtype))

    def extend(self, rows: Array) -> dict[str, list[Blob]]:
        """The files, by name, that hold the array once `rows` [n, …] follow.

        A file that exists is given whole, with its old chunks unchanged in front (an unfinished chunk is encoded anew
        with its old rows in front), so replacing it changes nothing that was there.
        """
        array = self.array
        chunks: list[Blob] = list(self.chunks)
        pending = np.concatenate([self.partial, rows]) if len(self.partial) else rows
        file = self.rows // array.file_rows
        files: dict[str, list[Blob]] = {}
        n = array.chunk_rows
        whole = len(pending) // n * n
        for start in range(0, whole, n):
            chunks.append(encode(array, pending[start : start + n]))
            if len(chunks) == array.file_chunks:
                files[array.key(file)] = shard_file(array, chunks)
                chunks = []
                file += 1
        partial = pending[whole:]
        if len(partial):
            padded = np.zeros((n, *array.row_shape), array.dtype)
            padded[: len(partial)] = partial
            files[array.key(file)] = shard_file(array, [*chunks, encode(array, padded)])
        elif chunks:
            files[array.key(file)] = shard_file(array, chunks)
        return files


class Shard:
    """One mapped file: its index, and which of its chunks were verified."""

    def __init__(self, root: Path, array: ArrayLayout, file: int, chunks: int) -> None:
        name = f"{array.path}/{array.key(file)}"
        self.file = root / name
        self.array = array
        try:
            descriptor = open_inside(root, name)
        except FileNotFoundError as error:
            raise CorruptDataError(f"{self.file} is missing", run=f"wayhand data validate {root}") from error
        try:
            size = os.fstat(descriptor).st_size
            index_bytes = array.index_bytes
            if size <= index_bytes:
                raise CorruptDataError(
                    f"{self.file} is truncated", expected=f"more than {index_bytes} bytes", got=str(size)
                )
            self.bytes = memoryview(mmap.mmap(descriptor, size, access=mmap.ACCESS_READ))
        finally:
            os.close(descriptor)
        self.verified = bytearray(array.file_chunks)
        if not array.shard_chunks:
            self.starts, self.stops = [0], [size]
            return
        tail = bytes(self.bytes[size - index_bytes :])
        if not crc_ok(tail):
            raise CorruptDataError(
                f"{self.file} has a damaged index", got=f"a CRC-32C mismatch in bytes {size - index_bytes} to {size}"
            )
        index = np.frombuffer(tail, "<u8", array.shard_chunks * 2).reshape(-1, 2)[:chunks]
        starts, sizes = index[:, 0], index[:, 1]
        end = np.uint64(size - index_bytes)
        if bool(np.any(starts > end)) or bool(np.any(sizes > end - starts)) or bool(np.any(sizes <= CRC_BYTES)):
            raise CorruptDataError(
                f"{self.file} has an index that points outside it", expected=f"{chunks} chunks in {end} bytes"
            )
        self.starts = [int(x) for x in starts]
        self.stops = [int(x) for x in starts + sizes]

    def blob(self, chunk: int) -> memoryview:
        """A chunk's encoded bytes, mapped and verified."""
        blob = self.bytes[self.starts[chunk] : self.stops[chunk]]
        if not crc_ok(bytes(blob)):
            raise self._corrupt(chunk, "a CRC-32C mismatch")
        return blob

    def decode(self, chunk: int, out: Array) -> None:
        """Decode chunk number `chunk` into `out`, contiguous, of the chunk's size; verified at its first use."""
        start, stop = self.starts[chunk], self.stops[chunk]
        if not self.verified[chunk]:
            self.blob(chunk)
        try:
            decode(self.array.codec, self.bytes[start : stop - CRC_BYTES], out)
        except (ValueError, RuntimeError) as error:
            raise self._corrupt(chunk, str(error)) from error
        self.verified[chunk] = 1

    def _corrupt(self, chunk: int, why: str) -> CorruptDataError:
        return CorruptDataError(
            f"{self.file} is damaged",
            expected="the chunk that was written",
            got=f"{why} in bytes {self.starts[chunk]} to {self.stops[chunk]} (chunk {chunk})",
            run="wayhand data validate PATH",
        )


class Column:
    """Random access to the committed rows of one array, straight into the caller's buffers. Thread-safe."""

    def __init__(self, root: Path, array: ArrayLayout, rows: int) -> None:
        self.root = root
        self.array = array
        self.rows = rows
        self._shards: OrderedDict[int, Shard] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return self.rows

    def shard(self, file: int) -> Shard:
        """File number `file`, mapped; the least recently opened are let go."""
        shard = self._shards.get(file)
        if shard is not None:
            return shard
        rows = min(self.array.file_rows, self.rows - file * self.array.file_rows)
        shard = Shard(self.root, self.array, file, -(-rows // self.array.chunk_rows))
        with self._lock:
            self._shards[file] = shard
            if len(self._shards) > _MAPPED_FILES:
                self._shards.popitem(last=False)
        return shard

    def read(self, start: int = 0, stop: int | None = None) -> Array:
        """Rows [start, stop) as a new array."""
        stop = self.rows if stop is None else stop
        if not 0 <= start <= stop <= self.rows:
            raise DataError(
                f"Rows of '{self.array.path}' out of range", expected=f"0 … {self.rows}", got=f"{start} … {stop}"
            )
        files = self.array.files(self.rows)
        if files and not (self.root / self.array.path / self.array.key(files - 1)).exists():
            raise CorruptDataError(f"{self.root / self.array.path / self.array.key(files - 1)} is missing")
        out = np.empty((stop - start, *self.array.row_shape), self.array.dtype)
        n, per_file = self.array.chunk_rows, self.array.file_chunks
        scratch = np.empty((n, *self.array.row_shape), self.array.dtype)
        for chunk in range(start // n, -(-stop // n)):
            first, last = max(start, chunk * n), min(stop, (chunk + 1) * n)
            into = out[first - start : last - start]
            shard = self.shard(chunk // per_file)
            if last - first == n:
                shard.decode(chunk % per_file, into)
            else:
                shard.decode(chunk % per_file, scratch)
                into[:] = scratch[first - chunk * n : last - chunk * n]
        return out

    def gather(self, rows: Array, out: Array, places: Array) -> None:
        """`out[places[i]] = array[rows[i]]` for rows [n] in any order; each row of `out` contiguous."""
        n, per_file = self.array.chunk_rows, self.array.file_chunks
        if n == 1:
            for row, place in zip(rows.tolist(), places.tolist(), strict=True):
                file, chunk = divmod(row, per_file)
                self.shard(file).decode(chunk, out[place])
            return
        scratch = np.empty((n, *self.array.row_shape), self.array.dtype)
        decoded = -1
        for i in np.argsort(rows, kind="stable").tolist():
            chunk, inside = divmod(int(rows[i]), n)
            if chunk != decoded:
                self.shard(chunk // per_file).decode(chunk % per_file, scratch)
                decoded = chunk
            out[places[i]] = scratch[inside]

    def tail(self) -> Tail:
        """The end of the array, for the next append."""
        array, n = self.array, self.array.chunk_rows
        file, rest = divmod(self.rows, array.file_rows)
        if not rest:
            return replace(Tail.empty(array), rows=self.rows)
        shard = self.shard(file)
        whole, left = divmod(rest, n)
        partial = np.empty((n, *array.row_shape), array.dtype)
        if left:
            shard.decode(whole, partial)
        return Tail(array, self.rows, tuple(shard.blob(i) for i in range(whole)), partial[:left])
