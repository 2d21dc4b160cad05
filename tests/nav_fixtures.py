"""Viewpoint graphs made by hand, and features that say which viewpoint and view they belong to."""

from __future__ import annotations

import numpy as np

from wayhand.vla.navigation import Instruction, NavEpisode, ViewpointGraph

Point = tuple[float, float, float]


def graph(points: list[Point], edges: list[tuple[int, int]], scan: str = "cross") -> ViewpointGraph:
    """Viewpoints a, b, c … at camera positions, joined by edges."""
    n = len(points)
    poses = np.tile(np.eye(4), (n, 1, 1))
    poses[:, :3, 3] = points
    joined = np.zeros((n, n), bool)
    for i, j in edges:
        joined[i, j] = joined[j, i] = True
    ids = tuple("abcdefghijklmnopqrstuvwxyz"[:n])
    return ViewpointGraph(scan, ids, poses, np.full(n, 1.5), np.ones(n, bool), joined, joined)


def cross() -> ViewpointGraph:
    """a in the middle; b north, c east, d south, e west, two metres away; f above b's end, up a stair; g beyond c."""
    points = [(0, 0, 1.5), (0, 2, 1.5), (2, 0, 1.5), (0, -2, 1.5), (-2, 0, 1.5), (0, 4, 3.5), (4, 0, 1.5)]
    return graph(points, [(0, 1), (0, 2), (0, 3), (0, 4), (1, 5), (2, 6)])


def line(count: int = 6) -> ViewpointGraph:
    """The line A–F of the reference's golden vectors: edges of two metres, to the east."""
    return graph([(2.0 * i, 0, 1.5) for i in range(count)], [(i, i + 1) for i in range(count - 1)], "line")


def episode(scan: str, path: str, text: str = "go", heading: float = 0.0) -> NavEpisode:
    return NavEpisode(path, scan, (Instruction(f"{path}_0", text),), tuple(path), heading)


class Named:
    """Features [36 D] that are different for every viewpoint and view."""

    width = 8

    def __call__(self, scan: str, viewpoint: str) -> np.ndarray:
        rng = np.random.default_rng([len(scan), ord(viewpoint[0])])
        return rng.normal(size=(36, self.width)).astype(np.float32)
