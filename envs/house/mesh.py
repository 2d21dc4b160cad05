"""Triangles of a house: only what can be seen from inside it, with texture coordinates and baked light.

The building's boxes share one grid, so faces that touch or lie in each other vanish and no two faces fight for a
pixel; so do the boxes of each item. Cylinders and ellipsoids have few segments: software rasterisers pay by vertex.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from math import cos, sin

import numpy as np

from .house import House, Item, Part, Solid
from .primitives import Piece, concatenate, primitive, rectangles
from .solids import floor_height, instances, solids
from .surface import Quads, enclosed, faces, fill

AMBIENT = 0.68
LIGHTS: tuple[tuple[tuple[float, float, float], float], ...] = (
    ((0.30, -0.40, 0.8660254), 0.34),
    ((-0.60, 0.7937254, 0.10), 0.20),
    ((0.6244998, 0.30, -0.7211103), 0.28),
)
"""The world's light: ambient, then (unit vector towards a distant light, strength). Nothing casts a shadow."""
LAP = 0.0003
"""How far faces of the building reach beyond their edges [m]."""


@dataclass(frozen=True, eq=False)
class Mesh:
    """Triangles sorted by instance; counter-clockwise seen from outside.

    Args:
        positions, normals: float32 [v 3], world frame.
        uv: float32 [v 2], in repeats of the material's texture; v grows upwards.
        material: int32 [v], index into `materials`.
        instance: int32 [v], row of `solids.instances`.
        triangles: int32 [t 3], indices of vertices.
        materials: names, keys of `House.materials`, sorted.
        first: int64 [i + 1]; triangles `first[k]` to `first[k + 1]` are those of instance k.
    """

    positions: np.ndarray
    normals: np.ndarray
    uv: np.ndarray
    material: np.ndarray
    instance: np.ndarray
    triangles: np.ndarray
    materials: tuple[str, ...]
    first: np.ndarray


def light(normals: np.ndarray) -> np.ndarray:
    """float [v]: brightness in 0 … 1 of surfaces with these unit normals [v 3]."""
    x, y, z = np.asarray(normals, np.float64).T
    total = np.full(len(normals), AMBIENT)
    for (lx, ly, lz), strength in LIGHTS:
        total += strength * np.maximum(0.0, x * lx + y * ly + z * lz)
    return np.minimum(1.0, total)


def build(house: House) -> Mesh:
    """The mesh of a house; equal descriptions give equal bytes."""
    names = tuple(sorted(house.materials))
    index = {name: i for i, name in enumerate(names)}
    scales = np.array([house.materials[name].scale for name in names])
    pieces, owners = _building(house, index, scales)
    for row, item in _item_rows(house):
        piece = _item(item.parts, _rests(house, item))
        material = np.array([index[p.material] for p in item.parts], np.int32)[piece.material]
        pieces.append(_place(piece, item, material, scales))
        owners.append(np.full(len(piece.positions), row, np.int32))
    return _join(pieces, owners, names, len(instances(house)))


def _item_rows(house: House) -> list[tuple[int, Item]]:
    return [(row, house.items[i.item]) for row, i in enumerate(instances(house)) if i.item >= 0]


def _rests(house: House, item: Item) -> bool:
    """Whether the underside of an item lies on something and cannot be seen."""
    level = floor_height(house, house.rooms[item.room].storey)
    return item.support is not None or abs(item.position[2] - level) < 1e-6


# --- the building -----------------------------------------------------------------------------------------------

_ORDER = {"floor": 0, "ceiling": 1, "wall": 2, "stairs": 3, "pane": 4, "frame": 5}


def _building(house: House, index: dict[str, int], scales: np.ndarray) -> tuple[list[Piece], list[np.ndarray]]:
    boxes = sorted((s for s in solids(house) if s.role != "item"), key=lambda s: _ORDER[s.role])
    if not boxes:
        return [], []
    material = np.array([index[b.material] for b in boxes], np.int32)
    owner = np.array([b.instance for b in boxes], np.int32)
    grid = fill(*_corners(boxes))
    seen = enclosed(grid, _seeds(house))
    quads = faces(grid, owner * len(index) + material, seen)
    pieces: list[Piece] = []
    rows = owner[quads.box]
    piece = rectangles(_lapped(quads), material[quads.box])
    uv = (piece.uv / scales[piece.material][:, None]).astype(np.float32)
    pieces.append(Piece(piece.positions, piece.normals, uv, piece.material, piece.triangles))
    return pieces, [np.repeat(rows, 4).astype(np.int32)]


