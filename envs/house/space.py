"""A room to be furnished: what is where, what must stay free, and where a thing may go. Whole millimetres."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from .assets import KINDS, asset, numbers
from .blueprint import Asset
from .dice import Dice
from .passage import CELL, REACH, passable
from .placing import Box, Gap, Placed, grown, overlap, turned

DOOR_ZONE = 750
"""How deep the floor before a door stays free [mm]."""
SIDES = ("north", "west", "south", "east")
"""The walls, in the order of quarter turns that put a thing's back to them."""


class Space:
    """A rectangular room while it is being furnished.

    Args:
        kind: of the room.
        box: its floor.
        gaps: openings in its walls.
        dice: all choices in this room.
        pool: whose assets are used.
        blocked: floor that is taken from the beginning (a flight of stairs, its well).
        free: floor that must stay free besides the doors' zones.
    """

    def __init__(
        self,
        kind: str,
        box: Box,
        gaps: Sequence[Gap],
        dice: Dice,
        pool: str,
        blocked: Sequence[Box] = (),
        free: Sequence[Box] = (),
    ) -> None:
        self.kind, self.box, self.gaps, self.dice, self.pool = kind, box, tuple(gaps), dice, pool
        self.items: list[Placed] = []
        self.floor: list[Box] = list(blocked)
        self.reserved: list[Box] = []
        self.hung: list[tuple[int, int, int, int, int]] = []
        self.doors = tuple(g for g in gaps if g.sill == 0)
        self.keep: list[Box] = [self.before(g.side, g.low - 60, g.high + 60, DOOR_ZONE) for g in self.doors] + list(
            free
        )
        self._chosen: dict[str, tuple[Asset, str]] = {}

    # --- measures -----------------------------------------------------------------------------------------------

    @property
    def width(self) -> int:
        return self.box[2] - self.box[0]

    @property
    def depth(self) -> int:
        return self.box[3] - self.box[1]

    @property
    def area(self) -> float:
        """[m²]"""
        return self.width * self.depth / 1e6

    @property
    def middle(self) -> tuple[int, int]:
        return (self.box[0] + self.box[2]) // 2, (self.box[1] + self.box[3]) // 2

    def along(self, side: int) -> tuple[int, int]:
        """The ends of a wall along itself."""
        return (self.box[0], self.box[2]) if side % 2 == 0 else (self.box[1], self.box[3])

    def before(self, side: int, low: int, high: int, depth: int) -> Box:
        """The floor before a stretch of a wall."""
        x0, y0, x1, y1 = self.box
        return (
            (low, y1 - depth, high, y1),
            (x0, low, x0 + depth, high),
            (low, y0, high, y0 + depth),
            (x1 - depth, low, x1, high),
        )[side]

    # --- choice of assets ---------------------------------------------------------------------------------------

    def choose(self, category: str, *, same: bool = False) -> tuple[Asset, str]:
        """An asset of this house's pool and a colour; with `same`, what this room already chose."""
        if same and category in self._chosen:
            return self._chosen[category]
        pool = numbers(self.pool)
        found = asset(category, pool[self.dice.below(len(pool))]), self.dice.pick(KINDS[category].colours)
        self._chosen[category] = found
        return found

    def sized(self, category: str, longest: int, *, same: bool = False) -> tuple[Asset, str] | None:
        """Like `choose`, of an asset that is at most `longest` wide; None where there is none."""
        for _ in range(6):
            found = self.choose(category, same=same)
            if found[0].size[0] <= longest:
                return found
            same = False
        return None

    # --- placing ------------------------------------------------------------------------------------------------

    def footprint(self, what: Asset, turn: int, x: int, y: int) -> Box:
        w, d = what.size[:2] if turn % 2 == 0 else (what.size[1], what.size[0])
        return x - (w + 1) // 2, y - (d + 1) // 2, x + (w + 1) // 2, y + (d + 1) // 2

    def fits(self, box: Box, height: int, *, beside: Iterable[Box] = (), clear: int = 10) -> bool:
        """Whether a thing may stand on `box`: inside, before no door or low window, in nobody's way."""
        x0, y0, x1, y1 = self.box
        if box[0] < x0 or box[1] < y0 or box[2] > x1 or box[3] > y1:
            return False
        apart = set(beside)
        if any(overlap(box, k) for k in self.keep) or any(overlap(box, r) for r in self.reserved if r not in apart):
            return False
        if any(overlap(grown(box, clear), f) for f in self.floor if f not in apart):
            return False
        if any(z < height and overlap(box, self.before(s, a, b, 80)) for s, a, b, z, _ in self.hung):
            return False
        hides = (g for g in self.gaps if 0 < g.sill < height)
        return not any(overlap(box, self.before(g.side, g.low - 20, g.high + 20, 300)) for g in hides)

    def passable(self, extra: Sequence[Box] = ()) -> bool:
        """Whether a disc gets from every door to every other and to most of the floor, with `extra` taken as well."""
        inset = REACH - 80
        doorways = [self.before(g.side, g.low + inset, g.high - inset, REACH + CELL) for g in self.doors]
        return passable(self.box, doorways, (*self.floor, *extra), self.keep)

    def put(
        self,
        what: tuple[Asset, str],
        x: int,
        y: int,
        turn: int,
        *,
        beside: Sequence[Placed] = (),
        front: int = 0,
        soft: bool = False,
    ) -> Placed | None:
        """Stands a thing on the floor if it fits, keeping `front` [mm] of floor before it free of other furniture.

        `beside` may touch or reach over it; a `soft` thing (a rug) is in nobody's way.
        """
        found, colour = what
        box = self.footprint(found, turn, x, y)
        if soft:
            inside = self.box[0] <= box[0] and self.box[1] <= box[1] and box[2] <= self.box[2] and box[3] <= self.box[3]
            rugs = [p.box for p in self.items if p.support is None and "floor" in KINDS[p.asset.category].tags]
            if not inside or any(overlap(box, r) for r in rugs):
                return None
        else:
            if not self.fits(box, found.size[2], beside=[b.box for b in beside]) or not self.passable((box,)):
                return None
            return self.stand(what, x, y, turn, front=front)
        return self.add(found, colour, x, y, 0, turn, None)

    def stand(self, what: tuple[Asset, str], x: int, y: int, turn: int, *, front: int = 0) -> Placed:
        """Stands a thing on the floor, whatever is there."""
        placed = self.add(what[0], what[1], x, y, 0, turn, None)
        self.floor.append(placed.box)
        if front:
            self.reserved.append(self._front(placed.box, turn, front))
        return placed

    def _front(self, box: Box, turn: int, depth: int) -> Box:
        dx, dy = turned(turn, 0, -1)
        x0, x1 = (box[2], box[2] + depth) if dx > 0 else (box[0] - depth, box[0]) if dx < 0 else (box[0], box[2])
        y0, y1 = (box[3], box[3] + depth) if dy > 0 else (box[1] - depth, box[1]) if dy < 0 else (box[1], box[3])
        return x0, y0, x1, y1

    def at_wall(
        self,
        what: tuple[Asset, str],
        *,
        sides: Sequence[int] = (0, 1, 2, 3),
        where: str = "any",
        front: int = 0,
        gap: int = 15,
        room_for: int = 0,
        beside: Sequence[Placed] = (),
    ) -> Placed | None:
        """Stands a thing with its back to a wall: in a `"corner"`, in the `"middle"`, or anywhere along it.

        `room_for` asks for so much free wall on both sides of it [mm].
        """
        found, _ = what
        options: list[tuple[int, int, int]] = []
        for side in sides:
            low, high = self.along(side)
            half = (found.size[0] + 1) // 2
            first, last = low + half + 10 + room_for, high - half - 10 - room_for
            if first > last:
                continue
            spots = [first, last] if where == "corner" else [(low + high) // 2 + i * 150 for i in range(-3, 4)]
            if where == "any":
                spots = [first, last, *range(first, last, 170)]
            options += [(side, t, 0) for t in spots if first <= t <= last]
        for side, t, _ in self.dice.shuffled(options)[:14]:
            x, y = self.back_to(found, side, t, gap)
            if room_for:
                box = self.footprint(found, side, x, y)
                wide = (box[0] - room_for, box[1], box[2] + room_for, box[3])
                wide = wide if side % 2 == 0 else (box[0], box[1] - room_for, box[2], box[3] + room_for)
                if not self.fits(wide, min(found.size[2], 500)):
                    continue
            placed = self.put(what, x, y, side, front=front, beside=beside)
            if placed is not None:
                return placed
        return None

    def back_to(self, found: Asset, side: int, t: int, gap: int) -> tuple[int, int]:
        half = (found.size[1] + 1) // 2 + gap
        x0, y0, x1, y1 = self.box
        return ((t, y1 - half), (x0 + half, t), (t, y0 + half), (x1 - half, t))[side]

    def next_to(
        self, base: Placed, what: tuple[Asset, str], right: int, *, front: int = 0, gap: int = 30
    ) -> Placed | None:
        """Stands a thing at the right (1) or left (−1) of another, their backs in line."""
        found, _ = what
        aside = right * ((base.asset.size[0] + found.size[0]) // 2 + gap)
        back = (base.asset.size[1] - found.size[1]) // 2
        dx, dy = turned(base.turn, aside, back)
        return self.put(what, base.x + dx, base.y + dy, base.turn, front=front, beside=())

    def before_it(
        self, base: Placed, what: tuple[Asset, str], distance: int, *, aside: int = 0, turn: int = 0, soft: bool = False
    ) -> Placed | None:
        """Stands a thing `distance` before another's front edge; `turn` is against the other's."""
        found, _ = what
        deep = found.size[1] if turn % 2 == 0 else found.size[0]
        dx, dy = turned(base.turn, aside, -(base.asset.size[1] // 2 + distance + deep // 2))
        return self.put(what, base.x + dx, base.y + dy, base.turn + turn, beside=(base,), soft=soft)

    # --- on things, at walls, under the ceiling -----------------------------------------------------------------

    def on(self, base: Placed, category: str, *, where: str = "any", same: bool = False) -> Placed | None:
        """Stands a small thing on another."""
        what, colour = self.choose(category, same=same)
        w, d = what.size[:2]
        for _ in range(6):
            if not base.asset.surfaces:
                return None
            s = self.dice.pick(base.asset.surfaces)
            spare = (s.x1 - s.x0 - w, s.y1 - s.y0 - d)
            if min(spare) < 0 or what.size[2] > s.clear:
                continue
            cx, cy = (s.x0 + s.x1) // 2, (s.y0 + s.y1) // 2
            if where != "middle":
                cx += self.dice.whole(-spare[0] // 2, spare[0] // 2)
                cy += self.dice.whole(-spare[1] // 2, spare[1] // 2)
            box = (cx - w // 2 - 8, cy - d // 2 - 8, cx + w // 2 + 8, cy + d // 2 + 8)
            if any(t is s and overlap(box, b) for t, b in base.taken):
                continue
            base.taken.append((s, box))
            dx, dy = turned(base.turn, cx, cy)
            return self.add(what, colour, base.x + dx, base.y + dy, base.z + s.z, base.turn, base)
        return None

    def hang(
        self,
        category: str,
        bottom: int,
        *,
        sides: Sequence[int] = (0, 1, 2, 3),
        at: int | None = None,
        same: bool = False,
    ) -> Placed | None:
        """Hangs a thing on a free stretch of a wall, its lower edge at `bottom`."""
        what, colour = self.choose(category, same=same)
        w, _, h = what.size
        for _ in range(8):
            side = self.dice.pick(sides)
            low, high = self.along(side)
            if high - low < w + 200:
                continue
            t = at if at is not None else self.dice.whole(low + w // 2 + 100, high - w // 2 - 100)
            if self.wall_free(side, t - w // 2 - 60, t + w // 2 + 60, bottom - 30, bottom + h + 30):
                x, y = self.back_to(what, side, t, 2)
                self.hung.append((side, t - w // 2, t + w // 2, bottom, bottom + h))
                return self.add(what, colour, x, y, bottom, side, None)
        return None

    def wall_free(self, side: int, low: int, high: int, bottom: int, top: int) -> bool:
        """Whether nothing is on that part of a wall: no opening, nothing hung, no furniture that reaches so high."""
        holes = ((g.side, g.low - 90, g.high + 90, g.sill, g.top + 60) for g in self.gaps)
        taken = (s == side and a < high and low < b and z0 < top and bottom < z1 for s, a, b, z0, z1 in holes)
        return not any(taken) and self.hangs_free(side, low, high, bottom, top)

    def hangs_free(self, side: int, low: int, high: int, bottom: int, top: int) -> bool:
        """Like `wall_free`, openings aside."""
        if low < self.along(side)[0] or high > self.along(side)[1]:
            return False
        if any(s == side and a < high and low < b and z0 < top and bottom < z1 for s, a, b, z0, z1 in self.hung):
            return False
        strip = self.before(side, low, high, 150)
        tall = (p for p in self.items if p.support is None and p.z < top and p.z + p.asset.size[2] > bottom)
        return not any(overlap(strip, p.box) for p in tall)

    def overhead(self, category: str, x: int, y: int, ceiling: int) -> Placed:
        """Hangs a thing from the ceiling."""
        what, colour = self.choose(category, same=True)
        return self.add(what, colour, x, y, ceiling - what.size[2], 0, None)

    def add(self, what: Asset, colour: str, x: int, y: int, z: int, turn: int, support: Placed | None) -> Placed:
        """Puts a thing anywhere, taking no floor."""
        placed = Placed(what, colour, x, y, z, turn % 4, self.footprint(what, turn, x, y), support=support)
        self.items.append(placed)
        return placed
