"""Zones, collisions and limits from files."""

from __future__ import annotations

from pathlib import Path

import mujoco
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wayhand.vla.bridge.collision import CollisionGuard
from wayhand.vla.bridge.limit_files import combine, from_mjcf, from_toml, from_urdf, table_of, to_toml
from wayhand.vla.bridge.limits import Limits
from wayhand.vla.bridge.safety import SafetyGate
from wayhand.vla.bridge.zones import Box, ZoneGuard
from wayhand.vla.errors import ConfigError, RobotError

ARM = """
<mujoco>
  <compiler angle="radian"/>
  <worldbody>
    <geom name="wall" type="box" pos="0.9 0.6 0" size="0.3 0.1 0.3"/>
    <body name="base">
      <geom type="sphere" size="0.05"/>
      <body name="upper">
        <joint name="shoulder" axis="0 0 1" range="-3 3" limited="true"/>
        <geom type="capsule" fromto="0 0 0 0.5 0 0" size="0.04"/>
        <body name="lower" pos="0.5 0 0">
          <joint name="elbow" axis="0 0 1" range="-3.1 3.1" limited="true"/>
          <geom type="capsule" fromto="0.1 0 0 0.45 0 0" size="0.04"/>
        </body>
      </body>
    </body>
  </worldbody>
  <actuator>
    <position joint="elbow" kp="10" ctrlrange="-2.9 3.5" ctrllimited="true"/>
    <motor joint="shoulder" ctrlrange="-1 1" ctrllimited="true"/>
  </actuator>
</mujoco>
"""
LIMITS = Limits(
    ("shoulder", "elbow"), np.array([-3.0, -3.1]), np.array([3.0, 3.1]), np.ones(2) * 2, np.ones(2) * 8, np.ones(2) * 90
)


def hand(q: np.ndarray) -> np.ndarray:
    """The end of the two-link arm, [1 3]."""
    x = 0.5 * np.cos(q[0]) + 0.45 * np.cos(q[0] + q[1])
    y = 0.5 * np.sin(q[0]) + 0.45 * np.sin(q[0] + q[1])
    return np.array([[x, y, 0.0]])


def make_collision(**options: float) -> CollisionGuard:
    model = mujoco.MjModel.from_xml_string(ARM)
    return CollisionGuard(model, robot="base", posture=lambda q: q, home=np.zeros(2), **options)


# --- zones -----------------------------------------------------------------------------------------------------

TABLE = Box("table", (-1.0, -1.0, -1.0), (1.0, 1.0, 1.0))
POST = Box("post", (0.4, 0.4, -1.0), (0.6, 0.6, 1.0))


