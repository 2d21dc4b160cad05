"""The embedded arm: the Franka Panda's kinematics, limits and gripper, drawn with simple shapes.

Joint frames, joint limits and rates follow Franka's public documentation (modified Denavit–Hartenberg parameters of
the Panda). Link shapes, masses and servo gains are our own; they are plausible, not identified.
"""

from __future__ import annotations

import mujoco
import numpy as np

JOINTS = tuple(f"joint{i}" for i in range(1, 8))
JOINT_LOWER = np.array([-2.8973, -1.7628, -2.8973, -3.0718, -2.8973, -0.0175, -2.8973])
JOINT_UPPER = np.array([2.8973, 1.7628, 2.8973, -0.0698, 2.8973, 3.7525, 2.8973])
JOINT_VELOCITY = np.array([2.1750, 2.1750, 2.1750, 2.1750, 2.6100, 2.6100, 2.6100])
JOINT_ACCELERATION = np.array([15.0, 7.5, 10.0, 12.5, 15.0, 20.0, 20.0])
GRIPPER_WIDTH = 0.08
"""Largest opening between the fingers [m]."""
GRIPPER_VELOCITY, GRIPPER_ACCELERATION = 0.2, 4.0
REST = np.array([0.0, -0.55, 0.0, -2.45, 0.0, 1.90, 0.785398])
"""A posture above the middle of the table [rad]; the redundancy is resolved towards it."""
TCP_OFFSET = 0.1034
"""Hand to tool centre point (between the finger pads), along the hand's z axis [m]."""

FINGERS = ("finger_left", "finger_right")
# Pad friction times table friction stays below 1: above it, a finger that comes down on a thing while pushing it
# presses it to the table harder than it pushes, and both jam.
PAD_FRICTION = 1.1

_GRIP_FORCE = 20.0
_STIFFNESS = (6000.0, 6000.0, 5000.0, 5000.0, 2500.0, 2500.0, 1200.0)
_DAMPING = (260.0, 260.0, 200.0, 200.0, 70.0, 70.0, 40.0)
_TORQUE = (87.0, 87.0, 87.0, 87.0, 12.0, 12.0, 12.0)
_FRAMES = (  # position in the parent, quaternion w x y z
    ("0 0 0.333", "1 0 0 0"),
    ("0 0 0", "0.70710678 -0.70710678 0 0"),
    ("0 -0.316 0", "0.70710678 0.70710678 0 0"),
    ("0.0825 0 0", "0.70710678 0.70710678 0 0"),
    ("-0.0825 0.384 0", "0.70710678 -0.70710678 0 0"),
    ("0 0 0", "0.70710678 0.70710678 0 0"),
    ("0.088 0 0", "0.70710678 0.70710678 0 0"),
)


def _tube(ends: str, radius: float, mass: float = 0.0, kind: str = "capsule", color: str = "shell") -> str:
    return f'<geom class="{color}" type="{kind}" fromto="{ends}" size="{radius}" mass="{mass}"/>'


_SHAPES = (
    _tube("0 0 -0.19 0 0 -0.02", 0.062, 3.0) + _tube("0 0 -0.205 0 0 -0.185", 0.066, 0, "cylinder", "joint"),
    _tube("0 0 -0.075 0 0 0.075", 0.058, 1.0, "cylinder", "joint") + _tube("0 -0.01 0 0 -0.17 0", 0.058, 2.5),
    _tube("0 0 -0.125 0 0 -0.05", 0.057, 2.0)
    + _tube("0 0 -0.15 0 0 -0.125", 0.060, 0, "cylinder", "joint")
    + _tube("0 0 -0.05 0.0825 0 0", 0.052, 1.0),
    _tube("0 0 -0.068 0 0 0.068", 0.054, 1.0, "cylinder", "joint") + _tube("-0.01 0.01 0 -0.0825 0.09 0", 0.050, 2.0),
    _tube("0 0 -0.285 0 0 -0.17", 0.050, 1.5)
    + _tube("0 0.045 -0.14 0 0.045 -0.03", 0.036, 0.7)
    + _tube("0 0 -0.20 0 0.045 -0.13", 0.042, 0.3),
    _tube("0 0 -0.055 0 0 0.060", 0.047, 0.8, "cylinder", "joint") + _tube("0.02 0 0 0.088 0 0", 0.044, 0.6),
    _tube("0 0 -0.02 0 0 0.075", 0.044, 0.5) + _tube("0 0 0.070 0 0 0.107", 0.034, 0.2, "cylinder", "joint"),
)


def _finger(name: str, flip: str) -> str:
    return f"""
      <body name="{name}" pos="0 0 0.0584" quat="{flip}" gravcomp="1">
        <joint name="{name}_slide" class="finger"/>
        <geom class="pad" name="{name}_pad" pos="0 0.0065 0.030" size="0.0105 0.0065 0.0240" mass="0.03"/>
      </body>"""


