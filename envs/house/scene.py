"""A house on the GPU: its shader, its buffers, and the boxes and rooms by which a view leaves instances out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import cos, pi, sin
from typing import Any

import numpy as np

from .house import House
from .mesh import Mesh, build, light
from .portals import Portals, View
from .solids import instances
from .textures import TextureBank

_VERTEX = """#version 330
uniform mat4 view;
in vec3 position; in vec2 uv; in vec4 tint; in uvec2 ids;
out vec2 where; out vec3 colour; flat out float layer; flat out int instance;
void main() {
    gl_Position = view * vec4(position, 1.0);
    where = uv; colour = tint.rgb; layer = float(ids.y); instance = int(ids.x);
}"""

_FRAGMENT = """#version 330
uniform sampler2DArray textures;
in vec2 where; in vec3 colour; flat in float layer; flat in int instance;
{outputs}
void main() {{
{writes}
}}"""
_WRITES = {
    "rgb": ("vec4", "rgb = vec4(colour * texture(textures, vec3(where, layer)).rgb, 1.0);"),
    "depth": ("float", "depth = 1.0 / gl_FragCoord.w;"),
    "semantics": ("int", "semantics = instance;"),
}
STORAGE = {"rgb": (4, "f1"), "depth": (1, "f4"), "semantics": (1, "i4")}


_ALL = (0.0,) * 6 + (1.0,)
"""A plane with everything in front of it."""


@dataclass(frozen=True, eq=False)
class Scene:
    """A loaded house: what the CPU needs for culling and what the GPU holds.

    Args:
        runs: per instance, its triangles' indices int32.
        boxes: float64 [7 i], per instance its box's centre, its half extents and 1.
        rooms: bool [r i], which rooms an instance shows itself in.
        everywhere: bool [i], instances that belong to no room.
    """

    runs: tuple[np.ndarray, ...]
    boxes: np.ndarray
    rooms: np.ndarray
    everywhere: np.ndarray
    portals: Portals
    vertices: Any
    indices: Any
    array: Any

    def shown(self, point: Sequence[float], views: Sequence[View]) -> np.ndarray:
        """bool [i]: instances whose box shows itself from a point in one of these views, or belongs to no room."""
        x, y, _ = point
        planes: list[tuple[float, ...]] = []
        for _, low, width in views:
            if width >= pi:
                planes += (_ALL, _ALL)
                continue
            for a, b in ((-sin(low), cos(low)), (sin(low + width), -cos(low + width))):
                planes.append((a, b, 0.0, abs(a), abs(b), 0.0, -(a * x + b * y)))
        reach = (np.array(planes) @ self.boxes > -1e-6).reshape(len(views), 2, -1)
        inside = reach[:, 0] & reach[:, 1] & self.rooms[[room for room, _, _ in views]]
        return self.everywhere | inside.any(0)

    def release(self) -> None:
        for thing in (self.array, self.vertices, self.indices):
            thing.release()


class Shared:
    """What all renderers of a process share: textures and programs."""

    def __init__(self, context: Any) -> None:
        self.textures = TextureBank(context)
        self.programs: dict[tuple[str, ...], Any] = {}
        self._context = context

    def program(self, sensors: tuple[str, ...]) -> Any:
        if sensors not in self.programs:
            outputs = "\n".join(f"layout(location = {i}) out {_WRITES[s][0]} {s};" for i, s in enumerate(sensors))
            writes = "\n".join("    " + _WRITES[s][1] for s in sensors)
            fragment = _FRAGMENT.format(outputs=outputs, writes=writes)
            self.programs[sensors] = self._context.program(vertex_shader=_VERTEX, fragment_shader=fragment)
        return self.programs[sensors]


_shared: tuple[Any, Shared] | None = None


def share(context: Any) -> Shared:
    global _shared
    if _shared is None or _shared[0] is not context:
        _shared = (context, Shared(context))
    return _shared[1]


_VERTEX_TYPE = np.dtype([("position", "3f4"), ("uv", "2f4"), ("tint", "4u1"), ("ids", "2u2")])


def vertex_colours(house: House, mesh: Mesh) -> np.ndarray:
    """uint8 [v 3]: the material's colour under the world's light, to be multiplied with its texture."""
    colours = np.array([house.materials[name].colour for name in mesh.materials]).reshape(-1, 3)
    return np.round(colours[mesh.material] * light(mesh.normals)[:, None] * 255).astype(np.uint8)


def upload(context: Any, house: House, sensors: tuple[str, ...]) -> Scene:
    shared = share(context)
    mesh = build(house)
    layers = np.array([shared.textures.layer(house.materials[name].texture) for name in mesh.materials], np.uint16)
    data = np.zeros(len(mesh.positions), _VERTEX_TYPE)
    data["position"], data["uv"] = mesh.positions, mesh.uv
    data["tint"][:, :3] = vertex_colours(house, mesh)
    data["ids"][:, 0], data["ids"][:, 1] = mesh.instance, layers[mesh.material]
    vertices = context.buffer(data.tobytes() or bytes(4))
    # Room for one view; calls with many views make it grow.
    indices = context.buffer(reserve=max(4, mesh.triangles.size * 4), dynamic=True)
    content = [(vertices, "3f 2f 4f1 2u2", "position", "uv", "tint", "ids")]
    array = context.vertex_array(shared.program(sensors), content, indices, skip_errors=True)
    low, high = _bounds(mesh)
    rooms, everywhere = _rooms(house)
    runs = tuple(
        np.ascontiguousarray(mesh.triangles[a:b].ravel(), np.int32)
        for a, b in zip(mesh.first, mesh.first[1:], strict=False)
    )
    boxes = np.concatenate([((low + high) / 2).T, ((high - low) / 2).T, np.ones((1, len(low)))])
    return Scene(runs, boxes, rooms, everywhere, Portals(house), vertices, indices, array)


def _bounds(mesh: Mesh) -> tuple[np.ndarray, np.ndarray]:
    """Corners of every instance's box; an instance without triangles lies far below, where no view looks."""
    count = len(mesh.first) - 1
    low, high = np.full((count, 3), -1e9), np.full((count, 3), -1e9)
    for k in np.flatnonzero(np.diff(mesh.first)):
        points = mesh.positions[mesh.triangles[mesh.first[k] : mesh.first[k + 1]].ravel()]
        low[k], high[k] = points.min(0), points.max(0)
    return low, high


def _rooms(house: House) -> tuple[np.ndarray, np.ndarray]:
    """(bool [r i]: which rooms an instance shows itself in, bool [i]: it may be seen from anywhere)."""
    table = instances(house)
    seen = np.zeros((len(house.rooms), len(table)), bool)
    doors = iter([o for o in house.openings if o.kind == "door"])
    stairs = iter(house.stairs)
    for row, instance in enumerate(table):
        if instance.item < 0 and instance.category == "door":
            rooms = [r for r in next(doors).rooms if r is not None]
        elif instance.item < 0 and instance.category == "stairs":
            rooms = list(next(stairs).rooms)
        else:
            rooms = [instance.room] if instance.room >= 0 else []
        seen[rooms, row] = True
    return seen, np.logical_not(seen.any(0))
