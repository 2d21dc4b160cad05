"""The limiter: one tick of all joints towards a reference, or towards rest, inside every limit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .jerk import Axis, stop_displacement
from .limits import Limits


@dataclass(frozen=True)
class Motion:
    """The commanded state of all joints, [A] each.

    Args:
        position, velocity, acceleration: of the newest command; the differences of the commands themselves.
        reference: what the newest command was to follow, inside the position limits.
        following: bool, whether it did.
    """

    position: np.ndarray
    velocity: np.ndarray
    acceleration: np.ndarray
    reference: np.ndarray
    following: np.ndarray

    @staticmethod
    def at_rest(position: np.ndarray) -> Motion:
        zeros = np.zeros(len(position))
        return Motion(position.copy(), zeros, zeros, position.copy(), np.ones(len(position), bool))

    @property
    def moving(self) -> bool:
        return bool(np.any(self.velocity != 0.0) or np.any(self.acceleration != 0.0))


class Limiter:
    """Pure: the same motion and reference give the same next motion.

    Args:
        limits: of the joints.
        dt: tick [s].

    The differences of its output over `dt` stay inside velocity, acceleration and jerk limits, and the output inside
    the position limits, for any stream of references whatever. What is inside the limits passes unchanged, bit for
    bit, so that limiting twice is limiting once.
    """

    def __init__(self, limits: Limits, dt: float) -> None:
        self.limits, self.dt = limits, dt
        jerk = limits.jerk_at(dt)
        self._unit = (jerk * dt**3).tolist()  # of position; / dt of velocity, / dt² of acceleration
        velocity, acceleration = limits.velocity / (jerk * dt**2), limits.acceleration / (jerk * dt)
        self._axes = [Axis(v, a) for v, a in zip(velocity.tolist(), acceleration.tolist(), strict=True)]
        self._rows = list(zip(self._axes, self._unit, limits.lower.tolist(), limits.upper.tolist(), strict=True))

    def follow(self, motion: Motion, reference: np.ndarray) -> tuple[Motion, np.ndarray]:
        """One tick towards the finite `reference` [A]. Second value: [A] bool, what was clipped.

        A joint that cannot follow goes as fast as the limits let it and brakes relative to the moving reference, so
        that it meets it without overshoot.
        """
        goal = np.minimum(np.maximum(reference, self.limits.lower), self.limits.upper)
        drift = np.minimum(
            np.maximum(goal - motion.reference, -self.limits.velocity * self.dt), self.limits.velocity * self.dt
        )
        rows = zip(
            self._rows, motion.position.tolist(), motion.velocity.tolist(), motion.acceleration.tolist(),
            goal.tolist(), drift.tolist(), motion.following.tolist(), strict=True,
        )  # fmt: skip
        out = [self._follow(*row) for row in rows]
        position, velocity, acceleration, following = (np.array(column) for column in zip(*out, strict=True))
        return Motion(position, velocity, acceleration, goal, following), ~(following & (goal == reference))

    def _follow(
        self,
        row: tuple[Axis, float, float, float],
        p: float,
        v: float,
        a: float,
        goal: float,
        drift: float,
        following: bool,
    ) -> tuple[float, float, float, bool]:
        axis, unit, lower, upper = row
        dt, rate = self.dt, unit / self.dt
        gap, above, below = (goal - p) / unit, (upper - p) / unit, (p - lower) / unit
        change, exact = axis.follow(v / rate, a * dt / rate, gap, drift / unit, above, below, following)
        if exact:
            speed = (goal - p) / dt
            return goal, speed, (speed - v) / dt, True
        speed = v + change * rate
        return min(max(p + speed * dt, lower), upper), speed, change * rate / dt, False

    def stop(self, motion: Motion) -> Motion:
        """One tick of the fastest stop."""
        out: list[tuple[float, float, float]] = []
        for (axis, unit, lower, upper), (p, v, a) in zip(self._rows, self._states(motion), strict=True):
            rate = unit / self.dt
            change = axis.stop(v / rate, a * self.dt / rate)
            speed = (v / rate + change) * rate
            out.append((min(max(p + speed * self.dt, lower), upper), speed, change * rate / self.dt))
        position, velocity, acceleration = (np.array(column) for column in zip(*out, strict=True))
        return Motion(position, velocity, acceleration, position, np.ones(len(position), bool))

    def stop_end(self, motion: Motion, ahead: float = 0.0) -> np.ndarray:
        """[A] where the joints come to rest if the fastest stop begins after `ahead` [s].

        Until then they are taken to speed up as fast as they may, towards their reference.
        """
        out: list[float] = []
        way = np.where(motion.velocity != 0.0, motion.velocity, motion.reference - motion.position)
        gain = (np.sign(way) * self.limits.acceleration * ahead).tolist()
        for (axis, unit, lower, upper), (p, v, a), more in zip(self._rows, self._states(motion), gain, strict=True):
            rate = unit / self.dt
            faster = min(max(v / rate + more / rate, -axis.velocity), axis.velocity)
            end = p + faster * rate * ahead + unit * stop_displacement(faster, a * self.dt / rate, axis.acceleration)
            out.append(min(max(end, lower), upper))
        return np.array(out)

    def _states(self, motion: Motion) -> zip[tuple[float, float, float]]:
        position, velocity, acceleration = motion.position, motion.velocity, motion.acceleration
        return zip(position.tolist(), velocity.tolist(), acceleration.tolist(), strict=True)
