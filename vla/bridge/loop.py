"""The control loop: newest chunk → interpolate → gate → robot, on absolute deadlines.

A tick allocates a few small arrays and does no I/O of unbounded time; what it has to say is kept in counters and
histograms of fixed size and told after the last tick.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..contract import ActionChunk, Robot
from ..errors import ConfigError
from .chunking import ChunkBuffer, HumanChunk
from .clock import Clock
from .motion import Motion
from .recorder import Tick
from .safety import SafetyGate

RATES = (50.0, 1000.0)
"""Hz, the slowest and the fastest loop."""

Source = Callable[[], ActionChunk | None]
"""The newest chunk of absolute targets since the last call, or None."""
Check = Callable[[float, Motion], str]
"""(now [s], commanded motion) → why the robot must stop, or nothing: sensors, an emergency button, the driver."""
AWAKE = 0.2
"""The largest share of a period that is spent awake before a deadline."""
NAP = 0.005
"""The longest sleep [s] without a sign of life."""
SUSPENDED = 0.05
"""Seconds of suspension after which the world is not the one the actions were planned for."""


class Histogram:
    """Counts of a non-negative quantity in bins of equal width; memory does not grow with time.

    Args:
        width: of a bin.
        bins: values from `width * bins` on share the last one; `max` stays exact.
    """

    def __init__(self, width: float, bins: int) -> None:
        self._width = width
        self._counts = np.zeros(bins, np.int64)
        self.max = 0.0

    def add(self, value: float) -> None:
        self._counts[min(max(int(value / self._width), 0), len(self._counts) - 1)] += 1
        self.max = max(self.max, value)

    def quantile(self, q: float) -> float:
        """Upper edge of the bin that holds quantile `q`, at most `max`; 0 where nothing was counted."""
        total = int(self._counts.sum())
        if not total:
            return 0.0
        k = int(np.searchsorted(np.cumsum(self._counts), q * total))
        return self.max if k >= len(self._counts) - 1 else min((k + 1) * self._width, self.max)

    def summary(self, scale: float = 1.0) -> dict[str, float]:
        """p50, p99, p99.9 and max, times `scale`."""
        quantiles = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999}
        return {**{name: self.quantile(q) * scale for name, q in quantiles.items()}, "max": self.max * scale}


@dataclass
class Timing:
    """What the loop measured.

    Args:
        ticks: done.
        missed: periods whose command was not out before their end.
        lateness: wake-up after the deadline [s].
        work: from wake-up to the end of the tick [s].
        age: of the observation behind the executed action [s].
        seam: disagreement of two chunks where the newer takes over, largest element [rad or m].
        chunks: taken over.
        waiting: ticks between a start and the first chunk after it.
    """

    ticks: int
    missed: int
    lateness: Histogram
    work: Histogram
    age: Histogram
    seam: Histogram
    chunks: int
    waiting: int = 0

    @staticmethod
    def empty() -> Timing:
        return Timing(0, 0, Histogram(1e-6, 20_000), Histogram(1e-6, 20_000), Histogram(1e-3, 5_000),
                      Histogram(1e-4, 10_000), 0)  # fmt: skip


class ControlLoop:
    """Drives one robot.

    Args:
        robot: gets one absolute target per tick, meant for the end of that tick.
        gate: every command passes it.
        source: where chunks come from.
        clock: real or virtual.
        rate_hz: ticks per second, 50 to 1000.
        check: asked every tick; its reason latches the gate.
        beat: called with the time at every wake-up, at least every `NAP` seconds: the sign of life.
        longest: an action is not executed once its observation is older than this [s].
        trace: called at the end of every tick with what it did; must take bounded time.
        grace: after `policy_lost`, what is left of the chunk is executed for so long [s] at most; and a tick that
            comes later than this latches.
        awake: how long before a deadline to wake up and look at the clock [s], at most `AWAKE` of a period. It takes
            as much of a core, and with a real-time priority no timer that is late by less makes a tick late.
    """

    def __init__(
        self,
        *,
        robot: Robot,
        gate: SafetyGate,
        source: Source,
        clock: Clock,
        rate_hz: float,
        check: Check | None = None,
        beat: Callable[[float], None] | None = None,
        trace: Callable[[Tick], None] | None = None,
        longest: float = 2.0,
        grace: float = 0.1,
        awake: float = 0.0,
    ) -> None:
        if not RATES[0] <= rate_hz <= RATES[1]:
            raise ConfigError(
                "The loop's rate is out of range", expected=f"{RATES[0]:g} … {RATES[1]:g} Hz", got=f"{rate_hz:g}"
            )
        self.dt = 1.0 / rate_hz
        self.awake = awake
        self.gate = gate
        self.timing = Timing.empty()
        self._robot, self._source, self._clock = robot, source, clock
        self._check, self._beat, self._trace = check, beat, trace
        self._lateness = 0.0
        self._longest, self._grace = longest, grace
        self._buffer = ChunkBuffer()
        self._waiting = True
        self._human = False
        self._lost_at: float | None = None
        self._suspended = clock.suspended()

    def start(self, position: np.ndarray) -> None:
        """Begin at rest at `position` [A]: forget what was executed and release the gate."""
        self._buffer.clear()
        self._waiting = True
        self._lost_at = None
        self._suspended = self._clock.suspended()
        self.gate.reset(position)

    def policy_lost(self, now: float) -> None:
        """The policy is gone: what is validated is executed for the grace, then the robot stops. A chunk revokes it."""
        if self._lost_at is None:
            self._lost_at = now

    def tick(self, deadline: float) -> None:
        """One period that starts at `deadline` [s]; its command is for `deadline + dt`."""
        chunk = self._source()
        if chunk is not None:
            self._take_over(chunk, deadline)
        self._supervise(deadline)
        end = deadline + self.dt
        reference = self._reference(end, deadline)
        command = self.gate.step(reference, deadline)
        if self._buffer.observed_at is not None and not self.gate.latched:
            self.timing.age.add(deadline - self._buffer.observed_at)
        self._robot.command(command, end)
        if self._trace is not None:
            planned_at = self._buffer.observed_at or 0.0
            human = self._human and reference is not None
            self._trace(Tick(end, self._lateness, reference, command, self.gate.latched, planned_at, human))
        self.timing.ticks += 1
        self.timing.waiting += self._waiting

    def _supervise(self, now: float) -> None:
        """Everything that stops the robot but is not an action's fault."""
        asleep = self._clock.suspended() - self._suspended
        if asleep > SUSPENDED:
            self.gate.latch(f"the machine was suspended for {asleep:.1f} s")
        if self._lost_at is not None and now - self._lost_at > self._grace - 1e-9:
            self.gate.latch("the policy is gone")
        if self._check is not None and not self.gate.latched:
            if fault := self._check(now, self.gate.motion):
                self.gate.latch(fault)

    def _reference(self, t: float, now: float) -> np.ndarray | None:
        """The target for `t` [s], or None where nothing that may still be executed says one."""
        observed_at = self._buffer.observed_at
        too_old = observed_at is not None and now - observed_at > self._longest
        return None if too_old else self._buffer.sample(t)

    def _take_over(self, chunk: ActionChunk, now: float) -> None:
        first = self.gate.admit(chunk.actions, chunk.times, chunk.observed_at, now)
        if first is None:
            return
        before = self._buffer.sample(float(chunk.times[first]))
        self._buffer.replace(self.gate.position, now, chunk.actions[first:], chunk.times[first:], chunk.observed_at)
        self.timing.chunks += 1
        self._waiting, self._lost_at = False, None
        self._human = isinstance(chunk, HumanChunk)
        if before is not None:
            self.timing.seam.add(float(np.abs(chunk.actions[first] - before).max()))

    def run(self, keep_on: Callable[[float], bool]) -> None:
        """Tick on absolute deadlines while `keep_on(deadline)`.

        A tick that overruns costs the periods it covered, which are counted as missed and not made up: catching up
        would send several commands at once. One that comes or ends later than the grace latches.
        """
        clock, timing = self._clock, self.timing
        origin = clock.now() + self.dt
        index = 0
        while keep_on(deadline := origin + index * self.dt):
            woken = self._sleep_until(deadline)
            self._latch_if_blocked(woken - deadline)
            self._lateness = woken - deadline
            self.tick(deadline)
            done = clock.now()
            self._latch_if_blocked(done - deadline - self.dt)
            timing.lateness.add(self._lateness)
            timing.work.add(done - woken)
            over = int((done - deadline) / self.dt)
            timing.missed += over
            index += 1 + over

    def _latch_if_blocked(self, late: float) -> None:
        """Latch where `late` [s], the time the robot was without us before a tick or within one, exceeds the grace."""
        if late > self._grace:
            self.gate.latch(f"the loop was blocked for {late * 1000:.0f} ms")

    def _sleep_until(self, deadline: float) -> float:
        """The time of waking up."""
        clock = self._clock
        if self._beat is not None:
            while (now := clock.now()) < deadline - NAP:
                self._beat(now)
                clock.sleep_until(now + NAP)
        clock.sleep_until(deadline, min(self.awake, AWAKE * self.dt))
        now = clock.now()
        if self._beat is not None:
            self._beat(now)
        return now

    def report(self) -> dict[str, Any]:
        """Counters and quantiles; microseconds, milliseconds and units of the joints as the keys say. JSON types."""
        timing, gate = self.timing, self.gate.report
        return {
            "rate_hz": round(1.0 / self.dt, 6),
            "ticks": timing.ticks,
            "missed_deadlines": timing.missed,
            "lateness_us": timing.lateness.summary(1e6),
            "work_us": timing.work.summary(1e6),
            "action_age_ms": timing.age.summary(1e3),
            "seam": timing.seam.summary(),
            "chunks": timing.chunks,
            "late_chunks": gate.late_chunks,
            "late_actions": gate.late_actions,
            "rejected_chunks": gate.rejected_chunks,
            "limited_ticks": gate.limited_ticks,
            "limited_by_joint": dict(gate.limited),
            "waiting_ticks": timing.waiting,
            "held_ticks": gate.held_ticks,
            "latches": list(gate.latches),
        }
