"""The description of a house, from which every world is written: physics, meshes, free space, viewpoints, words.

Frame: right-handed, z up, metres; the ground floor's surface is z = 0. Yaw is counter-clockwise about z, 0 along +x.
All numbers are multiples of 1 mm (places and sizes), 0.1 mm (parts) and 0.001 rad (angles), so that a description has
one spelling in JSON. Kinds of rooms and categories of items are words joined by underscores: `"living_room"`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, Literal

from ...vla.errors import DataError

Point = tuple[float, float]
Vector = tuple[float, float, float]
Shape = Literal["box", "cylinder", "ellipsoid"]


@dataclass(frozen=True)
class Material:
    """How a surface looks.

    Args:
        name: key in `House.materials`.
        colour: red, green, blue in 0 … 1 (sRGB), multiplied with the texture.
        texture: id of a procedural texture, or `""` for plain colour.
        scale: metres that one repeat of the texture covers.
        colour_name: the word people use for the colour, `""` where it has none.
    """

    name: str
    colour: Vector
    texture: str = ""
    scale: float = 1.0
    colour_name: str = ""


@dataclass(frozen=True)
class Room:
    """A room: what it is for and the floor it covers.

    Args:
        id: position in `House.rooms`.
        kind: `"kitchen"`, `"bedroom"`, `"hallway"`, …
        name: unique in the house, as people say it: `"kitchen"`, `"second bedroom"`.
        storey: 0 is the ground floor.
        polygon: inner face of its walls, counter-clockwise, axis aligned edges.
        floor, wall, ceiling: materials.
    """

    id: int
    kind: str
    name: str
    storey: int
    polygon: tuple[Point, ...]
    floor: str
    wall: str
    ceiling: str


@dataclass(frozen=True)
class Wall:
    """A straight, axis aligned wall with its openings cut out of it.

    Args:
        start, end: ends of its centre line.
        thickness: [m].
        bottom, top: heights above the world's origin.
        left, right: rooms on its sides looking from start to end; None outside.
        storey: 0 is the ground floor.
    """

    id: int
    start: Point
    end: Point
    thickness: float
    bottom: float
    top: float
    left: int | None
    right: int | None
    storey: int


@dataclass(frozen=True)
class Opening:
    """A hole in a wall: a door one walks through (`"door"`: with a frame; `"open"`: a wide passage) or a window.

    Args:
        wall: the wall it is in.
        start, end: ends on the wall's centre line, in the wall's direction.
        bottom, top: heights above the world's origin.
        rooms: on both sides (left, right of the wall); None outside.
        material: of the frame or of the pane.
    """

    id: int
    kind: Literal["door", "open", "window"]
    wall: int
    start: Point
    end: Point
    bottom: float
    top: float
    rooms: tuple[int | None, int | None]
    material: str


@dataclass(frozen=True)
class Part:
    """A solid of an item, in the item's frame: origin in the middle of its base, x to its right, y to its back, z up.

    The item faces its −y side (the side people use: the front of a sofa or of a cupboard).

    Args:
        shape: box; cylinder with a vertical axis; ellipsoid.
        centre: of the solid.
        half: half extents along x, y, z.
        yaw: about z, in the item's frame.
        material: key in `House.materials`.
    """

    shape: Shape
    centre: Vector
    half: Vector
    material: str
    yaw: float = 0.0


@dataclass(frozen=True)
class Item:
    """A piece of furniture or an object.

    Args:
        id: position in `House.items`.
        category: `"sofa"`, `"mug"`, …
        asset: id of the asset it was made from, e.g. `"sofa/3"`; assets are split between train, val and test.
        colour: the word for its main colour, `""` where it has none.
        room: where it is.
        position: middle of its base.
        yaw: its x axis against the world's.
        size: extents along its own x, y, z.
        support: the item it stands on; None on the floor or at a wall.
        parts: what it is made of.
        tags: affordances: `"receptacle"`, `"pickable"`, `"openable"`, `"toggleable"`, `"sittable"`, `"wall"`, …
    """

    id: int
    category: str
    asset: str
    colour: str
    room: int
    position: Vector
    yaw: float
    size: Vector
    support: int | None
    parts: tuple[Part, ...]
    tags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Stairs:
    """A straight flight from one storey to the next; the floor above it is open.

    Args:
        start, end: middle of the lowest and of the highest step's outer edge, in plan.
        width: [m].
        bottom, top: heights of both floors.
        steps: number of risers, each at most 0.19 m.
        rooms: the rooms it joins, below and above.
        material: of the steps.
    """

    id: int
    start: Point
    end: Point
    width: float
    bottom: float
    top: float
    steps: int
    rooms: tuple[int, int]
    material: str


@dataclass(frozen=True)
class Solid:
    """A primitive of the whole house in the world frame: what is drawn, collided with and segmented.

    Args:
        shape, centre, half, yaw, material: as in `Part`, in the world frame.
        instance: row in `House.instances`; what segmentation images show.
        role: `"floor"`, `"wall"`, `"ceiling"`, `"frame"`, `"pane"`, `"stairs"` or `"item"`.
    """

    shape: Shape
    centre: Vector
    half: Vector
    yaw: float
    material: str
    instance: int
    role: Literal["floor", "wall", "ceiling", "frame", "pane", "stairs", "item"]


@dataclass(frozen=True)
class Instance:
    """What one id of a segmentation image means. Row 0 is nothing (the void).

    Args:
        category: of the item, or `"floor"`, `"wall"`, `"ceiling"`, `"door"`, `"window"`, `"stairs"`.
        room: where it is; −1 outside and between rooms.
        item: row in `House.items`; −1 for the building itself.
    """

    category: str
    room: int
    item: int


@dataclass(frozen=True, eq=False)
class House:
    """A house. `scan` names it; equal descriptions have equal `digest`."""

    scan: str
    seed: int
    split: str
    storey_height: float
    rooms: tuple[Room, ...]
    walls: tuple[Wall, ...]
    openings: tuple[Opening, ...]
    items: tuple[Item, ...]
    stairs: tuple[Stairs, ...]
    materials: Mapping[str, Material]
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        """The one JSON text of this description."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"), ensure_ascii=False)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of `to_json`."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    @staticmethod
    def from_json(text: str) -> House:
        """Inverse of `to_json`; raises `DataError` for anything else."""
        try:
            data = _tuples(json.loads(text))
            return House(
                **{
                    **data,
                    "rooms": tuple(Room(**r) for r in data["rooms"]),
                    "walls": tuple(Wall(**w) for w in data["walls"]),
                    "openings": tuple(Opening(**o) for o in data["openings"]),
                    "items": tuple(Item(**{**i, "parts": tuple(Part(**p) for p in i["parts"])}) for i in data["items"]),
                    "stairs": tuple(Stairs(**s) for s in data["stairs"]),
                    "materials": {k: Material(**m) for k, m in data["materials"].items()},
                }
            )
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(
                "This is not the description of a house",
                expected="the JSON text that House.to_json writes",
                got=str(error),
                run="wayhand house show seed=7",
            ) from error

    def openings_of(self, room: int) -> tuple[Opening, ...]:
        """The doors and passages (no windows) of a room."""
        return tuple(o for o in self.openings if o.kind != "window" and room in o.rooms)


def _tuples(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_tuples(v) for v in value)
    if isinstance(value, dict):
        return {k: _tuples(v) for k, v in value.items()}
    return value
