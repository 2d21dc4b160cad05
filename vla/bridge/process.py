"""The control loop in a process of its own, so that nothing the policy does (a collection, an import, a held
interpreter lock) can stop it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection

import numpy as np

from ..contract import ActionChunk, EnvSpec, decode_text
from . import realtime
from .child import reporting
from .clock import MonotonicClock
from .limits import Limits, joint_indices
from .loop import ControlLoop, Timing
from .loop_link import EXIT, FAULT, HALTED, HOLD, LOST, RUN, LoopLink, encode_reason
from .motion import Motion
from .recorder import Tick
from .robots.link import RobotLink, tell
from .safety import Guard, SafetyGate
from .sensors import JointWatch, Plausibility
from .shadow import ShadowRobot
from .shared import to_chunk

STATUS_HZ = 50.0
_WARM_UP_TICKS = 100


@dataclass(frozen=True)
class LoopSettings:
    """Of the loop and its gate.

    Args:
        rate_hz: ticks per second.
        stale: the gate latches after so long without a valid action [s].
        patience: the gate latches after clipping for so long without a break [s].
        oldest: chunks from older observations are dropped [s].
        priority: SCHED_FIFO priority asked for; the watchdog asks for ten more.
        awake: see `ControlLoop`; only where that priority was granted, for else it costs the loop its turn [s].
        longest: an action is not executed once its observation is older than this [s].
        guards: builds what is asked before every motion, in the loop's process, so it must be importable there.
        plausibility: of the sensors.
        traced: whether every tick is published for a recorder or a console.
        shadow: whether the robot is not moved: commands are judged and published, and the robot holds.
    """

    rate_hz: float = 100.0
    stale: float = 0.1
    patience: float = 0.5
    oldest: float = 0.5
    priority: int = 50
    awake: float = 400e-6
    longest: float = 2.0
    guards: Callable[[], Sequence[Guard]] | None = None
    plausibility: Plausibility = field(default_factory=Plausibility)
    traced: bool = False
    shadow: bool = False

    def gate(self, limits: Limits) -> SafetyGate:
        return SafetyGate(
            limits=limits,
            dt=1.0 / self.rate_hz,
            stale=self.stale,
            patience=self.patience,
            oldest=self.oldest,
            guards=() if self.guards is None else self.guards(),
        )


def serve(
    spec: EnvSpec,
    limits: Limits,
    settings: LoopSettings,
    robot: Mapping[str, str],
    link: Mapping[str, str],
    pipe: Connection,
) -> None:
    """The loop's process. Tells its rights once it is ready and its report at the end, as JSON.

    Args:
        robot, link: names of the rings of a `RobotLink` and a `LoopLink`.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with reporting(pipe):
        body, operator = RobotLink(spec, robot), LoopLink(spec.action_dim, link)
        try:
            _Served(body, operator, limits, settings, pipe).run()
        finally:
            operator.close()
            body.close()


