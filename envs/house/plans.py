"""A floor plan: rooms as rectangles, the doors between them, and a flight of stairs.

Lengths are whole millimetres between the centre lines of walls, so that every decision is exact.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

WALL = 140
"""Thickness of a wall [mm]."""
STOREY, STEPS = 2800, 16
"""Height from floor to floor [mm], and the steps in between."""
RUN, FLIGHT = 4160, 1040
"""Length and width of a flight of stairs [mm]."""
LANDING = 1250
"""Free floor before and behind a flight [mm]."""
GRID = 50

Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Cell:
    """A room's rectangle between centre lines [mm]."""

    kind: str
    storey: int
    x0: int
    y0: int
    x1: int
    y1: int

    @property
    def width(self) -> int:
        return self.x1 - self.x0

    @property
    def depth(self) -> int:
        return self.y1 - self.y0


@dataclass(frozen=True)
class Link:
    """Two cells one walks between."""

    a: int
    b: int
    kind: Literal["door", "open"]


@dataclass
class Plan:
    """Cells, the links that are wanted, and the flight's ends with the cells it joins."""

    cells: list[Cell] = field(default_factory=list)
    links: list[Link] = field(default_factory=list)
    flight: tuple[int, int, int, int] | None = None
    joined: tuple[int, int] = (0, 0)

    def add(self, kind: str, storey: int, x0: int, y0: int, x1: int, y1: int) -> int:
        self.cells.append(Cell(kind, storey, x0, y0, x1, y1))
        return len(self.cells) - 1

    def link(self, a: int, b: int, kind: Literal["door", "open"] = "door") -> None:
        if not any({a, b} == {k.a, k.b} for k in self.links):
            self.links.append(Link(a, b, kind))


def sound(drawn: Plan) -> bool:
    """Whether no rooms overlap, all links have room for a door, and the links reach every cell."""
    for i, a in enumerate(drawn.cells):
        for b in drawn.cells[:i]:
            apart = a.x1 <= b.x0 or b.x1 <= a.x0 or a.y1 <= b.y0 or b.y1 <= a.y0
            if a.storey == b.storey and not apart:
                return False
    reached, edges = {0}, [(k.a, k.b) for k in drawn.links]
    if drawn.flight is not None:
        edges.append(drawn.joined)
    for _ in drawn.cells:
        reached |= {b for a, b in edges if a in reached} | {a for a, b in edges if b in reached}
    fits = all(stretch(drawn, k.a, k.b) is not None for k in drawn.links)
    return fits and len(reached) == len(drawn.cells) and compact(drawn)


def compact(drawn: Plan) -> bool:
    """Whether the ground floor fills most of the rectangle around it."""
    ground = [c for c in drawn.cells if c.storey == 0]
    width = max(c.x1 for c in ground) - min(c.x0 for c in ground)
    depth = max(c.y1 for c in ground) - min(c.y0 for c in ground)
    return sum(c.width * c.depth for c in ground) > 0.62 * width * depth


def shared(a: Cell, b: Cell) -> tuple[bool, int, int, int] | None:
    """(horizontal, position, low, high) of the wall between two cells, or None."""
    if a.storey != b.storey:
        return None
    for at, touch in ((a.x0, b.x1), (a.x1, b.x0)):
        low, high = max(a.y0, b.y0), min(a.y1, b.y1)
        if at == touch and high > low:
            return False, at, low, high
    for at, touch in ((a.y0, b.y1), (a.y1, b.y0)):
        low, high = max(a.x0, b.x0), min(a.x1, b.x1)
        if at == touch and high > low:
            return True, at, low, high
    return None


def stretch(drawn: Plan, a: int, b: int) -> tuple[bool, int, int, int] | None:
    """Where in the wall between two cells a door may be: clear of corners, of the flight and of its well."""
    wall = shared(drawn.cells[a], drawn.cells[b])
    if wall is None:
        return None
    horizontal, at, low, high = wall
    low, high = low + WALL // 2 + 80, high - WALL // 2 - 80
    if drawn.flight is not None and drawn.joined[drawn.cells[a].storey] in (a, b):
        fx0, fy0, fx1, fy1 = drawn.flight
        near = min(abs(at - fy0), abs(at - fy1)) if horizontal else min(abs(at - fx0), abs(at - fx1))
        if near < 300:
            f0, f1 = (fx0, fx1) if horizontal else (fy0, fy1)
            before, behind = (low, min(high, f0 - 150)), (max(low, f1 + 150), high)
            low, high = before if before[1] - before[0] >= behind[1] - behind[0] else behind
    return (horizontal, at, low, high) if high - low >= 820 else None


def turned(drawn: Plan, symmetry: int) -> Plan:
    """One of the eight rotations and reflections of a plan, with its lower left corner at the origin."""

    def move(x: int, y: int) -> tuple[int, int]:
        x, y = (-x if symmetry & 1 else x), (-y if symmetry & 2 else y)
        return (y, x) if symmetry & 4 else (x, y)

    def box(x0: int, y0: int, x1: int, y1: int) -> Box:
        (ax, ay), (bx, by) = move(x0, y0), move(x1, y1)
        return min(ax, bx), min(ay, by), max(ax, bx), max(ay, by)

    boxes = [box(c.x0, c.y0, c.x1, c.y1) for c in drawn.cells]
    dx, dy = -min(b[0] for b in boxes), -min(b[1] for b in boxes)
    cells = [
        Cell(c.kind, c.storey, b[0] + dx, b[1] + dy, b[2] + dx, b[3] + dy)
        for c, b in zip(drawn.cells, boxes, strict=True)
    ]
    flight = drawn.flight
    if flight is not None:
        x0, y0, x1, y1 = box(*flight)
        flight = (x0 + dx, y0 + dy, x1 + dx, y1 + dy)
    return Plan(cells, drawn.links, flight, drawn.joined)
