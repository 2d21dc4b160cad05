"""The one compiled model of the tabletop, and how a layout is put into it without compiling again.

Every scene uses the same model: five object slots that can take any shape, two bins and a chest of three drawers
(and, where a task asks for them, three buttons).
What a layout does not use is parked out of sight. A reset therefore costs microseconds, not a compilation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import mujoco
import numpy as np

from .layout import BINS, BUTTONS, DRAWER_X, DRAWER_Y, DRAWERS, SLOTS, Layout
from .objects import COLORS, DRAWER_PLACES, SHAPES

ROBOT = "robot/"
"""Prefix of the robot's names in the scene."""
_PARKED = -2.0
_MASS = 0.08

_SHAPE_GEOMS = {
    "cube": '<geom {c} type="box" size="0.020 0.020 0.020"/>',
    "cylinder": '<geom {c} type="cylinder" size="0.020 0.022"/>',
    "cross": '<geom {c} type="box" size="0.024 0.009 0.018"/><geom {c} type="box" size="0.009 0.024 0.018"/>',
    "arch": '<geom {c} type="box" pos="0 0.0155 -0.008" size="0.018 0.0075 0.013"/>'
    '<geom {c} type="box" pos="0 -0.0155 -0.008" size="0.018 0.0075 0.013"/>'
    '<geom {c} type="box" pos="0 0 0.013" size="0.018 0.023 0.008"/>',
}


def _slot(i: int) -> str:
    shapes = "".join(xml.format(c='class="object"') for xml in _SHAPE_GEOMS.values())
    return f"""
    <body name="slot{i}" pos="0 0 {_PARKED}" gravcomp="1">
      <freejoint name="slot{i}"/>
      <inertial pos="0 0 0" mass="{_MASS}" diaginertia="3e-5 3e-5 3e-5"/>
      {shapes}
    </body>"""


def _bin(i: int) -> str:
    wall = '<geom class="fixture" type="box" pos="{}" size="{}"/>'
    half, t, h = 0.056, 0.004, 0.018
    return f"""
    <body name="bin{i}" pos="0 0 {_PARKED}">
      {wall.format("0 0 0.002", f"{half} {half} 0.002")}
      {wall.format(f"{half} 0 {h}", f"{t} {half + t} {h}")}{wall.format(f"{-half} 0 {h}", f"{t} {half + t} {h}")}
      {wall.format(f"0 {half} {h}", f"{half} {t} {h}")}{wall.format(f"0 {-half} {h}", f"{half} {t} {h}")}
    </body>"""


def _drawer(i: int) -> str:
    geom = '<geom class="fixture" type="box" pos="{}" size="{}"/>'
    return f"""
      <body name="drawer{i}" pos="0 {DRAWER_Y[i]} 0.04">
        <joint name="drawer{i}" type="slide" axis="-1 0 0" range="0 0.11" damping="8" frictionloss="0.6"
          armature="0.1"/>
        {geom.format("0.006 0 0", "0.006 0.055 0.034")}{geom.format("0.144 0 0", "0.006 0.055 0.034")}
        {geom.format("0.075 0.051 -0.006", "0.070 0.004 0.028")}
        {geom.format("0.075 -0.051 -0.006", "0.070 0.004 0.028")}
        {geom.format("0.075 0 -0.031", "0.070 0.051 0.003")}
        {geom.format("-0.016 0 -0.010", "0.018 0.008 0.007")}{geom.format("-0.040 0 0.012", "0.009 0.011 0.029")}
      </body>"""


BUTTON_TOP = 0.034
"""Height of a button's upper face while nothing presses it [m]."""


def _button(i: int) -> str:
    """A housing with a round cap that a spring holds up; it gives way by 12 mm."""
    return f"""
    <body name="button{i}" pos="0 0 {_PARKED}">
      <geom class="frame" type="box" pos="0 0 0.008" size="0.034 0.034 0.008"/>
      <body name="cap{i}" pos="0 0 {BUTTON_TOP - 0.010}">
        <joint name="button{i}" type="slide" axis="0 0 -1" range="0 0.012" stiffness="150" springref="-0.006"
          damping="4" armature="0.05"/>
        <geom class="fixture" type="cylinder" size="0.024 0.010"/>
      </body>
    </body>"""


_CONTACT = "".join(f'<exclude body1="button{i}" body2="cap{i}"/>' for i in range(BUTTONS))
"""A cap slides inside its housing; MuJoCo would let them collide because the housing is fixed to the world."""


