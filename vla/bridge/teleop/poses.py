"""Differences of poses: the inverse of `chunking.integrate_pose`."""

from __future__ import annotations

import numpy as np

from ..chunking import Pose


def rotation_vector(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """[3] rad, about the world's axes, the shorter way from quaternion `before` to `after` (w x y z)."""
    w1, x1, y1, z1 = after
    w2, (x2, y2, z2) = before[0], -before[1:]
    turn = np.array(
        [
            w1 * w2 - x1 * x2 - y1 * y2 - z1 * z2,
            w1 * x2 + x1 * w2 + y1 * z2 - z1 * y2,
            w1 * y2 - x1 * z2 + y1 * w2 + z1 * x2,
            w1 * z2 + x1 * y2 - y1 * x2 + z1 * w2,
        ]
    )
    if turn[0] < 0:
        turn = -turn
    length = float(np.linalg.norm(turn[1:]))
    if length < 1e-12:
        return 2.0 * turn[1:]
    return turn[1:] * (2.0 * float(np.arctan2(length, turn[0])) / length)


def pose_difference(before: Pose, after: Pose) -> np.ndarray:
    """The increment [6] (metres, then a rotation vector in rad, both along world axes) from `before` to `after`."""
    return np.concatenate([after[0] - before[0], rotation_vector(before[1], after[1])])
