"""The `EnvSpec` of the tabletop arm: its cameras, state and action elements."""

from __future__ import annotations

import math
from collections.abc import Sequence

import mujoco

from ...vla.contract import ActionGroup, ArraySpec, Camera, Element, EnvSpec
from ...vla.errors import ConfigError, did_you_mean
from .arm import GRIPPER_WIDTH, JOINT_LOWER, JOINT_UPPER

ACTIONS = ("ee_delta", "joint_position")
POSITION_STEP, ROTATION_STEP = 0.03, 0.15
"""Largest `ee_delta` increments per control step [m, rad]."""

_JOINTS = tuple(Element(f"q{i}", "rad") for i in range(1, 8))
_WIDTH = Element("gripper_width", "m")
_POSE = (
    *(Element(f"ee_{a}", "m") for a in "xyz"),
    *(Element(f"ee_q{a}", "1") for a in "wxyz"),
)


def action_groups(action: str) -> tuple[ActionGroup, ...]:
    """Arm and gripper groups of an action kind.

    Raises:
        ConfigError: unknown kind.
    """
    if action not in ACTIONS:
        close = did_you_mean(action, ACTIONS)
        raise ConfigError(
            "Unknown action kind of the tabletop",
            got=repr(action),
            exists=ACTIONS,
            run=f"env.action={close}" if close else None,
        )
    gripper = ActionGroup("gripper", "joint_position", (_WIDTH,), (0.0,), (GRIPPER_WIDTH,))
    if action == "joint_position":
        return (ActionGroup("arm", action, _JOINTS, tuple(JOINT_LOWER.tolist()), tuple(JOINT_UPPER.tolist())), gripper)
    elements = (*(Element(f"d{a}", "m") for a in "xyz"), *(Element(f"dr{a}", "rad") for a in "xyz"))
    limits = (POSITION_STEP,) * 3 + (ROTATION_STEP,) * 3
    lower = tuple(-x for x in limits)
    return (ActionGroup("arm", action, elements, lower, limits, frame="world", rotation="rotvec"), gripper)


def camera_spec(model: mujoco.MjModel, name: str, size: int, *, depth: bool, semantics: bool) -> Camera:
    """Intrinsics and mounting of a camera of the scene; `name` is the short one (`front`, `wrist`)."""
    index = model.camera(_camera_name(model, name)).id
    body = int(model.cam_bodyid[index])
    focal = 0.5 * size / math.tan(math.radians(float(model.cam_fovy[index])) / 2)
    return Camera(
        name,
        size,
        size,
        focal,
        focal,
        size / 2,
        size / 2,
        frame="world" if body == 0 else model.body(body).name.rsplit("/", 1)[-1],
        position=tuple(float(x) for x in model.cam_pos[index]),
        quaternion=tuple(float(x) for x in model.cam_quat[index]),
        depth=depth,
        semantics=semantics,
    )


def _camera_name(model: mujoco.MjModel, name: str) -> str:
    names = [model.camera(i).name for i in range(model.ncam)]
    for full in names:
        if full.rsplit("/", 1)[-1] == name:
            return full
    raise ConfigError("Unknown camera of the tabletop", got=name, exists=[n.rsplit("/", 1)[-1] for n in names])


def camera_names(model: mujoco.MjModel, cameras: Sequence[str]) -> dict[str, str]:
    """Full name in the model → short name, for each short name in `cameras`; raises `ConfigError` if unknown."""
    return {_camera_name(model, name): name for name in cameras}


def body(
    model: mujoco.MjModel,
    action: str,
    *,
    robot: str,
    cameras: Sequence[str],
    size: int,
    control_dt: float,
    depth: bool = False,
    semantics: bool = False,
) -> EnvSpec:
    """The spec of the arm: state q1…q7 [rad], gripper width [m], pose of the tool centre point; extras `ee_target`."""
    return EnvSpec(
        embodiment="panda" if robot == "embedded" else f"panda-{robot}",
        control_dt=control_dt,
        cameras=tuple(camera_spec(model, c, size, depth=depth, semantics=semantics) for c in cameras),
        state=(*_JOINTS, _WIDTH, *_POSE),
        action=action_groups(action),
        extras={"ee_target": ArraySpec((7,), "float32", "m, quaternion wxyz")},
    )
