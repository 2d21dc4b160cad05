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
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...errors import ConfigError
from .robot_file import RobotFile
from .ros2 import Ros2Robot, Topics
from .ros2_commands import Controller

_KEYS = ("joint_states", "domain", "network", "patience", "controllers", "cameras")


def ros2_robot(file: RobotFile) -> Ros2Robot:
    """The driver in raw joints. Raises `ConfigError` for a key that is not known or a value of another type."""
    options = file.options
    if odd := [k for k in options if k not in _KEYS]:
        raise ConfigError(f"Unknown key in [ros2] of {file.path}", got=", ".join(odd), exists=_KEYS)
    try:
        controllers = {g: Controller(**row) for g, row in dict(options.get("controllers", {})).items()}
        known: Mapping[str, Any] = {k: options[k] for k in ("joint_states", "domain", "network") if k in options}
        topics = Topics(controllers=controllers, cameras=dict(options.get("cameras", {})), **known)
        patience = float(options.get("patience", 10.0))
    except (TypeError, ValueError) as error:
        raise ConfigError(f"[ros2] of {file.path} does not fit", got=str(error)) from error
    return Ros2Robot(spec=file.spec, limits=file.raw_limits, topics=topics, patience=patience)
