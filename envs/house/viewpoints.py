"""Where panoramas would be taken in a house, and the graph that joins them, with Matterport3D's statistics.

In the 90 buildings of Matterport3D (Chang et al. 2017; the graphs of Anderson et al. 2018) a viewpoint has 4.06
neighbours in the mean, an edge is 2.27 m long (median 2.06 m, 5 % below 0.84 m, 5 % above 4.31 m) and the camera
stands 1.50 m above the floor. The chances below are fitted to that.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import shapely
from scipy.sparse.csgraph import connected_components, minimum_spanning_tree

from ...vla.navigation import NavigationError, ViewpointGraph
from .dice import Dice
from .house import House
from .navmesh import NavMesh, Vector
from .sight import Sight

CAMERA_HEIGHT = 1.5
"""Mean height of the camera above the floor [m]."""
LONGEST = 5.5
"""No edge is longer [m]."""
_COMFORT = 0.12
"""How much farther from walls than the agent's centre must be a viewpoint is placed where there is room [m]."""
_LEAST, _MOST = 0.8, 2.4
_DOOR = 0.7
_ROUNDS, _SPOTS = 200, 250


def viewpoint_graph(house: House, mesh: NavMesh | None = None) -> ViewpointGraph:
    """The viewpoint graph of a house; follows from its description alone.

    Viewpoints stand in every room, in doorways and on stairs. Two are joined where each sees the other at camera
    height and the straight way is walkable; the graph is connected. A pose is camera to world with the camera's x to
    the right, y down and z forward, as Matterport's files have it.

    Args:
        mesh: the house's free space for an agent of 0.1 m radius, computed where it is not given.
    """
    mesh = NavMesh(house) if mesh is None else mesh
    dice = Dice(f"viewpoints {house.digest}")
    spots = _candidates(mesh, dice)
    places = _places(house, mesh, dice, spots)
    heights = [round(CAMERA_HEIGHT + 0.06 * (dice.real(-1, 1) + dice.real(-1, 1)), 3) for _ in places]
    build = _Edges(house, mesh, spots)
    for _ in range(_ROUNDS):
        joined, visible = build.edges(places, heights)
        count, label = connected_components(joined, directed=False)
        if count == 1:
            break
        missing = build.bridge(places, heights, label) or _along_path(mesh, places, label)
        places += missing
        heights += [CAMERA_HEIGHT] * len(missing)
    else:
        raise NavigationError(f"The viewpoints of house '{house.scan}' cannot be joined")
    ids = tuple(
        hashlib.sha256(f"{house.digest} {x:.3f} {y:.3f} {z:.3f}".encode()).hexdigest()[:32] for x, y, z in places
    )
    poses = np.stack([_pose(p, h, dice.real(0, 2 * math.pi)) for p, h in zip(places, heights, strict=True)])
    return ViewpointGraph(house.scan, ids, poses, np.array(heights), np.ones(len(ids), bool), visible, joined)


def _pose(place: Vector, height: float, heading: float) -> np.ndarray:
    s, c = math.sin(heading), math.cos(heading)
    pose = np.eye(4)
    pose[:3, 0], pose[:3, 1], pose[:3, 2] = (c, -s, 0.0), (0.0, 0.0, -1.0), (s, c, 0.0)
    pose[:3, 3] = place[0], place[1], place[2] + height
    return pose


def _places(house: House, mesh: NavMesh, dice: Dice, spots: Sequence[tuple[int, float, float]]) -> list[Vector]:
    """Doorways and stairs first, then darts; each keeps later ones out of a circle of its own size."""
    places: list[Vector] = []
    sizes: list[float] = []

    def add(x: float, y: float, z: float, *, beside: bool = False) -> None:
        """`beside`: where others may be near, as on stairs and in doorways."""
        for (px, py, pz), size in zip(places, sizes, strict=True):
            if abs(pz - z) < 1.0 and math.hypot(px - x, py - y) < (_DOOR if beside else size):
                return
        if mesh.is_free((x, y, z)) and mesh.island((x, y, z)) == 0:
            places.append((round(x, 3), round(y, 3), z))
            sizes.append(_DOOR if beside else dice.real(_LEAST, _MOST))

    for flight in house.stairs:
        a, b = np.array(flight.start), np.array(flight.end)
        along = (b - a) / np.linalg.norm(b - a)
        for share, (x, y) in ((0.0, a - 0.5 * along), (0.5, (a + b) / 2), (1.0, b + 0.5 * along)):
            add(float(x), float(y), flight.bottom + share * (flight.top - flight.bottom), beside=True)
    for opening in house.openings:
        if opening.kind != "window" and None not in opening.rooms:
            x, y = ((opening.start[i] + opening.end[i]) / 2 for i in (0, 1))
            storey = house.rooms[opening.rooms[0] or 0].storey
            add(x, y, storey * house.storey_height, beside=True)
    for k, x, y in spots:
        add(x, y, mesh.layers[k].floor)
    return places


