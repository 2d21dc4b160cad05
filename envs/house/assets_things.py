"""Things for play, sport and music, and those that stand in hallways; the last seven are never seen in training."""

from __future__ import annotations

from .assets_kitchen import VIVID
from .assets_living import TIMBER
from .blueprint import Builder, Kind
from .dice import Dice


def teddy_bear(b: Builder, d: Dice) -> None:
    b.ball(0, 0, 0, 200, 170, 220)
    b.ball(0, -10, 190, 170, 160, 160)
    for x in (-70, 70):
        b.ball(x, 0, 310, 64, 40, 64)
        b.ball(x + x // 3, -50, 100, 70, 110, 70)
        b.ball(x, -100, 0, 80, 140, 80)
    b.ball(0, -80, 220, 70, 50, 60, "linen")


def ball(b: Builder, d: Dice) -> None:
    r = d.whole(90, 130)
    b.ball(0, 0, 0, 2 * r, 2 * r, 2 * r)
    b.rod(0, 0, r - 15, r + 1, 30, "paper")


def globe(b: Builder, d: Dice) -> None:
    b.rod(0, 0, 0, 90, 24, "wood")
    b.rod(0, 0, 24, 14, 60, "metal")
    b.ball(0, 0, 80, 280, 280, 280)
    b.ball(50, -60, 150, 150, 160, 120, "leaf")


def coat_rack(b: Builder, d: Dice) -> None:
    b.rod(0, 0, 0, 190, 30)
    b.rod(0, 0, 30, 24, 1700)
    for x, y in ((-1, 0), (1, 0), (0, -1), (0, 1)):
        b.box(x * 90, y * 90, 1600, 40 + abs(x) * 140, 40 + abs(y) * 140, 30)
    b.box(-120, 0, 900, 110, 240, 690, "accent")
    if d.chance(0.7):
        b.box(120, 0, 1000, 100, 220, 590, "leather")


def umbrella_stand(b: Builder, d: Dice) -> None:
    b.rod(0, 0, 0, 120, d.whole(450, 560))
    b.rod(30, 0, 200, 26, 620, "accent")
    b.rod(-30, 20, 200, 24, 560, "dark")


def cardboard_box(b: Builder, d: Dice) -> None:
    w, depth, h = d.whole(300, 420, 10), d.whole(240, 330, 10), d.whole(200, 300, 10)
    b.box(0, 0, 0, w, depth, h)
    b.box(0, 0, h, w - 4, 50, 2, "paper")


def toy_box(b: Builder, d: Dice) -> None:
    w = d.whole(700, 900, 10)
    b.box(0, 0, 0, w, 400, 400)
    b.box(0, 0, 400, w + 20, 420, 30, "second")
    b.box(0, -206, 260, 160, 14, 40, "metal")
    b.top(430, w - 60, 340)


def exercise_ball(b: Builder, d: Dice) -> None:
    r = d.whole(270, 330)
    b.ball(0, 0, 0, 2 * r, 2 * r, 2 * r)


def treadmill(b: Builder, d: Dice) -> None:
    b.box(0, 0, 60, 750, 1600, 110, "dark")
    b.box(0, -60, 170, 500, 1400, 14, "second")
    for x in (-330, 330):
        b.box(x, 680, 60, 60, 80, 1150, "main")
        b.box(x, 420, 950, 50, 560, 40, "dark")
    b.box(0, 690, 1130, 760, 110, 260, "main")
    b.box(0, 632, 1180, 420, 10, 160, "screen")


def yoga_mat(b: Builder, d: Dice) -> None:
    b.box(0, 0, 0, 650, 1750, 10)


def dumbbell_rack(b: Builder, d: Dice) -> None:
    w = d.whole(900, 1150, 10)
    for x in (-w // 2 + 30, w // 2 - 30):
        b.box(x, 0, 0, 60, 420, 800, "metal")
    for z in (280, 640):
        b.box(0, 0, z, w - 120, 300, 30, "metal")
        for i in range(5):
            x = -w // 2 + 130 + i * (w - 260) // 4
            b.rod(x, -60, z + 30, 55, 110, "main")
            b.rod(x, 90, z + 30, 55, 110, "main")
            b.box(x, 15, z + 70, 30, 150, 30, "metal")


def railing(b: Builder, d: Dice) -> None:
    n, thick = d.whole(7, 10), d.whole(20, 34)
    b.box(0, 0, 940, 1040, 50, 50, "main")
    b.box(0, 0, 60, 1040, 30, d.whole(36, 60), "main")
    b.box(-505, 0, 0, 30, 40, 990, "main")
    for i in range(n):
        b.box(-460 + i * 920 // (n - 1), 0, 90, thick, thick, 850, "second")


def piano(b: Builder, d: Dice) -> None:
    w, h = 1480, d.whole(1100, 1250, 10)
    b.box(0, 120, 0, w, 360, h)
    b.box(0, -190, 600, w, 280, 130)
    b.box(0, -200, 730, w - 120, 220, 12, "paper")
    for i in range(12):
        b.box(-620 + i * 112, -150, 742, 40, 120, 14, "dark")
    for x in (-w // 2 + 50, w // 2 - 50):
        b.box(x, -260, 0, 70, 70, 600)
    b.top(h, w - 100, 260, y=120)


def guitar(b: Builder, d: Dice) -> None:
    b.ball(0, 0, 60, 400, 110, 420)
    b.ball(0, 0, 350, 310, 100, 320)
    b.rod(0, -46, 320, 50, 12, "dark")
    b.box(0, -10, 560, 60, 40, 480, "wood")
    b.box(0, -5, 1040, 90, 40, 160, "wood")
    b.box(0, 60, 0, 360, 200, 40, "metal")
    b.box(0, 60, 40, 24, 24, 700, "metal")


def aquarium(b: Builder, d: Dice) -> None:
    w = d.whole(850, 1150, 10)
    b.box(0, 0, 0, w, 420, 650)
    b.box(0, 0, 650, w - 20, 400, 60, "sand")
    b.box(0, 0, 710, w - 20, 400, 400, "tank")
    b.box(0, 0, 1110, w, 420, 50, "dark")
    for x, z, slot in ((-w // 4, 820, "fruit_orange"), (w // 5, 900, "fruit_yellow"), (0, 980, "fruit_red")):
        b.ball(x, -190, z, 120, 40, 70, slot)
    b.ball(w // 3, -180, 700, 60, 50, 300, "leaf")


def easel(b: Builder, d: Dice) -> None:
    for x in (-300, 300):
        b.box(x, 0, 0, 40, 40, 1500)
    b.box(0, 200, 0, 40, 40, 1450)
    b.box(0, 0, 700, 640, 80, 30)
    b.box(0, -10, 730, 600, 30, 750, "paper")
    b.box(0, -26, 800, 480, 8, 300, "art_a")
    b.ball(60, -30, 1020, 260, 10, 260, "art_b")


def telescope(b: Builder, d: Dice) -> None:
    for x, y in ((-240, -160), (240, -160), (0, 260)):
        b.rod(x // 2, y // 2, 0, 16, 950, "wood")
        b.rod(x, y, 0, 20, 40, "dark")
    b.rod(0, 0, 930, 60, 60, "metal")
    b.box(0, 0, 980, 130, 800, 130)
    b.box(0, -430, 970, 150, 80, 150, "metal")


def rocking_chair(b: Builder, d: Dice) -> None:
    for x in (-250, 250):
        b.box(x, 0, 0, 40, 850, 50)
        b.box(x, -220, 50, 40, 40, 560)
        b.box(x, 240, 50, 40, 40, 1000)
        b.box(x, 0, 610, 60, 520, 30)
    b.box(0, 0, 400, 520, 520, 40)
    b.box(0, -10, 440, 460, 440, 50, "accent")
    b.box(0, 240, 500, 460, 30, 540)


def grandfather_clock(b: Builder, d: Dice) -> None:
    h = d.whole(1900, 2050, 10)
    b.box(0, 0, 0, 500, 320, 420)
    b.box(0, 0, 420, 380, 260, h - 950)
    b.box(0, 0, h - 530, 500, 320, 480)
    b.box(0, 0, h - 50, 560, 360, 50)
    b.ball(0, -165, h - 470, 360, 30, 360, "paper")
    b.box(0, -182, h - 290, 14, 8, 130, "dark")
    b.box(0, -134, 520, 220, 10, h - 1120, "glass")
    b.ball(0, -145, 620, 130, 16, 130, "metal")


KINDS: dict[str, Kind] = {
    "teddy_bear": Kind(teddy_bear, "carpet", ("brown", "beige", "pink", "white", "grey", "blue"), ("pickable",)),
    "ball": Kind(ball, "leather", VIVID, ("pickable",)),
    "globe": Kind(globe, "ceramic", ("blue", "beige", "teal"), ("pickable",)),
    "coat_rack": Kind(coat_rack, "wood", TIMBER, ()),
    "umbrella_stand": Kind(
        umbrella_stand, "enamel", ("black", "grey", "white", "red", "blue", "green"), ("receptacle",)
    ),
    "cardboard_box": Kind(cardboard_box, "plaster", ("brown", "beige", "white"), ("pickable", "openable")),
    "toy_box": Kind(toy_box, "wood", ("red", "blue", "green", "yellow", "white", "brown"), ("receptacle", "openable")),
    "exercise_ball": Kind(exercise_ball, "leather", VIVID, ()),
    "treadmill": Kind(treadmill, "enamel", ("black", "grey", "white", "red"), ("toggleable",)),
    "yoga_mat": Kind(yoga_mat, "carpet", VIVID, ("floor",)),
    "dumbbell_rack": Kind(dumbbell_rack, "leather", ("black", "blue", "red", "grey"), ("receptacle",)),
    "railing": Kind(railing, "wood", TIMBER, (), rigid=True),
    "piano": Kind(piano, "wood", ("black", "brown", "white"), ("receptacle", "openable"), held_out=True),
    "guitar": Kind(guitar, "wood", ("brown", "beige", "red", "black"), ("pickable",), held_out=True),
    "aquarium": Kind(aquarium, "wood", TIMBER, (), held_out=True),
    "easel": Kind(easel, "wood", ("brown", "beige"), (), held_out=True),
    "telescope": Kind(telescope, "enamel", ("white", "black", "blue", "red"), (), held_out=True),
    "rocking_chair": Kind(rocking_chair, "wood", TIMBER, ("sittable",), held_out=True),
    "grandfather_clock": Kind(grandfather_clock, "wood", ("brown", "black"), (), held_out=True),
}
