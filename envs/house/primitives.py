"""Triangles of single shapes, in the frame of what they belong to: rectangles, boxes, cylinders and ellipsoids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import cos, sin, tau

import numpy as np

from .house import Part
from .surface import Quads, faces, fill


@dataclass(frozen=True, eq=False)
class Piece:
    """Triangles in one frame; `material` indexes a list of its own."""

    positions: np.ndarray
    normals: np.ndarray
    uv: np.ndarray
    material: np.ndarray
    triangles: np.ndarray


_UV_AXES = {0: (1, 2), 1: (0, 2), 2: (0, 1)}


def rectangles(quads: Quads, material: np.ndarray) -> Piece:
    """Four vertices a rectangle; uv in metres along the other two axes."""
    n = len(quads.axis)
    corner = np.empty((n, 4, 3))
    uv = np.empty((n, 4, 2))
    for axis, (u, v) in _UV_AXES.items():
        mine = quads.axis == axis
        low, high = quads.low[mine], quads.high[mine]
        ring = np.repeat(low[:, None], 4, 1)
        ring[:, 1, u] = ring[:, 2, u] = high[:, u]
        ring[:, 2, v] = ring[:, 3, v] = high[:, v]
        # u × v is +x, −y, +z: a ring in this order is counter-clockwise seen from there.
        flip = (quads.sign[mine] > 0) == (axis == 1)
        ring[flip] = ring[flip][:, ::-1]
        corner[mine] = ring
        uv[mine] = ring[:, :, (u, v)]
    normals = np.zeros((n, 4, 3))
    normals[np.arange(n), :, quads.axis] = quads.sign[:, None]
    base = 4 * np.arange(n)[:, None]
    triangles = (base[:, :, None] + np.array([[0, 1, 2], [0, 2, 3]])).reshape(-1, 3)
    return Piece(
        corner.reshape(-1, 3),
        normals.reshape(-1, 3),
        uv.reshape(-1, 2),
        np.repeat(material, 4).astype(np.int32),
        triangles.astype(np.int32),
    )


def primitive(part: Part, index: int) -> Piece:
    """A part in its item's frame, of material `index`; uv in metres."""
    return _turned(_upright(part, index), part)


def _upright(part: Part, index: int) -> Piece:
    if part.shape == "box":
        low, high = -np.array(part.half), np.array(part.half)
        return rectangles(faces(fill(low[None], high[None]), np.zeros(1, np.int64)), np.full(6, index))
    if part.shape == "cylinder":
        return _cylinder(part.half, index)
    return _ellipsoid(part.half, index)


def _turned(piece: Piece, part: Part) -> Piece:
    c, s = cos(part.yaw), sin(part.yaw)
    turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    positions = piece.positions @ turn.T + np.array(part.centre)
    return Piece(positions, piece.normals @ turn.T, piece.uv, piece.material, piece.triangles)


def _segments(radius: float) -> int:
    return 6 if radius < 0.04 else 8 if radius < 0.12 else 10 if radius < 0.3 else 14


def _cylinder(half: tuple[float, float, float], index: int) -> Piece:
    """A vertical prism whose corners lie on the (elliptic) cylinder; smooth sides, flat ends."""
    n = _segments(max(half[:2]))
    angle = np.arange(n + 1) * (tau / n)
    ring = np.stack([half[0] * np.cos(angle), half[1] * np.sin(angle)], -1)
    slope = np.stack([np.cos(angle) / half[0], np.sin(angle) / half[1]], -1)
    slope /= np.linalg.norm(slope, axis=1, keepdims=True)
    zero, ones = np.zeros(n + 1), np.ones(n + 1)
    side = np.concatenate([np.column_stack([ring, -half[2] * ones]), np.column_stack([ring, half[2] * ones])])
    along = angle * max(half[:2])
    side_uv = np.concatenate([np.column_stack([along, -half[2] * ones]), np.column_stack([along, half[2] * ones])])
    i = np.arange(n)
    walls = np.concatenate([np.stack([i, i + 1, i + n + 2], 1), np.stack([i, i + n + 2, i + n + 1], 1)])
    fan = np.stack([np.zeros(n - 2, int), np.arange(1, n - 1), np.arange(2, n)], 1)
    base = 2 * (n + 1)
    caps = np.concatenate([np.column_stack([ring[:n], np.full(n, z)]) for z in (-half[2], half[2])])
    down, up = np.tile([0.0, 0.0, -1.0], (n, 1)), np.tile([0.0, 0.0, 1.0], (n, 1))
    flat = np.column_stack([slope, zero])
    return Piece(
        np.concatenate([side, caps]),
        np.concatenate([flat, flat, down, up]),
        np.concatenate([side_uv, caps[:, :2]]),
        np.full(base + 2 * n, index, np.int32),
        np.concatenate([walls, fan[:, ::-1] + base, fan + base + n]).astype(np.int32),
    )


def _ellipsoid(half: tuple[float, float, float], index: int) -> Piece:
    """A ball of meridians and parallels, stretched; smooth."""
    n = max(8, _segments(max(half)))
    m = n // 2
    angle, polar = np.arange(n + 1) * (tau / n), np.arange(m + 1) * (tau / 2 / m)
    unit = np.stack(
        [
            np.sin(polar)[:, None] * np.cos(angle),
            np.sin(polar)[:, None] * np.sin(angle),
            np.repeat(-np.cos(polar)[:, None], n + 1, 1),
        ],
        -1,
    ).reshape(-1, 3)
    normals = unit / np.array(half)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    uv = np.stack(np.broadcast_arrays(angle * max(half[:2]), polar[:, None] * half[2]), -1).reshape(-1, 2)
    a = (np.arange(m)[:, None] * (n + 1) + np.arange(n)).ravel()
    lower = np.stack([a, a + n + 2, a + n + 1], 1)[n:] if m > 1 else np.empty((0, 3), int)
    first = np.stack([a, a + n + 2, a + n + 1], 1)[:n]
    upper = np.stack([a, a + 1, a + n + 2], 1)[n:]
    # At a pole one of a cell's two triangles has no area.
    lower = lower[: (m - 2) * n] if m > 1 else lower
    return Piece(
        unit * np.array(half),
        normals,
        uv,
        np.full(len(unit), index, np.int32),
        np.concatenate([first, lower, upper]).astype(np.int32),
    )


def concatenate(pieces: Sequence[Piece]) -> Piece:
    """One piece of many, in their order."""
    starts = np.cumsum([0, *(len(p.positions) for p in pieces)])
    if not pieces:
        none = np.zeros((0, 3))
        return Piece(none, none, none[:, :2], np.zeros(0, np.int32), np.zeros((0, 3), np.int32))
    return Piece(
        np.concatenate([p.positions for p in pieces]),
        np.concatenate([p.normals for p in pieces]),
        np.concatenate([p.uv for p in pieces]),
        np.concatenate([p.material for p in pieces]),
        np.concatenate([p.triangles + s for p, s in zip(pieces, starts, strict=False)]).astype(np.int32),
    )
