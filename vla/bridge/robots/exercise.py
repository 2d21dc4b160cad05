"""The part of a robot's conformance that moves it: every joint a little, one after another, and a stop in motion."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ...errors import RobotError
from ..clock import Clock, MonotonicClock
from ..limits import joint_indices
from ..motion import Limiter, Motion
from .conformance import Check, in_a_line
from .driver import Driver

TICK = 0.01
"""Between two commands [s]."""
SETTLE = 0.3
"""Seconds after the last new command in which a joint must have arrived."""
LONGEST = 60.0
"""Of one motion [s]."""
ENDLESS, FAR_ENOUGH = 1e3, 0.2
"""A joint with a longer range has none, as the odometers of a base; it moves by so much [rad, m]."""
STILL = 0.02
"""What a robot at rest may be seen to move [rad, m]."""


def exercise(driver: Driver, *, amplitude: float = 0.05, clock: Clock | None = None) -> list[Check]:
    """Move every joint of a connected driver by a share `amplitude` of its range and back, then stop it in motion.

    Commands stay within a half of the rate limits. The robot is left stopped.
    """
    course = _Course(driver, amplitude, clock or MonotonicClock())
    checks = [_answered("stops at rest", course.stop_at_rest, "stop must hold the robot, as often as it is called")]
    for joint, name in enumerate(driver.limits.names):
        mend = f"is '{name}' the name of this joint? Does the driver send what it is told?"
        checks.append(_answered(f"moves {name}", lambda j=joint: course.there_and_back(j), mend))
    checks.append(_answered("refuses nonsense", course.nonsense, "raise RobotError, and send nothing"))
    checks.append(_answered("stops in motion", course.stop_in_motion, "brake within the limits, then obey nobody"))
    return checks


def _answered(name: str, question: Callable[[], str], mend: str) -> Check:
    try:
        fault = question()
    except RobotError as error:
        fault = in_a_line(error)
    return Check(name, not fault, fault or "as it must be", mend)


class _Course:
    """Every method tells what was wrong, or nothing."""

    def __init__(self, driver: Driver, amplitude: float, clock: Clock) -> None:
        self._driver, self._limits, self._clock = driver, driver.limits, clock
        span = driver.limits.upper - driver.limits.lower
        self._span = np.where(span > ENDLESS, FAR_ENOUGH, amplitude * span)
        self._columns = joint_indices([e.name for e in driver.spec.action_elements], driver.limits.names)
        self._index = joint_indices([e.name for e in driver.spec.state], driver.limits.names)

    def _joints(self, patience: float = 0.0) -> np.ndarray:
        """[A] measured; waits for up to `patience` [s] where a sensor has not spoken yet."""
        end = self._clock.now() + patience
        while True:
            try:
                return np.asarray(self._driver.read_state().state, np.float64)[self._index]
            except RobotError:
                if self._clock.now() >= end:
                    raise
            self._sleep(TICK)

    def _command(self, joints: np.ndarray, t: float) -> None:
        """`joints` [A of the limits]; a base stands still."""
        action = np.zeros(self._driver.spec.action_dim)
        action[self._columns] = joints
        self._driver.command(action, t)

    def _sleep(self, seconds: float) -> None:
        self._clock.sleep_until(self._clock.now() + seconds)

    def _goal(self, start: np.ndarray) -> np.ndarray:
        """The span away from `start` on the side where there is room."""
        return np.where(start + self._span < self._limits.upper, start + self._span, start - self._span)

    def _lead(self, limiter: Limiter, motion: Motion, goal: np.ndarray, until: Callable[[Motion], bool]) -> Motion:
        """Command towards `goal` on absolute deadlines until it says so; the last command."""
        deadline = self._clock.now()
        end = deadline + LONGEST
        while not until(motion):
            if deadline > end:
                raise RobotError("The motion does not end", got=f"more than {LONGEST:g} s")
            motion, _ = limiter.follow(motion, goal)
            deadline = max(deadline + TICK, self._clock.now())
            self._command(motion.position, deadline + TICK)
            self._clock.sleep_until(deadline)
        return motion

    def stop_at_rest(self) -> str:
        before = self._joints()
        self._driver.stop()
        self._driver.stop()
        self._driver.reset()
        moved = float(np.abs(self._joints(patience=5.0) - before).max(initial=0.0))
        return "" if moved < STILL else f"moved by {moved:.3f}"

    def there_and_back(self, joint: int) -> str:
        start = self._joints()
        goal = start.copy()
        goal[joint] = self._goal(start)[joint]
        limiter, motion = Limiter(self._limits.scaled(0.25, 0.25, 0.25), TICK), Motion.at_rest(start)
        seen: list[np.ndarray] = []
        for target in (goal, start):
            motion = self._lead(limiter, motion, target, lambda m, t=target: bool(np.allclose(m.position, t)))
            rest = self._clock.now() + SETTLE
            motion = self._lead(limiter, motion, target, lambda _, end=rest: self._clock.now() >= end)
            seen.append(self._joints())
        way, moved, left = goal[joint] - start[joint], seen[0] - start, seen[1] - start
        others = np.abs(np.delete(moved, joint)).max(initial=0.0)
        if abs(moved[joint] - way) > 0.25 * abs(way):
            return f"went by {moved[joint]:.4f} instead of {way:.4f}"
        if others > max(0.5 * abs(way), STILL):
            return f"another joint moved by {others:.4f}"
        return "" if abs(left[joint]) < 0.25 * abs(way) else f"came back to {left[joint]:.4f} from where it was"

    def nonsense(self) -> str:
        here = self._joints()
        width = self._driver.spec.action_dim
        for action in (np.full(width, np.nan), np.zeros(width + 1)):
            try:
                self._driver.command(action, self._clock.now() + 1.0)
            except RobotError:
                continue
            return f"{action!r} was taken for a command"
        self._sleep(0.1)
        moved = float(np.abs(self._joints() - here).max(initial=0.0))
        return "" if moved < STILL else f"moved by {moved:.3f}"

    def stop_in_motion(self) -> str:
        start = self._joints()
        goal = self._goal(start)
        limiter = Limiter(self._limits.scaled(0.5, 0.5, 0.5), TICK)
        half = 0.4 * np.abs(goal - start).max()
        motion = self._lead(limiter, Motion.at_rest(start), goal, lambda m: np.abs(m.position - start).max() > half)
        end = limiter.stop_end(motion)
        self._driver.stop()
        self._sleep(1.0)
        rest = self._joints()
        self._command(start, self._clock.now() + 1.0)
        self._sleep(SETTLE)
        if np.abs(self._joints() - rest).max(initial=0.0) > STILL / 2:
            return "a stopped driver obeys"
        off = np.abs(rest - end)
        far = bool((off > 0.5 * np.abs(goal - start)).any())
        return f"came to rest {off.max():.3f} from where a stop within limits ends" if far else ""
