"""How all other rooms are furnished: to sleep, wash, work, play and store."""

from __future__ import annotations

from .blueprint import Asset
from .placing import Placed, turned
from .recipes_common import desk
from .space import Space


def bedroom(room: Space) -> None:
    d = room.dice
    double = room.area > 9.5 and d.chance(0.85)
    bed = _bed(room, "double_bed" if double else "single_bed") or _bed(room, "single_bed")
    wardrobe = room.sized("wardrobe", 2100)
    if wardrobe is not None:
        _corner_first(room, wardrobe, 500)
    if room.area > 11 and d.chance(0.7):
        chest = room.at_wall(room.choose("dresser"), front=450)
        if chest is not None:
            for thing in d.shuffled(("vase", "table_lamp", "book", "candle"))[:2]:
                room.on(chest, thing)
    if d.chance(0.4):
        desk(room, ("laptop", "book", "mug"))
    if d.chance(0.35):
        room.at_wall(room.choose("armchair"), where="corner", gap=100, front=200)
    if d.chance(0.3):
        room.hang("mirror", 1000)
    if bed is not None and d.chance(0.5) and room.kind == "bedroom":
        side = bed.turn
        t = bed.x if side % 2 == 0 else bed.y
        room.hang("picture", 1400, sides=(side,), at=t)


