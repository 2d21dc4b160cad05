"""Colours by name, and what things are made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .blueprint import POOLS
from .dice import Dice
from .house import Material, Vector

COLOURS: dict[str, tuple[Vector, ...]] = {
    "red": ((0.72, 0.16, 0.15), (0.62, 0.13, 0.16), (0.80, 0.25, 0.20)),
    "orange": ((0.88, 0.48, 0.15), (0.82, 0.41, 0.18)),
    "yellow": ((0.92, 0.77, 0.25), (0.88, 0.72, 0.32)),
    "green": ((0.29, 0.50, 0.27), (0.40, 0.55, 0.34), (0.20, 0.40, 0.27)),
    "teal": ((0.16, 0.50, 0.51), (0.22, 0.57, 0.55)),
    "blue": ((0.18, 0.33, 0.62), (0.30, 0.46, 0.70), (0.14, 0.24, 0.46)),
    "purple": ((0.45, 0.27, 0.55), (0.53, 0.35, 0.62)),
    "pink": ((0.88, 0.56, 0.64), (0.83, 0.47, 0.58)),
    "brown": ((0.46, 0.30, 0.19), (0.55, 0.38, 0.24), (0.36, 0.23, 0.15)),
    "beige": ((0.83, 0.74, 0.60), (0.79, 0.69, 0.54)),
    "white": ((0.94, 0.93, 0.91), (0.92, 0.92, 0.92)),
    "grey": ((0.55, 0.56, 0.58), (0.45, 0.46, 0.49), (0.65, 0.65, 0.66)),
    "black": ((0.13, 0.13, 0.14), (0.17, 0.16, 0.16)),
}
"""sRGB of every colour people name, in a few shades."""


@dataclass(frozen=True)
class Family:
    """What something is made of: a texture family (`""`: none) and the metres one repeat covers."""

    texture: str
    scale: float = 0.5


FAMILIES: dict[str, Family] = {
    "fabric": Family("fabric", 0.4),
    "leather": Family("leather", 0.5),
    "carpet": Family("carpet", 0.5),
    "wicker": Family("wicker", 0.25),
    "wood": Family("wood", 0.9),
    "plaster": Family("plaster", 1.0),
    "metal": Family("metal", 0.3),
    "ceramic": Family(""),
    "enamel": Family(""),
    "shade": Family(""),
    "bottle": Family(""),
    "dark": Family(""),
}

FIXED: dict[str, tuple[Vector, str]] = {
    "metal": ((0.68, 0.69, 0.71), "metal"),
    "dark": ((0.12, 0.12, 0.13), ""),
    "screen": ((0.09, 0.11, 0.15), ""),
    "linen": ((0.93, 0.92, 0.89), "fabric"),
    "ceramic": ((0.95, 0.95, 0.94), ""),
    "water": ((0.62, 0.78, 0.84), ""),
    "glass": ((0.76, 0.85, 0.88), ""),
    "mirror": ((0.72, 0.80, 0.84), ""),
    "paper": ((0.94, 0.92, 0.86), ""),
    "soil": ((0.25, 0.18, 0.13), ""),
    "bark": ((0.40, 0.29, 0.19), ""),
    "leaf": ((0.21, 0.43, 0.20), "leaf"),
    "leaf_light": ((0.36, 0.56, 0.26), "leaf"),
    "coffee": ((0.27, 0.16, 0.10), ""),
    "flame": ((1.0, 0.80, 0.35), ""),
    "flower": ((0.90, 0.52, 0.60), ""),
    "sand": ((0.85, 0.77, 0.58), ""),
    "tank": ((0.40, 0.68, 0.78), ""),
    "bottle": ((0.18, 0.33, 0.20), ""),
    "book_red": ((0.60, 0.20, 0.18), ""),
    "book_blue": ((0.22, 0.32, 0.52), ""),
    "book_green": ((0.26, 0.42, 0.30), ""),
    "fruit_red": ((0.78, 0.16, 0.13), ""),
    "fruit_yellow": ((0.95, 0.80, 0.20), ""),
    "fruit_green": ((0.52, 0.70, 0.22), ""),
    "fruit_orange": ((0.95, 0.55, 0.12), ""),
    "leather": ((0.42, 0.27, 0.18), "leather"),
    "sky": ((0.75, 0.86, 0.95), ""),
    "trim": ((0.93, 0.92, 0.89), ""),
    "ceiling": ((0.95, 0.95, 0.94), "plaster"),
}
"""Slots that look the same wherever they occur: colour and texture family."""


class Palette:
    """The materials of one house, made as they are asked for.

    Args:
        dice: draws textures and shades.
        pool: whose textures are used: train, val or test.
    """

    def __init__(self, dice: Dice, pool: str) -> None:
        self._dice, self._numbers = dice, POOLS[pool]
        self.materials: dict[str, Material] = {}
        self.timber = (dice.pick(("brown", "brown", "beige")), dice.pick(("white", "brown", "black", "beige")))
        self.counter = self.named("stone", dice.pick(("white", "grey", "black", "beige")), "marble", 1.2)
        self.accents = tuple(dice.shuffled([c for c in COLOURS if c not in ("black", "brown")])[:4])

    def texture(self, family: str) -> str:
        """A texture id of the family, from this house's pool."""
        return f"{family}/{self._numbers[self._dice.below(len(self._numbers))]}" if family else ""

    def named(self, what: str, colour: str, texture: str, scale: float, *, pale: float = 0.0) -> str:
        """The name of a new or equal material of a named colour, mixed with `pale` parts of white in one."""
        shades = COLOURS[colour]
        shade, found = self._dice.below(len(shades)), self.texture(texture)
        name = f"{what} {colour} {shade} {found}".strip()
        r, g, b = (round(v + (0.95 - v) * pale, 3) for v in shades[shade])
        self.materials.setdefault(name, Material(name, (r, g, b), found, scale if found else 1.0, colour))
        return name

    def fixed(self, slot: str) -> str:
        """The material of a slot that always looks the same."""
        if slot not in self.materials:
            colour, family = FIXED[slot]
            self.materials[slot] = Material(slot, colour, self.texture(family), 0.5 if family else 1.0)
        return slot

    def made_of(self, family: str, colour: str) -> str:
        """Something of a family in a named colour."""
        kind = FAMILIES[family]
        return self.named(family, colour, kind.texture, kind.scale)

    def slots(self, main: str, wanted: Mapping[str, None]) -> dict[str, str]:
        """A material for every slot of an item whose main material is `main`."""
        out: dict[str, str] = {}
        for slot in wanted:
            if slot == "main":
                out[slot] = main
            elif slot == "second":
                out[slot] = self._lighter(main)
            elif slot == "wood":
                out[slot] = self.made_of("wood", self._dice.pick(self.timber))
            elif slot == "counter":
                out[slot] = self.counter
            elif slot == "accent":
                colours = [c for c in self.accents if c != self.materials[main].colour_name]
                out[slot] = self.made_of("fabric", self._dice.pick(colours))
            elif slot.startswith("art_"):
                out[slot] = self.made_of("ceramic", self._dice.pick(tuple(COLOURS)))
            else:
                out[slot] = self.fixed(slot)
        return out

    def _lighter(self, name: str) -> str:
        """The material of doors and drawers: a shade of what they are set in, so that they can be seen."""
        base = self.materials[name]
        if f"{name} front" not in self.materials:
            r, g, b = (round(min(1.0, v * 1.12 + 0.02) if sum(base.colour) < 2.3 else v * 0.93, 3) for v in base.colour)
            self.materials[f"{name} front"] = Material(
                f"{name} front", (r, g, b), base.texture, base.scale, base.colour_name
            )
        return f"{name} front"
