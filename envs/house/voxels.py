"""Where an agent's centre may be, as a raster: the walkable cells of each storey, eroded by its radius.

The raster follows Recast as habitat-sim configures it (Mononen, recastnavigation; Savva et al. 2019), so that both
simulators stop at the same walls: cells aligned with the corner of the house's bounding box in habitat's axes,
conservative rasterisation, heights in steps of 0.2 m, ledges removed, then erosion by a 2–3 chamfer distance.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from .house import House, Solid, Stairs
from .mesh import Mesh, build
from .solids import instances

CELL = 0.05
"""Side of a cell in plan [m]."""
CELL_HEIGHT = 0.2
"""Height of a voxel [m]."""
LEAST_REGION = 400
"""Cells of the smallest region that is kept: Recast's 20 × 20."""
_BLOCKS = (1, 2, 4, 8, 16, 32, 64, 128)
_AT_ONCE = 1 << 18
_STEPS = ((0, 1), (1, 0), (0, -1), (-1, 0))


@dataclass(frozen=True)
class Grid:
    """Cells in plan. Column i covers x in `west + [i, i + 1] · CELL`; row j covers y in `north − [j, j + 1] · CELL`."""

    west: float
    north: float
    bottom: float
    columns: int
    rows: int
    levels: int

    def column(self, x: float) -> int:
        """Column of x. In single precision like Recast, which decides where faces lie on a line of the grid."""
        return int(np.floor((np.float32(x) - np.float32(self.west)) * np.float32(1 / np.float32(CELL))))

    def row(self, y: float) -> int:
        """Row of y, as `column`."""
        return int(np.floor((np.float32(-y) - np.float32(-self.north)) * np.float32(1 / np.float32(CELL))))

    def level(self, z: float) -> float:
        """Height z in voxels above the bottom, not rounded."""
        return float((np.float32(z) - np.float32(self.bottom)) * np.float32(1 / np.float32(CELL_HEIGHT)))

    def corner(self, row: float, column: float) -> tuple[float, float]:
        """x and y of the north-west corner of a cell [m]."""
        return self.west + column * CELL, self.north - row * CELL


@dataclass(frozen=True)
class Raster:
    """The walkable cells of one storey with the flights of stairs that begin or end there: bool [rows columns]."""

    storey: int
    floor: float
    cells: np.ndarray


def footprint(solid: Solid) -> np.ndarray:
    """float64 [n 2]: the convex outline of a solid in plan, counter-clockwise [m]."""
    if solid.shape == "box":
        hx, hy = solid.half[0], solid.half[1]
        local = np.array([(-hx, -hy), (hx, -hy), (hx, hy), (-hx, hy)])
    else:
        turn = np.arange(24) * (2 * np.pi / 24)
        local = np.stack([np.cos(turn) * solid.half[0], np.sin(turn) * solid.half[1]], -1)
    c, s = math.cos(solid.yaw), math.sin(solid.yaw)
    return local @ np.array([[c, s], [-s, c]]) + np.array(solid.centre[:2])


def rasterise(house: House, solids: Sequence[Solid], *, radius: float, height: float) -> tuple[Grid, list[Raster]]:
    """The walkable cells of every storey for an agent of `radius` and `height` [m]."""
    mesh = build(house)
    grid = _grid(mesh)
    solid = np.zeros((grid.levels, grid.rows, grid.columns), bool)
    for body in solids:
        if body.role != "item":
            low = max(math.floor(grid.level(body.centre[2] - body.half[2])), 0)
            high = max(math.ceil(grid.level(body.centre[2] + body.half[2])), low + 1)
            rows, columns, inside = _touched(grid, footprint(body))
            solid[low:high, rows, columns] |= inside
    items = np.array([i.item >= 0 for i in instances(house)])
    _fill(solid, grid, mesh.positions[mesh.triangles[items[mesh.instance[mesh.triangles[:, 0]]]]])
    walkable, edge = _walkable(solid, math.ceil(height / CELL_HEIGHT))
    reach = 2 * math.ceil(radius / CELL - 1e-9)
    rasters: list[Raster] = []
    for storey in sorted({r.storey for r in house.rooms}):
        floor = storey * house.storey_height
        cells, border = _of_storey(house.stairs, grid, walkable, edge, floor)
        rasters.append(Raster(storey, floor, _keep_large(cells & (_chamfer(cells, border, reach) >= reach))))
    return grid, rasters


def _grid(mesh: Mesh) -> Grid:
    """Cells from the corner of what the mesh shows, which is less than the solids reach."""
    points = mesh.positions
    (west, south, bottom), (east, north, top) = points.min(0).tolist(), points.max(0).tolist()
    return Grid(
        west=west,
        north=north,
        bottom=bottom,
        columns=int((east - west) / CELL + 0.5),
        rows=int((north - south) / CELL + 0.5),
        levels=math.ceil((top - bottom) / CELL_HEIGHT) + 2,
    )


