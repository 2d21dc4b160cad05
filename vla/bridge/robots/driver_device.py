"""A real robot's driver as its process polls it: commands out, states and pictures in, a stop where nobody speaks."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from ...contract import Observation
from ...errors import RobotError
from ..clock import MonotonicClock
from .driver import Driver
from .link import RobotLink

SILENCE = 0.1
"""Seconds without a command after which the driver stops by itself: loop and watchdog are both gone."""
FRESH = 5.0
"""Seconds after a reset within which the robot must have said all that it senses."""
_POLLS = 4.0  # per period of the loop, so that a command is out long before its time
_SLOWEST = 0.005


class DriverDevice:
    """A `Driver` for `serving`: nobody knows whether its task succeeds, and it stops by itself where all fall silent.

    Args:
        driver: connected.
        rate_hz: of the loop.
        publish: takes every observation, in another thread.
    """

    judged, outcome = False, None

    def __init__(self, driver: Driver, rate_hz: float, publish: Callable[[Observation], None]) -> None:
        self.spec, self.limits = driver.spec, driver.limits
        self.period = min(1.0 / (_POLLS * rate_hz), _SLOWEST)
        self._driver, self._clock = driver, MonotonicClock()
        self._commanded_at: float | None = None
        self._stopped = True
        self._instruction = ""
        self._senses = _Senses(driver, publish)

    @property
    def time(self) -> float:
        return self._clock.now()

    def begin(self, seed: int, options: Mapping[str, Any]) -> tuple[float, float]:
        """Options: `instruction`, and `seconds` after which the episode ends."""
        self._driver.stop()
        self._senses.pause()
        self._driver.reset()
        self._stopped, self._commanded_at = False, None
        self._instruction = self._senses.instruction = str(options.get("instruction", ""))
        self._await_senses()
        self._senses.go_on()
        return self._clock.now(), float(options.get("seconds", float("inf")))

    def _await_senses(self) -> None:
        deadline = self._clock.now() + FRESH
        while True:
            try:
                self._driver.read()
                return
            except RobotError:
                if self._clock.now() > deadline:
                    raise
            self._clock.sleep_until(self._clock.now() + _SLOWEST)

    def command(self, action: np.ndarray, t: float) -> None:
        self._commanded_at = self._clock.now()
        if not self._stopped:
            self._driver.command(action, t)

    def stop(self) -> None:
        self._stopped = True
        self._driver.stop()

    def advance(self, link: RobotLink) -> None:
        """Obey a halt, and halt where nothing comes any more or the driver itself fails."""
        now = self._clock.now()
        if not self._stopped and self._commanded_at is not None and now - self._commanded_at > SILENCE:
            link.halt(now, f"the driver got no command for {SILENCE * 1000:.0f} ms")
        if fault := self._senses.fault():
            self.fail(link, fault)
        if link.halted_at and not self._stopped:
            self.stop()

    def fail(self, link: RobotLink, fault: str) -> None:
        """Stop for a reason of its own; the first one is told."""
        if not link.halted_at:
            link.halt(self._clock.now(), fault[:200])
        if not self._stopped:
            self._try_to_stop()

    def read_state(self) -> Observation:
        return replace(self._driver.read_state(), instruction=self._instruction)

    def close(self) -> None:
        """Stop and let go, whatever state the robot is in."""
        self._senses.close()
        self._try_to_stop()

    def _try_to_stop(self) -> None:
        try:
            self.stop()
        except Exception:
            pass  # it cannot be told any more; its own controller has to hold it


class _Senses(threading.Thread):
    """Reads observations once a control period, so that a slow picture delays no command."""

    def __init__(self, driver: Driver, publish: Callable[[Observation], None]) -> None:
        super().__init__(name="senses", daemon=True)
        self._driver, self._publish, self._dt = driver, publish, driver.spec.control_dt
        self._active, self._closed, self._reading = threading.Event(), threading.Event(), threading.Lock()
        self._fault = ""
        self.instruction = ""

    def pause(self) -> None:
        """Returns once nothing is being read; what was read wrong before is forgotten."""
        self._active.clear()
        with self._reading:
            self._fault = ""

    def go_on(self) -> None:
        self._active.set()
        if self.ident is None:
            self.start()

    def fault(self) -> str:
        return self._fault

    def close(self) -> None:
        self._closed.set()
        self._active.set()
        if self.ident is not None:
            self.join(5.0)

    def run(self) -> None:
        clock = MonotonicClock()
        deadline = clock.now()
        while not self._closed.is_set():
            self._active.wait()
            with self._reading:
                if self._active.is_set() and not self._closed.is_set():
                    self._read()
            deadline = max(deadline + self._dt, clock.now())
            clock.sleep_until(deadline)

    def _read(self) -> None:
        try:
            observation = replace(self._driver.read(), instruction=self.instruction)
            observation.check(self._driver.spec)
            self._publish(observation)
        except Exception as error:  # whatever a driver raises stops the robot, not this thread
            self._fault = " ".join(f"the driver cannot read: {type(error).__name__}: {error}".split())
