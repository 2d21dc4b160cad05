"""A simulated body behind the interface of real drivers: to try a driver's tools, and the tests, without a robot."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

import numpy as np

from ...contract import Observation
from ..clock import Clock, MonotonicClock
from .driver import Driver, checked_command
from .simulated import SimulatedBody, SimulatedRobot

BEHIND = 0.005
"""How far the physics runs behind the clock [s], so that commands are in before their time."""


class SimulatedDriver(Driver):
    """The body moves up to the present whenever somebody asks; pictures come once a control period.

    Args:
        body: the simulator; it is closed with the driver.
        seed, options: of its scene.
    """

    def __init__(
        self,
        body: SimulatedBody,
        *,
        seed: int = 0,
        options: Mapping[str, Any] | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.spec, self.limits = body.spec, body.limits
        self._body, self._seed, self._options = body, seed, dict(options or {})
        self._clock, self._lock = clock or MonotonicClock(), threading.Lock()
        self._robot = SimulatedRobot(body=body, on_period=self._look)

    def connect(self) -> None:
        self._robot.reset(self._seed, self._options)
        self._robot.read()  # the first picture is slow
        self._robot.start_at(self._clock.now() - BEHIND)
        self._look()

    def read(self) -> Observation:
        with self._lock:
            self._advance()
            return self._picture

    def read_state(self) -> Observation:
        with self._lock:
            self._advance()
            return self._robot.read_state()

    def command(self, action: np.ndarray, t: float) -> None:
        target = checked_command(action, self.spec.action_dim)
        with self._lock:
            self._advance()
            if t > self._clock.now():
                self._robot.command(target, t)

    def stop(self) -> None:
        with self._lock:
            self._advance()
            self._robot.stop()

    def reset(self) -> None:
        with self._lock:
            self._robot.obey()

    def close(self) -> None:
        self._body.close()

    def _advance(self) -> None:
        self._robot.advance_to(self._clock.now() - BEHIND)

    def _look(self) -> None:
        # As a busy camera does, it drops the frames for which it comes too late.
        if self._clock.now() - self._robot.time <= self.spec.control_dt + 2 * BEHIND:
            self._picture = self._robot.read()
