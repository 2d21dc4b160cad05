"""The way that a chunk of velocities describes, and a base that follows it within its limits.

Velocities, unlike positions, do not catch up: what is lost to inertia, or to a chunk that comes late, is missing at
the end. So they are integrated to poses from the one at the observation, and those are tracked: along the way as in
Kanayama et al. (1990), "A stable tracking control method for an autonomous mobile robot", and towards it at an angle
that is bounded. The way is followed from where the base really is on it, and waits where the base falls behind.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .base_space import FreeSpace

Pose = tuple[float, float, float]
"""Metres forward and left, and radians counter-clockwise, of where the base was at the observation."""

PULL_AHEAD, PULL_ROUND = 2.0, 4.0
"""Gains: speed per metre behind and turning per radian off [1/s]."""
PULL_ASIDE = 3.0
"""Slope per metre aside at full speed with which the way is approached [1/m]."""
BRAKE = 1.2
"""Twice the share of the turning acceleration with which a turn is ended; the jerk takes its part."""
LAG = 0.15
"""Seconds that a base may lag behind before its way begins to wait; at twice as many it does."""


def moved(pose: Pose, travel: float, turn: float) -> Pose:
    """Where an arc of `travel` [m] that turns by `turn` [rad] leads."""
    x, y, heading = pose
    chord = travel * _sinc(turn / 2)
    return x + chord * math.cos(heading + turn / 2), y + chord * math.sin(heading + turn / 2), heading + turn


class Way:
    """Where velocities lead that are followed at once, from the origin.

    Args:
        velocities: [H 2] forward [m/s] and turn [rad/s], each held for a period.
        dt: period [s].
        braking: deceleration [m/s², rad/s²] with which the base slows down ahead of where the velocities say so.
    """

    def __init__(self, velocities: np.ndarray, dt: float, braking: tuple[float, float]) -> None:
        self._dt = dt
        self._velocities: list[tuple[float, float]] = [(float(v), float(w)) for v, w in velocities]
        self._poses: list[Pose] = [(0.0, 0.0, 0.0)]
        for v, w in self._velocities:
            self._poses.append(moved(self._poses[-1], v * dt, w * dt))
        self._braking = braking
        # How fast it may still be at the ends of the periods, along and around.
        self._ends = [(math.inf, math.inf)] * len(self._velocities)
        for k in range(len(self._velocities) - 2, -1, -1):
            self._ends[k] = (self._end(k, 0), self._end(k, 1))

    def _end(self, k: int, axis: int) -> float:
        now, after = self._velocities[k][axis], self._velocities[k + 1][axis]
        return min(abs(after), self._slowed(k + 1, self._dt, axis)) if now * after >= 0 else 0.0

    def _slowed(self, k: int, left: float, axis: int) -> float:
        """From how fast the end of period k, `left` seconds ahead, is reached as slowly as it asks for."""
        return math.sqrt(self._ends[k][axis] ** 2 + 2 * self._braking[axis] * abs(self._velocities[k][axis]) * left)

    def pace(self, phase: float) -> float:
        """The share of its velocities with which the way is followed at `phase`, so as to slow down in time.

        Turns are slowed down for where the base turns on the spot.
        """
        k = self._period(phase)
        axis = 0 if self._velocities[k][0] else 1
        speed = abs(self._velocities[k][axis])
        left = max((k + 1) * self._dt - phase, 0.0)
        return min(1.0, self._slowed(k, left, axis) / speed) if speed else 1.0

    def _period(self, phase: float) -> int:
        return min(int(phase / self._dt + 1e-6), len(self._velocities) - 1)

    def at(self, phase: float) -> tuple[Pose, tuple[float, float]]:
        """Pose after `phase` seconds, and the velocities from then on."""
        k = self._period(phase)
        v, w = self._velocities[k]
        spent = min(phase - k * self._dt, self._dt)
        return moved(self._poses[k], v * spent, w * spent), (v, w)

    def nearest(self, pose: Pose, until: float, speeds: tuple[float, float], step: float) -> float:
        """The phase at most `until` from which a base at `pose` has least to make up for; the last of those [s].

        Args:
            speeds: of the base [m/s, rad/s], which weigh metres against radians.
            step: of the search [s].
        """
        best, least = until, math.inf
        for phase in np.linspace(until, 0.0, math.ceil(until / step - 1e-9) + 1).tolist():
            (x, y, heading), _ = self.at(phase)
            gap = math.hypot(*((pose[0] - x) / speeds[0], (pose[1] - y) / speeds[0], (pose[2] - heading) / speeds[1]))
            if gap < least - 1e-9:
                best, least = phase, gap
        return best


@dataclass(frozen=True)
class Follower:
    """A base that follows a `Way`.

    Args:
        speeds, rates, jerks: what it may do along and around [m/s, rad/s and so on]; velocities change within them.
        braking: it slows down in front of the end of its free space as if it stopped with so much [m/s²]. The way that
            is lost to that is not made up for.
    """

    speeds: tuple[float, float]
    rates: tuple[float, float]
    jerks: tuple[float, float]
    braking: float | None = None

    def __call__(
        self,
        way: Way,
        *,
        pose: Pose,
        speed: tuple[float, float],
        rate: tuple[float, float],
        phase: float,
        odometers: np.ndarray,
        seconds: np.ndarray,
        space: FreeSpace | None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Odometers [N 2] and phases [N] [s] at the ends of N steps of `seconds` [N].

        Args:
            pose, speed, rate, odometers: of the base at first; `rate` is that of its speeds.
            phase: up to where the way is behind it [s].
        """
        v, w = speed
        v_rate, w_rate = (min(max(r, -most), most) for r, most in zip(rate, self.rates, strict=True))
        speeds, phases = np.empty((len(seconds), 2)), np.empty(len(seconds))
        at = np.array(odometers, np.float64)
        off = (0.0, 0.0)  # where walls have moved the way to
        for k, dt in enumerate(seconds.tolist()):
            pace = min(max(2.0 - self._behind(way, phase, pose, off) / LAG, 0.0), way.pace(phase))
            wanted = self._wanted(way, phase, pose, off, pace)
            phase += pace * dt
            v, v_rate = self._towards(0, wanted[0], v, v_rate, dt)
            w, w_rate = self._towards(1, wanted[1], w, w_rate, dt)
            if space is not None and self.braking is not None:
                slower = space.slowed(at, v, w, dt, self.braking)
                lost = max(wanted[0], v) - slower if slower < v else 0.0
                off = (off[0] - lost * dt * math.cos(pose[2]), off[1] - lost * dt * math.sin(pose[2]))
                v = slower
            pose = moved(pose, v * dt, w * dt)
            at = at + np.array([v * dt, w * dt])
            speeds[k], phases[k] = (v, w), phase
        if space is not None and self.braking is not None:
            # A wall that comes into view in a turn is braked for before.
            for k in range(len(speeds) - 2, -1, -1):
                speeds[k, 0] = min(speeds[k, 0], speeds[k + 1, 0] + self.braking * seconds[k + 1])
            # One that is seen too late is braked for as hard as can be.
            before = speed[0]
            for k, most in enumerate((self.rates[0] * seconds).tolist()):
                before = speeds[k, 0] = min(max(float(speeds[k, 0]), before - most), before + most)
        return odometers + np.cumsum(speeds * seconds[:, None], axis=0), phases

    def _errors(self, way: Way, phase: float, pose: Pose, off: tuple[float, float]) -> tuple[float, float]:
        """How far the way at `phase` is ahead of `pose` [m] along it, and how far the base must turn to approach it."""
        (x, y, heading), (v, _) = way.at(phase)
        dx, dy, c, s = x + off[0] - pose[0], y + off[1] - pose[1], math.cos(pose[2]), math.sin(pose[2])
        slope = PULL_ASIDE * v / self.speeds[0] * (c * dy - s * dx)
        return c * dx + s * dy, heading - pose[2] + math.atan(slope)

    def _behind(self, way: Way, phase: float, pose: Pose, off: tuple[float, float]) -> float:
        """How long a base at `pose` needs at its speeds to where it should be [s]; 0 where it has gone too far."""
        ahead, round_ = self._errors(way, phase, pose, off)
        _, (v, _) = way.at(phase)
        return max((-ahead if v < 0 else ahead) / self.speeds[0], abs(round_) / self.speeds[1], 0.0)

    def _wanted(self, way: Way, phase: float, pose: Pose, off: tuple[float, float], pace: float) -> tuple[float, float]:
        """Velocities [m/s, rad/s] that lead from `pose` to a way that goes on at its `pace`."""
        ahead, round_ = self._errors(way, phase, pose, off)
        _, (v, w) = way.at(phase)
        forward = pace * v * math.cos(min(abs(round_), math.pi / 2)) + PULL_AHEAD * ahead
        # No faster than can be braked until it faces the right way.
        back = min(PULL_ROUND * abs(round_), math.sqrt(BRAKE * self.rates[1] * abs(round_)))
        turn = pace * w + math.copysign(back, round_)
        # It backs up only where its way does: behind a base nobody looks.
        least, most = (0.0, self.speeds[0]) if v >= 0 else (-self.speeds[0], 0.0)
        return min(max(forward, least), most), min(max(turn, -self.speeds[1]), self.speeds[1])

    def _towards(self, axis: int, wanted: float, speed: float, rate: float, dt: float) -> tuple[float, float]:
        """The next speed and rate: no more than can be taken back, at the largest jerk, by when it is reached."""
        gap, jerk = wanted - speed, self.jerks[axis]
        most = min(self.rates[axis], math.sqrt(2 * jerk * abs(gap)), abs(gap) / dt)
        change = math.copysign(most, gap) - rate
        rate += min(max(change, -jerk * dt), jerk * dt)
        return speed + rate * dt, rate


def _sinc(angle: float) -> float:
    return math.sin(angle) / angle if abs(angle) > 1e-9 else 1.0