def _fill(solid: np.ndarray, grid: Grid, triangles: np.ndarray) -> None:
    """Mark the voxels that triangles [t 3 xyz] pass: round things are as flat-sided as they are drawn."""
    points = (triangles.astype(np.float64) - (grid.west, grid.north, grid.bottom)) / (CELL, -CELL, CELL_HEIGHT)
    first, last = np.floor(points.min(1)).astype(np.int64), np.floor(points.max(1)).astype(np.int64)
    wide = (last - first)[:, :2].max(1) + 1
    for side in _BLOCKS:
        chosen = np.flatnonzero((wide <= side) & (wide > side // 2))
        for part in np.array_split(chosen, max(1, len(chosen) * side * side // _AT_ONCE)):
            if len(part):
                _fill_blocks(solid, points[part], first[part], last[part], side)


def _fill_blocks(solid: np.ndarray, points: np.ndarray, first: np.ndarray, last: np.ndarray, side: int) -> None:
    """Triangles [t 3 3] in cells and voxels, each within its block of `side` × `side` cells from `first` [t 3]."""
    u = (first[:, 0, None, None] + np.arange(side)[None, None, :]) + np.zeros((1, side, 1), np.int64)
    v = (first[:, 1, None, None] + np.arange(side)[None, :, None]) + np.zeros((1, 1, side), np.int64)
    inside = (u <= last[:, 0, None, None]) & (v <= last[:, 1, None, None])
    inside &= (u >= 0) & (v >= 0) & (u < solid.shape[2]) & (v < solid.shape[1])
    edges = np.roll(points, -1, 1) - points
    normal = np.cross(edges[:, 0], edges[:, 1])
    for k in range(3):
        x, y = u + 0.5 - points[:, k, 0, None, None], v + 0.5 - points[:, k, 1, None, None]
        ex, ey = edges[:, k, 0, None, None], edges[:, k, 1, None, None]
        reach = (np.abs(ex) + np.abs(ey)) / 2 + 1e-9
        off = ex * y - ey * x
        # Seen from above an upright triangle is a line.
        up = normal[:, 2, None, None]
        inside &= np.where(np.abs(up) < 1e-9, np.abs(off) <= reach, off * np.sign(up) >= -reach)
    flat = np.where(np.abs(normal[:, 2]) < 1e-9, np.inf, normal[:, 2])[:, None, None]
    gu, gv = -normal[:, 0, None, None] / flat, -normal[:, 1, None, None] / flat
    middle = points[:, 0, 2, None, None] + gu * (u + 0.5 - points[:, 0, 0, None, None])
    middle = middle + gv * (v + 0.5 - points[:, 0, 1, None, None])
    spread = np.where(np.isinf(flat), np.inf, (np.abs(gu) + np.abs(gv)) / 2)
    least, most = (f(points[:, :, 2], 1)[:, None, None] for f in (np.min, np.max))
    low = np.floor(np.clip(middle - spread, least, most) + 1e-9).astype(np.int64)
    high = np.maximum(np.ceil(np.clip(middle + spread, least, most) - 1e-9).astype(np.int64), low + 1)
    for level in range(max(int(low.min()), 0), min(int(high.max()), len(solid))):
        hit = inside & (low <= level) & (level < high)
        solid[level, v[hit], u[hit]] = True


def _touched(grid: Grid, outline: np.ndarray) -> tuple[slice, slice, np.ndarray]:
    """The block of cells around a convex outline and which of them it touches."""
    (x0, y0), (x1, y1) = outline.min(0), outline.max(0)
    first_row, end_row = max(grid.row(float(y1)), 0), min(grid.row(float(y0)) + 1, grid.rows)
    first, end = max(grid.column(float(x0)), 0), min(grid.column(float(x1)) + 1, grid.columns)
    # Outer walls lie beyond the cells.
    end_row, end = max(end_row, first_row), max(end, first)
    rows, columns = slice(first_row, end_row), slice(first, end)
    inside = np.ones((end_row - first_row, end - first), bool)
    if not inside.size:
        return slice(0, 0), slice(0, 0), np.zeros((0, 0), bool)
    edges = np.roll(outline, -1, 0) - outline
    if np.min(np.abs(edges), axis=1).max() < 1e-9:  # along the axes: the block is the footprint
        return rows, columns, inside
    x, y = grid.corner(np.arange(first_row, end_row)[:, None] + 0.5, np.arange(first, end)[None] + 0.5)  # type: ignore[arg-type]
    for point, edge in zip(outline, edges, strict=True):
        # A cell is outside a convex outline when one edge has all of the cell on its right.
        left = edge[0] * (y - point[1]) - edge[1] * (x - point[0])
        inside &= left >= -(abs(edge[0]) + abs(edge[1])) * CELL / 2
    return rows, columns, inside


def _shift(array: np.ndarray, step: tuple[int, ...], fill: float = 0) -> np.ndarray:
    """`out[p] = array[p + step]`, `fill` beyond the ends."""
    out = np.full_like(array, fill)
    here = tuple(slice(max(-s, 0), array.shape[i] - max(s, 0)) for i, s in enumerate(step))
    there = tuple(slice(max(s, 0), array.shape[i] + min(s, 0)) for i, s in enumerate(step))
    out[here] = array[there]
    return out


def _walkable(solid: np.ndarray, tall: int) -> tuple[np.ndarray, np.ndarray]:
    """Voxels on whose top an agent of `tall` voxels stands, and those of them at an edge: bool [levels rows columns].

    A step to a neighbour may climb or descend one voxel.
    """
    blocked = np.zeros_like(solid)
    for k in range(1, tall + 1):
        blocked |= _shift(solid, (k, 0, 0))
    stands = solid & ~blocked
    roomy = stands & ~_shift(solid, (tall + 1, 0, 0))  # room for a neighbour one voxel higher
    empty = np.ones_like(solid)
    for k in range(-1, tall + 1):
        empty &= ~_shift(solid, (k, 0, 0))
    ledge, up, down = np.zeros_like(solid), np.zeros_like(solid), np.zeros_like(solid)
    for dy, dx in _STEPS:
        ledge |= _shift(empty, (0, dy, dx), fill=True)
        up |= _shift(stands, (1, dy, dx)) & roomy
        down |= _shift(roomy, (-1, dy, dx))
    walkable = stands & ~ledge & ~(up & down)
    roomy &= walkable
    inner = walkable.copy()
    for dy, dx in _STEPS:
        level, above, below = (_shift(a, (k, dy, dx)) for a, k in ((walkable, 0), (walkable, 1), (roomy, -1)))
        inner &= level | (above & roomy) | below
    return walkable, walkable & ~inner


def _of_storey(
    stairs: Sequence[Stairs], grid: Grid, walkable: np.ndarray, edge: np.ndarray, floor: float
) -> tuple[np.ndarray, np.ndarray]:
    """Cells of a floor within one voxel of its height, and of its flights at any height: bool [rows columns], twice."""

    def between(array: np.ndarray, low: float, high: float) -> np.ndarray:
        first, last = (math.ceil(grid.level(z)) - 1 for z in (low, high))
        return np.asarray(array[max(first - 1, 0) : last + 2].any(0))

    cells, border = between(walkable, floor, floor), between(edge, floor, floor)
    for flight in stairs:
        if min(abs(flight.bottom - floor), abs(flight.top - floor)) > 1e-3:
            continue
        rows, columns, inside = _touched(grid, flight_outline(flight))
        for to, source in ((cells, walkable), (border, edge)):
            block = between(source, flight.bottom, flight.top)[rows, columns]
            to[rows, columns] = np.where(inside, block, to[rows, columns])
    return cells, border


def flight_outline(flight: Stairs) -> np.ndarray:
    """float64 [4 2]: the rectangle a flight covers in plan, counter-clockwise [m]."""
    a, b = np.array(flight.start), np.array(flight.end)
    along = (b - a) / np.linalg.norm(b - a)
    side = np.array([along[1], -along[0]]) * flight.width / 2
    return np.stack([a + side, b + side, b - side, a - side])


def _chamfer(cells: np.ndarray, border: np.ndarray, reach: int) -> np.ndarray:
    """Chamfer distance to the border (2 straight, 3 diagonal), exact below `reach`: int [rows columns]."""
    far = reach + 3
    distance = np.where(border, 0, far).astype(np.int16)
    for _ in range(reach // 2):
        nearest = distance
        for dy in (-1, 0, 1):
            for dx in (-1, 0, 1):
                cost = 3 if dy and dx else 2
                nearest = np.minimum(nearest, _shift(distance, (dy, dx), fill=far) + cost)
        distance = np.where(cells, nearest, far).astype(np.int16)
        distance[border] = 0
    return distance


def _keep_large(cells: np.ndarray) -> np.ndarray:
    labels, count = ndimage.label(cells)  # type: ignore[misc]
    sizes = np.bincount(np.ravel(labels), minlength=int(count) + 1)
    sizes[0] = 0
    return np.asarray(sizes >= LEAST_REGION)[np.asarray(labels, np.int64)]
