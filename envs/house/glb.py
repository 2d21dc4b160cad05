"""A house as a binary glTF 2.0 file with textures inside, and the stage configuration habitat-sim reads beside it.

glTF and habitat are y up: our (x, y, z) becomes (x, z, −y). Light is baked into the vertex colours, so viewers are
told to shade nothing (`KHR_materials_unlit`, `requires_lighting` false). Colours are written as they are drawn,
without a transfer function, which is what habitat-sim's flat shader shows. The bytes depend on the description only.
A second GLB tells habitat-sim's semantic sensor which instance each triangle belongs to.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np

from .house import House
from .materials import texture_pixels
from .mesh import Mesh, build, light
from .png import encode

_FLOAT, _UNSIGNED, _SHORT, _BYTE = 5126, 5125, 5123, 5121
_VERTICES, _INDICES = 34962, 34963


def to_y_up(points: np.ndarray) -> np.ndarray:
    """[n 3] in our frame → the same in glTF's and habitat's."""
    return np.stack([points[:, 0], points[:, 2], -points[:, 1]], -1)


def write(house: House, folder: Path) -> Path:
    """Write `<scan>.glb`, `<scan>.semantic.glb` and `<scan>.stage_config.json`; returns the path of the first."""
    folder.mkdir(parents=True, exist_ok=True)
    path, ids = folder / f"{house.scan}.glb", folder / f"{house.scan}.semantic.glb"
    mesh = build(house)
    path.write_bytes(_coloured(house, mesh))
    ids.write_bytes(_labelled(house, mesh))
    config = {
        "render_asset": path.name,
        "semantic_asset": ids.name,
        "up": [0.0, 1.0, 0.0],
        "front": [0.0, 0.0, -1.0],
        "requires_lighting": False,
        "force_flat_shading": True,
    }
    (folder / f"{house.scan}.stage_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    return path


def to_glb(house: House) -> bytes:
    """The file's bytes: one node, one mesh with a primitive a material; a primitive's triangles keep their order."""
    return _coloured(house, build(house))


def _coloured(house: House, mesh: Mesh) -> bytes:
    data = _Data()
    textures = sorted({m.texture for m in house.materials.values()} - {""})
    primitives = [_primitive(mesh, k, data) for k in np.unique(mesh.material[mesh.triangles[:, 0]])]
    images = [{"bufferView": data.view(encode(texture_pixels(t))), "mimeType": "image/png"} for t in textures]
    more: dict[str, Any] = {
        "extensionsUsed": ["KHR_materials_unlit"],
        "materials": [_material(house, name, textures) for name in mesh.materials],
    }
    if textures:
        more["images"] = images
        # Bilinear from the nearest mipmap, repeated: as in the renderer.
        more["samplers"] = [{"magFilter": 9729, "minFilter": 9985, "wrapS": 10497, "wrapT": 10497}]
        more["textures"] = [{"sampler": 0, "source": i} for i in range(len(textures))]
    return _file(house.scan, primitives, data, more)


def _labelled(house: House, mesh: Mesh) -> bytes:
    """A file whose vertices know the row of `solids.instances` they belong to."""
    data = _Data()
    ids = mesh.instance.astype("<u4")
    # habitat-sim wants colours too, one an instance, but goes by the ids.
    colours = np.stack([ids & 255, ids >> 8 & 255, ids >> 16, np.full_like(ids, 255)], -1).astype(np.uint8)
    points = to_y_up(mesh.positions).astype("<f4")
    attributes = {
        "POSITION": _positions(points, data),
        "COLOR_0": data.accessor(colours, _BYTE, "VEC4", _VERTICES, normalized=True),
        "_OBJECT_ID": data.accessor(ids, _SHORT, "SCALAR", _VERTICES, stride=4),
    }
    indices = data.accessor(mesh.triangles.ravel().astype("<u4"), _UNSIGNED, "SCALAR", _INDICES)
    return _file(house.scan, [{"attributes": attributes, "indices": indices}], data, {})


def _positions(points: np.ndarray, data: _Data) -> int:
    low, high = points.min(0).tolist(), points.max(0).tolist()
    return data.accessor(points, _FLOAT, "VEC3", _VERTICES, min=low, max=high)


def _file(name: str, primitives: list[dict[str, Any]], data: _Data, more: dict[str, Any]) -> bytes:
    document: dict[str, Any] = {
        "asset": {"version": "2.0", "generator": "wayhand"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"name": name, "mesh": 0}],
        "meshes": [{"name": name, "primitives": primitives}],
        **more,
        "accessors": data.accessors,
        "bufferViews": data.views,
        "buffers": [{"byteLength": len(data.bytes)}],
    }
    text = json.dumps(document, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    return b"".join(
        (
            struct.pack("<4sII", b"glTF", 2, 28 + len(text) + len(data.bytes)),
            struct.pack("<I4s", len(text), b"JSON"),
            text,
            struct.pack("<I4s", len(data.bytes), b"BIN\0"),
            bytes(data.bytes),
        )
    )


class _Data:
    """The binary chunk, with its views and accessors."""

    def __init__(self) -> None:
        self.bytes = bytearray()
        self.views: list[dict[str, int]] = []
        self.accessors: list[dict[str, Any]] = []

    def view(self, data: bytes, target: int | None = None) -> int:
        view = {"buffer": 0, "byteOffset": len(self.bytes), "byteLength": len(data)}
        self.views.append(view if target is None else {**view, "target": target})
        self.bytes += data + bytes(-len(data) % 4)
        return len(self.views) - 1

    def accessor(
        self, array: np.ndarray, component: int, kind: str, target: int, *, stride: int = 0, **more: Any
    ) -> int:
        """`stride`: bytes from one value to the next, where the array's are wider than the component."""
        view = self.view(np.ascontiguousarray(array).tobytes(), target)
        if stride:
            self.views[view]["byteStride"] = stride
        count = len(array)
        self.accessors.append({"bufferView": view, "componentType": component, "count": count, "type": kind, **more})
        return len(self.accessors) - 1


