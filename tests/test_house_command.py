"""Laws of `wayhand house`: it shows, checks and exports houses, and says what it does not understand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from wayhand.envs.house.generate import generate
from wayhand.envs.house.house import House
from wayhand.scripts.house import main
from wayhand.scripts.walk import route
from wayhand.vla.errors import ConfigError, DataError


def test_show_writes_a_map_and_the_description(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["show", "seed=4", "rooms=3", f"out={tmp_path}", "video=false", "pixels_per_metre=20"]
    assert main(words) == 0
    house = House.from_json((tmp_path / "house.json").read_text())
    assert house.digest == generate(4, rooms=(3, 3)).digest
    with Image.open(tmp_path / "map.png") as picture:
        assert picture.width > 80
    assert house.scan in capsys.readouterr().out


def test_show_reads_what_it_wrote(tmp_path: Path) -> None:
    house = generate(6, storeys=2, rooms=(6, 6))
    (tmp_path / "a.json").write_text(house.to_json())
    shown = ["show", f"house={tmp_path / 'a.json'}", f"out={tmp_path / 'b'}", "video=false", "pixels_per_metre=15"]
    assert main(shown) == 0
    assert (tmp_path / "b" / "house.json").read_text() == house.to_json()
    assert {p.name for p in (tmp_path / "b").glob("*.png")} == {"map-0.png", "map-1.png"}


def test_check_prints_rates(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "houses=2", "first=3"]) == 0
    out = capsys.readouterr().out
    assert "2 houses of 'train'" in out
    assert "100.00%" in out


def test_export_writes_every_world(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "seed=2", "rooms=2", f"out={tmp_path}"]) == 0
    scan = generate(2, rooms=(2, 2)).scan
    names = {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()}
    assert {f"{scan}.json", f"{scan}.xml", f"{scan}.glb", f"connectivity/{scan}_connectivity.json"} <= names
    assert json.loads((tmp_path / "connectivity" / f"{scan}_connectivity.json").read_text())
    assert "viewpoints" in capsys.readouterr().out


def test_the_walk_visits_every_room_in_small_steps() -> None:
    house = generate(8, rooms=(4, 5))
    points, headings = route(house)
    assert len(points) == len(headings)
    assert np.linalg.norm(np.diff(points, axis=0), axis=1).max() < 0.15
    for room in house.rooms:
        (x0, y0), _, (x1, y1), _ = room.polygon
        inside = (points[:, 0] > x0) & (points[:, 0] < x1) & (points[:, 1] > y0) & (points[:, 1] < y1)
        assert inside.any(), room.name


def test_what_it_does_not_understand_it_says(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'show'"):
        main(["shwo"])
    with pytest.raises(ConfigError, match="did you mean 'seed'"):
        main(["show", "sead=3"])
    with pytest.raises(ConfigError, match="whole number"):
        main(["check", "houses=many"])
    with pytest.raises(ConfigError, match="Where to"):
        main(["export", "seed=1"])
    with pytest.raises(DataError, match="no such file"):
        main(["show", f"house={tmp_path / 'none.json'}"])
