"""Lines of sight through a house, over and under its furniture."""

from __future__ import annotations

import numpy as np

from .house import House
from .solids import solids

_CHUNK = 1 << 19
_TOUCH = 1e-6
_BAND = 0.5


class Sight:
    """What blocks the view between two points: every solid but window panes, as the box around it in its own frame."""

    def __init__(self, house: House) -> None:
        windows = {o.material for o in house.openings if o.kind == "window"}
        bodies = [s for s in solids(house) if not (s.role == "pane" and s.material in windows)]
        self._centre = np.array([s.centre for s in bodies])
        self._half = np.array([s.half for s in bodies]) - _TOUCH
        yaw = np.array([s.yaw for s in bodies])
        self._cos, self._sin = np.cos(yaw), np.sin(yaw)

    def sees(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """bool [n]: whether the straight lines between points a and b, float64 [n 3] each, are free of solids."""
        a, b = (np.asarray(v, np.float64).reshape(-1, 3) for v in np.broadcast_arrays(a, b))
        low, high = np.minimum(a[:, 2], b[:, 2]), np.maximum(a[:, 2], b[:, 2])
        free = np.zeros(len(a), bool)
        # Lines of one storey at one height meet walls and tall furniture only, so they are tested by bands of height.
        bands = np.floor(np.stack([low, high], -1) / _BAND).astype(np.int64)
        for band in np.unique(bands, axis=0):
            rows = np.flatnonzero((bands == band).all(-1))
            bottom, top = low[rows].min(), high[rows].max()
            solid = np.abs(self._centre[:, 2] - (bottom + top) / 2) <= self._half[:, 2] + (top - bottom) / 2
            size = max(1, _CHUNK // max(int(solid.sum()), 1))
            for at in range(0, len(rows), size):
                part = rows[at : at + size]
                free[part] = self._free(a[part], b[part], solid)
        return free

    def _free(self, a: np.ndarray, b: np.ndarray, solid: np.ndarray) -> np.ndarray:
        centre, half, c, s = self._centre[solid], self._half[solid], self._cos[solid], self._sin[solid]
        x, y, z = (a[:, None, i] - centre[:, i] for i in range(3))
        dx, dy, dz = (b - a).T[:, :, None]
        enter, leave = np.zeros((len(a), len(centre))), np.ones((len(a), len(centre)))
        # Slabs: the part of the line between each pair of faces; a solid blocks where the three parts overlap.
        for start, way, side in (
            (c * x + s * y, c * dx + s * dy, half[:, 0]),
            (c * y - s * x, c * dy - s * dx, half[:, 1]),
            (z, np.broadcast_to(dz, z.shape), half[:, 2]),
        ):
            way = np.where(np.abs(way) < 1e-12, 1e-12, way)
            one, two = (-side - start) / way, (side - start) / way
            enter = np.maximum(enter, np.minimum(one, two))
            leave = np.minimum(leave, np.maximum(one, two))
        return np.asarray(~(enter < leave).any(-1))
