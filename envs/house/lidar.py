"""A planar laser scanner of a body in procedural houses."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np

from ...vla.errors import ConfigError
from ..navigation_state import NavState
from .free_space import clear_ahead
from .house import House
from .navmesh import NavMesh

POINT = 0.02
"""Radius of the body for which nothing but obstacles is in the way [m]."""
_KEPT = 64


class Lidar:
    """Distances from the body's centre to what would stop it, walls and furniture alike, without noise.

    Args:
        house: where to find a scan's house.
        beams: how many, counter-clockwise from straight ahead and equally far apart.
        reach: where the distances end [m].
        tall: obstacles up to this height are seen [m].
    """

    def __init__(self, house: Callable[[str], House], *, beams: int, reach: float, tall: float) -> None:
        if beams < 1 or not reach > 0:
            raise ConfigError("A laser scanner needs beams and a range", got=f"lidar={beams} lidar_range={reach}")
        self._beams, self._reach = beams, reach
        self._mesh = lru_cache(_KEPT)(lambda scan: NavMesh(house(scan), radius=POINT, height=tall))

    @property
    def elements(self) -> tuple[tuple[str, str], ...]:
        """Name and unit of every distance."""
        return tuple((f"range_{k:03d}", "m") for k in range(self._beams))

    def __call__(self, scan: str, state: NavState) -> np.ndarray:
        """float64 [beams]: the distances from where a body is [m]."""
        free = self._mesh(scan)
        return clear_ahead(free, state.position, state.heading, rays=self._beams, reach=self._reach)
