"""Where a base may drive: the free space it senses around itself, and its place in the world."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..contract import Observation
from .zones import ZoneGuard

SCAN = "scan"
"""Extra [K]: how far the base's centre can go in K directions, counter-clockwise from straight ahead [m]."""
SCAN_FROM = "scan_from"
"""Extra [2]: the odometers at the scan [m, rad]."""
PLACE, PLACE_FROM = "place", "place_from"
"""Extras [3] and [2]: x, y [m] and heading counter-clockwise from +x [rad] in the world, and the odometers there."""
MARGIN = 0.03
"""How far in front of an obstacle a base that slows down comes to stand [m]."""
TOLERANCE = 0.02
"""How far outside of the free space the gate lets a base end: it may stand at a wall and leave it [m]."""


def along(start: np.ndarray, end: np.ndarray) -> tuple[np.ndarray, float]:
    """The move [2] (forward, left) [m] and turn [rad] from odometers `start` [2] to `end` [2], on an arc."""
    travel, turn = float(end[0] - start[0]), float(end[1] - start[1])
    half = turn / 2
    chord = travel * (math.sin(half) / half if abs(half) > 1e-9 else 1.0)
    return chord * np.array([math.cos(turn / 2), math.sin(turn / 2)]), turn


def rotated(vector: np.ndarray, angle: float) -> np.ndarray:
    """A vector [2] turned counter-clockwise by `angle` [rad]."""
    c, s = math.cos(angle), math.sin(angle)
    return np.array([c * vector[0] - s * vector[1], s * vector[0] + c * vector[1]])


@dataclass(frozen=True)
class FreeSpace:
    """A star-shaped room around the base.

    Args:
        ranges: [K] from the base's centre, counter-clockwise from straight ahead [m].
        origin: [2] odometers where they were taken [m, rad].
    """

    ranges: np.ndarray
    origin: np.ndarray

    @staticmethod
    def of(observation: Observation) -> FreeSpace | None:
        """That of the observation, None where it has no scan."""
        scan = observation.extras.get(SCAN)
        if scan is None:
            return None
        return FreeSpace(np.asarray(scan, np.float64), np.asarray(observation.extras[SCAN_FROM], np.float64))

    def depth(self, point: np.ndarray) -> float:
        """How far `point` [2] (forward, left of the origin) [m] is inside, negative outside, measured from the origin.

        Between two rays the room ends at the straight line that joins their ends.
        """
        return self._depth(float(point[0]), float(point[1]))

    @cached_property
    def _rays(self) -> list[float]:
        return [float(r) for r in self.ranges]

    def _depth(self, x: float, y: float) -> float:
        rays = self._rays
        angle = 2 * math.pi / len(rays)
        where = (math.atan2(y, x) % (2 * math.pi)) / angle
        k = int(where) % len(rays)
        a, b, inside = rays[k], rays[(k + 1) % len(rays)], (where - int(where)) * angle
        # The line through a·(1, 0) and b·(cos, sin) in polar form, as seen at the angle between both rays.
        below = a * math.sin(inside) + b * math.sin(angle - inside)
        room = a * b * math.sin(angle) / below if below > 1e-12 else 0.0
        return room - math.hypot(x, y)

    def ahead(self, odometers: np.ndarray, within: float = 1.0) -> float:
        """How far it is straight on from `odometers` [2] to `MARGIN` before the end, at most `within` [m]."""
        place, turn = along(self.origin, odometers)
        x, y, c, s = float(place[0]), float(place[1]), math.cos(turn), math.sin(turn)
        reach, room = 0.0, self._depth(x, y) - MARGIN
        while reach < within and room >= 0.0:
            before, room = room, self._depth(x + (reach + 0.01) * c, y + (reach + 0.01) * s) - MARGIN
            reach += 0.01 if room >= 0.0 else 0.01 * before / (before - room)
        return min(reach, within)

    def slowed(self, odometers: np.ndarray, forward: float, turn: float, dt: float, braking: float) -> float:
        """The speed [m/s] at most `forward` with which a base can stop before the end, braking so hard [m/s²].

        Args:
            odometers: [2] where it is now.
            turn, dt: how it turns meanwhile [rad/s], and for how long [s].
        """
        if forward <= 0:
            return forward
        room = self.ahead(odometers + np.array([0.0, turn * dt / 2]), forward * dt + forward**2 / (2 * braking))
        # v·dt + v²/2b = room
        return min(forward, braking * (math.sqrt(dt**2 + 2 * room / braking) - dt))


class ClearanceGuard:
    """`Guard` of a base over the free space that it last sensed: where it would come to rest lies inside.

    Args:
        period: how often it is asked [s].
    """

    def __init__(self, period: float = 0.0) -> None:
        self._period = period
        self._space: FreeSpace | None = None

    @property
    def period(self) -> float:
        return self._period

    def place(self, observation: Observation) -> None:
        """Take over what is around the base; called with every new state."""
        self._space = FreeSpace.of(observation)

    def fault(self, path: np.ndarray) -> str:
        if self._space is None:
            return ""
        for odometers in path[:, :2]:
            point, _ = along(self._space.origin, odometers)
            if np.hypot(*point) > TOLERANCE and self._space.depth(point) < -TOLERANCE:
                return "the base would hit something"
        return ""


class Whereabouts:
    """Points on the base in the world, of odometers: what a `ZoneGuard` asks for.

    Args:
        radius: of the base [m].
    """

    def __init__(self, radius: float) -> None:
        self._radius = radius
        self._place, self._origin = np.zeros(3), np.zeros(2)

    def place(self, observation: Observation) -> None:
        """Take over where the base is."""
        self._place = np.asarray(observation.extras[PLACE], np.float64)
        self._origin = np.asarray(observation.extras[PLACE_FROM], np.float64)

    def points(self, q: np.ndarray) -> np.ndarray:
        """[9 3]: the centre and eight points of the rim [m], world frame, of odometers and more [A]."""
        move, _ = along(self._origin, q)
        centre = self._place[:2] + rotated(move, self._place[2])
        angles = np.arange(8) * np.pi / 4
        rim = centre + self._radius * np.stack([np.cos(angles), np.sin(angles)], 1)
        return np.column_stack([np.concatenate([centre[None], rim]), np.zeros(9)])


class PlacedZones:
    """A `ZoneGuard` of a base that is told where the base is."""

    def __init__(self, where: Whereabouts, zones: ZoneGuard) -> None:
        self._where, self._zones, self._placed = where, zones, False

    @property
    def period(self) -> float:
        return self._zones.period

    def place(self, observation: Observation) -> None:
        self._where.place(observation)
        self._placed = True

    def fault(self, path: np.ndarray) -> str:
        return self._zones.fault(path) if self._placed else ""
