"""The ROS 2 robot on a virtual clock and a bus of lists: joints by name, dates, commands, and a stop at any time."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from bridge_body import LIMITS
from PIL import Image

from wayhand.vla.bridge.clock import VirtualClock
from wayhand.vla.bridge.robots.cdr import Message, decode, encode
from wayhand.vla.bridge.robots.ros2 import Ros2Robot, Topics
from wayhand.vla.bridge.robots.ros2_commands import TICK, Controller
from wayhand.vla.bridge.robots.ros2_messages import COMPRESSED_IMAGE, IMAGE, JOINT_STATE, ODOMETRY
from wayhand.vla.contract import ActionGroup, Camera, Element, EnvSpec, Robot
from wayhand.vla.errors import ConfigError, RobotError

ARM = (Element("q1", "rad"), Element("q2", "rad"))
GRIPPER = (Element("gripper_width", "m"),)
BASE = (Element("forward", "m/s"), Element("turn", "rad/s"))
SPEC = EnvSpec(
    embodiment="cart",
    control_dt=0.05,
    cameras=(Camera("front", 2, 3, 1.0, 1.0, 1.5, 1.0),),
    state=(*GRIPPER, *ARM, Element("heading", "rad")),
    action=(
        ActionGroup("arm", "joint_position", ARM, (-2.0, -2.0), (2.0, 2.0)),
        ActionGroup("base", "base_velocity", BASE, (-1.0, -1.0), (1.0, 1.0), frame="base"),
        ActionGroup("gripper", "joint_position", GRIPPER, (0.0,), (0.08,)),
    ),
)
TOPICS = Topics(
    controllers={
        "arm": Controller("/arm/joint_trajectory", "trajectory"),
        "base": Controller("/cmd_vel", "twist"),
        "gripper": Controller("/gripper/commands", "forward"),
    },
    odometry_state={"heading": "yaw"},
    cameras={"front": "/front/image_raw"},
)
PICTURE = np.arange(18, dtype=np.uint8).reshape(2, 3, 3)


class Line:
    """One topic's publisher."""

    def __init__(self, message: Message, clock: VirtualClock) -> None:
        self.message, self.clock = message, clock
        self.sent: list[tuple[float, dict[str, Any]]] = []
        self.matched, self.broken = True, False

    def __call__(self, payload: bytes) -> None:
        if self.broken:
            raise RobotError("The line is cut")
        self.sent.append((self.clock.now(), decode(self.message, payload)))


class Lists:
    """A bus without a network."""

    def __init__(self, clock: VirtualClock) -> None:
        self.clock, self.closed = clock, False
        self.lines: dict[str, Line] = {}
        self.ears: dict[str, Callable[[bytes], None]] = {}

    def writer(self, topic: str, message: Message) -> Line:
        return self.lines.setdefault(topic, Line(message, self.clock))

    def reader(self, topic: str, message: Message, receive: Callable[[bytes], None]) -> None:
        self.ears[topic] = receive

    def close(self) -> None:
        self.closed = True


class Bench:
    def __init__(self, spec: EnvSpec = SPEC, topics: Topics = TOPICS) -> None:
        self.clock = VirtualClock(100.0)
        self.bus = Lists(self.clock)
        self.robot = Ros2Robot(spec=spec, limits=LIMITS, topics=topics, clock=self.clock, bus=self.bus)
        self.stamp = 5

    def header(self) -> dict[str, Any]:
        return {"stamp": {"sec": self.stamp, "nanosec": 0}, "frame_id": ""}

    def joints(self, **positions: float) -> None:
        value = {"header": self.header(), "name": list(positions), "position": list(positions.values())}
        self.bus.ears["/joint_states"](encode(JOINT_STATE, {**value, "velocity": [], "effort": []}))

    def odometry(self, yaw: float = 0.0) -> None:
        zero = {"x": 0.0, "y": 0.0, "z": 0.0}
        q = {"x": 0.0, "y": 0.0, "z": np.sin(yaw / 2), "w": np.cos(yaw / 2)}
        pose = {"pose": {"position": zero, "orientation": q}, "covariance": np.zeros(36)}
        twist = {"twist": {"linear": zero, "angular": zero}, "covariance": np.zeros(36)}
        value = {"header": self.header(), "child_frame_id": "base", "pose": pose, "twist": twist}
        self.bus.ears["/odom"](encode(ODOMETRY, value))

    def image(self, **changes: Any) -> None:
        rows = np.concatenate([PICTURE.reshape(2, 9), np.zeros((2, 3), np.uint8)], 1)  # rows with a margin
        value = {"header": self.header(), "height": 2, "width": 3, "encoding": "rgb8", "is_bigendian": 0, "step": 12}
        self.bus.ears["/front/image_raw"](encode(IMAGE, {**value, "data": rows.ravel(), **changes}))

    def everything(self) -> None:
        self.joints(q2=-0.2, elbow=9.0, q1=0.3, gripper_width=0.04)
        self.odometry(1.0)
        self.image()

    def sent(self, topic: str) -> list[tuple[float, dict[str, Any]]]:
        return self.bus.lines[topic].sent


