"""What rooms a house has, and how large each kind wants to be."""

from __future__ import annotations

from dataclasses import dataclass

from .dice import Dice


@dataclass(frozen=True)
class Need:
    """How large a room wants to be.

    Args:
        area: least and largest area that is aimed at [m²].
        side: least clear width [mm].
        weight: how often a house that may have one more room gets this kind.
        most: how many of the kind a house has at most.
    """

    area: tuple[float, float]
    side: int
    weight: float = 0.0
    most: int = 1


NEEDS: dict[str, Need] = {
    "living_room": Need((16.0, 27.0), 3400),
    "kitchen": Need((8.5, 13.5), 2350),
    "dining_room": Need((9.5, 14.0), 2800, 1.3),
    "bedroom": Need((10.0, 15.5), 2800, 3.0, 4),
    "bathroom": Need((4.4, 6.8), 1750, 1.3, 3),
    "office": Need((8.0, 12.0), 2400, 1.1),
    "laundry_room": Need((4.2, 6.5), 1750, 0.7),
    "library": Need((9.0, 13.0), 2700, 0.5),
    "gym": Need((10.0, 15.0), 2900, 0.5),
    "playroom": Need((9.0, 13.0), 2700, 0.5),
    "nursery": Need((8.5, 11.5), 2600, 0.5),
    "storage_room": Need((3.2, 5.0), 1600, 0.4),
    "hallway": Need((0.0, 0.0), 1200),
}
PUBLIC = ("living_room", "dining_room", "kitchen")
"""The rooms of the day: they open into each other, the others off a hallway."""

SMALL: dict[int, list[tuple[str, ...]]] = {
    2: [
        ("living_room", "bedroom"),
        ("living_room", "kitchen"),
        ("bedroom", "bathroom"),
        ("living_room", "bathroom"),
        ("kitchen", "dining_room"),
        ("living_room", "office"),
    ],
    3: [
        ("living_room", "kitchen", "bedroom"),
        ("living_room", "bedroom", "bathroom"),
        ("living_room", "kitchen", "bathroom"),
        ("living_room", "kitchen", "dining_room"),
        ("living_room", "bedroom", "office"),
    ],
    4: [
        ("living_room", "kitchen", "bedroom", "bathroom"),
        ("living_room", "kitchen", "bedroom", "bathroom"),
        ("living_room", "bedroom", "bathroom", "office"),
        ("living_room", "kitchen", "dining_room", "bedroom"),
        ("living_room", "kitchen", "bedroom", "bedroom"),
    ],
}
"""Kinds of houses that need no hallway."""


def small(dice: Dice, n: int) -> tuple[str, ...]:
    """The rooms of a house of 2 to 4 rooms without a hallway."""
    return dice.pick(SMALL[n])


def large(dice: Dice, n: int) -> list[str]:
    """The rooms of a house of at least 4 rooms besides its hallways, living room first."""
    kinds = ["living_room", "kitchen", "bedroom", "bathroom"][:n]
    while len(kinds) < n:
        options = [k for k, need in NEEDS.items() if need.weight and kinds.count(k) < need.most]
        kinds.append(dice.weighted(options, [NEEDS[k].weight for k in options]))
    return kinds
