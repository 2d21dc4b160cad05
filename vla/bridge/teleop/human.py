"""A human as a policy: what a device reads becomes chunks of end-effector increments, a control period at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ...contract import ActionChunk, ActionGroup, Element, EnvSpec, Memory, Observation
from ...errors import ConfigError, SpecError
from ..chunking import POSE_STATE, Pose
from ..limits import joint_indices
from .hand import Device, Hand
from .poses import pose_difference

MOVING, CHUNK = 2, 8
"""Control periods that a chunk moves for, and that it lasts: a human who cannot be heard any more stops moving the
robot after the first, and the gate holds it after the second."""
FULL_STROKE = 0.7
"""Seconds in which a gripper opens or closes: told at once, a slow one would be cut by the gate until it latches."""


@dataclass(frozen=True)
class Speed:
    """The fastest that a human moves the hand: `linear` [m/s] along an axis, `angular` [rad/s] about one."""

    linear: float = 0.1
    angular: float = 0.5

    def __post_init__(self) -> None:
        for name in ("linear", "angular"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"'{name}' must be positive", got=str(getattr(self, name)))

    def step(self, dt: float) -> np.ndarray:
        """[6] m and rad, the largest increment in `dt` seconds."""
        return dt * np.array([self.linear] * 3 + [self.angular] * 3)


def hand_spec(robot: EnvSpec, speed: Speed) -> EnvSpec:
    """`robot` commanded by increments of its end effector, its gripper as it is.

    The gripper is the robot's group of that name; every other group is moved by the end effector.
    """
    elements = (*(Element(f"d{a}", "m") for a in "xyz"), *(Element(f"dr{a}", "rad") for a in "xyz"))
    most = tuple(speed.step(robot.control_dt).tolist())
    arm = ActionGroup(
        "arm", "ee_delta", elements, tuple(-x for x in most), most, frame="world", rotation="rotvec"
    )  # fmt: skip
    return replace(robot, action=(arm, *(g for g in robot.action if g.name == "gripper")))


class HumanPolicy:
    """`Policy` of one robot whose every action comes from a device.

    Args:
        device: read at the time of each observation.
        robot: the spec that observations are of.
        speed: of the hand.
    """

    def __init__(self, *, device: Device, robot: EnvSpec, speed: Speed | None = None) -> None:
        speed = speed or Speed()
        self._device = device
        self._spec = hand_spec(robot, speed)
        self._most = speed.step(robot.control_dt)
        gripper = [g for g in self._spec.action if g.name == "gripper"]
        names = [e.name for g in gripper for e in g.elements]
        self._closed = np.array([x for g in gripper for x in g.lower], np.float64)
        self._open = np.array([x for g in gripper for x in g.upper], np.float64)
        state = [e.name for e in robot.state]
        self._measured = joint_indices(state, names)
        self._pose = joint_indices(state, POSE_STATE) if all(n in state for n in POSE_STATE) else None
        self._times = robot.control_dt * np.arange(1, CHUNK + 1)
        self._stroke = (self._open - self._closed) / FULL_STROKE
        self._goal = self._gripper = np.zeros(len(names))
        self._began: tuple[np.ndarray | None] | None = None
        self._toggles, self._last = 0, 0.0

    @property
    def spec(self) -> EnvSpec:
        return self._spec

    def init(self, spec: EnvSpec, seeds: Sequence[int]) -> Memory:
        """Begin with the gripper as it is measured."""
        self._spec.require_same(replace(spec, action=self._spec.action), "the human (left) meets the robot (right)")
        self.begin(None)
        return ()

    def begin(self, gripper: np.ndarray | None) -> None:
        """Take control of a robot whose gripper was commanded to `gripper` [G] in spec units; None: measure it."""
        self._began = (gripper,)

    def act(
        self,
        observations: Sequence[Observation],
        memory: Memory,
        *,
        rng: Sequence[np.random.Generator],
        prefix: Sequence[ActionChunk | None] | None = None,
        delay: int = 0,
    ) -> tuple[list[ActionChunk], Memory, dict[str, Any]]:
        """One chunk [CHUNK 6+G] float64 for the one observation."""
        (observation,) = observations
        hand = self._device.read(observation.time)
        actions = np.zeros((CHUNK, self._spec.action_dim))
        actions[:, 6:] = self._grip(hand, observation)
        if hand.engaged:
            actions[:MOVING, :6] = self._steps(hand, observation)
        return [ActionChunk(actions, observation.time + self._times, observation.time)], memory, {}

    def _steps(self, hand: Hand, observation: Observation) -> np.ndarray:
        """Increments [MOVING 6]."""
        if hand.pose is None:
            return np.repeat((np.clip(hand.direction, -1.0, 1.0) * self._most)[None], MOVING, axis=0)
        left = pose_difference(self._commanded(observation), hand.pose)
        steps = np.zeros((MOVING, 6))
        for k in range(MOVING):
            for part in (slice(0, 3), slice(3, 6)):  # towards the target along a straight line
                length, most = float(np.linalg.norm(left[part])), float(self._most[part][0])
                steps[k, part] = left[part] * min(1.0, most / max(length, 1e-12))
            left = left - steps[k]
        return steps

    def _commanded(self, observation: Observation) -> Pose:
        pose = observation.extras.get("ee_target")
        if pose is None and self._pose is not None:
            pose = observation.state[self._pose]
        if pose is None:
            raise SpecError("The robot does not say where its hand is", expected=f"state {', '.join(POSE_STATE)}")
        pose = np.asarray(pose, np.float64)
        return pose[:3], pose[3:] / np.linalg.norm(pose[3:])

    def _grip(self, hand: Hand, observation: Observation) -> np.ndarray:
        """The gripper's targets [CHUNK G]: from where it was commanded to be now, towards what the human wants."""
        now = observation.time
        if self._began is not None:
            (commanded,), self._began = self._began, None
            here = observation.state[self._measured] if commanded is None else commanded
            self._gripper = self._goal = np.clip(np.asarray(here, np.float64), self._closed, self._open)
            self._toggles, self._last = hand.toggles, now
        if hand.engaged and hand.opening is not None:
            self._goal = self._closed + hand.opening * (self._open - self._closed)
        elif hand.engaged and (hand.toggles - self._toggles) % 2:
            is_open = self._goal.sum() > (self._open + self._closed).sum() / 2
            self._goal = self._closed if is_open else self._open
        self._gripper = self._after(now - self._last)
        self._toggles, self._last = hand.toggles, now
        return np.stack([self._after(t) for t in self._times])

    def _after(self, seconds: float) -> np.ndarray:
        """[G] where the gripper is commanded to be in so many seconds."""
        most = self._stroke * seconds
        return self._gripper + np.clip(self._goal - self._gripper, -most, most)