def test_it_is_a_robot_whose_observation_fits_its_spec() -> None:
    bench = Bench()
    assert isinstance(bench.robot, Robot)
    bench.everything()
    observation = bench.robot.read()
    observation.check(SPEC)
    np.testing.assert_allclose(observation.state, [0.04, 0.3, -0.2, 1.0], rtol=1e-6)
    np.testing.assert_array_equal(observation.images["front"], PICTURE)
    assert observation.times == {"front": 100.0, "state": 100.0}
    assert not bench.robot.read_state().images


def test_missing_and_wrong_joints_are_named() -> None:
    bench = Bench()
    bench.joints(q1=0.0, gripper_widht=0.0)
    with pytest.raises(
        RobotError, match=r"joint 'gripper_width', joint 'q2', odometry[\s\S]*exists: +gripper_widht, q1"
    ):
        bench.robot.read_state()
    with pytest.raises(RobotError, match="camera 'front'"):
        bench.robot.read()
    bench.bus.lines["/cmd_vel"].matched = False
    with pytest.raises(
        RobotError, match=r"after 0.1 s[\s\S]*joint 'q2'[\s\S]*commands on '/cmd_vel'[\s\S]*ROS_DOMAIN_ID"
    ):
        bench.robot.wait(0.1)
    assert bench.clock.now() < 100.2


def test_wait_ends_once_everybody_is_there() -> None:
    bench = Bench()
    bench.clock.on_advance.append(lambda t: bench.everything() if t > 100.5 else None)
    bench.robot.wait(2.0)
    assert 100.5 < bench.clock.now() < 100.6


def test_joints_of_several_publishers_are_one_state_as_old_as_its_oldest_part() -> None:
    bench = Bench()
    bench.everything()
    bench.clock.sleep_until(100.5)
    bench.stamp += 1
    bench.joints(q1=0.5, q2=0.5)
    bench.odometry()
    observation = bench.robot.read_state()
    np.testing.assert_allclose(observation.state, [0.04, 0.5, 0.5, 0.0], atol=1e-6)
    assert observation.times["state"] == 100.0
    assert bench.robot.stale(0.4) == ["front", "state"]


def test_a_driver_that_repeats_itself_or_goes_back_in_time_grows_old() -> None:
    bench = Bench()
    bench.everything()
    bench.clock.sleep_until(100.3)
    bench.everything()
    bench.stamp -= 1
    bench.joints(q1=1.0, q2=1.0, gripper_width=0.0)
    observation = bench.robot.read()
    assert observation.times == {"front": 100.0, "state": 100.0}
    assert observation.state[1] == np.float32(0.3)
    bench.robot.reset()  # a simulation that was started again is believed after an explicit reset
    assert bench.robot.stale(1.0) == ["front", "state"]
    bench.everything()
    assert bench.robot.read().times["state"] == 100.3


def test_malformed_messages_change_nothing_and_are_told() -> None:
    bench = Bench()
    bench.everything()
    before = bench.robot.read_state().state
    bench.bus.ears["/joint_states"](b"\x00\x01\x00\x00\x01")
    value = {"header": bench.header(), "name": ["q1"], "position": [], "velocity": [], "effort": []}
    bench.bus.ears["/joint_states"](encode(JOINT_STATE, value))
    np.testing.assert_array_equal(bench.robot.read_state().state, before)
    fresh = Bench()
    fresh.bus.ears["/joint_states"](encode(JOINT_STATE, value))
    with pytest.raises(RobotError, match="1 names with 0 positions"):
        fresh.robot.read_state()


def test_strange_joints_do_not_fill_the_memory() -> None:
    bench = Bench()
    bench.odometry()
    for k in range(0, 2000, 100):
        bench.joints(**{f"stranger{i}": 0.0 for i in range(k, k + 100)})
    with pytest.raises(RobotError) as caught:
        bench.robot.read_state()
    assert caught.value.exists is not None and len(caught.value.exists) < 300
    bench.joints(q1=0.3, q2=0.0, gripper_width=0.0)
    assert bench.robot.read_state().state[1] == np.float32(0.3)


