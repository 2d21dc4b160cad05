"""Real drivers in their process: whoever dies or falls silent, the robot is stopped, held and let go in order."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bridge_body import LIMITS, ROBOT, unstarved

from wayhand.vla.bridge.chunking import JointTargets
from wayhand.vla.bridge.clock import VirtualClock
from wayhand.vla.bridge.loop_link import Status
from wayhand.vla.bridge.planner import Planner
from wayhand.vla.bridge.process import LoopSettings
from wayhand.vla.bridge.replay import NullPolicy
from wayhand.vla.bridge.robots.braking import AHEAD
from wayhand.vla.bridge.robots.driver import PositionDriver
from wayhand.vla.bridge.robots.driver_device import SILENCE, DriverDevice
from wayhand.vla.bridge.robots.link import RobotLink
from wayhand.vla.bridge.sensors import Plausibility
from wayhand.vla.bridge.session import Episode, Session
from wayhand.vla.contract import ActionChunk, Observation
from wayhand.vla.errors import RobotError

BUSY = Plausibility(late=5.0, old_image=5.0, lag=5.0)
"""Sensors are not to be doubted because this machine is busy."""


class Arm(PositionDriver):
    """An arm that is where it was sent; what is asked of it goes to a file, if there is one."""

    def __init__(self, log: str = "", clock: VirtualClock | None = None) -> None:
        super().__init__(spec=ROBOT, limits=LIMITS, clock=clock)
        self.at = np.array([0.3, -0.2, 0.04])
        self.sent: list[np.ndarray] = []
        self.broken = ""
        self._log = log

    def say(self, word: str) -> None:
        if self._log:
            with open(self._log, "a", encoding="utf-8") as file:
                file.write(f"{word}\n")

    def connect(self) -> None:
        self.say("connect")

    def read(self) -> Observation:
        if self.broken:
            raise RobotError(self.broken)
        t = self.clock.now()
        image = np.full((4, 4, 3), 50 + int(t * 100) % 200, np.uint8)
        state, pose = self.at[[2, 0, 1]].astype(np.float32), np.zeros(7, np.float32)
        return Observation({"state": t, "front": t}, {"front": image}, state, extras={"ee_target": pose})

    def send(self, positions: np.ndarray) -> None:
        self.at = np.array(positions)
        self.sent.append(self.at)

    def stop(self) -> None:
        self.say("stop")
        super().stop()

    def close(self) -> None:
        self.say("close")


class LoggedArm:
    """Builds an arm in the robot's process."""

    def __init__(self, log: Path) -> None:
        self.log = str(log)

    def __call__(self) -> Arm:
        return Arm(self.log)


# --- one that is told positions --------------------------------------------------------------------------------


def led(arm: Arm, clock: VirtualClock, speed: float, ticks: int) -> None:
    """At `speed` [rad/s] on the first joint, a command every 10 ms."""
    start = arm.at.copy()
    for k in range(1, ticks + 1):
        arm.command(start + np.array([speed * 0.01 * k, 0.0, 0.0]), clock.now() + 0.01)
        clock.sleep_until(clock.now() + 0.01)


def test_a_stop_brakes_within_the_limits_and_nothing_is_obeyed_after_it() -> None:
    clock = VirtualClock(5.0)
    arm = Arm(clock=clock)
    arm.reset()
    led(arm, clock, 1.0, 50)
    moving = len(arm.sent)
    arm.stop()
    path = np.stack(arm.sent[moving - 2 :])
    velocity = np.diff(path, axis=0) / 0.01
    acceleration = np.diff(velocity, axis=0) / 0.01
    assert velocity[0, 0] == pytest.approx(1.0) and np.abs(velocity[-1]).max() < 1e-9, "it comes to rest"
    assert np.abs(acceleration).max() <= LIMITS.acceleration[0] * (1 + 1e-9)
    count = len(arm.sent)
    arm.command(arm.at + 0.1, clock.now() + 0.01)
    arm.stop()
    assert len(arm.sent) == count
    arm.reset()
    arm.command(arm.at + 0.001, clock.now() + 0.01)
    assert len(arm.sent) == count + 1


