"""A robot's file, its calibration, and the driver that it names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from bridge_body import StickBody
from robot_files import robot_file, write_robot

from wayhand.scripts.robots import FileRobot, shorthand
from wayhand.vla.bridge.clock import VirtualClock
from wayhand.vla.bridge.limit_files import LARGEST
from wayhand.vla.bridge.limits import Limits
from wayhand.vla.bridge.robots.calibrated import CalibratedDriver, JointCalibration
from wayhand.vla.bridge.robots.driver import Driver
from wayhand.vla.bridge.robots.simulated_driver import SimulatedDriver
from wayhand.vla.bridge.robots.template import TemplateDriver
from wayhand.vla.errors import ConfigError, RobotError

TEMPLATE = "wayhand.vla.bridge.robots.template.TemplateDriver"
SIZE = "\n[cameras.front]\nheight = 4\nwidth = 6\n"
CAMERA = SIZE + "fx = 5.0\nfy = 5.0\ncx = 3.0\ncy = 2.0\ndistortion = [0.1, 0.0, 0.0, 0.0, 0.0]\n"


def test_a_file_says_the_spec_and_the_limits(tmp_path: Path) -> None:
    more = "[calibration.q2]\nsign = -1\nscale = 0.5\noffset = 0.1\nlower = -1.0\n" + CAMERA
    file = robot_file(tmp_path, driver="ros2", more=more + "[plausibility]\nlate = 1\nframes = 5\n")
    assert file.spec.embodiment == "stick" and file.spec.control_dt == pytest.approx(0.05)
    assert [e.name for e in file.spec.action_elements] == ["q1", "q2", "width"]
    assert [e.unit for e in file.spec.state] == ["rad", "rad", "m"]
    assert file.spec.camera("front").width == 6 and file.distortion["front"][0] == 0.1
    assert file.limits.lower.tolist() == [-2.0, -1.0, 0.0], "the calibrated range is tighter"
    assert file.plausibility.late == 1.0 and file.plausibility.frames == 5
    raw = file.raw_limits
    # q2 = −0.5 raw + 0.1, so that raw 2.2 is −1 and raw −3.8 is 2.
    np.testing.assert_allclose([raw.lower[1], raw.upper[1], raw.velocity[1]], [-3.8, 2.2, 4.0])
    assert raw.jerk is None and raw.squeezed.tolist() == [0.0, 0.0, 0.08]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("[limit.q1]\nlower = 0.0\n", "Unknown key 'limit'.*did you mean 'limits'"),
        ("[calibration.q3]\nsign = 1\n", "Unknown key 'q3' in .calibration."),
        ("[calibration.q1]\nsgn = 1\n", "did you mean 'sign'"),
        ("[calibration.q1]\nsign = 2\n", "sign 1 or -1"),
        ("[calibration.q1]\noffset = nan\n", "must be finite"),
        ("[cameras.front]\nheight = 4\n", "lacks 'width'"),
        ("[cameras.front]\nheight = 0\nwidth = 3\nfx = 1\nfy = 1\ncx = 1\ncy = 1\n", "cameras.front.height"),
        (SIZE.replace("6", "6.5") + "fx = 1\nfy = 1\ncx = 1\ncy = 1\n", "whole number of pixels"),
        (CAMERA + "position = [0.0, 1.0]\n", "cameras.front.position.* must be 3 numbers"),
        (CAMERA.replace("[0.1, ", "["), "distortion.* must be 5 numbers"),
        ("[plausibility]\nlat = 1\n", "did you mean 'late'"),
        ("[units\n", "no TOML|not a TOML"),
        (f"{'a.' * (LARGEST // 2)}a = 1", "too large"),
    ],
)  # fmt: skip
def test_what_a_file_says_wrong_is_named(tmp_path: Path, more: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        robot_file(tmp_path, driver="ros2", more=more)


def test_a_joint_without_limits_is_named(tmp_path: Path) -> None:
    path = write_robot(tmp_path, driver="ros2")
    path.write_text(path.read_text().replace('["q1", "q2"]', '["q1", "q2", "q3"]'))
    with pytest.raises(ConfigError, match=r"Limits are missing[\s\S]*q3.lower"):
        FileRobot(file=str(path))


def test_a_file_names_its_driver(tmp_path: Path) -> None:
    path = str(write_robot(tmp_path, driver=TEMPLATE, more='[options]\naddress = "10.0.0.9"\n'))
    driver = FileRobot(file=path)()
    assert isinstance(driver, TemplateDriver)
    with pytest.raises(ConfigError, match="another driver"):
        FileRobot(file=path, driver="ros2")
    for name, message in (("roz2", "unknown driver"), ("os.path.join", "may not name"),
                          ("wayhand.vla.contract.EnvSpec", "no driver")):  # fmt: skip
        with pytest.raises(ConfigError, match=message):
            FileRobot(file=str(write_robot(tmp_path, driver=name)))
    assert shorthand(["robot=a/arm.toml", "seconds=1"]) == ["robot=file", "robot.file='a/arm.toml'", "seconds=1"]
    assert shorthand(["robot=ros2"]) == ["robot=ros2"]


def test_a_calibrated_robot_is_another_one_to_everybody_but_its_driver() -> None:
    clock = VirtualClock()
    raw = SimulatedDriver(StickBody(goal=9.0), clock=clock)
    names = ("q1", "q2", "gripper_width")
    rows = {
        "q1": JointCalibration(sign=-1, offset=0.5),
        "q2": JointCalibration(scale=2.0),
        "gripper_width": JointCalibration(),
    }
    limits = Limits(names, [-2.0, -4.0, 0.0], [2.5, 4.0, 0.08], [2.0, 4.0, 0.2], [20.0, 40.0, 4.0])  # type: ignore[arg-type]
    driver: Driver = CalibratedDriver(raw, raw.spec, limits, rows)
    driver.connect()
    before = raw.read_state().state  # gripper_width, q1, q2
    np.testing.assert_allclose(driver.read_state().state, [before[0], 0.5 - before[1], 2 * before[2]], rtol=1e-6)
    here = np.array([0.5 - before[1], 2 * before[2], before[0]], np.float64)
    for k in range(1, 101):
        driver.command(here + np.array([0.001 * k, 0.002 * k, 0.0]), 0.01 * (k + 1))
        clock.sleep_until(0.01 * k)
    clock.sleep_until(2.0)
    after = raw.read_state().state
    np.testing.assert_allclose(after - before, [0.0, -0.1, 0.1], atol=2e-2)
    np.testing.assert_allclose(driver.read_state().state[1], here[0] + (before[1] - after[1]), atol=1e-5)
    with pytest.raises(RobotError, match="finite"):
        driver.command(np.full(3, np.nan), 9.0)
    driver.close()
