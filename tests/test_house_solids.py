"""Solids of a house: the building is whole, rooms are closed, and everything has a material and a meaning."""

from __future__ import annotations

import numpy as np
import pytest
from houses import flat, tower
from raycast import cast
from shapely.geometry import Polygon, box
from shapely.ops import unary_union

from wayhand.envs.house.generate import generate
from wayhand.envs.house.house import House
from wayhand.envs.house.rects import Rect, rectangles
from wayhand.envs.house.solids import floor_height, instances, solids

HOUSES = {"flat": flat, "tower": tower, "generated": lambda: generate(11, rooms=(3, 4))}


@pytest.fixture(params=sorted(HOUSES))
def house(request: pytest.FixtureRequest) -> House:
    return HOUSES[request.param]()


def test_rectangles_cover_a_polygon_once() -> None:
    polygon = ((0.0, 0.0), (4.0, 0.0), (4.0, 1.0), (3.0, 1.0), (3.0, 3.0), (1.0, 3.0), (1.0, 2.0), (0.0, 2.0))
    hole = Rect(1.5, 0.5, 2.5, 1.5)
    parts = [box(r.x0, r.y0, r.x1, r.y1) for r in rectangles(polygon, [hole])]
    whole = Polygon(polygon).difference(box(1.5, 0.5, 2.5, 1.5))
    assert sum(p.area for p in parts) == pytest.approx(whole.area)
    assert unary_union(parts).symmetric_difference(whole).area == pytest.approx(0.0)


def test_every_solid_has_size_material_and_meaning(house: House) -> None:
    table, parts = instances(house), solids(house)
    assert table[0].category == "void"
    for s in parts:
        assert min(s.half) > 0 and s.material in house.materials and 0 < s.instance < len(table)
        if s.role in ("floor", "ceiling", "wall", "stairs"):
            assert table[s.instance].category == s.role and s.yaw == 0.0
        assert (table[s.instance].item >= 0) == (s.role == "item")
    assert {i.item for i in table} - {-1} == {i.id for i in house.items}


def test_rooms_have_floors(house: House) -> None:
    for room in house.rooms:
        level = floor_height(house, room.storey)
        tops = [s for s in solids(house) if s.role == "floor" and abs(s.centre[2] + s.half[2] - level) < 1e-9]
        area = unary_union(
            [
                box(s.centre[0] - s.half[0], s.centre[1] - s.half[1], s.centre[0] + s.half[0], s.centre[1] + s.half[1])
                for s in tops
            ]
        )
        hole = sum(s.width * (abs(s.end[0] - s.start[0]) + abs(s.end[1] - s.start[1])) for s in house.stairs)
        polygon = Polygon(room.polygon)
        assert polygon.difference(area).area <= (hole if room.storey else 0.0) + 1e-6


def test_no_ray_leaves_a_closed_house(house: House) -> None:
    rng = np.random.default_rng(0)
    rays = rng.normal(size=(2000, 3))
    parts = [s for s in solids(house) if s.role != "item"]
    for room in house.rooms[:3]:
        (x0, y0), (x1, y1) = room.polygon[0], room.polygon[1]
        point = ((x0 + x1) / 2 - 0.3 * np.sign(y1 - y0), (y0 + y1) / 2 + 0.3 * np.sign(x1 - x0))
        _, hit = cast(parts, (*point, floor_height(house, room.storey) + 1.5), rays)
        assert (hit >= 0).all()


def test_doorways_are_free() -> None:
    house = flat()
    ray = np.array([[1.0, 0.0, 0.0]])
    # Through the middle of the door into the bedroom, and into the wall beside it.
    through, beside = (cast(solids(house), (4.0, y, 1.0), ray)[0][0] for y in (2.05, 3.6))
    assert through > 3.0 and beside == pytest.approx(1.0)