def test_late_and_older_commands_are_not_sent() -> None:
    clock = VirtualClock(5.0)
    arm = Arm(clock=clock)
    arm.command(arm.at, 5.0)
    arm.command(arm.at, 5.2)
    arm.command(arm.at, 5.1)
    assert len(arm.sent) == 1
    for wrong in (np.full(3, np.inf), np.zeros(2)):
        with pytest.raises(RobotError, match="finite"):
            arm.command(wrong, 6.0)


def test_a_robot_at_rest_is_held_where_it_was_measured() -> None:
    clock = VirtualClock()
    arm = Arm(clock=clock)
    arm.stop()
    np.testing.assert_allclose(arm.sent, [[0.3, -0.2, 0.04]], rtol=1e-6)
    silent = Arm(clock=clock)
    silent.broken = "the bus is unplugged"
    silent.stop()
    assert not silent.sent, "nobody knows where it is"


# --- as its process polls it -----------------------------------------------------------------------------------


class Rig:
    """A device and its link in this process."""

    def __init__(self) -> None:
        self.arm = Arm()
        self.seen = threading.Event()
        self.device = DriverDevice(self.arm, 100.0, lambda _: self.seen.set())
        self.link = RobotLink(ROBOT)
        self.device.begin(0, {"instruction": "push"})

    def close(self) -> None:
        self.device.close()
        self.link.close()


@pytest.fixture
def rig() -> Any:
    made = Rig()
    yield made
    made.close()


def test_a_command_for_far_ahead_does_not_hold_up_a_stop() -> None:
    clock = VirtualClock()
    arm = Arm(clock=clock)
    arm.command(arm.at, 60.0)
    arm.stop()
    assert clock.now() < AHEAD + 0.1


def test_a_driver_that_gets_no_more_commands_stops_by_itself(rig: Rig) -> None:
    rig.device.advance(rig.link)
    assert not rig.link.halted_at, "before the first command there is nothing to miss"
    rig.device.command(rig.arm.at, time.monotonic() + 60.0)
    time.sleep(SILENCE * 1.5)
    rig.device.advance(rig.link)
    assert "got no command for 100 ms" in rig.link.halt_reason and rig.arm._stopped
    sent = len(rig.arm.sent)
    rig.device.command(rig.arm.at + 0.1, time.monotonic() + 60.0)
    assert len(rig.arm.sent) == sent
    rig.link.clear_halt()
    rig.device.begin(0, {})
    rig.device.command(rig.arm.at + 0.1, time.monotonic() + 60.0)
    assert len(rig.arm.sent) == sent + 1, "a new episode is the reset"


def test_a_halt_from_elsewhere_is_obeyed(rig: Rig) -> None:
    rig.link.halt(time.monotonic(), "the watchdog")
    rig.device.advance(rig.link)
    assert rig.arm._stopped and rig.link.halt_reason == "the watchdog"


def test_a_driver_that_cannot_read_stops_and_says_why(rig: Rig) -> None:
    assert rig.seen.wait(20.0)
    rig.arm.broken = "the bus is unplugged"
    deadline = time.monotonic() + 20.0
    while not rig.link.halted_at and time.monotonic() < deadline:
        rig.device.advance(rig.link)
        time.sleep(0.01)
    assert "bus is unplugged" in rig.link.halt_reason and rig.arm._stopped
    rig.arm.broken = ""
    rig.link.clear_halt()
    rig.device.begin(0, {})
    rig.device.advance(rig.link)
    assert not rig.link.halted_at, "what was wrong before the reset is forgotten"


