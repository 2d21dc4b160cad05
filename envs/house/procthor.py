"""Houses of ProcTHOR (Deitke et al. 2022) as our description: `houses = load("train.jsonl.gz")`.

Their frame is Unity's, left-handed with y up; seen from above x is right and z is north, so (x, y, z) is our
(x, z, y), and a rotation about y, clockwise from +z to which things face, becomes the yaw π − rotation. Their walls
have no thickness: rooms are drawn in by half of ours. Objects come without shapes: those of categories we have are
built from our assets, stretched to the size that is given; all others are a box.
"""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from math import pi, radians
from pathlib import Path
from typing import Any

import shapely
from shapely import Polygon

from ...vla.errors import DataError
from .assets import KINDS, asset
from .blueprint import Asset
from .dice import Dice
from .generate import scan_id
from .house import House, Item, Opening, Part, Point, Room, Vector, Wall
from .palette import Palette

THICK, HEIGHT = 0.1, 2.6
"""Thickness of the walls and height of a room that says nothing about it [m]."""
ROOMS = {"Kitchen": "kitchen", "LivingRoom": "living_room", "Bedroom": "bedroom", "Bathroom": "bathroom"}
CATEGORIES = {
    "Bed": "double_bed",
    "Television": "tv",
    "TVStand": "tv_stand",
    "HousePlant": "plant",
    "Painting": "picture",
    "Shelf": "storage_shelf",
    "ShelvingUnit": "storage_shelf",
    "Sofa": "sofa",
    "DeskLamp": "table_lamp",
    "GarbageCan": "trash_can",
    "SideTable": "nightstand",
    "CounterTop": "kitchen_counter",
    "LaundryHamper": "laundry_basket",
    "BasketBall": "ball",
    "TeddyBear": "teddy_bear",
}
"""Their object types whose name is not simply ours in capitals."""
UNKNOWN: Vector = (0.4, 0.4, 0.4)
"""Size of an object of which nothing is known [m]."""


def load(path: Path | str) -> list[House]:
    """The houses of a file: one JSON object, a JSON list, or one object a line, gzipped or not.

    Raises:
        DataError: names the house and the field that is missing or wrong.
    """
    path = Path(path)
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8") as file:
        text = file.read()
    houses: list[House] = []
    for n, data in enumerate(_documents(text, path)):
        try:
            houses.append(_Reader(data, n).house())
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise DataError(
                f"House {n} of {path.name} is not a ProcTHOR house",
                expected="rooms with a floorPolygon, walls, doors, windows and objects",
                got=f"{type(error).__name__}: {error}",
            ) from error
    return houses


def _documents(text: str, path: Path) -> Iterator[Mapping[str, Any]]:
    try:
        whole = json.loads(text)
        yield from whole if isinstance(whole, list) else [whole]
        return
    except json.JSONDecodeError:
        pass
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            try:
                yield json.loads(line)
            except json.JSONDecodeError as error:
                raise DataError(f"{path.name}, line {number} is not JSON", got=str(error)) from error


