"""The compiled table and its pictures; one model takes every scene, so a new scene costs microseconds."""

from __future__ import annotations

import math

import mujoco
import numpy as np

from ..tabletop.rendering import Renderer
from .sample import MOST, TABLES, sample
from .things import COLORS, KINDS, SIZES, PairScene, Thing, View

_BOX, _ROUND = 'type="box"', 'type="cylinder"'
_TRIM = 'class="trim"'
_GEOMS: dict[str, tuple[str, ...]] = {
    "cube": (f'{_BOX} pos="0 0 0.02" size="0.020 0.020 0.020"',),
    "cylinder": (f'{_ROUND} pos="0 0 0.024" size="0.019 0.024"',),
    "ball": ('type="sphere" pos="0 0 0.022" size="0.022"',),
    "cross": (
        f'{_BOX} pos="0 0 0.014" size="0.027 0.009 0.014"',
        f'{_BOX} pos="0 0 0.014" size="0.009 0.027 0.014"',
    ),
    "arch": (
        f'{_BOX} pos="0 0.020 0.014" size="0.011 0.007 0.014"',
        f'{_BOX} pos="0 -0.020 0.014" size="0.011 0.007 0.014"',
        f'{_BOX} pos="0 0 0.034" size="0.011 0.027 0.006"',
    ),
    "drawer": (
        f'{_BOX} pos="-0.002 0 0.022" size="0.022 0.026 0.022"',
        f'{_TRIM} {_BOX} pos="0.022 0 0.022" size="0.003 0.023 0.018"',
        f'{_BOX} pos="0.029 0 0.024" size="0.004 0.010 0.004"',
    ),
    "button": (
        f'{_TRIM} {_BOX} pos="0 0 0.005" size="0.026 0.026 0.005"',
        f'{_ROUND} pos="0 0 0.014" size="0.016 0.005"',
    ),
    "bin": (
        f'{_TRIM} {_BOX} pos="0 0 0.002" size="0.026 0.026 0.002"',
        f'{_BOX} pos="0.025 0 0.013" size="0.003 0.028 0.013"',
        f'{_BOX} pos="-0.025 0 0.013" size="0.003 0.028 0.013"',
        f'{_BOX} pos="0 0.025 0.013" size="0.028 0.003 0.013"',
        f'{_BOX} pos="0 -0.025 0.013" size="0.028 0.003 0.013"',
    ),
}
"""Geoms of each kind at size "small", the foot at the origin, facing the camera (+x); trim keeps its own colour."""
TRIM = (0.45, 0.36, 0.28)
LEAST_SEEN = 0.6
"""Share of a thing's own outline that must be in the picture and not hidden by others."""
TRIES = 1000


def _xml() -> str:
    slots = "".join(
        f'<body name="slot{i}" mocap="true">'
        + "".join(f"<geom {geom}/>" for kind in KINDS for geom in _GEOMS[kind])
        + "</body>"
        for i in range(MOST)
    )
    return f"""
<mujoco model="pairs">
  <visual>
    <headlight ambient="0.42 0.42 0.42" diffuse="0.30 0.30 0.30" specular="0 0 0"/>
    <map znear="0.02" zfar="20"/>
  </visual>
  <statistic extent="1.0" center="0 0 0"/>
  <default>
    <geom contype="0" conaffinity="0" rgba="0 0 0 0"/>
    <default class="trim"><geom rgba="{TRIM[0]} {TRIM[1]} {TRIM[2]} 1"/></default>
  </default>
  <asset>
    <texture name="checker" type="2d" builtin="checker" width="64" height="64"
      rgb1="0.66 0.66 0.68" rgb2="0.54 0.55 0.58"/>
    <texture name="gradient" type="2d" builtin="gradient" width="64" height="64"
      rgb1="0.74 0.68 0.60" rgb2="0.55 0.50 0.45"/>
    <texture name="flat" type="2d" builtin="flat" width="16" height="16" mark="edge"
      markrgb="0.46 0.46 0.48" rgb1="0.60 0.61 0.62"/>
    <material name="table0" rgba="0.56 0.57 0.58 1" specular="0" shininess="0"/>
    <material name="table1" texture="checker" texrepeat="8 8" specular="0" shininess="0"/>
    <material name="table2" texture="gradient" texrepeat="2 2" specular="0" shininess="0"/>
    <material name="table3" texture="flat" texrepeat="10 10" specular="0" shininess="0"/>
  </asset>
  <worldbody>
    <light name="sun" pos="0 0 2" dir="0 0 -1" type="directional" diffuse="0.5 0.5 0.5" castshadow="false"/>
    <camera name="front" pos="0.5 0 0.5"/>
    <geom name="table" type="box" pos="-0.3 0 -0.03" size="1.2 1.2 0.03" material="table0" rgba="0.5 0.5 0.5 1"/>
    {slots}
  </worldbody>
</mujoco>"""


