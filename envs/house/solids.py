"""A house as primitives: walls with their openings cut out, frames, panes, floors, ceilings, stairs and items.

Every consumer (meshes, MJCF, GLB, free space, visibility) starts from this list, so that what is seen, hit and
segmented is the same thing. A wall is two slabs of half its thickness, one a side, each with its room's material.
"""

from __future__ import annotations

from math import cos, sin

import numpy as np

from .house import House, Instance, Opening, Point, Room, Solid, Stairs, Wall
from .rects import EPS, Rect, rectangles

FLOOR, CEILING = 0.1, 0.1
"""Thickness of the lowest floor and of the highest ceiling [m]."""
TRIM, LINING, PROUD = 0.06, 0.02, 0.012
"""A door frame's width on the wall, its thickness inside the opening and how far it stands out of the wall [m]."""
BAR, PANE, LEAF = 0.05, 0.02, 0.04
"""Width of a window's bars, thickness of its pane and of a closed door's leaf [m]."""


class _Table:
    """Rows of the instance table, addressed by what they stand for."""

    def __init__(self, house: House) -> None:
        self.rows: list[Instance] = [Instance("void", -1, -1)]
        self.row: dict[tuple[str, int, int], int] = {}
        for room in house.rooms:
            self._add(("floor", room.id, 0), Instance("floor", room.id, -1))
        for room in house.rooms:
            self._add(("ceiling", room.id, 0), Instance("ceiling", room.id, -1))
        for wall in house.walls:
            for side, room in enumerate((wall.left, wall.right)):
                self._add(("wall", wall.id, side), Instance("wall", -1 if room is None else room, -1))
        for o in house.openings:
            if o.kind == "window":
                inside = next((r for r in o.rooms if r is not None), -1)
                self._add(("window", o.id, 0), Instance("window", inside, -1))
            elif o.kind == "door":
                self._add(("door", o.id, 0), Instance("door", -1, -1))
        for stairs in house.stairs:
            self._add(("stairs", stairs.id, 0), Instance("stairs", -1, -1))
        for item in house.items:
            self._add(("item", item.id, 0), Instance(item.category, item.room, item.id))

    def _add(self, key: tuple[str, int, int], value: Instance) -> None:
        self.row[key] = len(self.rows)
        self.rows.append(value)


def instances(house: House) -> tuple[Instance, ...]:
    """What the ids of segmentation images mean; row 0 is the void."""
    return tuple(_Table(house).rows)


def solids(house: House) -> tuple[Solid, ...]:
    """Every primitive of the house in the world frame; the order depends on nothing but the description."""
    build = _Builder(house)
    for room in house.rooms:
        build.room(room)
    for wall in house.walls:
        build.wall(wall)
    for opening in house.openings:
        build.opening(opening)
    for stairs in house.stairs:
        build.stairs(stairs)
    build.items()
    return tuple(build.out)


def floor_height(house: House, storey: int) -> float:
    """Height of a storey's floor surface above the world's origin [m]."""
    return storey * house.storey_height


def footprint(stairs: Stairs) -> Rect:
    """The area a flight of stairs covers in plan."""
    (ax, ay), (bx, by) = stairs.start, stairs.end
    half = stairs.width / 2
    if abs(bx - ax) > abs(by - ay):
        return Rect(min(ax, bx), ay - half, max(ax, bx), ay + half)
    return Rect(ax - half, min(ay, by), ax + half, max(ay, by))


