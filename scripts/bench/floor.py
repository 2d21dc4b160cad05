"""The floor of lateness: what the machine grants a process of the loop's scheduling class that only wakes up."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection

from wayhand.vla.bridge import realtime
from wayhand.vla.bridge.child import STOP_TIMEOUT, Child, reporting
from wayhand.vla.bridge.clock import MonotonicClock
from wayhand.vla.bridge.loop import Histogram
from wayhand.vla.bridge.robots.link import tell
from wayhand.vla.bridge.watchdog import silence_limit


def sleep(rate_hz: float, priority: int, pipe: Connection) -> None:
    """Wake up `rate_hz` times a second until asked for lateness [µs], missed periods and silences."""
    with reporting(pipe):
        realtime.acquire(priority)
        clock, lateness, missed, silences = MonotonicClock(), Histogram(1e-6, 50_000), 0, 0
        longest = 0.85 * silence_limit(rate_hz)  # at the watchdog's last look that is not too late
        last = deadline = clock.now()
        while not pipe.poll():
            for _ in range(round(rate_hz)):  # a second
                deadline = max(deadline + 1.0 / rate_hz, last)
                clock.sleep_until(deadline)
                now = clock.now()
                lateness.add(now - deadline)
                missed += int((now - deadline) * rate_hz)
                silences += now - last > longest
                last = now
        tell(pipe, {**lateness.summary(1e6), "missed": missed, "silences": silences})


@contextmanager
def floor(rate_hz: float, priority: int) -> Iterator[dict[str, float]]:
    """Filled at the end: quantiles of lateness [µs], missed periods, and silences that the watchdog would act on."""
    found: dict[str, float] = {}
    process = Child("floor", sleep, rate_hz, priority)
    try:
        yield found
        process.tell({"asked": True})
        found.update(process.hear(STOP_TIMEOUT))
    finally:
        process.close()


def told(found: dict[str, float]) -> str:
    """The floor in a line."""
    return "a process that only wakes up: " + " · ".join(f"{k} {v:.0f}" for k, v in found.items())