class _Reader:
    def __init__(self, data: Mapping[str, Any], number: int) -> None:
        self.data, self.number = data, number
        self.key = f"procthor {json.dumps(data, sort_keys=True)}"
        self.palette = Palette(Dice(self.key), "train")
        self.outlines = [_closed(_ring(r["floorPolygon"])) for r in data["rooms"]]
        self.polygons = [Polygon(o) for o in self.outlines]
        # A wall's third corner is above its second.
        tops = [float(p["y"]) for w in data.get("walls", []) for p in w["polygon"]]
        self.height = max(tops, default=HEIGHT)
        self.walls: list[Wall] = []

    def house(self) -> House:
        rooms = tuple(self._rooms())
        self._raise()
        openings = tuple(self._openings())
        items: list[Item] = []
        for thing in self.data.get("objects", []):
            self._item(thing, None, items)
        return House(
            scan=scan_id(self.key),
            seed=self.number,
            split="procthor",
            storey_height=round(self.height + 0.2, 3),
            rooms=rooms,
            walls=tuple(self.walls),
            openings=openings,
            items=tuple(items),
            stairs=(),
            materials=self.palette.materials,
            provenance={"generator": "procthor", "index": self.number},
        )

    def _rooms(self) -> Iterator[Room]:
        seen: dict[str, int] = {}
        for i, r in enumerate(self.data["rooms"]):
            kind = ROOMS.get(r["roomType"]) or _snake(r["roomType"])
            number = seen[kind] = seen.get(kind, 0) + 1
            name = kind.replace("_", " ") + (f" {number}" if number > 1 else "")
            inner = self.polygons[i].buffer(-THICK / 2, join_style="mitre")
            inner = inner.simplify(0.001)
            if not isinstance(inner, Polygon) or inner.is_empty:
                raise ValueError(f"room {r.get('id', i)} is no polygon of straight walls")
            ring = shapely.geometry.polygon.orient(inner).exterior.coords[:-1]
            polygon = tuple((round(x, 3), round(y, 3)) for x, y in ring)
            wet = kind in ("kitchen", "bathroom")
            floor = self.palette.named("floor", "grey" if wet else "brown", "tiles" if wet else "planks", 1.4)
            wall = self.palette.named("wall", "white", "plaster", 1.5)
            yield Room(i, kind, name, 0, polygon, floor, wall, self.palette.fixed("ceiling"))

    # --- walls --------------------------------------------------------------------------------------------------

    def _raise(self) -> None:
        """Walls along the borders of the rooms, cut where the rooms on their sides change."""
        points = [p for outline in self.outlines for p in outline]
        edges = {(a, b) for o in self.outlines for a, b in zip(o, (*o[1:], o[0]), strict=True)}
        pieces: set[tuple[Point, Point]] = set()
        for a, b in edges:
            axis = 0 if a[1] == b[1] else 1
            if a[1 - axis] != b[1 - axis]:
                raise ValueError(f"a wall from {a} to {b} is not along an axis")
            low, high = sorted((a[axis], b[axis]))
            line = a[1 - axis]
            stops = sorted({p[axis] for p in points if p[1 - axis] == line and low <= p[axis] <= high})
            for s, e in zip(stops, stops[1:], strict=False):
                pieces.add(((s, line), (e, line)) if axis == 0 else ((line, s), (line, e)))
        merged: list[tuple[Point, Point, int | None, int | None]] = []
        for a, b in sorted(
            pieces, key=lambda p: (p[0][0] == p[1][0], p[0][1] if p[0][1] == p[1][1] else p[0][0], p[0])
        ):
            left, right = self._sides(a, b)
            before = merged[-1] if merged else None
            if before and before[1] == a and before[2:] == (left, right) and (before[0][0] == a[0]) == (a[0] == b[0]):
                merged[-1] = (before[0], b, left, right)
            else:
                merged.append((a, b, left, right))
        for a, b, left, right in merged:
            self.walls.append(Wall(len(self.walls), a, b, THICK, 0.0, self.height, left, right, 0))

    def _sides(self, a: Point, b: Point) -> tuple[int | None, int | None]:
        x, y = (a[0] + b[0]) / 2, (a[1] + b[1]) / 2
        dx, dy = (0.0, 0.02) if a[1] == b[1] else (-0.02, 0.0)
        return self._room_at(x + dx, y + dy), self._room_at(x - dx, y - dy)

    def _room_at(self, x: float, y: float) -> int | None:
        point = shapely.Point(x, y)
        return next((i for i, p in enumerate(self.polygons) if p.contains(point)), None)

    # --- openings -----------------------------------------------------------------------------------------------

    def _openings(self) -> Iterator[Opening]:
        lines = {w["id"]: _ring(w["polygon"][:2]) for w in self.data.get("walls", [])}
        number = 0
        for kind, holes in (("door", self.data.get("doors", [])), ("window", self.data.get("windows", []))):
            for hole in holes:
                (ax, ay), (bx, by) = lines[hole["wall0"]]
                length = ((bx - ax) ** 2 + (by - ay) ** 2) ** 0.5
                corners = hole.get("holePolygon") or [hole["boundingBox"]["min"], hole["boundingBox"]["max"]]
                xs, ys = sorted(float(c["x"]) for c in corners), sorted(float(c["y"]) for c in corners)
                ends = [(ax + (bx - ax) * v / length, ay + (by - ay) * v / length) for v in (xs[0], xs[-1])]
                yield self._cut(number, kind, ends, ys[0], ys[-1])
                number += 1
        for w in self.data.get("walls", []):
            # Between the rooms of an open plan stands a wall that is not there, one for each of the two rooms.
            if w.get("empty") and str(w.get("roomId", "")) == min(self._owners(w)):
                yield self._cut(number, "open", _ring(w["polygon"][:2]), 0.0, self.height)
                number += 1

    def _owners(self, wall: Mapping[str, Any]) -> list[str]:
        ends = sorted(_ring(wall["polygon"][:2]))
        same = (w for w in self.data["walls"] if w.get("empty") and sorted(_ring(w["polygon"][:2])) == ends)
        return [str(w.get("roomId", "")) for w in same]

    def _cut(self, number: int, kind: str, ends: Sequence[Point], bottom: float, top: float) -> Opening:
        low, high = sorted((round(x, 3), round(y, 3)) for x, y in ends)
        wall = next((w for w in self.walls if _within(w, low, high)), None)
        if wall is None:
            raise ValueError(f"{kind} {number} from {low} to {high} is in no wall")
        margin = THICK / 2 + 0.01 if kind == "open" else 0.0
        axis = 0 if wall.start[1] == wall.end[1] else 1
        line = wall.start[1 - axis]
        a, b = round(low[axis] + margin, 3), round(high[axis] - margin, 3)
        start, end = ((a, line), (b, line)) if axis == 0 else ((line, a), (line, b))
        sill = round(bottom, 3) if kind == "window" else 0.0
        material = self.palette.fixed("sky" if kind == "window" else "trim")
        shape = "window" if kind == "window" else "open" if kind == "open" else "door"
        return Opening(number, shape, wall.id, start, end, sill, round(top, 3), (wall.left, wall.right), material)

    # --- objects ------------------------------------------------------------------------------------------------

    def _item(self, thing: Mapping[str, Any], support: int | None, out: list[Item]) -> None:
        x, y = float(thing["position"]["x"]), float(thing["position"]["z"])
        room = self._room_at(x, y)
        if room is not None:
            kind = str(thing["id"]).split("|")[0]
            category = CATEGORIES.get(kind, _snake(kind))
            found = asset(category, 0) if category in KINDS else None
            middle = float(thing["position"]["y"])
            size = _size(thing, found, middle if support is None else None)
            bottom = max(0.0, round(middle - size[2] / 2, 3))
            yaw = pi - radians(float(thing.get("rotation", {}).get("y", 0.0)))
            colour = KINDS[category].colours[0] if category in KINDS else "grey"
            out.append(
                Item(
                    id=len(out),
                    category=category,
                    asset=str(thing.get("assetId", category)),
                    colour=colour,
                    room=room,
                    position=(round(x, 3), round(y, 3), bottom),
                    yaw=round((yaw + pi) % (2 * pi) - pi, 3),
                    size=size,
                    support=support,
                    parts=self._parts(found, size, category, colour),
                    tags=KINDS[category].tags if category in KINDS else (),
                )
            )
            support = len(out) - 1
        for child in thing.get("children", []):
            self._item(child, support, out)

    def _parts(self, found: Asset | None, size: Vector, category: str, colour: str) -> tuple[Part, ...]:
        if found is None:
            half = (size[0] / 2, size[1] / 2, size[2] / 2)
            return (Part("box", (0.0, 0.0, half[2]), half, self.palette.made_of("plaster", colour)),)
        main = self.palette.made_of(KINDS[category].main, colour)
        slots = self.palette.slots(main, dict.fromkeys(p.slot for p in found.pieces))
        k = [s * 1000 / n for s, n in zip(size, found.size, strict=True)]
        out: list[Part] = []
        for p in found.pieces:
            half = (p.size[0] * k[0] / 2000, p.size[1] * k[1] / 2000, p.size[2] * k[2] / 2000)
            at = (p.at[0] * k[0] / 1000, p.at[1] * k[1] / 1000, p.at[2] * k[2] / 1000 + half[2])
            centre = (round(at[0], 4), round(at[1], 4), round(at[2], 4))
            out.append(
                Part(p.shape, centre, (round(half[0], 4), round(half[1], 4), round(half[2], 4)), slots[p.slot], p.yaw)
            )
        return tuple(out)


