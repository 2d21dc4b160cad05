"""Lamps, plants, rugs, pictures and the small things that make a home."""

from __future__ import annotations

from .assets_kitchen import VIVID
from .assets_living import CLOTH, TIMBER
from .blueprint import Builder, Kind
from .dice import Dice


def plant(b: Builder, d: Dice) -> None:
    r, h, tall = d.whole(120, 190), d.whole(220, 380), d.whole(550, 1150)
    b.rod(0, 0, 0, r, h, "main")
    b.rod(0, 0, h, r - 20, 10, "soil")
    b.rod(0, 0, h, 18, tall - 250, "bark")
    crown, style = d.whole(330, 520), d.below(3)
    if style == 0:
        b.ball(0, 0, h + tall - 420, crown, crown, 460, "leaf")
        b.ball(60, 40, h + tall - 250, crown * 2 // 3, crown * 2 // 3, 300, "leaf_light")
    elif style == 1:
        for i, (x, y) in enumerate(((-1, -1), (1, -1), (1, 1), (-1, 1), (0, 0))):
            b.ball(x * crown // 4, y * crown // 4, h + 60 + i * tall // 9, crown // 2, crown // 2, 300, "leaf")
    else:
        for i in range(3):
            size = crown - i * crown // 5
            b.ball(0, 0, h + 40 + i * (tall - 250) // 3, size, size, 280, ("leaf", "leaf_light", "leaf")[i])


def floor_lamp(b: Builder, d: Dice) -> None:
    h = d.whole(1450, 1700)
    b.rod(0, 0, 0, d.whole(130, 160), 30, "metal")
    b.rod(0, 0, 30, 14, h - 300, "metal")
    r = d.whole(150, 220)
    if d.chance(0.6):
        b.rod(0, 0, h - 290, r, 280, "main")
    else:
        b.ball(0, 0, h - 320, 2 * r, 2 * r, 320, "main")


def table_lamp(b: Builder, d: Dice) -> None:
    r = d.whole(100, 140)
    if d.chance(0.5):
        b.rod(0, 0, 0, 70, 20, "accent")
        b.rod(0, 0, 20, 12, 200, "metal")
    else:
        b.ball(0, 0, 0, 150, 150, 200, "accent")
        b.rod(0, 0, 190, 12, 40, "metal")
    b.rod(0, 0, 210, r, d.whole(150, 210), "main")


def ceiling_lamp(b: Builder, d: Dice) -> None:
    drop, r = d.whole(250, 450), d.whole(150, 240)
    b.rod(0, 0, drop, 50, 30, "metal")
    b.rod(0, 0, 120, 8, drop - 120, "metal")
    if d.chance(0.5):
        b.ball(0, 0, -80, 2 * r, 2 * r, 260, "main")
    else:
        b.rod(0, 0, -40, r, 180, "main")


def rug(b: Builder, d: Dice) -> None:
    w, depth = d.whole(1600, 2400, 50), d.whole(1200, 1700, 50)
    style = d.below(4)
    if style == 3:
        b.rod(0, 0, 0, depth // 2, 10, "main")
        b.rod(0, 0, 10, depth // 2 - 120, 2, "accent")
        b.rod(0, 0, 12, depth // 2 - 220, 1, "main")
        return
    b.box(0, 0, 0, w, depth, 10, "main")
    if style >= 1:
        b.box(0, 0, 10, w - 160, depth - 160, 2, "accent")
        b.box(0, 0, 12, w - 260, depth - 260, 1, "main")
    if style == 2:
        for x in (-w // 4, 0, w // 4):
            b.box(x, 0, 13, depth // 6, depth // 6, 1, "accent", 0.785)


def runner(b: Builder, d: Dice) -> None:
    w, depth = d.whole(1800, 2400, 50), d.whole(600, 700, 50)
    b.box(0, 0, 0, w, depth, 10, "main")
    for y in (-depth // 2 + 70, depth // 2 - 70):
        b.box(0, y, 10, w, 40, 2, "accent")


def picture(b: Builder, d: Dice) -> None:
    w, h = d.whole(450, 1000, 10), d.whole(400, 750, 10)
    b.box(0, 0, 0, w, 30, h, "main")
    b.box(0, -12, 30, w - 60, 16, h - 60, "paper")
    style = d.below(3)
    if style == 0:
        b.box(0, -15, 60, w - 120, 14, (h - 120) // 2, "art_b")
        b.box(0, -15, 60 + (h - 120) // 2, w - 120, 14, (h - 120) // 2, "art_a")
        b.ball(w // 6, -18, h // 2 - 20, h // 4, 16, h // 4, "art_c")
    elif style == 1:
        for i, slot in enumerate(("art_a", "art_b", "art_c")):
            b.box(-(w - 120) // 3 + i * (w - 120) // 3, -15, 70, (w - 140) // 3, 14, h - 140, slot)
    else:
        b.box(0, -15, 60, w - 120, 14, h - 120, "art_a")
        b.ball(-w // 8, -18, h // 4, h // 2, 14, h // 2, "art_b")
        b.ball(w // 6, -20, h // 3, h // 4, 14, h // 4, "art_c")


def mirror(b: Builder, d: Dice) -> None:
    w, h = d.whole(450, 800, 10), d.whole(650, 950, 10)
    b.box(0, 0, 0, w, 30, h, "main")
    b.box(0, -14, 30, w - 60, 12, h - 60, "mirror")


def clock(b: Builder, d: Dice) -> None:
    r = d.whole(130, 190)
    b.ball(0, 0, 0, 2 * r, 50, 2 * r, "main")
    b.ball(0, -8, 22, 2 * r - 44, 50, 2 * r - 44, "paper")
    b.box(0, -34, r, 10, 8, r * 6 // 10, "dark")
    b.box(r // 4, -34, r, r // 2, 8, 10, "dark")


def curtain(b: Builder, d: Dice) -> None:
    h, folds = d.whole(2050, 2300, 10), d.whole(3, 6)
    b.box(0, 0, h, 360, 30, 24, "metal")
    r = 170 // folds
    for i in range(folds):
        b.rod(-175 + r + i * 350 // folds, 0, 0, r, h, "main")


def vase(b: Builder, d: Dice) -> None:
    h, r = d.whole(180, 280), d.whole(55, 80)
    b.ball(0, 0, 0, 2 * r, 2 * r, h)
    b.rod(0, 0, h - 50, r // 2, 70)
    if d.chance(0.7):
        for x, y, slot in ((-40, 0, "flower"), (40, 20, "accent"), (0, -30, "flower")):
            b.rod(x // 2, y // 2, h, 4, 130, "leaf")
            b.ball(x, y, h + 110, 80, 80, 70, slot)


def book(b: Builder, d: Dice) -> None:
    w, depth, h = d.whole(150, 200), d.whole(210, 270), d.whole(24, 50)
    b.box(0, 0, 0, w, depth, 6)
    b.box(4, 0, 6, w - 12, depth - 10, h - 12, "paper")
    b.box(0, 0, h - 6, w, depth, 6)
    b.box(-w // 2 + 3, 0, 0, 6, depth, h)


def laptop(b: Builder, d: Dice) -> None:
    w = d.whole(310, 360)
    b.box(0, 0, 0, w, 230, 18)
    b.box(0, 10, 18, w - 50, 130, 2, "dark")
    b.box(0, 118, 14, w, 12, 210)
    b.box(0, 110, 26, w - 24, 6, 186, "screen")


def monitor(b: Builder, d: Dice) -> None:
    w = d.whole(480, 620)
    b.box(0, 20, 0, 220, 170, 14)
    b.box(0, 40, 14, 50, 30, 130)
    b.box(0, 10, 120, w, 40, w * 9 // 16)
    b.box(0, -12, 134, w - 26, 6, w * 9 // 16 - 28, "screen")
    b.box(0, -170, 0, 420, 140, 22, "dark")


def candle(b: Builder, d: Dice) -> None:
    h = d.whole(80, 180)
    b.rod(0, 0, 0, 50, 12, "metal")
    b.rod(0, 0, 12, 34, h)
    b.ball(0, 0, h + 8, 14, 14, 36, "flame")


LAMP = ("white", "beige", "yellow", "red", "blue", "green", "orange")
KINDS: dict[str, Kind] = {
    "plant": Kind(plant, "ceramic", (*VIVID, "brown"), ()),
    "floor_lamp": Kind(floor_lamp, "shade", LAMP, ("toggleable",)),
    "table_lamp": Kind(table_lamp, "shade", LAMP, ("toggleable", "pickable")),
    "ceiling_lamp": Kind(ceiling_lamp, "shade", LAMP, ("ceiling", "toggleable")),
    "rug": Kind(rug, "carpet", CLOTH, ("floor",)),
    "runner": Kind(runner, "carpet", CLOTH, ("floor",)),
    "picture": Kind(picture, "wood", (*TIMBER, "red", "blue"), ("wall",)),
    "mirror": Kind(mirror, "wood", TIMBER, ("wall",)),
    "clock": Kind(clock, "enamel", VIVID, ("wall",)),
    "curtain": Kind(curtain, "fabric", CLOTH, ("wall",), rigid=True),
    "vase": Kind(vase, "ceramic", VIVID, ("pickable",)),
    "book": Kind(book, "leather", VIVID, ("pickable",)),
    "laptop": Kind(
        laptop, "enamel", ("grey", "black", "white", "blue", "pink"), ("pickable", "openable", "toggleable")
    ),
    "monitor": Kind(monitor, "dark", ("black",), ("toggleable",)),
    "candle": Kind(candle, "ceramic", VIVID, ("pickable", "toggleable")),
}
