"""What an `ee_delta` increment does to the commanded pose: one rule for the environment and for the robot loop."""

from __future__ import annotations

import numpy as np

from .kinematics import integrate_delta, rotate, rotation_error

WORKSPACE = (np.array([0.28, -0.34, 0.006]), np.array([0.74, 0.34, 0.45]))
"""Box the commanded tool centre point is kept in [m]."""
LEAD_POSITION, LEAD_ROTATION = 0.06, 0.4
"""How far the commanded pose may run ahead of the measured one [m, rad]."""

Pose = tuple[np.ndarray, np.ndarray]
"""Position [3] m and quaternion [4] w x y z."""


def follow(commanded: Pose, delta: np.ndarray, measured: Pose) -> Pose:
    """The commanded pose moved by `delta` [6], kept inside `WORKSPACE` and close to the measured pose."""
    position, quaternion = integrate_delta(*commanded, delta)
    here, turn = measured
    position = np.clip(np.clip(position, here - LEAD_POSITION, here + LEAD_POSITION), *WORKSPACE)
    lead = rotation_error(quaternion, turn)
    angle = float(np.linalg.norm(lead))
    if angle > LEAD_ROTATION:
        quaternion = rotate(turn, lead * (LEAD_ROTATION / angle))
    return position, quaternion
