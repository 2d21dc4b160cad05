"""Beds, wardrobes, and the fittings of bathrooms and laundries."""

from __future__ import annotations

from .assets_living import CLOTH, TIMBER
from .blueprint import Builder, Kind
from .dice import Dice


def _bed(b: Builder, d: Dice, w: int, length: int) -> None:
    frame, mattress = d.whole(240, 320), d.whole(170, 230)
    b.box(0, 0, 0, w + 60, length, frame, "wood")
    b.box(0, (length + 50) // 2, 0, w + 60, 50, d.whole(850, 1150), "wood" if d.chance(0.6) else "accent")
    b.box(0, 0, frame, w, length - 20, mattress, "linen")
    top = frame + mattress
    cover = round(length * d.real(0.6, 0.72))
    b.box(0, -(length - cover) // 2 - 4, frame + 30, w + 24, cover, mattress - 10, "main")
    b.box(0, cover - length // 2 - 70, top - 4, w + 10, 170, 30, "main")
    pillows = 2 if w > 1200 else 1
    for i in range(pillows):
        x = 0 if pillows == 1 else (2 * i - 1) * w // 4
        b.box(x, length // 2 - 280, top, min(620, w // pillows - 80), 380, 110, "linen")
        if d.chance(0.6):
            b.box(x, length // 2 - 460, top, 400, 160, 150, "accent")


def double_bed(b: Builder, d: Dice) -> None:
    _bed(b, d, d.whole(1400, 1700, 50), d.whole(1980, 2060, 10))


def single_bed(b: Builder, d: Dice) -> None:
    _bed(b, d, d.whole(850, 1000, 50), d.whole(1940, 2020, 10))


def crib(b: Builder, d: Dice) -> None:
    w, depth = 1250, d.whole(640, 720, 10)
    b.legs(w, depth, 850, "main", thick=50)
    b.box(0, 0, 300, w - 60, depth - 60, 120, "linen")
    b.box(-w // 5, 0, 420, w // 2, depth - 80, 30, "accent")
    for y in (-(depth - 25) // 2, (depth - 25) // 2):
        b.box(0, y, 800, w - 80, 25, 50, "main")
        b.box(0, y, 250, w - 80, 25, 50, "main")
        for i in range(7):
            b.rod(-w // 2 + 120 + i * (w - 240) // 6, y, 300, 12, 500, "main")


def nightstand(b: Builder, d: Dice) -> None:
    w, depth, h = d.whole(400, 520, 10), d.whole(350, 420, 10), d.whole(460, 580)
    legs = d.pick((0, 80, 140))
    if legs:
        b.legs(w - 20, depth - 20, legs, "wood", thick=40)
    b.box(0, 0, legs, w, depth, h - legs)
    n = d.whole(1, 3)
    each = (h - legs - 30) // n
    for i in range(n):
        b.box(0, -depth // 2 - 4, legs + 15 + i * each, w - 40, 10, each - 20, "second")
        b.ball(0, -depth // 2 - 18, legs + i * each + each // 2, 26, 26, 26, "metal")
    b.top(h, w - 40, depth - 40)


def wardrobe(b: Builder, d: Dice) -> None:
    doors = d.whole(2, 4)
    w, depth, h = doors * d.whole(440, 520, 10), d.whole(560, 620, 10), d.whole(1950, 2200, 10)
    b.box(0, 0, 60, w, depth, h - 60)
    b.box(0, 20, 0, w - 40, depth - 60, 60, "dark")
    for i in range(doors):
        x = -w // 2 + (2 * i + 1) * w // (2 * doors)
        b.box(x, -depth // 2 - 6, 90, w // doors - 16, 14, h - 130, "second")
        side = 1 if i % 2 == 0 else -1
        b.box(x + side * (w // doors // 2 - 50), -depth // 2 - 24, h // 2 - 60, 16, 22, 220, "metal")


def dresser(b: Builder, d: Dice) -> None:
    w, depth, h = d.whole(900, 1400, 10), d.whole(430, 500, 10), d.whole(750, 950)
    b.legs(w - 40, depth - 40, 90, "wood", thick=50)
    b.box(0, 0, 90, w, depth, h - 90)
    rows = d.whole(3, 4)
    each = (h - 120) // rows
    for i in range(rows):
        for x in (-w // 4, w // 4):
            b.box(x, -depth // 2 - 5, 105 + i * each, w // 2 - 30, 12, each - 20, "second")
            b.box(x, -depth // 2 - 16, 105 + i * each + each // 2, 110, 12, 14, "metal")
    b.top(h, w - 60, depth - 60)


def bathtub(b: Builder, d: Dice) -> None:
    w, depth, h = d.whole(1550, 1720, 10), d.whole(700, 780, 10), d.whole(530, 590)
    rim = 80
    for y in (-(depth - rim) // 2, (depth - rim) // 2):
        b.box(0, y, 0, w, rim, h, "main")
    for x in (-(w - rim) // 2, (w - rim) // 2):
        b.box(x, 0, 0, rim, depth - 2 * rim, h, "main")
    b.box(0, 0, 0, w - 2 * rim, depth - 2 * rim, 140, "main")
    b.box(0, 0, 140, w - 2 * rim, depth - 2 * rim, d.whole(10, 230), "water")
    b.box(-w // 2 + 60, (depth - 90) // 2, h, 40, 40, 160, "metal")
    b.box(-w // 2 + 130, (depth - 90) // 2, h + 130, 180, 36, 26, "metal")


def shower(b: Builder, d: Dice) -> None:
    w = d.whole(820, 950, 10)
    b.box(0, 0, 0, w, w, 90, "main")
    b.box(0, -(w - 20) // 2, 90, w, 14, 1900, "glass")
    b.box(-(w - 20) // 2, 0, 90, 14, w - 30, 1900, "glass")
    b.box((w - 20) // 2, -(w - 20) // 2, 90, 24, 24, 1910, "metal")
    b.box(0, (w - 40) // 2, 300, 30, 30, 1750, "metal")
    b.box(0, (w - 40) // 2 - 130, 2020, 30, 260, 24, "metal")
    b.rod(0, (w - 40) // 2 - 240, 1990, 110, 30, "metal")


def toilet(b: Builder, d: Dice) -> None:
    w = d.whole(350, 390)
    b.box(0, 260, 380, w + 20, 180, d.whole(380, 440))
    b.box(0, 120, 0, w - 120, 440, 300)
    b.ball(0, -70, 120, w, 540, 320)
    b.rod(0, -90, 385, w // 2, 25)
    b.box(0, 90, 385, w - 20, 180, 28)
    b.rod(0, 260, 780, 22, 46, "metal")


def washbasin(b: Builder, d: Dice) -> None:
    w, depth = d.whole(600, 950, 10), d.whole(440, 500, 10)
    b.box(0, 0, 120 if d.chance(0.5) else 0, w, depth - 20, 680, "main")
    b.box(-w // 4, -(depth - 20) // 2 - 5, 180, w // 2 - 24, 10, 580, "second")
    b.box(w // 4, -(depth - 20) // 2 - 5, 180, w // 2 - 24, 10, 580, "second")
    b.box(0, 0, 800, w + 20, depth, 50, "ceramic")
    b.ball(0, -20, 820, min(520, w - 120), depth - 140, 60, "water")
    b.box(0, depth // 2 - 70, 850, 36, 36, 150, "metal")
    b.box(0, depth // 2 - 120, 980, 30, 140, 22, "metal")
    b.top(850, w - 560, depth - 160, x=-w // 2 + (w - 560) // 2 + 20) if w > 760 else None


def washing_machine(b: Builder, d: Dice) -> None:
    b.box(0, 0, 0, 600, 580, 850)
    b.box(0, -292, 730, 580, 10, 100, "second")
    b.ball(0, -315, 220, 380, 60, 380, "dark")
    b.ball(0, -325, 260, 300, 60, 300, "glass")
    b.rod(200, -300, 760, 30, 40, "metal")
    b.top(850, 520, 480)


def dryer(b: Builder, d: Dice) -> None:
    b.box(0, 0, 0, 600, 600, 850)
    b.box(0, -302, 740, 580, 10, 90, "dark")
    b.ball(0, -322, 200, 420, 50, 420, "second")
    b.ball(0, -332, 250, 320, 50, 320, "glass")
    b.top(850, 520, 480)


def ironing_board(b: Builder, d: Dice) -> None:
    b.box(0, 0, 830, 1150, 340, 40)
    b.box(-560, 0, 830, 120, 200, 40)
    for x in (-300, 300):
        b.box(x, 0, 0, 40, 300, 30, "metal")
        b.box(x, 0, 30, 30, 30, 800, "metal")
    b.top(870, 900, 260)


def laundry_basket(b: Builder, d: Dice) -> None:
    r, h = d.whole(190, 240), d.whole(480, 600)
    b.rod(0, 0, 0, r, h)
    b.rod(0, 0, h - 30, r + 12, 30, "second")
    b.ball(0, 0, h - 90, 2 * r - 60, 2 * r - 60, 180, "accent")


def towel(b: Builder, d: Dice) -> None:
    w, h = d.whole(420, 560, 10), d.whole(600, 800, 10)
    b.rod(0, 20, h - 20, 12, 24, "metal")
    b.box(0, 10, h - 10, w + 100, 20, 20, "metal")
    b.box(0, 0, 0, w, 40, h)
    b.box(0, -4, h // 6, w, 40, 40, "linen")


def bath_mat(b: Builder, d: Dice) -> None:
    b.box(0, 0, 0, d.whole(700, 900, 10), d.whole(450, 550, 10), 12)


def shoe_rack(b: Builder, d: Dice) -> None:
    w, depth, n = d.whole(700, 1000, 10), 300, d.whole(2, 3)
    for x in (-(w - 25) // 2, (w - 25) // 2):
        b.box(x, 0, 0, 25, depth, n * 200 + 60)
    for i in range(n + 1):
        b.box(0, 0, 40 + i * 200, w - 50, depth, 20)
        if i < n:
            for x in range(-w // 2 + 130, w // 2 - 100, 210):
                if d.chance(0.7):
                    b.box(x, -20, 60 + i * 200, 160, 240, 90, d.pick(("dark", "accent", "paper", "leather")))
    b.top(n * 200 + 60, w - 60, depth - 60)


WHITE = ("white", "grey", "black", "beige")
KINDS: dict[str, Kind] = {
    "double_bed": Kind(double_bed, "fabric", CLOTH, ("sittable",)),
    "single_bed": Kind(single_bed, "fabric", CLOTH, ("sittable",)),
    "crib": Kind(crib, "wood", ("white", "brown", "beige", "grey")),
    "nightstand": Kind(nightstand, "wood", TIMBER, ("receptacle", "openable")),
    "wardrobe": Kind(wardrobe, "wood", TIMBER, ("openable",)),
    "dresser": Kind(dresser, "wood", (*TIMBER, "green", "blue"), ("receptacle", "openable")),
    "bathtub": Kind(bathtub, "ceramic", ("white",), ()),
    "shower": Kind(shower, "ceramic", ("white",), ("toggleable",)),
    "toilet": Kind(toilet, "ceramic", ("white",), ("openable",)),
    "washbasin": Kind(
        washbasin, "wood", ("white", "brown", "grey", "blue", "green", "black"), ("receptacle", "toggleable")
    ),
    "washing_machine": Kind(washing_machine, "enamel", WHITE, ("receptacle", "openable", "toggleable")),
    "dryer": Kind(dryer, "enamel", WHITE, ("receptacle", "openable", "toggleable")),
    "ironing_board": Kind(ironing_board, "fabric", CLOTH, ("receptacle",)),
    "laundry_basket": Kind(laundry_basket, "wicker", ("brown", "beige", "white", "grey", "blue"), ("receptacle",)),
    "towel": Kind(towel, "fabric", CLOTH, ("wall",)),
    "bath_mat": Kind(bath_mat, "carpet", CLOTH, ("floor",)),
    "shoe_rack": Kind(shoe_rack, "wood", TIMBER, ("receptacle",)),
}