def scene_xml(physics_hz: float, *, buttons: bool = False) -> str:
    """MJCF of everything but the robot; the table top is the plane z = 0 and the robot's base stands on its origin."""
    rails = "".join(
        f'<geom class="frame" type="box" pos="0.075 {y} 0.02" size="0.078 0.005 0.020"/>'
        for y in (-0.192, -0.064, 0.064, 0.192)
    )
    return f"""
<mujoco model="tabletop">
  <compiler angle="radian" autolimits="true"/>
  <option timestep="{1.0 / physics_hz!r}" integrator="implicitfast" cone="elliptic" impratio="8" iterations="30"
    tolerance="1e-9"/>
  <visual>
    <headlight ambient="0.42 0.42 0.42" diffuse="0.32 0.32 0.32" specular="0 0 0"/>
    <map znear="0.02" zfar="20"/>
  </visual>
  <statistic extent="1.0" center="0.45 0 0.1"/>
  <default>
    <geom friction="0.5 0.01 0.0005" solref="0.008 1" solimp="0.93 0.99 0.001"/>
    <default class="object"><geom contype="1" conaffinity="3" rgba="0 0 0 0" mass="0"/></default>
    <default class="fixture"><geom contype="1" conaffinity="3" rgba="0.5 0.5 0.5 1"/></default>
    <default class="frame"><geom contype="1" conaffinity="3" rgba="0.25 0.22 0.20 1"/></default>
  </default>
  <asset>
    <texture name="checker" type="2d" builtin="checker" width="64" height="64"
      rgb1="0.62 0.62 0.64" rgb2="0.48 0.50 0.53"/>
    <texture name="gradient" type="2d" builtin="gradient" width="64" height="64"
      rgb1="0.70 0.62 0.52" rgb2="0.45 0.40 0.34"/>
    <texture name="flat" type="2d" builtin="flat" width="8" height="8" mark="edge"
      markrgb="0.4 0.4 0.42" rgb1="0.58 0.59 0.60"/>
    <material name="table0" rgba="0.50 0.51 0.53 1" specular="0" shininess="0"/>
    <material name="table1" texture="checker" texrepeat="8 8" specular="0" shininess="0"/>
    <material name="table2" texture="gradient" texrepeat="2 2" specular="0" shininess="0"/>
    <material name="table3" texture="flat" texrepeat="12 12" specular="0" shininess="0"/>
  </asset>
  <worldbody>
    <light name="sun" pos="0.9 -0.5 1.6" dir="-0.35 0.35 -1" type="directional" diffuse="0.5 0.5 0.5"
      specular="0.1 0.1 0.1" castshadow="false"/>
    {_camera("front", (1.02, 0.0, 0.56), (0.465, 0.0, 0.035), 37)}
    {_camera("overview", (1.22, -0.82, 0.88), (0.30, 0.0, 0.20), 45)}
    <geom name="floor" type="plane" pos="0 0 -0.6" size="12 12 0.1" rgba="0.26 0.28 0.31 1" contype="0"
      conaffinity="0"/>
    <geom name="table" type="box" pos="0.30 0 -0.03" size="0.55 0.52 0.03" material="table0" contype="1"
      conaffinity="3"/>
    <site name="robot" pos="0 0 0"/>
    {"".join(_slot(i) for i in range(SLOTS))}
    {"".join(_bin(i) for i in range(BINS))}
    {"".join(_button(i) for i in range(BUTTONS)) if buttons else ""}
    <body name="chest" pos="{DRAWER_X} 0 {_PARKED}">{rails}{"".join(_drawer(i) for i in range(DRAWERS))}</body>
  </worldbody>
  {f"<contact>{_CONTACT}</contact>" if buttons else ""}
</mujoco>"""


def _camera(name: str, position: Sequence[float], target: Sequence[float], fovy: float) -> str:
    """A fixed camera at `position` that looks at `target`, the world's z axis up in the picture."""
    z = np.subtract(position, target)
    x = np.cross((0.0, 0.0, 1.0), z)
    axes = " ".join(f"{v:.6f}" for v in (*(x / np.linalg.norm(x)), *np.cross(z, x) / np.linalg.norm(np.cross(z, x))))
    return f'<camera name="{name}" pos="{position[0]} {position[1]} {position[2]}" xyaxes="{axes}" fovy="{fovy}"/>'


