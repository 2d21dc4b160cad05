"""How the rooms of the day are furnished: living room, dining room, kitchen."""

from __future__ import annotations

from .blueprint import Asset
from .placing import Box, Placed, grown, overlap, turned
from .space import Space


def living_room(room: Space) -> None:
    d = room.dice
    sofa = room.choose("sofa")
    stand = _television(room, sofa)
    if stand is None:
        seat = room.at_wall(sofa, where="any", front=500)
        if seat is not None:
            _table_before(room, seat)
    if d.chance(0.7) or room.area > 20:
        shelf = room.at_wall(room.choose("bookshelf"), front=450)
        if shelf is not None and d.chance(0.5):
            room.on(shelf, "vase")
    if d.chance(0.6):
        room.at_wall(room.choose("floor_lamp"), where="corner", gap=40)
    if d.chance(0.5):
        board = room.at_wall(room.choose("sideboard"), front=400)
        if board is not None:
            for thing in d.shuffled(("vase", "candle", "globe", "book"))[:2]:
                room.on(board, thing)
    if d.chance(0.5) and room.area > 17:
        room.at_wall(room.choose("armchair"), where="corner", gap=120, front=250)


def _television(room: Space, sofa: tuple[Asset, str]) -> Placed | None:
    """A television on its stand at one wall, and a sofa opposite that faces it."""
    for side in room.dice.shuffled(range(4)):
        facing = room.depth if side % 2 == 0 else room.width
        stand = room.at_wall(room.choose("tv_stand"), sides=(side,), where="middle", front=600)
        if stand is None:
            continue
        space = facing - stand.asset.size[1] - sofa[0].size[1] - 30
        distance = min(space, room.dice.whole(1900, 2700))
        if space - distance < 750:
            # No way round behind it: the sofa goes to the wall.
            distance = space - 15
        seat = None
        if 1300 <= distance <= 4200:
            for aside in (0, 200, -200, 400, -400):
                seat = room.before_it(stand, sofa, distance, aside=aside, turn=2)
                if seat is not None:
                    break
        if seat is None:
            room.items.remove(stand)
            room.floor.remove(stand.box)
            room.reserved.pop()
            continue
        room.on(stand, "tv", where="middle")
        _table_before(room, seat)
        if room.dice.chance(0.7):
            lamp = room.next_to(seat, room.choose("side_table"), room.dice.pick((1, -1)), gap=40)
            if lamp is not None:
                room.on(lamp, "table_lamp", where="middle")
        if room.dice.chance(0.6):
            right = room.dice.pick((1, -1))
            chair = room.choose("armchair")
            aside = right * (seat.asset.size[0] // 2 + 150)
            room.before_it(seat, chair, 350, aside=aside, turn=3 if right > 0 else 1)
        return stand
    return None


def _table_before(room: Space, seat: Placed) -> None:
    rug = room.choose("rug")
    room.before_it(seat, rug, -250, soft=True)
    table = room.before_it(seat, room.choose("coffee_table"), room.dice.whole(330, 420))
    if table is not None:
        for thing in room.dice.shuffled(("book", "mug", "bowl", "candle", "vase", "laptop", "fruit_bowl"))[:3]:
            room.on(table, thing)


def dining_room(room: Space) -> None:
    table = _dining(room, "dining_table")
    d = room.dice
    if d.chance(0.8):
        board = room.at_wall(room.choose("sideboard"), front=350)
        if board is not None:
            for thing in d.shuffled(("vase", "candle", "bowl", "bottle"))[:3]:
                room.on(board, thing)
    if table is None and d.chance(0.8):
        room.at_wall(room.choose("bookshelf"), front=350)


def _dining(room: Space, category: str) -> Placed | None:
    """A table with chairs around it, in the middle of the free floor."""
    d = room.dice
    x, y = room.middle
    steps = [(dx, dy) for dx in (0, -250, 250, -500, 500) for dy in (0, -250, 250, -500, 500)]
    steps.sort(key=lambda s: (abs(s[0]) + abs(s[1]), s))
    for _ in range(3):
        what, chair = room.choose(category), room.choose("chair")
        turn = 0 if (room.width >= room.depth) != d.chance(0.15) else 1
        best: tuple[int, int, int] | None = None
        for dx, dy in steps:
            box = room.footprint(what[0], turn, x + dx, y + dy)
            if not room.fits(box, what[0].size[2]) or any(overlap(grown(box, 450), taken) for taken in room.floor):
                continue
            seats = _seats(what[0], chair[0], turn, x + dx, y + dy)
            good = sum(room.fits(room.footprint(chair[0], s[2], s[0], s[1]), chair[0].size[2]) for s in seats)
            if best is None or good > best[0]:
                best = (good, dx, dy)
        table = None if best is None else room.put(what, x + best[1], y + best[2], turn)
        if table is None:
            continue
        for cx, cy, facing in _seats(what[0], chair[0], turn, table.x, table.y):
            room.put(chair, cx, cy, facing, beside=(table,))
        if category == "dining_table" and d.chance(0.5):
            rug = room.choose("rug")
            if rug[0].size[0] > what[0].size[0] and rug[0].size[1] > what[0].size[1]:
                room.put(rug, table.x, table.y, turn, soft=True)
        room.on(table, d.pick(("vase", "fruit_bowl", "candle")), where="middle")
        for thing in d.shuffled(("plate", "plate", "mug", "bowl", "bottle", "book"))[: d.whole(2, 5)]:
            room.on(table, thing, same=thing == "plate")
        return table
    return None


def _seats(table: Asset, chair: Asset, turn: int, x: int, y: int) -> list[tuple[int, int, int]]:
    """Where chairs stand around a table, and their quarter turns."""
    w, depth = table.size[:2]
    offset = chair.size[1] // 2 - 50
    seats: list[tuple[int, int, int]] = []
    per_side = 1 if w < 1250 else 2
    for i in range(per_side):
        aside = 0 if per_side == 1 else (2 * i - 1) * w // 4
        seats += [(aside, -depth // 2 - offset, 2), (aside, depth // 2 + offset, 0)]
    if w > 1500 or w == depth:
        seats += [(-w // 2 - offset, 0, 1), (w // 2 + offset, 0, 3)]
    moved = [(*turned(turn, a, b), t) for a, b, t in seats]
    return [(x + a, y + b, (turn + t) % 4) for a, b, t in moved]


def kitchen(room: Space) -> None:
    d = room.dice
    _units(room)
    if room.area > 8:
        _dining(room, "kitchen_table")
    room.at_wall(room.choose("trash_can"), where="any", gap=30)
    if d.chance(0.5):
        room.hang("clock", 1800)


def _units(room: Space) -> None:
    """A row of units along one wall, the fridge at an end, cabinets above where no window is."""
    d = room.dice
    front = room.choose("kitchen_counter")[1]
    spans = [(high - low, side, low, high) for side in range(4) for low, high in _stretches(room, side)]
    order = sorted(d.shuffled(spans), key=lambda s: -min(s[0], 3600))
    for first in (["fridge"], [], ["short"]):
        for length, side, low, high in order:
            row = _chosen(room, length, first)
            width = sum(what.size[0] + 4 for what, _ in row)
            if width > length:
                continue
            starts = d.shuffled((low, high - width, (low + high - width) // 2))
            tries = [(r, start) for start in starts for r in (row, row[::-1])]
            placed = next((p for r, start in tries if (p := _row(room, r, side, start, front))), None)
            if placed:
                _on_units(room, placed, side, front)
                if "fridge" not in first:
                    room.at_wall(room.choose("fridge"), where="any", front=500)
                return


def _chosen(room: Space, length: int, first: list[str]) -> list[tuple[Asset, str]]:
    """The units of a row that is at most `length` long: `first`, sink and stove, more where there is room."""
    d = room.dice
    rest = ["kitchen_sink", "stove", *(["dishwasher"] if length > 2850 else [])]
    row = [room.choose(n) for n in (*[f for f in first if f != "short"], *d.shuffled(rest))]
    width = sum(what.size[0] + 4 for what, _ in row)
    while width + 804 <= min(length, 4000) and first != ["short"]:
        row.insert(1 + d.below(len(row)), room.choose("kitchen_counter"))
        width = sum(what.size[0] + 4 for what, _ in row)
    return row


def _stretches(room: Space, side: int) -> list[tuple[int, int]]:
    """Where along a wall there is no door."""
    low, high = room.along(side)
    at, out = low + 12, list[tuple[int, int]]()
    for a, b in [*sorted((g.low - 90, g.high + 90) for g in room.doors if g.side == side), (high - 12, high)]:
        out.append((at, a))
        at = max(at, b)
    return [s for s in out if s[1] - s[0] > 1420]


def _row(room: Space, row: list[tuple[Asset, str]], side: int, start: int, front: str) -> list[Placed]:
    """All units side by side, or none of them."""
    spots: list[tuple[Asset, str, int, int]] = []
    boxes: list[Box] = []
    for what, colour in row:
        x, y = room.back_to(what, side, start + what.size[0] // 2 + 2, 8)
        box = room.footprint(what, side, x, y)
        if not room.fits(box, min(what.size[2], 900) if what.size[2] < 1300 else what.size[2]):
            return []
        spots.append((what, front if what.category.startswith("kitchen_") else colour, x, y))
        boxes.append(box)
        start += what.size[0] + 4
    if not room.passable(boxes):
        return []
    return [room.stand((what, colour), x, y, side, front=650) for what, colour, x, y in spots]


def _on_units(room: Space, row: list[Placed], side: int, front: str) -> None:
    d = room.dice
    things = d.shuffled(
        ("toaster", "kettle", "microwave", "coffee_machine", "knife_block", "pot", "bottle", "bowl", "mug")
    )
    tops = [p for p in row if p.asset.category in ("kitchen_counter", "dishwasher")]
    for p in tops:
        for _ in range(2):
            if things:
                room.on(p, things.pop())
    for p in row:
        if p.asset.category in ("kitchen_counter", "dishwasher", "kitchen_sink"):
            t = p.x if side % 2 == 0 else p.y
            what, _ = room.choose("wall_cabinet", same=True)
            half = what.size[0] // 2
            if room.wall_free(side, t - half + 2, t + half - 2, 1450, 1450 + what.size[2]):
                x, y = room.back_to(what, side, t, 2)
                room.hung.append((side, t - half, t + half, 1450, 1450 + what.size[2]))
                room.add(what, front, x, y, 1450, side, None)
