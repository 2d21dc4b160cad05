"""What can be said of a house from its viewpoints: what is seen, on which side, what one walks past and into."""

from __future__ import annotations

import math
from functools import cached_property

import numpy as np

from ...vla.navigation import ViewpointGraph
from .house import House, Opening
from .program import Place, Thing
from .sight import Sight

NEVER = frozenset({"ceiling_lamp", "railing"})
"""Categories that nobody navigates by."""
SIGHT = 7.0
"""A landmark is told of from at most this far [m]."""
APPARENT = 0.06
"""A landmark covers at least this angle [rad], about 20 pixels in a picture of 480 pixels and 80 degrees."""
AHEAD = math.radians(30)
IMPLIED = math.radians(110)
"""Smaller turns go without saying where the room or the thing they lead to is named."""


def wrap(angle: float) -> float:
    """The same angle in (−π, π]."""
    return math.pi - (math.pi - angle) % (2 * math.pi)


class SceneGraph:
    """A house with its viewpoint graph, and the relations between both. Rows of arrays are viewpoints and items.

    `room` is int [N], the room of each viewpoint, −1 in doorways and on stairs: there a walker still belongs to the
    room it came from. Distances are horizontal, in metres.
    """

    def __init__(self, house: House, graph: ViewpointGraph) -> None:
        self.house, self.graph = house, graph
        self.eye = graph.positions
        self.floor = graph.positions - np.stack([np.zeros(len(graph.ids))] * 2 + [graph.height], -1)
        self.room = np.array([self._room_at(p) for p in self.floor], int).reshape(-1)
        self.neighbours = [[int(j) for j in np.flatnonzero(row)] for row in graph.adjacency]
        apart = self.floor[None, :, :2] - self.floor[:, None, :2]
        self._heading = np.arctan2(apart[..., 0], apart[..., 1])
        self._apart = np.linalg.norm(apart, axis=-1)
        self._length = graph.lengths
        self.categories = tuple(sorted({i.category for i in house.items}))
        self.kinds = tuple(sorted({r.kind for r in house.rooms}))
        self._passed: dict[tuple[int, int], dict[int, str]] = {}
        self._ahead: dict[tuple[int, int], dict[int, None]] = {}
        self._seen: dict[int, list[int]] = {}

    def _room_at(self, point: np.ndarray) -> int:
        x, y, z = (float(v) for v in point)
        for room in self.house.rooms:
            if abs(z - room.storey * self.house.storey_height) < 0.3 and _inside(room.polygon, x, y):
                return room.id
        return -1

    # --- ways --------------------------------------------------------------------------------------------------------

    def heading(self, a: int, b: int) -> float:
        """Direction from one viewpoint to another [rad], in (−π, π]."""
        return float(self._heading[a, b])

    def length(self, a: int, b: int) -> float:
        """Length of the edge between two viewpoints [m]."""
        return float(self._length[a, b])

    def storey(self, room: int) -> int:
        return self.house.rooms[room].storey

    @cached_property
    def _between(self) -> dict[tuple[int, int], Opening]:
        out: dict[tuple[int, int], Opening] = {}
        for o in self.house.openings:
            if o.kind != "window" and o.rooms[0] is not None and o.rooms[1] is not None:
                out[o.rooms[0], o.rooms[1]] = out[o.rooms[1], o.rooms[0]] = o
        return out

    def opening(self, a: int, b: int) -> Opening | None:
        """A doorway between two rooms."""
        return self._between.get((a, b))

    @cached_property
    def beside(self) -> dict[int, frozenset[int]]:
        """For each room those one walks into from it."""
        pairs = [*self._between, *(s.rooms for s in self.house.stairs), *(s.rooms[::-1] for s in self.house.stairs)]
        return {r.id: frozenset(b for a, b in pairs if a == r.id) for r in self.house.rooms}

    @cached_property
    def door_distance(self) -> np.ndarray:
        """float64 [N], from each viewpoint to the nearest doorway of its room; inf where there is none."""
        out = np.full(len(self.room), math.inf)
        for i, room in enumerate(self.room):
            for o in self.house.openings_of(int(room)) if room >= 0 else ():
                x, y = ((o.start[k] + o.end[k]) / 2 for k in (0, 1))
                out[i] = min(out[i], math.hypot(self.floor[i, 0] - x, self.floor[i, 1] - y))
        return out

    def stairs_distance(self, node: int, end: str) -> float:
        """From a viewpoint to the nearest `"top"` or `"bottom"` of a flight of stairs; inf where there is none."""
        best = math.inf
        for s in self.house.stairs:
            x, y, z = (*s.end, s.top) if end == "top" else (*s.start, s.bottom)
            if abs(z - self.floor[node, 2]) < 0.3:
                best = min(best, math.hypot(self.floor[node, 0] - x, self.floor[node, 1] - y))
        return best

    # --- items -------------------------------------------------------------------------------------------------------

    @cached_property
    def _frames(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        items = self.house.items
        centre = np.array([i.position for i in items], float).reshape(-1, 3)
        half = np.array([i.size for i in items], float).reshape(-1, 3) / 2
        yaw = np.array([i.yaw for i in items], float)
        return centre, half, np.cos(yaw), np.sin(yaw)

    @cached_property
    def _local(self) -> np.ndarray:
        """float64 [N I 2]: viewpoints in the frame of each item."""
        centre, _, cos, sin = self._frames
        d = self.floor[:, None, :2] - centre[None, :, :2]
        return np.stack([d[..., 0] * cos + d[..., 1] * sin, d[..., 1] * cos - d[..., 0] * sin], -1)

    @cached_property
    def distance(self) -> np.ndarray:
        """float64 [N I]: from viewpoints to the footprints of items, inf on other storeys."""
        centre, half, _, _ = self._frames
        gap = np.maximum(np.abs(self._local) - half[None, :, :2], 0)
        storey = np.abs(self.floor[:, None, 2] + self.house.storey_height / 2 - centre[None, :, 2])
        return np.where(storey < self.house.storey_height / 2 + 0.2, np.linalg.norm(gap, axis=-1), np.inf)

    @cached_property
    def bearing(self) -> np.ndarray:
        """float64 [N I]: direction from viewpoints to items [rad]."""
        d = self._frames[0][None, :, :2] - self.floor[:, None, :2]
        return np.arctan2(d[..., 0], d[..., 1])

    @cached_property
    def in_front(self) -> np.ndarray:
        """bool [N I]: whether a viewpoint is on the side of an item that people use, near it."""
        half = self._frames[1]
        x, y = self._local[..., 0], self._local[..., 1]
        return (y < -half[:, 1]) & (np.abs(x) < half[:, 0] + 0.3) & (self.distance < 2.0)

    @cached_property
    def visible(self) -> np.ndarray:
        """bool [N I]: whether a viewpoint sees an item: large enough, and two of three of its points unobstructed.

        The points are the middle of its top, and the middle and the upper edge of the side that is nearest; lines
        of sight go to just outside of it.
        """
        centre, half, cos, sin = self._frames
        apart = np.linalg.norm(centre[None] + half[None] * (0, 0, 1) - self.eye[:, None], axis=-1)
        large = 2 * half.max(1) / np.maximum(apart, 0.1) >= APPARENT
        usable = np.array([i.category not in NEVER for i in self.house.items], bool)
        pairs = np.argwhere((self.distance < SIGHT) & large & usable)
        n, i = pairs[:, 0], pairs[:, 1]
        local = self._local[n, i]
        beyond = np.abs(local) / np.maximum(half[i, :2], 0.01)
        widest = beyond.max(1, keepdims=True) == beyond
        side = np.where(widest, np.sign(local) * (half[i, :2] + 0.03), 0.0)
        points = [(np.zeros_like(side), 2 * half[i, 2] + 0.03), (side, half[i, 2]), (side, 2 * half[i, 2] - 0.01)]
        sight, free = Sight(self.house), np.zeros(len(pairs), int)
        for xy, z in points:
            world = np.stack([xy[:, 0] * cos[i] - xy[:, 1] * sin[i], xy[:, 0] * sin[i] + xy[:, 1] * cos[i], z], -1)
            free += sight.sees(self.eye[n], centre[i] + world)
        out = np.zeros(apart.shape, bool)
        out[n, i] = free >= 2
        return out

    def items(self, thing: Thing) -> np.ndarray:
        """int [k]: the items that a description fits, in order."""
        known = self._described.get((thing.category, thing.colour))
        return known if known is not None else np.zeros(0, int)

    @cached_property
    def _described(self) -> dict[tuple[str, str], np.ndarray]:
        out: dict[tuple[str, str], list[int]] = {}
        for item in self.house.items:
            for colour in dict.fromkeys(("", item.colour)):
                out.setdefault((item.category, colour), []).append(item.id)
        return {key: np.array(rows) for key, rows in out.items()}

    # --- relations ---------------------------------------------------------------------------------------------------

    def seen_on(self, node: int, heading: float, item: int) -> str:
        """`"left"`, `"right"` or `"ahead"` of a walker; `""` where the item is not seen or behind."""
        if not self.visible[node, item]:
            return ""
        angle = wrap(float(self.bearing[node, item]) - heading)
        if abs(angle) <= AHEAD / 2:
            return "ahead"
        return "" if abs(angle) < AHEAD or abs(angle) > math.radians(120) else ("right" if angle > 0 else "left")

    def passed_on(self, a: int, b: int, item: int) -> str:
        """On which side an item is passed on the way between two viewpoints; `""` where it is not."""
        return self.passed(a, b).get(item, "")

    def passed(self, a: int, b: int) -> dict[int, str]:
        """The items passed on the way between two viewpoints, in order, and on which side."""
        if (a, b) not in self._passed:
            heading, length = self.heading(a, b), float(self._apart[a, b])
            d = self._frames[0][:, :2] - self.floor[a, :2]
            along = d[:, 0] * math.sin(heading) + d[:, 1] * math.cos(heading)
            across = d[:, 0] * math.cos(heading) - d[:, 1] * math.sin(heading)
            near = np.minimum(self.distance[a], self.distance[b]) <= 2.5
            beside = (along >= -0.1) & (along <= length + 0.1) & (np.abs(across) >= 0.25) & (np.abs(across) <= 3.0)
            found = np.flatnonzero((self.visible[a] | self.visible[b]) & near & beside).tolist()
            self._passed[a, b] = {i: "right" if across[i] > 0 else "left" for i in found}
        return self._passed[a, b]

    def is_toward(self, a: int, b: int, item: int) -> bool:
        """Whether the way from a to b leads toward an item that is seen from a."""
        return item in self.ahead(a, b)

    def ahead(self, a: int, b: int) -> dict[int, None]:
        """The items that the way from a to b leads toward and that are seen from a, in order."""
        if (a, b) not in self._ahead:
            aside = (self.bearing[a] - self.heading(a, b) + math.pi) % (2 * math.pi) - math.pi
            nearer = (self.distance[a] >= 1.5) & (self.distance[b] < self.distance[a])
            found = np.flatnonzero(self.visible[a] & nearer & (np.abs(aside) < 0.3)).tolist()
            self._ahead[a, b] = dict.fromkeys(found)
        return self._ahead[a, b]

    def seen(self, node: int) -> list[int]:
        """The items that a viewpoint sees, in order."""
        if node not in self._seen:
            self._seen[node] = np.flatnonzero(self.visible[node]).tolist()
        return self._seen[node]

    def is_place(self, room: int, place: Place) -> bool:
        """Whether a description fits a room."""
        if room < 0:
            return False
        there = self.house.rooms[room]
        if there.kind != place.kind or (place.level and there.storey + 1 != place.level):
            return False
        return place.feature is None or any(
            self.house.items[i].room == room for i in self.items(place.feature).tolist()
        )


def _inside(polygon: tuple[tuple[float, float], ...], x: float, y: float) -> bool:
    inside = False
    for (ax, ay), (bx, by) in zip(polygon, (*polygon[1:], polygon[0]), strict=True):
        if (ay > y) != (by > y) and x < ax + (y - ay) * (bx - ax) / (by - ay):
            inside = not inside
    return inside
