"""Shortest paths on walkable floors: a visibility graph over the corners of free space, exact in the plane.

Floors and ramps are `Sheet`s, each flat in its own coordinates; portals join them. A shortest path is straight between
corners (Lozano-Pérez and Wesley 1979), so distances between corners are computed once per house, those of corners to
the goals once per set of goals, and a query looks for the visible corner from which the rest is shortest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import shapely
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import dijkstra
from shapely import Polygon
from shapely.geometry.base import BaseGeometry

TOLERANCE = 1e-6
"""How far outside of free space a point may lie for rounding [m]."""
_ALONG = 2e-5
PORTAL_SPACING = 0.05
"""Distance of the points in which paths cross from one sheet to the next [m]."""


@dataclass(frozen=True, eq=False)
class Sheet:
    """A plane piece of walkable surface.

    Args:
        free: its walkable part in plan.
        base: plan point with height `floor`.
        slope: rise per metre along x and y; 0 on floors.
        floor: [m].
    """

    free: BaseGeometry
    base: tuple[float, float]
    slope: tuple[float, float]
    floor: float

    @cached_property
    def grown(self) -> BaseGeometry:
        """`free` with the tolerance, prepared: what lines of sight have to stay inside."""
        grown = shapely.buffer(self.free, TOLERANCE, join_style="mitre")
        shapely.prepare(grown)
        return grown

    @property
    def flat(self) -> bool:
        return self.slope == (0.0, 0.0)

    def height(self, x: float, y: float) -> float:
        """Height of the surface [m]."""
        return self.floor + (x - self.base[0]) * self.slope[0] + (y - self.base[1]) * self.slope[1]

    def lift(self, plan: np.ndarray) -> np.ndarray:
        """float64 [… 3] of plan points [… 2]."""
        z = self.floor + (plan - np.asarray(self.base)) @ np.asarray(self.slope)
        return np.concatenate([plan, z[..., None]], -1)

    def sees(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """bool [n]: whether the straight lines between plan points a and b, float64 [n 2] each, are free."""
        lines = shapely.linestrings(np.stack(np.broadcast_arrays(a, b), -2))
        return np.asarray(shapely.contains_properly(self.grown, lines))


def corners(free: BaseGeometry) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The reflex corners of a polygon with the corners before and after them: float64 [n 2], three times."""
    found: list[np.ndarray] = []
    for polygon in shapely.get_parts(shapely.geometry.polygon.orient(free) if isinstance(free, Polygon) else free):
        polygon = shapely.geometry.polygon.orient(polygon)
        for ring in (polygon.exterior, *polygon.interiors):
            at = np.asarray(ring.coords)[:-1, :2]
            before, after = np.roll(at, 1, 0), np.roll(at, -1, 0)
            # Free space is on the left of both kinds of ring, so a right turn is a corner that paths bend around.
            found.append(np.stack([at, before, after], 1)[_cross(at - before, after - at) < -1e-12])
    table = np.concatenate(found) if found else np.zeros((0, 3, 2))
    return table[:, 0], table[:, 1], table[:, 2]


def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]


@dataclass(frozen=True, eq=False)
class Field:
    """Distances to a set of goals: per sheet the points a path may aim at first and what remains from there.

    Args:
        aims: per sheet, float64 [n 3] points in space.
        remaining: per sheet, float64 [n], from there to the nearest goal [m].
        follow: per sheet, the aims' numbers in the graph; −1 − g for goal g itself.
        after: per number in the graph, the goal that is nearest and the corner before it.
    """

    graph: CornerGraph
    goals: np.ndarray
    aims: tuple[np.ndarray, ...]
    remaining: tuple[np.ndarray, ...]
    follow: tuple[np.ndarray, ...]
    after: np.ndarray

    def first(self, sheet: int, x: float, y: float, z: float) -> tuple[float, int]:
        """Distance from a point of a sheet [m] and the aim it goes to first; inf and −1 where no goal is reachable."""
        aims, remaining = self.aims[sheet], self.remaining[sheet]
        if not len(remaining):
            return float("inf"), -1
        apart = aims - (x, y, z)
        total = np.sqrt(np.einsum("ij,ij->i", apart, apart)) + remaining
        grown, order = self.graph.sheets[sheet].grown, None
        start, size = 0, 2
        while start < len(total):
            # The nearest few decide most queries, so the rest is sorted only when they are all hidden.
            if order is None:
                rows = np.argpartition(total, size)[:size] if len(total) > size else np.arange(len(total))
                rows = rows[total[rows].argsort()]
            else:
                rows = order[start : start + size]
            lines = np.empty((len(rows), 2, 2))
            lines[:, 0], lines[:, 1] = (x, y), aims[rows, :2]
            seen = shapely.contains_properly(grown, shapely.linestrings(lines)) & np.isfinite(total[rows])
            first = int(seen.argmax())
            if seen[first]:
                return float(total[rows[first]]), int(rows[first])
            start, size = start + len(rows), 4 * size
            order = total.argsort() if order is None else order
        return float("inf"), -1

    def route(self, sheet: int, x: float, y: float, z: float) -> np.ndarray:
        """float64 [n 3]: corners of the shortest path, both ends included; empty where there is none."""
        _, aim = self.first(sheet, x, y, z)
        if aim < 0:
            return np.zeros((0, 3))
        chain, at = [np.array((x, y, z))], int(self.follow[sheet][aim])
        if at >= 0:
            goal, last = (int(v) for v in self.after[at])
            chain += [self.graph.points[k] for k in self.graph.between(at, last)]
        else:
            goal = -1 - at
        chain.append(self.goals[goal])
        points = np.stack(chain)
        keep = np.append(np.linalg.norm(np.diff(points, axis=0), axis=1) > 1e-9, True)
        return points[keep] if keep[:-1].any() else points[-1:].repeat(2, 0)


