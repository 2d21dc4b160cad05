"""Whether a house is one people can live and robots can move in, decided from its description alone.

Nothing here knows how a house was made: free space is a raster of what stands on the floor, so that a fault of the
generator's own bookkeeping cannot hide itself.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Iterator, Sequence
from typing import cast

import numpy as np
from scipy import ndimage

from .footprints import SLACK, Corners, apart, base_of, bounds, boxes_meet, footprint_of, holds, outline_of, rectangle
from .house import House, Item, Room
from .solids import footprint

CELL = 0.04
"""Side of a raster cell [m]."""
CLEARANCE = 0.6
"""How deep the floor on both sides of a door is free [m]."""
STEP = 0.10
"""What is lower than this is walked over [m]."""
BODY = 1.6
"""What begins higher than this above the floor is walked under [m]."""


FAULTS = (
    "rooms overlap",
    "narrow door",
    "blocked door",
    "no way in",
    "out of the room",
    "inside another",
    "unsupported",
    "not reached",
)
"""What every sentence of `check` begins with, up to its colon."""


def check(house: House, *, radius: float = 0.2) -> list[str]:
    """What is wrong with a house, one sentence each, after a word of `FAULTS`; empty where nothing is.

    It finds: rooms that overlap; rooms no door or stair joins to the others; rooms that a disc of `radius` [m] does not
    reach; furniture before doors; things outside their room, inside one another, or with nothing under them.
    """
    return [
        *_overlapping_rooms(house),
        *_doors(house),
        *_unconnected(house),
        *_outside(house),
        *_inside_each_other(house),
        *_floating(house),
        *_unreached(house, radius),
    ]


def layout_hash(house: House) -> str:
    """Equal for houses whose rooms have the same kinds and are joined the same way, whatever their size and order.

    A Weisfeiler–Lehman hash of the graph of rooms and of the doors, passages and stairs between them (16 hex digits).
    """
    ways = [(o.rooms[0], o.rooms[1], "way") for o in house.openings if o.kind != "window"]
    ways += [(*flight.rooms, "stairs") for flight in house.stairs]
    beside: dict[int, list[tuple[int, str]]] = {room.id: [] for room in house.rooms}
    for one, other, kind in sorted({(a, b, k) for a, b, k in ways if a is not None and b is not None}):
        beside[one].append((other, kind))
        beside[other].append((one, kind))
    labels = {room.id: room.kind for room in house.rooms}
    for _ in house.rooms:
        told = {i: [labels[i], *sorted(f"{kind} {labels[j]}" for j, kind in beside[i])] for i in labels}
        labels = {i: _digest("\n".join(words)) for i, words in told.items()}
    return _digest("\n".join(sorted(labels.values())))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _reached(edges: Sequence[tuple[Hashable, Hashable]]) -> set[Hashable]:
    """What edges lead to from room 0."""
    found: set[Hashable] = {0}
    before = 0
    while len(found) > before:
        before = len(found)
        found |= {b for a, b in edges if a in found} | {a for a, b in edges if b in found}
    return found


# --- the building ----------------------------------------------------------------------------------------------------


def _overlapping_rooms(house: House) -> Iterator[str]:
    for a in house.rooms:
        for b in house.rooms[: a.id]:
            if a.storey == b.storey and (_mask(a, a) & _mask(b, a)).any():
                yield f"rooms overlap: the {a.name} and the {b.name}"


def _doors(house: House) -> Iterator[str]:
    for o in house.openings:
        wide = abs(o.end[0] - o.start[0]) + abs(o.end[1] - o.start[1])
        if o.kind != "window" and None not in o.rooms and wide < 0.8 - 1e-6:
            yield f"narrow door: opening {o.id} is {wide:.2f} m wide"
        if o.kind == "window" or None in o.rooms:
            continue
        zone = _door_zone(house, o.id)
        for item in house.items:
            standing = item.position[2] - o.bottom < BODY and item.position[2] + item.size[2] - o.bottom > STEP
            on = house.rooms[item.room].storey == house.walls[o.wall].storey
            if on and standing and apart(footprint_of(item), zone) < -SLACK:
                yield f"blocked door: {item.category} {item.id} stands before opening {o.id}"


def _door_zone(house: House, opening: int) -> Corners:
    o = house.openings[opening]
    deep = house.walls[o.wall].thickness / 2 + CLEARANCE
    (ax, ay), (bx, by) = o.start, o.end
    if ay == by:
        return rectangle(min(ax, bx), ay - deep, max(ax, bx), ay + deep)
    return rectangle(ax - deep, min(ay, by), ax + deep, max(ay, by))


def _unconnected(house: House) -> Iterator[str]:
    edges: list[tuple[Hashable, Hashable]] = [s.rooms for s in house.stairs]
    edges += [o.rooms for o in house.openings if o.kind != "window" and None not in o.rooms]
    reached = _reached(edges)
    for room in house.rooms:
        if room.id not in reached:
            yield f"no way in: no door leads to the {room.name}"


# --- furniture -------------------------------------------------------------------------------------------------------


def _outside(house: House) -> Iterator[str]:
    for item in house.items:
        room = house.rooms[item.room]
        for x, y in footprint_of(item):
            if not holds(room, x, y):
                yield f"out of the room: {item.category} {item.id} sticks out of the {room.name}"
                break


def _inside_each_other(house: House) -> Iterator[str]:
    by_room: dict[int, list[Item]] = {}
    for item in house.items:
        by_room.setdefault(item.room, []).append(item)
    for items in by_room.values():
        boxes = [bounds(i) for i in items]
        for i, a in enumerate(items):
            for j in range(i):
                if boxes_meet(boxes[i], boxes[j]) and _parts_meet(a, items[j]):
                    yield f"inside another: {a.category} {a.id} is inside {items[j].category} {items[j].id}"


def _parts_meet(a: Item, b: Item) -> bool:
    if a.size[2] < 0.03 or b.size[2] < 0.03:
        return False  # a rug lies under things
    for p in a.parts:
        for q in b.parts:
            low = max(base_of(a, p), base_of(b, q))
            high = min(base_of(a, p) + 2 * p.half[2], base_of(b, q) + 2 * q.half[2])
            if high - low > SLACK and apart(outline_of(a, p), outline_of(b, q)) < -SLACK:
                return True
    return False


def _floating(house: House) -> Iterator[str]:
    for item in house.items:
        room = house.rooms[item.room]
        floor = room.storey * house.storey_height
        if item.support is not None:
            base = house.items[item.support]
            tops = [base_of(base, p) + 2 * p.half[2] for p in base.parts]
            over = apart(footprint_of(item), footprint_of(base)) < 0
            if not over or min(abs(item.position[2] - t) for t in tops) > 0.02:
                yield f"unsupported: {item.category} {item.id} does not stand on {base.category} {base.id}"
        elif item.position[2] > floor + 0.01 and not {"wall", "ceiling"} & set(item.tags):
            yield f"unsupported: {item.category} {item.id} hangs in the air"


# --- free space ------------------------------------------------------------------------------------------------------


def _unreached(house: House, radius: float) -> Iterator[str]:
    """Rooms in which a disc cannot get from any door to the middle of the largest free spot, nor from door to door."""
    points = np.array([p for r in house.rooms for p in r.polygon])
    if not len(points):
        return
    low, high = points.min(0) - 0.5, points.max(0) + 0.5
    shape = (int((high[1] - low[1]) / CELL) + 1, int((high[0] - low[0]) / CELL) + 1)
    edges: list[tuple[Hashable, Hashable]] = []
    for storey in sorted({r.storey for r in house.rooms}):
        labels = _regions(house, storey, radius, low, shape)
        for room in house.rooms:
            if room.storey == storey:
                inside = labels[_polygon(room, low, shape)]
                counts = np.bincount(inside[inside > 0], minlength=1)
                if counts.sum() == 0:
                    continue
                edges.append((room.id, ("region", storey, int(counts.argmax()))))
        for flight in house.stairs:
            for room, point, other in (
                (flight.rooms[0], flight.start, flight.end),
                (flight.rooms[1], flight.end, flight.start),
            ):
                if house.rooms[room].storey == storey:
                    away = np.sign(np.subtract(point, other)) * (radius + 0.1)
                    x, y = np.add(point, away)
                    region = labels[int((y - low[1]) / CELL), int((x - low[0]) / CELL)]
                    if region:
                        edges.append((("flight", flight.id), ("region", storey, int(region))))
    reached = _reached(edges)
    for room in house.rooms:
        if room.id not in reached:
            yield f"not reached: a disc of {radius} m does not reach the {room.name}"


def _regions(house: House, storey: int, radius: float, low: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """int [rows columns]: connected regions of where the disc's middle may be; 0 elsewhere."""
    free = np.zeros(shape, bool)
    for room in house.rooms:
        if room.storey == storey:
            free |= _polygon(room, low, shape)
    for o in house.openings:
        wall = house.walls[o.wall]
        if o.kind != "window" and None not in o.rooms and wall.storey == storey:
            (ax, ay), (bx, by), t = o.start, o.end, wall.thickness / 2 + CELL
            box = (
                rectangle(min(ax, bx), ay - t, max(ax, bx), ay + t)
                if ay == by
                else rectangle(ax - t, min(ay, by), ax + t, max(ay, by))
            )
            _fill(free, box, low, True)
    floor = storey * house.storey_height
    for item in house.items:
        if house.rooms[item.room].storey != storey:
            continue
        for part in item.parts:
            bottom = base_of(item, part) - floor
            if bottom < BODY and bottom + 2 * part.half[2] > STEP:
                _fill(free, outline_of(item, part), low, False)
    for flight in house.stairs:
        rect = footprint(flight)
        _fill(free, rectangle(rect.x0, rect.y0, rect.x1, rect.y1), low, False)
    distance = np.asarray(ndimage.distance_transform_edt(np.pad(free, 1)))[1:-1, 1:-1] * CELL
    labels, _ = cast("tuple[np.ndarray, int]", ndimage.label(distance > radius))
    return labels


