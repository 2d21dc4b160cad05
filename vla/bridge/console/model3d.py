"""A robot's shape from its compiled MuJoCo model, and where its parts are for measured joints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import ConfigError
from ..collision import Posture
from ..description import compile_mjcf

SHOWN_GROUPS = 3
"""Geoms of the groups below this one are drawn: MuJoCo's viewer shows 0, 1 and 2, and collision hulls are in 3."""
_FACETS = 32


@dataclass(frozen=True)
class Part:
    """All geometry of one body that has one colour.

    Args:
        body: index of its body.
        vertices: [V 3] float32 m, in the body's frame.
        faces: [F 3] uint32.
        colour: red, green, blue and opacity, 0 to 1.
    """

    body: int
    vertices: np.ndarray
    faces: np.ndarray
    colour: tuple[float, float, float, float]


@dataclass(frozen=True)
class Model3D:
    """What a console draws.

    Args:
        model: a `mujoco.MjModel`; geoms with no opacity, planes and height fields are left out.
        posture: where measured joints put the model's.
        centre: [3] m, what the camera looks at.
    """

    model: Any
    posture: Posture
    centre: tuple[float, float, float] = (0.3, 0.0, 0.3)

    def parts(self) -> list[Part]:
        """Meshes and primitives, merged by body and colour."""
        found: dict[tuple[int, tuple[float, ...]], list[tuple[np.ndarray, np.ndarray]]] = {}
        for geom in range(self.model.ngeom):
            if int(self.model.geom_group[geom]) >= SHOWN_GROUPS:
                continue
            material = int(self.model.geom_matid[geom])
            rgba = self.model.mat_rgba[material] if material >= 0 else self.model.geom_rgba[geom]
            if rgba[3] == 0.0 or (shape := self._shape(geom)) is None:
                continue
            key = int(self.model.geom_bodyid[geom]), tuple(round(float(c), 3) for c in rgba)
            found.setdefault(key, []).append(shape)
        return [Part(body, *_merged(shapes), colour) for (body, colour), shapes in found.items()]  # type: ignore[misc]

    def poses(self, joints: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """World positions [N 3] m and quaternions wxyz [N 4] of all bodies, at `joints` [A]."""
        import mujoco

        data: Any = mujoco.MjData(self.model)
        data.qpos[:] = self.posture(joints)
        mujoco.mj_kinematics(self.model, data)
        return np.array(data.xpos), np.array(data.xquat)

    def _shape(self, geom: int) -> tuple[np.ndarray, np.ndarray] | None:
        """Vertices in the body's frame and faces of one geom."""
        import mujoco

        kind, size = int(self.model.geom_type[geom]), self.model.geom_size[geom]
        if kind == int(mujoco.mjtGeom.mjGEOM_MESH):
            vertices, faces = self._mesh(int(self.model.geom_dataid[geom]))
        else:
            primitive = _primitive(kind, size)
            if primitive is None:
                return None
            vertices, faces = primitive
        rotation = np.zeros(9)
        mujoco.mju_quat2Mat(rotation, self.model.geom_quat[geom])
        return vertices @ rotation.reshape(3, 3).T + self.model.geom_pos[geom], faces

    def _mesh(self, mesh: int) -> tuple[np.ndarray, np.ndarray]:
        m = self.model
        first, count = int(m.mesh_vertadr[mesh]), int(m.mesh_vertnum[mesh])
        face, faces = int(m.mesh_faceadr[mesh]), int(m.mesh_facenum[mesh])
        return np.array(m.mesh_vert[first : first + count], np.float64), np.array(m.mesh_face[face : face + faces])


def from_mjcf(path: str | Path, joints: Sequence[str]) -> Model3D:
    """The robot of an MJCF file, moved by its joints named `joints`, in this order; the others stay where they are.

    Raises `ConfigError` for a file that cannot be read or lacks a joint.
    """
    try:
        model = compile_mjcf(path)
    except ConfigError as error:
        raise ConfigError("The robot's model cannot be read", expected="an MJCF file", got=str(error)) from None
    known = [model.joint(i).name for i in range(model.njnt)]
    missing = [name for name in joints if name not in known]
    if missing:
        raise ConfigError("The robot's model lacks a joint", got=missing[0], exists=known)
    where = [int(model.joint(name).qposadr[0]) for name in joints]
    rest = np.array(model.qpos0)

    def posture(q: np.ndarray) -> np.ndarray:
        rest[where] = q
        return rest

    centre = model.stat.center
    return Model3D(model, posture, (float(centre[0]), float(centre[1]), float(centre[2])))


def _primitive(kind: int, size: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    import mujoco
    from trimesh import creation

    geom = mujoco.mjtGeom
    if kind == int(geom.mjGEOM_BOX):
        mesh = creation.box(extents=2 * size)
    elif kind == int(geom.mjGEOM_CYLINDER):
        mesh = creation.cylinder(radius=size[0], height=2 * size[1], sections=_FACETS)
    elif kind == int(geom.mjGEOM_CAPSULE):
        mesh = creation.capsule(height=2 * size[1], radius=size[0], count=[_FACETS // 2, _FACETS // 2])
    elif kind in (int(geom.mjGEOM_SPHERE), int(geom.mjGEOM_ELLIPSOID)):
        mesh = creation.icosphere(subdivisions=3, radius=1.0)
        mesh.apply_scale(size[0] if kind == int(geom.mjGEOM_SPHERE) else size)
    else:
        return None
    return np.array(mesh.vertices), np.array(mesh.faces)


def _merged(shapes: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    starts = np.cumsum([0, *(len(vertices) for vertices, _ in shapes)])
    faces = [faces + start for (_, faces), start in zip(shapes, starts, strict=False)]
    vertices = np.concatenate([vertices for vertices, _ in shapes])
    return vertices.astype(np.float32), np.concatenate(faces).astype(np.uint32)