class CornerGraph:
    """The corners of some sheets, the points in which sheets meet, and all shortest distances between them.

    Args:
        sheets: planar pieces of the surface.
        portals: points [n 2] that two sheets share, with both sheets' numbers.
    """

    def __init__(self, sheets: Sequence[Sheet], portals: Sequence[tuple[int, int, np.ndarray]]) -> None:
        self.sheets = tuple(sheets)
        points: list[np.ndarray] = []
        self._rows: list[np.ndarray] = []
        self._turns: list[tuple[np.ndarray, np.ndarray]] = []
        members: list[list[np.ndarray]] = [[] for _ in sheets]
        size = 0
        for k, sheet in enumerate(self.sheets):
            at, before, after = corners(sheet.free)
            points.append(sheet.lift(at))
            members[k].append(np.arange(size, size + len(at)))
            self._turns.append((before - at, after - at))
            size += len(at)
        for a, b, at in portals:
            points.append(self.sheets[a].lift(at))
            for k in (a, b):
                members[k].append(np.arange(size, size + len(at)))
            size += len(at)
        self._rows = [np.concatenate(m) for m in members]
        self.points = np.concatenate(points) if points else np.zeros((0, 3))
        """float64 [N 3], [m]."""
        self.distances, self._before = self._shortest()
        """float64 [N N], [m]; inf where there is no path."""

    def _shortest(self) -> tuple[np.ndarray, np.ndarray]:
        edges = [self._edges(k) for k in range(len(self.sheets))]
        i, j = (np.concatenate([e[n] for e in edges]) if edges else np.zeros(0, np.int64) for n in (0, 1))
        n = len(self.points)
        # Two sheets may join the same pair of portal points; a sparse sum would count that edge twice.
        i, j = np.divmod(np.unique(i * n + j), max(n, 1))
        weights = np.maximum(np.linalg.norm(self.points[i] - self.points[j], axis=-1), 1e-12)
        matrix = coo_matrix((weights, (i, j)), shape=(n, n)).tocsr()
        distances, before = dijkstra(matrix, directed=False, return_predecessors=True)
        return np.asarray(distances), np.asarray(before)

    def _edges(self, k: int) -> tuple[np.ndarray, np.ndarray]:
        rows = self._rows[k]
        plan = self.points[rows, :2]
        i, j = np.triu_indices(len(rows), 1)
        useful = self._bends(k, plan[i], j) & self._bends(k, plan[j], i)
        i, j = i[useful], j[useful]
        seen = self.sheets[k].sees(plan[i], plan[j])
        return rows[i[seen]], rows[j[seen]]

    def _bends(self, k: int, source: np.ndarray, local: np.ndarray) -> np.ndarray:
        """bool [n]: whether a shortest path that comes straight from `source` [n 2] can turn at these local nodes."""
        before, after = self._turns[k]
        reflex = local < len(before)
        own = np.where(reflex, local, 0)
        if not len(before):
            return np.ones(len(local), bool)
        come = source - self.points[self._rows[k][own], :2]
        a, b = _cross(come, before[own]), _cross(come, after[own])
        # Not between the two edges' extensions; points along an edge may be off by the tolerance.
        return ~reflex | ~((np.minimum(a, b) < -_ALONG) & (np.maximum(a, b) > _ALONG))

    def between(self, a: int, b: int) -> list[int]:
        """The corners of the shortest path from a to b, both included."""
        back = [b]
        while back[-1] != a:
            back.append(int(self._before[a, back[-1]]))
        return back[::-1]

    def field(self, goals: Sequence[tuple[int, np.ndarray]]) -> Field:
        """Distances to the nearest of `goals`, each a sheet's number and a point [3] on it."""
        n = len(self.points)
        best = np.full(n, np.inf)
        after = np.full((n, 2), -1, np.int64)
        for g, (k, goal) in enumerate(goals):
            rows = self._rows[k]
            if not len(rows):
                continue
            local = np.flatnonzero(self._bends(k, np.broadcast_to(goal[:2], (len(rows), 2)), np.arange(len(rows))))
            seen = rows[local[self.sheets[k].sees(self.points[rows[local], :2], goal[:2])]]
            if not len(seen):
                continue
            through = self.distances[:, seen] + np.linalg.norm(self.points[seen] - goal, axis=-1)
            last = through.argmin(1)
            length = through[np.arange(n), last]
            closer = length < best
            best[closer] = length[closer]
            after[closer, 0], after[closer, 1] = g, seen[last[closer]]
        table = np.array([g for _, g in goals], np.float64).reshape(-1, 3)
        aims, remaining, follow = [], [], []
        for k, rows in enumerate(self._rows):
            rows = rows[np.isfinite(best[rows])]
            own = np.array([g for g, (sheet, _) in enumerate(goals) if sheet == k], np.int64)
            aims.append(np.concatenate([self.points[rows], table[own]]))
            remaining.append(np.concatenate([best[rows], np.zeros(len(own))]))
            follow.append(np.concatenate([rows, -1 - own]))
        return Field(self, table, tuple(aims), tuple(remaining), tuple(follow), after)
