"""The ROS 2 robot over real DDS on loopback, against a robot that knows only the ROS 2 message definitions."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from test_ros2_robot import LIMITS, PICTURE, SPEC, TOPICS

from wayhand.vla.bridge.robots.ros2 import Ros2Robot
from wayhand.vla.bridge.robots.ros2_messages import IMAGE
from wayhand.vla.errors import ConfigError, RobotError

pytest.importorskip("cyclonedds", reason="cyclonedds is not installed: pip install --no-deps cyclonedds==11.0.1")

# Domains of their own, so that runs side by side do not hear each other; 0 to 100 are safe on every system.
DOMAIN = 10 + time.time_ns() // 1000 % 80
PATIENCE = 60.0  # seconds; a busy machine is slow to let participants find each other
ENDPOINTS = {
    ("subscription", "rt/joint_states", "sensor_msgs::msg::dds_::JointState_"),
    ("subscription", "rt/odom", "nav_msgs::msg::dds_::Odometry_"),
    ("subscription", "rt/front/compressed", "sensor_msgs::msg::dds_::CompressedImage_"),
    ("publication", "rt/arm_controller/joint_trajectory", "trajectory_msgs::msg::dds_::JointTrajectory_"),
    ("publication", "rt/gripper_controller/commands", "std_msgs::msg::dds_::Float64MultiArray_"),
    ("publication", "rt/cmd_vel", "geometry_msgs::msg::dds_::Twist_"),
}
REAL = replace(
    TOPICS,
    controllers={
        "arm": replace(TOPICS.controllers["arm"], topic="/arm_controller/joint_trajectory"),
        "base": TOPICS.controllers["base"],
        "gripper": replace(TOPICS.controllers["gripper"], topic="/gripper_controller/commands"),
    },
    cameras={"front": "/front/compressed"},
    domain=DOMAIN,
)


def renamed(value: Any) -> Any:
    return json.loads(json.dumps(value).replace("gripper_width", "width"))


SPEC_REAL = type(SPEC).from_dict(renamed(SPEC.to_dict()))
LIMITS_REAL = type(LIMITS).from_json(renamed(LIMITS.to_json()))


class Peer:
    def __init__(self) -> None:
        buffer = io.BytesIO()
        Image.fromarray(PICTURE).save(buffer, "PNG")
        script = str(Path(__file__).with_name("ros2_peer.py"))
        command = [sys.executable, script, str(DOMAIN), buffer.getvalue().hex()]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.said: list[dict[str, Any]] = []
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.said.append(json.loads(line))

    def commands(self, topic: str) -> list[Any]:
        return [s["command"] for s in list(self.said) if s.get("topic") == topic and "command" in s]

    def endpoints(self) -> set[tuple[str, str, str]]:
        return {(s["endpoint"], s["topic"], s["type"]) for s in list(self.said) if "endpoint" in s}

    def close(self) -> None:
        self._process.communicate()
        self._thread.join()


@pytest.fixture(scope="module")
def pair() -> Iterator[tuple[Ros2Robot, Peer]]:
    peer = Peer()
    try:
        robot = Ros2Robot(spec=SPEC_REAL, limits=LIMITS_REAL, topics=REAL)
        try:
            robot.wait(PATIENCE)
            yield robot, peer
        finally:
            robot.close()
    finally:
        peer.close()


def until(true: Callable[[], Any]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline, "nothing came"
        time.sleep(0.02)


def test_state_commands_and_the_stop_cross_the_process_border(pair: tuple[Ros2Robot, Peer]) -> None:
    robot, peer = pair
    observation = robot.read()
    observation.check(SPEC_REAL)
    np.testing.assert_allclose(observation.state, [0.04, 0.3, -0.2, np.pi / 2], rtol=1e-6)
    np.testing.assert_array_equal(observation.images["front"], PICTURE)
    assert abs(time.monotonic() - observation.time) < PATIENCE

    robot.command(np.array([0.31, -0.21, 0.5, -0.25, 0.05]), time.monotonic() + 1.0)
    until(
        lambda: peer.commands("rt/gripper_controller/commands") and peer.commands("rt/arm_controller/joint_trajectory")
    )
    until(lambda: peer.commands("rt/cmd_vel"))
    assert peer.commands("rt/gripper_controller/commands")[0] == {"data": [0.05]}
    assert peer.commands("rt/cmd_vel")[0] == {"linear": 0.5, "left": 0.0, "turn": -0.25}
    arm = peer.commands("rt/arm_controller/joint_trajectory")[0]
    assert arm["names"] == ["q1", "q2"]
    ((positions, velocities, ahead),) = arm["points"]
    assert positions == [0.31, -0.21] and velocities == [] and 0.0 < ahead <= 1.0

    robot.stop()
    until(lambda: len(peer.commands("rt/arm_controller/joint_trajectory")) > 1 and len(peer.commands("rt/cmd_vel")) > 1)
    assert peer.commands("rt/cmd_vel")[-1] == {"linear": 0.0, "left": 0.0, "turn": 0.0}
    positions, velocities, _ = peer.commands("rt/arm_controller/joint_trajectory")[-1]["points"][-1]
    assert positions == [0.31, -0.21] and velocities == [0.0, 0.0]


def test_a_ros_2_graph_sees_its_own_topics_and_types(pair: tuple[Ros2Robot, Peer]) -> None:
    _, peer = pair
    until(lambda: peer.endpoints() >= ENDPOINTS)
    assert {e for e in peer.endpoints() if e[1].startswith("rt/")} == ENDPOINTS


def test_joints_that_nobody_publishes_are_named(pair: tuple[Ros2Robot, Peer]) -> None:
    robot, _ = pair
    lonely = replace(REAL, joint_states="/nobody/joint_states")
    other = Ros2Robot(spec=SPEC_REAL, limits=LIMITS_REAL, topics=lonely)
    try:
        with pytest.raises(RobotError, match="joint 'width', joint 'q1', joint 'q2'"):
            other.wait(0.2)
    finally:
        other.close()
    assert robot.stale(PATIENCE) == []


def test_one_process_has_one_network_for_a_domain(pair: tuple[Ros2Robot, Peer]) -> None:
    with pytest.raises(ConfigError, match=r"has its network already[\s\S]*127.0.0.1[\s\S]*eth7"):
        Ros2Robot(spec=SPEC_REAL, limits=LIMITS_REAL, topics=replace(REAL, network="eth7"))
    with pytest.raises(RobotError, match="'nosuch0'"):
        Ros2Robot(spec=SPEC_REAL, limits=LIMITS_REAL, topics=replace(REAL, network="nosuch0", domain=DOMAIN + 1))


def test_a_picture_of_a_camera_crosses_as_raw_bytes() -> None:
    from wayhand.vla.bridge.robots.cdr import decode, encode
    from wayhand.vla.bridge.robots.ros2_dds import Participant

    got: list[bytes] = []
    data = np.random.default_rng(0).integers(0, 256, 224 * 224 * 3, dtype=np.uint8)
    header = {"stamp": {"sec": 1, "nanosec": 0}, "frame_id": ""}
    shape = {"height": 224, "width": 224, "encoding": "rgb8", "is_bigendian": 0, "step": 672}
    payload = encode(IMAGE, {"header": header, **shape, "data": data})
    bus = Participant(domain=DOMAIN)
    try:
        bus.reader("/raw", IMAGE, got.append)
        write = bus.writer("/raw", IMAGE)
        until(lambda: write.matched)
        until(lambda: write(payload) or got)
    finally:
        bus.close()
    np.testing.assert_array_equal(decode(IMAGE, got[0])["data"], data)
