"""Floor plans: rooms along a hallway, around a living room, or on two storeys around a flight of stairs."""

from __future__ import annotations

from collections.abc import Sequence

from .dice import Dice
from .plans import FLIGHT, GRID, LANDING, RUN, WALL, Box, Cell, Plan, sound, stretch, turned
from .room_kinds import NEEDS, PUBLIC, large, small


def plan(dice: Dice, storeys: int, count: int) -> Plan:
    """A floor plan of `count` rooms, turned and mirrored at random. Draws until one holds together."""
    while True:
        if storeys == 2:
            drawn = _two_storeys(dice, count)
        elif count <= 3 or (count == 4 and dice.chance(0.6)):
            drawn = _compact(dice, small(dice, count))
        else:
            halls = 2 if count >= 8 and dice.chance(0.35) else 1
            drawn = _hallway(dice, large(dice, count - halls), halls)
        if drawn is not None and sound(drawn):
            return turned(drawn, dice.below(8))


def _side(kind: str) -> int:
    return NEEDS[kind].side + WALL


def _area(dice: Dice, kind: str) -> float:
    """A wish for a room's area [mm²]."""
    low, high = NEEDS[kind].area
    return dice.real(low, high) * 1e6


def _compact(dice: Dice, kinds: Sequence[str]) -> Plan | None:
    """A rectangle cut into rooms; they open into the first one, or into one another where that reads well."""
    areas = [_area(dice, k) for k in kinds]
    total = sum(areas) * 1.1
    width = _snap(total**0.5 * dice.real(0.85, 1.45))
    depth = _snap(total / width)
    drawn = Plan()
    for kind, box in _slices(dice, list(zip(kinds, areas, strict=True)), (0, 0, width, depth)):
        drawn.add(kind, 0, *box)
    if not all(_roomy(c) for c in drawn.cells):
        return None
    _join_public(dice, drawn, range(len(drawn.cells)))
    linked = {0} | {i for k in drawn.links for i in (k.a, k.b)}
    for i in sorted(set(range(len(drawn.cells))) - linked):
        hosts = [j for j in sorted(linked) if stretch(drawn, i, j) and _may_join(drawn, i, j)]
        if not hosts:
            return None
        drawn.link(hosts[0], i)
        linked.add(i)
    return drawn


def _may_join(drawn: Plan, i: int, j: int) -> bool:
    """No way leads from a kitchen into a bathroom, nor through a bathroom."""
    kinds = {drawn.cells[i].kind, drawn.cells[j].kind}
    return "bathroom" not in kinds or not kinds & {"kitchen", "dining_room"}


def _hallway(dice: Dice, kinds: list[str], halls: int) -> Plan | None:
    """Rooms on both sides of one or two hallways; the rooms of the day at their end, or along them."""
    drawn = Plan()
    day = [k for k in kinds if k in PUBLIC]
    rest = dice.shuffled([k for k in kinds if k not in PUBLIC])
    if halls == 1 and dice.chance(0.3):
        return _street(dice, drawn, day, rest)
    if len(day) == 3 and dice.chance(0.3):
        rest.insert(0, day.pop())
    block = _day_block(dice, drawn, day)
    if block is None:
        return None
    x0, y0, x1, y1 = block
    parts = [rest] if halls == 1 else [rest[::2], rest[1::2]]
    for wing, part in enumerate(parts):
        clear = dice.whole(1250, 1600, GRID) + WALL
        low = dice.whole(y0 + 600, max(y0 + 600, y1 - clear - 600), GRID)
        edge = x1 if wing == 0 else x0
        hall = _wing(dice, drawn, part, 0, edge, low, low + clear, 1 if wing == 0 else -1)
        if hall is None:
            return None
        near = [i for i in range(len(day)) if stretch(drawn, i, hall)]
        if not near:
            return None
        drawn.link(near[0], hall, "open" if dice.chance(0.5) else "door")
        for i in near[1:]:
            if dice.chance(0.7):
                drawn.link(i, hall)
    _join_public(dice, drawn, range(len(drawn.cells)))
    return drawn


def _street(dice: Dice, drawn: Plan, day: list[str], rest: list[str]) -> Plan | None:
    """One long hallway: the rooms of the day on its sunny side, the others across."""
    clear = dice.whole(1300, 1700, GRID) + WALL
    hall = _wing(dice, drawn, rest, 0, 0, 0, clear, 1, sunny=dice.shuffled(day))
    if hall is None:
        return None
    _join_public(dice, drawn, range(len(drawn.cells)))
    return drawn