def compile_scene(robot: mujoco.MjSpec, physics_hz: float, *, buttons: bool = False) -> mujoco.MjModel:
    """The scene with `robot` attached at its origin; bodies nobody asks for cost time in every step."""
    scene = mujoco.MjSpec.from_string(scene_xml(physics_hz, buttons=buttons))
    scene.attach(robot, prefix=ROBOT, site=scene.site("robot"))
    return scene.compile()


class Stage:
    """Addresses of the movable things in a compiled model, and the edits that realise a layout."""

    def __init__(self, model: mujoco.MjModel) -> None:
        self._model = model
        self.slot_qpos = np.array([model.joint(f"slot{i}").qposadr[0] for i in range(SLOTS)])
        self.slot_body = np.array([model.body(f"slot{i}").id for i in range(SLOTS)])
        self.drawer_qpos = np.array([model.joint(f"drawer{i}").qposadr[0] for i in range(DRAWERS)])
        self.bin_body = np.array([model.body(f"bin{i}").id for i in range(BINS)])
        self.drawer_body = [model.body(f"drawer{i}").id for i in range(DRAWERS)]
        self._chest = model.body("chest").id
        names = {model.body(i).name for i in range(model.nbody)}
        fitted = [i for i in range(BUTTONS) if f"button{i}" in names]
        self.button_qpos = np.array([model.joint(f"button{i}").qposadr[0] for i in fitted], int)
        self.button_body = np.array([model.body(f"button{i}").id for i in fitted], int)
        self.cap_body = np.array([model.body(f"cap{i}").id for i in fitted], int)
        self._shape_geoms: list[dict[str, list[int]]] = []
        for body in self.slot_body:
            geoms = iter(range(model.body_geomadr[body], model.body_geomadr[body] + model.body_geomnum[body]))
            self._shape_geoms.append(
                {s: [next(geoms) for _ in range(xml.count("<geom"))] for s, xml in _SHAPE_GEOMS.items()}
            )

    @staticmethod
    def drawer_of(place: str) -> int:
        """Index of the drawer at a place."""
        return DRAWER_PLACES.index(place)

    def _paint(self, body: int, color: str) -> None:
        start, count = self._model.body_geomadr[body], self._model.body_geomnum[body]
        self._model.geom_rgba[start : start + count, :3] = COLORS[color]

    def apply(self, layout: Layout, data: mujoco.MjData) -> None:
        """Edit the model and `data.qpos` so that the table holds exactly `layout`."""
        model = self._model
        for i in range(SLOTS):
            thing = layout.things[i] if i < len(layout.things) else None
            for shape, geoms in self._shape_geoms[i].items():
                shown = thing is not None and thing.pair[1] == shape
                model.geom_contype[geoms] = 1 if shown else 0
                model.geom_conaffinity[geoms] = 3 if shown else 0
                model.geom_rgba[geoms] = (*COLORS[thing.pair[0]], 1.0) if shown and thing else (0, 0, 0, 0)
            model.body_gravcomp[self.slot_body[i]] = 0.0 if thing else 1.0
            at = self.slot_qpos[i]
            if thing is None:
                data.qpos[at : at + 7] = (0.3 * i, 0.0, _PARKED, 1, 0, 0, 0)
            else:
                height = SHAPES[thing.pair[1]].half_height
                turn = (math.cos(thing.yaw / 2), 0, 0, math.sin(thing.yaw / 2))
                data.qpos[at : at + 7] = (thing.x, thing.y, height, *turn)
        for i in range(BINS):
            body = self.bin_body[i]
            if i < len(layout.bins):
                model.body_pos[body] = (layout.bins[i].x, layout.bins[i].y, 0.0)
                self._paint(body, layout.bins[i].color)
            else:
                model.body_pos[body] = (0.3 * i, 1.0, _PARKED)
        model.body_pos[self._chest, 2] = 0.0 if layout.drawers else _PARKED
        for drawer in layout.drawers:
            self._paint(self.drawer_body[self.drawer_of(drawer.place)], drawer.color)
        for i, body in enumerate(self.button_body):
            if i < len(layout.buttons):
                model.body_pos[body] = (layout.buttons[i].x, layout.buttons[i].y, 0.0)
                self._paint(self.cap_body[i], layout.buttons[i].color)
            else:
                model.body_pos[body] = (0.3 * i, 2.0, _PARKED)
