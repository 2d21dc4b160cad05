"""What stands in kitchens, and what stands on tables everywhere."""

from __future__ import annotations

from .blueprint import Builder, Kind
from .dice import Dice

FRONTS = ("white", "grey", "brown", "blue", "green", "black", "beige", "red")
VIVID = ("red", "blue", "green", "yellow", "orange", "purple", "pink", "white", "black", "teal")
DEPTH, TOP = 600, 900
"""Depth and height of a row of kitchen units [mm]."""


def _unit(b: Builder, d: Dice, w: int, doors: int) -> None:
    style, wide, drawer = d.below(3), d.whole(90, 220, 10), d.whole(140, 230, 10)
    b.box(0, 20, 0, w, DEPTH - 60, 90, "dark")
    b.box(0, 0, 90, w, DEPTH - 20, TOP - 130, "main")
    for i in range(doors):
        x = -w // 2 + (2 * i + 1) * w // (2 * doors)
        front, each = -(DEPTH - 20) // 2 - 5, w // doors - 10
        b.box(x, front, 100, each, 12, 740 - drawer, "second")
        b.box(x, front, 850 - drawer, each, 12, drawer - 10, "second")
        for z in (800 - drawer, 840 - drawer // 2):
            if style == 2:
                b.ball(x, front - 14, z, 28, 24, 28, "metal")
            else:
                b.box(x, front - 15, z, wide, 16, 14, "metal" if style else "dark")


def kitchen_counter(b: Builder, d: Dice) -> None:
    w = d.pick((600, 800))
    _unit(b, d, w, 1 if w == 600 else 2)
    b.box(0, 0, TOP - 40, w, DEPTH, 40, "counter")
    b.top(TOP, w - 60, DEPTH - 160, y=40)


def kitchen_sink(b: Builder, d: Dice) -> None:
    _unit(b, d, 800, 2)
    b.box(0, -255, TOP - 40, 800, 90, 40, "counter")
    b.box(0, 255, TOP - 40, 800, 90, 40, "counter")
    for x in (-350, 350):
        b.box(x, 0, TOP - 40, 100, 420, 40, "counter")
    b.box(0, 0, TOP - 60, 600, 420, 30, "metal")
    b.box(0, 255, TOP, 40, 40, d.whole(220, 300), "metal")
    b.box(0, 170, TOP + 220, 30, 190, 26, "metal")


def stove(b: Builder, d: Dice) -> None:
    b.box(0, 0, 0, 600, 600, TOP - 20)
    oven = d.whole(420, 490, 10)
    b.box(0, -304, 130, 560, 12, oven, "dark")
    b.box(0, -318, oven + 160, d.whole(300, 500, 10), 20, 20, "metal")
    b.box(0, -304, 700, 580, 12, 130, "second")
    for x in (-210, -70, 70, 210):
        b.ball(x, -322, 740, 46, 40, 46, "dark")
    b.box(0, 0, TOP - 20, 600, 600, 20, "dark")
    for x in (-150, 150):
        for y in (-140, 140):
            b.rod(x, y, TOP, d.whole(70, 100), 8, "metal")


def fridge(b: Builder, d: Dice) -> None:
    w, h, split = d.whole(600, 720, 20), d.whole(1700, 1950, 10), d.whole(500, 700)
    b.box(0, 0, 30, w, 620, h - 30)
    for z, high in ((40, split - 20), (split + 30, h - split - 45)):
        b.box(0, -316, z, w - 8, 24, high, "second")
        b.box(-w // 2 + 60, -342, z + 60 if z > 50 else high - 260, 26, 30, 240, "metal")
    b.top(h, w - 100, 460, clear=300)


def dishwasher(b: Builder, d: Dice) -> None:
    b.box(0, 0, 0, 600, 580, TOP - 40)
    b.box(0, -294, 110, 590, 12, 620, "second")
    b.box(0, -308, d.whole(660, 715, 5), d.whole(200, 500, 10), 18, 22, "metal")
    b.box(0, -294, 750, 590, 12, 100, "dark")
    b.box(0, 0, TOP - 40, 600, DEPTH, 40, "counter")
    b.top(TOP, 540, DEPTH - 160, y=40)


def wall_cabinet(b: Builder, d: Dice) -> None:
    w, h, wide = 800, d.whole(600, 700, 10), d.whole(60, 200, 10)
    b.box(0, 0, 0, w, 330, h)
    for x in (-w // 4, w // 4):
        b.box(x, -170, 10, w // 2 - 12, 12, h - 20, "second")
        b.box(x, -184, 50, wide, 14, 14, "metal")


def microwave(b: Builder, d: Dice) -> None:
    b.box(0, 0, 0, 480, 340, 280)
    b.box(-60, -174, 30, 330, 10, 220, "screen")
    b.box(180, -174, 30, 90, 10, 220, "dark")


def toaster(b: Builder, d: Dice) -> None:
    b.box(0, 0, 10, 280, 170, 180)
    b.box(0, -35, 186, 220, 26, 10, "dark")
    b.box(0, 35, 186, 220, 26, 10, "dark")
    b.box(146, 0, 110, 20, 40, 24, "dark")


def kettle(b: Builder, d: Dice) -> None:
    b.rod(0, 0, 0, 85, 30, "dark")
    b.rod(0, 0, 30, 75, 170)
    b.ball(0, 0, 170, 140, 140, 70)
    b.box(95, 0, 80, 24, 24, 140, "dark")
    b.box(80, 0, 200, 50, 24, 20, "dark")


def mug(b: Builder, d: Dice) -> None:
    r, h = d.whole(38, 48), d.whole(85, 115)
    b.rod(0, 0, 0, r, h)
    b.rod(0, 0, h - 4, r - 6, 5, "coffee")
    b.box(r + 12, 0, h // 4, 26, 12, h // 2)


def bowl(b: Builder, d: Dice) -> None:
    r = d.whole(80, 120)
    b.rod(0, 0, 0, r // 2, 14)
    b.ball(0, 0, 4, 2 * r, 2 * r, 90)
    b.rod(0, 0, 56, r + 2, 24)


def plate(b: Builder, d: Dice) -> None:
    r = d.whole(110, 140)
    b.rod(0, 0, 0, r - 40, 8)
    b.rod(0, 0, 8, r, 10)
    if d.chance(0.4):
        b.rod(0, 0, 18, r - 36, 2, "accent")


def fruit_bowl(b: Builder, d: Dice) -> None:
    r = d.whole(130, 160)
    b.rod(0, 0, 0, r // 2, 20)
    b.ball(0, 0, 10, 2 * r, 2 * r, 110)
    b.rod(0, 0, 70, r, 16)
    for x, y, slot in (
        (-60, 0, "fruit_red"),
        (50, 50, "fruit_yellow"),
        (40, -55, "fruit_green"),
        (-10, 10, "fruit_orange"),
    ):
        b.ball(x, y, 74 if slot != "fruit_orange" else 110, 84, 84, 80, slot)


def bottle(b: Builder, d: Dice) -> None:
    r, h = d.whole(34, 44), d.whole(160, 210)
    b.rod(0, 0, 0, r, h)
    b.ball(0, 0, h - r, 2 * r, 2 * r, 2 * r)
    b.rod(0, 0, h, r // 3, 90)
    b.rod(0, 0, h // 4, r + 1, h // 3, "paper")


def pot(b: Builder, d: Dice) -> None:
    r, h = d.whole(100, 130), d.whole(100, 160)
    b.rod(0, 0, 0, r, h)
    b.rod(0, 0, h, r + 4, 14, "metal")
    b.ball(0, 0, h + 12, 40, 40, 36, "dark")
    for x in (-r - 20, r + 20):
        b.box(x, 0, h - 40, 50, 60, 16, "dark")


def knife_block(b: Builder, d: Dice) -> None:
    b.box(0, 0, 0, 110, 170, 200)
    for x in (-30, 0, 30):
        b.box(x, d.whole(-20, 40), 200, 18, 26, d.whole(80, 110), "dark")


def coffee_machine(b: Builder, d: Dice) -> None:
    b.box(0, 40, 0, 240, 280, 40, "dark")
    b.box(0, 110, 40, 240, 140, 300)
    b.box(0, 20, 250, 240, 300, 90)
    b.rod(0, -60, 40, 60, 130, "glass")


def trash_can(b: Builder, d: Dice) -> None:
    r, h = d.whole(130, 170), d.whole(350, 600)
    b.rod(0, 0, 0, r, h)
    if d.chance(0.6):
        b.ball(0, 0, h - 50, 2 * r + 10, 2 * r + 10, 100, "metal")
    else:
        b.rod(0, 0, h, r + 8, 20, "dark")
    b.box(0, -r - 20, 10, 80, 60, 16, "dark")


def wine_rack(b: Builder, d: Dice) -> None:
    w, h = d.whole(500, 700, 10), d.whole(700, 1000, 10)
    for x in (-(w - 30) // 2, (w - 30) // 2):
        b.box(x, 0, 0, 30, 280, h)
    for i in range(4):
        z = 40 + i * (h - 120) // 3
        b.box(0, 0, z, w - 60, 260, 20)
        for n in range(4):
            b.ball(-w // 2 + 90 + n * (w - 180) // 3, -60, z + 18, 76, 290, 76, d.pick(("bottle", "dark", "accent")))


KINDS: dict[str, Kind] = {
    "kitchen_counter": Kind(kitchen_counter, "wood", FRONTS, ("receptacle", "openable"), rigid=True),
    "kitchen_sink": Kind(kitchen_sink, "wood", FRONTS, ("receptacle", "openable", "toggleable"), rigid=True),
    "stove": Kind(stove, "enamel", ("white", "black", "grey", "red"), ("openable", "toggleable"), rigid=True),
    "fridge": Kind(fridge, "enamel", ("white", "grey", "black", "red", "blue", "green"), ("openable",)),
    "dishwasher": Kind(dishwasher, "enamel", ("white", "grey", "black"), ("openable", "toggleable"), rigid=True),
    "wall_cabinet": Kind(wall_cabinet, "wood", FRONTS, ("wall", "openable"), rigid=True),
    "microwave": Kind(microwave, "enamel", ("white", "black", "grey", "red"), ("openable", "toggleable")),
    "toaster": Kind(toaster, "enamel", ("red", "grey", "white", "black", "blue", "green"), ("toggleable", "pickable")),
    "kettle": Kind(
        kettle, "enamel", ("red", "grey", "white", "black", "blue", "green", "yellow"), ("pickable", "toggleable")
    ),
    "mug": Kind(mug, "ceramic", VIVID, ("pickable",)),
    "bowl": Kind(bowl, "ceramic", VIVID, ("pickable", "receptacle")),
    "plate": Kind(plate, "ceramic", VIVID, ("pickable",)),
    "fruit_bowl": Kind(fruit_bowl, "ceramic", VIVID, ("pickable",)),
    "bottle": Kind(bottle, "bottle", ("green", "brown", "blue", "red", "white"), ("pickable",)),
    "pot": Kind(pot, "enamel", ("grey", "red", "black", "blue", "green", "orange"), ("pickable",)),
    "knife_block": Kind(knife_block, "wood", ("brown", "beige", "black"), ("pickable",)),
    "coffee_machine": Kind(coffee_machine, "enamel", ("black", "grey", "red", "white"), ("toggleable",)),
    "trash_can": Kind(
        trash_can, "enamel", ("grey", "white", "black", "red", "blue", "green", "yellow"), ("receptacle",)
    ),
    "wine_rack": Kind(wine_rack, "wood", ("brown", "black", "beige"), ("receptacle",), held_out=True),
}
