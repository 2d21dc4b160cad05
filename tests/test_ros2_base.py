"""A ROS 2 base: its file, its odometers and Twists in virtual time, its conformance, and once over real DDS."""

from __future__ import annotations

import math
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bridge_body import unstarved
from test_robot_conformance import failed
from test_ros2_robot import Lists

from wayhand.scripts.robots import FileRobot
from wayhand.vla.bridge.base import BASE_SPEED, BASE_TARGET, STOOD, BaseTargets
from wayhand.vla.bridge.clock import VirtualClock
from wayhand.vla.bridge.planner import Planner
from wayhand.vla.bridge.process import LoopSettings
from wayhand.vla.bridge.robots.cdr import encode
from wayhand.vla.bridge.robots.conformance import inspect
from wayhand.vla.bridge.robots.exercise import exercise
from wayhand.vla.bridge.robots.robot_file import RobotFile
from wayhand.vla.bridge.robots.ros2 import Topics
from wayhand.vla.bridge.robots.ros2_base import Ros2Base
from wayhand.vla.bridge.robots.ros2_commands import Controller
from wayhand.vla.bridge.robots.ros2_file import ros2_robot
from wayhand.vla.bridge.robots.ros2_messages import ODOMETRY
from wayhand.vla.bridge.session import Episode, Session
from wayhand.vla.contract import ActionChunk
from wayhand.vla.errors import ConfigError, RobotError

FILE = """
embodiment = "walker"
driver = "ros2"
control_hz = 5.0

[base]
speed_m_s = 0.75
turn_rad_s = 1.5
acceleration_m_s2 = 1.5
turn_acceleration_rad_s2 = 3.5
jerk_m_s3 = 20.0
turn_jerk_rad_s3 = 40.0
goal_m = [3.0, 1.0]

[ros2]
odometry = "/odom"
cmd_vel = "/cmd_vel"
odom_frame = "odom"
base_frame = "base"
"""


def write(folder: Path, text: str = FILE) -> Path:
    path = folder / "base.toml"
    path.write_text(text, encoding="utf-8")
    return path


class Floor(Lists):
    """A base on a floor: it follows its Twist after 60 ms, and stands where none came for half a second."""

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__(clock)
        self.pose, self.speed, self.time = np.array([5.0, -2.0, 3.0]), np.zeros(2), clock.now()
        self.frames, self.slip = ("odom", "base"), 1.0
        clock.on_advance.append(self.go_on)

    def go_on(self, now: float) -> None:
        while self.time + 0.01 <= now + 1e-9:
            self.time += 0.01
            told = [(t, m) for t, m in self.lines["/cmd_vel"].sent[-1:] if self.time - t < 0.5]
            wanted = np.array([[m["linear"]["x"], m["angular"]["z"]] for _, m in told] or [[0.0, 0.0]])[0]
            self.speed = self.speed + (wanted - self.speed) * 0.01 / 0.06
            v, w = self.speed * [self.slip, 1.0]
            x, y, yaw = self.pose
            self.pose = np.array([x + v * 0.01 * math.cos(yaw), y + v * 0.01 * math.sin(yaw), yaw + w * 0.01])
            if round(self.time * 100) % 2 == 0:
                self.tell()

    def tell(self) -> None:
        x, y, yaw = self.pose
        yaw = math.remainder(yaw, 2 * math.pi)
        orientation = {"x": 0.0, "y": 0.0, "z": math.sin(yaw / 2), "w": math.cos(yaw / 2)}
        zero = {"x": 0.0, "y": 0.0, "z": 0.0}
        at = {"position": {"x": x, "y": y, "z": 0.0}, "orientation": orientation}
        stamp = {"sec": int(self.time), "nanosec": round(self.time % 1 * 1e9) % 1_000_000_000}
        value = {"header": {"stamp": stamp, "frame_id": self.frames[0]}, "child_frame_id": self.frames[1],
                 "pose": {"pose": at, "covariance": np.zeros(36)},
                 "twist": {"twist": {"linear": zero, "angular": zero}, "covariance": np.zeros(36)}}  # fmt: skip
        self.ears["/odom"](encode(ODOMETRY, value))

    @property
    def twists(self) -> np.ndarray:
        """[N 2] what it was told."""
        return np.array([[m["linear"]["x"], m["angular"]["z"]] for _, m in self.lines["/cmd_vel"].sent])


