"""What a real robot's driver must offer.

`Driver` is the whole interface of a robot. One that only takes joint positions is a `PositionDriver`, which leaves it
to say how positions are read and sent; `template` shows one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace

import numpy as np

from ...contract import EnvSpec, Observation
from ...errors import ConfigError, RobotError
from ..clock import Clock, MonotonicClock
from ..limits import Limits, joint_indices
from .braking import CommandedMotion


class Driver(ABC):
    """A robot, in the process that drives it; `contract.Robot` with a beginning and an end.

    `spec` and `limits` are known once it is connected; limits are those of the joints among the action elements.
    `read` is called in a thread of its own, because cameras are slow; everything else in one other thread.
    Observations are dated on the monotonic clock. Whatever fails raises `RobotError`, and the robot is stopped.
    """

    spec: EnvSpec
    limits: Limits

    @abstractmethod
    def connect(self) -> None:
        """Reach the robot without moving it; `RobotError` says who did not answer."""

    @abstractmethod
    def read(self) -> Observation:
        """The newest values, images included; never waits longer than a control period."""

    @abstractmethod
    def read_state(self) -> Observation:
        """Without images; at once."""

    @abstractmethod
    def command(self, action: np.ndarray, t: float) -> None:
        """Be at `action` [A] at `t` [s]; ignored where `t` is past or not after the last one, and once stopped."""

    @abstractmethod
    def stop(self) -> None:
        """Brake within the limits and hold; obey nobody until `reset`. May be called at any time, and twice."""

    @abstractmethod
    def reset(self) -> None:
        """Obey again, from where the robot is; what it says from now on is of now."""

    @abstractmethod
    def close(self) -> None:
        """Let go of the robot, which rests; also after a `connect` that failed."""


class PositionDriver(Driver):
    """A driver for a robot that is told joint positions, one set after another.

    Its subclass implements `connect`, `read`, `send` and `close`, and says `read_state` where it has cameras.

    Args:
        spec: action groups of kind `joint_position`.
        limits: of all their joints.
    """

    def __init__(self, *, spec: EnvSpec, limits: Limits, clock: Clock | None = None) -> None:
        names = [e.name for e in spec.action_elements]
        if odd := [g.name for g in spec.action if g.kind != "joint_position"]:
            raise ConfigError("This driver commands joint positions", got=f"action group {', '.join(odd)}")
        self.spec, self.limits = spec, limits.select(names)
        self.clock = clock or MonotonicClock()
        self._measured = joint_indices([e.name for e in spec.state], names)
        self._motion = CommandedMotion(self.limits, self.clock)
        self._stopped = False

    @abstractmethod
    def send(self, positions: np.ndarray) -> None:
        """Tell the robot where its joints [A] should be next. Must return at once."""

    def read_state(self) -> Observation:
        """Without images."""
        observation = self.read()
        return replace(observation, images={}, times={"state": observation.times["state"]})

    def command(self, action: np.ndarray, t: float) -> None:
        """Send at once what is meant for a moment ahead, which the robot needs to get there."""
        target = checked_command(action, len(self.limits.names))
        if not self._stopped and self._motion.follow(target, t):
            self.send(target)

    def stop(self) -> None:
        """Lead the robot through the fastest stop within its limits; returns when it was told the last of it."""
        if self._stopped:
            return
        self._stopped = True
        for t, motion in self._motion.braking(self._where()):
            self.send(motion.position)
            self.clock.sleep_until(t)

    def reset(self) -> None:
        self._stopped = False
        self._motion.reset()

    def _where(self) -> np.ndarray | None:
        try:
            return np.asarray(self.read_state().state, np.float64)[self._measured]
        except RobotError:
            return None


def checked_command(action: np.ndarray, width: int) -> np.ndarray:
    """`action` as float64 [width]; `RobotError` for what is not finite or has another shape."""
    action = np.asarray(action, np.float64)
    if action.shape != (width,) or not np.isfinite(action).all():
        what = "A command must be finite, one number per action element"
        raise RobotError(what, expected=f"[{width}]", got=repr(action))
    return action
