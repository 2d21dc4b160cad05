"""Headings and Habitat's rotations: quaternions [x y z w] in axes with y up, in which an agent looks along −z.

A heading is clockwise from our +y, which is Habitat's −z, so it is a rotation by −heading about Habitat's y.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from .fields import Fields

TURN = 2 * math.pi


def heading_of(rotation: Sequence[float]) -> float:
    """The heading in [0, 2π) of the horizontal part of where a rotation looks."""
    x, y, z, w = rotation
    if x == 0 and z == 0:
        heading = -2 * math.atan2(y, w)
    else:
        heading = math.atan2(-2 * (x * z + w * y), w * w + z * z - x * x - y * y)
    heading %= TURN
    return heading if heading < TURN else 0.0


def rotation_of(heading: float) -> list[float]:
    """The rotation of an upright agent; `heading_of` undoes it to 1e-12."""
    return [0, -math.sin(heading / 2), 0, math.cos(heading / 2)]


def heading_field(item: Fields, name: str) -> float:
    """The heading of a field that holds a rotation; raises `DataError` for one that is none."""
    rotation = item.numbers(name, 4)
    if not any(rotation):
        raise item.wrong(name, "a rotation [x, y, z, w], which is not all zeros")
    return heading_of(rotation)
