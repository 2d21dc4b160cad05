"""Laws of the import of ProcTHOR houses: their left-handed plan becomes ours, nothing is lost, faults are named."""

from __future__ import annotations

import gzip
import json
from math import pi
from pathlib import Path
from typing import Any

import pytest

from wayhand.envs.house.check import check
from wayhand.envs.house.house import House
from wayhand.envs.house.procthor import THICK, load
from wayhand.vla.errors import DataError


def corner(x: float, z: float, y: float = 0.0) -> dict[str, float]:
    return {"x": x, "y": y, "z": z}


def wall(room: str, x0: float, z0: float, x1: float, z1: float, **more: Any) -> dict[str, Any]:
    ring = [corner(x0, z0), corner(x1, z1), corner(x1, z1, 2.8), corner(x0, z0, 2.8)]
    return {"id": f"wall|{room}|{x0}|{z0}|{x1}|{z1}", "roomId": room, "polygon": ring, **more}


def sample() -> dict[str, Any]:
    """An L-shaped living room (with a corner cut out in the north-east) and a kitchen in that corner."""
    living = [corner(0, 0), corner(0, 6), corner(4, 6), corner(4, 3), corner(8, 3), corner(8, 0)]
    kitchen = [corner(4, 3), corner(4, 6), corner(8, 6), corner(8, 3)]
    return {
        "rooms": [
            {"id": "room|2", "roomType": "LivingRoom", "floorPolygon": living},
            {"id": "room|3", "roomType": "Kitchen", "floorPolygon": kitchen},
        ],
        "walls": [
            wall("room|2", 4, 3, 4, 6),
            wall("room|3", 4, 3, 8, 3, empty=True),
            wall("room|2", 4, 3, 8, 3, empty=True),
            wall("room|2", 0, 0, 8, 0),
        ],
        "doors": [
            {
                "id": "door|1",
                "room0": "room|2",
                "room1": "room|3",
                "wall0": "wall|room|2|4|3|4|6",
                "holePolygon": [corner(1.0, 0), corner(1.9, 0, 2.1)],
            }
        ],
        "windows": [
            {
                "id": "window|1",
                "wall0": "wall|room|2|0|0|8|0",
                "holePolygon": [corner(5.0, 0, 0.9), corner(6.5, 0, 2.0)],
            }
        ],
        "objects": [
            {
                "id": "DiningTable|2|0",
                "assetId": "Dining_Table_16_1",
                "position": corner(1.5, 4.0, 0.4),
                "rotation": corner(0, 0, 90.0),
                "children": [
                    {
                        "id": "Gizmo|surface|2|1",
                        "assetId": "Gizmo_1",
                        "position": corner(1.5, 4.0, 0.95),
                        "rotation": corner(0, 0, 0),
                        "size": {"x": 0.2, "y": 0.4, "z": 0.1},
                    }
                ],
            }
        ],
    }


@pytest.fixture
def house(tmp_path: Path) -> House:
    (tmp_path / "house.json").write_text(json.dumps(sample()))
    return load(tmp_path / "house.json")[0]


def test_rooms_are_drawn_in_by_half_a_wall_and_keep_their_shape(house: House) -> None:
    living, kitchen = house.rooms
    assert [living.kind, kitchen.kind] == ["living_room", "kitchen"]
    assert len(living.polygon) == 6
    t = THICK / 2
    assert set(kitchen.polygon) == {(4 + t, 3 + t), (8 - t, 3 + t), (8 - t, 6 - t), (4 + t, 6 - t)}
    area = sum(
        a[0] * b[1] - b[0] * a[1] for a, b in zip(living.polygon, (*living.polygon[1:], living.polygon[0]), strict=True)
    )
    assert area > 0, "counter-clockwise"


def test_doors_windows_and_walls_that_are_not_there_become_openings(house: House) -> None:
    door, window, passage = house.openings
    assert (door.kind, window.kind, passage.kind) == ("door", "window", "open")
    assert door.start == (4.0, 4.0)
    assert door.end == (4.0, 4.9)
    assert door.rooms == (0, 1), "looking north, the living room is at the left"
    assert (window.bottom, window.top) == (0.9, 2.0)
    assert window.rooms == (0, None)
    assert set(passage.rooms) == {0, 1}


def test_objects_keep_place_turn_and_support(house: House) -> None:
    table, gizmo = house.items
    assert table.category == "dining_table"
    assert table.position[:2] == (1.5, 4.0)
    assert table.yaw == pytest.approx(pi / 2, abs=1e-3), (
        "a thing that faced east faces east: our things face −y at yaw 0"
    )
    assert gizmo.support == table.id
    assert gizmo.size == (0.2, 0.1, 0.4)
    assert gizmo.position[2] == pytest.approx(0.75)
    assert "no way in" not in {fault.partition(":")[0] for fault in check(house)}
    assert House.from_json(house.to_json()).digest == house.digest


def test_files_of_many_houses(tmp_path: Path) -> None:
    lines = "\n".join(json.dumps(sample()) for _ in range(3))
    with gzip.open(tmp_path / "train.jsonl.gz", "wt") as file:
        file.write(lines)
    assert [h.seed for h in load(tmp_path / "train.jsonl.gz")] == [0, 1, 2]
    (tmp_path / "list.json").write_text(json.dumps([sample(), sample()]))
    assert len(load(tmp_path / "list.json")) == 2


def test_what_is_broken_is_named(tmp_path: Path) -> None:
    broken = sample()
    del broken["rooms"][1]["floorPolygon"]
    (tmp_path / "broken.json").write_text(json.dumps(broken))
    with pytest.raises(DataError, match=r"House 0 of broken.json.*\n.*\n.*floorPolygon"):
        load(tmp_path / "broken.json")
    (tmp_path / "cut.jsonl").write_text(json.dumps(sample()) + '\n{"rooms": [')
    with pytest.raises(DataError, match="line 2 is not JSON"):
        load(tmp_path / "cut.jsonl")
