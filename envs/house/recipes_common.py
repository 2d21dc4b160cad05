"""What rooms of several kinds have: curtains, desks, lamps, pictures, and things never seen in training."""

from __future__ import annotations

from .placing import Placed, overlap
from .space import Space


def curtains(room: Space) -> None:
    """A curtain at both sides of every window where nothing stands."""
    for g in room.gaps:
        if not g.sill:
            continue
        for at in (g.low - 200, g.high + 200):
            what, colour = room.choose("curtain", same=True)
            x, y = room.back_to(what, g.side, at, 12)
            half, bottom, top = what.size[0] // 2 + 10, 60, 60 + what.size[2]
            beside = [h for h in room.gaps if h is not g and h.side == g.side]
            box = room.footprint(what, g.side, x, y)
            if any(at - half < h.high and h.low < at + half for h in beside) or any(overlap(box, k) for k in room.keep):
                continue
            if room.hangs_free(g.side, at - half, at + half, bottom, top):
                room.hung.append((g.side, at - half, at + half, bottom, top))
                room.add(what, colour, x, y, bottom, g.side, None)


def desk(room: Space, things: tuple[str, ...]) -> Placed | None:
    table = room.at_wall(room.choose("desk"), front=650)
    if table is None:
        return None
    seat = room.choose("office_chair")
    for distance in (20, 60):
        if room.before_it(table, seat, distance, turn=2) is not None:
            break
    for thing in things:
        room.on(table, thing)
    return table


def finish(room: Space) -> None:
    """A lamp, pictures, a plant: in every room where they fit."""
    x, y = room.middle
    room.overhead("ceiling_lamp", x, y, 2600)
    wet = room.kind in ("bathroom", "laundry_room", "storage_room")
    if room.kind not in ("hallway",) and not wet and room.dice.chance(0.6):
        room.at_wall(room.choose("plant"), where="corner", gap=40)
    if not wet and room.kind not in ("hallway", "kitchen"):
        curtains(room)
    for _ in range(0 if wet else 1 + round(room.area / 10)):
        if room.dice.chance(0.75):
            room.hang("picture", room.dice.whole(1350, 1500, 10))
    if room.dice.chance(0.2):
        room.hang("clock", 1800)


UNSEEN: dict[str, tuple[str, ...]] = {
    "living_room": ("piano", "guitar", "aquarium", "grandfather_clock", "telescope", "rocking_chair"),
    "dining_room": ("wine_rack", "grandfather_clock", "aquarium"),
    "kitchen": ("wine_rack",),
    "bedroom": ("guitar", "rocking_chair", "easel", "telescope"),
    "nursery": ("rocking_chair",),
    "office": ("telescope", "easel", "aquarium", "guitar"),
    "library": ("grandfather_clock", "telescope", "rocking_chair"),
    "playroom": ("easel", "guitar", "aquarium"),
    "hallway": ("grandfather_clock", "guitar"),
}
"""Where things of held-out categories stand."""


def unseen(room: Space) -> None:
    """Things of categories that no training house has."""
    for thing in room.dice.shuffled(UNSEEN.get(room.kind, ()))[: room.dice.whole(1, 2)]:
        room.at_wall(room.choose(thing), gap=40, front=200)
