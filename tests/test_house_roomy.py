"""Ways with room to the walls: where they run, how long they may be, and that the expert needs no sliding on them."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest
import shapely
from houses import flat

from wayhand.envs.house.generate import generate
from wayhand.envs.house.house import House
from wayhand.envs.house.navigation import HouseNavigation
from wayhand.envs.house.navmesh import NavMesh
from wayhand.envs.house.roomy import DETOUR, FINAL, RoomyWay, wider
from wayhand.envs.house.simulator import HouseSimulator
from wayhand.vla.errors import ConfigError

RADIUS, WIDE = 0.1, 0.15


@cache
def house(seed: int) -> House:
    return flat() if seed < 0 else generate(seed, "train", rooms=(2, 4))


@cache
def meshes(seed: int) -> tuple[NavMesh, NavMesh]:
    return NavMesh(house(seed), radius=RADIUS), NavMesh(house(seed), radius=WIDE)


def length(path: np.ndarray) -> float:
    return float(np.linalg.norm(np.diff(path, axis=0), axis=1).sum())


@pytest.mark.parametrize("seed", [-1, 0, 1, 2])
def test_the_way_keeps_room_is_free_and_leads_to_the_goal(seed: int) -> None:
    mesh, wide = meshes(seed)
    rng, kept = np.random.default_rng(0), 0
    for _ in range(25):
        start, goal = mesh.random_point(rng.random(3)), mesh.random_point(rng.random(3))
        way, shortest = RoomyWay(mesh, wide, [goal]), mesh.path(start, goal)
        path, roomy = way(start), wide.distance_field([goal]).distance(start)
        np.testing.assert_allclose(path[0], shortest[0])
        for a, b in zip(path[1:-1], path[2:], strict=True):
            assert mesh.straight(a, b)
        hidden = mesh.geodesic(wide.snap(goal), goal) >= FINAL
        if hidden or mesh.geodesic(start, goal) < FINAL or not roomy < DETOUR * length(shortest) + FINAL:
            np.testing.assert_array_equal(path, shortest)
            continue
        kept += 1
        for x, y, z in path[1:]:
            assert shapely.dwithin(wide.layers[wide.layer_of(z)].free, shapely.points(x, y), 1e-4)
        assert length(path) < DETOUR * length(shortest) + FINAL + 2 * WIDE
    assert kept > 10


def test_followed_again_and_again_it_ends_at_the_goal() -> None:
    """A body that goes 5 cm along what it is told, wherever it stands by then, arrives, and by no long detour."""
    mesh, wide = meshes(0)
    rng = np.random.default_rng(1)
    for _ in range(5):
        at, goal = mesh.random_point(rng.random(3)), mesh.random_point(rng.random(3))
        way, gone, most = RoomyWay(mesh, wide, [goal]), 0.0, DETOUR * mesh.geodesic(at, goal) + 2 * FINAL
        while mesh.geodesic(at, goal) > 0.1:
            path = way(at)
            apart = math.dist(path[0], path[1])
            share = min(1.0, 0.05 / apart) if apart > 1e-6 else 1.0
            before, at = at, mesh.try_step(at, path[0] + share * (path[1] - path[0]))[0]
            gone += max(math.dist(before, at), 1e-3)
            assert gone < most


def test_without_a_wider_body_it_is_the_shortest_way() -> None:
    mesh, _ = meshes(-1)
    start, goal = mesh.random_point((0.1, 0.2, 0.3)), mesh.random_point((0.9, 0.8, 0.7))
    np.testing.assert_array_equal(RoomyWay(mesh, None, [goal])(start), mesh.path(start, goal))
    houses = {flat().scan: flat()}
    simulator = HouseSimulator(houses)
    simulator.begin(flat().scan, start, 0.0, [goal])
    np.testing.assert_array_equal(simulator.path(goal), mesh.path(start, goal))
    assert wider(houses.__getitem__, radius=3.0, tall=1.5)(flat().scan) is None
    with pytest.raises(ConfigError, match="clearance"):
        HouseSimulator(houses, clearance=-0.1)


def test_the_expert_of_a_base_that_does_not_slide_arrives_on_it() -> None:
    env = HouseNavigation(
        houses=4, rooms=(2, 4), distance=(1.0, 4.0), sensors=(), continuous=True, sliding=False, success_radius=0.36,
        max_steps=200, clearance=0.05,
    )  # fmt: skip
    rng = np.random.default_rng(0)
    for seed in range(12):
        env.reset(seed=seed)
        over = False
        while not over:
            _, _, stopped, truncated, info = env.step(env.oracle(rng))
            over = stopped or truncated
        assert info["success"] and info["measures"]["collisions"] <= 3, (seed, info)
    env.close()
