"""Viewpoint graphs: connected, seen and walkable edges, the statistics of Matterport3D's, the same from any start."""

from __future__ import annotations

import numpy as np
import pytest
from houses import flat, tower

from wayhand.envs.house.generate import generate
from wayhand.envs.house.navmesh import NavMesh
from wayhand.envs.house.sight import Sight
from wayhand.envs.house.viewpoints import LONGEST, viewpoint_graph
from wayhand.vla.navigation import ViewpointGraph


@pytest.fixture(scope="module")
def graphs() -> list[ViewpointGraph]:
    return [viewpoint_graph(generate(seed, rooms=(3, 8))) for seed in range(10)]


@pytest.mark.parametrize("house", [flat(), tower()], ids=["flat", "tower"])
def test_edges_are_seen_and_walked_straight(house) -> None:  # type: ignore[no-untyped-def]
    mesh, sight = NavMesh(house), Sight(house)
    graph = viewpoint_graph(house, mesh)
    assert np.isfinite(graph.distances).all()
    feet = graph.positions - graph.height[:, None] * (0, 0, 1)
    for i, j in np.argwhere(np.triu(graph.adjacency)).tolist():
        assert graph.visible[i, j] and graph.lengths[i, j] <= LONGEST
        assert mesh.straight(feet[i], feet[j]) and mesh.is_free(feet[i])
        assert sight.sees(graph.positions[i], graph.positions[j]).all()
    rooms = {r.id for r in house.rooms if _inside(r.polygon, r.storey, feet, house.storey_height)}
    assert rooms == {r.id for r in house.rooms}


def _inside(polygon, storey: int, feet: np.ndarray, height: float) -> bool:  # type: ignore[no-untyped-def]
    low, high = np.min(polygon, 0), np.max(polygon, 0)
    return bool(((feet[:, :2] > low) & (feet[:, :2] < high)).all(1)[np.abs(feet[:, 2] - storey * height) < 0.1].any())


def test_poses_are_rotations_with_the_camera_level() -> None:
    graph = viewpoint_graph(flat())
    turn = graph.poses[:, :3, :3]
    np.testing.assert_allclose(turn @ np.swapaxes(turn, 1, 2), np.broadcast_to(np.eye(3), turn.shape), atol=1e-12)
    np.testing.assert_allclose(np.linalg.det(turn), 1)
    np.testing.assert_allclose(turn[:, 2, 1], -1)  # the image's y points down
    assert all(len(i) == 32 and int(i, 16) >= 0 for i in graph.ids)


def test_the_graph_follows_from_the_house() -> None:
    a, b = viewpoint_graph(tower()), viewpoint_graph(tower())
    assert a.ids == b.ids
    assert a.poses.tobytes() == b.poses.tobytes()
    assert np.array_equal(a.unobstructed, b.unobstructed) and np.array_equal(a.visible, b.visible)
    assert not set(a.ids) & set(viewpoint_graph(flat()).ids)


def test_walls_and_floors_block_the_view_and_windows_do_not() -> None:
    sight = Sight(flat())
    eye = np.array([[2.0, 2.05, 1.5]])
    assert sight.sees(eye, np.array([[7.0, 2.05, 1.5]])).all()  # through the door
    assert not sight.sees(eye, np.array([[7.0, 3.8, 1.5]])).any()  # the wall
    assert sight.sees(np.array([[2.6, 3.0, 1.5]]), np.array([[2.6, 6.0, 1.5]])).all()  # the window
    assert not Sight(tower()).sees(np.array([[3.0, 1.0, 1.5]]), np.array([[3.0, 1.0, 4.0]])).any()


def test_the_statistics_are_matterports(graphs: list[ViewpointGraph]) -> None:
    degree = np.concatenate([g.adjacency.sum(1) for g in graphs])
    lengths = np.concatenate([g.lengths[np.triu(g.adjacency)] for g in graphs])
    height = np.concatenate([g.height for g in graphs])
    assert all(np.isfinite(g.distances).all() for g in graphs)
    assert 3.7 <= degree.mean() <= 4.5 and degree.min() >= 1
    assert lengths.mean() == pytest.approx(2.27, abs=0.25)
    for share, wanted, near in ((0.05, 0.84, 0.25), (0.25, 1.46, 0.25), (0.5, 2.06, 0.25), (0.75, 2.92, 0.4)):
        assert np.quantile(lengths, share) == pytest.approx(wanted, abs=near)
    assert np.quantile(lengths, 0.95) == pytest.approx(4.31, abs=0.7)
    assert height.mean() == pytest.approx(1.5, abs=0.02)
