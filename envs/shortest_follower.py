"""The expert of continuous navigation: turns and steps along the shortest path (habitat-lab's greedy follower)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from .navigation_spec import NavBody, half_turn

_CLEAR = 0.12
"""How far outside of a bend the follower aims, so that a heading off by half a turn does not end at the wall [m]."""
_REACHED = 0.15
_STUCK = 0.05


class Follower:
    """Follows corners, and leaves walls that stop it by detours ever farther to one side and the other.

    Args:
        body: how it moves.
        stop_within: distance to the goal at which it stops [m].
    """

    def __init__(self, body: NavBody, stop_within: float) -> None:
        self._body, self._stop_within = body, stop_within
        self._tries = 0
        self._detour = 0
        self._best = math.inf

    def move(self, path: np.ndarray, heading: float, distance: float, stuck: bool) -> str:
        """The next move.

        Args:
            path: float64 [n 3], corners of the shortest path from here.
            heading: [rad].
            distance: to the goal [m].
            stuck: whether the last move was a step forward that got nowhere.
        """
        if distance <= self._stop_within or len(path) < 2:
            return "stop"
        error = self._error(path, heading, distance, stuck)
        if abs(error) <= math.radians(self._body.turn) / 2 + 1e-9:
            self._detour = max(self._detour - 1, 0)
            return "forward"
        return "right" if error > 0 else "left"

    def _error(self, path: np.ndarray, heading: float, distance: float, stuck: bool) -> float:
        """How far to turn clockwise, along the path or a detour [rad]."""
        if distance < self._best - self._body.forward:
            self._best, self._tries = distance, 0
        if stuck:
            self._tries += 1
            self._detour = 1 + self._tries // 6
        return half_turn(aim(path) + (self._offset() if self._detour else 0.0) - heading)

    def _offset(self) -> float:
        """45°, −45°, 90°, −90°, 135°, −135° and again [rad]."""
        k = (self._tries - 1) % 6
        return math.radians(45.0 * (1 + k // 2)) * (1 if k % 2 == 0 else -1)

    def drive(self, path: np.ndarray, heading: float, distance: float, stuck: bool = False) -> tuple[float, float]:
        """Forward and turning speed [m/s, rad/s counter-clockwise] of a continuous base; arguments as of `move`."""
        if distance <= self._stop_within or len(path) < 2:
            return 0.0, 0.0
        error = self._error(path, heading, distance, stuck and not self._body.sliding)
        dt = self._body.control_dt
        turn = float(np.clip(-error / dt, -self._body.spin, self._body.spin))
        forward = self._body.speed * max(0.0, math.cos(error)) ** 4 if abs(error) < math.pi / 2 else 0.0
        if self._detour:
            # Away from a wall it first turns, so as not to be stopped by it again.
            aligned = abs(error) <= self._body.spin * dt
            forward *= aligned
            self._detour -= aligned
        return min(forward, distance / dt), turn


def aim(path: np.ndarray) -> float:
    """Heading from the first corner of a path towards its next one that is not reached yet, kept clear of the bend."""
    here = path[0, :2]
    k = 1
    while k < len(path) - 1 and math.hypot(*(path[k, :2] - here)) < _REACHED:
        k += 1
    to = path[k, :2]
    if k < len(path) - 1:
        came, goes = _unit(to - here), _unit(path[k + 1, :2] - to)
        bend = came - goes
        to = to + _CLEAR * min(1.0, 4 * math.hypot(*bend)) * _unit(bend)
    return math.atan2(to[0] - here[0], to[1] - here[1])


def blocked(before: Sequence[float], after: Sequence[float]) -> bool:
    """Whether a step forward got nowhere."""
    return math.dist(before, after) < _STUCK


def _unit(v: np.ndarray) -> np.ndarray:
    return v / max(math.hypot(*v), 1e-9)