def test_a_number_beyond_float32_is_not_finite() -> None:
    bench = Bench()
    bench.odometry()
    bench.joints(q1=1e300, q2=float("nan"), gripper_width=0.0)
    assert not np.isfinite(bench.robot.read_state().state[1:3]).any()


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"height": 3}, "3×3"), ({"encoding": "mono16"}, "mono16"), ({"step": 8}, "cut off"), ({"data": [1]}, "cut off")],
)
def test_images_that_do_not_fit_are_named(changes: dict[str, Any], message: str) -> None:
    bench = Bench()
    bench.everything()
    bench.stamp += 1
    bench.image(**changes)
    with pytest.raises(RobotError, match=f"front[\\s\\S]*{message}"):
        bench.robot.read()


def test_channels_are_put_in_order() -> None:
    bench = Bench()
    bench.everything()
    bench.stamp += 1
    bench.image(encoding="bgr8")
    np.testing.assert_array_equal(bench.robot.read().images["front"], PICTURE[:, :, ::-1])


def test_compressed_images_are_unpacked() -> None:
    bench = Bench(topics=replace(TOPICS, cameras={"front": "/front/compressed"}))
    bench.joints(q2=-0.2, q1=0.3, gripper_width=0.04)
    bench.odometry()

    def send(data: bytes) -> None:
        bench.stamp += 1
        value = {"header": bench.header(), "format": "png", "data": data}
        bench.bus.ears["/front/compressed"](encode(COMPRESSED_IMAGE, value))

    def png(pixels: np.ndarray) -> bytes:
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        return buffer.getvalue()

    send(png(PICTURE))
    np.testing.assert_array_equal(bench.robot.read().images["front"], PICTURE)
    send(png(PICTURE[:1]))
    with pytest.raises(RobotError, match=r"2×3[\s\S]*1×3"):
        bench.robot.read()
    send(b"nothing")
    with pytest.raises(RobotError, match="cannot be decompressed"):
        bench.robot.read()


def test_a_command_reaches_every_controller_by_name() -> None:
    bench = Bench()
    bench.robot.command(np.array([0.1, 0.2, 0.5, -0.25, 0.03]), 100.02)
    ((_, arm),) = bench.sent("/arm/joint_trajectory")
    assert arm["joint_names"] == ["q1", "q2"]
    assert arm["header"]["stamp"] == {"sec": 0, "nanosec": 0}
    (point,) = arm["points"]
    np.testing.assert_array_equal(point["positions"], [0.1, 0.2])
    assert point["time_from_start"] == {"sec": 0, "nanosec": 20_000_000}
    ((_, twist),) = bench.sent("/cmd_vel")
    assert twist["linear"]["x"] == 0.5 and twist["angular"]["z"] == -0.25
    ((_, gripper),) = bench.sent("/gripper/commands")
    np.testing.assert_array_equal(gripper["data"], [0.03])


def test_late_and_disordered_commands_are_dropped_and_bad_ones_refused() -> None:
    bench = Bench()
    action = np.zeros(5)
    for t in (100.02, 100.02, 100.01, 99.0):
        bench.robot.command(action, t)
    assert len(bench.sent("/cmd_vel")) == 1
    for bad in (np.full(5, np.nan), np.zeros(4)):
        with pytest.raises(RobotError, match="finite, one number per action element"):
            bench.robot.command(bad, 101.0)
    assert len(bench.sent("/cmd_vel")) == 1


def drive(bench: Bench, ticks: int, speed: float = 1.0) -> None:
    """The arm's first joint at `speed` [rad/s] after a start within the limits, 10 ms a tick."""
    q, v, t = np.array([0.3, -0.2, 0.1, 0.0, 0.04]), 0.0, bench.clock.now()
    for _ in range(ticks):
        t += 0.01
        v = min(v + 20.0 * 0.01, speed)
        q = q + np.array([v * 0.01, 0, 0, 0, v * 1e-3])
        bench.robot.command(q, t)
        bench.clock.sleep_until(t - 0.005)


def test_stop_brakes_within_the_limits_from_what_was_commanded() -> None:
    bench = Bench()
    drive(bench, 30)
    began = bench.clock.now()
    last = [m["points"][0]["positions"] for _, m in bench.sent("/arm/joint_trajectory")][-2:]
    bench.robot.stop()
    assert {k: v["x"] for k, v in bench.sent("/cmd_vel")[-1][1].items()} == {"linear": 0.0, "angular": 0.0}
    when, message = bench.sent("/arm/joint_trajectory")[-1]
    assert when == began  # one message, at once
    points = message["points"]
    q = np.array([*last, *(p["positions"] for p in points)])
    v = np.diff(q, axis=0) / TICK
    assert np.abs(v).max() <= LIMITS.velocity[0] + 1e-9
    assert np.abs(np.diff(v, axis=0) / TICK).max() <= LIMITS.acceleration[0] + 1e-6
    np.testing.assert_array_equal(points[-1]["velocities"], 0.0)
    times = [p["time_from_start"]["sec"] + p["time_from_start"]["nanosec"] * 1e-9 for p in points]
    assert (np.diff(times) > 0).all() and 0.02 < times[-1] < 0.5
    gripper = [(t, float(m["data"][0])) for t, m in bench.sent("/gripper/commands") if t >= began]
    assert len(gripper) == len(points)  # led through the stop, a tick at a time
    assert np.abs(np.diff([g for _, g in gripper])).max() <= LIMITS.velocity[2] * TICK + 1e-12


