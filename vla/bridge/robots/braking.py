"""What joints that are told positions are doing, so that their stop begins from it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..clock import Clock
from ..limits import Limits
from ..motion import Limiter, Motion

TICK = 0.01
"""Between two points of a stop [s]."""
AHEAD = 0.5
"""A stop begins where the last command ends, at most so long from now [s], whatever moment that was meant for."""


class CommandedMotion:
    """Follows the commands of one robot.

    Args:
        limits: of its joints, in the order of the commands.
        clock: the robot's.
    """

    def __init__(self, limits: Limits, clock: Clock) -> None:
        self._limits, self._clock = limits, clock
        self.reset()

    def reset(self) -> None:
        self._newest = -np.inf
        self._motion: Motion | None = None

    @property
    def newest(self) -> tuple[float, Motion] | None:
        """The last command and what it is for [s]; None where there was none."""
        return None if self._motion is None else (self._newest, self._motion)

    def follow(self, q: np.ndarray, t: float) -> bool:
        """Take over `q` [A] for `t` [s]; False, and nothing done, where `t` is past or not after the last one."""
        now = self._clock.now()
        if t <= self._newest or t <= now:
            return False
        before, t = self._motion, min(t, now + AHEAD)
        # Where the last command has long run out, the controllers hold, and this one begins from rest.
        if before is None or self._newest < now - TICK:
            self._motion = Motion.at_rest(q)
        else:
            dt, limits = t - self._newest, self._limits
            velocity = np.clip((q - before.position) / dt, -limits.velocity, limits.velocity)
            acceleration = np.clip((velocity - before.velocity) / dt, -limits.acceleration, limits.acceleration)
            self._motion = Motion(q.copy(), velocity, acceleration, q.copy(), before.following)
        self._newest = t
        return True

    def braking(self, measured: np.ndarray | None) -> list[tuple[float, Motion]]:
        """The motion of all joints to rest, with the times it is meant for; empty where nothing is known of them.

        Joints that were never commanded are held where they were `measured` [A], if they were.
        """
        now, motion = self._clock.now(), self._motion
        if motion is None:
            known = measured is not None and bool(np.isfinite(measured).all())
            return [(now + TICK, Motion.at_rest(np.asarray(measured, np.float64)))] if known else []
        if self._newest < now - TICK or not motion.moving:
            return [(max(now, self._newest) + TICK, Motion.at_rest(motion.position))]
        # What was commanded outside the limits is not pulled into them in one tick.
        lower, upper = (
            f(b, motion.position) for f, b in ((np.minimum, self._limits.lower), (np.maximum, self._limits.upper))
        )
        limiter = Limiter(replace(self._limits, lower=lower, upper=upper), TICK)
        t, path = max(now, self._newest), []
        while motion.moving:
            t, motion = t + TICK, limiter.stop(motion)
            path.append((t, motion))
        return path
