"""Which arm stands at the table."""

from __future__ import annotations

import mujoco

from ...vla.errors import ConfigError, did_you_mean
from .arm import arm_spec
from .menagerie import menagerie_spec

ROBOTS = {"embedded": arm_spec, "menagerie": menagerie_spec}
"""Each builds the arm with the joint, site, camera and actuator names of `arm_spec`."""


def load_robot(name: str) -> mujoco.MjSpec:
    """The arm as an editable MJCF spec.

    Raises:
        ConfigError: unknown robot, or its assets are not installed.
    """
    if name not in ROBOTS:
        close = did_you_mean(name, ROBOTS)
        raise ConfigError("Unknown robot", got=repr(name), exists=ROBOTS, run=f"env.robot={close}" if close else None)
    return ROBOTS[name]()