class PairWorld:
    """Draws scenes.

    Args:
        size: height and width of a picture in pixels.
    """

    def __init__(self, *, size: int = 96) -> None:
        self.size = size
        self._model = mujoco.MjModel.from_xml_string(_xml())
        self._data = mujoco.MjData(self._model)
        model = self._model
        self._slots: list[dict[str, np.ndarray]] = []
        for i in range(MOST):
            first, where = int(model.body_geomadr[model.body(f"slot{i}").id]), {}
            for kind in KINDS:
                where[kind] = np.arange(first, first + len(_GEOMS[kind]))
                first += len(_GEOMS[kind])
            self._slots.append(where)
        self._all = np.array([[g for geoms in slot.values() for g in geoms] for slot in self._slots])
        self._owner = np.full(model.ngeom + 1, -1)
        for i, geoms in enumerate(self._all):
            self._owner[geoms] = i
        self._sizes, self._places, self._paint = model.geom_size.copy(), model.geom_pos.copy(), model.geom_rgba.copy()
        self._bounds = model.geom_rbound.copy()
        self._material = model.mat_rgba.copy()
        self._light = model.light_diffuse.copy()
        self._renderer = Renderer(self._model, ["front"], size)
        self._labels = Renderer(self._model, ["front"], size, semantics=True)
        self._outline: dict[tuple[str, str], float] = {}

    def render(self, scene: PairScene) -> np.ndarray:
        """uint8 [size size 3]."""
        self._arrange(scene)
        return self._renderer.render(self._data).images["front"]

    def seen(self, scene: PairScene) -> np.ndarray:
        """float [n]: each thing's visible pixels over those it has alone in the middle, scaled to its distance."""
        alone = [self._alone(t, scene.view) for t in scene.things]
        return self._count(scene) / np.array(alone)

    def draw(self, seed: int, *, unseen: bool = False) -> tuple[PairScene, np.ndarray]:
        """The first scene of a seed in which every thing is seen well, and its picture."""
        for attempt in range(TRIES):
            scene = sample(seed * TRIES + attempt, unseen=unseen)
            self._arrange(scene)
            views = self._labels.render(self._data)
            owner = self._owner[views.semantics["front"]]
            counts = np.bincount(owner[owner >= 0], minlength=len(scene.things))[: len(scene.things)]
            edge = np.concatenate([owner[0], owner[-1], owner[:, 0], owner[:, -1]])
            alone = [self._alone(t, scene.view) for t in scene.things]
            if (edge < 0).all() and (counts >= LEAST_SEEN * np.array(alone)).all():
                return scene, views.images["front"]
        raise AssertionError(f"no clear scene for seed {seed}")

    def close(self) -> None:
        self._renderer.close()
        self._labels.close()

    def _count(self, scene: PairScene) -> np.ndarray:
        self._arrange(scene)
        owner = self._owner[self._labels.render(self._data).semantics["front"]]
        return np.bincount(owner[owner >= 0], minlength=len(scene.things))[: len(scene.things)]

    def _alone(self, thing: Thing, view: View) -> float:
        """Pixels of a kind and size alone in the middle of a reference view, scaled to this view and distance."""
        key = (thing.size, thing.kind)
        reference = View(0.54, 0.57, 35.5, (0.0, 0.0, -1.0), 1.0, 0, (1.0, 1.0, 1.0))
        if key not in self._outline:
            kept = self._data.mocap_pos.copy(), self._data.mocap_quat.copy()
            alone = PairScene((Thing(thing.size, "red", thing.kind, 0.0, 0.0, 0.0),), reference)
            self._outline[key] = float(self._count(alone)[0])
            self._data.mocap_pos[:], self._data.mocap_quat[:] = kept
        return self._outline[key] * (_scale(thing, view) / _scale(Thing("", "", "", 0, 0, 0), reference)) ** 2

    def _arrange(self, scene: PairScene) -> None:
        model, data, view = self._model, self._data, scene.view
        model.geom_rgba[self._all] = 0
        for i, thing in enumerate(scene.things):
            geoms, factor = self._slots[i][thing.kind], SIZES[thing.size]
            model.geom_size[geoms] = self._sizes[geoms] * factor
            model.geom_pos[geoms] = self._places[geoms] * factor
            model.geom_rbound[geoms] = self._bounds[geoms] * factor
            trim = self._paint[geoms, 3:] > 0
            model.geom_rgba[geoms] = np.where(trim, self._paint[geoms], (*COLORS[thing.color], 1.0))
            data.mocap_pos[i] = (thing.near, thing.right, 0.0)
            data.mocap_quat[i] = (math.cos(thing.yaw / 2), 0, 0, math.sin(thing.yaw / 2))
        self._look(view)
        mujoco.mj_kinematics(model, data)
        mujoco.mj_camlight(model, data)

    def _look(self, view: View) -> None:
        model = self._model
        assert 0 <= view.table < TABLES
        material = model.mat(f"table{view.table}").id
        model.geom_matid[model.geom("table").id] = material
        model.mat_rgba[material, :3] = np.clip(self._material[material, :3] * view.tint, 0, 1)
        light = np.array(view.light)
        model.light_dir[0] = light / np.linalg.norm(light)
        model.light_diffuse[0] = self._light[0] * view.brightness
        model.cam_fovy[0] = view.fovy
        model.cam_pos[0] = (view.near, 0.0, view.height)
        back = np.array([view.near, 0.0, view.height]) / math.hypot(view.near, view.height)
        up = np.cross(back, (0.0, 1.0, 0.0))
        mujoco.mju_mat2Quat(model.cam_quat[0], np.column_stack([(0.0, 1.0, 0.0), up, back]).ravel())


def _scale(thing: Thing, view: View) -> float:
    """Pixels a metre, up to a constant."""
    distance = math.hypot(view.near - thing.near, view.height)
    return 1 / (distance * math.tan(math.radians(view.fovy) / 2))
