"""Exact statistics of a column in one streaming pass, at the memory of one block.

Mean and variance merge block by block in float64 (Chan, Golub and LeVeque 1983). Quantiles are those of
`numpy.quantile` with linear interpolation: from the histogram of all values for uint8, from the whole column where
rows are small, and by counting the leading bits of the ordered values, then their trailing bits, for depth and ids.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..vla.errors import DataError
from .shards import Column

Array = np.ndarray[Any, Any]
QUANTILES = (0.01, 0.99)
_BLOCK_BYTES = 8 << 20
_SMALL_ROW_BYTES = 4096


@dataclass(frozen=True)
class ColumnStats:
    """Over all rows, per element [S] of a vector, per channel [3] of an image, or of all pixels [] of a map.

    All float64 in the column's unit; `std` is the population's.
    """

    count: int
    mean: Array
    std: Array
    min: Array
    max: Array
    q01: Array
    q99: Array


class Stats(Mapping[str, ColumnStats]):
    """Statistics by dotted path; a column is read when it is first asked for."""

    def __init__(self, columns: Mapping[str, Column | None]) -> None:
        self._columns = {path: column for path, column in columns.items() if column is not None}
        self._known: dict[str, ColumnStats] = {}

    def __getitem__(self, path: str) -> ColumnStats:
        if path not in self._known:
            if path not in self._columns:
                raise DataError(f"There is no column '{path}'", exists=self._columns)
            self._known[path] = column_stats(self._columns[path])
        return self._known[path]

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        return len(self._columns)


@dataclass
class Moments:
    """Running count, mean and sum of squared deviations, all in float64; `add` merges another block."""

    count: int
    mean: Array
    m2: Array

    @staticmethod
    def of(values: Array) -> Moments:
        """Of `values` [n, …] over axis 0."""
        values = values.astype(np.float64)
        mean = values.mean(0)
        return Moments(len(values), mean, np.square(values - mean).sum(0))

    def add(self, other: Moments) -> None:
        total = self.count + other.count
        delta = other.mean - self.mean
        self.mean = self.mean + delta * (other.count / total)
        self.m2 = self.m2 + other.m2 + np.square(delta) * (self.count * other.count / total)
        self.count = total


def column_stats(column: Column) -> ColumnStats:
    """Raises `DataError` for a column without rows."""
    if not len(column):
        raise DataError(f"'{column.array.path}' has no rows, so no statistics", run="wayhand collect …")
    shape = column.array.row_shape
    if column.array.row_bytes < _SMALL_ROW_BYTES:
        return _of_rows(column)
    if column.array.dtype == np.uint8 and len(shape) == 3:
        return _of_images(column)
    return _of_pixels(column)


def blocks(column: Column) -> Iterator[Array]:
    """The column's rows [n, …] in order, a few megabytes at a time."""
    n = max(1, _BLOCK_BYTES // column.array.chunk_bytes) * column.array.chunk_rows
    for start in range(0, len(column), n):
        yield column.read(start, min(start + n, len(column)))


def _of_rows(column: Column) -> ColumnStats:
    moments: Moments | None = None
    low = high = None
    for block in blocks(column):
        part = Moments.of(block)
        low = block.min(0) if low is None else np.minimum(low, block.min(0))
        high = block.max(0) if high is None else np.maximum(high, block.max(0))
        if moments is None:
            moments = part
        else:
            moments.add(part)
    assert moments is not None and low is not None and high is not None
    q01, q99 = np.quantile(column.read().astype(np.float64), QUANTILES, axis=0)
    std = np.sqrt(moments.m2 / moments.count)
    return ColumnStats(moments.count, moments.mean, std, _f64(low), _f64(high), q01, q99)


def _of_images(column: Column) -> ColumnStats:
    channels = column.array.row_shape[-1]
    histogram = np.zeros((channels, 256), np.int64)
    for block in blocks(column):
        for c in range(channels):
            histogram[c] += np.bincount(block[..., c].reshape(-1), minlength=256)
    values = np.arange(256, dtype=np.float64)
    count = int(histogram[0].sum())
    mean = histogram @ values / count
    std = np.sqrt((histogram * np.square(values - mean[:, None])).sum(1) / count)
    seen = histogram > 0
    low, high = seen.argmax(1), 255 - seen[:, ::-1].argmax(1)
    cumulative = histogram.cumsum(1)
    q01, q99 = (
        _interpolated(count, q, lambda k: np.array([np.searchsorted(row, k, "right") for row in cumulative]))
        for q in QUANTILES
    )
    return ColumnStats(len(column), mean, std, _f64(low), _f64(high), q01, q99)


def _of_pixels(column: Column) -> ColumnStats:
    moments: Moments | None = None
    for block in blocks(column):
        part = Moments.of(block.reshape(-1))
        if moments is None:
            moments = part
        else:
            moments.add(part)
    assert moments is not None
    count = moments.count
    select = _Selector(column)
    q01, q99 = (_interpolated(count, q, select) for q in QUANTILES)
    std = np.sqrt(moments.m2 / count)
    return ColumnStats(len(column), moments.mean, std, _f64(select(0)), _f64(select(count - 1)), q01, q99)


class _Selector:
    """The k-th smallest of all values of a column, exactly, by counting 16 bits at a time (a radix selection)."""

    def __init__(self, column: Column) -> None:
        self.column = column
        self.bits = column.array.dtype.itemsize * 8
        self.step = min(16, self.bits)
        self._counts: dict[tuple[int, int], Array] = {}

    def __call__(self, k: int) -> Array:
        prefix, shift = 0, self.bits
        while shift:
            shift -= self.step
            counts = self._count(prefix, shift)
            digit = int(np.searchsorted(counts.cumsum(), k, "right"))
            k -= int(counts[:digit].sum())
            prefix = prefix << self.step | digit
        return _from_key(prefix, self.column.array.dtype)

    def _count(self, prefix: int, shift: int) -> Array:
        """How often each value of the next bits occurs among the keys that begin with `prefix`."""
        if (prefix, shift) not in self._counts:
            counts = np.zeros(1 << self.step, np.int64)
            for block in blocks(self.column):
                keys = _to_key(block.reshape(-1))
                if shift + self.step < self.bits:
                    keys = keys[keys >> (shift + self.step) == prefix]
                counts += np.bincount((keys >> shift) & ((1 << self.step) - 1), minlength=1 << self.step)
            self._counts[prefix, shift] = counts
        return self._counts[prefix, shift]


def _to_key(values: Array) -> Array:
    """int64 ≥ 0 in the order of the values, for dtypes of at most 32 bits."""
    if values.dtype.itemsize > 4:
        raise DataError("Quantiles of maps need a dtype of at most 32 bits", got=values.dtype.name)
    bits = values.dtype.itemsize * 8
    raw = values.view(f"u{values.dtype.itemsize}").astype(np.int64)
    sign = 1 << (bits - 1)
    if values.dtype.kind == "f":
        return np.where(raw & sign, (1 << bits) - 1 - raw, raw | sign)
    return raw ^ sign if values.dtype.kind == "i" else raw


def _from_key(key: int, dtype: np.dtype[Any]) -> Array:
    bits = dtype.itemsize * 8
    sign = 1 << (bits - 1)
    if dtype.kind == "f":
        key = key ^ sign if key & sign else (1 << bits) - 1 - key
    elif dtype.kind == "i":
        key ^= sign
    return np.array([key], f"u{dtype.itemsize}").view(dtype)[0]


def _interpolated(count: int, q: float, select: Any) -> Array:
    """numpy's linear quantile from order statistics; `select(k)` is the k-th smallest."""
    position = q * (count - 1)
    k = int(np.floor(position))
    a, b = _f64(select(k)), _f64(select(min(k + 1, count - 1)))
    return a + (b - a) * (position - k)


def _f64(values: Any) -> Array:
    return np.asarray(values, np.float64)
