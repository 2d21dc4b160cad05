"""From a plan in millimetres to rooms, walls, doors, passages and windows in metres."""

from __future__ import annotations

from collections.abc import Mapping

from .dice import Dice
from .house import Opening, Point, Room, Stairs, Wall
from .plans import FLIGHT, STEPS, STOREY, WALL, Plan, stretch

CEILING = 2.6
"""Clear height of a room [m]."""
DOOR_TOP, PASSAGE_TOP = 2.05, 2.25

ORDINALS = ("", "second ", "third ", "fourth ", "fifth ")


def metres(length: float) -> float:
    """Millimetres as metres, with three decimals."""
    return round(length) / 1000


def rooms(drawn: Plan, finishes: Mapping[int, tuple[str, str, str]]) -> tuple[Room, ...]:
    """Rooms with the names people use; `finishes` are the materials of floor, wall and ceiling of each."""
    seen: dict[str, int] = {}
    out: list[Room] = []
    for i, c in enumerate(drawn.cells):
        number = seen[c.kind] = seen.get(c.kind, 0) + 1
        name = ORDINALS[number - 1] + c.kind.replace("_", " ")
        x0, y0, x1, y1 = (metres(v) for v in _inside(c.x0, c.y0, c.x1, c.y1))
        out.append(Room(i, c.kind, name, c.storey, ((x0, y0), (x1, y0), (x1, y1), (x0, y1)), *finishes[i]))
    return tuple(out)


def _inside(x0: int, y0: int, x1: int, y1: int) -> tuple[int, int, int, int]:
    half = WALL // 2
    return x0 + half, y0 + half, x1 - half, y1 - half