class _Builder:
    def __init__(self, house: House) -> None:
        self.house = house
        self.row = _Table(house).row
        self.out: list[Solid] = []
        self.wall_of = {w.id: w for w in house.walls}
        self.by_wall: dict[int, list[Opening]] = {w.id: [] for w in house.walls}
        for o in house.openings:
            self.by_wall[o.wall].append(o)
        self.storeys = 1 + max((r.storey for r in house.rooms), default=0)
        self.bodies = {w.id: _strip(w, w.start, w.end, 0.0, 0.0) for w in house.walls}
        self.frame = next((o.material for o in house.openings if o.kind == "door"), None)

    def box(self, rect: Rect, bottom: float, top: float, material: str, instance: int, role: str) -> None:
        if rect.empty or top - bottom < EPS:
            return
        centre = ((rect.x0 + rect.x1) / 2, (rect.y0 + rect.y1) / 2, (bottom + top) / 2)
        half = ((rect.x1 - rect.x0) / 2, (rect.y1 - rect.y0) / 2, (top - bottom) / 2)
        self.out.append(Solid("box", centre, half, 0.0, material, instance, role))  # type: ignore[arg-type]

    # --- floors and ceilings ------------------------------------------------------------------------------------

    def slab(self, storey: int, top: float) -> tuple[float, float]:
        """(bottom, top) of the ceiling above a storey whose walls end at `top`."""
        if storey + 1 >= self.storeys:
            return top, top + CEILING
        gap = floor_height(self.house, storey + 1) - top
        return (top, top + gap / 2) if gap > 0.01 else (top - CEILING, top)

    def floor_slab(self, storey: int) -> float:
        """Thickness of a storey's floor; it fills the gap that the ceiling below leaves."""
        if storey == 0:
            return FLOOR
        below = [w.top for w in self.house.walls if w.storey == storey - 1]
        gap = floor_height(self.house, storey) - max(below, default=0.0)
        return gap / 2 if gap > 0.01 else EPS * 10

    def room(self, room: Room) -> None:
        level = floor_height(self.house, room.storey)
        below = [footprint(s) for s in self.house.stairs if abs(s.top - level) < 0.1]
        above = [footprint(s) for s in self.house.stairs if abs(s.bottom - level) < 0.1]
        row = self.row["floor", room.id, 0]
        thick = self.floor_slab(room.storey)
        for rect in rectangles(room.polygon, below):
            self.box(rect, level - thick, level, room.floor, row, "floor")
        tops = [w.top for w in self.house.walls if room.id in (w.left, w.right)]
        if tops:
            low, high = self.slab(room.storey, min(tops))
            for rect in rectangles(room.polygon, above):
                self.box(rect, low, high, room.ceiling, self.row["ceiling", room.id, 0], "ceiling")

    # --- walls --------------------------------------------------------------------------------------------------

    def wall(self, wall: Wall) -> None:
        cuts = [(_along(wall, o.start), _along(wall, o.end), o) for o in self.by_wall[wall.id]]
        cuts.sort(key=lambda cut: cut[0])
        length = _along(wall, wall.end)
        high = self.slab(wall.storey, wall.top)[1]
        if wall.storey + 1 < self.storeys:
            high = max(high, floor_height(self.house, wall.storey + 1))
        for side in (0, 1):
            material, row = self._face(wall, side), self.row["wall", wall.id, side]

            def piece(a: float, b: float, z0: float, z1: float, s: int = side, m: str = material, r: int = row) -> None:
                rect = _strip(wall, _at(wall, a), _at(wall, b), *((0.0, 1.0) if s == 0 else (-1.0, 0.0)), half=True)
                self.box(rect, z0, z1, m, r, "wall")

            at = -self._overhang(wall, side, 0)
            for a, b, o in cuts:
                piece(at, a, wall.bottom, high)
                piece(a, b, wall.bottom, o.bottom)
                piece(a, b, o.top, high)
                at = b
            piece(at, length + self._overhang(wall, side, 1), wall.bottom, high)
            self._threshold(wall, side)

    def _face(self, wall: Wall, side: int) -> str:
        own, other = (wall.left, wall.right) if side == 0 else (wall.right, wall.left)
        room = own if own is not None else other
        return self.house.rooms[room].wall if room is not None else next(iter(self.house.materials))

    def _overhang(self, wall: Wall, side: int, end: int) -> float:
        """How far one face goes on past the end of the centre line, so that an outer corner is closed."""
        point, other = (wall.end, wall.start) if end else (wall.start, wall.end)
        reach = [
            w.thickness / 2
            for w in self.house.walls
            if w.id != wall.id
            and w.storey == wall.storey
            and _horizontal(w) != _horizontal(wall)
            and point in (w.start, w.end)
        ]
        # Of two walls that meet in a corner the one along x closes it, so that no two solids share the space.
        if not reach or not _horizontal(wall):
            return 0.0
        sign = (1.0 if end else -1.0) * (1.0 if wall.end[0] > wall.start[0] else -1.0)
        half = wall.thickness / 2 * (1.0 if side == 0 else -1.0) * (1.0 if wall.end[0] > wall.start[0] else -1.0)
        xs, ys = sorted((point[0], point[0] + sign * max(reach))), sorted((point[1], point[1] + half))
        corner = Rect(xs[0], ys[0], xs[1], ys[1])
        taken = any(
            corner.overlaps(self.bodies[w.id]) for w in self.house.walls if w.id != wall.id and w.storey == wall.storey
        )
        return 0.0 if taken or other == point else max(reach)

    def _threshold(self, wall: Wall, side: int) -> None:
        """The floor inside a wall's doorways, half of it from each room."""
        level = floor_height(self.house, wall.storey)
        thick = self.floor_slab(wall.storey)
        for o in self.by_wall[wall.id]:
            if o.kind == "window":
                continue
            room = o.rooms[side] if o.rooms[side] is not None else o.rooms[1 - side]
            if room is None:
                continue
            rect = _strip(wall, o.start, o.end, *((0.0, 1.0) if side == 0 else (-1.0, 0.0)), half=True)
            row = self.row["floor", room, 0]
            self.box(rect, level - thick, level, self.house.rooms[room].floor, row, "floor")

    # --- openings -----------------------------------------------------------------------------------------------

    def opening(self, o: Opening) -> None:
        wall = self.wall_of[o.wall]
        a, b = _along(wall, o.start), _along(wall, o.end)
        if o.kind == "door":
            self._door(wall, o, a, b)
        elif o.kind == "window":
            self._window(wall, o, a, b)

    def _across(self, wall: Wall, a: float, b: float, half: float) -> Rect:
        return _strip(wall, _at(wall, a), _at(wall, b), -half, half)

    def _door(self, wall: Wall, o: Opening, a: float, b: float) -> None:
        row, deep = self.row["door", o.id, 0], wall.thickness / 2 + PROUD
        for x0, x1 in ((a - TRIM, a + LINING), (b - LINING, b + TRIM)):
            self.box(self._across(wall, x0, x1, deep), o.bottom, o.top + TRIM, o.material, row, "frame")
        rect = self._across(wall, a + LINING, b - LINING, deep)
        self.box(rect, o.top - LINING, o.top + TRIM, o.material, row, "frame")
        if None in o.rooms:
            leaf = self._across(wall, a + LINING, b - LINING, LEAF / 2)
            self.box(leaf, o.bottom, o.top - LINING, o.material, row, "pane")

    def _window(self, wall: Wall, o: Opening, a: float, b: float) -> None:
        row, deep = self.row["window", o.id, 0], min(BAR, wall.thickness / 2) / 2 + PROUD
        frame = self.frame or o.material
        inner = self._across(wall, a + BAR, b - BAR, PANE / 2)
        self.box(inner, o.bottom + BAR, o.top - BAR, o.material, row, "pane")
        for x0, x1 in ((a, a + BAR), (b - BAR, b)):
            self.box(self._across(wall, x0, x1, deep), o.bottom, o.top, frame, row, "frame")
        for z0, z1 in ((o.bottom, o.bottom + BAR), (o.top - BAR, o.top)):
            self.box(self._across(wall, a + BAR, b - BAR, deep), z0, z1, frame, row, "frame")
        if b - a > 1.0:
            middle = self._across(wall, (a + b - BAR) / 2, (a + b + BAR) / 2, deep - 0.005)
            self.box(middle, o.bottom + BAR, o.top - BAR, frame, row, "frame")

    # --- stairs and items ---------------------------------------------------------------------------------------

    def stairs(self, stairs: Stairs) -> None:
        (ax, ay), (bx, by) = stairs.start, stairs.end
        n, rise = stairs.steps, (stairs.top - stairs.bottom) / stairs.steps
        for i in range(n):
            start = (ax + (bx - ax) * i / n, ay + (by - ay) * i / n)
            end = (ax + (bx - ax) * (i + 1) / n, ay + (by - ay) * (i + 1) / n)
            half = stairs.width / 2
            if abs(bx - ax) > abs(by - ay):
                rect = Rect(min(start[0], end[0]), ay - half, max(start[0], end[0]), ay + half)
            else:
                rect = Rect(ax - half, min(start[1], end[1]), ax + half, max(start[1], end[1]))
            top = stairs.bottom + rise * (i + 1)
            self.box(rect, stairs.bottom, top, stairs.material, self.row["stairs", stairs.id, 0], "stairs")

    def items(self) -> None:
        for item in self.house.items:
            c, s = cos(item.yaw), sin(item.yaw)
            row = self.row["item", item.id, 0]
            px, py, pz = item.position
            for part in item.parts:
                x, y, z = part.centre
                centre = (px + c * x - s * y, py + s * x + c * y, pz + z)
                yaw = item.yaw + part.yaw
                self.out.append(Solid(part.shape, centre, part.half, yaw, part.material, row, "item"))


