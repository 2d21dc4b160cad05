"""The geometry that a robot's file names: zones, collisions and Cartesian actions for a real robot."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from robot_files import robot_file, write_robot

from wayhand.scripts.robots import FileRobot
from wayhand.vla.bridge.robots.body_model import BodyModel
from wayhand.vla.contract import ActionChunk, ActionGroup, Element, EnvSpec, Observation
from wayhand.vla.errors import ConfigError

TEMPLATE = "wayhand.vla.bridge.robots.template.TemplateDriver"
MJCF = """
<mujoco>
  <compiler angle="radian"/>
  <worldbody>
    <geom name="wall" type="box" size="0.2 1 1" pos="-0.7 0 0"/>
    <body name="base">
      <geom type="sphere" size="0.05"/>
      <body name="upper">
        <joint name="q1" axis="0 0 1"/>
        <geom type="capsule" size="0.02" fromto="0.1 0 0 0.4 0 0"/>
        <body name="lower" pos="0.5 0 0">
          <joint name="q2" axis="0 0 1"/>
          <geom type="capsule" size="0.02" fromto="0.1 0 0 0.4 0 0"/>
          <site name="tcp" pos="0.5 0 0"/>
        </body>
      </body>
    </body>
  </worldbody>
</mujoco>
"""
MODEL = """
[model]
mjcf = "arm.xml"
base = "base"
tool = "tcp"
unmodelled = ["width"]

[[keep_out]]
name = "shelf"
lower = [0.9, 0.3, -1.0]
upper = [1.5, 0.9, 1.0]
"""


def model(folder: Path, more: str = MODEL) -> BodyModel:
    (folder / "arm.xml").write_text(MJCF, encoding="utf-8")
    made = robot_file(folder, driver=TEMPLATE, more=more).model
    assert made is not None
    return made


def tip(q: np.ndarray) -> np.ndarray:
    """Two links of 0.5 m in the plane."""
    return 0.5 * np.array([np.cos(q[0]) + np.cos(q[0] + q[1]), np.sin(q[0]) + np.sin(q[0] + q[1]), 0.0])


def test_zones_and_collisions_guard_a_real_robot(tmp_path: Path) -> None:
    made = copy.deepcopy(model(tmp_path))  # as it must be, to travel to the loop's process
    zones, collisions = made.guards()
    fine, shelf, wall = np.array([0.0, 0.0, 0.04]), np.array([0.45, 0.0, 0.04]), np.array([1.9, 1.4, 0.04])
    assert zones.fault(np.stack([fine])) == "" and collisions.fault(np.stack([fine])) == ""
    assert zones.fault(np.stack([fine, shelf])) == "keep-out zone 'shelf'"
    assert "collision of" in collisions.fault(np.stack([wall])) and "world" in collisions.fault(np.stack([wall]))


@settings(max_examples=15)
@given(st.floats(-1.5, 1.5), st.floats(0.2, 1.8), st.floats(-0.15, 0.15), st.floats(-0.15, 0.15))
def test_kinematics_invert_themselves(
    tmp_path_factory: pytest.TempPathFactory, a: float, b: float, da: float, db: float
) -> None:
    kinematics = model(tmp_path_factory.mktemp("model")).kinematics(["q1", "q2"])
    q = np.array([a, b])
    position, quaternion = kinematics.forward(q)
    np.testing.assert_allclose(position, tip(q), atol=1e-9)
    found = kinematics.solve(position, quaternion, q + np.array([da, db]))
    np.testing.assert_allclose(found, q, atol=1e-4)
    far = kinematics.solve(np.array([5.0, 0.0, 0.0]), quaternion, q)
    assert np.isfinite(far).all() and (np.abs(far) <= 2.0).all()


def test_a_cartesian_policy_moves_the_joints_of_a_real_robot(tmp_path: Path) -> None:
    model(tmp_path)
    robot = FileRobot(file=str(tmp_path / "arm.toml"))
    spec = robot.policy_spec()
    names = ("dx", "dy", "dz", "rx", "ry", "rz")
    elements = tuple(Element(n, "m" if n[0] == "d" else "rad") for n in names)
    deltas = ActionGroup("arm", "ee_delta", elements, (-0.1,) * 6, (0.1,) * 6, frame="world", rotation="rotvec")
    policy = EnvSpec(spec.embodiment, spec.control_dt, spec.cameras, spec.state, (deltas, spec.action[1]))
    q = np.array([0.3, 0.9, 0.04])
    observation = Observation({"state": 1.0}, {}, q.astype(np.float32))
    turn = np.array([0.0, 0.0, 0.02])
    actions = np.concatenate([[tip(q + 0.01) - tip(q)], [turn]], axis=1)
    chunk = ActionChunk(np.append(actions, [[0.05]], axis=1), np.array([1.05]), 1.0)
    targets = robot.targets(policy, spec)(chunk, observation)
    np.testing.assert_allclose(targets.actions, [[0.31, 0.91, 0.05]], atol=1e-4)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (MODEL.replace('["width"]', "[]"), r"lacks joints[\s\S]*width[\s\S]*unmodelled"),
        (MODEL.replace("arm.xml", "leg.xml"), "no such MJCF"),
        (MODEL.replace("base =", "bas ="), "Unknown key in .model."),
        (MODEL.replace("upper = [1.5", "upper = [0.5"), "lower < upper"),
        (MODEL.replace('name = "shelf"\n', ""), "needs name"),
        ("[[workspace]]\n" + MODEL.partition("[[keep_out]]\n")[2], "need the robot's geometry"),
    ],
)
def test_what_is_wrong_with_a_model_is_named(tmp_path: Path, more: str, message: str) -> None:
    (tmp_path / "arm.xml").write_text(MJCF, encoding="utf-8")
    with pytest.raises(ConfigError, match=message):
        robot_file(tmp_path, driver=TEMPLATE, more=more)
    path = write_robot(tmp_path, driver=TEMPLATE, more=MODEL.replace('"tcp"', '"tip"'))
    with pytest.raises(ConfigError, match=r"no such site[\s\S]*tcp"):
        FileRobot(file=str(path)).guards()