def base(tmp_path: Path) -> tuple[Ros2Base, Floor, VirtualClock]:
    file = RobotFile.load(write(tmp_path))
    assert file.base is not None
    clock = VirtualClock(100.0)
    floor = Floor(clock)
    topics = Topics(controllers={"base": Controller("/cmd_vel", "twist")}, odometry_frames=("odom", "base"))
    driver = Ros2Base(table=file.base, spec=file.spec, topics=topics, clock=clock, bus=floor)
    driver.connect()
    return driver, floor, clock


def lead(driver: Ros2Base, clock: VirtualClock, seconds: float, way: Callable[[float], Any]) -> None:
    """Command `way(t)` every 10 ms."""
    start = clock.now()
    for k in range(round(seconds / 0.01)):
        driver.command(np.asarray(way((k + 1) * 0.01)), start + (k + 1) * 0.01)
        clock.sleep_until(start + (k + 1) * 0.01)
        driver.read_state()


def ramp(speed: float, rate: float) -> Callable[[float], float]:
    """The way of a speed that is reached with an acceleration."""
    return lambda t: rate * t**2 / 2 if t < speed / rate else speed * t - speed**2 / rate / 2


def test_a_ros2_base_conforms(tmp_path: Path) -> None:
    driver, _, clock = base(tmp_path)
    assert failed(inspect(driver, clock=clock)) == {}
    assert failed(exercise(driver, clock=clock)) == {}
    driver.close()


def test_odometers_count_what_the_wheels_did_and_follow_their_commands(tmp_path: Path) -> None:
    driver, floor, clock = base(tmp_path)
    observation = driver.read()
    observation.check(driver.spec)
    np.testing.assert_allclose(observation.state, 0.0, atol=1e-6)
    np.testing.assert_allclose(observation.extras["pointgoal"], [math.hypot(3, 1), math.atan2(1, 3)], atol=1e-6)
    forward, around = ramp(0.5, 1.0), ramp(1.0, 2.0)
    lead(driver, clock, 4.0, lambda t: [forward(t), around(t)])
    seen = driver.read_state()
    np.testing.assert_allclose(seen.state[4:], [forward(4.0), around(4.0)], atol=0.1)  # more than half a turn
    np.testing.assert_allclose(seen.extras[BASE_SPEED], [0.5, 1.0], atol=1e-6)
    np.testing.assert_allclose(seen.extras[BASE_TARGET], [forward(4.0), around(4.0)], atol=0.03)
    assert float(seen.extras[STOOD]) == 0.0
    turned = floor.pose[2] - 3.0
    assert seen.state[2] == pytest.approx(math.remainder(turned, 2 * math.pi), abs=0.05)
    away = np.hypot(*(floor.pose[:2] - [5.0, -2.0]))
    assert np.hypot(*seen.state[:2]) == pytest.approx(away, abs=0.03)


def test_wheels_that_slip_are_driven_on(tmp_path: Path) -> None:
    driver, floor, clock = base(tmp_path)
    floor.slip = 0.9
    forward = ramp(0.3, 1.0)
    lead(driver, clock, 4.0, lambda t: [forward(t), 0.0])
    lead(driver, clock, 4.0, lambda _: [forward(4.0), 0.0])
    assert driver.read_state().state[4] == pytest.approx(forward(4.0), abs=0.01)
    assert not floor.twists[-1].any()  # and it does not creep
    assert float(driver.read_state().extras[STOOD]) > 0.1


def test_what_it_is_told_stays_inside_the_limits_and_a_stop_brakes(tmp_path: Path) -> None:
    driver, floor, clock = base(tmp_path)
    rng = np.random.default_rng(0)
    steps = np.cumsum(rng.normal(0, 0.05, (200, 2)), axis=0)
    lead(driver, clock, 2.0, lambda t: steps[round(t * 100) - 1])
    driver.stop()
    twists = floor.twists
    assert (np.abs(twists) <= [0.75 + 1e-9, 1.5 + 1e-9]).all()
    forward = ramp(0.6, 1.5)
    driver.reset()
    clock.sleep_until(clock.now() + 0.1)
    driver.read()
    lead(driver, clock, 1.0, lambda t: [forward(t), 0.0])
    begun = len(floor.twists)
    driver.stop()
    braking = floor.twists[begun:, 0]
    assert len(braking) > 20 and braking[-1] == 0.0
    assert np.diff(braking).min() >= -1.5 * 0.01 - 1e-6  # no faster than its limit of acceleration
    driver.command(np.array([9.0, 9.0]), clock.now() + 1.0)
    assert len(floor.twists) == begun + len(braking)


