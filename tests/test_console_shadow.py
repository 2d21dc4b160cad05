"""Shadow mode: the policy runs, its commands are judged, and the robot is not moved."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from bridge_body import LIMITS, ROBOT, START
from console_pages import PATIENT, make_planner, session_of

from wayhand.vla.bridge.process import Status
from wayhand.vla.bridge.safety import SafetyGate
from wayhand.vla.bridge.session import Episode
from wayhand.vla.bridge.shadow import ShadowRobot
from wayhand.vla.contract import Observation


def test_in_shadow_mode_commands_are_made_and_the_robot_rests() -> None:
    with session_of(replace(PATIENT, shadow=True)) as session:
        moved: list[np.ndarray] = []
        commanded: list[float] = []
        seen = [session._link.ticks.count]

        def watch(status: Status, seconds: float) -> None:
            record = session._body.state.latest()
            assert record is not None
            moved.append(np.array(record["observation.state"]))
            ticks, seen[0] = session._link.ticks.since(seen[0])
            commanded.extend(float(t["command"][0]) for t in ticks if int(t["epoch"]) == status.epoch)
            if seconds > 1.0:
                session.estop.press("the end")

        session.run(Episode(0, {}, 4, 0.0), make_planner(session, delta=0.01), watch)
        assert np.ptp(np.array(moved), axis=0).max() < 1e-6, "the robot is not moved"
        assert max(commanded) > START[0] + 0.02, "and yet commands were made"


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
