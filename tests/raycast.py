"""The plainest ray caster: every ray against every solid. The judge of what renderers and meshes show."""

from __future__ import annotations

from collections.abc import Sequence
from math import cos, sin

import numpy as np

from wayhand.envs.house.house import Solid


def directions(width: int, height: int, hfov_deg: float, heading: float, elevation: float) -> np.ndarray:
    """float64 [h w 3]: rays through pixel centres, of length 1 along the optical axis."""
    tx = np.tan(np.radians(hfov_deg) / 2)
    u = (2 * (np.arange(width) + 0.5) / width - 1) * tx
    v = (1 - 2 * (np.arange(height) + 0.5) / height) * tx * height / width
    ch, sh, ce, se = cos(heading), sin(heading), cos(elevation), sin(elevation)
    forward, right, up = np.array([sh * ce, ch * ce, se]), np.array([ch, -sh, 0.0]), np.array([-sh * se, -ch * se, ce])
    return forward + u[None, :, None] * right + v[:, None, None] * up


def cast(solids: Sequence[Solid], origin: Sequence[float], rays: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(distance in lengths of the rays, 0 for nothing; index of the solid, −1 for nothing) of rays [… 3]."""
    flat = rays.reshape(-1, 3)
    best, hit = np.full(len(flat), np.inf), np.full(len(flat), -1)
    for i, solid in enumerate(solids):
        c, s = cos(solid.yaw), sin(solid.yaw)
        turn = np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]])
        t = _enter(solid, turn @ (np.asarray(origin) - solid.centre), flat @ turn.T)
        closer = t < best
        best[closer], hit[closer] = t[closer], i
    best[np.isinf(best)] = 0.0
    return best.reshape(rays.shape[:-1]), hit.reshape(rays.shape[:-1])


def _enter(solid: Solid, o: np.ndarray, d: np.ndarray) -> np.ndarray:
    """Where rays enter a solid in its own frame, inf where they miss it or start inside."""
    half = np.array(solid.half)
    with np.errstate(divide="ignore", invalid="ignore"):
        slabs = np.sort(np.stack([(-half - o) / d, (half - o) / d]), 0)
        low, high = np.nanmax(slabs[0], 1), np.nanmin(slabs[1], 1)
        if solid.shape != "box":
            axes = 2 if solid.shape == "cylinder" else 3
            p, q = (o / half)[:axes], (d / half)[:, :axes]
            a, b, k = (q * q).sum(1), q @ p, p @ p - 1
            root = np.sqrt(b * b - a * k)
            near, far = (-b - root) / a, (-b + root) / a
            low, high = (np.fmax(low, near), np.fmin(high, far)) if axes == 2 else (near, far)
            low[np.isnan(root)] = np.inf
    return np.where((low <= high) & (low > 0), low, np.inf)
