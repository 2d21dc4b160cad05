"""Which recipe furnishes which room."""

from __future__ import annotations

from collections.abc import Callable

from .recipes_common import finish, unseen
from .recipes_day import dining_room, kitchen, living_room
from .recipes_night import (
    bathroom,
    bedroom,
    gym,
    hallway,
    laundry_room,
    library,
    nursery,
    office,
    playroom,
    storage_room,
)
from .space import Space

RECIPES: dict[str, Callable[[Space], None]] = {
    "living_room": living_room,
    "dining_room": dining_room,
    "kitchen": kitchen,
    "bedroom": bedroom,
    "office": office,
    "library": library,
    "bathroom": bathroom,
    "laundry_room": laundry_room,
    "storage_room": storage_room,
    "gym": gym,
    "playroom": playroom,
    "nursery": nursery,
    "hallway": hallway,
}


def furnish(room: Space, *, held_out: bool = False) -> None:
    """Furnishes a room in place; what does not fit is left out.

    Args:
        room: empty, or with what is there already.
        held_out: whether it also gets things of categories that no training house has.
    """
    RECIPES[room.kind](room)
    if held_out:
        unseen(room)
    finish(room)