def test_a_driver_that_cannot_be_told_anything_is_halted_all_the_same(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut(positions: np.ndarray) -> None:
        raise OSError("the line is cut")

    monkeypatch.setattr(rig.arm, "send", cut)
    with pytest.raises(OSError, match="cut"):
        rig.device.command(rig.arm.at, time.monotonic() + 60.0)
    rig.device.fail(rig.link, "OSError: the line is cut")
    assert rig.link.halt_reason == "OSError: the line is cut" and rig.arm._stopped


def test_the_observation_says_what_is_asked(rig: Rig) -> None:
    assert rig.device.read_state().instruction == "push"


# --- real processes --------------------------------------------------------------------------------------------


class Mover(NullPolicy):
    """Moves the first joint by 0.2 rad/s from where it is seen."""

    def _chunk_for(self, observation: Observation) -> ActionChunk:
        rest = super()._chunk_for(observation)
        actions = np.array(rest.actions)
        actions[:, 0] += 0.01 * np.arange(1, len(rest) + 1)
        return ActionChunk(actions, rest.times, rest.observed_at)


def session(log: Path) -> Session:
    settings = LoopSettings(rate_hz=100.0, stale=2.0, oldest=2.0, plausibility=BUSY)
    return Session(factory=LoggedArm(log), settings=settings)


def planner() -> Planner:
    return Planner(policy=Mover(spec=ROBOT, chunk=40), spec=ROBOT, targets=JointTargets(policy=ROBOT, robot=ROBOT))


def first_joint(run: Session) -> float:
    return float(run._body.read().state[1])


def rests(run: Session) -> bool:
    """Whether it is where it was some states ago."""
    here, told, deadline = first_joint(run), run._body.state.count, time.monotonic() + 20.0
    while run._body.state.count < told + 5 and time.monotonic() < deadline:
        time.sleep(0.01)
    return first_joint(run) == here


def once(act: Callable[[], None]) -> Callable[[Status, float], None]:
    done: list[float] = []

    def watch(status: Status, seconds: float) -> None:
        if status.chunks > 0 and not done:
            done.append(seconds)
            act()

    return watch


def test_a_real_robot_is_driven_and_nobody_judges_it(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with session(log) as run:
        start: list[float] = []
        note = once(lambda: start.append(first_joint(run)))
        outcome = unstarved(lambda: run.run(Episode(0, {"seconds": 3.0}, 8, 0.0), planner(), note))
        assert outcome.success is None and outcome.reason == "" and outcome.inferences >= 1
        assert first_joint(run) > start[0] + 0.02, "it moved"
        press = once(lambda: run.estop.press("the wall"))
        pressed = unstarved(lambda: run.run(Episode(0, {}, 8, 0.0), planner(), press))
        assert pressed.reason == "emergency stop: the wall", "an episode without seconds has no end of its own"
    words = log.read_text().split()
    assert words[0] == "connect" and words[-1] == "close" and words[-2] == "stop"


def test_a_killed_loop_stops_a_real_robot(tmp_path: Path) -> None:
    with session(tmp_path / "log") as run:
        pid = run._loop._process.pid
        assert pid is not None

        def kill() -> None:
            os.kill(pid, signal.SIGKILL)
            run._loop._process.join(10.0)
            deadline = time.monotonic() + 10.0
            while not run._body.halted_at and time.monotonic() < deadline:
                time.sleep(0.002)

        with pytest.raises(RobotError, match="control loop died"):
            run.run(Episode(0, {}, 8, 0.0), planner(), once(kill))
        assert run._body.halted_at and run._body.halt_reason
        deadline = time.monotonic() + 20.0
        while not rests(run) and time.monotonic() < deadline:
            pass
        assert rests(run), "it holds"


def test_a_terminated_driver_stops_its_robot_first(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with session(log) as run:
        pid = run._robot._process.pid
        assert pid is not None
        with pytest.raises(RobotError, match="process of the robot"):
            run.run(Episode(0, {}, 8, 0.0), planner(), once(lambda: os.kill(pid, signal.SIGTERM)))
    assert log.read_text().split()[-2:] == ["stop", "close"]
