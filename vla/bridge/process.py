"""The control loop in a process of its own, so that nothing the policy does (a collection, an import, a held
interpreter lock) can stop it."""

from __future__ import annotations

import os
import signal
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection

import numpy as np

from ..contract import ActionChunk, EnvSpec, decode_text, encode_text
from . import realtime
from .clock import MonotonicClock
from .loop import ControlLoop, Timing
from .robots.simulated import SimulatedRobotLink, tell
from .safety import Limits, SafetyGate, joint_indices
from .shared import Layout, Ring, chunk_layout, to_chunk

HOLD, RUN, EXIT = 0, 1, 2
_REASON = 256  # bytes
CONTROL = Layout.of(mode=((), "int64"), epoch=((), "int64"))
"""What the operator asks of the loop. A RUN with a new epoch is the explicit reset of the gate."""
STATUS = Layout.of(
    epoch=((), "int64"),
    ticks=((), "int64"),
    missed=((), "int64"),
    chunks=((), "int64"),
    limited=((), "int64"),
    lateness_max=((), "float64"),
    moving=((), "uint8"),
    latched=((), "uint8"),
    reason=((_REASON,), "uint8"),
)
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
        priority: SCHED_FIFO priority asked for.
    """

    rate_hz: float = 100.0
    stale: float = 0.1
    patience: float = 0.5
    oldest: float = 0.5
    priority: int = 50

    def gate(self, limits: Limits) -> SafetyGate:
        return SafetyGate(
            limits=limits, dt=1.0 / self.rate_hz, stale=self.stale, patience=self.patience, oldest=self.oldest
        )


class LoopLink:
    """The three rings between the loop and its operator: chunks and control in, status out.

    Args:
        width: A, of a command.
        names: of existing rings, from `names` of the link that made them; None makes new ones.
    """

    def __init__(self, width: int, names: Mapping[str, str] | None = None) -> None:
        layouts = {"chunks": chunk_layout(width), "control": CONTROL, "status": STATUS}
        self._rings = {k: Ring(layout, 4, names[k] if names else None) for k, layout in layouts.items()}
        self.chunks, self.control, self.status = self._rings.values()

    @property
    def names(self) -> dict[str, str]:
        return {k: ring.name for k, ring in self._rings.items()}

    def close(self) -> None:
        for ring in self._rings.values():
            ring.close()


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
        robot, link: names of the rings of a `SimulatedRobotLink` and a `LoopLink`.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        body, operator = SimulatedRobotLink(spec, robot), LoopLink(spec.action_dim, link)
        try:
            _Served(body, operator, limits, settings, pipe).run()
        finally:
            operator.close()
            body.close()
    except BrokenPipeError:
        pass
    except Exception as error:
        tell(pipe, {"error": f"{type(error).__name__}: {error}", "traceback": traceback.format_exc()})


class _Served:
    def __init__(
        self, robot: SimulatedRobotLink, link: LoopLink, limits: Limits, settings: LoopSettings, pipe: Connection
    ) -> None:
        self._robot, self._link, self._pipe, self._settings = robot, link, pipe, settings
        self._gate = settings.gate(limits)
        self._clock = MonotonicClock()
        self._loop = ControlLoop(
            robot=robot, gate=self._gate, source=self._newest_chunk, clock=self._clock, rate_hz=settings.rate_hz
        )
        names = [e.name for e in robot.spec.state]
        self._joints = joint_indices(names, [e.name for e in robot.spec.action_elements])
        self._chunks_seen, self._control_seen, self._mode = 0, 0, HOLD
        self._parent = os.getppid()
        self._status_due = 0.0

    def run(self) -> None:
        self._warm_up()
        rights = realtime.acquire(self._settings.priority)
        tell(self._pipe, {"fifo": rights.fifo, "locked": rights.locked, "warning": rights.warning})
        self._loop.run(self._keep_on)
        self._robot.stop()
        self._publish()
        tell(self._pipe, {"report": self._loop.report()})

    def _warm_up(self) -> None:
        """Touch every path of a tick once before the first deadline counts; the robot ignores epoch 0."""
        limits = self._gate.limits
        here = (limits.lower + limits.upper) / 2
        self._loop.start(here)
        left = iter(range(_WARM_UP_TICKS))
        self._loop.run(lambda deadline: self._keep_on(deadline) and next(left, None) is not None)
        self._gate.halt("waiting for the first episode")
        self._gate.report = type(self._gate.report)()
        self._loop.timing = Timing.empty()

    def _keep_on(self, deadline: float) -> bool:
        """Between two ticks: obey the operator, publish the status; False when it is time to leave."""
        if os.getppid() != self._parent:
            self._gate.latch("the policy's process is gone")
            self._mode = EXIT
        if self._link.control.count != self._control_seen:
            self._obey()
        if deadline >= self._status_due:
            self._status_due = deadline + 1.0 / STATUS_HZ
            self._publish()
        return self._mode != EXIT or self._gate.moving

    def _obey(self) -> None:
        self._control_seen = self._link.control.count
        record = self._link.control.latest()
        assert record is not None
        self._mode, epoch = int(record["mode"]), int(record["epoch"])
        if self._mode != RUN:
            self._gate.halt("stopped by the operator")
        elif epoch != self._robot.epoch:
            self._robot.epoch = epoch
            state = self._robot.read().state
            self._loop.start(np.asarray(state[self._joints], np.float64))

    def _newest_chunk(self) -> ActionChunk | None:
        if self._link.chunks.count == self._chunks_seen:
            return None
        self._chunks_seen = self._link.chunks.count
        record = self._link.chunks.latest()
        if record is None or int(record["epoch"]) != self._robot.epoch:
            return None
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
            reason=encode_text(gate.reason.encode()[:_REASON].decode(errors="ignore"), _REASON),
        )


@dataclass(frozen=True)
class Status:
    """What the loop last said of itself; `lateness_max` in seconds, `reason` empty unless latched."""

    epoch: int
    ticks: int
    missed: int
    chunks: int
    limited: int
    lateness_max: float
    moving: bool
    latched: bool
    reason: str


def read_status(ring: Ring) -> Status | None:
    record = ring.latest()
    if record is None:
        return None
    return Status(
        epoch=int(record["epoch"]),
        ticks=int(record["ticks"]),
        missed=int(record["missed"]),
        chunks=int(record["chunks"]),
        limited=int(record["limited"]),
        lateness_max=float(record["lateness_max"]),
        moving=bool(record["moving"]),
        latched=bool(record["latched"]),
        reason=decode_text(record["reason"]),
    )
