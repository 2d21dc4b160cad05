"""The nouns of navigation: viewpoint graphs, and paths with their instructions.

World frame: right-handed, z up, metres. Headings are radians, 0 along +y and growing clockwise (to the right);
elevations are radians above the horizon: the conventions of the Matterport3D simulator (Anderson et al. 2018).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from scipy.sparse.csgraph import dijkstra

from .errors import WayhandError


class NavigationError(WayhandError):
    """A graph, a path or an episode that does not hold together."""


def heading_between(a: Sequence[float], b: Sequence[float]) -> float:
    """The heading in [0, 2π) of the horizontal direction from `a` to `b`."""
    return float(np.arctan2(b[0] - a[0], b[1] - a[1]) % (2 * np.pi))


@dataclass(frozen=True, eq=False)
class ViewpointGraph:
    """Where panoramas were taken in one building, and which of them see and reach each other.

    Args:
        scan: the building's id.
        ids: viewpoint ids, N of them, in file order.
        poses: float64 [N 4 4], camera to world.
        height: float64 [N], camera above the floor [m].
        included: bool [N], whether a viewpoint is used at all.
        visible, unobstructed: bool [N N]; two included viewpoints are joined where `unobstructed` holds.
        extras: per viewpoint, further fields of its file, kept as they came.
    """

    scan: str
    ids: tuple[str, ...]
    poses: np.ndarray
    height: np.ndarray
    included: np.ndarray
    visible: np.ndarray
    unobstructed: np.ndarray
    extras: tuple[Mapping[str, Any], ...] = ()

    def __post_init__(self) -> None:
        n = len(self.ids)
        shapes = {"poses": (n, 4, 4), "height": (n,), "included": (n,), "visible": (n, n), "unobstructed": (n, n)}
        for name, want in shapes.items():
            got = np.shape(getattr(self, name))
            if got != want:
                raise NavigationError(
                    f"Viewpoint graph '{self.scan}': '{name}' does not fit its {n} viewpoints",
                    expected=str(want),
                    got=str(got),
                )
        if len(set(self.ids)) != n:
            raise NavigationError(f"Viewpoint graph '{self.scan}' names a viewpoint twice")
        joined = self.adjacency
        if not np.array_equal(joined, joined.T):
            i, j = (int(x) for x in np.argwhere(joined != joined.T)[0])
            raise NavigationError(
                f"Viewpoint graph '{self.scan}' is not symmetric",
                expected="unobstructed[i][j] == unobstructed[j][i] between included viewpoints",
                got=f"{self.ids[i]} and {self.ids[j]} differ",
            )

    @cached_property
    def _index(self) -> dict[str, int]:
        return {name: i for i, name in enumerate(self.ids)}

    def index(self, viewpoint: str) -> int:
        """Row of a viewpoint; raises `NavigationError` for an unknown one."""
        try:
            return self._index[viewpoint]
        except KeyError:
            raise NavigationError(
                f"Viewpoint graph '{self.scan}' has no such viewpoint",
                got=viewpoint,
                exists=f"{len(self.ids)} viewpoints, the first is '{self.ids[0] if self.ids else ''}'",
            ) from None

    @cached_property
    def positions(self) -> np.ndarray:
        """float64 [N 3], camera positions [m]."""
        return np.ascontiguousarray(self.poses[:, :3, 3])

    @cached_property
    def adjacency(self) -> np.ndarray:
        """bool [N N]: which viewpoints an agent steps between."""
        joined = np.asarray(self.unobstructed, bool) & self.included[:, None] & self.included[None, :]
        np.fill_diagonal(joined, False)
        return joined

    @cached_property
    def lengths(self) -> np.ndarray:
        """float64 [N N]: straight 3-D distance of joined viewpoints [m], inf elsewhere."""
        apart = np.linalg.norm(self.positions[:, None] - self.positions[None], axis=-1)
        return np.where(self.adjacency, apart, np.inf)

    @cached_property
    def _shortest(self) -> tuple[np.ndarray, np.ndarray]:
        weights = np.where(self.adjacency, self.lengths, 0.0)
        distances, before = dijkstra(weights, directed=False, return_predecessors=True)
        return distances, before

    @property
    def distances(self) -> np.ndarray:
        """float64 [N N]: length of the shortest path along edges [m], inf where there is none."""
        return self._shortest[0]

    def distance(self, a: str, b: str) -> float:
        """Length of the shortest path from `a` to `b` along edges [m]."""
        return float(self.distances[self.index(a), self.index(b)])

    def path(self, a: str, b: str) -> tuple[str, ...]:
        """The viewpoints of a shortest path, both ends included; raises `NavigationError` where there is none."""
        start, at = self.index(a), self.index(b)
        if not np.isfinite(self.distances[start, at]):
            raise NavigationError(f"Viewpoint graph '{self.scan}' does not connect them", got=f"{a} and {b}")
        back = [at]
        while at != start:
            at = int(self._shortest[1][start, at])
            back.append(at)
        return tuple(self.ids[i] for i in reversed(back))

    def neighbours(self, viewpoint: str) -> tuple[str, ...]:
        """The viewpoints one step away, in file order."""
        return tuple(self.ids[j] for j in np.flatnonzero(self.adjacency[self.index(viewpoint)]))

    def length(self, path: Sequence[str]) -> float:
        """Sum of shortest distances between consecutive viewpoints [m]; repeats cost nothing."""
        rows = [self.index(v) for v in path]
        return float(sum(self.distances[i, j] for i, j in zip(rows, rows[1:], strict=False)))


@dataclass(frozen=True, slots=True)
class TimedWord:
    """A word with the seconds between which it was spoken; None where the source gives none."""

    word: str
    start: float | None = None
    end: float | None = None


@dataclass(frozen=True)
class Instruction:
    """One instruction of a path.

    Args:
        id: as results refer to it (R2R: `"<path id>_<i>"`).
        text: the words.
        language: a BCP 47 tag.
        words: the words with their times, where the benchmark has them.
        extra: further fields of its file, kept as they came.
    """

    id: str
    text: str
    language: str = "en"
    words: tuple[TimedWord, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Goal:
    """Where an episode ends well: within `radius` of `position`, or at an object.

    Args:
        position: [x y z] of the floor point or of the object [m].
        radius: [m], None where the protocol sets it.
        object_id, category: the object that is meant.
        viewpoints: positions from which it counts as found, floor points [m]; for graphs, see `viewpoint_ids`.
        viewpoint_ids: viewpoints that see it.
        extra: further fields of its file, kept as they came.
    """

    position: tuple[float, float, float] | None = None
    radius: float | None = None
    object_id: str | None = None
    category: str | None = None
    viewpoints: tuple[tuple[float, float, float], ...] = ()
    viewpoint_ids: tuple[str, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class NavEpisode:
    """One path through a building with everything that was said about it.

    Args:
        id: path or episode id, as text.
        scan: the building's id.
        instructions: none for point and object goals.
        path: viewpoint ids from start to goal; empty in continuous benchmarks.
        heading: at the start [rad].
        start: floor point [m]; None where the first viewpoint says it.
        reference: floor points of the reference path [m], in continuous benchmarks.
        goals: any of them ends the episode well.
        distance: shortest distance from start to goal [m].
        extra: further fields of its file, kept as they came.
    """

    id: str
    scan: str
    instructions: tuple[Instruction, ...] = ()
    path: tuple[str, ...] = ()
    heading: float = 0.0
    start: tuple[float, float, float] | None = None
    reference: tuple[tuple[float, float, float], ...] = ()
    goals: tuple[Goal, ...] = ()
    distance: float | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class NavResult:
    """What an agent did in one episode, as result and submission files tell it.

    Args:
        id: of the instruction or of the episode.
        path: viewpoints in order, in discrete benchmarks.
        headings, elevations: one each per viewpoint or position where the file has them [rad].
        positions: floor points in order [m], in continuous benchmarks.
        stopped: whether the agent called STOP; None where the format has no such thing.
        object_id: the object it pointed at.
        extra: further fields of its file, kept as they came.
    """

    id: str
    path: tuple[str, ...] = ()
    headings: tuple[float, ...] = ()
    elevations: tuple[float, ...] = ()
    positions: tuple[tuple[float, float, float], ...] = ()
    stopped: bool | None = None
    object_id: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
