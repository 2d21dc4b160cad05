"""The conformance of robots: every driver there is passes, and one with a fault is found out by name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from bridge_body import LIMITS, StickBody
from robot_files import robot_file
from test_ros2_robot import SPEC, TOPICS, Lists

from wayhand.vla.bridge.clock import VirtualClock
from wayhand.vla.bridge.robots.cdr import encode
from wayhand.vla.bridge.robots.conformance import Check, inspect
from wayhand.vla.bridge.robots.exercise import exercise
from wayhand.vla.bridge.robots.faults import Fault, FaultyBody
from wayhand.vla.bridge.robots.ros2 import Ros2Robot
from wayhand.vla.bridge.robots.ros2_messages import IMAGE, JOINT_STATE
from wayhand.vla.bridge.robots.simulated_driver import SimulatedDriver
from wayhand.vla.bridge.robots.template import TemplateDriver
from wayhand.vla.contract import Observation
from wayhand.vla.errors import RobotError


def failed(checks: list[Check]) -> dict[str, str]:
    return {c.name: c.detail for c in checks if not c.passed}


def simulated(clock: VirtualClock, *faults: Fault) -> SimulatedDriver:
    driver = SimulatedDriver(FaultyBody(StickBody(goal=9.0), faults), clock=clock)
    driver.connect()
    return driver


def test_a_simulated_robot_conforms() -> None:
    clock = VirtualClock()
    driver = simulated(clock)
    assert failed(inspect(driver, clock=clock)) == {}
    assert failed(exercise(driver, clock=clock)) == {}
    driver.close()


class Graph(Lists):
    """A ROS 2 graph in virtual time: an arm under a joint_trajectory_controller, a gripper under a forward one."""

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__(clock)
        self.positions = {"gripper_width": 0.04, "q2": -0.2, "q1": 0.3}
        self.taken = 0
        clock.on_advance.append(self.go_on)

    def go_on(self, now: float) -> None:
        for t, sent in self.lines["/arm/joint_trajectory"].sent[self.taken :]:
            self.plan, self.taken = (t, sent, dict(self.positions)), self.taken + 1
        if self.taken:
            t, sent, begin = self.plan
            seconds = [p["time_from_start"]["sec"] + 1e-9 * p["time_from_start"]["nanosec"] for p in sent["points"]]
            for k, name in enumerate(sent["joint_names"]):
                points = [begin[name], *(p["positions"][k] for p in sent["points"])]
                self.positions[name] = float(np.interp(now - t, [0.0, *seconds], points))
        for _, sent in self.lines["/gripper/commands"].sent[-1:]:
            self.positions["gripper_width"] = float(sent["data"][0])
        header = {"stamp": {"sec": int(now), "nanosec": int(now % 1 * 1e9)}, "frame_id": ""}
        names, at = list(self.positions), list(self.positions.values())
        state = {"header": header, "name": names, "position": at, "velocity": [], "effort": []}
        self.ears["/joint_states"](encode(JOINT_STATE, state))
        rows = np.full((2, 9), int(now * 100) % 200 + 20, np.uint8)
        image = {"header": header, "height": 2, "width": 3, "encoding": "rgb8", "is_bigendian": 0, "step": 9}
        self.ears["/front/image_raw"](encode(IMAGE, {**image, "data": rows.ravel()}))


def test_a_ros2_robot_conforms() -> None:
    clock = VirtualClock(100.0)
    action = tuple(g for g in SPEC.action if g.kind == "joint_position")
    spec = replace(SPEC, action=action, state=tuple(e for g in action for e in g.elements))
    controllers = {g.name: TOPICS.controllers[g.name] for g in action}
    topics = replace(TOPICS, controllers=controllers, odometry_state={})
    driver = Ros2Robot(spec=spec, limits=LIMITS, topics=topics, clock=clock, bus=Graph(clock))
    driver.connect()
    assert failed(inspect(driver, clock=clock)) == {}
    assert failed(exercise(driver, clock=clock)) == {}
    driver.close()


def test_the_template_conforms(tmp_path: Path) -> None:
    clock = VirtualClock()
    file = robot_file(tmp_path, driver="wayhand.vla.bridge.robots.template.TemplateDriver")
    driver = TemplateDriver(file, clock)
    driver.connect()
    assert failed(inspect(driver, clock=clock)) == {}
    assert failed(exercise(driver, clock=clock)) == {}
    driver.close()


@pytest.mark.parametrize(
    ("fault", "name", "words"),
    [
        (Fault(kind="nan", target="q2"), "state", "q2"),
        (Fault(kind="black"), "camera 'front'", "black"),
        (Fault(kind="resized"), "camera 'front'", "(3, 4, 3)"),
        (Fault(kind="leap", target="q1", amount=9.0), "posture", "q1"),
    ],
    ids=lambda v: v.kind if isinstance(v, Fault) else "",
)
@pytest.mark.malformed
def test_a_fault_is_found_by_looking(fault: Fault, name: str, words: str) -> None:
    clock = VirtualClock()
    found = failed(inspect(simulated(clock, fault), clock=clock))
    assert set(found) == {name} and words in found[name]


def test_swapped_joints_are_found_by_moving() -> None:
    clock = VirtualClock()
    found = failed(exercise(simulated(clock, Fault(kind="swapped")), clock=clock))
    assert "moves q1" in found


class Broken(SimulatedDriver):
    """One thing is wrong with it."""

    def __init__(self, clock: VirtualClock, fault: str) -> None:
        super().__init__(StickBody(goal=9.0), clock=clock)
        self.fault = fault

    def read_state(self) -> Observation:
        observation = super().read_state()
        if self.fault == "wall clock":
            return replace(observation, times={"state": observation.times["state"] + 1.7e9})
        if self.fault == "slow":
            self._clock.sleep_until(self._clock.now() + 0.04)
        if self.fault == "silent":
            raise RobotError("The bus says nothing")
        if self.fault == "old":
            return replace(observation, times={"state": 0.0})
        return observation

    def command(self, action: np.ndarray, t: float) -> None:
        if self.fault == "nonsense":
            action = np.nan_to_num(np.resize(action, 3), nan=0.0)
        if self.fault == "deaf":
            return
        super().command(action, t)

    def stop(self) -> None:
        if self.fault != "runs on":
            super().stop()


@pytest.mark.parametrize(
    ("fault", "names"),
    [
        ("wall clock", {"clock"}),
        ("slow", {"state latency"}),
        ("silent", {"senses"}),
        ("old", {"state rate", "state age"}),
    ],
)
def test_what_a_driver_does_wrong_is_named(fault: str, names: set[str]) -> None:
    clock = VirtualClock()
    driver = Broken(clock, fault)
    driver.connect()
    assert set(failed(inspect(driver, clock=clock))) == names


@pytest.mark.parametrize(
    ("fault", "name"), [("nonsense", "refuses nonsense"), ("deaf", "moves q1"), ("runs on", "stops in motion")]
)
def test_what_a_driver_does_wrong_in_motion_is_named(fault: str, name: str) -> None:
    clock = VirtualClock()
    driver = Broken(clock, fault)
    driver.connect()
    assert name in failed(exercise(driver, clock=clock))
