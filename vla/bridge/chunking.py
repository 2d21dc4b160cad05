"""Timestamped chunks: relative actions become absolute joint targets, joint targets become a trajectory in time.

The order matters. Increments are integrated against the observation they were computed from, and only then is
anything dropped by its time or replaced by a newer chunk: a late increment would otherwise move the whole rest.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ..contract import ActionChunk, EnvSpec, Observation
from ..errors import SpecError
from .limits import joint_indices
from .units import bounded

POSE_STATE = ("ee_x", "ee_y", "ee_z", "ee_qw", "ee_qx", "ee_qy", "ee_qz")
"""State elements of the measured end-effector pose: metres, then a quaternion w x y z, world frame."""

Pose = tuple[np.ndarray, np.ndarray]
"""Position [3] m and quaternion [4] w x y z, world frame."""
Integrate = Callable[[Pose, np.ndarray, Pose], Pose]
"""(commanded pose, increment [6] m and rad, measured pose) → the next commanded pose."""


@dataclass(frozen=True)
class HumanChunk(ActionChunk):
    """Joint targets that a human asks for; the loop marks the ticks which execute them."""


class Kinematics(Protocol):
    """Joint positions [J] rad ↔ end-effector position [3] m and quaternion [4] w x y z, world frame."""

    def forward(self, q: np.ndarray) -> tuple[np.ndarray, np.ndarray]: ...

    def solve(self, position: np.ndarray, quaternion: np.ndarray, seed: np.ndarray) -> np.ndarray: ...


def integrate_pose(commanded: Pose, delta: np.ndarray, measured: Pose) -> Pose:
    """Apply an increment [6]: translation [m] and rotation vector [rad], both along world axes. Without clamps."""
    position, quaternion = commanded
    half = float(np.linalg.norm(delta[3:])) / 2.0
    scale = np.sinc(half / np.pi) / 2.0  # sin(half) / (2 half), without a division by zero
    w1, (x1, y1, z1) = np.cos(half), delta[3:] * scale
    w2, x2, y2, z2 = quaternion
    turned = np.array(
        [
            w1 * w2 - x1 * x2 - y1 * y2 - z1 * z2,
            w1 * x2 + x1 * w2 + y1 * z2 - z1 * y2,
            w1 * y2 - x1 * z2 + y1 * w2 + z1 * x2,
            w1 * z2 + x1 * y2 - y1 * x2 + z1 * w2,
        ]
    )
    return position + delta[:3], turned / np.linalg.norm(turned)


@dataclass(frozen=True)
class Going:
    """What a robot does until a new chunk takes over.

    Args:
        targets: what it executes, as they were planned; None where nothing.
        until: when the new chunk is expected [s].
        pause: of a robot that stands still until then: after so many actions it does again; None where it goes on.
        origin: targets [A] that the chunk's increments go on from; None where that is what was commanded at its source.
    """

    targets: ActionChunk | None
    until: float
    pause: int | None = None
    origin: np.ndarray | None = None


class Targets(Protocol):
    """From a policy's chunks to absolute targets of a robot."""

    @property
    def rows(self) -> int:
        """Targets that one action becomes."""
        ...

    def seen(self, observation: Observation) -> Observation:
        """What of the robot's observation is the policy's."""
        ...

    def __call__(self, chunk: ActionChunk, observation: Observation, going: Going | None = None) -> ActionChunk:
        """Absolute targets float64 [H·rows A] from the chunk's source `observation`, the robot's.

        Args:
            going: until the chunk comes; None where it comes at once. With a pause, no more than what is executed
                before that is returned.
        """
        ...