def _candidates(mesh: NavMesh, dice: Dice) -> list[tuple[int, float, float]]:
    """Layer, x and y of free places with some room around them, in random order."""
    layers, cells = mesh.samples
    roomy: list[tuple[int, float, float]] = []
    for k, layer in enumerate(mesh.layers):
        own = cells[layers == k][::2]
        x = mesh.grid.west + (own[:, 1] + 0.5) * (mesh.grid.corner(0, 1)[0] - mesh.grid.corner(0, 0)[0])
        y = mesh.grid.north - (own[:, 0] + 0.5) * (mesh.grid.corner(0, 0)[1] - mesh.grid.corner(1, 0)[1])
        inner = shapely.buffer(layer.free, -_COMFORT)
        keep = shapely.contains_xy(inner, x, y)
        roomy += [(k, float(a), float(b)) for a, b in zip(x[keep], y[keep], strict=True)]
    return dice.shuffled(roomy)


def _along_path(mesh: NavMesh, places: Sequence[Vector], label: np.ndarray) -> list[Vector]:
    """Places on the shortest path between the two nearest viewpoints of different parts."""
    points = np.array(places)
    first = label == label[0]
    apart = np.linalg.norm(points[first][:, None] - points[~first][None], axis=-1)
    order = np.argsort(apart, axis=None)[:8]
    pairs = [tuple(int(v) for v in np.unravel_index(o, apart.shape)) for o in order]
    paths = [mesh.path(points[first][i], points[~first][j]) for i, j in pairs]
    lengths = [float(np.linalg.norm(np.diff(p, axis=0), axis=1).sum()) if len(p) else math.inf for p in paths]
    path = paths[int(np.argmin(lengths))]
    if not len(path):
        raise NavigationError(f"The viewpoints of house '{mesh.scan}' are not on one floor")
    inner = [path[1:-1], *([(a + b) / 2] for a, b in pairwise(path))]
    # Corners are at the very edge of free space, where a millimetre would hide the next one.
    new = [(round(float(x), 7), round(float(y), 7), float(z)) for part in inner for x, y, z in part]
    return [p for p in dict.fromkeys(new) if all(math.dist(p, q) > 0.02 for q in places)]


class _Edges:
    """Chooses edges: those that hold the graph together, and of the others short ones more often than long ones."""

    def __init__(self, house: House, mesh: NavMesh, spots: Sequence[tuple[int, float, float]]) -> None:
        self._mesh, self._sight, self._seed, self._spots = mesh, Sight(house), house.digest, spots

    def edges(self, places: Sequence[Vector], heights: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
        """`unobstructed` and `visible`, bool [N N]."""
        n = len(places)
        points = np.array(places)
        eyes = points + np.array(heights)[:, None] * (0.0, 0.0, 1.0)
        i, j = np.triu_indices(n, 1)
        sees = self._sight.sees(eyes[i], eyes[j])
        visible = np.eye(n, dtype=bool)
        visible[i[sees], j[sees]] = visible[j[sees], i[sees]] = True
        apart = np.linalg.norm(eyes[:, None] - eyes[None], axis=-1)
        walk = np.zeros((n, n))
        for a, b in zip(i[sees].tolist(), j[sees].tolist(), strict=True):
            if apart[a, b] <= LONGEST and self._mesh.straight(places[a], places[b]):
                walk[a, b] = apart[a, b]
        joined = np.asarray(minimum_spanning_tree(walk).todense()) > 0
        for a, b in np.argwhere(walk > 0).tolist():
            joined[a, b] |= self._chance(places[a], places[b]) < _keep(float(walk[a, b]))
        return joined | joined.T, visible

    def bridge(self, places: Sequence[Vector], heights: Sequence[float], label: np.ndarray) -> list[Vector]:
        """The place that joins most parts of the graph, of those the loneliest; none where no place joins two."""
        best, found = 1.0, []
        at, up = np.array(places), np.array(heights)[:, None] * (0.0, 0.0, 1.0)
        for k, layer in enumerate(self._mesh.layers):
            spots = np.array([(x, y) for storey, x, y in self._spots if storey == k][:_SPOTS])
            rows = np.flatnonzero(np.abs(at[:, 2] - layer.floor) < 0.1)
            if not len(spots) or len(set(label[rows].tolist())) < 2:
                continue
            i, j = (v.ravel() for v in np.meshgrid(np.arange(len(spots)), rows, indexing="ij"))
            apart = np.linalg.norm(spots[i] - at[j, :2], axis=-1)
            lonely = apart.reshape(len(spots), len(rows)).min(1)
            near = apart <= LONGEST
            i, j = i[near], j[near]
            ok = self._mesh.straight_in(k, spots[i], at[j, :2])
            i, j = i[ok], j[ok]
            eyes = np.column_stack([spots[i], np.full(len(i), layer.floor + CAMERA_HEIGHT)])
            ok = self._sight.sees(eyes, at[j] + up[j])
            reached = np.zeros((len(spots), int(label.max()) + 1), bool)
            reached[i[ok], label[j[ok]]] = True
            worth = np.where((reached.sum(1) > 1) & (lonely > 0.02), reached.sum(1) + np.minimum(lonely, 1.0), 0.0)
            if worth.max() > best:
                best = float(worth.max())
                x, y = spots[int(worth.argmax())]
                found = [(round(float(x), 3), round(float(y), 3), layer.floor)]
        return found

    def _chance(self, a: Vector, b: Vector) -> float:
        # Of the pair alone, so that a viewpoint added later leaves the other edges as they are.
        return int(hashlib.sha256(f"{self._seed} {a} {b}".encode()).hexdigest()[:8], 16) / 2**32


def _keep(length: float) -> float:
    """Chance of an edge that is not needed for the graph to be connected."""
    return min(1.0, max(0.05, 1.6 - 0.17 * length))