def test_nothing_is_obeyed_after_a_stop_until_a_reset() -> None:
    bench = Bench()
    drive(bench, 3)
    bench.robot.stop()
    count = len(bench.sent("/cmd_vel"))
    bench.robot.command(np.ones(5), bench.clock.now() + 1.0)
    assert len(bench.sent("/cmd_vel")) == count
    bench.robot.reset()
    bench.robot.command(np.zeros(5), bench.clock.now() + 1.0)
    assert len(bench.sent("/cmd_vel")) == count + 1


def test_a_second_stop_repeats_the_first() -> None:
    bench = Bench()
    drive(bench, 30)
    bench.robot.stop()
    end = bench.sent("/arm/joint_trajectory")[-1][1]["points"][-1]["positions"]
    bench.clock.sleep_until(bench.clock.now() + 3.0)
    bench.robot.stop()
    points = bench.sent("/arm/joint_trajectory")[-1][1]["points"]
    assert len(points) == 1
    np.testing.assert_array_equal(points[0]["positions"], end)


def test_stop_works_whatever_happened() -> None:
    silent = Bench()  # nothing known, nothing commanded: only the base can be told
    silent.robot.stop()
    assert len(silent.sent("/cmd_vel")) == 1 and not silent.sent("/arm/joint_trajectory")

    measured = Bench()  # never commanded: held where it is
    measured.everything()
    measured.robot.stop()
    ((_, message),) = measured.sent("/arm/joint_trajectory")
    np.testing.assert_allclose(message["points"][0]["positions"], [0.3, -0.2], rtol=1e-6)

    unreal = Bench()  # sensors that say nothing finite
    unreal.odometry()
    unreal.joints(q1=float("nan"), q2=0.0, gripper_width=0.0)
    unreal.robot.stop()
    assert not unreal.sent("/arm/joint_trajectory")

    cut = Bench()  # one line is cut: the others are told before that is raised
    drive(cut, 30)
    cut.bus.lines["/cmd_vel"].broken = True
    count = len(cut.sent("/arm/joint_trajectory"))
    with pytest.raises(RobotError, match="line is cut"):
        cut.robot.stop()
    assert len(cut.sent("/arm/joint_trajectory")) == count + 1
    np.testing.assert_array_equal(cut.sent("/arm/joint_trajectory")[-1][1]["points"][-1]["velocities"], 0.0)


def test_commands_outside_the_limits_are_not_pulled_back_in_one_tick() -> None:
    bench = Bench()
    bench.robot.command(np.array([2.5, 0.0, 0, 0, 0.04]), 100.01)
    bench.robot.command(np.array([2.51, 0.0, 0, 0, 0.04]), 100.02)
    bench.robot.stop()
    points = bench.sent("/arm/joint_trajectory")[-1][1]["points"]
    assert all(abs(p["positions"][0] - 2.51) < 0.01 for p in points)


def test_spec_and_topics_that_do_not_fit_are_refused() -> None:
    arm = TOPICS.controllers["arm"]
    others = {k: v for k, v in TOPICS.controllers.items() if k != "arm"}
    for topics, message in [
        (replace(TOPICS, cameras={}), "Every camera"),
        (replace(TOPICS, controllers=others), "Every action group"),
        (replace(TOPICS, controllers={**others, "arm": replace(arm, kind="torque")}), "torque"),
        (replace(TOPICS, controllers={**others, "arm": replace(arm, kind="twist")}), "cannot move"),
        (replace(TOPICS, odometry_state={"heading": "bearing"}), "bearing"),
    ]:
        clock = VirtualClock()
        with pytest.raises(ConfigError, match=message):
            Ros2Robot(spec=SPEC, limits=LIMITS, topics=topics, clock=clock, bus=Lists(clock))
    clock = VirtualClock()
    bus = Lists(clock)
    with pytest.raises(RobotError, match="no limits"):
        Ros2Robot(spec=SPEC, limits=LIMITS.select(["q1"]), topics=TOPICS, clock=clock, bus=bus)
    assert bus.closed


def test_without_cyclone_dds_the_command_that_installs_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cyclonedds.domain", None)
    with pytest.raises(ConfigError, match=r"pip install --no-deps cyclonedds==11\.0\.1"):
        Ros2Robot(spec=SPEC, limits=LIMITS, topics=replace(TOPICS, domain=99))
