"""Visible faces of axis aligned boxes: what touches or overlaps is resolved on a grid of their own coordinates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

_DIGITS = 6


@dataclass(frozen=True)
class Quads:
    """Axis aligned rectangles.

    Args:
        low, high: float64 [n 3], corners; equal along `axis`.
        axis: int [n], the axis of the normal.
        sign: int [n], −1 or 1, the side the normal points to.
        box: int [n], a box of the input that this face belongs to.
        air: float64 [n 3], a point just in front of the face.
    """

    low: np.ndarray
    high: np.ndarray
    axis: np.ndarray
    sign: np.ndarray
    box: np.ndarray
    air: np.ndarray


@dataclass(frozen=True)
class Grid:
    """Boxes on the grid of their coordinates.

    Args:
        lines: per axis, the sorted coordinates.
        owner: int32 [x y z], the box that fills a cell (the last of the input wins), −1 for air.
    """

    lines: tuple[np.ndarray, np.ndarray, np.ndarray]
    owner: np.ndarray

    def cell(self, point: np.ndarray) -> tuple[int, ...] | None:
        """The cell that contains a point, None outside."""
        index = tuple(int(np.searchsorted(line, p, "right")) - 1 for line, p in zip(self.lines, point, strict=True))
        inside = all(0 <= i < len(line) - 1 for i, line in zip(index, self.lines, strict=True))
        return index if inside else None


def fill(low: np.ndarray, high: np.ndarray) -> Grid:
    """Put boxes ([n 3] corners) on their grid; where two overlap the later one owns the space."""
    low, high = np.round(low, _DIGITS), np.round(high, _DIGITS)
    lines = tuple(np.unique(np.concatenate([low[:, k], high[:, k]])) for k in range(3))
    owner = np.full([max(1, len(line) - 1) for line in lines], -1, np.int32)
    starts = [np.searchsorted(lines[k], low[:, k]) for k in range(3)]
    ends = [np.searchsorted(lines[k], high[:, k]) for k in range(3)]
    for i, (x0, y0, z0, x1, y1, z1) in enumerate(zip(*starts, *ends, strict=True)):
        owner[x0:x1, y0:y1, z0:z1] = i
    return Grid((lines[0], lines[1], lines[2]), owner)


def enclosed(grid: Grid, seeds: np.ndarray) -> np.ndarray:
    """bool [x y z]: air that is connected with one of the points `seeds` [n 3].

    Everything is True where a seed is connected with the outside, since then nothing is enclosed.
    """
    air = np.pad(grid.owner < 0, 1, constant_values=True)
    labels = np.zeros(air.shape, np.int32)
    ndimage.label(air, output=labels)
    cells = [c for s in seeds if (c := grid.cell(s)) is not None]
    wanted = {int(labels[c[0] + 1, c[1] + 1, c[2] + 1]) for c in cells} - {0}
    if not wanted or int(labels[0, 0, 0]) in wanted:
        return np.ones_like(grid.owner, bool)
    return np.isin(labels, sorted(wanted))[1:-1, 1:-1, 1:-1]


def faces(grid: Grid, keys: np.ndarray, seen: np.ndarray | None = None) -> Quads:
    """Exposed faces, merged to rectangles over boxes with equal `keys` (int [n]).

    Args:
        seen: bool [x y z]; faces towards other air are left out.
    """
    found: list[tuple[int, int, int, int, int, int, int, int]] = []
    for axis in range(3):
        for sign in (-1, 1):
            for box, plane, u0, u1, v0, v1 in _plane_runs(grid, keys, seen, axis, sign):
                found.append((axis, sign, box, plane, u0, u1, v0, v1))
    return _quads(grid, found)


def _plane_runs(
    grid: Grid, keys: np.ndarray, seen: np.ndarray | None, axis: int, sign: int
) -> list[tuple[int, int, int, int, int, int]]:
    """(box, plane, u0, u1, v0, v1) in grid lines; u and v are the other two axes in order."""
    owner = np.moveaxis(grid.owner, axis, 0)
    padded = np.pad(owner, ((1, 1), (0, 0), (0, 0)), constant_values=-1)
    front = padded[2:] if sign > 0 else padded[:-2]
    exposed = np.asarray((owner >= 0) & (front < 0))
    if seen is not None:
        air = np.pad(np.moveaxis(seen, axis, 0), ((1, 1), (0, 0), (0, 0)), constant_values=bool(seen.all()))
        exposed &= air[2:] if sign > 0 else air[:-2]
    key = np.where(exposed, keys[owner], -1)
    out: list[tuple[int, int, int, int, int, int]] = []
    for layer in np.flatnonzero(exposed.any((1, 2))):
        plane = int(layer) + (1 if sign > 0 else 0)
        out += [(int(owner[layer, u0, v0]), plane, u0, u1, v0, v1) for u0, u1, v0, v1 in _merge(key[layer])]
    return out


def _merge(key: np.ndarray) -> list[tuple[int, int, int, int]]:
    """(u0, u1, v0, v1) of rectangles of equal non-negative keys."""
    out: list[tuple[int, int, int, int]] = []
    growing: dict[tuple[int, int, int], int] = {}
    change = np.ones((key.shape[0], key.shape[1] + 1), bool)
    change[:, 1:-1] = key[:, 1:] != key[:, :-1]
    used = key.max(1, initial=-1) >= 0
    for u in range(key.shape[0] + 1):
        runs: set[tuple[int, int, int]] = set()
        if u < key.shape[0] and used[u]:
            edges = np.flatnonzero(change[u]).tolist()
            row = key[u]
            runs = {(int(row[a]), a, b) for a, b in zip(edges, edges[1:], strict=False) if row[a] >= 0}
        for run in [r for r in growing if r not in runs]:
            out.append((growing.pop(run), u, run[1], run[2]))
        for run in sorted(runs):
            growing.setdefault(run, u)
    return out


def _quads(grid: Grid, found: list[tuple[int, int, int, int, int, int, int, int]]) -> Quads:
    n = len(found)
    table = np.array(found, np.int64).reshape(n, 8)
    axis, sign, box = table[:, 0], table[:, 1], table[:, 2]
    low, high, air = np.empty((n, 3)), np.empty((n, 3)), np.empty((n, 3))
    for k in range(3):
        mine = axis == k
        u, v = [i for i in range(3) if i != k]
        rows = table[mine]
        low[mine, k] = high[mine, k] = grid.lines[k][rows[:, 3]]
        for axis_of, first in ((u, 4), (v, 6)):
            low[mine, axis_of] = grid.lines[axis_of][rows[:, first]]
            high[mine, axis_of] = grid.lines[axis_of][rows[:, first + 1]]
    air[:] = (low + high) / 2
    air[np.arange(n), axis] += 1e-4 * sign
    return Quads(low, high, axis, sign, box, air)
