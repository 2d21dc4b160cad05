"""A laser scanner on the body: what it measures is where a point would be stopped, and it is part of the state."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import shapely
from houses import flat, tower

from wayhand.envs.house.house import House
from wayhand.envs.house.lidar import POINT, Lidar
from wayhand.envs.house.navigation import HouseNavigation
from wayhand.envs.house.navmesh import GROWN, NavMesh
from wayhand.envs.navigation_state import NavState
from wayhand.vla.errors import ConfigError

HOUSES: dict[str, House] = {h.scan: h for h in (flat(), tower())}


@pytest.mark.parametrize("scan", HOUSES)
def test_a_beam_ends_where_a_point_is_stopped(scan: str) -> None:
    mesh, rng = NavMesh(HOUSES[scan], radius=POINT), np.random.default_rng(0)
    lidar = Lidar(HOUSES.__getitem__, beams=16, reach=3.0, tall=1.5)
    ended = 0
    for _ in range(20):
        at, heading = mesh.random_point(rng.random(3)), float(rng.uniform(0, 2 * math.pi))
        free = mesh.layers[mesh.layer_of(at[2])].free
        for k, length in enumerate(lidar(scan, NavState(at, heading, 0.0, False, 0.0))):
            angle = heading - k * 2 * math.pi / 16  # clockwise from +y
            x, y = at[0] + length * math.sin(angle), at[1] + length * math.cos(angle)
            beam = shapely.linestrings([[at[0], at[1]], [x, y]])
            assert shapely.contains(shapely.buffer(free, 3 * GROWN), beam)
            assert length == 3.0 or shapely.distance(shapely.boundary(free), shapely.points(x, y)) < 3 * GROWN
            ended += length < 3.0
    assert ended > 50


def test_the_ring_turns_with_the_body() -> None:
    house, lidar = flat(), Lidar(HOUSES.__getitem__, beams=12, reach=2.0, tall=1.5)
    at = NavMesh(house, radius=0.2).random_point((0.3, 0.5, 0.7))
    state = NavState(at, 0.4, 0.0, False, 0.0)
    first, turned = lidar(house.scan, state), lidar(house.scan, replace(state, heading=0.4 - 2 * math.pi / 12))
    np.testing.assert_allclose(turned, np.roll(first, -1), atol=1e-9)


def test_distances_are_part_of_the_state() -> None:
    env = HouseNavigation(houses=1, rooms=(2, 2), sensors=(), continuous=True, goal_in_state=True, lidar=8)
    nested, _ = env.reset(seed=0)
    assert [e.name for e in env.body.state][-8:] == [f"range_{k:03d}" for k in range(8)]
    assert env.observation_space.contains(nested)
    np.testing.assert_allclose(nested["state"][-8:], env.measure(env.state), rtol=1e-6)
    again = env.observation(env.state, 0.0, env.measure(env.state))
    np.testing.assert_array_equal(again["state"], nested["state"])
    with pytest.raises(ConfigError, match="beams"):
        HouseNavigation(sensors=(), lidar=-1)
    env.close()