class Shell:
    """The walls of a plan and the openings in them.

    Args:
        drawn: the plan.
        dice: where doors and windows are.
        frame, pane: materials of door frames and window panes.
    """

    def __init__(self, drawn: Plan, dice: Dice, frame: str, pane: str) -> None:
        self._plan, self._dice, self._frame, self._pane = drawn, dice, frame, pane
        self._lines: list[tuple[bool, int, int, int, int | None, int | None, int]] = []
        self._raise()
        self.walls: tuple[Wall, ...] = tuple(self._wall(i) for i in range(len(self._lines)))
        self.openings: list[Opening] = []
        for link in drawn.links:
            self._link(link.a, link.b, link.kind)
        self._front_door()
        for i in self._window_walls():
            self._windows(i)

    def _raise(self) -> None:
        """Cuts every side of every cell where the neighbour changes; the rest is an outer wall."""
        cells = self._plan.cells
        for i, c in enumerate(cells):
            sides = ((True, c.y0, c.x0, c.x1, 1), (True, c.y1, c.x0, c.x1, 0))
            sides += ((False, c.x0, c.y0, c.y1, 0), (False, c.x1, c.y0, c.y1, 1))
            for horizontal, at, low, high, left in sides:
                taken: list[tuple[int, int]] = []
                for j, d in enumerate(cells):
                    if j == i or d.storey != c.storey:
                        continue
                    touches = at in ((d.y0, d.y1) if horizontal else (d.x0, d.x1))
                    d0, d1 = (d.x0, d.x1) if horizontal else (d.y0, d.y1)
                    a, b = max(low, d0), min(high, d1)
                    if touches and b > a:
                        taken.append((a, b))
                        if i < j:
                            one, other = (i, j) if left else (j, i)
                            self._lines.append((horizontal, at, a, b, one, other, c.storey))
                for a, b in [*sorted(taken), (high, high)]:
                    if a > low:
                        one, other = (i, None) if left else (None, i)
                        self._lines.append((horizontal, at, low, a, one, other, c.storey))
                    low = max(low, b)

    def _wall(self, i: int) -> Wall:
        horizontal, at, low, high, left, right, storey = self._lines[i]
        base = metres(storey * STOREY)
        start, end = self._point(horizontal, at, low), self._point(horizontal, at, high)
        return Wall(i, start, end, metres(WALL), base, metres(storey * STOREY + CEILING * 1000), left, right, storey)

    @staticmethod
    def _point(horizontal: bool, at: int, along: int) -> Point:
        return (metres(along), metres(at)) if horizontal else (metres(at), metres(along))

    def _link(self, a: int, b: int, kind: str) -> None:
        found = stretch(self._plan, a, b)
        assert found is not None, "the plan was checked"
        horizontal, at, low, high = found
        if kind == "open":
            width = min(high - low, self._dice.whole(1300, 2400, 50))
            width = width if width >= 1200 else high - low
        else:
            width = min(high - low, self._dice.whole(800, 1000, 20))
        spare = high - low - width
        place = self._dice.weighted((0.0, 1.0, 0.5), (0.35, 0.35, 0.3))
        start = low + round(spare * place / 10) * 10
        for i, line in enumerate(self._lines):
            if line[:2] == (horizontal, at) and {line[4], line[5]} == {a, b}:
                self._cut("open" if kind == "open" else "door", i, start, start + width, 0, kind == "open")

    def _cut(self, kind: str, wall: int, start: int, end: int, sill: int, high: bool, top: float = 0.0) -> None:
        horizontal, at, _, _, left, right, storey = self._lines[wall]
        top = top or (PASSAGE_TOP if high else DOOR_TOP)
        base = storey * STOREY
        self.openings.append(
            Opening(
                len(self.openings),
                "window" if kind == "window" else "open" if kind == "open" else "door",
                wall,
                self._point(horizontal, at, start),
                self._point(horizontal, at, end),
                metres(base + sill),
                metres(base + top * 1000),
                (left, right),
                self._pane if kind == "window" else self._frame,
            )
        )

    def _front_door(self) -> None:
        """The way in, closed: into a hallway with an outer wall, else into the living room."""
        order = {"hallway": 0, "living_room": 1, "kitchen": 2, "dining_room": 3}
        best: tuple[int, int, int] | None = None
        for i, (horizontal, at, low, high, left, right, storey) in enumerate(self._lines):
            room = left if right is None else right if left is None else None
            if room is None or storey or high - low < 1400:
                continue
            if self._plan.flight is not None and room == self._plan.joined[0] and self._at_flight(horizontal, at):
                continue
            score = (order.get(self._plan.cells[room].kind, 9), high - low, i)
            best = score if best is None or score < best else best
        if best is None:
            return
        _, _, low, high, *_ = self._lines[best[2]]
        start = low + (high - low - 1000) // 2
        self._cut("door", best[2], start, start + 1000, 0, False)

    def _at_flight(self, horizontal: bool, at: int) -> bool:
        x0, y0, x1, y1 = self._plan.flight or (0, 0, 0, 0)
        near = min(abs(at - y0), abs(at - y1)) if horizontal else min(abs(at - x0), abs(at - x1))
        return near < 300 or horizontal != (x1 - x0 > y1 - y0)

    def _window_walls(self) -> list[int]:
        """Outer walls with windows: one or two of a room, three of a living room, so that furniture finds a wall."""
        by_room: dict[int, list[int]] = {}
        for i, line in enumerate(self._lines):
            if None in line[4:6]:
                by_room.setdefault(next(r for r in line[4:6] if r is not None), []).append(i)
        out: list[int] = []
        for room, lines in sorted(by_room.items()):
            longest = sorted(self._dice.shuffled(lines), key=lambda i: self._lines[i][2] - self._lines[i][3])
            most = 3 if self._plan.cells[room].kind in ("living_room", "hallway") else 1 + self._dice.below(2)
            out += longest[:most]
        return sorted(out)

    def _windows(self, wall: int) -> None:
        _, _, low, high, left, right, _ = self._lines[wall]
        room = left if left is not None else right
        assert room is not None
        kind = self._plan.cells[room].kind
        low, high = low + WALL // 2 + 250, high - WALL // 2 - 250
        if high - low < 600 or kind == "storage_room" or any(o.wall == wall for o in self.openings):
            return
        small = kind in ("bathroom", "laundry_room")
        count = 1 if small else max(1, round((high - low) / 3200))
        width = min(self._dice.whole(550, 800, 50) if small else self._dice.whole(1000, 1900, 50), high - low)
        sill = 1300 if small else 950 if kind == "kitchen" else self._dice.pick((350, 600, 800, 850))
        for n in range(count):
            middle = low + (high - low) * (2 * n + 1) // (2 * count)
            start = min(max(round((middle - width // 2) / 10) * 10, low), high - width)
            self._cut("window", wall, start, start + width, sill, False, 2.15)


def stairs(drawn: Plan, dice: Dice, material: str) -> tuple[Stairs, ...]:
    """The flight of a plan, if it has one; up in either direction."""
    if drawn.flight is None:
        return ()
    x0, y0, x1, y1 = drawn.flight
    if x1 - x0 > y1 - y0:
        ends = ((x0, (y0 + y1) // 2), (x1, (y0 + y1) // 2))
    else:
        ends = (((x0 + x1) // 2, y0), ((x0 + x1) // 2, y1))
    (ax, ay), (bx, by) = ends if dice.chance(0.5) else ends[::-1]
    start, end = (metres(ax), metres(ay)), (metres(bx), metres(by))
    return (Stairs(0, start, end, metres(FLIGHT), 0.0, metres(STOREY), STEPS, drawn.joined, material),)