def _lapped(quads: Quads) -> Quads:
    """Faces a little larger in their plane: where edges of different length meet, no pixel shows the void between."""
    grow = np.full(quads.low.shape, LAP)
    grow[np.arange(len(grow)), quads.axis] = 0.0
    return replace(quads, low=quads.low - grow, high=quads.high + grow)


def _corners(boxes: Sequence[Solid | Part]) -> tuple[np.ndarray, np.ndarray]:
    centre, half = np.array([b.centre for b in boxes]), np.array([b.half for b in boxes])
    return centre - half, centre + half


def _seeds(house: House) -> np.ndarray:
    """Points in the air of every room, just above a corner of its floor and just below a corner of its ceiling."""
    out: list[tuple[float, float, float]] = []
    for room in house.rooms:
        (x0, y0), (x1, y1) = room.polygon[0], room.polygon[1]
        out.append(_inwards(x0, y0, x1, y1, floor_height(house, room.storey) + 1e-3))
    return np.array(out).reshape(-1, 3)


def _inwards(x0: float, y0: float, x1: float, y1: float, z: float) -> tuple[float, float, float]:
    # The interior of a counter-clockwise polygon lies to the left of its edges.
    length = np.hypot(x1 - x0, y1 - y0)
    dx, dy = (x1 - x0) / length, (y1 - y0) / length
    return ((x0 + x1) / 2 - 1e-3 * dy, (y0 + y1) / 2 + 1e-3 * dx, z)


# --- items ------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=2048)
def _item(parts: tuple[Part, ...], rests: bool) -> Piece:
    """An item in its own frame; `material` is the index of a part."""
    pieces: list[Piece] = []
    plain = [i for i, p in enumerate(parts) if p.shape == "box" and p.yaw == 0.0]
    if plain:
        grid = fill(*_corners([parts[i] for i in plain]))
        names = sorted({parts[i].material for i in plain})
        keys = np.array([names.index(parts[i].material) for i in plain])
        quads = faces(grid, keys)
        material = np.array(plain, np.int32)[quads.box]
        if rests:
            keep = ~((quads.axis == 2) & (quads.sign < 0) & (quads.low[:, 2] < 1e-6))
            quads = Quads(*(getattr(quads, f)[keep] for f in ("low", "high", "axis", "sign", "box", "air")))
            material = material[keep]
        pieces.append(rectangles(quads, material))
    for i, part in enumerate(parts):
        if i not in plain:
            pieces.append(primitive(part, i))
    return concatenate(pieces)


def _place(piece: Piece, item: Item, material: np.ndarray, scales: np.ndarray) -> Piece:
    c, s = cos(item.yaw), sin(item.yaw)
    turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    positions = piece.positions @ turn.T + np.array(item.position)
    uv = piece.uv / scales[material][:, None]
    return Piece(positions, piece.normals @ turn.T, uv, material, piece.triangles)


# --- joining ----------------------------------------------------------------------------------------------------


def _join(pieces: Sequence[Piece], owners: Sequence[np.ndarray], names: tuple[str, ...], count: int) -> Mesh:
    whole = concatenate(pieces)
    owner = np.concatenate(owners) if owners else np.zeros(0, np.int32)
    of_triangle = owner[whole.triangles[:, 0]]
    order = np.argsort(of_triangle, kind="stable")
    triangles = whole.triangles[order]
    # Vertices follow their triangles, so that an instance is one contiguous run of both.
    _, first_use = np.unique(triangles.ravel(), return_index=True)
    keep = triangles.ravel()[np.sort(first_use)]
    renumber = np.full(len(whole.positions), -1, np.int32)
    renumber[keep] = np.arange(len(keep))
    return Mesh(
        # Rounded, so that the last bits of a machine's sine and cosine do not reach a file.
        positions=np.round(whole.positions[keep], 6).astype(np.float32),
        normals=np.round(whole.normals[keep], 6).astype(np.float32),
        uv=np.round(whole.uv[keep], 6).astype(np.float32),
        material=whole.material[keep].astype(np.int32),
        instance=owner[keep],
        triangles=renumber[triangles],
        materials=names,
        first=np.searchsorted(of_triangle[order], np.arange(count + 1)).astype(np.int64),
    )
