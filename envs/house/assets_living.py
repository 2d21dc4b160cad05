"""Seats, tables and shelves of living rooms, dining rooms and offices."""

from __future__ import annotations

from .blueprint import Builder, Kind
from .dice import Dice

CLOTH = ("red", "blue", "green", "grey", "beige", "brown", "yellow", "purple", "teal", "orange", "black", "white")
TIMBER = ("brown", "beige", "white", "black", "grey")


def _seat(b: Builder, d: Dice, w: int, depth: int) -> None:
    """An upholstered seat with arms, of `w` outer width."""
    legs, base, high = d.pick((60, 100, 140)), d.whole(180, 240), d.whole(720, 880)
    arm, back = d.whole(110, 200), d.whole(150, 210)
    seat = legs + base + d.whole(110, 150)
    b.legs(w - 80, depth - 80, legs, d.pick(("wood", "metal")), thick=50)
    b.box(0, 0, legs, w, depth, base)
    b.box(0, (depth - back) // 2, legs + base, w, back, high - legs - base)
    arms = d.whole(540, 640)
    if d.chance(0.85):
        for x in (-(w - arm) // 2, (w - arm) // 2):
            b.box(x, -back // 2, legs + base, arm, depth - back, arms - legs - base)
    else:
        arm = 20
    cushions = max(1, round((w - 2 * arm) / 720))
    each = (w - 2 * arm) // cushions
    for i in range(cushions):
        x = -(w - 2 * arm) // 2 + each * i + each // 2
        b.box(x, -back // 2, legs + base, each - 12, depth - back - 10, seat - legs - base, "main")
        b.box(x, (depth - back) // 2 - back // 2 - 30, seat, each - 24, 110, high - seat - 40, "main")
    if w > 1400 and d.chance(0.8):
        for x in (-(w // 2 - arm - 200), w // 2 - arm - 200):
            b.box(x, (depth - back) // 2 - back // 2 - 140, seat, 380, 110, 300, "accent", 0.0)


def sofa(b: Builder, d: Dice) -> None:
    w, depth = d.whole(1650, 2300, 10), d.whole(820, 950, 10)
    _seat(b, d, w, depth)


def armchair(b: Builder, d: Dice) -> None:
    _seat(b, d, d.whole(760, 920, 10), d.whole(760, 880, 10))


def bench(b: Builder, d: Dice) -> None:
    w, depth = d.whole(900, 1300, 10), d.whole(340, 420, 10)
    b.legs(w, depth, 400, d.pick(("wood", "metal")), thick=60)
    b.box(0, 0, 400, w, depth, 45, "main")
    if d.chance(0.5):
        b.box(0, 0, 445, w - 40, depth - 30, 60, "accent")


def stool(b: Builder, d: Dice) -> None:
    r, h = d.whole(150, 190), d.whole(420, 480)
    for x, y in ((-1, -1), (1, -1), (-1, 1), (1, 1)):
        b.rod(x * (r - 50), y * (r - 50), 0, 18, h, d.pick(("wood", "metal")))
    b.rod(0, 0, h, r, 45, "main")


def chair(b: Builder, d: Dice) -> None:
    w, depth, seat, high = d.whole(420, 480), d.whole(430, 490), d.whole(430, 460), d.whole(820, 960)
    b.legs(w, depth, seat, "main", thick=d.whole(32, 46))
    b.box(0, 0, seat, w, depth, 40, "main")
    if d.chance(0.6):
        b.box(0, -10, seat + 40, w - 40, depth - 60, 35, "accent")
    style = d.below(3)
    y = (depth - 36) // 2
    if style == 0:
        b.box(0, y, seat + 40, w, 34, high - seat - 40, "main")
    else:
        for x in (-(w - 40) // 2, (w - 40) // 2):
            b.box(x, y, seat + 40, 40, 34, high - seat - 40, "main")
        for i in range(2 + style):
            z = seat + 150 + i * (high - seat - 210) // (1 + style)
            b.box(0, y, z, w - 80, 24, 60, "main")


def office_chair(b: Builder, d: Dice) -> None:
    w = d.whole(480, 560)
    b.box(0, 0, 40, w, 60, 40, "dark")
    b.box(0, 0, 40, 60, w, 40, "dark")
    b.rod(0, 0, 80, 30, 340, "metal")
    b.box(0, 0, 420, w - 20, w - 20, 90)
    b.box(0, (w - 90) // 2, 560, w - 60, 70, d.whole(450, 600))
    if d.chance(0.7):
        for x in (-(w - 40) // 2, (w - 40) // 2):
            b.box(x, 0, 510, 30, 40, 140, "dark")
            b.box(x, 0, 650, 50, 260, 30, "dark")


def _table(b: Builder, d: Dice, w: int, depth: int, h: int, *, round_: bool = False) -> None:
    thick = d.whole(25, 45)
    if round_:
        b.rod(0, 0, 0, w // 4, 30, "main")
        b.rod(0, 0, 30, 50, h - thick - 30, "main")
        b.rod(0, 0, h - thick, w // 2, thick, "main")
        b.top(h, w * 6 // 10, w * 6 // 10)
        return
    style = d.below(3)
    if style == 2:
        for x in (-(w // 2 - 160), w // 2 - 160):
            b.box(x, 0, 0, 60, depth - 120, h - thick, "wood")
    else:
        b.legs(
            w - 40, depth - 40, h - thick, d.pick(("wood", "main", "metal")), thick=d.whole(45, 75), round_=style == 1
        )
        b.box(0, 0, h - thick - 70, w - 120, depth - 120, 70, "main")
    b.box(0, 0, h - thick, w, depth, thick, "main")
    b.top(h, w - 60, depth - 60)


def dining_table(b: Builder, d: Dice) -> None:
    if d.chance(0.25):
        _table(b, d, d.whole(1050, 1250, 10), 0, 745, round_=True)
    else:
        _table(b, d, d.whole(1300, 1900, 10), d.whole(800, 950, 10), 745)


def kitchen_table(b: Builder, d: Dice) -> None:
    if d.chance(0.3):
        _table(b, d, d.whole(800, 900, 10), 0, 740, round_=True)
    else:
        _table(b, d, d.whole(800, 1150, 10), d.whole(650, 780, 10), 740)


def coffee_table(b: Builder, d: Dice) -> None:
    w, depth, h = d.whole(850, 1200, 10), d.whole(500, 650, 10), d.whole(380, 450)
    if d.chance(0.25):
        _table(b, d, d.whole(700, 850, 10), 0, h, round_=True)
    else:
        _table(b, d, w, depth, h)
        if d.chance(0.5):
            b.box(0, 0, 110, w - 90, depth - 90, 25, "main")


def side_table(b: Builder, d: Dice) -> None:
    w, h = d.whole(400, 500, 10), d.whole(480, 560)
    if d.chance(0.5):
        _table(b, d, w, 0, h, round_=True)
    else:
        b.legs(w, w, h - 30, "wood", thick=36)
        b.box(0, 0, h - 30, w, w, 30)
        b.top(h, w - 60, w - 60)


def console_table(b: Builder, d: Dice) -> None:
    w, depth, h = d.whole(800, 1200, 10), d.whole(280, 340, 10), d.whole(760, 850)
    b.legs(w, depth, h - 40, d.pick(("wood", "metal", "main")), thick=40)
    b.box(0, 0, h - 140, w, depth, 140, "main")
    for x in (-w // 4, w // 4):
        b.box(x, -depth // 2 - 4, h - 120, w // 2 - 40, 10, 90, "main")
        b.ball(x, -depth // 2 - 14, h - 90, 24, 24, 24, "metal")
    b.top(h, w - 60, depth - 40)


def desk(b: Builder, d: Dice) -> None:
    w, depth, h = d.whole(1200, 1600, 10), d.whole(600, 750, 10), 740
    b.box(0, 0, h - 35, w, depth, 35)
    drawers = d.below(3)
    for n, x in ((1, -1), (2, 1)):
        if drawers in (0, n):
            b.box(x * (w // 2 - 220), 0, 0, 400, depth - 60, h - 35, "main")
            for i in range(3):
                b.box(x * (w // 2 - 220), -(depth - 60) // 2 - 6, 60 + i * 210, 360, 12, 190, "second")
                b.box(x * (w // 2 - 220), -(depth - 60) // 2 - 18, 150 + i * 210, 120, 12, 14, "metal")
        else:
            b.box(x * (w // 2 - 40), 0, 0, 50, depth - 60, h - 35, "wood")
    b.top(h, w - 80, depth - 80)


def tv_stand(b: Builder, d: Dice) -> None:
    w, depth, h = d.whole(1200, 1900, 10), d.whole(380, 450, 10), d.whole(420, 560)
    b.box(0, 0, 60, w, depth, h - 60)
    b.box(0, 20, 0, w - 80, depth - 60, 60, "dark")
    doors = d.whole(2, 4)
    for i in range(doors):
        x = -w // 2 + (2 * i + 1) * w // (2 * doors)
        b.box(x, -depth // 2 - 5, 90, w // doors - 24, 12, h - 130, "second")
        b.box(x, -depth // 2 - 16, h // 2 + 30, 90, 12, 12, "metal")
    b.top(h, w - 60, depth - 60)


def sideboard(b: Builder, d: Dice) -> None:
    w, depth, h = d.whole(1200, 1700, 10), d.whole(400, 460, 10), d.whole(780, 900)
    b.legs(w - 60, depth - 60, 120, d.pick(("wood", "metal")), thick=45)
    b.box(0, 0, 120, w, depth, h - 120)
    doors = d.whole(3, 4)
    for i in range(doors):
        x = -w // 2 + (2 * i + 1) * w // (2 * doors)
        b.box(x, -depth // 2 - 5, 150, w // doors - 24, 12, h - 190, "second")
        b.ball(x + w // doors // 3, -depth // 2 - 22, h // 2 + 40, 26, 26, 26, "metal")
    b.top(h, w - 80, depth - 80)


def bookshelf(b: Builder, d: Dice) -> None:
    w, depth, h = d.whole(700, 1150, 10), d.whole(270, 330, 10), d.whole(1500, 2050, 10)
    for x in (-(w - 25) // 2, (w - 25) // 2):
        b.box(x, 0, 0, 25, depth, h)
    b.box(0, (depth - 12) // 2, 0, w, 12, h)
    shelves = round(h / 360)
    for i in range(shelves + 1):
        b.box(0, 0, i * (h - 25) // shelves, w - 50, depth, 25)
    books = ("book_red", "book_blue", "book_green", "paper", "dark", "accent")
    for i in range(shelves):
        z, gap = i * (h - 25) // shelves + 25, (h - 25) // shelves - 25
        x, stop = -w // 2 + 35, w // 2 - 40
        while x < stop - 60:
            run = min(d.whole(90, 260), stop - x)
            if d.chance(0.78):
                b.box(
                    x + run // 2,
                    d.whole(-10, 20),
                    z,
                    run - 4,
                    depth - 110,
                    round(gap * d.real(0.55, 0.9)),
                    d.pick(books),
                )
            x += run
    b.top(h, w - 60, depth - 60)


def tv(b: Builder, d: Dice) -> None:
    w = d.whole(950, 1400, 10)
    h = w * 9 // 16
    b.box(0, 0, 0, w // 3, 200, 18, "dark")
    b.box(0, 20, 18, 60, 40, 70, "dark")
    b.box(0, 0, 80, w, 45, h, "dark")
    b.box(0, -24, 95, w - 30, 6, h - 30, "screen")


def storage_shelf(b: Builder, d: Dice) -> None:
    w, depth, h = d.whole(800, 1200, 10), d.whole(380, 480, 10), d.whole(1600, 1950, 10)
    b.legs(w, depth, h, "metal", thick=40)
    n = d.whole(3, 4)
    for i in range(n + 1):
        b.box(0, 0, 80 + i * (h - 110) // n, w, depth, 25, "main")
        if i < n:
            b.top(105 + i * (h - 110) // n, w - 60, depth - 80, clear=(h - 110) // n - 30)


def filing_cabinet(b: Builder, d: Dice) -> None:
    w, depth, n = d.whole(400, 480, 10), d.whole(480, 600, 10), d.whole(2, 4)
    b.box(0, 0, 0, w, depth, n * 330)
    for i in range(n):
        b.box(0, -depth // 2 - 5, i * 330 + 15, w - 30, 12, 300, "second")
        b.box(0, -depth // 2 - 18, i * 330 + 220, 140, 16, 20, "metal")
    b.top(n * 330, w - 60, depth - 80)


KINDS: dict[str, Kind] = {
    "sofa": Kind(sofa, "fabric", CLOTH, ("sittable",)),
    "armchair": Kind(armchair, "fabric", CLOTH, ("sittable",)),
    "bench": Kind(bench, "wood", TIMBER, ("sittable",)),
    "stool": Kind(stool, "wood", (*TIMBER, "red", "blue", "green", "yellow"), ("sittable",)),
    "chair": Kind(chair, "wood", (*TIMBER, "red", "blue", "green", "yellow"), ("sittable",)),
    "office_chair": Kind(office_chair, "leather", ("black", "grey", "blue", "red", "brown", "white"), ("sittable",)),
    "dining_table": Kind(dining_table, "wood", TIMBER, ("receptacle",)),
    "kitchen_table": Kind(kitchen_table, "wood", TIMBER, ("receptacle",)),
    "coffee_table": Kind(coffee_table, "wood", TIMBER, ("receptacle",)),
    "side_table": Kind(side_table, "wood", TIMBER, ("receptacle",)),
    "console_table": Kind(console_table, "wood", TIMBER, ("receptacle", "openable")),
    "desk": Kind(desk, "wood", TIMBER, ("receptacle", "openable")),
    "tv_stand": Kind(tv_stand, "wood", TIMBER, ("receptacle", "openable")),
    "sideboard": Kind(sideboard, "wood", (*TIMBER, "green", "blue"), ("receptacle", "openable")),
    "bookshelf": Kind(bookshelf, "wood", TIMBER, ("receptacle",)),
    "tv": Kind(tv, "dark", ("black",), ("toggleable",)),
    "storage_shelf": Kind(storage_shelf, "wood", TIMBER, ("receptacle",)),
    "filing_cabinet": Kind(
        filing_cabinet, "metal", ("grey", "white", "black", "green", "beige"), ("receptacle", "openable")
    ),
}
