"""Shadow mode: the policy runs, its commands are judged, and the robot is not moved."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from bridge_body import CARTESIAN, LIMITS, ROBOT, START, Plane, Steady, StickBody, unstarved
from console_pages import PATIENT, make_planner, session_of

from wayhand.scripts.cli import main as cli
from wayhand.vla.bridge.chunking import JointTargets
from wayhand.vla.bridge.loop_link import Status
from wayhand.vla.bridge.planner import Planner
from wayhand.vla.bridge.process import LoopSettings
from wayhand.vla.bridge.recorder import LATCHED, EpisodeRecorder, Trace
from wayhand.vla.bridge.safety import SafetyGate
from wayhand.vla.bridge.session import Episode
from wayhand.vla.bridge.shadow import ShadowRobot
from wayhand.vla.bridge.virtual import run_virtual
from wayhand.vla.contract import Observation


def test_in_shadow_mode_commands_are_made_and_the_robot_rests() -> None:
    with session_of(replace(PATIENT, shadow=True)) as session:
        moved: list[np.ndarray] = []
        commanded: list[float] = [0.0]
        seen = [session._link.ticks.count]

        def watch(status: Status, seconds: float) -> None:
            record = session._body.state.latest()
            assert record is not None
            moved.append(np.array(record["observation.state"]))
            ticks, seen[0] = session._link.ticks.since(seen[0])
            commanded.extend(float(t["command"][0]) for t in ticks if int(t["epoch"]) == status.epoch)
            if max(commanded) > START[0] + 0.02:
                session.estop.press("the end")

        planner = make_planner(session, delta=0.01)
        outcome = unstarved(lambda: session.run(Episode(0, {}, 4, 0.0), planner, watch))
        assert outcome.reason == "emergency stop: the end", "commands were made"
        assert np.ptp(np.array(moved), axis=0).max() < 1e-6, "and yet the robot is not moved"


@pytest.mark.parametrize("latency", [0.0, 0.1])
def test_in_virtual_time_every_chunk_is_judged_from_where_the_robot_rests(latency: float) -> None:
    body = StickBody(goal=9.0)
    recorder = EpisodeRecorder(ROBOT, 100.0)
    targets = JointTargets(policy=CARTESIAN, robot=ROBOT, kinematics=Plane())
    planner = Planner(policy=Steady(0.02), spec=CARTESIAN, targets=targets)
    outcome, loop = run_virtual(Episode(3, {}, 8, latency), body, planner, LoopSettings(shadow=True), recorder)
    assert outcome.seconds == body.time_limit and not loop.report()["latches"] and outcome.inferences > 3
    path = np.array(body.trace)
    assert (path == path[0]).all(), "the robot is not moved"
    recorded = recorder.finish(outcome.success, {})
    assert recorded is not None
    trace = Trace.of(recorded)
    asked = trace.commands[:, 0] - path[0, 0]
    assert 0.1 < asked.max() < 0.3, "commands were made, and no chunk goes on from the one before"
    assert (trace.flags & LATCHED == 0).all()


def test_a_shadow_judges_what_a_robot_would_be_stopped_for() -> None:
    body = StickBody(goal=9.0)
    targets = JointTargets(policy=CARTESIAN, robot=ROBOT, kinematics=Plane())
    planner = Planner(policy=Steady(np.nan), spec=CARTESIAN, targets=targets)
    outcome, _ = run_virtual(Episode(3, {}, 8, 0.0), body, planner, LoopSettings(shadow=True))
    assert "not finite" in outcome.reason and np.ptp(np.array(body.trace), axis=0).max() == 0.0


def test_deploy_in_virtual_time_can_leave_the_robot_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["checkpoint=none", "env=tabletop/reach", "env.cameras=[]", "+env.max_seconds=0.3", "virtual=true"]
    assert cli(["deploy", *arguments, "shadow=true", "workers=1", "episodes=1", f"out={tmp_path}"]) == 0
    assert "the robot not moved" in capsys.readouterr().out


def test_a_shadow_holds_where_it_rests_and_judges_from_there() -> None:
    class Arm:
        spec = ROBOT
        commands: list[np.ndarray] = []

        def read(self) -> Observation:
            raise NotImplementedError

        def command(self, action: np.ndarray, t: float) -> None:
            self.commands.append(action)

        def stop(self) -> None:
            self.commands.append(np.full(3, np.nan))

    arm = Arm()
    shadow = ShadowRobot(arm)
    shadow.command(np.ones(3), 1.0)
    assert not arm.commands, "before it rests nothing is sent"
    shadow.rest(START)
    shadow.command(START + 1.0, 1.0)
    assert (arm.commands[0] == START).all() and shadow.spec is ROBOT
    shadow.stop()
    assert np.isnan(arm.commands[-1]).all(), "a stop goes through"
    gate = SafetyGate(limits=LIMITS, dt=0.01)
    gate.reset(START + 0.01)
    shadow.anchor(gate, START)
    assert (gate.position == START).all()
    gate.latch("a fault")
    shadow.anchor(gate, START + 0.01)
    assert gate.reason == "a fault" and (gate.position == START).all(), "no chunk releases a latch"
