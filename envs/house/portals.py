"""Which rooms can be seen from a point: doorways as portals that narrow the field of view, in plan.

The classic cell-and-portal test (Teller and Séquin 1991; Luebke and Georges 1995), conservative: a room it leaves out
cannot be seen. Stairs join two rooms without narrowing anything, since one sees up and down through their hole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import atan2, pi, tau

from .house import House, Opening, Point, Room
from .solids import floor_height

_HALF_TURN = pi - 1e-9


View = tuple[int, float, float]


@dataclass(frozen=True)
class _Portal:
    """A doorway from one room: its near face's ends, and the room behind it."""

    a: Point
    b: Point
    to: int


class Portals:
    """The portals of one house."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._height = house.storey_height
        self._boxes: list[tuple[float, float, float, float, float, Room]] = []
        for r in house.rooms:
            xs, ys = [p[0] for p in r.polygon], [p[1] for p in r.polygon]
            self._boxes.append((min(xs), max(xs), min(ys), max(ys), floor_height(house, r.storey), r))
        self._doorways: list[tuple[float, float, float, float, float, tuple[int, int]]] = []
        self._out: list[list[_Portal]] = [[] for _ in house.rooms]
        self._stairs: list[list[int]] = [[] for _ in house.rooms]
        walls = {w.id: w for w in house.walls}
        for o in house.openings:
            if o.kind != "window" and o.rooms[0] is not None and o.rooms[1] is not None:
                self._add(o, walls[o.wall].thickness / 2)
        for s in house.stairs:
            self._stairs[s.rooms[0]].append(s.rooms[1])
            self._stairs[s.rooms[1]].append(s.rooms[0])

    def _add(self, o: Opening, half: float) -> None:
        left, right = o.rooms
        if left is None or right is None:
            return
        (ax, ay), (bx, by) = o.start, o.end
        length = abs(bx - ax) + abs(by - ay)
        nx, ny = -(by - ay) / length * half, (bx - ax) / length * half
        near_left, near_right = ((ax + nx, ay + ny), (bx + nx, by + ny)), ((ax - nx, ay - ny), (bx - nx, by - ny))
        self._out[left].append(_Portal(*near_left, right))
        self._out[right].append(_Portal(*near_right, left))
        xs, ys = sorted((near_left[0][0], near_right[1][0])), sorted((near_left[0][1], near_right[1][1]))
        self._doorways.append((xs[0], xs[1], ys[0], ys[1], o.bottom, (left, right)))

    def rooms_at(self, x: float, y: float, z: float) -> tuple[int, ...]:
        """The room a point is in, both rooms of a doorway it is in, none outside."""
        found = [
            r.id
            for x0, x1, y0, y1, level, r in self._boxes
            if x0 <= x <= x1 and y0 <= y <= y1 and level - 0.2 <= z < level + self._height and _contains(r, x, y)
        ]
        for x0, x1, y0, y1, bottom, rooms in self._doorways:
            if x0 - 1e-3 <= x <= x1 + 1e-3 and y0 - 1e-3 <= y <= y1 + 1e-3 and 0 <= z - bottom < self._height:
                found += [r for r in rooms if r not in found]
        return tuple(found)

    def views(self, position: Sequence[float], low: float = 0.0, width: float = tau) -> list[View]:
        """Rooms that can be seen from a point [x, y, z], and the part of the plan through which.

        Args:
            low, width: the field of view in plan, counter-clockwise from `low` [rad, from +x] over `width`.

        Returns:
            (room, low, width), a room several times where it shows through several doorways; a width of 2π says that
            nothing but the field of view itself narrows what is seen of it. All rooms where the point is in none.
        """
        x, y, z = position
        start = self.rooms_at(x, y, z)
        if not start:
            return [(r.id, 0.0, tau) for r in self._house.rooms]
        found: list[View] = [(room, 0.0, tau) for room in start]
        stack = [(room, low, width, frozenset(start)) for room in start]
        while stack:
            room, at, span, passed = stack.pop()
            for other in self._stairs[room]:
                if other not in passed:
                    found.append((other, 0.0, tau))
                    stack.append((other, low, width, passed | {other}))
            for portal in self._out[room]:
                if portal.to in passed:
                    continue
                view = _clip(x, y, portal, at, span)
                if view is not None:
                    found.append((portal.to, *view))
                    stack.append((portal.to, *view, passed | {portal.to}))
        return found


def _contains(room: Room, x: float, y: float) -> bool:
    crossings = 0
    polygon = room.polygon
    for (ax, ay), (bx, by) in zip(polygon, (*polygon[1:], polygon[0]), strict=True):
        crossings += ax == bx and min(ay, by) <= y < max(ay, by) and ax > x
    return crossings % 2 == 1


def _clip(x: float, y: float, portal: _Portal, low: float, width: float) -> tuple[float, float] | None:
    """What is left of a field of view behind a portal; None where nothing is."""
    first = atan2(portal.a[1] - y, portal.a[0] - x)
    turn = (atan2(portal.b[1] - y, portal.b[0] - x) - first) % tau
    if turn > pi:
        first, turn = first + turn, tau - turn
    if turn > _HALF_TURN or width >= tau:
        return (first, turn) if width >= tau and turn <= _HALF_TURN else (low, width)
    offset = (first - low) % tau
    if offset < width:
        return first, min(turn, width - offset)
    if offset + turn > tau:
        return low, min(width, offset + turn - tau)
    return None
