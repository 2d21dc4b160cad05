"""Time as an argument: the monotonic clock of a robot, and a virtual one on which the same code is deterministic.

Deadlines are absolute, so a late wake-up never shifts the next one. The wall clock is never read: it jumps with NTP.
"""

from __future__ import annotations

import ctypes
import errno
import os
import time
from collections.abc import Callable
from typing import Any, Protocol


class Clock(Protocol):
    """Seconds on one monotonic axis."""

    def now(self) -> float: ...

    def sleep_until(self, deadline: float, awake: float = 0.0) -> None:
        """Return at `deadline` [s] or as soon after it as possible; at once where it has passed.

        Args:
            awake: how much of the wait is spent looking at the clock, at its end [s]: a timer that wakes up later than
                it was asked to, by less than that, does no harm.
        """
        ...

    def suspended(self) -> float:
        """Seconds that the machine has slept so far: they pass for the world and not for `now`."""
        ...


class _Timespec(ctypes.Structure):
    _fields_ = [("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long)]


class MonotonicClock:
    """CLOCK_MONOTONIC, one axis for all processes of a host; sleeps by `clock_nanosleep(TIMER_ABSTIME)` on Linux."""

    def __init__(self) -> None:
        # Where the C library lacks it (macOS), an ordinary sleep towards the same deadline has to do.
        self._nanosleep: Any = getattr(ctypes.CDLL(None), "clock_nanosleep", None)
        self._request = _Timespec()
        self._boottime: int | None = getattr(time, "CLOCK_BOOTTIME", None)  # Linux's clock that counts suspension

    def now(self) -> float:
        return time.monotonic()

    def suspended(self) -> float:
        if self._boottime is None:
            return 0.0
        return time.clock_gettime(self._boottime) - time.monotonic()

    def sleep_until(self, deadline: float, awake: float = 0.0) -> None:
        self._sleep_until(deadline - awake)
        while time.monotonic() < deadline:
            pass

    def _sleep_until(self, moment: float) -> None:
        if self._nanosleep is None:
            while (rest := moment - time.monotonic()) > 0:
                time.sleep(rest)
            return
        if moment <= 0:
            return
        seconds = int(moment)
        self._request.seconds = seconds
        self._request.nanoseconds = int((moment - seconds) * 1e9)
        absolute = 1  # TIMER_ABSTIME
        while code := self._nanosleep(time.CLOCK_MONOTONIC, absolute, ctypes.byref(self._request), None):
            if code != errno.EINTR:
                raise OSError(code, f"clock_nanosleep: {os.strerror(code)}")


class VirtualClock:
    """Time that passes only when somebody sleeps.

    Args:
        start: first value of `now()` [s].

    `on_advance` are called with the new time before a sleeper continues: how a simulated robot moves.
    """

    def __init__(self, start: float = 0.0) -> None:
        self._now = float(start)
        self._suspended = 0.0
        self.on_advance: list[Callable[[float], None]] = []

    def now(self) -> float:
        return self._now

    def suspended(self) -> float:
        return self._suspended

    def suspend(self, seconds: float) -> None:
        """As a closed lid does: the world goes on by `seconds`, this clock does not."""
        self._suspended += seconds

    def sleep_until(self, deadline: float, awake: float = 0.0) -> None:
        if deadline <= self._now:
            return
        self._now = float(deadline)
        for call in self.on_advance:
            call(self._now)
