"""Regions part the walkable cells as Recast's watershed does: whole, connected, one a room."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from wayhand.envs.house.outline import polygons
from wayhand.envs.house.regions import regions


def rooms(door: int) -> np.ndarray:
    """Two rooms of 40 × 40 cells, joined by a door of so many cells."""
    cells = np.zeros((44, 90), bool)
    cells[2:42, 2:42] = cells[2:42, 46:86] = True
    cells[20 : 20 + door, 42:46] = True
    return cells


def test_a_door_parts_two_rooms_and_a_wide_passage_does_not_part_one() -> None:
    found = regions(rooms(8))
    assert found[20, 10] != found[20, 80] and found.max() == 2
    assert regions(np.pad(np.ones((30, 30), bool), 2)).max() == 1


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6))
def test_every_cell_has_one_connected_region(seed: int) -> None:
    rng = np.random.default_rng(seed)
    cells = ndimage.binary_opening(rng.random((48, 48)) > 0.3 * rng.random(), iterations=2)
    found = regions(cells)
    assert np.array_equal(found > 0, cells)
    for k in np.unique(found[cells]):
        assert ndimage.label(found == k)[1] == 1


def test_outlines_keep_the_corners_where_regions_meet() -> None:
    (free,) = polygons(rooms(8), 0.0, 0.0, 0.05)
    assert abs(free.area - rooms(8).sum() * 0.05**2) < 1e-9
