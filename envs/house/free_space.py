"""What a base could sense of the free space around it: how far its centre can go, in all directions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import shapely

from .navmesh import NavMesh

GROWN = 1e-3
"""Free space is taken this much larger, so that a base that stands at a wall is inside [m]."""


def clear_ahead(
    mesh: NavMesh, position: Sequence[float], heading: float, *, rays: int = 72, reach: float = 1.5
) -> np.ndarray:
    """Lengths [rays] of the free straight ways from a floor point, counter-clockwise from straight ahead [m].

    Args:
        heading: clockwise from +y [rad].
        reach: of the longest [m].
    """
    x, y = float(position[0]), float(position[1])
    angles = np.pi / 2 - heading + np.arange(rays) * (2 * np.pi / rays)
    ends = np.array([x, y]) + reach * np.stack([np.cos(angles), np.sin(angles)], 1)
    lines = shapely.linestrings(np.stack([np.broadcast_to([x, y], ends.shape), ends], 1))
    free = shapely.clip_by_rect(
        mesh.layers[mesh.layer_of(position[2])].free, x - reach, y - reach, x + reach, y + reach
    )
    walls = shapely.boundary(shapely.buffer(free, GROWN, join_style="mitre"))
    meets = shapely.intersection(lines, walls)
    apart = shapely.distance(shapely.points(x, y), meets)
    return np.minimum(np.where(np.isnan(apart), reach, apart), reach)
