"""Whether one still gets through a room: a raster of its floor, eroded by a disc."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
from scipy import ndimage

from .placing import Box, grown

CELL, REACH = 50, 280
"""Side of a raster cell, and the radius of the disc that must get from door to door [mm]."""


def passable(room: Box, doorways: Sequence[Box], taken: Sequence[Box], ways: Sequence[Box]) -> bool:
    """Whether a disc gets between all doors and to most of the floor.

    Args:
        room: the floor [mm].
        doorways: where the disc comes close to a wall, for it goes through it.
        taken: what stands on the floor.
        ways: the free floor before the doors; their middles must be joined.
    """
    x0, y0, x1, y1 = room
    rows, columns = (y1 - y0) // CELL, (x1 - x0) // CELL
    free = np.zeros((rows, columns), np.uint8)
    edge = REACH // CELL
    free[edge : rows - edge, edge : columns - edge] = 1
    for a, b, c, d in doorways:
        free[max((b - y0) // CELL, 0) : -((y0 - d) // CELL), max((a - x0) // CELL, 0) : -((x0 - c) // CELL)] = 1
    for box in taken:
        a, b, c, d = grown(box, REACH)
        rows_taken = slice(max((b - y0) // CELL, 0), max((d - y0) // CELL + 1, 0))
        free[rows_taken, max((a - x0) // CELL, 0) : max((c - x0) // CELL + 1, 0)] = 0
    labels, found = cast("tuple[np.ndarray, int]", ndimage.label(free))
    seen: set[int] = set()
    for k in ways:
        row, column = ((k[1] + k[3]) // 2 - y0) // CELL, ((k[0] + k[2]) // 2 - x0) // CELL
        seen.add(int(labels[min(max(row, 0), rows - 1), min(max(column, 0), columns - 1)]))
    if not found or 0 in seen or len(seen) > 1:
        return False
    # What the doors lead to is most of the free floor, no pocket before them.
    counts = np.bincount(labels.ravel())[1:]
    return not seen or 4 * int(counts[next(iter(seen)) - 1]) > 3 * int(counts.sum())
