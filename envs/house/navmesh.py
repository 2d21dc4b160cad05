"""The walkable floor of a house: where an agent can be, how it moves along walls, and how far everything is."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from functools import cached_property

import numpy as np
import shapely
from shapely import Point as PlanPoint
from shapely.geometry.base import BaseGeometry

from ...vla.navigation import NavigationError
from .floors import build
from .geodesic import TOLERANCE, CornerGraph, Field
from .house import House
from .voxels import CELL

COLLISION = 1e-5
"""A move collides when its square falls short of the wanted one's by this much (habitat-sim's threshold) [m²]."""
_TILE = 1.0
_PIECE = 0.5
_REACH = 0.8
_SEARCH = 1e-3
_NEAR = 1e-5
_KEPT_FIELDS = 64
GROWN = 1e-3
"""The outlines of free space are so far outside of it that a body at a wall is inside [m]."""

Vector = tuple[float, float, float]


class NavMesh:
    """Free space of a house for a round agent.

    Follows the navigation mesh that habitat-sim computes for the same house (see `voxels`), up to heights, which are
    those of the floors here. On stairs the surface is the straight ramp between both floors.

    Args:
        house: what to walk in.
        radius, height: of the agent [m].

    Raises `NavigationError` where nothing is walkable.
    """

    def __init__(self, house: House, *, radius: float = 0.1, height: float = 1.5) -> None:
        self.scan, self.radius, self.height = house.scan, radius, height
        floors = build(house, radius, height)
        self.grid, self.layers, self.sheets, self.portals = floors.grid, floors.layers, floors.sheets, floors.portals
        if not any(layer.free.area > 0 for layer in self.layers):
            raise NavigationError(
                f"House '{house.scan}' has no walkable floor", expected=f"1 m² for an agent of {radius} m radius"
            )
        self._tiles: dict[tuple[int, int, int], BaseGeometry] = {}
        self._fields: OrderedDict[tuple[Vector, ...], DistanceField] = OrderedDict()
        self._fast = [(layer.clearance, layer.ramps, layer.floor) for layer in self.layers]

    # --- places ---------------------------------------------------------------------------------------------------

    def layer_of(self, z: float) -> int:
        """The storey whose floor is nearest in height."""
        if len(self.layers) == 1:
            return 0
        return min(range(len(self.layers)), key=lambda k: abs(self.layers[k].floor - z))

    def _ground(self, layer: int, x: float, y: float) -> tuple[int, float]:
        """Sheet and height under a plan point of a layer."""
        _, ramps, floor = self._fast[layer]
        for west, south, east, north, number in ramps:
            if west <= x <= east and south <= y <= north:
                return int(number), self.sheets[int(number)].height(x, y)
        return self.layers[layer].sheet, floor

    def is_free(self, point: Sequence[float]) -> bool:
        """Whether the agent's centre can be above this floor point [m]."""
        layer = self.layers[self.layer_of(point[2])]
        return bool(shapely.dwithin(layer.free, PlanPoint(point[0], point[1]), _NEAR))

    def snap(self, point: Sequence[float]) -> Vector:
        """The nearest free floor point in plan, on the storey nearest in height [m]."""
        k = self.layer_of(point[2])
        k = k if not self.layers[k].free.is_empty else next(i for i, v in enumerate(self.layers) if not v.free.is_empty)
        x, y = _nearest(self.layers[k].free, point[0], point[1])
        return x, y, self._ground(k, x, y)[1]

    def random_point(self, u: Sequence[float]) -> Vector:
        """A floor point of the largest island, uniform for three uniform numbers in [0, 1)."""
        layers, cells = self.samples
        row = min(int(u[0] * len(layers)), len(layers) - 1)
        k, (r, c) = int(layers[row]), cells[row]
        x, y = self.grid.corner(r + float(u[1]), c + float(u[2]))
        if not self.is_free((x, y, self.layers[k].floor)):
            x, y = _nearest(self.layers[k].free, x, y)
        return x, y, self.layers[k].floor

    @cached_property
    def samples(self) -> tuple[np.ndarray, np.ndarray]:
        """Layers [n] and cells [n 2] whose centres are on floors (not flights) of the largest island."""
        layers: list[np.ndarray] = []
        found: list[np.ndarray] = []
        for k, layer in enumerate(self.layers):
            cells = np.argwhere(layer.cells)
            x, y = self.grid.west + (cells[:, 1] + 0.5) * CELL, self.grid.north - (cells[:, 0] + 0.5) * CELL
            for part, island in self._parts[layer.sheet]:
                if island == 0:
                    inside = cells[shapely.contains_xy(part, x, y)]
                    layers.append(np.full(len(inside), k))
                    found.append(inside)
        return np.concatenate(layers), np.concatenate(found)

    # --- islands --------------------------------------------------------------------------------------------------

    @cached_property
    def _parts(self) -> list[list[tuple[BaseGeometry, int]]]:
        """Per sheet its connected parts with the number of the island each belongs to, the largest island first."""
        parts = [(k, p) for k, sheet in enumerate(self.sheets) for p in shapely.get_parts(sheet.free)]
        label = list(range(len(parts)))
        for a, b, points in self.portals:
            near = PlanPoint(points[len(points) // 2])
            i, j = (
                min((n for n, (k, _) in enumerate(parts) if k == s), key=lambda n: parts[n][1].distance(near))
                for s in (a, b)
            )
            label = [label[i] if n == label[j] else n for n in label]
        area = {n: sum(p.area for m, (_, p) in zip(label, parts, strict=True) if m == n) for n in label}
        order = sorted(area, key=lambda n: -area[n])
        out: list[list[tuple[BaseGeometry, int]]] = [[] for _ in self.sheets]
        for (k, part), n in zip(parts, label, strict=True):
            out[k].append((part, order.index(n)))
        return out

    @cached_property
    def islands(self) -> tuple[float, ...]:
        """Plan area of each connected part of the free space, largest first [m²]."""
        areas: dict[int, float] = {}
        for parts in self._parts:
            for part, island in parts:
                areas[island] = areas.get(island, 0.0) + part.area
        return tuple(areas[n] for n in range(len(areas)))

    def island(self, point: Sequence[float]) -> int:
        """Number of the island of the nearest free point; 0 is the largest."""
        x, y, z = self.snap(point)
        sheet, _ = self._ground(self.layer_of(z), x, y)
        return min(self._parts[sheet], key=lambda e: e[0].distance(PlanPoint(x, y)))[1]

    # --- motion ---------------------------------------------------------------------------------------------------

    def try_step(self, a: Sequence[float], b: Sequence[float], sliding: bool = True) -> tuple[Vector, bool]:
        """Move from the free point a towards b and say where it ends and whether the move was cut short.

        With `sliding` a blocked move ends at the free point nearest to b that is connected with a around the way
        (Detour's moveAlongSurface); without, at the first contact. Heights of b are ignored.
        """
        x, y, z = a[0], a[1], a[2]
        dx, dy = b[0] - x, b[1] - y
        layer = self.layer_of(z) if len(self._fast) > 1 else 0
        clearance, ramps, floor = self._fast[layer]
        row, column = int((self.grid.north - y) / CELL), int((x - self.grid.west) / CELL)
        if 0 <= row < clearance.shape[0] and 0 <= column < clearance.shape[1]:
            room = clearance.item(row, column)
            if room > 0 and dx * dx + dy * dy <= room * room:
                return (x + dx, y + dy, self._ground(layer, x + dx, y + dy)[1] if ramps else floor), False
        return self._pieces((x, y, z), dx, dy, sliding)

    def _pieces(self, a: Vector, dx: float, dy: float, sliding: bool) -> tuple[Vector, bool]:
        n = max(1, math.ceil(math.hypot(dx, dy) / _PIECE))
        at, collided = a, False
        for _ in range(n):
            layer = self.layer_of(at[2])
            x, y = self._along_walls(layer, at[0], at[1], dx / n, dy / n, sliding)
            moved = (x - at[0]) ** 2 + (y - at[1]) ** 2
            short = moved + COLLISION < (dx * dx + dy * dy) / (n * n)
            at, collided = (x, y, self._ground(layer, x, y)[1]), collided or short
            if short and not sliding:
                break
        return at, collided

    def _along_walls(self, layer: int, x: float, y: float, dx: float, dy: float, sliding: bool) -> tuple[float, float]:
        to = (x + dx, y + dy)
        tile = self._tile(layer, x + dx / 2, y + dy / 2)
        line = shapely.linestrings(((x, y), to))
        if not shapely.contains_properly(tile, PlanPoint(x, y)):
            # Off free space, if only by rounding: the move is made from the nearest place, towards the same end.
            x, y = _nearest(self.layers[layer].free, x, y)
            line = shapely.linestrings(((x, y), to))
        length = math.dist((x, y), to)
        if length < 1e-9 or shapely.contains_properly(tile, line):
            return to
        way = shapely.buffer(PlanPoint((x + to[0]) / 2, (y + to[1]) / 2), length / 2 + _SEARCH) if sliding else line
        reachable = _part_at(shapely.intersection(tile, way), x, y)
        if reachable is None:
            return x, y
        if sliding and not shapely.dwithin(reachable, PlanPoint(to), TOLERANCE):
            # A wall that the search reaches is slid along to where it is nearest, even beyond the search.
            walls = _walls(tile)
            reachable = shapely.GeometryCollection(list(walls[shapely.dwithin(walls, reachable, TOLERANCE)]))
        return _nearest(reachable, *to)

    def _tile(self, layer: int, x: float, y: float) -> BaseGeometry:
        """Free space around a place, with a tolerance."""
        i, j = math.floor(x / _TILE), math.floor(y / _TILE)
        tile = self._tiles.get((layer, i, j))
        if tile is None:
            bounds = (i * _TILE - _REACH, j * _TILE - _REACH, (i + 1) * _TILE + _REACH, (j + 1) * _TILE + _REACH)
            # Less than lines of sight tolerate: from wherever a move ends, one sees along the wall it ended at.
            clip = shapely.clip_by_rect(self.layers[layer].free, *bounds)
            tile = shapely.buffer(clip, TOLERANCE / 10, join_style="mitre")
            shapely.prepare(tile)
            self._tiles[layer, i, j] = tile
        return tile

    def straight(self, a: Sequence[float], b: Sequence[float]) -> bool:
        """Whether the straight way between two free points is free; never between floors that no flight joins."""
        both = self._layers_at(a) & self._layers_at(b)
        ends = np.array([[a[0], a[1]]]), np.array([[b[0], b[1]]])
        return any(bool(self.straight_in(k, *ends)[0]) for k in both)

    def straight_in(self, layer: int, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """bool [n]: whether the straight ways between plan points a and b of a layer, float64 [n 2] each, are free."""
        lines = shapely.linestrings(np.stack([a, b], 1))
        return np.asarray(shapely.contains_properly(self._whole[layer], lines))

    def _layers_at(self, point: Sequence[float]) -> set[int]:
        """The layers a point is in: one on a floor, two on a flight."""
        k = self.layer_of(point[2])
        sheet, _ = self._ground(k, point[0], point[1])
        return {i for i, v in enumerate(self.layers) if sheet == v.sheet or any(sheet == r[-1] for r in v.ramps)}

    @cached_property
    def _whole(self) -> list[BaseGeometry]:
        grown: list[BaseGeometry] = [shapely.buffer(layer.free, TOLERANCE, join_style="mitre") for layer in self.layers]
        shapely.prepare(grown)
        return grown

    @cached_property
    def outlines(self) -> list[np.ndarray]:
        """The straight pieces of the boundary of each layer's free space, `GROWN`: float64 [n 2 2]."""
        grown = [shapely.buffer(layer.free, GROWN, join_style="mitre") for layer in self.layers]
        return [np.zeros((0, 2, 2)) if g.is_empty else _pairs(g.boundary) for g in grown]

    # --- distances ------------------------------------------------------------------------------------------------

    @cached_property
    def graph(self) -> CornerGraph:
        """The corners of free space and all shortest distances between them."""
        return CornerGraph(self.sheets, self.portals)

    def locate(self, point: Sequence[float]) -> tuple[int, np.ndarray]:
        """Sheet under a point and the nearest free point [3] on it."""
        x, y, z = float(point[0]), float(point[1]), float(point[2])
        number, height = self._ground(self.layer_of(z), x, y)
        sheet = self.sheets[number]
        if not shapely.contains_properly(sheet.grown, PlanPoint(x, y)):
            x, y, z = self.snap(point)
            number, height = self._ground(self.layer_of(z), x, y)
        return number, np.array((x, y, height))

    def distance_field(self, goals: Sequence[Sequence[float]]) -> DistanceField:
        """Shortest distances to the nearest of `goals` (floor points, moved to the nearest free ones)."""
        key = tuple((float(g[0]), float(g[1]), float(g[2])) for g in goals)
        field = self._fields.get(key)
        if field is None:
            field = self._fields[key] = DistanceField(self, self.graph.field([self.locate(g) for g in key]))
            if len(self._fields) > _KEPT_FIELDS:
                self._fields.popitem(last=False)
        self._fields.move_to_end(key)
        return field

    def geodesic(self, a: Sequence[float], b: Sequence[float]) -> float:
        """Length of the shortest path between two floor points [m], inf where there is none."""
        return self.distance_field((b,)).distance(a)

    def path(self, a: Sequence[float], b: Sequence[float]) -> np.ndarray:
        """float64 [n 3]: corners of the shortest path, both ends included; empty where there is none."""
        return self.distance_field((b,)).path(a)


class DistanceField:
    """Shortest distances from anywhere to a set of goals; a query costs the same however far they are."""

    def __init__(self, mesh: NavMesh, field: Field) -> None:
        self._mesh, self._field = mesh, field

    def distance(self, point: Sequence[float]) -> float:
        """From a floor point [m]; inf where no goal is reachable."""
        sheet, (x, y, z) = self._mesh.locate(point)
        return self._field.first(sheet, x, y, z)[0]

    def path(self, point: Sequence[float]) -> np.ndarray:
        """float64 [n 3]: corners of the shortest path to the nearest goal, both ends included; empty without one."""
        sheet, (x, y, z) = self._mesh.locate(point)
        return self._field.route(sheet, x, y, z)


def _walls(free: BaseGeometry) -> np.ndarray:
    """The straight pieces of a boundary: geometries [n]."""
    return np.asarray(shapely.linestrings(_pairs(free.boundary)))


def _pairs(lines: BaseGeometry) -> np.ndarray:
    """Both ends of the straight pieces of lines: float64 [n 2 2]."""
    found = [shapely.get_coordinates(line) for line in shapely.get_parts(shapely.get_parts(lines))]
    return np.concatenate([np.stack([c[:-1], c[1:]], 1) for c in found])


def _nearest(free: BaseGeometry, x: float, y: float) -> tuple[float, float]:
    (px, py), _ = shapely.get_coordinates(shapely.shortest_line(free, PlanPoint(x, y)))
    return float(px), float(py)


def _part_at(region: BaseGeometry, x: float, y: float) -> BaseGeometry | None:
    """The connected part of a region that holds a point, None where none is near it."""
    parts = shapely.get_parts(region)
    if not len(parts):
        return None
    apart = shapely.distance(parts, PlanPoint(x, y))
    best = int(apart.argmin())
    return parts[best] if apart[best] <= _NEAR else None
