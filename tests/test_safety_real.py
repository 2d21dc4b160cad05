"""The faults once for real: processes that are killed, stopped and told to stop, on the monotonic clock.

Deadlines here are the promises of the bridge with room for a machine that is busy; benchmarks hold the figures.
"""

from __future__ import annotations

import multiprocessing
import os
import pty
import signal
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import pytest
from bridge_body import CARTESIAN, LIMITS, STARVED, Plane, Steady, StickBody, unstarved

from wayhand.vla.bridge.cells import Cells, EmergencyStop
from wayhand.vla.bridge.chunking import JointTargets
from wayhand.vla.bridge.keyboard import KeyboardStop
from wayhand.vla.bridge.loop_link import Status
from wayhand.vla.bridge.planner import Planner
from wayhand.vla.bridge.process import LoopSettings
from wayhand.vla.bridge.robots.link import RobotLink
from wayhand.vla.bridge.session import Episode, Session
from wayhand.vla.errors import RobotError


class LongBody(StickBody):
    """An arm that reaches nothing for a minute."""

    time_limit = 60.0

    def __init__(self) -> None:
        super().__init__(goal=9.0)


def make_planner(session: Session, delta: float = 0.005) -> Planner:
    targets = JointTargets(policy=CARTESIAN, robot=session.spec, kinematics=Plane())
    return Planner(policy=Steady(delta), spec=CARTESIAN, targets=targets)


def run_until(session: Session, act: Callable[[], None], after: float = 0.4) -> Any:
    """An episode in which `act` is called once, `after` seconds from its start."""
    done: list[float] = []

    def watch(status: Status, seconds: float) -> None:
        if seconds > after and not done:
            done.append(seconds)
            act()

    return session.run(Episode(0, {}, 4, 0.0), make_planner(session), watch)


def reason_of(session: Session, act: Callable[[], None]) -> str:
    """Why an episode with `act` ended; it is run again where the machine had no processor for a robot."""
    for _ in range(5):
        reason = run_until(session, act).reason
        if not reason.startswith(STARVED):
            return reason
    pytest.skip("this machine has no time for a robot in real time")


def test_buttons_stop_the_robot_until_they_are_released() -> None:
    with Session(factory=LongBody, settings=LoopSettings(rate_hz=100.0)) as session:
        elsewhere = EmergencyStop(session.estop.name)
        try:
            reason = reason_of(session, lambda: elsewhere.press("the wall"))
        finally:
            elsewhere.close()
        assert reason == "emergency stop: the wall" and not session.status.moving
        with pytest.raises(RobotError, match="robot is held"):
            session.run(Episode(1, {}, 4, 0.0), make_planner(session))
        session.estop.release()
        reason = reason_of(session, session.policy_lost)
        assert reason == "the policy is gone", "a new episode is the reset, once the button is released"


def test_a_stopped_loop_is_no_driver_any_more() -> None:
    with Session(factory=LongBody, settings=LoopSettings(rate_hz=100.0)) as session:
        pid = session._loop._process.pid
        assert pid is not None

        def block() -> None:
            os.kill(pid, signal.SIGSTOP)
            deadline = time.monotonic() + 5.0
            while not session._body.halted_at and time.monotonic() < deadline:
                time.sleep(0.002)
            os.kill(pid, signal.SIGCONT)

        outcome = run_until(session, block)
        assert "the loop was silent for" in outcome.reason and session._body.halted_at > 0
        assert reason_of(session, session.policy_lost) == "the policy is gone", "a reset frees the driver"


def test_a_killed_loop_leaves_a_stopped_driver() -> None:
    with Session(factory=LongBody, settings=LoopSettings(rate_hz=100.0)) as session:
        pid = session._loop._process.pid
        assert pid is not None
        beats = session._link.beat
        last: list[float] = []

        def kill() -> None:
            os.kill(pid, signal.SIGKILL)
            session._loop._process.join(5.0)
            last.append(beats["beat"])
            deadline = time.monotonic() + 5.0
            while not session._body.halted_at and time.monotonic() < deadline:
                time.sleep(0.002)

        with pytest.raises(RobotError, match="control loop died"):
            reason_of(session, kill)
        assert 0 < session._body.halted_at - last[0] < 0.5
        time.sleep(0.3)
        record = session._body.state.latest()
        time.sleep(0.1)
        later = session._body.state.latest()
        assert record is not None and later is not None
        assert (record["observation.state"] == later["observation.state"]).all()


def drive_forever(pipe: Connection) -> None:
    with Session(factory=LongBody, settings=LoopSettings(rate_hz=100.0)) as session:
        pipe.send((session.spec, session._body.names, session._link.names["beat"]))
        unstarved(lambda: session.run(Episode(0, {}, 4, 0.0), make_planner(session)))


def test_a_killed_policy_leaves_a_robot_at_rest() -> None:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=drive_forever, args=(theirs,))
    process.start()
    theirs.close()
    assert ours.poll(60.0), "the session did not start"
    spec, names, _ = ours.recv()
    link = RobotLink(spec, names)
    try:
        start = moved_from(link)
        assert wait_for(lambda: moved_from(link) - start > 0.03), "the robot did not begin to move"
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        killed, here = time.monotonic(), moved_from(link)
        process.join(10.0)
        assert wait_for(lambda: rests(link, 0.15)), "the robot goes on without its policy"
        seconds = time.monotonic() - killed
        # 0.1 rad/s: a tenth of a second of what was validated, the stop, and what the machine takes to notice.
        assert moved_from(link) - here < 0.1 * (0.1 + 0.1 + 0.5) and seconds < 5.0
    finally:
        link.close()
        process.close()
        ours.close()


def moved_from(link: RobotLink) -> float:
    record = link.state.latest()
    return 0.0 if record is None else float(record["observation.state"][1])


def rests(link: RobotLink, seconds: float) -> bool:
    here = moved_from(link)
    time.sleep(seconds)
    return moved_from(link) == here


def wait_for(condition: Callable[[], bool], seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.005)
    return False


# --- the keyboard ----------------------------------------------------------------------------------------------


@pytest.fixture
def button() -> Iterator[EmergencyStop]:
    button = EmergencyStop()
    yield button
    button.close()


@pytest.mark.parametrize(("key", "stops"), [(b" ", True), (b"\x1b", True), (b"q", True), (b"x", False)])
def test_a_key_presses_the_button(button: EmergencyStop, key: bytes, stops: bool) -> None:
    master, slave = pty.openpty()
    try:
        with KeyboardStop(button, slave):
            os.write(master, key)
            assert wait_for(lambda: button.pressed, 2.0 if stops else 0.1) is stops
        assert not stops or button.reason == "emergency stop: keyboard"
    finally:
        os.close(master)
        os.close(slave)


def test_without_a_terminal_there_is_no_keyboard(button: EmergencyStop) -> None:
    with KeyboardStop(button):
        assert not button.pressed


def test_cells_are_shared_by_name_and_cut_long_texts() -> None:
    cells = Cells(("a", "b"))
    other = Cells(("a", "b"), cells.name)
    try:
        other["b"] = 2.5
        other.text = "é" * 400
        assert (cells["a"], cells["b"]) == (0.0, 2.5) and set(cells.text) == {"é"}
        other.text = ""
        assert cells.text == ""
    finally:
        other.close()
        cells.close()


def test_limits_of_the_body_reach_the_session() -> None:
    assert np.array_equal(type(LIMITS).from_json(LIMITS.to_json()).velocity, LIMITS.velocity)
