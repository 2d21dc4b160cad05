"""A ROS 2 robot from its file.

driver = "ros2"

[ros2]
joint_states = "/joint_states"
domain = 0                                   # ROS_DOMAIN_ID
network = "127.0.0.1"                        # interface by name or address
patience = 10.0                              # seconds until all of the graph must be there

[ros2.controllers.arm]                       # of every group of the action
topic = "/arm_controller/joint_trajectory"
kind = "trajectory"                          # or forward, see `ros2_commands.Controller`

[ros2.cameras]
front = "/front/compressed"

A base, with the table [base] of `base_table` and no groups, has instead of joints and controllers:

[ros2]
odometry = "/odom"
cmd_vel = "/cmd_vel"
odom_frame = "odom"                          # and base_frame: what the odometry must be in; any where left away
base_frame = "base_link"
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...errors import ConfigError
from .robot_file import RobotFile
from .ros2 import Ros2Robot, Topics
from .ros2_base import Ros2Base
from .ros2_commands import Controller

_SHARED = ("domain", "network", "patience", "cameras")
_KEYS = (*_SHARED, "joint_states", "controllers")
_BASE_KEYS = (*_SHARED, "odometry", "cmd_vel", "odom_frame", "base_frame")


def ros2_robot(file: RobotFile) -> Ros2Robot | Ros2Base:
    """The driver in raw joints. Raises `ConfigError` for a key that is not known or a value of another type."""
    options, base = file.options, file.base
    keys = _KEYS if base is None else _BASE_KEYS
    if odd := [k for k in options if k not in keys]:
        raise ConfigError(f"Unknown key in [ros2] of {file.path}", got=", ".join(odd), exists=keys)
    try:
        known: Mapping[str, Any] = {k: options[k] for k in ("domain", "network") if k in options}
        cameras, patience = dict(options.get("cameras", {})), float(options.get("patience", 10.0))
        if base is not None:
            topics = Topics(**_base_topics(options), cameras=cameras, **known)
        else:
            controllers = {g: Controller(**row) for g, row in dict(options.get("controllers", {})).items()}
            states = str(options.get("joint_states", "/joint_states"))
            topics = Topics(controllers=controllers, joint_states=states, cameras=cameras, **known)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"[ros2] of {file.path} does not fit", got=str(error)) from error
    if base is not None:
        return Ros2Base(table=base, spec=file.spec, topics=topics, patience=patience)
    return Ros2Robot(spec=file.spec, limits=file.raw_limits, topics=topics, patience=patience)


def _base_topics(options: Mapping[str, Any]) -> dict[str, Any]:
    said = [str(options[k]) for k in ("odom_frame", "base_frame") if k in options]
    if len(said) == 1:
        raise ValueError("odom_frame and base_frame are said both or not at all")
    return {
        "controllers": {"base": Controller(str(options.get("cmd_vel", "/cmd_vel")), "twist")},
        "odometry": str(options.get("odometry", "/odom")),
        "odometry_frames": (said[0], said[1]) if said else None,
    }