def _day_block(dice: Dice, drawn: Plan, day: Sequence[str]) -> tuple[int, int, int, int] | None:
    """The rooms of the day as one rectangle, west of the hallway."""
    areas = [_area(dice, k) for k in day]
    total = sum(areas) * 1.06
    width = _snap(total**0.5 * dice.real(0.75, 1.2))
    box = (-width, 0, 0, _snap(total / width))
    for kind, part in _slices(dice, list(zip(day, areas, strict=True)), box):
        cell = drawn.cells[drawn.add(kind, 0, *part)]
        if not _roomy(cell):
            return None
    return box


def _wing(
    dice: Dice,
    drawn: Plan,
    kinds: Sequence[str],
    storey: int,
    x: int,
    low: int,
    high: int,
    way: int,
    *,
    sunny: Sequence[str] = (),
    least: int = 0,
    flight: bool = False,
) -> int | None:
    """A hallway from `x` on in direction `way` with a row of rooms on either side, perhaps one at its end."""
    rooms = list(kinds)
    end = rooms.pop() if len(rooms) >= 3 and not flight and dice.chance(0.35) else None
    half = (len(rooms) + 1) // 2 if not flight or len(rooms) > 3 else len(rooms)
    north = list(sunny) or rooms[:half]
    south = rooms if sunny else rooms[len(north) :]
    rows: list[list[tuple[str, int]]] = []
    depths: list[int] = []
    for row in (north, south):
        depth = dice.whole(4200, 5000, GRID) if row and row[0] in PUBLIC else dice.whole(3100, 4200, GRID)
        widths = [max(_side(k), _snap(_area(dice, k) / (depth - WALL))) for k in row]
        rows.append(list(zip(row, widths, strict=True)))
        depths.append(depth)
    spans = [sum(w for _, w in row) for row in rows]
    length = max(*spans, least)
    if flight and any(span and span < 0.6 * length for span in spans):
        return None
    # Rows that nearly fill the hallway's length are stretched to it: a house has few short steps in its outline.
    for i, row in enumerate(rows):
        if row and spans[i] > (0.6 if flight else 0.7) * length:
            rows[i] = _stretched(row, length)
    cells: list[int] = []
    hall = drawn.add("hallway", storey, *_span(x, 0, length, way, low, high))
    for row, depth, north_side in ((rows[0], depths[0], True), (rows[1], depths[1], False)):
        at = 0
        for kind, width in row:
            y0, y1 = (high, high + depth) if north_side else (low - depth, low)
            cells.append(drawn.add(kind, storey, *_span(x, at, at + width, way, y0, y1)))
            at += width
    if end is not None:
        depth = max(_side(end), dice.whole(2900, 3800, GRID))
        width = max(_side(end), _snap(_area(dice, end) / (depth - WALL)))
        y0 = low - dice.whole(0, depth - (high - low), GRID)
        cells.append(drawn.add(end, storey, *_span(x, length, length + width, way, y0, y0 + depth)))
    _join_wing(dice, drawn, hall, cells)
    return hall if all(_roomy(drawn.cells[i]) for i in cells) else None


def _join_wing(dice: Dice, drawn: Plan, hall: int, cells: Sequence[int]) -> None:
    """Doors onto the hallway; a second bathroom may belong to the bedroom beside it instead."""
    baths = [i for i in cells if drawn.cells[i].kind == "bathroom"]
    spare = len([c for c in drawn.cells if c.kind == "bathroom"]) > 1
    for i in cells:
        beds = [j for j in cells if drawn.cells[j].kind == "bedroom" and stretch(drawn, i, j)]
        if i in baths and spare and beds and dice.chance(0.6):
            drawn.link(beds[0], i)
            spare = False
        else:
            drawn.link(hall, i, "open" if drawn.cells[i].kind == "living_room" and dice.chance(0.6) else "door")


