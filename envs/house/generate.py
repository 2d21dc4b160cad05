"""Seeded houses: rooms, walls, doors, windows, furniture, materials. The same seed gives the same bytes everywhere."""

from __future__ import annotations

import hashlib
import string
from collections.abc import Mapping, Sequence

from ...vla.errors import ConfigError, did_you_mean
from .assets import KINDS
from .building import Shell, metres, rooms, stairs
from .dice import Dice
from .house import House, Item, Opening, Part, Stairs
from .layout import plan
from .palette import Palette
from .placing import Box, Gap, Placed
from .plans import FLIGHT, LANDING, RUN, STOREY, WALL, Plan
from .recipes import furnish
from .space import Space

VERSION = 1
"""Rises whenever any seed gives another house."""
SPLITS: dict[str, str] = {
    "train": "train",
    "val": "val",
    "test": "test",
    "val_unseen_house": "train",
    "val_unseen_object": "val",
}
"""Which pool of assets and textures the houses of a split are made from; `val_unseen_object` adds `assets.HELD_OUT`."""
FLOORS: dict[str, tuple[tuple[str, float, tuple[str, ...]], ...]] = {
    "dry": (
        ("planks", 1.6, ("brown", "beige", "grey")),
        ("parquet", 1.2, ("brown", "beige")),
        ("carpet", 0.6, ("grey", "beige", "blue", "green", "red")),
    ),
    "wet": (("tiles", 1.2, ("white", "grey", "beige", "blue", "teal")), ("marble", 1.6, ("white", "beige", "grey"))),
}
WALLS = ("white", "beige", "white", "grey", "blue", "green", "yellow", "pink")
UNITS = ("kitchen_counter", "kitchen_sink", "wall_cabinet")
WET = ("kitchen", "bathroom", "laundry_room")
_LETTERS = string.ascii_letters + string.digits


def generate(seed: int, split: str = "train", *, storeys: int | None = None, rooms: tuple[int, int] = (2, 10)) -> House:
    """The house of a seed.

    Args:
        seed: any whole number.
        split: a key of `SPLITS`; seeds of different splits are different houses.
        storeys: 1 or 2; None leaves it to the seed.
        rooms: fewest and most rooms, hallways included, within 2 … 10 (6 … 10 with two storeys).

    Raises:
        ConfigError: for an unknown split, or a number of rooms or storeys that no plan has.
    """
    _check(split, storeys, rooms)
    key = f"wayhand house {VERSION} {split} {seed} {storeys} {rooms[0]} {rooms[1]}"
    dice = Dice(key)
    low, high = rooms
    tall = storeys == 2 or (storeys is None and high >= 6 and dice.chance(0.2))
    count = dice.whole(max(low, 6) if tall else low, high)
    drawn = plan(dice, 2 if tall else 1, count)
    return _build(drawn, key, seed, split)


def scan_id(key: str) -> str:
    """Eleven letters and digits, as Matterport names its scans."""
    number = int.from_bytes(hashlib.sha256(key.encode()).digest(), "big")
    letters: list[str] = []
    for _ in range(11):
        number, at = divmod(number, len(_LETTERS))
        letters.append(_LETTERS[at])
    return "".join(letters)


def _check(split: str, storeys: int | None, rooms: tuple[int, int]) -> None:
    if split not in SPLITS:
        close = did_you_mean(split, SPLITS)
        raise ConfigError(
            "There is no such split of houses" + (f"; did you mean '{close}'?" if close else ""),
            got=split,
            exists=SPLITS,
        )
    least = 6 if storeys == 2 else 2
    if storeys not in (None, 1, 2) or not (2 <= rooms[0] <= rooms[1] <= 10 and rooms[1] >= least):
        raise ConfigError(
            "No plan has so many rooms and storeys",
            expected="one storey with 2 to 10 rooms, or two with 6 to 10",
            got=f"storeys={storeys}, rooms={rooms}",
        )


def _build(drawn: Plan, key: str, seed: int, split: str) -> House:
    pool = SPLITS[split]
    palette = Palette(Dice(f"{key} materials"), pool)
    look = Dice(f"{key} rooms")
    finishes = {i: _finish(look, palette, c.kind) for i, c in enumerate(drawn.cells)}
    _share_day_floor(drawn, finishes)
    frame = look.pick(("white", "white", "brown", "beige"))
    frame = palette.fixed("trim") if frame == "white" else palette.made_of("wood", frame)
    shell = Shell(drawn, Dice(f"{key} openings"), frame, palette.fixed("sky"))
    flight = stairs(drawn, Dice(f"{key} stairs"), palette.made_of("wood", palette.timber[0]))
    items: list[Item] = []
    for i in range(len(drawn.cells)):
        space = _space(drawn, i, shell, Dice(f"{key} room {i}"), pool)
        if flight and i == flight[0].rooms[1]:
            _rail(space, drawn, flight[0])
        furnish(space, held_out=split == "val_unseen_object")
        items += _items(space.items, i, drawn.cells[i].storey, len(items), palette)
    return House(
        scan=scan_id(key),
        seed=seed,
        split=split,
        storey_height=metres(STOREY),
        rooms=rooms(drawn, finishes),
        walls=shell.walls,
        openings=tuple(shell.openings),
        items=tuple(items),
        stairs=flight,
        materials=palette.materials,
        provenance={"generator": "wayhand", "version": VERSION, "key": key},
    )


