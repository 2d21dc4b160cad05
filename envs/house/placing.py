"""Rectangles, quarter turns and what has been placed: the small nouns of furnishing. Whole millimetres."""

from __future__ import annotations

from dataclasses import dataclass, field

from .blueprint import Asset, Surface

Box = tuple[int, int, int, int]


@dataclass
class Placed:
    """An asset in a room: the middle of its base, its quarter turn, and what carries it."""

    asset: Asset
    colour: str
    x: int
    y: int
    z: int
    turn: int
    box: Box
    support: Placed | None = None
    taken: list[tuple[Surface, Box]] = field(default_factory=list)


@dataclass(frozen=True)
class Gap:
    """A door, passage or window in one of the room's walls, along the wall [mm]."""

    side: int
    low: int
    high: int
    sill: int
    top: int


def overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def grown(box: Box, by: int) -> Box:
    return box[0] - by, box[1] - by, box[2] + by, box[3] + by


def turned(turn: int, x: int, y: int) -> tuple[int, int]:
    """A vector of a thing's frame in the room's, after `turn` quarter turns counter-clockwise."""
    return ((x, y), (-y, x), (-x, -y), (y, -x))[turn % 4]