def _look(position: np.ndarray, target: np.ndarray, up: np.ndarray) -> np.ndarray:
    """Quaternion w x y z of a camera at `position` that looks at `target`."""
    z = position - target
    z = z / np.linalg.norm(z)
    x = np.cross(up, z)
    x = x / np.linalg.norm(x)
    out = np.zeros(4)
    mujoco.mju_mat2Quat(out, np.column_stack([x, np.cross(z, x), z]).ravel())
    return out


def add_tool(hand: mujoco.MjsBody) -> None:
    """Give a Panda hand the tool centre point (site `tcp`) and the camera `wrist`."""
    hand.add_site(name="tcp", pos=[0.0, 0.0, TCP_OFFSET], size=[0.004] * 3, group=5)
    eye = np.array([0.068, 0.0, 0.040])
    turn = _look(eye, np.array([0.012, 0.0, 0.115]), np.array([1.0, 0.0, 0.0]))
    hand.add_camera(name="wrist", pos=eye, quat=turn, fovy=80.0)


def add_servos(spec: mujoco.MjSpec) -> None:
    """Actuators in the order position ×7, velocity ×7, fingers ×2.

    A position servo with velocity feed-forward, as the joint impedance controller of the real arm has it, follows a
    ramp without the lag of plain damping.
    """

    def add(name: str, joint: str, force: float) -> mujoco.MjsActuator:
        return spec.add_actuator(
            name=name, target=joint, trntype=mujoco.mjtTrn.mjTRN_JOINT, forcelimited=1, forcerange=[-force, force]
        )

    for joint, stiffness, torque in zip(JOINTS, _STIFFNESS, _TORQUE, strict=True):
        add(joint, joint, torque).set_to_position(kp=stiffness)
    for joint, damping, torque in zip(JOINTS, _DAMPING, _TORQUE, strict=True):
        add(f"{joint}_rate", joint, torque).set_to_velocity(kv=damping)
    for finger in FINGERS:
        add(finger, f"{finger}_slide", _GRIP_FORCE).set_to_position(kp=7000.0, kv=60.0)


def arm_spec() -> mujoco.MjSpec:
    """The embedded arm: joints `joint1…7`, slides `finger_left_slide`, `finger_right_slide`, site `tcp`, `wrist`."""
    spec = mujoco.MjSpec.from_string(_arm_xml())
    add_tool(spec.body("hand"))
    add_servos(spec)
    return spec


def _arm_xml() -> str:
    inner = f"""
    <body name="hand" pos="0 0 0.107" quat="0.92387953 0 0 -0.38268343" gravcomp="1">
      <geom class="shell" name="palm" type="box" pos="0 0 0.036" size="0.026 0.094 0.026" mass="0.6"
        contype="2" conaffinity="0"/>
      <geom class="joint" type="box" pos="0 0 0.008" size="0.03 0.06 0.008" mass="0.1"/>
      {_finger("finger_left", "1 0 0 0")}{_finger("finger_right", "0 0 0 1")}
    </body>"""
    for i in reversed(range(7)):
        position, quaternion = _FRAMES[i]
        inner = f"""
    <body name="link{i + 1}" pos="{position}" quat="{quaternion}" gravcomp="1">
      <joint name="{JOINTS[i]}" range="{JOINT_LOWER[i]} {JOINT_UPPER[i]}"/>
      {_SHAPES[i]}{inner}
    </body>"""
    return f"""
<mujoco model="arm">
  <compiler angle="radian" autolimits="true"/>
  <default>
    <joint axis="0 0 1" armature="0.1" damping="0.5"/>
    <geom contype="0" conaffinity="0"/>
    <default class="shell"><geom rgba="0.93 0.93 0.95 1"/></default>
    <default class="joint"><geom rgba="0.22 0.23 0.26 1"/></default>
    <default class="finger"><joint type="slide" axis="0 1 0" range="0 0.04" armature="0.1" damping="4"/></default>
    <default class="pad">
      <geom type="box" rgba="0.30 0.31 0.34 1" contype="2" conaffinity="0" condim="4"
        friction="{PAD_FRICTION} 0.02 0.001" priority="1" solref="0.008 1" solimp="0.95 0.99 0.001"/>
    </default>
  </default>
  <worldbody>
    <body name="base" gravcomp="1">
      {_tube("0 0 0.001 0 0 0.05", 0.095, 2.0, "cylinder", "joint")}{_tube("0 0 0.05 0 0 0.11", 0.066, 1.0)}
      {_tube("-0.12 0 0.035 -0.02 0 0.05", 0.05, 1.0)}{inner}
    </body>
  </worldbody>
  <contact><exclude body1="link7" body2="hand"/></contact>
  <equality>
    <joint joint1="finger_left_slide" joint2="finger_right_slide" polycoef="0 1 0 0 0" solref="0.004 1"
      solimp="0.95 0.99 0.001"/>
  </equality>
</mujoco>"""