class _Served:
    def __init__(
        self, robot: RobotLink, link: LoopLink, limits: Limits, settings: LoopSettings, pipe: Connection
    ) -> None:
        self._robot, self._link, self._pipe, self._settings = robot, link, pipe, settings
        self._gate = settings.gate(limits)
        self._clock = MonotonicClock()
        self._shadow = ShadowRobot(robot) if settings.shadow else None
        self._loop = ControlLoop(
            robot=self._shadow or robot,
            gate=self._gate,
            source=self._newest_chunk,
            clock=self._clock,
            rate_hz=settings.rate_hz,
            check=self._check,
            beat=self._beat,
            trace=self._trace if settings.traced else None,
            longest=settings.longest,
            grace=settings.stale,
        )
        self._watch = JointWatch(limits, settings.plausibility)
        self._states_seen, self._measured, self._measured_at = 0, np.zeros(0), 0.0
        names = [e.name for e in robot.spec.state]
        self._joints = joint_indices(names, [e.name for e in robot.spec.action_elements])
        self._chunks_seen, self._control_seen, self._mode = 0, 0, HOLD
        self._parent = os.getppid()
        self._status_due = 0.0

    def run(self) -> None:
        self._warm_up()
        rights = realtime.acquire(self._settings.priority)
        self._loop.awake = self._settings.awake if rights.fifo else 0.0
        tell(self._pipe, {"fifo": rights.fifo, "locked": rights.locked, "warning": rights.warning})
        self._beat(self._clock.now())
        self._link.beat["armed"] = 1.0
        self._loop.run(self._keep_on)
        self._link.beat["armed"] = 0.0
        self._robot.stop()
        self._publish()
        tell(self._pipe, {"report": self._loop.report()})

    def _warm_up(self) -> None:
        """Touch every path of a tick once before the first deadline counts; the robot ignores epoch 0."""
        limits = self._gate.limits
        here = (limits.lower + limits.upper) / 2
        self._start(here)
        left = iter(range(_WARM_UP_TICKS))
        self._loop.run(lambda deadline: self._keep_on(deadline) and next(left, None) is not None)
        self._gate.halt("waiting for the first episode")
        self._gate.report = type(self._gate.report)()
        self._loop.timing = Timing.empty()

    def _keep_on(self, deadline: float) -> bool:
        """Between two ticks: obey the operator, publish the status; False when it is time to leave."""
        if os.getppid() != self._parent:
            self._loop.policy_lost(deadline)
            self._mode = EXIT
        if self._link.control.count != self._control_seen:
            self._obey()
        if deadline >= self._status_due:
            self._status_due = deadline + 1.0 / STATUS_HZ
            self._publish()
        return self._mode != EXIT or not self._gate.latched or self._gate.moving

    def _beat(self, now: float) -> None:
        self._link.beat["beat"] = now

    def _trace(self, tick: Tick) -> None:
        self._link.ticks.write(**tick.record(self._robot.epoch))

    def _check(self, now: float, motion: Motion) -> str:
        """The emergency button, the console, the driver and the joint sensors, once a tick."""
        if self._link.estop.pressed:
            return self._link.estop.reason
        if self._robot.epoch == 0:
            return ""
        if stop := self._link.panel.fault(now):
            return stop
        if self._robot.halted_at:
            return self._robot.halt_reason
        if self._robot.state.count != self._states_seen:
            self._states_seen = self._robot.state.count
            self._sense()
        executed = motion if self._shadow is None or self._shadow.motion is None else self._shadow.motion
        return self._watch.fault(self._measured, self._measured_at, now, executed)

    def _sense(self) -> None:
        observation = self._robot.read()
        self._gate.place(observation)
        self._measured = np.asarray(observation.state[self._joints], np.float64)
        self._measured_at = observation.times["state"]

    def _obey(self) -> None:
        """Everything that was asked, in order: what comes close behind a RUN does not take its place."""
        records, self._control_seen = self._link.control.since(self._control_seen)
        for record in records:
            self._take(record)

    def _take(self, record: Mapping[str, np.ndarray]) -> None:
        self._mode, epoch = int(record["mode"]), int(record["epoch"])
        if self._mode == FAULT:
            self._gate.latch(decode_text(record["reason"]))
        elif self._mode == LOST:
            self._loop.policy_lost(self._clock.now())
        elif self._mode != RUN:
            self._gate.halt(HALTED)
        elif epoch != self._robot.epoch:
            self._robot.epoch = epoch
            self._sense()
            self._watch.reset()
            self._start(self._measured)

    def _start(self, position: np.ndarray) -> None:
        self._loop.start(position)
        if self._shadow is not None:
            self._shadow.rest(self._gate.position)

    def _newest_chunk(self) -> ActionChunk | None:
        if self._link.chunks.count == self._chunks_seen:
            return None
        self._chunks_seen = self._link.chunks.count
        record = self._link.chunks.latest()
        if record is None or int(record["epoch"]) != self._robot.epoch:
            return None
        if self._shadow is not None:
            self._shadow.anchor(self._gate, self._measured)
        return to_chunk(record)

    def _publish(self) -> None:
        timing, gate = self._loop.timing, self._gate
        self._link.status.write(
            epoch=self._robot.epoch,
            ticks=timing.ticks,
            missed=timing.missed,
            chunks=timing.chunks,
            limited=gate.report.limited_ticks,
            lateness_max=timing.lateness.max,
            moving=gate.moving,
            latched=gate.latched,
            reason=encode_reason(gate.reason),
        )