def _size(thing: Mapping[str, Any], found: Asset | None, middle: float | None) -> Vector:
    """Extents x, y, z: as given, else our asset's; an unknown thing on the floor is twice as high as its middle."""
    given = thing.get("size") or thing.get("boundingBox", {}).get("size")
    if given:
        size = (float(given["x"]), float(given["z"]), float(given["y"]))
    elif found is not None:
        size = (found.size[0] / 1000, found.size[1] / 1000, found.size[2] / 1000)
    else:
        size = (*UNKNOWN[:2], 2 * middle if middle is not None and 0.02 < middle < 1.2 else UNKNOWN[2])
    return (round(max(size[0], 0.01), 3), round(max(size[1], 0.01), 3), round(max(size[2], 0.01), 3))


def _ring(points: Sequence[Mapping[str, Any]]) -> list[Point]:
    return [(round(float(p["x"]), 3), round(float(p["z"]), 3)) for p in points]


def _closed(ring: list[Point]) -> list[Point]:
    """Without repeated corners, counter-clockwise."""
    kept = [p for p, q in zip(ring, [*ring[1:], ring[0]], strict=True) if p != q]
    return [(x, y) for x, y in shapely.geometry.polygon.orient(Polygon(kept)).exterior.coords[:-1]]


def _within(wall: Wall, low: Point, high: Point) -> bool:
    (ax, ay), (bx, by) = wall.start, wall.end
    near = 0.02
    if ay == by:
        return abs(low[1] - ay) < near and abs(high[1] - ay) < near and ax - near <= low[0] and high[0] <= bx + near
    return abs(low[0] - ax) < near and abs(high[0] - ax) < near and ay - near <= low[1] and high[1] <= by + near


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()
