"""A policy that dies, hangs or is lost: what is left of it is played for a moment, and nothing of it afterwards."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import pytest
from bridge_body import CARTESIAN, LIMITS, ROBOT, START, Plane, Steady, StickBody, unstarved
from serving import Echo, observation
from test_client import TRANSPORTS, address_of, process, remote
from test_teleop import wait_for

from wayhand.vla.bridge.chunking import JointTargets
from wayhand.vla.bridge.clock import VirtualClock
from wayhand.vla.bridge.loop import ControlLoop
from wayhand.vla.bridge.loop_link import Status
from wayhand.vla.bridge.planner import Planner
from wayhand.vla.bridge.process import LoopSettings
from wayhand.vla.bridge.recorder import Tick
from wayhand.vla.bridge.safety import SafetyGate
from wayhand.vla.bridge.session import Episode, Outcome, PolicyUnreachable, Session
from wayhand.vla.contract import ActionChunk, EnvSpec, Observation
from wayhand.vla.errors import RobotError

DT = 0.01
GRACE = 0.1


class Hands:
    """`Robot` that remembers its commands."""

    spec: EnvSpec = ROBOT

    def __init__(self) -> None:
        self.commands: list[np.ndarray] = []

    def read(self) -> Observation:
        raise AssertionError("the loop reads no image")

    def command(self, action: np.ndarray, t: float) -> None:
        self.commands.append(action)

    def stop(self) -> None:
        pass


class Bench:
    """A loop at 100 Hz on a virtual clock, and chunks that arrive when it is said."""

    def __init__(self) -> None:
        self.clock, self.hands, self.ticks = VirtualClock(), Hands(), list[Tick]()
        self.arriving: list[tuple[float, ActionChunk]] = []
        self.loop = ControlLoop(
            robot=self.hands, gate=SafetyGate(limits=LIMITS, dt=DT), source=self._arrived, clock=self.clock,
            rate_hz=1 / DT, trace=self.ticks.append, grace=GRACE,
        )  # fmt: skip
        self.loop.start(START)

    def _arrived(self) -> ActionChunk | None:
        come = [chunk for t, chunk in self.arriving if t <= self.clock.now() + 1e-9]
        self.arriving = self.arriving[len(come) :]
        return come[-1] if come else None

    def sends(self, observed: float, after: float, *, speed: float = 0.2, length: int = 8) -> None:
        """A chunk of q1 at `speed` [rad/s], dated from `observed` on, that arrives `after` seconds later."""
        steps = 0.05 * np.arange(1, length + 1)
        q = START + (observed + steps)[:, None] * [speed, 0.0, 0.0]
        self.arriving.append((observed + after, ActionChunk(q, observed + steps, observed)))

    def run(self, until: float) -> np.ndarray:
        """[T 3] every command up to a time."""
        self.loop.run(lambda deadline: deadline < until - 1e-9)
        return np.array(self.hands.commands)


# --- killed ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("waypoints", [10, 11, 12, 13, 40])
@pytest.mark.parametrize("offset", [0.0, 0.004])
def test_the_remainder_is_played_for_100_ms_at_most_and_then_the_robot_is_held(waypoints: int, offset: float) -> None:
    bench, lost, end = Bench(), 0.5 + offset, 0.05 * waypoints
    bench.sends(0.0, 0.0, length=waypoints)
    bench.run(0.5)
    bench.loop.policy_lost(lost)
    path = bench.run(1.5)
    played = max(t.time for t in bench.ticks if t.reference is not None and not t.latched)
    assert played == pytest.approx(min(lost + GRACE, max(end, lost)), abs=DT), "the smaller of what is left and 100 ms"
    # From there on it brakes within its limits, rests, and says why.
    speed = np.diff(path[:, 0])[np.searchsorted([t.time for t in bench.ticks], played) :] / DT
    assert (np.diff(speed) <= 1e-9).all() and (np.diff(speed) >= -LIMITS.acceleration[0] * DT - 1e-9).all()
    assert speed[-1] == 0.0 and bench.loop.gate.reason in ("the policy is gone", "no valid action for 100 ms")


def test_nothing_from_before_the_loss_is_executed_after_it() -> None:
    bench = Bench()
    bench.sends(0.0, 0.0, length=40)
    bench.sends(0.45, 0.25, length=40)  # on its way when its maker dies, and here after the robot was stopped
    bench.run(0.5)
    bench.loop.policy_lost(0.5)
    rest = bench.run(0.9)[-1]
    assert bench.loop.gate.latched
    bench.loop.start(rest)
    path = bench.run(1.3)
    assert not bench.loop.gate.latched and (path[-40:] == rest).all(), "a reset brings nothing back"


def test_an_answer_within_the_grace_revokes_the_loss() -> None:
    bench = Bench()
    for k in range(8):
        bench.sends(0.2 * k, 0.0)
    bench.run(0.55)
    bench.loop.policy_lost(0.55)
    bench.run(1.5)
    assert not bench.loop.gate.latched


# --- stopped and continued -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("stopped", "late"), [(0.05, 1), (0.5, 8), (5.0, 8)])
def test_a_chunk_of_a_policy_that_hung_is_dropped_by_its_age(stopped: float, late: int) -> None:
    """The policy hangs over the observation at 0.4 s, answers when it goes on, and then plans from the present."""

    def driven(answers: bool) -> Bench:
        bench = Bench()
        for k in range(2):
            bench.sends(0.2 * k, 0.0)
        if answers:
            bench.sends(0.4, stopped)
        bench.run(0.4 + stopped + 0.3)
        return bench

    bench, without = driven(True), driven(False)
    report, path = bench.loop.report(), np.array(bench.hands.commands)
    assert report["late_actions"] == late and report["late_chunks"] == (late == 8)
    if late < 8:  # what is still ahead is executed at its own times
        t = np.array([tick.time for tick in bench.ticks])
        ahead = (t > 0.4 + stopped + 0.05) & (t < 0.7)
        np.testing.assert_allclose(path[ahead, 0], START[0] + 0.2 * t[ahead], atol=1e-6)
        assert ahead.sum() > 10
        assert not bench.loop.gate.latched
    else:
        assert (path == np.array(without.hands.commands)).all(), "not a number of it is merged"
        assert bench.loop.gate.reason == "no valid action for 100 ms"


# --- once for real ---------------------------------------------------------------------------------------------


@TRANSPORTS
def test_a_server_that_dies_between_two_requests_is_gone_at_once(transport: str, tmp_path: Path) -> None:
    path = tmp_path / "s"
    with process(path) as (child, port), remote(address_of(transport, path, port)) as there:
        memory = there.init(Echo.spec, [3])
        there.act([observation()], memory, rng=[])
        assert there.alive
        os.kill(child.pid, signal.SIGSTOP)
        assert there.alive, "one that is stopped may go on"
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        assert wait_for(lambda: not there.alive), "without a request"


def make_planner(session: Session) -> Planner:
    targets = JointTargets(policy=CARTESIAN, robot=session.spec, kinematics=Plane())
    return Planner(policy=Steady(0.005, chunk=200), spec=CARTESIAN, targets=targets)


class LongBody(StickBody):
    """An arm that reaches nothing for a minute."""

    time_limit = 60.0

    def __init__(self) -> None:
        super().__init__(goal=9.0)


def refuse(seed: int) -> None:
    raise RobotError("no answer")


def test_the_death_of_a_policy_stops_the_robot_long_before_the_next_chunk_is_due() -> None:
    """One chunk lasts 10 s; the policy dies a moment after it."""
    with Session(factory=LongBody, settings=LoopSettings(rate_hz=50.0, longest=60.0)) as session:

        def run() -> Outcome:
            there = [True]

            def watch(status: Status, seconds: float) -> None:
                there[0] = there[0] and seconds < 0.4

            return session.run(Episode(0, {}, 200, 0.0), make_planner(session), watch, alive=lambda: there[0])

        planner, moved = make_planner(session), session.status.ticks
        planner.reset = refuse  # type: ignore[method-assign]
        with pytest.raises(PolicyUnreachable, match="no answer"):
            session.run(Episode(0, {}, 200, 0.0), planner)
        assert session.status.latched and session.status.epoch == 0 and session.status.ticks >= moved, "nothing began"
        outcome = unstarved(run)
        assert outcome.reason == "the policy is gone" and outcome.inferences == 1
