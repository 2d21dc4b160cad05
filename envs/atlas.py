"""Many viewpoint graphs as one table, so that a batch of agents is looked up and moved in a few array operations.

Headings, elevations and the 36 views follow the Matterport3D simulator (Anderson et al. 2018): heading 0 along +y and
clockwise, views 0–11 look 30° down, 12–23 level, 24–35 30° up, each ring in steps of 30° from heading 0.

Axis legend: N viewpoints of all graphs, B agents, K candidates, G goals.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..vla.navigation import NavigationError, ViewpointGraph

VIEWS = 36
STEP = np.pi / 6
"""Angle between neighbouring views [rad]."""


def view_angles() -> np.ndarray:
    """float32 [36 2]: heading and elevation of each view [rad]."""
    index = np.arange(VIEWS)
    return np.stack([(index % 12) * STEP, (index // 12 - 1) * STEP], -1).astype(np.float32)


def view_index(heading: np.ndarray, elevation: np.ndarray) -> np.ndarray:
    """int32: the view whose centre is nearest to a direction."""
    ring = np.clip(np.rint(np.asarray(elevation) / STEP), -1, 1).astype(np.int32) + 1
    return ring * 12 + np.rint(np.asarray(heading) / STEP).astype(np.int32) % 12


def wrapped(angle: np.ndarray) -> np.ndarray:
    """The same angle in [−π, π)."""
    return (np.asarray(angle) + np.pi) % (2 * np.pi) - np.pi


@dataclass(frozen=True)
class Candidates:
    """Where B agents can go next. Candidate 0 is staying, which stops; the others follow by angular distance.

    Args:
        row: int32 [B K], viewpoint in the atlas; −1 for padding.
        view: int32 [B K], the view that shows it; 0 for staying and padding.
        heading, elevation: float32 [B K], relative to the agent's [rad]; 0 for staying and padding.
        distance: float32 [B K], straight line [m].
        mask: bool [B K], True where real.
    """

    row: np.ndarray
    view: np.ndarray
    heading: np.ndarray
    elevation: np.ndarray
    distance: np.ndarray
    mask: np.ndarray

    @property
    def angles(self) -> np.ndarray:
        """float32 [B K 4]: sine and cosine of heading and elevation; zeros where padded."""
        h, e = self.heading, self.elevation
        return np.stack([np.sin(h), np.cos(h), np.sin(e), np.cos(e)], -1) * self.mask[..., None]


class Atlas:
    """The graphs of many buildings; a viewpoint is a row in 0 … N − 1.

    Args:
        graphs: by scan.
        candidates: K, staying included.

    Raises `NavigationError` where a viewpoint has more than K − 1 neighbours.

    Attributes:
        names: (scan, viewpoint) of each row.
        positions: float64 [N 3], camera positions [m].
    """

    def __init__(self, graphs: Mapping[str, ViewpointGraph], candidates: int = 24) -> None:
        self.graphs = dict(graphs)
        self.candidates = candidates
        self.names = [(scan, viewpoint) for scan, graph in self.graphs.items() for viewpoint in graph.ids]
        if not self.names:
            raise NavigationError("An atlas needs at least one viewpoint", got=f"{len(self.graphs)} graphs")
        sizes = np.array([len(g.ids) for g in self.graphs.values()])
        self._first = dict(zip(self.graphs, np.cumsum(sizes) - sizes, strict=True))
        self._begin = np.repeat(np.cumsum(sizes) - sizes, sizes)
        self._size = np.repeat(sizes, sizes)
        self._block = np.repeat(np.cumsum(sizes**2) - sizes**2, sizes)
        self.positions = np.concatenate([g.positions for g in self.graphs.values()])
        self._geodesic = np.concatenate([g.distances.ravel() for g in self.graphs.values()])
        self._join(np.concatenate([self._edges(scan) for scan in self.graphs]))

    def _edges(self, scan: str) -> np.ndarray:
        """int [E 2]: rows joined by a step, both directions, in file order."""
        graph = self.graphs[scan]
        most = int(graph.adjacency.sum(1).max(initial=0))
        if most >= self.candidates:
            raise NavigationError(
                f"A viewpoint of '{scan}' has too many neighbours",
                expected=f"at most {self.candidates - 1}",
                got=str(most),
                run=f"candidates={most + 1}",
            )
        return np.argwhere(graph.adjacency) + self._first[scan]

    def _join(self, edges: np.ndarray) -> None:
        n, width = len(self.names), self.candidates - 1
        source, target = edges[:, 0], edges[:, 1]
        slot = np.arange(len(edges)) - np.searchsorted(source, source)
        offset = self.positions[target] - self.positions[source]
        level = np.linalg.norm(offset[:, :2], axis=-1)
        self._neighbour = np.full((n, width), -1, np.int32)
        self._heading, self._elevation, self._distance = (np.zeros((n, width)) for _ in range(3))
        self._neighbour[source, slot] = target
        self._heading[source, slot] = np.arctan2(offset[:, 0], offset[:, 1]) % (2 * np.pi)
        self._elevation[source, slot] = np.arctan2(offset[:, 2], level)
        self._distance[source, slot] = np.linalg.norm(offset, axis=-1)
        self._view = view_index(self._heading, self._elevation)

    def __len__(self) -> int:
        return len(self.names)

    def row(self, scan: str, viewpoint: str) -> int:
        """Row of a viewpoint; raises `NavigationError` for an unknown one."""
        if scan not in self.graphs:
            raise NavigationError("Unknown scan", got=scan, exists=list(self.graphs)[:20])
        return int(self._first[scan]) + self.graphs[scan].index(viewpoint)

    def viewpoint(self, row: int) -> str:
        return self.names[row][1]

    def local(self, rows: np.ndarray) -> np.ndarray:
        """int32: the index of each row within its own graph."""
        return (np.asarray(rows) - self._begin[rows]).astype(np.int32)

    def distance(self, rows: np.ndarray, goals: np.ndarray) -> np.ndarray:
        """float64 [B]: shortest distance [m] from rows [B] to the nearest of goals [B G]; −1 pads G."""
        rows = np.asarray(rows)[:, None]
        ends = np.maximum(goals, 0)
        apart = self._geodesic[self._block[rows] + (rows - self._begin[rows]) * self._size[rows] + self.local(ends)]
        return np.where(goals >= 0, apart, np.inf).min(1)

    def neighbours(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rows one step away int32 [B K−1], −1 padded, and their straight distances float64 [B K−1] [m]."""
        return self._neighbour[rows], self._distance[rows]

    def next_row(self, rows: np.ndarray, goals: np.ndarray) -> np.ndarray:
        """int32 [B]: the next viewpoint on a shortest path to the nearest goal; the row itself at a goal."""
        rows = np.asarray(rows)
        near, apart = self.neighbours(rows)
        reach = self.distance(np.maximum(near, 0).ravel(), np.repeat(goals, near.shape[1], 0)).reshape(near.shape)
        cost = np.where(near >= 0, apart + reach, np.inf)
        best = near[np.arange(len(rows)), cost.argmin(1)]
        return np.where(self.distance(rows, goals) > 0, best, rows).astype(np.int32)

    def look(
        self, rows: np.ndarray, headings: np.ndarray, elevations: np.ndarray, *, hfov: float | None = None
    ) -> Candidates:
        """The candidates of agents at `rows` [B] that look along `headings`, `elevations` [B] [rad].

        Args:
            hfov: only what lies within this horizontal field of view [rad], MatterSim's restricted navigation.
        """
        rows = np.asarray(rows)
        target = self._neighbour[rows]
        heading = wrapped(self._heading[rows] - np.asarray(headings, np.float64)[:, None])
        elevation = self._elevation[rows] - np.asarray(elevations, np.float64)[:, None]
        real = target >= 0
        if hfov is not None:
            real &= np.abs(heading) <= hfov / 2
        order = np.argsort(np.where(real, np.hypot(heading, elevation), np.inf), axis=1, kind="stable")
        agent = np.arange(len(rows))[:, None]
        shape = (len(rows), self.candidates)
        found = Candidates(
            row=np.full(shape, -1, np.int32),
            view=np.zeros(shape, np.int32),
            heading=np.zeros(shape, np.float32),
            elevation=np.zeros(shape, np.float32),
            distance=np.zeros(shape, np.float32),
            mask=np.ones(shape, bool),
        )
        found.row[:, 0] = rows
        found.mask[:, 1:] = shown = real[agent, order]
        found.row[:, 1:][shown] = target[agent, order][shown]
        found.view[:, 1:][shown] = self._view[rows[:, None], order][shown]
        found.heading[:, 1:][shown] = heading[agent, order][shown]
        found.elevation[:, 1:][shown] = elevation[agent, order][shown]
        found.distance[:, 1:][shown] = self._distance[rows[:, None], order][shown]
        return found


def goal_rows(atlas: Atlas, scan: str, viewpoints: Sequence[str]) -> np.ndarray:
    """int32 [G]: rows of the viewpoints of one scan."""
    return np.array([atlas.row(scan, v) for v in viewpoints], np.int32)
