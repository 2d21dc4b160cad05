"""Robots' files for the tests."""

from __future__ import annotations

from pathlib import Path

from wayhand.vla.bridge.robots.robot_file import RobotFile

ARM = """
embodiment = "stick"
driver = "{driver}"
control_hz = 20.0

[groups]                          # the order of the action
arm = ["q1", "q2"]
gripper = ["width"]

[units]
width = "m"

[limits.q1]
lower = -2.0
upper = 2.0
velocity = 2.0
acceleration = 20.0

[limits.q2]
lower = -2.0
upper = 2.0
velocity = 2.0
acceleration = 20.0

[limits.width]
lower = 0.0
upper = 0.08
velocity = 0.2
acceleration = 4.0
squeeze = 0.08
"""


def write_robot(folder: Path, *, driver: str, more: str = "") -> Path:
    path = folder / "arm.toml"
    path.write_text(ARM.replace("{driver}", driver) + more, encoding="utf-8")
    return path


def robot_file(folder: Path, *, driver: str, more: str = "") -> RobotFile:
    return RobotFile.load(write_robot(folder, driver=driver, more=more))