def _material(house: House, name: str, textures: list[str]) -> dict[str, Any]:
    m = house.materials[name]
    surface: dict[str, Any] = {
        "baseColorFactor": [*(round(float(c), 6) for c in m.colour), 1.0],
        "metallicFactor": 0.0,
        "roughnessFactor": 1.0,
    }
    if m.texture:
        surface["baseColorTexture"] = {"index": textures.index(m.texture)}
    return {"name": name, "pbrMetallicRoughness": surface, "extensions": {"KHR_materials_unlit": {}}}


def _primitive(mesh: Mesh, material: int, data: _Data) -> dict[str, Any]:
    triangles = mesh.triangles[mesh.material[mesh.triangles[:, 0]] == material]
    used, faces = np.unique(triangles, return_inverse=True)
    points = to_y_up(mesh.positions[used]).astype("<f4")
    # In a glTF picture v grows downwards.
    uv = (mesh.uv[used] * (1, -1)).astype("<f4")
    shade = np.round(light(mesh.normals[used]) * 255).astype(np.uint8)
    colours = np.column_stack([shade, shade, shade, np.full(len(shade), 255, np.uint8)])
    return {
        "attributes": {
            "POSITION": _positions(points, data),
            "NORMAL": data.accessor(to_y_up(mesh.normals[used]).astype("<f4"), _FLOAT, "VEC3", _VERTICES),
            "TEXCOORD_0": data.accessor(uv, _FLOAT, "VEC2", _VERTICES),
            "COLOR_0": data.accessor(colours, _BYTE, "VEC4", _VERTICES, normalized=True),
        },
        "indices": data.accessor(faces.ravel().astype("<u4"), _UNSIGNED, "SCALAR", _INDICES),
        "material": int(material),
    }
