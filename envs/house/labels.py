"""What a view of a house shows, from its segmentation: exact labels for teaching a vision tower."""

from __future__ import annotations

import numpy as np

from .assets import KINDS
from .house import House
from .layout import NEEDS
from .palette import COLOURS
from .solids import instances

BUILDING = ("door", "window", "stairs")
LABELS: tuple[str, ...] = (
    *BUILDING,
    *sorted(KINDS),
    *(f"{colour} thing" for colour in sorted(COLOURS)),
    *(f"in {kind}" for kind in sorted(NEEDS)),
)
"""Label names: categories, colours of movable things, and the kinds of room whose surfaces are seen."""
THING_SHARE, ROOM_SHARE = 0.006, 0.15
"""How much of a third of the view a thing, and a room, must cover to count as visible."""


class ViewLabels:
    """Turns segmentation images of one house into labels."""

    def __init__(self, house: House) -> None:
        place = {name: i for i, name in enumerate(LABELS)}
        table = instances(house)
        nothing = len(LABELS)
        self._columns = np.full((len(table), 3), nothing, np.int64)
        for row, instance in enumerate(table):
            if instance.item >= 0:
                item = house.items[instance.item]
                self._columns[row, 0] = place[item.category]
                self._columns[row, 1] = place.get(f"{item.colour} thing", nothing)
            elif instance.category in BUILDING:
                self._columns[row, 0] = place[instance.category]
            if instance.room >= 0:
                self._columns[row, 2] = place.get(f"in {house.rooms[instance.room].kind}", nothing)
        room = np.array([name.startswith("in ") for name in LABELS])
        self._least = np.where(room, ROOM_SHARE, THING_SHARE)

    def visible(self, semantics: np.ndarray) -> np.ndarray:
        """bool [n 3 L]: which labels the left, middle and right third of segmentation images int32 [n h w] show."""
        n, h, w = semantics.shape
        third = np.minimum(np.arange(w) * 3 // w, 2)
        cell = np.arange(n)[:, None, None] * 3 + third
        size = len(LABELS) + 1
        counts = np.zeros(n * 3 * size, np.int64)
        for columns in self._columns.T:
            counts += np.bincount((cell * size + columns[semantics]).ravel(), minlength=len(counts))
        pixels = h * np.bincount(third, minlength=3)
        share = counts.reshape(n, 3, size)[..., :-1] / pixels[:, None]
        return share >= self._least
