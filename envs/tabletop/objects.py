"""Colours, shapes and their pairs; which pairs are held out of training."""

from __future__ import annotations

from dataclasses import dataclass

COLORS: dict[str, tuple[float, float, float]] = {
    "red": (0.90, 0.06, 0.06),
    "green": (0.05, 0.65, 0.12),
    "blue": (0.08, 0.20, 0.92),
    "yellow": (0.98, 0.86, 0.05),
    "purple": (0.52, 0.10, 0.72),
    "orange": (1.00, 0.46, 0.02),
}


@dataclass(frozen=True)
class Shape:
    """Geometry a task needs to know.

    Args:
        half_height: from the body's origin to the table it stands on [m]; the origin is at mid-height.
        grip_width: between the fingers when they hold it along y [m].
    """

    name: str
    half_height: float
    grip_width: float


SHAPES: dict[str, Shape] = {
    s.name: s
    for s in (
        Shape("cube", 0.020, 0.040),
        Shape("cylinder", 0.022, 0.040),
        Shape("cross", 0.018, 0.049),
        Shape("arch", 0.021, 0.046),
    )
}

Pair = tuple[str, str]
"""(colour, shape)."""

HELD_OUT: tuple[Pair, ...] = (
    ("red", "cross"),
    ("green", "cylinder"),
    ("blue", "arch"),
    ("yellow", "cube"),
    ("purple", "cylinder"),
)
"""Pairs that no training scene contains; every colour and every shape still occurs in training."""

TRAINING: tuple[Pair, ...] = tuple((c, s) for c in COLORS for s in SHAPES if (c, s) not in HELD_OUT)

DRAWER_PLACES = ("left", "middle", "right")
HELD_OUT_DRAWERS: tuple[Pair, ...] = (
    ("red", "left"),
    ("blue", "middle"),
    ("yellow", "right"),
    ("orange", "left"),
)
"""(colour, place) combinations of drawers that no training scene contains."""

BUTTON_PLACES = ("left", "middle", "right")
HELD_OUT_BUTTONS: tuple[Pair, ...] = (
    ("green", "left"),
    ("purple", "middle"),
    ("orange", "right"),
    ("blue", "right"),
)
"""(colour, place) combinations of buttons that no training scene contains."""


def object_name(pair: Pair) -> str:
    return f"{pair[0]} {pair[1]}"
