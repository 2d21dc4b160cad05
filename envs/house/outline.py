"""From cells to polygons: outlines along cell borders, simplified as Recast simplifies its contours."""

from __future__ import annotations

import numpy as np
import shapely
from shapely import Polygon
from shapely.geometry.base import BaseGeometry

from .regions import regions

MAX_ERROR = 1.3
"""How far an outline may leave the cells' borders, in cells."""


def polygons(cells: np.ndarray, west: float, north: float, side: float) -> list[Polygon]:
    """The 4-connected regions of `cells` (bool [rows columns], row 0 in the north) as polygons [m], largest first."""
    label = regions(cells)
    free: BaseGeometry = shapely.union_all([_region(label, k, west, north, side) for k in np.unique(label[label > 0])])
    parts = [p for p in shapely.get_parts(free) if isinstance(p, Polygon) and p.area > side * side]
    return sorted((shapely.geometry.polygon.orient(p) for p in parts), key=lambda p: -p.area)


def _region(label: np.ndarray, k: int, west: float, north: float, side: float) -> BaseGeometry:
    """One of Recast's regions with its simplified outline [m]."""
    r0, r1, c0, c1 = _extent(label == k)
    block = np.pad(label, 1)[r0 : r1 + 3, c0 : c1 + 3]
    shells: list[BaseGeometry] = []
    holes: list[BaseGeometry] = []
    for ring in rings(block[1:-1, 1:-1] == k):
        kept = np.add(simplify(ring, beyond(ring, block)), (r0, c0))
        plan = np.stack([west + kept[:, 1] * side, north - kept[:, 0] * side], -1)  # row, column → x, y
        if len(plan) >= 3:
            outer = _area(np.stack([ring[:, 1], -ring[:, 0]], -1)) > 0
            (shells if outer else holes).append(_valid(Polygon(plan)))
    return shapely.difference(shapely.union_all(shells), shapely.union_all(holes))


def _extent(mask: np.ndarray) -> tuple[int, int, int, int]:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return int(rows[0]), int(rows[-1]), int(columns[0]), int(columns[-1])


def beyond(ring: np.ndarray, block: np.ndarray) -> np.ndarray:
    """int [n]: what lies to the right of each side of an outline; `block` has one more cell on each side."""
    step = np.roll(ring, -1, 0) - ring
    middle = ring + step / 2 + np.stack([step[:, 1], -step[:, 0]], -1) / 2
    cell = np.floor(middle).astype(np.int64) + 1
    return block[cell[:, 0], cell[:, 1]]


def _valid(polygon: Polygon) -> BaseGeometry:
    return polygon if polygon.is_valid else shapely.make_valid(polygon)


def _area(ring: np.ndarray) -> float:
    x, y = ring.T
    return float(0.5 * np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y))


def rings(cells: np.ndarray) -> list[np.ndarray]:
    """Closed outlines of the 4-connected regions: int [n 2] (row, column) cell corners, one per cell border.

    With rows growing southwards the region lies to the left of the outline in plan.
    """
    padded = np.pad(np.asarray(cells, bool), 1)
    after: dict[tuple[int, int], list[tuple[int, int]]] = {}
    # The four sides of a cell, each in the direction that keeps the cell on the left (west is −column, north −row).
    for (dr, dc), start, end in (
        ((-1, 0), (0, 1), (0, 0)),
        ((0, -1), (0, 0), (1, 0)),
        ((1, 0), (1, 0), (1, 1)),
        ((0, 1), (1, 1), (0, 1)),
    ):
        border = padded[1:-1, 1:-1] & ~padded[1 + dr : padded.shape[0] - 1 + dr, 1 + dc : padded.shape[1] - 1 + dc]
        for r, c in np.argwhere(border).tolist():
            after.setdefault((r + start[0], c + start[1]), []).append((r + end[0], c + end[1]))
    found: list[np.ndarray] = []
    while after:
        first = at = min(after)
        ring: list[tuple[int, int]] = []
        step = (0, 0)
        while at in after:
            ring.append(at)
            choices = after[at]
            # Where two cells meet at a corner only, turning left stays with the cell one came along.
            following = (at[0] - step[1], at[1] + step[0])
            following = following if following in choices else choices[0]
            choices.remove(following)
            if not choices:
                del after[at]
            step = (following[0] - at[0], following[1] - at[1])
            at = following
            if at == first and (at not in after or len(ring) > 3):
                break
        found.append(np.array(ring, np.int64))
    return found


def simplify(ring: np.ndarray, right: np.ndarray | None = None, error: float = MAX_ERROR) -> np.ndarray:
    """The corners of a closed outline that keep every point of it within `error` of the result: int [m 2].

    Starts from the corners at which the region beyond changes (`right` [n]: what lies beyond each side, 0 for a wall),
    from two opposite corners where none does, and adds the farthest point of a wall while there is one (Douglas and
    Peucker 1973). Between two regions the outline is straight.
    """
    points = ring.astype(np.float64)
    n = len(points)
    if right is None:
        right = np.zeros(n, np.int64)
    ends = np.flatnonzero(right != np.roll(right, 1)).tolist()
    if not ends:
        # Recast's seeds: the least column (then the most northern row), and the greatest.
        order = np.lexsort((points[:, 0], points[:, 1]))
        ends = sorted({int(order[0]), int(order[-1])})
    kept: list[int] = []
    for a, b in zip(ends, [*ends[1:], ends[0] + n], strict=True):
        kept += [a, *(_between(points, a, b, error) if right[a] == 0 else ())]
    return ring[[k % n for k in kept]]


def _between(points: np.ndarray, a: int, b: int, error: float) -> list[int]:
    if b - a < 2:
        return []
    n = len(points)
    inner = np.arange(a + 1, b)
    start, end = points[a % n], points[b % n]
    # Both directions along one border have to choose the same points, so ties are broken in one order of the ends.
    if (end[1], end[0]) < (start[1], start[0]):
        inner = inner[::-1]
        start, end = end, start
    along = end - start
    apart = points[inner % n] - start
    share = np.clip(apart @ along / max(float(along @ along), 1e-12), 0, 1)
    off = np.sum((apart - share[:, None] * along) ** 2, -1)
    worst = int(np.argmax(off))
    if off[worst] <= error * error:
        return []
    at = int(inner[worst])
    return [*_between(points, a, at, error), at, *_between(points, at, b, error)]
