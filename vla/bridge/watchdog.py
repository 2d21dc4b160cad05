"""The watchdog: a process of its own that stops the driver when the control loop falls silent.

The loop beats at least once a period and every 5 ms while it sleeps. Nothing that holds the loop up, not a held
interpreter lock, a stopped process, a kill, can keep this process from seeing that, and it reaches the driver without
the loop. It asks for a higher real-time priority than the loop's.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from multiprocessing.connection import Connection
from typing import Protocol

from ..contract import EnvSpec
from . import realtime
from .cells import BEAT, Cells
from .child import reporting
from .clock import Clock, MonotonicClock
from .robots.link import RobotLink, tell

_LOOKS = 10.0


def silence_limit(rate_hz: float) -> float:
    """The smaller of 3 periods and 20 ms [s]: a stop has begun when the loop has been silent for so long."""
    return min(3.0 / rate_hz, 0.020)


class Stoppable(Protocol):
    def halt(self, t: float, reason: str) -> None:
        """Stop the driver as of time `t` [s]; it obeys nobody until it is reset."""
        ...


class Watchdog:
    """Looks at the beat.

    Args:
        cells: of `BEAT`, shared with the loop.
        driver: what to stop.
        rate_hz: of the loop.

    It looks ten times within `silence_limit`, and stops the driver at the first look after which the next one could
    come too late.
    """

    def __init__(self, cells: Cells, driver: Stoppable, rate_hz: float) -> None:
        self._cells, self._driver = cells, driver
        limit = silence_limit(rate_hz)
        self.period = limit / _LOOKS
        self._longest = limit - 1.5 * self.period
        self._tripped_on = -1.0

    def look(self, now: float) -> bool:
        """Once every `period`; whether the driver was stopped at this look. One silence is one stop."""
        beat = self._cells["beat"]
        silent = now - beat
        if self._cells["armed"] == 0.0 or silent <= self._longest or beat == self._tripped_on:
            return False
        self._tripped_on = beat
        self._driver.halt(now, f"the watchdog stopped the driver: the loop was silent for {silent * 1000:.1f} ms")
        return True


def serve(spec: EnvSpec, rate_hz: float, priority: int, robot: Mapping[str, str], beat: str, pipe: Connection) -> None:
    """The watchdog's process. Tells its rights once it watches; ends when told to, or alone with a silent loop."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with reporting(pipe):
        link, cells = RobotLink(spec, robot), Cells(BEAT, beat)
        try:
            watchdog = Watchdog(cells, link, rate_hz)
            rights = realtime.acquire(priority)
            tell(pipe, {"fifo": rights.fifo, "warning": rights.warning})
            _watch(watchdog, cells, MonotonicClock())
        finally:
            cells.close()
            link.close()


def _watch(watchdog: Watchdog, cells: Cells, clock: Clock) -> None:
    parent = os.getppid()
    deadline = clock.now()
    while cells["leave"] == 0.0:
        deadline = max(deadline + watchdog.period, clock.now())
        clock.sleep_until(deadline)
        now = clock.now()
        watchdog.look(now)
        if os.getppid() != parent and (cells["armed"] == 0.0 or now - cells["beat"] > 1.0):
            return
