"""A house as a binary glTF 2.0 file with textures inside, and the stage configuration habitat-sim reads beside it.

glTF and habitat are y up: our (x, y, z) becomes (x, z, −y). Light is baked into the vertex colours, so viewers are
told to shade nothing (`KHR_materials_unlit`, `requires_lighting` false). Colours are written as they are drawn,
without a transfer function, which is what habitat-sim's flat shader shows. The bytes depend on the description only.
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

_FLOAT, _UNSIGNED, _BYTE = 5126, 5125, 5121
_VERTICES, _INDICES = 34962, 34963


def to_y_up(points: np.ndarray) -> np.ndarray:
    """[n 3] in our frame → the same in glTF's and habitat's."""
    return np.stack([points[:, 0], points[:, 2], -points[:, 1]], -1)


def write(house: House, folder: Path) -> Path:
    """Write `<scan>.glb` and `<scan>.stage_config.json` into `folder`; returns the path of the GLB."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{house.scan}.glb"
    path.write_bytes(to_glb(house))
    config = {
        "render_asset": path.name,
        "up": [0.0, 1.0, 0.0],
        "front": [0.0, 0.0, -1.0],
        "requires_lighting": False,
        "force_flat_shading": True,
    }
    (folder / f"{house.scan}.stage_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    return path


def to_glb(house: House) -> bytes:
    """The file's bytes: one node, one mesh with a primitive a material; a primitive's triangles keep their order."""
    mesh, data = build(house), _Data()
    textures = sorted({m.texture for m in house.materials.values()} - {""})
    materials = [_material(house, name, textures) for name in mesh.materials]
    primitives = [_primitive(mesh, k, data) for k in np.unique(mesh.material[mesh.triangles[:, 0]])]
    images = [{"bufferView": data.view(encode(texture_pixels(t))), "mimeType": "image/png"} for t in textures]
    document: dict[str, Any] = {
        "asset": {"version": "2.0", "generator": "wayhand"},
        "extensionsUsed": ["KHR_materials_unlit"],
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"name": house.scan, "mesh": 0}],
        "meshes": [{"name": house.scan, "primitives": primitives}],
        "materials": materials,
        "accessors": data.accessors,
        "bufferViews": data.views,
        "buffers": [{"byteLength": len(data.bytes)}],
    }
    if textures:
        document["images"] = images
        # Bilinear from the nearest mipmap, repeated: as in the renderer.
        document["samplers"] = [{"magFilter": 9729, "minFilter": 9985, "wrapS": 10497, "wrapT": 10497}]
        document["textures"] = [{"sampler": 0, "source": i} for i in range(len(textures))]
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

    def accessor(self, array: np.ndarray, component: int, kind: str, target: int, **more: Any) -> int:
        view = self.view(np.ascontiguousarray(array).tobytes(), target)
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
    low, high = points.min(0).tolist(), points.max(0).tolist()
    return {
        "attributes": {
            "POSITION": data.accessor(points, _FLOAT, "VEC3", _VERTICES, min=low, max=high),
            "NORMAL": data.accessor(to_y_up(mesh.normals[used]).astype("<f4"), _FLOAT, "VEC3", _VERTICES),
            "TEXCOORD_0": data.accessor(uv, _FLOAT, "VEC2", _VERTICES),
            "COLOR_0": data.accessor(colours, _BYTE, "VEC4", _VERTICES, normalized=True),
        },
        "indices": data.accessor(faces.ravel().astype("<u4"), _UNSIGNED, "SCALAR", _INDICES),
        "material": int(material),
    }
