"""How an asset is described: solids with material slots, in whole millimetres, and the surfaces things stand on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .dice import Dice
from .house import Shape

ASSETS = 10
"""Assets of each category."""
POOLS: dict[str, range] = {"train": range(6), "val": range(6, 8), "test": range(8, 10)}
"""Which numbers of every category, and of every texture family, belong to which split."""


@dataclass(frozen=True)
class Piece:
    """A solid: middle of its base (x, y, z) and full sizes [mm], with the slot that its material fills."""

    shape: Shape
    at: tuple[int, int, int]
    size: tuple[int, int, int]
    slot: str
    yaw: float = 0.0


@dataclass(frozen=True)
class Surface:
    """Where smaller things stand: height and rectangle in the item's frame [mm], and the clear height above it."""

    z: int
    x0: int
    y0: int
    x1: int
    y1: int
    clear: int = 1000


class Builder:
    """Collects the pieces of one asset. x to its right, y to its back, z up; it faces −y."""

    def __init__(self) -> None:
        self.pieces: list[Piece] = []
        self.surfaces: list[Surface] = []

    def box(self, x: int, y: int, z: int, w: int, d: int, h: int, slot: str = "main", yaw: float = 0.0) -> None:
        """A box on z, its middle at (x, y)."""
        self.pieces.append(Piece("box", (x, y, z), (w, d, h), slot, yaw))

    def rod(self, x: int, y: int, z: int, r: int, h: int, slot: str = "main") -> None:
        """An upright cylinder of radius r on z."""
        self.pieces.append(Piece("cylinder", (x, y, z), (2 * r, 2 * r, h), slot))

    def ball(self, x: int, y: int, z: int, w: int, d: int, h: int, slot: str = "main") -> None:
        """An ellipsoid whose lowest point is at z."""
        self.pieces.append(Piece("ellipsoid", (x, y, z), (w, d, h), slot))

    def legs(self, w: int, d: int, h: int, slot: str = "wood", *, thick: int = 50, round_: bool = False) -> None:
        """Four legs in the corners of a w × d rectangle."""
        for x in (-(w - thick) // 2, (w - thick) // 2):
            for y in (-(d - thick) // 2, (d - thick) // 2):
                if round_:
                    self.rod(x, y, 0, thick // 2, h, slot)
                else:
                    self.box(x, y, 0, thick, thick, h, slot)

    def top(self, z: int, w: int, d: int, *, x: int = 0, y: int = 0, clear: int = 1000) -> None:
        """Declares a surface of w × d around (x, y)."""
        self.surfaces.append(Surface(z, x - w // 2, y - d // 2, x + w // 2, y + d // 2, clear))


@dataclass(frozen=True)
class Kind:
    """A category of things.

    Args:
        build: adds the pieces of one asset to a builder.
        main: what its main slot is made of, a family in `palette.FAMILIES`.
        colours: names its main slot may have.
        tags: affordances.
        held_out: never seen in training houses.
        rigid: sizes are given by what it is built into; other assets also differ in their proportions.
    """

    build: Callable[[Builder, Dice], None]
    main: str
    colours: tuple[str, ...]
    tags: tuple[str, ...] = ()
    held_out: bool = False
    rigid: bool = False


@dataclass(frozen=True)
class Asset:
    """One shape of a category: `"sofa/3"`."""

    category: str
    number: int
    pieces: tuple[Piece, ...]
    surfaces: tuple[Surface, ...]
    size: tuple[int, int, int]

    @property
    def id(self) -> str:
        return f"{self.category}/{self.number}"


def build(category: str, number: int, kind: Kind) -> Asset:
    """The asset of that number; its base is centred, whatever its builder did."""
    builder, dice = Builder(), Dice(f"asset {category} {number}")
    kind.build(builder, dice)
    sx, sy, sz = (
        (1000, 1000, 1000) if kind.rigid else (dice.whole(930, 1070), dice.whole(930, 1070), dice.whole(940, 1060))
    )
    if any(p.yaw for p in builder.pieces):
        sy = sx
    low = [min(p.at[a] - (p.size[a] // 2 if a < 2 else 0) for p in builder.pieces) for a in range(3)]
    high = [max(p.at[a] + (p.size[a] // 2 if a < 2 else p.size[a]) for p in builder.pieces) for a in range(3)]
    dx, dy, dz = -(low[0] + high[0]) // 2, -(low[1] + high[1]) // 2, -low[2]
    pieces: list[Piece] = []
    for p in builder.pieces:
        z0, z1 = (p.at[2] + dz) * sz // 1000, (p.at[2] + dz + p.size[2]) * sz // 1000
        at = ((p.at[0] + dx) * sx // 1000, (p.at[1] + dy) * sy // 1000, z0)
        size = (max(p.size[0] * sx // 1000, 1), max(p.size[1] * sy // 1000, 1), max(z1 - z0, 1))
        pieces.append(Piece(p.shape, at, size, p.slot, p.yaw))
    surfaces = tuple(
        Surface(
            (s.z + dz) * sz // 1000,
            (s.x0 + dx) * sx // 1000,
            (s.y0 + dy) * sy // 1000,
            (s.x1 + dx) * sx // 1000,
            (s.y1 + dy) * sy // 1000,
            s.clear * sz // 1000,
        )
        for s in builder.surfaces
    )
    size = ((high[0] - low[0]) * sx // 1000 + 2, (high[1] - low[1]) * sy // 1000 + 2, (high[2] - low[2]) * sz // 1000)
    return Asset(category, number, tuple(pieces), surfaces, size)
