"""Small houses made by hand, for tests of everything that starts from a house description."""

from __future__ import annotations

from wayhand.envs.house.house import House, Item, Material, Opening, Part, Room, Stairs, Wall

HEIGHT, THICKNESS = 2.6, 0.16


def _materials() -> dict[str, Material]:
    colours = {
        "oak": (0.72, 0.55, 0.38),
        "tile": (0.85, 0.85, 0.82),
        "cream": (0.93, 0.90, 0.80),
        "blue": (0.62, 0.74, 0.85),
        "white": (0.95, 0.95, 0.95),
        "trim": (0.98, 0.97, 0.94),
        "sky": (0.75, 0.87, 0.98),
        "red": (0.75, 0.20, 0.18),
        "walnut": (0.40, 0.26, 0.17),
        "green": (0.30, 0.55, 0.30),
    }
    return {name: Material(name, colour, colour_name=name) for name, colour in colours.items()}


def _items() -> tuple[Item, ...]:
    sofa = (
        Part("box", (0.0, 0.0, 0.2), (0.9, 0.4, 0.2), "red"),
        Part("box", (0.0, 0.33, 0.6), (0.9, 0.07, 0.2), "red"),
    )
    legs = tuple(Part("cylinder", (x, y, 0.35), (0.03, 0.03, 0.35), "walnut") for x in (-0.5, 0.5) for y in (-0.3, 0.3))
    table = (*legs, Part("box", (0.0, 0.0, 0.72), (0.6, 0.4, 0.02), "walnut"))
    bed = (
        Part("box", (0.0, 0.0, 0.15), (0.7, 1.0, 0.15), "walnut"),
        Part("box", (0.0, 0.0, 0.4), (0.68, 0.98, 0.1), "white"),
    )
    mug = (Part("cylinder", (0.0, 0.0, 0.05), (0.04, 0.04, 0.05), "blue"),)
    plant = (
        Part("cylinder", (0.0, 0.0, 0.15), (0.15, 0.15, 0.15), "red"),
        Part("ellipsoid", (0.0, 0.0, 0.6), (0.25, 0.25, 0.32), "green"),
    )
    return (
        Item(0, "sofa", "sofa/0", "red", 0, (1.2, 3.5, 0.0), 0.0, (1.8, 0.8, 0.8), None, sofa, ("sittable",)),
        Item(1, "table", "table/0", "brown", 0, (3.4, 1.2, 0.0), 0.5, (1.2, 0.8, 0.74), None, table, ("receptacle",)),
        Item(2, "mug", "mug/0", "blue", 0, (3.3, 1.3, 0.74), 0.0, (0.08, 0.08, 0.1), 1, mug, ("pickable",)),
        Item(3, "bed", "bed/0", "white", 1, (7.2, 2.9, 0.0), 0.0, (1.4, 2.0, 0.5), None, bed),
        Item(4, "plant", "plant/0", "green", 1, (5.5, 0.5, 0.0), 0.0, (0.5, 0.5, 0.92), None, plant),
    )


def flat() -> House:
    """Two rooms side by side: x from 0 to 5 and from 5.16 to 8, y from 0 to 4; a door between them, a way out."""
    t, h = THICKNESS, HEIGHT
    low, high, split = -t / 2, 4 + t / 2, 5 + t / 2
    east = 8 + t / 2
    rooms = (
        Room(0, "living room", "living room", 0, ((0, 0), (5, 0), (5, 4), (0, 4)), "oak", "cream", "white"),
        Room(1, "bedroom", "bedroom", 0, ((5 + t, 0), (8, 0), (8, 4), (5 + t, 4)), "tile", "blue", "white"),
    )
    ends: list[tuple[tuple[float, float], tuple[float, float], int | None, int | None]] = [
        ((low, low), (split, low), 0, None),
        ((split, low), (east, low), 1, None),
        ((east, low), (east, high), 1, None),
        ((east, high), (split, high), 1, None),
        ((split, high), (low, high), 0, None),
        ((low, high), (low, low), 0, None),
        ((split, low), (split, high), 0, 1),
    ]
    walls = tuple(Wall(i, a, b, t, 0.0, h, left, right, 0) for i, (a, b, left, right) in enumerate(ends))
    openings = (
        Opening(0, "door", 6, (split, 1.6), (split, 2.5), 0.0, 2.05, (0, 1), "trim"),
        Opening(1, "door", 0, (1.0, low), (1.9, low), 0.0, 2.05, (0, None), "trim"),
        Opening(2, "window", 2, (east, 1.2), (east, 2.8), 0.9, 2.1, (1, None), "sky"),
        Opening(3, "window", 4, (3.5, high), (2.3, high), 0.9, 2.1, (0, None), "sky"),
    )
    return House("flat", 0, "train", 2.9, rooms, walls, openings, _items(), (), _materials())


def tower() -> House:
    """Two storeys of one room each, 6 m by 4 m, joined by a straight flight of stairs."""
    t, h, up = THICKNESS, HEIGHT, 2.9
    polygon = ((0.0, 0.0), (6.0, 0.0), (6.0, 4.0), (0.0, 4.0))
    rooms = tuple(Room(i, "hall", f"hall {i}", i, polygon, "oak", "cream", "white") for i in (0, 1))
    corners = ((-t / 2, -t / 2), (6 + t / 2, -t / 2), (6 + t / 2, 4 + t / 2), (-t / 2, 4 + t / 2))
    walls = tuple(
        Wall(4 * s + i, corners[i], corners[(i + 1) % 4], t, s * up, s * up + h, s, None, s)
        for s in (0, 1)
        for i in range(4)
    )
    stairs = (Stairs(0, (0.8, 3.5), (4.8, 3.5), 1.0, 0.0, up, 16, (0, 1), "walnut"),)
    return House("tower", 0, "train", up, rooms, walls, (), (), stairs, _materials())
