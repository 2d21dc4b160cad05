"""A run in virtual time: the loop, the gate and the chunking of a real one, on a clock that only we move."""

from __future__ import annotations

import numpy as np

from ..contract import ActionChunk
from .clock import VirtualClock
from .limits import joint_indices
from .loop import ControlLoop
from .motion import Motion
from .planner import Pilot
from .process import LoopSettings
from .recorder import EpisodeRecorder
from .robots.simulated import SimulatedBody, SimulatedRobot
from .sensors import CameraWatch, JointWatch
from .session import Episode, Outcome
from .shadow import ShadowRobot


class _Delayed:
    """Chunks on their way: each is handed over once its arrival time has come."""

    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock
        self._flying: list[tuple[float, ActionChunk]] = []

    def send(self, chunk: ActionChunk, arrival: float) -> None:
        self._flying.append((arrival, chunk))

    def __call__(self) -> ActionChunk | None:
        arrived = [chunk for arrival, chunk in self._flying if arrival <= self._clock.now() + 1e-9]
        self._flying = self._flying[len(arrived) :]
        return arrived[-1] if arrived else None


def run_virtual(
    episode: Episode,
    body: SimulatedBody,
    planner: Pilot,
    settings: LoopSettings,
    recorder: EpisodeRecorder | None = None,
) -> tuple[Outcome, ControlLoop]:
    """One episode, deterministic: the same arguments give the same trajectory on any machine and under any load.

    Inference takes `episode.latency` seconds of virtual time, whatever it takes in reality. `recorder` is shown every
    observation and every tick. With `settings.shadow` the robot is not moved. Returns the outcome and the loop, for
    its report.
    """
    clock = VirtualClock()
    robot = SimulatedRobot(body=body, on_period=lambda: observe())
    robot.reset(episode.seed, episode.options)

    def observe() -> None:
        if recorder is not None:
            recorder.observe(robot.read())

    observe()
    planner.reset(episode.seed)
    clock.on_advance.append(robot.advance_to)
    flying = _Delayed(clock)
    shadow = ShadowRobot(robot) if settings.shadow else None
    watch = JointWatch(body.limits, settings.plausibility)
    cameras = CameraWatch(body.spec, settings.plausibility)
    joints = joint_indices([e.name for e in body.spec.state], body.limits.names)

    def check(now: float, motion: Motion) -> str:
        state = robot.read_state()
        loop.gate.place(state)
        executed = motion if shadow is None or shadow.motion is None else shadow.motion
        return watch.fault(np.asarray(state.state[joints], np.float64), state.times["state"], now, executed)

    def arrived() -> ActionChunk | None:
        chunk = flying()
        if chunk is not None and shadow is not None:
            shadow.anchor(loop.gate, robot.measured())
        return chunk

    loop = ControlLoop(
        robot=shadow or robot,
        gate=settings.gate(body.limits),
        source=arrived,
        clock=clock,
        rate_hz=settings.rate_hz,
        check=check,
        trace=None if recorder is None else recorder.tick,
        longest=settings.longest,
        grace=settings.stale,
    )
    loop.gate.place(robot.read_state())
    loop.start(robot.measured())
    if shadow is not None:
        shadow.rest(loop.gate.position)
    index = inferences = 0
    due, planned_at = 0.0, -body.spec.control_dt
    while True:
        now = index * loop.dt
        clock.sleep_until(now)
        if robot.outcome is not None or loop.gate.latched or planner.finished or now > body.time_limit - 1e-9:
            return Outcome(episode.seed, bool(robot.outcome), now, loop.gate.reason, inferences), loop
        if now >= (planned_at + body.spec.control_dt if planner.urgent else due) - 1e-9:
            observation, planned_at = robot.read(), now
            usable, fault = cameras.judge(observation, now)
            if fault:
                loop.gate.latch(fault)
            elif usable:
                chunk = planner.plan(observation, episode.latency, episode.execute)
                flying.send(chunk, observation.time + episode.latency)
            due = planner.due(now, episode.latency, episode.execute)
            inferences += 1
        loop.tick(now)
        index += 1
