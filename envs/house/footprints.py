"""Outlines of parts and items from above, and whether they meet: what `check` measures with."""

from __future__ import annotations

from math import cos, sin

import numpy as np

from .house import Item, Part, Room

SLACK = 0.012
"""How far bounding shapes may sink into one another before it counts [m]."""
Corners = np.ndarray
"""float64 [n 2]: a convex outline in the world, counter-clockwise."""


def rectangle(x0: float, y0: float, x1: float, y1: float) -> Corners:
    return np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)])


def outline_of(item: Item, part: Part) -> Corners:
    """The part's outline from above; round things as their bounding octagon."""
    hx, hy = part.half[:2]
    ring = rectangle(-hx, -hy, hx, hy)
    if part.shape != "box":
        k = 0.4142
        ring = np.array([(1, -k), (1, k), (k, 1), (-k, 1), (-1, k), (-1, -k), (-k, -1), (k, -1)]) * (hx, hy)
    return _moved(_moved(ring, part.yaw, part.centre), item.yaw, item.position)


def footprint_of(item: Item) -> Corners:
    """The item's bounding rectangle from above."""
    hx, hy = item.size[0] / 2, item.size[1] / 2
    return _moved(rectangle(-hx, -hy, hx, hy), item.yaw, item.position)


def _moved(ring: Corners, yaw: float, to: tuple[float, ...]) -> Corners:
    c, s = cos(yaw), sin(yaw)
    return ring @ np.array([(c, s), (-s, c)]) + to[:2]


def base_of(item: Item, part: Part) -> float:
    """Height of the part's lowest point above the world's origin."""
    return item.position[2] + part.centre[2] - part.half[2]


def bounds(item: Item) -> tuple[np.ndarray, np.ndarray]:
    """The item's axis aligned bounding box in the world: lower and upper corner."""
    ring = footprint_of(item)
    return np.array([*ring.min(0), item.position[2]]), np.array([*ring.max(0), item.position[2] + item.size[2]])


def boxes_meet(a: tuple[np.ndarray, np.ndarray], b: tuple[np.ndarray, np.ndarray]) -> bool:
    return bool((np.minimum(a[1], b[1]) - np.maximum(a[0], b[0]) > SLACK).all())


def apart(a: Corners, b: Corners) -> float:
    """Distance of two convex outlines along the best separating axis; negative: how deep they overlap."""
    best = -np.inf
    for ring in (a, b):
        edges = np.roll(ring, -1, 0) - ring
        normals = np.stack([edges[:, 1], -edges[:, 0]], 1) / np.linalg.norm(edges, axis=1, keepdims=True)
        ours, theirs = a @ normals.T, b @ normals.T
        gap = np.maximum(theirs.min(0) - ours.max(0), ours.min(0) - theirs.max(0))
        best = max(best, float(gap.max()))
    return best


def holds(room: Room, x: float, y: float) -> bool:
    """Whether a point is in a room or within `SLACK` of it."""
    corners = [(x + dx, y + dy) for dx in (-SLACK, SLACK) for dy in (-SLACK, SLACK)]
    return any(_inside(room, *c) for c in corners)


def _inside(room: Room, x: float, y: float) -> bool:
    crossings = 0
    for (ax, ay), (bx, by) in zip(room.polygon, (*room.polygon[1:], room.polygon[0]), strict=True):
        crossings += ax == bx and min(ay, by) < y < max(ay, by) and ax > x
    return crossings % 2 == 1
