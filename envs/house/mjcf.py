"""A house as an MJCF model: primitives collide (group 3, not drawn), the triangles of `mesh` are drawn (group 2).

The picture is that of `renderer`: the head light is ambient only, `mesh.LIGHTS` are directional lights without shadow
or highlight, and meshes carry their own normals and texture coordinates. A drawn geom's name begins with its instance:
`"12:3"` is instance 12.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import cos, sin
from pathlib import Path
from xml.sax.saxutils import quoteattr

import numpy as np

from .house import House
from .materials import texture_pixels
from .mesh import AMBIENT, LIGHTS, Mesh, build
from .png import encode
from .solids import solids

_HEADER = """<mujoco model={name}>
<compiler angle="radian" autolimits="true"/>
<statistic center="0 0 0" extent="1"/>
<visual>
<global offwidth="1280" offheight="1280"/>
<quality offsamples="0" shadowsize="0"/>
<map znear="0.02" zfar="200" fogstart="100" fogend="200"/>
<headlight ambient="{ambient} {ambient} {ambient}" diffuse="0 0 0" specular="0 0 0"/>
</visual>
"""


def to_mjcf(house: House, *, base: bool = False) -> str:
    """The model's XML text; compile it with `mujoco.MjModel.from_xml_string(text, assets(house))`.

    Args:
        base: also add a mobile base: a body `"base"` with slide joints `"base_x"`, `"base_y"` and a hinge `"base_yaw"`
            (counter-clockwise from +x), a cylinder of 0.2 m radius, and a camera `"eye"` that looks along its x axis
            from 1.5 m above the floor.
    """
    mesh = build(house)
    lines = [_HEADER.format(name=quoteattr(house.scan), ambient=AMBIENT), "<asset>"]
    lines += _materials(house)
    drawn = list(_meshes(mesh))
    lines += [text for text, _, _ in drawn]
    lines += ["</asset>", "<worldbody>"]
    for direction, strength in LIGHTS:
        lines.append(
            f'<light directional="true" dir="{_numbers(-d for d in direction)}" diffuse="{_numbers([strength] * 3)}" '
            'ambient="0 0 0" specular="0 0 0" castshadow="false"/>'
        )
    for _, name, material in drawn:
        lines.append(
            f'<geom name="{name}" type="mesh" mesh="{name}" material={quoteattr(material)} '
            'contype="0" conaffinity="0" group="2" mass="0"/>'
        )
    lines += _colliders(house)
    if base:
        lines.append(_BASE)
    lines += ["</worldbody>", "</mujoco>"]
    return "\n".join(lines) + "\n"


_BASE = """<body name="base">
<joint name="base_x" type="slide" axis="1 0 0"/>
<joint name="base_y" type="slide" axis="0 1 0"/>
<joint name="base_yaw" type="hinge" axis="0 0 1"/>
<geom name="base" type="cylinder" size="0.2 0.3" pos="0 0 0.35" mass="20" group="3"/>
<camera name="eye" pos="0 0 1.5" xyaxes="0 -1 0 0 0 1" fovy="90"/>
</body>"""


def assets(house: House) -> dict[str, bytes]:
    """The texture files the model names: file name → PNG."""
    # MuJoCo puts a file's first row at v = 0.
    return {_file(t): encode(texture_pixels(t)[::-1]) for t in _textures(house)}


def write(house: House, folder: Path) -> Path:
    """Write `<scan>.xml` and the textures it names into `folder`; returns the path of the XML file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{house.scan}.xml"
    path.write_text(to_mjcf(house), encoding="utf-8")
    for name, data in assets(house).items():
        (folder / name).write_bytes(data)
    return path


def instance_of(geom_name: str) -> int:
    """The instance (row of `solids.instances`) a drawn geom shows; 0 for any other geom."""
    row, colon, _ = geom_name.partition(":")
    return int(row) if colon and row.isdecimal() else 0


def _textures(house: House) -> list[str]:
    return sorted({m.texture for m in house.materials.values()} - {""})


def _file(texture: str) -> str:
    return texture.replace("/", "_") + ".png"


def _numbers(values: Iterable[float]) -> str:
    return " ".join(f"{float(v):.7g}" for v in values)


def _materials(house: House) -> Iterable[str]:
    for texture in _textures(house):
        file = quoteattr(_file(texture))
        yield f'<texture name={quoteattr(texture)} type="2d" file={file} colorspace="linear"/>'
    for name, m in sorted(house.materials.items()):
        texture = f" texture={quoteattr(m.texture)}" if m.texture else ""
        yield (
            f'<material name={quoteattr(name)} rgba="{_numbers(m.colour)} 1" specular="0" shininess="0" '
            f'reflectance="0"{texture}/>'
        )


def _meshes(mesh: Mesh) -> Iterable[tuple[str, str, str]]:
    """(mesh element, name, material) for every instance and material."""
    of_triangle = mesh.material[mesh.triangles[:, 0]]
    for row in np.flatnonzero(np.diff(mesh.first)):
        span = np.arange(mesh.first[row], mesh.first[row + 1])
        for material in np.unique(of_triangle[span]):
            name = f"{row}:{material}"
            triangles = mesh.triangles[span[of_triangle[span] == material]]
            used, faces = np.unique(triangles, return_inverse=True)
            yield (
                f'<mesh name="{name}" inertia="shell" vertex="{_numbers(mesh.positions[used].ravel())}" '
                f'normal="{_numbers(mesh.normals[used].ravel())}" texcoord="{_numbers(mesh.uv[used].ravel())}" '
                f'face="{" ".join(map(str, faces.ravel()))}"/>',
                name,
                mesh.materials[material],
            )


def _colliders(house: House) -> Iterable[str]:
    for i, s in enumerate(solids(house)):
        # MuJoCo's cylinder is round: the larger radius, so that nothing drawn sticks out of what collides.
        size = (max(s.half[:2]), s.half[2]) if s.shape == "cylinder" else s.half
        turn = f' quat="{_numbers((cos(s.yaw / 2), 0, 0, sin(s.yaw / 2)))}"' if s.yaw else ""
        yield (
            f'<geom name="solid{i}" type="{s.shape}" pos="{_numbers(s.centre)}" size="{_numbers(size)}"{turn} '
            'group="3" rgba="0.7 0.7 0.7 1"/>'
        )