def _horizontal(wall: Wall) -> bool:
    return wall.start[1] == wall.end[1]


def _along(wall: Wall, point: Point) -> float:
    """Distance of a point on the centre line from the wall's start."""
    return abs(point[0] - wall.start[0]) + abs(point[1] - wall.start[1])


def _at(wall: Wall, distance: float) -> Point:
    (ax, ay), (bx, by) = wall.start, wall.end
    dx, dy = float(np.sign(bx - ax)), float(np.sign(by - ay))
    return (ax + dx * distance, ay + dy * distance)


def _strip(wall: Wall, a: Point, b: Point, right: float, left: float, *, half: bool = False) -> Rect:
    """The rectangle along a wall from `a` to `b`, from `right` to `left` of its centre line.

    In metres, or with `half` in half thicknesses; the whole thickness where both are 0.
    """
    if right == left == 0.0:
        right, left, half = -1.0, 1.0, True
    unit = wall.thickness / 2 if half else 1.0
    dx, dy = float(np.sign(wall.end[0] - wall.start[0])), float(np.sign(wall.end[1] - wall.start[1]))
    nx, ny = -dy, dx  # to the left, looking from start to end
    xs = sorted((a[0] + nx * right * unit, b[0] + nx * left * unit))
    ys = sorted((a[1] + ny * right * unit, b[1] + ny * left * unit))
    return Rect(xs[0], ys[0], xs[1], ys[1])
