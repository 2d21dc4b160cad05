"""A robot whose policy is behind a bad network: it keeps to its limits, and to the newest answer, or it holds."""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np
import pytest
from bridge_body import LIMITS, ROBOT, StickBody
from test_client import fake, remote

from wayhand.vla.bridge import wire
from wayhand.vla.bridge.chunking import JointTargets
from wayhand.vla.bridge.clock import VirtualClock
from wayhand.vla.bridge.loop import ControlLoop
from wayhand.vla.bridge.messages import EXTENSIONS, SEQUENCE, Terms
from wayhand.vla.bridge.planner import Planner
from wayhand.vla.bridge.process import LoopSettings
from wayhand.vla.bridge.recorder import Tick
from wayhand.vla.bridge.robots.simulated import SimulatedRobot
from wayhand.vla.contract import ActionChunk, Observation
from wayhand.vla.errors import RobotError

RATE = 100.0


class Network:
    """Answers every request now, later, twice or never, in any order. The policy behind it sweeps q1 to and fro."""

    def __init__(self, seed: int, loss: float) -> None:
        self._rng, self._loss, self._held = np.random.default_rng(seed), loss, deque[bytes]()

    def __call__(self, request: dict[str, Any], k: int) -> list[bytes | str]:
        t = request.get("observation.times.state", 0.0)
        times = t + 0.05 * np.arange(1, 9)
        actions = np.stack([0.8 * np.sin(2 * times) + 0.3, -0.2 + 0 * times, 0.04 + 0 * times], 1).astype(np.float32)
        told = {"sequence": request.get(SEQUENCE), "observed_at": t, "times": times.tolist()}
        self._held.append(wire.pack({"actions": actions, "wayhand": told}))
        if "wayhand/reset" not in request and self._rng.random() < self._loss:
            return []
        out: list[bytes | str] = [self._held[i] for i in self._rng.permutation(len(self._held))]
        out += out[:1] if self._rng.random() < 0.3 else []
        self._held.clear()
        return out


class Run:
    """One episode in virtual time; an answer takes 20 to 300 ms of it, a failed request 100 ms."""

    def __init__(self, planner: Planner, seed: int, *, seconds: float = 1.9, dies: float = np.inf) -> None:
        self.clock, self.body = VirtualClock(), StickBody(goal=np.inf)
        self.robot = SimulatedRobot(body=self.body)
        self.robot.reset(seed, {})
        self.clock.on_advance.append(self.robot.advance_to)
        self.flying: deque[tuple[float, ActionChunk]] = deque()
        self.sources: list[float] = []
        self.lost, self.ticks = 0, list[Tick]()
        self.loop = ControlLoop(
            robot=self.robot,
            gate=LoopSettings(rate_hz=RATE).gate(LIMITS),
            source=self._arrived,
            clock=self.clock,
            rate_hz=RATE,
            trace=self.ticks.append,
        )
        self.loop.start(self.robot.measured())
        self._go(planner, np.random.default_rng(seed), round(seconds * RATE), dies)

    def _go(self, planner: Planner, rng: np.random.Generator, ticks: int, dies: float) -> None:
        free = 0.0
        for index in range(ticks):
            now = index / RATE
            self.clock.sleep_until(now)
            if now >= free and now < dies:
                free = now + self._plan(planner, self.robot.read(), rng)
            self.loop.tick(now)

    def _plan(self, planner: Planner, seen: Observation, rng: np.random.Generator) -> float:
        try:
            chunk = planner.plan(seen)
        except RobotError:
            self.lost += 1
            return 0.1
        delay = float(rng.uniform(0.02, 0.3))
        self.flying.append((self.clock.now() + delay, chunk))
        return delay

    def _arrived(self) -> ActionChunk | None:
        if not self.flying or self.flying[0][0] > self.clock.now() + 1e-9:
            return None
        chunk = self.flying.popleft()[1]
        self.sources.append(chunk.observed_at)
        return chunk

    def forwards(self) -> bool:
        """No command is for an earlier moment than the one before, nor from an older observation."""
        planned = [tick.planned_at for tick in self.ticks if tick.reference is not None]
        return bool((np.diff([tick.time for tick in self.ticks]) > 0).all() and (np.diff(planned) >= 0).all())

    def within_limits(self) -> bool:
        path = np.array(self.body.trace)
        speed = np.abs(np.diff(path, axis=0)) / self.body.physics_dt
        inside = (path >= LIMITS.lower - 1e-9).all() and (path <= LIMITS.upper + 1e-9).all()
        jumps = np.abs(np.diff([tick.command for tick in self.ticks], axis=0))  # seams of two chunks among them
        inside = inside and (jumps <= LIMITS.velocity / RATE * (1 + 1e-6) + 1e-9).all()
        return bool(inside and (speed <= LIMITS.velocity * (1 + 1e-6) + 1e-9).all())


@pytest.mark.parametrize(("seed", "loss"), [(0, 0.0), (1, 0.3), (2, 0.6)])
def test_a_bad_network_never_moves_the_robot_backwards_in_time_or_beyond_its_limits(seed: int, loss: float) -> None:
    terms = Terms(ROBOT, 8, "", EXTENSIONS, 0)
    for timeout in (0.1, 1.0):  # what is late on this machine
        with fake(Network(seed, loss), terms.to_metadata()) as address:
            with remote(address, timeout=timeout, patience=1.5 * timeout) as policy:
                planner = Planner(policy=policy, spec=ROBOT, targets=JointTargets(policy=ROBOT, robot=ROBOT))
                planner.reset(seed)
                run = Run(planner, seed)
                counters = policy.counters
        if run.sources:
            break
    assert run.sources == sorted(set(run.sources)) and run.sources
    assert run.within_limits() and run.forwards()
    # Whatever did not come in time is counted, on one side or the other.
    assert (counters.timeouts > 0 and run.lost > 0) or not loss
    report, refused = run.loop.report(), run.loop.gate.latched  # a robot that was stopped takes no chunk
    used = report["chunks"] + report["late_chunks"]
    assert (used <= len(run.sources) if refused else used == len(run.sources)) and report["late_actions"] > 0


def test_when_the_server_dies_the_rest_is_played_for_a_moment_and_then_the_robot_holds() -> None:
    terms = Terms(ROBOT, 8, "", EXTENSIONS, 0)
    with fake(Network(0, 0.0), terms.to_metadata()) as address, remote(address) as policy:
        planner = Planner(policy=policy, spec=ROBOT, targets=JointTargets(policy=ROBOT, robot=ROBOT))
        planner.reset(0)
        run = Run(planner, 0, dies=0.6)
    assert run.loop.gate.latched and not run.loop.gate.moving and run.within_limits() and run.forwards()
    # The last chunk was at most 0.4 s long and flew at most 0.3 s: after it and the stale limit nothing moves.
    assert np.ptp(np.array(run.body.trace)[-round(0.2 / StickBody.physics_dt) :], axis=0).max() < 1e-6
