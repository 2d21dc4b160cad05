"""Forward and inverse kinematics of an arm, without a scene and without rendering."""

from __future__ import annotations

import mujoco
import numpy as np

from .arm import JOINT_LOWER, JOINT_UPPER, JOINTS, REST, arm_spec

_DAMPING, _DAMPING_FLOOR = 1e-2, 1e-7  # λ² = damping · |error|² + floor: exact at the goal, tame far from it
_NULL_GAIN = 0.5
_DIAGONAL = np.diag_indices(6)
_POSITION_TOLERANCE, _ROTATION_TOLERANCE, _NULL_TOLERANCE = 1e-5, 1e-4, 1e-3


def canonical(quaternion: np.ndarray) -> np.ndarray:
    """The sign of q and −q (the same rotation) whose largest-magnitude component is positive."""
    return quaternion if quaternion[np.argmax(np.abs(quaternion))] >= 0 else -quaternion


def rotate(quaternion: np.ndarray, rotvec: np.ndarray) -> np.ndarray:
    """`quaternion` (w x y z) turned by `rotvec` [rad] about axes of the world, normalised and sign-canonical."""
    turn, out = np.zeros(4), np.zeros(4)
    angle = float(np.linalg.norm(rotvec))
    mujoco.mju_axisAngle2Quat(turn, rotvec / angle if angle > 0 else np.array([0.0, 0.0, 1.0]), angle)
    mujoco.mju_mulQuat(out, turn, quaternion)
    return canonical(out / np.linalg.norm(out))


def rotation_error(target: np.ndarray, current: np.ndarray) -> np.ndarray:
    """Rotation vector [rad], in the world frame, that takes `current` to `target` (quaternions w x y z)."""
    inverse, turn, out = np.zeros(4), np.zeros(4), np.zeros(3)
    mujoco.mju_negQuat(inverse, current)
    mujoco.mju_mulQuat(turn, target, inverse)
    mujoco.mju_quat2Vel(out, turn, 1.0)
    return out


class Kinematics:
    """Kinematics of the tool centre point in the frame of the arm's base.

    Solves by damped least squares on the Jacobian (Wampler 1986), damped by the error as in Sugihara (2011). The
    redundant degree of freedom is drawn to a rest posture, so that a pose has one answer whatever posture the search
    starts from.

    Args:
        model: an arm with joints `joint1…7` and a site `tcp`; the embedded arm by default.
        prefix: of the names in `model`.
    """

    def __init__(self, model: mujoco.MjModel | None = None, prefix: str = "") -> None:
        self._model = model if model is not None else arm_spec().compile()
        self._data = mujoco.MjData(self._model)
        joints = [self._model.joint(prefix + name) for name in JOINTS]
        self._qpos = np.array([j.qposadr[0] for j in joints])
        self._dof = np.array([j.dofadr[0] for j in joints])
        self._site = self._model.site(prefix + "tcp").id
        self.lower, self.upper = JOINT_LOWER.copy(), JOINT_UPPER.copy()

    def forward(self, q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Position [3] m and quaternion [4] w x y z (sign-canonical) of the tool centre point at joints q [7] rad."""
        data = self._data
        data.qpos[self._qpos] = q
        mujoco.mj_kinematics(self._model, data)
        quaternion = np.zeros(4)
        mujoco.mju_mat2Quat(quaternion, data.site_xmat[self._site])
        return data.site_xpos[self._site].copy(), canonical(quaternion)

    def jacobian(self, q: np.ndarray) -> np.ndarray:
        """[6 7]: linear velocity over angular velocity of the tool centre point, world axes, per joint rate."""
        self.forward(q)
        return self._jacobian()

    def _jacobian(self) -> np.ndarray:
        full = np.zeros((6, self._model.nv))
        mujoco.mj_comPos(self._model, self._data)
        mujoco.mj_jacSite(self._model, self._data, full[:3], full[3:], self._site)
        return full[:, self._dof]

    def solve(self, position: np.ndarray, quaternion: np.ndarray, seed: np.ndarray, iterations: int = 30) -> np.ndarray:
        """Joints [7] rad whose pose is nearest to the one asked for, within the joint limits.

        Never fails: a pose out of reach gives the nearest posture the search found from `seed`.

        Args:
            position: [3] m in the base frame.
            quaternion: [4] w x y z.
            seed: [7] rad, where the search starts.
        """
        q = np.clip(np.asarray(seed, np.float64), self.lower, self.upper)
        identity = np.eye(7)
        for _ in range(iterations):
            here, turn = self.forward(q)
            error = np.concatenate([position - here, rotation_error(quaternion, turn)])
            jacobian = self._jacobian()
            gram = jacobian @ jacobian.T
            gram[_DIAGONAL] += _DAMPING * float(error @ error) + _DAMPING_FLOOR
            pseudo = np.linalg.solve(gram, jacobian).T
            null = _NULL_GAIN * (identity - pseudo @ jacobian) @ (REST - q)
            done = (
                np.abs(error[:3]).max() < _POSITION_TOLERANCE
                and np.abs(error[3:]).max() < _ROTATION_TOLERANCE
                and np.abs(null).max() < _NULL_TOLERANCE
            )
            if done:
                break
            step = pseudo @ error + null
            largest = np.abs(step).max()
            q = np.clip(q + step * min(1.0, 0.3 / largest), self.lower, self.upper)
        return q


def integrate_delta(position: np.ndarray, quaternion: np.ndarray, delta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The pose one `ee_delta` increment [6] (metres, then a world-frame rotation vector in rad) leads to."""
    return position + delta[:3], rotate(quaternion, delta[3:6])