def _polygon(room: Room, low: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """bool [rows columns] of the cells whose middle is in the room."""
    ys = low[1] + (np.arange(shape[0]) + 0.5) * CELL
    xs = low[0] + (np.arange(shape[1]) + 0.5) * CELL
    inside = np.zeros(shape, bool)
    ring = room.polygon
    for (ax, ay), (bx, by) in zip(ring, (*ring[1:], ring[0]), strict=True):
        if ax == bx:
            crossed = (ys > min(ay, by)) & (ys < max(ay, by))
            inside ^= crossed[:, None] & (xs < ax)[None, :]
    return inside


def _mask(room: Room, frame: Room) -> np.ndarray:
    points = np.array(frame.polygon)
    low = points.min(0)
    size = (points.max(0) - low) / CELL
    return _polygon(room, low, (int(size[1]) + 1, int(size[0]) + 1))


def _fill(raster: np.ndarray, ring: Corners, low: np.ndarray, value: bool) -> None:
    """Sets every cell whose middle is inside a convex outline."""
    a = np.floor((ring.min(0) - low) / CELL).astype(int).clip(0)
    b = np.ceil((ring.max(0) - low) / CELL).astype(int).clip(0)
    ys = low[1] + (np.arange(a[1], min(b[1], raster.shape[0])) + 0.5) * CELL
    xs = low[0] + (np.arange(a[0], min(b[0], raster.shape[1])) + 0.5) * CELL
    inside = np.ones((len(ys), len(xs)), bool)
    for p, q in zip(ring, np.roll(ring, -1, 0), strict=True):
        inside &= (q[0] - p[0]) * (ys[:, None] - p[1]) - (q[1] - p[1]) * (xs[None, :] - p[0]) >= 0
    view = raster[a[1] : a[1] + len(ys), a[0] : a[0] + len(xs)]
    view[inside] = value