class JointTargets:
    """Turns a policy's chunks into chunks of joint targets for a robot, elements matched by name.

    Args:
        policy: the spec the chunks are in: groups `ee_delta` (world frame, rotation vector) and `joint_position`.
        robot: the spec the targets are for: `joint_position` groups only.
        kinematics: of the arm; only an `ee_delta` policy needs it. Its joints are the robot's elements that are not
            commanded by the policy directly.
        integrate: how an increment moves the target pose; the environment's own rule, where it clamps.
    """

    def __init__(
        self,
        *,
        policy: EnvSpec,
        robot: EnvSpec,
        kinematics: Kinematics | None = None,
        integrate: Integrate = integrate_pose,
    ) -> None:
        self.policy = policy
        self._kinematics = kinematics
        self._integrate = integrate
        names = [e.name for e in robot.action_elements]
        if bad := [g.name for g in robot.action if g.kind != "joint_position"]:
            raise SpecError("The bridge commands joint positions", got=f"action group {', '.join(bad)} of another kind")
        self._width = len(names)
        self._delta: slice | None = None
        self._direct: list[tuple[slice, np.ndarray]] = []
        for group, where in policy.group_slices():
            if group.kind == "joint_position":
                self._direct.append((where, joint_indices(names, [e.name for e in group.elements])))
            elif (group.kind, group.frame, group.rotation) == ("ee_delta", "world", "rotvec") and self._delta is None:
                self._delta = where
            else:
                raise SpecError(
                    f"The bridge cannot turn action group '{group.name}' into joint targets",
                    expected="joint_position, or one ee_delta in the world frame with a rotation vector",
                    got=f"{group.kind} frame={group.frame!r} rotation={group.rotation!r}",
                )
        direct = {int(i) for _, indices in self._direct for i in indices}
        self._arm = np.array([i for i in range(len(names)) if i not in direct], np.int64)
        if self._delta is not None and kinematics is None:
            raise SpecError("An ee_delta policy needs the kinematics of the arm", run="JointTargets(…, kinematics=…)")
        if self._delta is None and len(self._arm):
            raise SpecError("No action of the policy moves a joint", got=", ".join(names[i] for i in self._arm))
        self._pose_state = _indices_or_none(policy, POSE_STATE)
        self._measured = joint_indices([e.name for e in policy.state], names)

    @property
    def rows(self) -> int:
        return 1

    def seen(self, observation: Observation) -> Observation:
        """All of it: the robot of an arm's policy is observed as the policy's spec says."""
        return observation

    def __call__(self, chunk: ActionChunk, observation: Observation, going: Going | None = None) -> ActionChunk:
        """Absolute targets float64 [H A_robot] at the chunk's times, integrated from its source `observation`.

        A chunk of another width becomes [H 0] and one that is not finite becomes NaN: judging is the gate's work.
        Raises `SpecError` for one that is not in the policy's units (see `bounded`).
        """
        if going is not None and going.pause is not None:
            chunk = ActionChunk(chunk.actions[: going.pause], chunk.times[: going.pause], chunk.observed_at)
        actions = np.asarray(chunk.actions, np.float64)
        if actions.shape[1] != self.policy.action_dim:
            return ActionChunk(np.empty((len(chunk), 0)), chunk.times, chunk.observed_at)
        if not np.isfinite(actions).all():
            return ActionChunk(np.full((len(chunk), self._width), np.nan), chunk.times, chunk.observed_at)
        actions = bounded(actions, self.policy)
        targets = np.empty((len(chunk), self._width))
        for where, indices in self._direct:
            targets[:, indices] = actions[:, where]
        if self._delta is not None:
            origin = None if going is None else going.origin
            targets[:, self._arm] = self._solve(actions[:, self._delta], observation, origin)
        return ActionChunk(targets, np.asarray(chunk.times, np.float64), chunk.observed_at)

    def _solve(self, deltas: np.ndarray, observation: Observation, origin: np.ndarray | None) -> np.ndarray:
        """Joint targets [H J]. The measured pose is known at the observation only; from there on it is taken to move
        as commanded. The next increment starts from the pose that the joints can reach, as in the environment."""
        assert self._kinematics is not None
        q = np.asarray(observation.state, np.float64)[self._measured][self._arm]
        measured = self._measured_pose(observation, q)
        commanded = self._commanded_pose(observation, measured)
        if origin is not None:
            q = origin[self._arm]
            commanded = self._kinematics.forward(q)
        out = np.empty((len(deltas), len(self._arm)))
        for k, delta in enumerate(deltas):
            position, quaternion = self._integrate(commanded, delta, measured)
            q = out[k] = self._kinematics.solve(position, quaternion, q)
            reached = self._kinematics.forward(q)
            measured = (measured[0] + reached[0] - commanded[0], reached[1])
            commanded = reached
        return out

    def _measured_pose(self, observation: Observation, q: np.ndarray) -> Pose:
        assert self._kinematics is not None
        if self._pose_state is None:
            return self._kinematics.forward(q)
        return _split(observation.state[self._pose_state])

    def _commanded_pose(self, observation: Observation, measured: Pose) -> Pose:
        """The pose the robot was commanded to at the observation where it reports it, else the measured one."""
        pose = observation.extras.get("ee_target")
        return measured if pose is None else _split(pose)


def _split(pose: np.ndarray) -> Pose:
    pose = np.asarray(pose, np.float64)
    return pose[:3], pose[3:] / np.linalg.norm(pose[3:])


def _indices_or_none(spec: EnvSpec, names: tuple[str, ...]) -> np.ndarray | None:
    have = [e.name for e in spec.state]
    return joint_indices(have, names) if all(n in have for n in names) else None


class ChunkBuffer:
    """The trajectory being executed: the newest chunk alone, joined to the command it took over from.

    Waypoint k is reached at its time; between waypoints the target moves linearly. A newer chunk replaces the rest
    of the old one; the two are never averaged.
    """

    def __init__(self) -> None:
        self._times: np.ndarray | None = None
        self._points = np.zeros((0, 0))
        self.observed_at: float | None = None

    def clear(self) -> None:
        self._times, self.observed_at = None, None

    def replace(
        self, command: np.ndarray, now: float, actions: np.ndarray, times: np.ndarray, observed_at: float
    ) -> None:
        """Execute `actions` [H A] at `times` [H], all after `now`, from the present `command` [A] on."""
        self._times = np.concatenate([[now], times])
        self._points = np.concatenate([command[None], actions])
        self.observed_at = observed_at

    def sample(self, t: float) -> np.ndarray | None:
        """The target [A] at time `t` [s], or None after the last waypoint and before the first chunk."""
        times = self._times
        if times is None or t > times[-1] + 1e-9:
            return None
        k = int(np.searchsorted(times, t))
        if k == 0:
            return self._points[0]
        if k == len(times):
            return self._points[-1]
        share = (t - times[k - 1]) / (times[k] - times[k - 1])
        return self._points[k - 1] + share * (self._points[k] - self._points[k - 1])
