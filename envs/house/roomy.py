"""The shortest way for a body that does not slide along walls: with room to them where there is some."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np

from ...vla.navigation import NavigationError
from .house import House
from .navmesh import NavMesh

FINAL, DETOUR = 0.5, 1.3
"""Metres before the goal at which the shortest way is taken; and how much longer the wide one may be."""
_KEPT = 64
"""Houses whose free space is remembered."""


def wider(house: Callable[[str], House], *, radius: float, tall: float) -> Callable[[str], NavMesh | None]:
    """The free space of a scan for a body of `radius` [m]; None where that has none.

    Args:
        house: where to find a scan's house.
        tall: of the body [m].
    """

    @lru_cache(_KEPT)
    def mesh(scan: str) -> NavMesh | None:
        try:
            return NavMesh(house(scan), radius=radius, height=tall)
        except NavigationError:
            return None

    return mesh


class RoomyWay:
    """The way to the nearest of some goals on the free space of a wider body, from wherever the body itself may be.

    It is the shortest way of all for the last `FINAL` metres, and where the wide one is more than `DETOUR` times as
    long and `FINAL` metres more: through a door that only the body itself fits through, say.

    Args:
        mesh: free space of the body.
        wide: that of a wider one; None where it has none.
        goals: floor points [m].
    """

    def __init__(self, mesh: NavMesh, wide: NavMesh | None, goals: Sequence[Sequence[float]]) -> None:
        self._mesh = mesh
        self._field = mesh.distance_field(goals)
        self._wide = None if wide is None else wide.distance_field(goals)

    def __call__(self, here: Sequence[float]) -> np.ndarray:
        """float64 [n 3]: corners of the way from a floor point; empty where no goal can be reached."""
        path, distance = self._field.path(here), self._field.distance(here)
        if self._wide is None or distance < FINAL or not self._wide.distance(here) < DETOUR * distance + FINAL:
            return path
        wide = self._wide.path(here)
        # Where only the body itself fits in, the place nearest to the goal may be behind a wall.
        if len(wide) < 2 or self._field.distance(wide[-1]) >= FINAL:
            return path
        # From a wall away from it first, where the wide way does not begin in sight.
        rest = wide[1:] if self._mesh.straight(path[0], wide[1]) else wide[:1]
        return np.vstack([path[:1], rest])
