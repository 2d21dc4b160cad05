"""Laws of free space: who walks stays in it, distances are a metric, and both agree with brute force."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import shapely
from houses import flat, tower
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import dijkstra

from wayhand.envs.house.navmesh import NavMesh
from wayhand.envs.house.outline import polygons, rings, simplify
from wayhand.envs.house.voxels import CELL
from wayhand.vla.errors import WayhandError

FLAT, TOWER = NavMesh(flat()), NavMesh(tower())
EMPTY = NavMesh(replace(flat(), items=()))
MESHES = pytest.mark.parametrize("mesh", [FLAT, TOWER], ids=["flat", "tower"])
unit = st.floats(0, 1, exclude_max=True)
place = st.tuples(unit, unit, unit)
quick = settings(max_examples=30, deadline=None)


def length(path: np.ndarray) -> float:
    return float(np.linalg.norm(np.diff(path, axis=0), axis=1).sum())


# --- places ----------------------------------------------------------------------------------------------------


@MESHES
@quick
@given(u=place)
def test_random_points_are_free_and_snap_to_themselves(mesh: NavMesh, u: tuple[float, float, float]) -> None:
    point = mesh.random_point(u)
    assert mesh.is_free(point) and mesh.island(point) == 0
    assert mesh.snap(point) == pytest.approx(point, abs=1e-5)


def test_the_free_floor_of_an_empty_room_is_the_room_without_the_radius() -> None:
    # Walls end within a cell of the grid, and whole cells are taken away.
    for x, y, wanted in ((-1.0, 3.5, 0.1), (2.5, 9.0, 3.9)):
        at = EMPTY.snap((x, y, 0.0))
        got = at[0] if x < 0 else at[1]
        assert wanted - 0.05 - 1e-6 <= (got if x < 0 else 2 * wanted - got) <= wanted + 0.1 + 1e-6
    assert not EMPTY.is_free((-1.0, 3.5, 0.0)) and EMPTY.is_free((2.5, 2.0, 0.0))
    assert len(EMPTY.islands) == 1


def test_doors_and_furniture_decide_what_is_free() -> None:
    assert FLAT.is_free((5.08, 2.05, 0.0))  # in the doorway
    assert not FLAT.is_free((5.08, 3.5, 0.0))  # in the wall beside it
    assert not FLAT.is_free((1.2, 3.5, 0.0))  # in the sofa
    assert not FLAT.is_free((3.4, 1.2, 0.0))  # under the table
    assert EMPTY.is_free((1.2, 3.5, 0.0)) and EMPTY.is_free((3.4, 1.2, 0.0))


@pytest.mark.parametrize("house", [flat(), tower()], ids=["flat", "tower"])
def test_a_wider_body_has_less_room(house) -> None:  # type: ignore[no-untyped-def]
    areas = [sum(NavMesh(house, radius=r).islands) for r in (0.05, 0.1, 0.2)]
    assert areas[0] > areas[1] > areas[2]


def test_the_same_house_gives_the_same_free_space() -> None:
    again = NavMesh(flat())
    for a, b in zip(FLAT.layers, again.layers, strict=True):
        assert shapely.to_wkb(a.free) == shapely.to_wkb(b.free)
    assert FLAT.geodesic((1, 1, 0), (7, 1, 0)) == again.geodesic((1, 1, 0), (7, 1, 0))


def test_a_house_without_floor_is_an_error() -> None:
    with pytest.raises(WayhandError, match="no walkable floor"):
        NavMesh(flat(), radius=3.0)


# --- outlines --------------------------------------------------------------------------------------------------


@quick
@given(seed=st.integers(0, 2**32 - 1))
def test_outlines_enclose_their_cells(seed: int) -> None:
    cells = np.random.default_rng(seed).random((12, 15)) < 0.7
    area = 0.0
    for ring in rings(cells):
        r, c = ring.T
        area += 0.5 * float(np.sum(r * np.roll(c, -1) - np.roll(r, -1) * c))
        assert (np.abs(np.diff(ring, axis=0)).sum(1) == 1).all()
        kept = simplify(ring)
        line = shapely.LinearRing(kept) if len(kept) > 2 else shapely.LineString(kept)
        assert shapely.distance(line, shapely.points(ring.astype(float))).max() <= 1.3 + 1e-9
    assert area == cells.sum()


def test_a_rectangle_of_cells_is_that_rectangle() -> None:
    cells = np.zeros((40, 30), bool)
    cells[5:35, 10:25] = True
    (found,) = polygons(cells, 1.0, 2.0, CELL)
    assert found.equals_exact(shapely.box(1.5, 0.25, 2.25, 1.75).normalize(), 1e-9) or found.symmetric_difference(
        shapely.box(1.5, 0.25, 2.25, 1.75)
    ).area == pytest.approx(0, abs=1e-9)


# --- motion ----------------------------------------------------------------------------------------------------


@MESHES
@quick
@given(u=place, heading=st.floats(0, 2 * math.pi), step=st.floats(0.01, 0.5), sliding=st.booleans())
def test_a_step_ends_in_free_space_and_goes_through_no_wall(
    mesh: NavMesh, u: tuple[float, float, float], heading: float, step: float, sliding: bool
) -> None:
    at = mesh.random_point(u)
    for _ in range(4):
        to = (at[0] + step * math.sin(heading), at[1] + step * math.cos(heading), at[2])
        end, collided = mesh.try_step(at, to, sliding)
        assert mesh.is_free(end)
        assert mesh.geodesic(at, end) <= 2.2 * step + 0.01
        short = math.dist(end[:2], at[:2]) ** 2 + 1e-5 < step**2
        assert collided == short or step > 0.5
        at = end


@MESHES
@quick
@given(u=place, heading=st.floats(0, 2 * math.pi))
def test_sliding_comes_at_least_as_near(mesh: NavMesh, u: tuple[float, float, float], heading: float) -> None:
    at = mesh.random_point(u)
    for _ in range(6):
        to = (at[0] + 0.25 * math.sin(heading), at[1] + 0.25 * math.cos(heading), at[2])
        slid, stopped = mesh.try_step(at, to, True)[0], mesh.try_step(at, to, False)[0]
        assert math.dist(slid[:2], to[:2]) <= math.dist(stopped[:2], to[:2]) + 1e-5
        at = slid


def test_free_motion_is_exact_and_walls_take_away_what_goes_into_them() -> None:
    end, collided = EMPTY.try_step((2.0, 2.0, 0.0), (2.2, 2.1, 0.0))
    assert end == pytest.approx((2.2, 2.1, 0.0), abs=1e-12) and not collided
    wall = EMPTY.snap((-1.0, 3.0, 0.0))
    to = (wall[0] - 0.1, wall[1] + 0.2, 0.0)
    end, collided = EMPTY.try_step(wall, to, True)
    assert end == pytest.approx((wall[0], wall[1] + 0.2, 0.0), abs=1e-4) and collided
    end, collided = EMPTY.try_step(wall, to, False)
    assert end == pytest.approx(wall, abs=1e-4) and collided


def test_stairs_are_climbed_step_by_step_and_only_there() -> None:
    at, heights = (0.3, 3.5, 0.0), []
    for _ in range(25):
        at, _ = TOWER.try_step(at, (at[0] + 0.25, at[1], at[2]))
        heights.append(at[2])
    assert at[2] == pytest.approx(2.9) and at[0] > 5.0
    assert all(b - a > -1e-9 for a, b in itertools.pairwise(heights))
    beside, _ = TOWER.try_step((3.0, 2.5, 0.0), (3.0, 3.1, 0.0))
    assert beside[2] == 0.0 and beside[1] < 3.0


# --- distances -------------------------------------------------------------------------------------------------


@MESHES
@quick
@given(u=place, v=place, w=place)
def test_distances_are_a_metric(mesh: NavMesh, u, v, w) -> None:  # type: ignore[no-untyped-def]
    a, b, c = (mesh.random_point(x) for x in (u, v, w))
    ab, bc, ac = mesh.geodesic(a, b), mesh.geodesic(b, c), mesh.geodesic(a, c)
    assert ab == pytest.approx(mesh.geodesic(b, a), abs=1e-6)
    assert mesh.geodesic(a, a) == pytest.approx(0, abs=1e-9)
    assert ab >= math.dist(a, b) - 1e-6
    assert ac <= ab + bc + 1e-3  # stairs are entered at points 5 cm apart


@MESHES
@quick
@given(u=place, v=place)
def test_a_path_is_free_and_as_long_as_the_distance(mesh: NavMesh, u, v) -> None:  # type: ignore[no-untyped-def]
    a, b = mesh.random_point(u), mesh.random_point(v)
    path = mesh.path(a, b)
    assert path[0] == pytest.approx(a, abs=1e-5) and path[-1] == pytest.approx(b, abs=1e-5)
    assert length(path) == pytest.approx(mesh.geodesic(a, b), abs=1e-6)
    for p, q in itertools.pairwise(path.tolist()):
        assert all(mesh.is_free([x + s * (y - x) for x, y in zip(p, q, strict=True)]) for s in (0.25, 0.5, 0.75))


@quick
@given(u=place, v=place, w=place)
def test_a_field_is_the_distance_to_the_nearest_goal(u, v, w) -> None:  # type: ignore[no-untyped-def]
    a, b, c = (FLAT.random_point(x) for x in (u, v, w))
    field = FLAT.distance_field((b, c))
    assert field.distance(a) == pytest.approx(min(FLAT.geodesic(a, b), FLAT.geodesic(a, c)), abs=1e-9)
    assert length(field.path(a)) == pytest.approx(field.distance(a), abs=1e-6)


@quick
@given(u=place, v=place)
def test_in_an_empty_room_the_way_is_straight(u, v) -> None:  # type: ignore[no-untyped-def]
    a, b = EMPTY.random_point(u), EMPTY.random_point(v)
    if max(a[0], b[0]) < 4.8 or min(a[0], b[0]) > 5.4:
        assert EMPTY.geodesic(a, b) == pytest.approx(math.dist(a, b), abs=2e-3)


def test_distances_agree_with_dijkstra_on_the_cells() -> None:
    cells = FLAT.layers[0].cells
    number = np.where(cells, np.cumsum(cells).reshape(cells.shape) - 1, -1)
    rows, cols, costs = [], [], []
    steps = [(0, 1), (1, 0), (1, 1), (1, -1), (1, 2), (2, 1), (1, -2), (2, -1)]
    for dr, dc in steps:
        for r, c in np.argwhere(cells).tolist():
            p, q = r + dr, c + dc
            inner = [
                (r + (dr > 1), c + (abs(dc) > 1) * int(np.sign(dc))),
                (p - (dr > 1), q - (abs(dc) > 1) * int(np.sign(dc))),
            ]
            if 0 <= p < cells.shape[0] and 0 <= q < cells.shape[1] and cells[p, q] and all(cells[i] for i in inner):
                rows.append(number[r, c])
                cols.append(number[p, q])
                costs.append(CELL * math.hypot(dr, dc))
    n = int(cells.sum())
    table = dijkstra(coo_matrix((costs, (rows, cols)), shape=(n, n)).tocsr(), directed=False, indices=[0, n // 2])
    where = np.argwhere(cells)
    pick = np.random.default_rng(0).choice(n, 60, replace=False)
    for source, reach in zip((0, n // 2), table, strict=True):
        field = FLAT.distance_field([(*FLAT.grid.corner(*(where[source] + 0.5)), 0.0)])
        for k in pick:
            exact = field.distance((*FLAT.grid.corner(*(where[k] + 0.5)), 0.0))
            # Sixteen directions are up to 2.8 % longer than straight, and outlines cut corners by up to 1.3 cells.
            assert exact - 0.05 <= reach[k] <= 1.028 * exact + 0.15


def test_stairs_count_with_their_slope() -> None:
    low, high = (0.4, 3.5, 0.0), (5.2, 3.5, 2.9)
    assert TOWER.geodesic(low, high) == pytest.approx(0.4 + math.hypot(4.0, 2.9) + 0.4, abs=0.02)
    assert len(TOWER.islands) == 1
