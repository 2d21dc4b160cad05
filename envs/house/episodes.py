"""Navigation episodes in procedural houses, each from its number alone."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np
import shapely

from ...vla.errors import ConfigError
from ...vla.navigation import Goal, NavEpisode, ViewpointGraph
from .dice import Dice
from .generate import SPLITS, generate
from .house import House, Item, Solid
from .instructions import make_episodes
from .navmesh import NavMesh, Vector
from .roomy import wider
from .scene_graph import SceneGraph
from .sight import Sight
from .viewpoints import viewpoint_graph
from .voxels import footprint

CATEGORIES = (
    "chair",
    "sofa",
    "double_bed",
    "toilet",
    "plant",
    "tv",
    "fridge",
    "desk",
    "bookshelf",
    "kitchen_sink",
    "bathtub",
    "washing_machine",
)
"""What ObjectNav asks for; an episode asks for one that its house has."""
NEAR = 1.0
"""From how far an object counts as found [m]."""
EYE = 1.25
"""Height from which objects are looked for [m]."""
_EVERY = 3
_KEPT = 64
_TRIES = 200


class HouseEpisodes:
    """Houses of a split, and episodes in them.

    Args:
        task: `"pointnav"`, `"objectnav"` or `"vln"`.
        houses: how many houses a split has; episode n is in house n mod `houses`.
        radius, tall: of the body [m].
        rooms: fewest and most rooms of a house.
        distance: least and most geodesic distance from start to goal [m].
        clearance: of PointNav, how much wider a body could still go from near the start to the goal [m].
    """

    def __init__(
        self,
        task: str,
        *,
        houses: int = 1000,
        radius: float = 0.1,
        tall: float = 1.5,
        rooms: tuple[int, int] = (2, 10),
        distance: tuple[float, float] = (2.0, 30.0),
        clearance: float = 0.0,
    ) -> None:
        if houses < 1:
            raise ConfigError("'houses' is too small", expected="at least 1", got=str(houses))
        self._task, self._count, self._rooms, self._distance = task, houses, rooms, distance
        self._radius, self._tall, self._clearance = radius, tall, clearance
        self._houses: OrderedDict[tuple[str, int], House] = OrderedDict()
        self._by_scan: dict[str, House] = {}
        self._worlds: OrderedDict[str, _World] = OrderedDict()

    def house(self, scan: str) -> House:
        """A house that an episode has named lately."""
        if scan not in self._by_scan:
            raise ConfigError("No episode has named this house", got=scan, exists=sorted(self._by_scan))
        return self._by_scan[scan]

    def mesh(self, scan: str) -> NavMesh:
        """The free space of such a house."""
        return self._world(self.house(scan)).mesh

    def roomy(self, scan: str) -> NavMesh | None:
        """The free space of a body that is wider by the clearance; None where it has none."""
        return self._world(self.house(scan)).roomy

    def __call__(self, number: int, split: str) -> NavEpisode:
        """Episode `number` of a split: `"seen"` for the training houses, or a split of the generator.

        Houses in which no episode fits are passed over for the next.
        """
        pool = "train" if split == "seen" else split
        if pool not in SPLITS:
            raise ConfigError("Unknown split", got=split, exists=("seen", *SPLITS))
        for shift in range(_TRIES):
            house = self._house(pool, (number + shift) % self._count)
            dice = Dice(f"{self._task} {pool} {number} {shift}")
            episode = {"pointnav": self._point, "objectnav": self._object, "vln": self._told}[self._task](house, dice)
            if episode is not None:
                return replace(episode, id=f"{self._task}-{pool}-{number}")
        raise ConfigError("No house has such an episode", expected=f"a distance of {self._distance} m")

    def _house(self, split: str, seed: int) -> House:
        house = self._houses.get((split, seed))
        if house is None:
            house = self._houses[split, seed] = generate(seed, split, rooms=self._rooms)
            self._by_scan[house.scan] = house
            if len(self._houses) > _KEPT:
                _, old = self._houses.popitem(last=False)
                self._by_scan.pop(old.scan, None)
        self._houses.move_to_end((split, seed))
        return house

    def _world(self, house: House) -> _World:
        world = self._worlds.get(house.scan)
        if world is None:
            world = self._worlds[house.scan] = _World(house, self._radius, self._tall, self._clearance)
            if len(self._worlds) > _KEPT:
                self._worlds.popitem(last=False)
        self._worlds.move_to_end(house.scan)
        return world

    def _start(self, mesh: NavMesh, goals: Sequence[Vector], dice: Dice) -> tuple[Vector, float] | None:
        """A free point at a fitting distance from the goals, and that distance."""
        field = mesh.distance_field(goals)
        for _ in range(20):
            start = mesh.random_point([dice.real(0, 1) for _ in range(3)])
            distance = field.distance(start)
            if self._distance[0] <= distance <= self._distance[1]:
                return start, distance
        return None

    def _point(self, house: House, dice: Dice) -> NavEpisode | None:
        mesh, roomy = self._world(house).mesh, self._world(house).roomy
        if roomy is None:
            return None
        goal = roomy.random_point([dice.real(0, 1) for _ in range(3)])
        found = self._start(mesh, (goal,), dice)
        if found is None:
            return None
        start, distance = found
        if roomy is not mesh:
            nearest = roomy.snap(start)
            if not mesh.straight(start, nearest) or not math.isfinite(roomy.geodesic(nearest, goal)):
                return None
        heading = dice.real(0, 2 * math.pi)
        return NavEpisode("", house.scan, heading=heading, start=start, goals=(Goal(goal),), distance=distance)

    def _object(self, house: House, dice: Dice) -> NavEpisode | None:
        world = self._world(house)
        there = [c for c in CATEGORIES if any(i.category == c for i in house.items)]
        for category in dice.shuffled(there):
            items = [i for i in house.items if i.category == category]
            goals = tuple(
                Goal(i.position, object_id=str(i.id), category=category, viewpoints=points)
                for i in items
                if (points := world.view_points(i))
            )
            found = self._start(world.mesh, [p for g in goals for p in g.viewpoints], dice) if goals else None
            if found is not None:
                start, distance = found
                heading = dice.real(0, 2 * math.pi)
                return NavEpisode("", house.scan, heading=heading, start=start, goals=goals, distance=distance)
        return None

    def _told(self, house: House, dice: Dice) -> NavEpisode | None:
        world = self._world(house)
        for told in make_episodes(house, world.graph, dice.below(10**6), 1, paraphrases=1, scene=world.scene):
            floor = tuple(world.floor_point(v) for v in told.path)
            return replace(
                told,
                start=floor[0],
                reference=floor,
                goals=(Goal(floor[-1]),),
                distance=world.mesh.geodesic(floor[0], floor[-1]),
            )
        return None


class _World:
    """What episodes need to know of a house."""

    def __init__(self, house: House, radius: float, tall: float, clearance: float) -> None:
        self.house, self.mesh = house, NavMesh(house, radius=radius, height=tall)
        self.roomy: NavMesh | None = self.mesh
        if clearance:
            self.roomy = wider(lambda _: house, radius=radius + clearance, tall=tall)(house.scan)
        self._sight: Sight | None = None
        self._views: dict[int, tuple[Vector, ...]] = {}

    @cached_property
    def graph(self) -> ViewpointGraph:
        return viewpoint_graph(self.house)

    @cached_property
    def scene(self) -> SceneGraph:
        return SceneGraph(self.house, self.graph)

    def floor_point(self, viewpoint: str) -> Vector:
        """Below a viewpoint, moved to where this body can be."""
        row = self.graph.index(viewpoint)
        x, y, z = self.graph.positions[row]
        return self.mesh.snap((float(x), float(y), float(z - self.graph.height[row])))

    def view_points(self, item: Item) -> tuple[Vector, ...]:
        """Floor points within a metre of an item from which its upper end is seen, about 0.15 m apart."""
        if item.id not in self._views:
            self._views[item.id] = self._look_around(item)
        return self._views[item.id]

    def _look_around(self, item: Item) -> tuple[Vector, ...]:
        x, y, z = item.position
        width, depth, height = item.size
        around = Solid("box", (x, y, z), (width / 2, depth / 2, height / 2), item.yaw, "", 0, "item")
        outline = shapely.Polygon(footprint(around))
        mesh, storey = self.mesh, self.house.rooms[item.room].storey
        k = mesh.layer_of(storey * self.house.storey_height)
        layers, cells = mesh.samples
        own = cells[(layers == k) & (cells % _EVERY == 0).all(1)]
        plan = np.array([mesh.grid.corner(r + 0.5, c + 0.5) for r, c in own.tolist()]).reshape(-1, 2)
        plan = plan[shapely.distance(outline, shapely.points(plan)) <= NEAR]
        if not len(plan):
            return ()
        floor = mesh.layers[k].floor
        # What is looked at is just outside of the face that is nearest: the item itself hides its middle.
        near = shapely.get_coordinates(shapely.shortest_line(outline, shapely.points(plan))).reshape(-1, 2, 2)[:, 0]
        away = plan - near
        near = near + 0.03 * away / np.maximum(np.linalg.norm(away, axis=1, keepdims=True), 1e-9)
        eyes = np.column_stack([plan, np.full(len(plan), floor + EYE)])
        if self._sight is None:
            self._sight = Sight(self.house)
        seen = self._sight.sees(eyes, np.column_stack([near, np.full(len(plan), z + 0.9 * height)]))
        return tuple((round(float(a), 3), round(float(b), 3), floor) for a, b in plan[seen])