@settings(max_examples=20)
@given(targets=st.lists(st.tuples(st.floats(-4, 4), st.floats(-4, 4)), min_size=1, max_size=6))
def test_no_stream_enters_a_keep_out_zone_or_leaves_the_workspace(targets: list[tuple[float, float]]) -> None:
    """Not only is the command outside: the whole jerk-limited stop ends outside."""
    small = Box("cell", (-0.8, -0.8, -1.0), (1.0, 0.8, 1.0))
    guard = ZoneGuard(hand, workspace=(small,), keep_out=(POST,), margin=0.01)
    gate = SafetyGate(limits=LIMITS, dt=0.01, guards=(guard,), patience=100.0)
    gate.reset(np.zeros(2))
    for k in range(25 * len(targets)):
        point = hand(gate.step(np.array(targets[k // 25]), k * 0.01))
        assert POST.clearance(point)[0] <= 0 and small.clearance(point)[0] >= 0
    for k in range(80):
        point = hand(gate.step(None, 100.0 + k * 0.01))
        assert POST.clearance(point)[0] <= 0 and small.clearance(point)[0] >= 0


def test_a_zone_latches_with_its_name_before_it_is_entered() -> None:
    guard = ZoneGuard(hand, workspace=(TABLE,), keep_out=(POST,))
    gate = SafetyGate(limits=LIMITS, dt=0.01, guards=(guard,), patience=9.0)
    gate.reset(np.zeros(2))
    for k in range(200):
        gate.step(np.array([0.1, 1.465]), k * 0.01)
    assert gate.reason == "keep-out zone 'post'" and not gate.moving
    gate.reset(np.zeros(2))
    assert not gate.latched


def test_a_start_inside_a_zone_stays_latched() -> None:
    gate = SafetyGate(limits=LIMITS, dt=0.01, guards=(ZoneGuard(hand, workspace=(POST,)),))
    gate.reset(np.zeros(2))
    assert gate.reason == "at the start: outside the workspace 'post'"


def test_boxes_are_checked() -> None:
    with pytest.raises(ConfigError, match="'bad'"):
        Box("bad", (0.0, 0.0, 0.0), (1.0, 0.0, 1.0))


# --- collision -------------------------------------------------------------------------------------------------


def test_the_arm_collides_with_the_wall_and_with_itself() -> None:
    guard = make_collision()
    assert guard.fault(np.zeros((1, 2))) == "", "links that overlap at home are neighbours"
    assert guard.fault(np.array([[0.0, 0.0], [0.7, 0.0]])) == "collision of 'world' with 'lower'"
    assert guard.fault(np.array([[0.0, 3.05]])) in (
        "collision of 'base' with 'lower'",
        "collision of 'upper' with 'lower'",
    )


@pytest.mark.parametrize("period", [0.0, 0.01, 0.02])
def test_a_fast_arm_stops_before_it_hits(period: float) -> None:
    guard, judge = make_collision(margin=0.01, period=period), make_collision(margin=1e-4)
    gate = SafetyGate(limits=LIMITS, dt=0.002, guards=(guard,))
    gate.reset(np.zeros(2))
    for k in range(1000):
        assert judge.fault(gate.step(np.array([1.5, 0.0]), k * 0.002)[None]) == ""
    assert gate.reason == "collision of 'world' with 'lower'" and not gate.moving
    assert gate.position[0] > 0.3, "and not long before"


def test_pairs_may_be_allowed_and_bodies_must_exist() -> None:
    model = mujoco.MjModel.from_xml_string(ARM)
    guard = CollisionGuard(model, robot="base", posture=lambda q: q, home=np.zeros(2), allowed=[("lower", "world")])
    assert guard.fault(np.array([[0.7, 0.0]])) == ""
    with pytest.raises(ConfigError, match="no such body"):
        CollisionGuard(model, robot="leg", posture=lambda q: q, home=np.zeros(2))


# --- files -----------------------------------------------------------------------------------------------------

URDF = """<robot name="two">
  <joint name="elbow" type="revolute"><limit lower="-2" upper="2.5" velocity="1.5" effort="9"/></joint>
  <joint name="shoulder" type="continuous"><limit velocity="2.5" effort="9"/></joint>
  <joint name="plate" type="fixed"/>
</robot>"""
REST = """
[limits.shoulder]
velocity = 9.0
acceleration = 8
jerk = 300.0
[limits.elbow]
acceleration = 7.0
jerk = 200.0
"""


def test_limits_of_several_files_are_the_tightest(tmp_path: Path) -> None:
    (tmp_path / "arm.xml").write_text(ARM)
    (tmp_path / "arm.urdf").write_text(URDF)
    (tmp_path / "arm.toml").write_text(REST)
    tables = from_mjcf(tmp_path / "arm.xml"), from_urdf(tmp_path / "arm.urdf"), from_toml(tmp_path / "arm.toml")
    limits = combine(["elbow", "shoulder"], *tables)
    assert limits.names == ("elbow", "shoulder")
    assert limits.lower.tolist() == [-2.0, -3.0] and limits.upper.tolist() == [2.5, 3.0]
    assert limits.velocity.tolist() == [1.5, 2.5] and limits.jerk is not None and limits.jerk.tolist() == [200.0, 300.0]
    assert tables[0]["elbow"] == {"lower": -2.9, "upper": 3.1}, "the servo's range is a limit too, a motor's is not"
    (tmp_path / "again.toml").write_text(to_toml(limits))
    again = combine(limits.names, from_toml(tmp_path / "again.toml"))
    assert again.to_json() == limits.to_json()
    assert combine(limits.names, table_of(limits)).to_json() == limits.to_json()
    assert limits.select(["shoulder"]).velocity.tolist() == [2.5]
    with pytest.raises(RobotError, match="has no limits"):
        limits.select(["wrist"])


def test_missing_limits_are_named(tmp_path: Path) -> None:
    (tmp_path / "arm.urdf").write_text(URDF)
    with pytest.raises(ConfigError, match="elbow.acceleration") as error:
        combine(["elbow", "wrist"], from_urdf(tmp_path / "arm.urdf"))
    assert "wrist.lower" in str(error.value)


@pytest.mark.parametrize(
    ("name", "text", "match"),
    [
        ("a.urdf", '<!DOCTYPE x [<!ENTITY a "b">]><robot/>', "entities"),
        ("a.urdf", "<robot", "not a URDF"),
        ("a.urdf", URDF.replace("1.5", "nan"), "finite"),
        ("a.toml", "[limits.elbow]\nspeed = 1", "speed"),
        ("a.toml", "[limits.elbow]\nvelocity = inf", "finite"),
        ("a.toml", "nonsense", "not a TOML"),
        ("a.toml", "[other]", "no limits"),
    ],
)
def test_files_that_are_wrong_say_so(tmp_path: Path, name: str, text: str, match: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(ConfigError, match=match):
        (from_urdf if name.endswith("urdf") else from_toml)(path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such"):
        from_toml(tmp_path / "none.toml")


# --- set-points ------------------------------------------------------------------------------------------------


def make_gripper_gate(squeeze: float) -> SafetyGate:
    limits = Limits(
        ("elbow", "gripper"), np.array([-1.0, 0.0]), np.array([1.0, 0.08]), np.array([2.0, 0.2]), np.array([10.0, 4.0]),
        squeeze=np.array([0.0, squeeze]),
    )  # fmt: skip
    gate = SafetyGate(limits=limits, dt=0.01)
    gate.reset(np.array([0.0, 0.08]))
    return gate


def drive_gripper(gate: SafetyGate, target: float, elbow: float = 0.0) -> np.ndarray:
    return np.array([gate.step(np.array([elbow, target]), k * 0.01) for k in range(200)])


def test_squeezing_beyond_the_range_is_saturation_and_counted() -> None:
    gate = make_gripper_gate(0.08)
    path = drive_gripper(gate, -0.05)
    assert not gate.latched and path[-1, 1] == 0.0 and (path >= 0).all()
    assert gate.report.limited["gripper"] == 200


def test_far_beyond_the_range_is_a_fault_for_a_gripper_too() -> None:
    gate = make_gripper_gate(0.08)
    drive_gripper(gate, -0.2)
    assert gate.reason == "actions beyond the limits of 'gripper' for 0.50 s"


def test_toggling_a_gripper_faster_than_it_goes_is_no_fault() -> None:
    gate = make_gripper_gate(0.08)
    for k in range(400):
        gate.step(np.array([0.0, 0.08 * (k // 20 % 2)]), k * 0.01)
    assert not gate.latched and gate.report.limited["gripper"] > 300


def test_an_arm_joint_beyond_its_range_is_a_fault_as_ever() -> None:
    gate = make_gripper_gate(0.08)
    drive_gripper(gate, 0.04, elbow=1.2)
    assert gate.reason == "actions beyond the limits of 'elbow' for 0.50 s"
    gate = make_gripper_gate(0.0)
    drive_gripper(gate, -0.05)
    assert "gripper" in gate.reason, "and so is a gripper that is not said to hold things"
