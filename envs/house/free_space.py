"""What a base could sense of the free space around it: how far its centre can go, in all directions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .navmesh import NavMesh

SLACK = 1e-9
"""Share of its length by which a piece of a wall is taken to be longer, so that nothing is seen through a corner."""


def clear_ahead(
    mesh: NavMesh, position: Sequence[float], heading: float, *, rays: int = 72, reach: float = 1.5
) -> np.ndarray:
    """Lengths [rays] of the free straight ways from a floor point, counter-clockwise from straight ahead [m].

    Args:
        heading: clockwise from +y [rad].
        reach: of the longest [m].
    """
    angles = np.pi / 2 - heading + np.arange(rays) * (2 * np.pi / rays)
    here = np.array([float(position[0]), float(position[1])])
    pieces = mesh.outlines[mesh.layer_of(position[2])] - here
    near = (pieces.min(1) <= reach).all(1) & (pieces.max(1) >= -reach).all(1)
    start, way = pieces[near, 0].T, (pieces[near, 1] - pieces[near, 0]).T
    towards = np.stack([np.cos(angles), np.sin(angles)])[..., None]
    # Where ray and piece meet: how far along the one [m] and the other (share).
    across = _cross(towards, way[:, None])
    with np.errstate(divide="ignore", invalid="ignore"):
        apart = _cross(start, way) / across
        share = _cross(start[:, None], towards) / across
    meets = (apart >= 0) & (share >= -SLACK) & (share <= 1 + SLACK)
    return np.asarray(np.where(meets, apart, reach).min(1, initial=reach))


def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.asarray(a[0] * b[1] - a[1] * b[0])
