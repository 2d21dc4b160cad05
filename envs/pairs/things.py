"""What can stand on the table: colours, kinds, sizes, what each kind can be used for, and the combinations held out.

A scene is seen by a camera whose x axis is the table's lateral axis; left and right, front and back are the camera's.
"""

from __future__ import annotations

from dataclasses import dataclass

COLORS: dict[str, tuple[float, float, float]] = {
    "red": (0.88, 0.06, 0.06),
    "green": (0.05, 0.60, 0.12),
    "blue": (0.08, 0.20, 0.92),
    "yellow": (0.98, 0.88, 0.05),
    "purple": (0.52, 0.10, 0.72),
    "orange": (1.00, 0.46, 0.02),
    "white": (0.96, 0.96, 0.96),
    "black": (0.05, 0.05, 0.06),
}
SIZES: dict[str, float] = {"small": 1.15, "large": 1.85}
"""Size word → factor on a kind's lengths."""

OPENED, PRESSED, FILLED, PICKED = "opened", "pressed", "filled", "picked"
AFFORDANCES = (OPENED, PRESSED, FILLED, PICKED)
USES: dict[str, str] = {
    "cube": PICKED,
    "cylinder": PICKED,
    "ball": PICKED,
    "cross": PICKED,
    "arch": PICKED,
    "drawer": OPENED,
    "button": PRESSED,
    "bin": FILLED,
}
"""Kind → what can be done with it."""
KINDS = tuple(USES)

HELD_OUT: tuple[tuple[str, str], ...] = (
    ("red", "cross"),
    ("green", "cylinder"),
    ("blue", "arch"),
    ("yellow", "cube"),
    ("purple", "ball"),
    ("orange", "drawer"),
    ("white", "button"),
    ("black", "bin"),
)
"""(colour, kind) combinations that no training scene contains; every colour and every kind still occurs in training."""
SEEN = tuple((c, k) for c in COLORS for k in KINDS if (c, k) not in HELD_OUT)


@dataclass(frozen=True)
class Thing:
    """One thing on the table.

    Args:
        right, near: where it stands: to the right of the picture's middle, towards the camera [m].
        yaw: about the vertical [rad].
    """

    size: str
    color: str
    kind: str
    right: float
    near: float
    yaw: float

    @property
    def name(self) -> str:
        """E.g. `"red cube"`; no two things of a scene share it."""
        return f"{self.color} {self.kind}"

    @property
    def full_name(self) -> str:
        return f"{self.size} {self.color} {self.kind}"


@dataclass(frozen=True)
class View:
    """The camera, in the vertical plane through the table's middle, and the light.

    Args:
        near, height: of the camera's centre [m]; fovy: vertical field of view [deg].
        light: direction of the sun; brightness: factor on it; table: index of the table's look; tint: factors on it.
    """

    near: float
    height: float
    fovy: float
    light: tuple[float, float, float]
    brightness: float
    table: int
    tint: tuple[float, float, float]


@dataclass(frozen=True)
class PairScene:
    things: tuple[Thing, ...]
    view: View