def test_odometry_of_another_frame_is_not_believed(tmp_path: Path) -> None:
    driver, floor, clock = base(tmp_path)
    floor.frames = ("map", "base")
    driver.reset()
    clock.sleep_until(clock.now() + 0.1)
    with pytest.raises(RobotError, match="in 'map'"):
        driver.read_state()


def test_its_file_says_what_a_policy_sees_and_does(tmp_path: Path) -> None:
    robot = FileRobot(file=str(write(tmp_path)))
    spec = robot.policy_spec()
    assert spec.action[0].kind == "base_velocity" and spec.action[0].upper == (0.5, 1.0)
    assert [e.name for e in spec.state] == ["gps_forward", "gps_right", "compass", "elevation"]
    targets = robot.targets(spec, robot.file.spec)
    assert isinstance(targets, BaseTargets) and not robot.guards()
    moves = FileRobot(file=str(write(tmp_path, FILE.replace("goal_m = [3.0, 1.0]", "moves = true"))))
    assert moves.policy_spec().action[0].choices == ("stop", "forward", "left", "right")
    assert not moves.policy_spec().extras


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("speed_m_s", "speed", "Unknown key in .base."),
        ("speed_m_s = 0.75", "", "lacks speed_m_s"),
        ("= 0.75", "= -1.0", "positive"),
        ("goal_m = [3.0, 1.0]", "goal_m = [3.0]", "goal_m"),
        ("jerk_m_s3 = 20.0", "", "jerk"),
        ('cmd_vel = "/cmd_vel"', "cmd_velocity = 3", "Unknown key in .ros2."),
        ('odom_frame = "odom"', "", "both or not at all"),
        ("[base]", "[groups]\narm = ['a']\n[base]", "Unknown key 'groups'"),
    ],
)
def test_what_is_wrong_in_the_file_is_named(tmp_path: Path, before: str, after: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ros2_robot(RobotFile.load(write(tmp_path, FILE.replace(before, after, 1))))


# --- over DDS --------------------------------------------------------------------------------------------------


class Circle:
    """A policy that drives along an arc."""

    def __init__(self, spec: Any) -> None:
        self.spec = spec

    def init(self, spec: Any, seeds: Any) -> Any:
        return ()

    def act(self, observations: Any, memory: Any, **_: Any) -> Any:
        [o] = observations
        actions = np.tile(np.array([0.1, 0.2], np.float32), (30, 1))
        return [ActionChunk(actions, o.time + 0.2 * np.arange(1, 31), o.time)], memory, {}


@pytest.fixture
def walker(tmp_path: Path) -> Iterator[Path]:
    """The file of a base that lives in a process of its own."""
    pytest.importorskip("cyclonedds", reason="cyclonedds is not installed: pip install --no-deps cyclonedds==11.0.1")
    domain = 10 + time.time_ns() // 1000 % 80
    script = str(Path(__file__).with_name("ros2_peer.py"))
    command = [sys.executable, script, str(domain), "", "drive"]
    peer = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    busy = f"domain = {domain}\npatience = 60.0\n[plausibility]\nlate = 30.0\nlag = 30.0\n"
    try:
        yield write(tmp_path, FILE + busy)
    finally:
        peer.communicate()


def test_a_ros2_base_is_driven_from_its_file(walker: Path) -> None:
    robot = FileRobot(file=str(walker), driver="ros2")
    settings = LoopSettings(rate_hz=50.0, stale=5.0, oldest=5.0, plausibility=robot.plausibility)
    with Session(factory=robot, settings=settings) as session:
        policy = Circle(robot.policy_spec())
        targets = robot.targets(policy.spec, session.spec)
        planner = Planner(policy=policy, spec=policy.spec, targets=targets)
        episode = Episode(0, {"seconds": 3.0, "instruction": "go round"}, 5, 0.0)
        outcome = unstarved(lambda: session.run(episode, planner))
        assert outcome.success is None and outcome.reason == "" and outcome.inferences >= 1
        seen = session._body.read()
        assert seen.state[4] > 0.05 and seen.state[5] > 0.1, seen.state
        assert session.finish()["chunks"] >= 1