def _bed(room: Space, category: str) -> Placed | None:
    """A bed with its head to a wall, nightstands at its sides, a rug under its foot."""
    what, stand = room.choose(category), room.choose("nightstand")
    bed = None
    for wide in (stand[0].size[0] + 60, 0):
        bed = room.at_wall(what, where="middle" if wide else "any", room_for=wide, front=500)
        bed = bed or room.at_wall(what, where="any", room_for=wide, front=450)
        if bed is not None:
            break
    if bed is None:
        return None
    for right in (1, -1) if category == "double_bed" else (room.dice.pick((1, -1)),):
        table = room.next_to(bed, stand, right, gap=40)
        if table is not None:
            room.on(table, "table_lamp", same=True)
            if room.dice.chance(0.6):
                room.on(table, room.dice.pick(("book", "mug", "candle")))
    if room.dice.chance(0.6):
        rug = room.choose("rug")
        dx, dy = turned(bed.turn, 0, -bed.asset.size[1] // 2 + 100)
        room.put(rug, bed.x + dx, bed.y + dy, bed.turn, soft=True)
    return bed


def _corner_first(room: Space, what: tuple[Asset, str], front: int) -> Placed | None:
    return room.at_wall(what, where="corner", front=front) or room.at_wall(what, front=front)


def nursery(room: Space) -> None:
    d = room.dice
    room.at_wall(room.choose("crib"), where="corner", front=500)
    chest = room.at_wall(room.choose("dresser"), front=500)
    if chest is not None:
        room.on(chest, "teddy_bear")
        room.on(chest, "table_lamp")
    wardrobe = room.sized("wardrobe", 1200)
    if wardrobe is not None:
        room.at_wall(wardrobe, where="corner", front=450)
    room.at_wall(room.choose("armchair"), where="corner", gap=100, front=250)
    box = room.at_wall(room.choose("toy_box"), front=300)
    if box is not None:
        room.on(box, "ball")
    room.put(room.choose("rug"), *room.middle, d.below(2), soft=True)


def office(room: Space) -> None:
    d = room.dice
    desk(room, ("monitor", "laptop", "book", "mug", "table_lamp") if d.chance(0.7) else ("laptop", "book", "mug"))
    for _ in range(d.whole(1, 2)):
        shelf = room.at_wall(room.choose("bookshelf"), front=450)
        if shelf is not None and d.chance(0.5):
            room.on(shelf, d.pick(("globe", "vase", "candle")))
    if d.chance(0.6):
        cabinet = room.at_wall(room.choose("filing_cabinet"), front=400)
        if cabinet is not None:
            room.on(cabinet, d.pick(("globe", "vase", "book")))
    if d.chance(0.6):
        room.at_wall(room.choose("armchair"), where="corner", gap=100, front=200)
    room.at_wall(room.choose("trash_can"), where="corner", gap=30)
    if d.chance(0.5):
        room.put(room.choose("rug"), *room.middle, room.dice.below(2), soft=True)


def library(room: Space) -> None:
    d = room.dice
    for _ in range(4 + round(room.area / 4)):
        room.at_wall(room.choose("bookshelf", same=True), front=500)
    chair = room.at_wall(room.choose("armchair"), where="any", gap=100, front=300)
    if chair is not None:
        lamp = room.next_to(chair, room.choose("floor_lamp"), d.pick((1, -1)))
        if lamp is None:
            room.at_wall(room.choose("floor_lamp"), where="corner", gap=40)
    table = room.put(room.choose("coffee_table"), *room.middle, d.below(2))
    if table is not None:
        for thing in ("book", "book", "globe"):
            room.on(table, thing)
    room.put(room.choose("rug"), *room.middle, d.below(2), soft=True)


def bathroom(room: Space) -> None:
    d = room.dice
    tub = room.area > 4.4 and d.chance(0.65)
    if not (tub and room.at_wall(room.choose("bathtub"), where="corner", front=350)):
        _corner_first(room, room.choose("shower"), 400)
    basin = room.at_wall(room.choose("washbasin"), where="any", front=500)
    if basin is not None:
        side = basin.turn
        room.hang("mirror", 1150, sides=(side,), at=basin.x if side % 2 == 0 else basin.y)
    room.at_wall(room.choose("toilet"), where="any", front=450)
    if d.chance(0.4):
        room.at_wall(room.choose("laundry_basket"), where="corner", gap=30)
    if d.chance(0.5):
        room.at_wall(room.choose("trash_can"), where="any", gap=30)
    for _ in range(2):
        room.hang("towel", 800, same=True)
    x, y = room.middle
    room.put(room.choose("bath_mat"), x, y, d.below(2), soft=True)


def laundry_room(room: Space) -> None:
    d = room.dice
    machine = room.at_wall(room.choose("washing_machine"), where="corner", front=500)
    if machine is not None:
        dryer = room.choose("dryer")
        for right in d.shuffled((1, -1)):
            if room.next_to(machine, dryer, right, front=450) is not None:
                break
        room.on(machine, "bottle")
    _stocked(room, ("bottle", "cardboard_box", "bowl"))
    room.at_wall(room.choose("laundry_basket"), where="any", gap=30)
    if d.chance(0.6):
        room.at_wall(room.choose("ironing_board"), gap=60)


def storage_room(room: Space) -> None:
    for _ in range(3):
        _stocked(room, ("cardboard_box", "cardboard_box", "bottle", "pot"))
    if room.dice.chance(0.6):
        room.at_wall(room.choose("cardboard_box"), where="corner", gap=20)


def _stocked(room: Space, things: tuple[str, ...]) -> Placed | None:
    shelf = room.at_wall(room.choose("storage_shelf"), front=450)
    if shelf is not None:
        for _ in range(room.dice.whole(4, 8)):
            room.on(shelf, room.dice.pick(things))
    return shelf


def gym(room: Space) -> None:
    d = room.dice
    room.at_wall(room.choose("treadmill"), front=400, gap=150)
    room.at_wall(room.choose("dumbbell_rack"), front=600)
    if d.chance(0.7):
        room.at_wall(room.choose("bench"), front=300)
    room.at_wall(room.choose("exercise_ball"), where="corner", gap=50)
    room.put(room.choose("yoga_mat"), *room.middle, d.below(2), soft=True)
    room.hang("mirror", 700)
    room.hang("mirror", 700, same=True)
    if d.chance(0.4):
        room.at_wall(room.choose("shoe_rack"), front=300)


def playroom(room: Space) -> None:
    d = room.dice
    chest = room.at_wall(room.choose("toy_box"), front=400)
    if chest is not None:
        room.on(chest, "teddy_bear")
    room.at_wall(room.choose("bookshelf"), front=400)
    room.put(room.choose("rug"), *room.middle, d.below(2), soft=True)
    table = room.put(room.choose("coffee_table"), *room.middle, d.below(2))
    if table is not None:
        for thing in ("book", "ball", "mug"):
            room.on(table, thing)
        stool = room.choose("stool")
        for x in (-1, 1):
            dx, dy = turned(table.turn, x * (table.asset.size[0] // 2 + 250), 0)
            room.put(stool, table.x + dx, table.y + dy, 0)
    if d.chance(0.5):
        room.at_wall(room.choose("sofa"), front=300)
    for thing in ("teddy_bear", "ball", "ball"):
        room.at_wall(room.choose(thing), gap=d.whole(30, 400))


def hallway(room: Space) -> None:
    d = room.dice
    for thing in d.shuffled(
        ("console_table", "shoe_rack", "coat_rack", "umbrella_stand", "plant", "bench", "sideboard")
    )[:5]:
        placed = room.at_wall(room.choose(thing), gap=10 if thing != "plant" else 30)
        if placed is not None and thing in ("console_table", "sideboard"):
            room.on(placed, d.pick(("vase", "table_lamp", "bowl")))
            side = placed.turn
            room.hang("mirror", 1150, sides=(side,), at=placed.x if side % 2 == 0 else placed.y)
    room.put(room.choose("runner"), *room.middle, 0 if room.width > room.depth else 1, soft=True)