def _finish(dice: Dice, palette: Palette, kind: str) -> tuple[str, str, str]:
    """Materials of floor, wall and ceiling."""
    texture, scale, colours = dice.pick(FLOORS["wet" if kind in WET else "dry"])
    floor = palette.named("floor", dice.pick(colours), texture, scale, pale=0.25 if texture == "carpet" else 0.08)
    if kind == "bathroom" and dice.chance(0.6):
        wall = palette.named("wall", dice.pick(("white", "beige", "blue", "teal")), "tiles", 0.9, pale=0.5)
    elif kind in ("living_room", "dining_room", "library") and dice.chance(0.15):
        wall = palette.named("wall", dice.pick(("red", "white", "grey")), "brick", 0.9, pale=0.2)
    else:
        wall = palette.named("wall", dice.pick(WALLS), "plaster", 1.5, pale=0.6)
    return floor, wall, palette.fixed("ceiling")


def _share_day_floor(drawn: Plan, finishes: dict[int, tuple[str, str, str]]) -> None:
    """One floor runs through rooms that are joined by a wide passage, unless one of them is tiled."""
    for link in drawn.links:
        kinds = {drawn.cells[link.a].kind, drawn.cells[link.b].kind}
        if link.kind == "open" and not kinds & set(WET):
            finishes[link.b] = (finishes[link.a][0], *finishes[link.b][1:])


def _space(drawn: Plan, i: int, shell: Shell, dice: Dice, pool: str) -> Space:
    cell, half = drawn.cells[i], WALL // 2
    box = (cell.x0 + half, cell.y0 + half, cell.x1 - half, cell.y1 - half)
    gaps = [_gap(o, box, cell.storey) for o in shell.openings if i in o.rooms]
    blocked: list[Box] = []
    free: list[Box] = []
    if drawn.flight is not None and i in drawn.joined:
        x0, y0, x1, y1 = drawn.flight
        blocked.append(drawn.flight)
        ends = ((x0 - LANDING, y0, x0, y1), (x1, y0, x1 + LANDING, y1))
        if x1 - x0 < y1 - y0:
            ends = ((x0, y0 - LANDING, x1, y0), (x0, y1, x1, y1 + LANDING))
        free += [(max(a, box[0]), max(b, box[1]), min(c, box[2]), min(d, box[3])) for a, b, c, d in ends]
    return Space(cell.kind, box, gaps, dice, pool, blocked, free)


def _rail(space: Space, drawn: Plan, flight: Stairs) -> None:
    """Railings along the open side of the stairwell and across the end above the lowest step."""
    assert drawn.flight is not None, "there is a flight"
    x0, y0, x1, y1 = drawn.flight
    what = space.choose("railing")
    ax, ay = round(flight.start[0] * 1000), round(flight.start[1] * 1000)
    n, half = RUN // FLIGHT, FLIGHT // 2
    if x1 - x0 > y1 - y0:
        y = y1 + 26 if y0 - space.box[1] < space.box[3] - y1 else y0 - 26
        spots = [(x0 + half + i * FLIGHT, y, 0) for i in range(n)]
        spots.append((x0 - 26 if ax == x0 else x1 + 26, (y0 + y1) // 2, 1))
    else:
        x = x1 + 26 if x0 - space.box[0] < space.box[2] - x1 else x0 - 26
        spots = [(x, y0 + half + i * FLIGHT, 1) for i in range(n)]
        spots.append(((x0 + x1) // 2, y0 - 26 if ay == y0 else y1 + 26, 0))
    for x, y, turn in spots:
        space.stand(what, x, y, turn)


def _gap(o: Opening, box: Box, storey: int) -> Gap:
    (ax, ay), (bx, by) = ((round(v * 1000) for v in p) for p in (o.start, o.end))
    base = storey * STOREY
    sill, top = round(o.bottom * 1000) - base, round(o.top * 1000) - base
    if ay == by:
        return Gap(0 if abs(ay - box[3]) < abs(ay - box[1]) else 2, min(ax, bx), max(ax, bx), sill, top)
    return Gap(1 if abs(ax - box[0]) < abs(ax - box[2]) else 3, min(ay, by), max(ay, by), sill, top)


_YAW = (0.0, 1.571, 3.142, -1.571)


def _items(placed: Sequence[Placed], room: int, storey: int, first: int, palette: Palette) -> list[Item]:
    ids = {id(p): first + n for n, p in enumerate(placed)}
    out: list[Item] = []
    sets: dict[tuple[str, str], dict[str, str]] = {}
    for p in placed:
        kind = KINDS[p.asset.category]
        # Equal things of a room match one another, and so do all units of a kitchen.
        fitted = "units" if p.asset.category in UNITS else p.asset.id
        if (p.asset.id, p.colour) not in sets:
            main = sets.get((fitted, p.colour), {}).get("main") or palette.made_of(kind.main, p.colour)
            wanted = dict.fromkeys(piece.slot for piece in p.asset.pieces)
            sets[fitted, p.colour] = {"main": main}
            sets[p.asset.id, p.colour] = palette.slots(main, wanted)
        slots = sets[p.asset.id, p.colour]
        w, d, h = p.asset.size
        out.append(
            Item(
                id=ids[id(p)],
                category=p.asset.category,
                asset=p.asset.id,
                colour=p.colour,
                room=room,
                position=(metres(p.x), metres(p.y), metres(p.z + storey * STOREY)),
                yaw=_YAW[p.turn],
                size=(metres(w), metres(d), metres(h)),
                support=None if p.support is None else ids[id(p.support)],
                parts=_parts(p, slots),
                tags=kind.tags,
            )
        )
    return out


def _parts(p: Placed, slots: Mapping[str, str]) -> tuple[Part, ...]:
    return tuple(
        Part(
            piece.shape,
            (metres(piece.at[0]), metres(piece.at[1]), round(piece.at[2] / 1000 + piece.size[2] / 2000, 4)),
            (round(piece.size[0] / 2000, 4), round(piece.size[1] / 2000, 4), round(piece.size[2] / 2000, 4)),
            slots[piece.slot],
            piece.yaw,
        )
        for piece in p.asset.pieces
    )