def _two_storeys(dice: Dice, count: int) -> Plan | None:
    """The rooms of the day below, bedrooms above, a hallway with a straight flight in both."""
    below = min(max(3, count // 2 + dice.below(2)), count - 3)
    kinds = large(dice, count - 2)
    day = [k for k in kinds if k in PUBLIC]
    rest = [k for k in kinds if k not in PUBLIC]
    ground = day + rest[len(rest) - max(0, below - 1 - len(day)) :]
    upper = _without(kinds, ground)
    if len(upper) < 2:
        return None
    drawn = Plan()
    clear = FLIGHT + dice.whole(1200, 1500, GRID) + WALL + 20
    least = RUN + 2 * LANDING + WALL
    at_end = len(ground) >= 4 and dice.chance(0.5)
    if at_end:
        block = _day_block(dice, drawn, ground[:2])
        if block is None:
            return None
        low = block[1] + _snap((block[3] - block[1] - clear) * dice.real(0.2, 0.8))
        ground = ground[2:]
    else:
        low = 0
    hall = _wing(dice, drawn, dice.shuffled(ground), 0, 0, low, low + clear, 1, least=least, flight=True)
    if hall is None:
        return None
    if at_end:
        near = [i for i in range(2) if stretch(drawn, i, hall)]
        if not near:
            return None
        drawn.link(near[0], hall, "open")
    up = _wing(dice, drawn, dice.shuffled(upper), 1, 0, low, low + clear, 1, least=least, flight=True)
    if up is None:
        return None
    side = low + WALL // 2 + FLIGHT // 2
    x0, half = LANDING + WALL // 2, FLIGHT // 2
    drawn.flight, drawn.joined = (x0, side - half, x0 + RUN, side + half), (hall, up)
    _join_public(dice, drawn, range(len(drawn.cells)))
    return drawn


def _without(kinds: Sequence[str], taken: Sequence[str]) -> list[str]:
    left = list(kinds)
    for kind in taken:
        left.remove(kind)
    return left


def _join_public(dice: Dice, drawn: Plan, cells: Sequence[int] | range) -> None:
    """The rooms of the day open into each other: widely to the dining room, often to the kitchen."""
    day = [i for i in cells if drawn.cells[i].kind in PUBLIC]
    for n, i in enumerate(day):
        for j in day[:n]:
            wall = stretch(drawn, i, j)
            if wall is None:
                continue
            kinds = {drawn.cells[i].kind, drawn.cells[j].kind}
            wide = wall[3] - wall[2] >= 1300 and dice.chance(0.75 if "dining_room" in kinds else 0.5)
            drawn.link(j, i, "open" if wide else "door")


def _snap(length: float) -> int:
    return round(length / GRID) * GRID


def _span(x: int, a: int, b: int, way: int, y0: int, y1: int) -> tuple[int, int, int, int]:
    """A rectangle from `a` to `b` along the hallway that starts at `x` and goes in direction `way`."""
    return (x + a, y0, x + b, y1) if way > 0 else (x - b, y0, x - a, y1)


def _roomy(cell: Cell) -> bool:
    short, long = sorted((cell.width - WALL, cell.depth - WALL))
    low, high = NEEDS[cell.kind].area
    return (
        short >= NEEDS[cell.kind].side and long <= 2.1 * short + 400 and 0.85 * low <= short * long / 1e6 <= 1.3 * high
    )


def _stretched(row: Sequence[tuple[str, int]], length: int) -> list[tuple[str, int]]:
    """Widths scaled so that they add up to `length`."""
    total, out, at, seen = sum(w for _, w in row), list[tuple[str, int]](), 0, 0
    for kind, width in row:
        seen += width
        end = _snap(length * seen / total) if seen < total else length
        out.append((kind, end - at))
        at = end
    return out


def _slices(dice: Dice, rooms: list[tuple[str, float]], box: Box) -> list[tuple[str, Box]]:
    """Cuts a rectangle into rooms in proportion to their areas, across its longer side (a slicing tree)."""
    if len(rooms) == 1:
        return [(rooms[0][0], box)]
    cut = 1 + dice.below(len(rooms) - 1)
    order = dice.shuffled(rooms)
    first, second = order[:cut], order[cut:]
    share = sum(a for _, a in first) / sum(a for _, a in rooms)
    x0, y0, x1, y1 = box
    across = x1 - x0 > y1 - y0 if dice.chance(0.85) else x1 - x0 <= y1 - y0
    if across:
        middle = x0 + _snap((x1 - x0) * share)
        parts = _slices(dice, first, (x0, y0, middle, y1)) + _slices(dice, second, (middle, y0, x1, y1))
    else:
        middle = y0 + _snap((y1 - y0) * share)
        parts = _slices(dice, first, (x0, y0, x1, middle)) + _slices(dice, second, (x0, middle, x1, y1))
    names = [k for k, _ in rooms]
    return sorted(parts, key=lambda p: names.index(p[0]))
