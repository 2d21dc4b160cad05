"""`wayhand deploy` and `wayhand doctor` with a robot's file; a ROS 2 arm over real DDS, from its file to its motion."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from bridge_body import unstarved
from PIL import Image
from robot_files import write_robot
from test_robot_driver import Mover

from wayhand.scripts import deploy, doctor
from wayhand.scripts.robots import FileRobot
from wayhand.vla.bridge.chunking import JointTargets
from wayhand.vla.bridge.planner import Planner
from wayhand.vla.bridge.process import LoopSettings
from wayhand.vla.bridge.robots.template import StandIn
from wayhand.vla.bridge.session import Episode, Session
from wayhand.vla.errors import ConfigError

TEMPLATE = "wayhand.vla.bridge.robots.template.TemplateDriver"
BUSY = "\n[plausibility]\nlate = 5.0\nold_image = 5.0\nlag = 5.0\n"


def test_a_real_robot_is_deployed_and_nobody_judges_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_robot(tmp_path, driver=TEMPLATE, more=BUSY)
    say = [f"robot={path}", "checkpoint=none", "seconds=1", "stale_ms=5000", f"out={tmp_path}", "instruction=rest"]
    assert deploy.main(say) == 0
    assert "unknown: nobody judges" in capsys.readouterr().out
    result = json.loads((tmp_path / "deploy.json").read_text())
    assert result["judged"] == 0 and result["success_rate"] is None
    assert result["outcomes"][0]["success"] is None and result["outcomes"][0]["inferences"] >= 1
    assert result["config"]["instruction"] == "rest"
    with pytest.raises(ConfigError, match="lives in real time"):
        deploy.main([*say, "virtual=true"])


def test_the_doctor_examines_a_robot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_robot(tmp_path, driver=TEMPLATE, more=BUSY)
    moved: list[np.ndarray] = []
    move = StandIn.move
    monkeypatch.setattr(StandIn, "move", lambda arm, q: (moved.append(q), move(arm, q))[1])
    code = doctor.main([f"robot={path}", "seconds=0.3"])
    told = capsys.readouterr().out
    assert "3 joints, 3 measured" in told and "state rate" in told and code in (0, 1)
    assert not moved, "it only reads unless told otherwise"
    with pytest.raises(ConfigError, match="amplitude"):
        doctor.main([f"robot={path}", "amplitude=0.9"])
    broken = write_robot(tmp_path, driver="ros2", more="\n[ros2]\ntopic = 3\n")
    with pytest.raises(ConfigError, match="Unknown key in .ros2."):
        doctor.main([f"robot={broken}"])


def test_the_simulated_arm_is_fit(capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor.main(["robot=simulated", "seconds=0.2"]) == 0
    assert "camera 'wrist'" in capsys.readouterr().out


def test_the_simulated_base_is_fit(capsys: pytest.CaptureFixture[str]) -> None:
    small = ["+env.houses=1", "+env.rooms=[2,2]", "+env.width=32", "+env.height=32", "+env.continuous=true"]
    say = ["robot=simulated_base", "env=house/pointnav", "seconds=0.5", "move=true", *small]
    assert doctor.main(say) == 0
    told = capsys.readouterr().out
    assert "camera 'head'" in told and "moves turned" in told


# --- ROS 2 -----------------------------------------------------------------------------------------------------

ROS2 = """
[plausibility]
late = 30.0
old_image = 30.0
lag = 30.0

[cameras.front]
height = 24
width = 32
fx = 20.0
fy = 20.0
cx = 16.0
cy = 12.0

[ros2]
domain = DOMAIN
patience = 60.0
[ros2.controllers.arm]
topic = "/arm_controller/joint_trajectory"
kind = "trajectory"
[ros2.controllers.gripper]
topic = "/gripper_controller/commands"
kind = "forward"
[ros2.cameras]
front = "/front/compressed"
"""


@pytest.fixture
def arm(tmp_path: Path) -> Iterator[Path]:
    """The file of an arm that lives in a process of its own and follows its controllers."""
    pytest.importorskip("cyclonedds", reason="cyclonedds is not installed: pip install --no-deps cyclonedds==11.0.1")
    domain = 10 + time.time_ns() // 1000 % 80
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(20, 255, (24, 32, 3), np.uint8)).save(buffer, "PNG")
    script = str(Path(__file__).with_name("ros2_peer.py"))
    command = [sys.executable, script, str(domain), buffer.getvalue().hex(), "follow"]
    peer = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    try:
        yield write_robot(tmp_path, driver="ros2", more=ROS2.replace("DOMAIN", str(domain)))
    finally:
        peer.communicate()


def test_a_ros2_arm_is_driven_from_its_file(arm: Path) -> None:
    robot = FileRobot(file=str(arm), driver="ros2")
    settings = LoopSettings(rate_hz=100.0, stale=2.0, oldest=5.0, plausibility=robot.plausibility)
    with Session(factory=robot, settings=settings) as session:
        spec = session.spec
        policy = Mover(spec=spec, chunk=60)
        planner = Planner(policy=policy, spec=spec, targets=JointTargets(policy=spec, robot=spec))
        episode = Episode(0, {"seconds": 4.0, "instruction": "push"}, 20, 0.0)
        outcome = unstarved(lambda: session.run(episode, planner))
        assert outcome.success is None and outcome.reason == "" and outcome.inferences >= 1
        observation = session._body.read()
        np.testing.assert_allclose(observation.state[1:], [-0.2, 0.04], atol=0.01)
        assert observation.state[0] > 0.35, "the first joint went from 0.3"
        assert session.finish()["chunks"] >= 1
