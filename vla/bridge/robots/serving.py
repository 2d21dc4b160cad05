"""The process of a robot, simulated or real: whatever its operator's process does, the robot is polled and can be
stopped."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from typing import Any, Protocol

import numpy as np

from ...contract import EnvSpec, Observation
from ..child import reporting
from ..clock import MonotonicClock
from ..limits import Limits
from ..shared import observation_record
from .driver import Driver
from .driver_device import DriverDevice
from .link import RobotLink, encode_outcome, tell
from .simulated import SimulatedBody, SimulatedDevice

ORPHANED = 0.5
"""Seconds without a command after which the process of a robot whose operator is gone ends."""

RobotFactory = Callable[[], SimulatedBody | Driver]
"""Builds a robot; it travels to the robot's process, so it must be importable there."""


class Device(Protocol):
    """A robot as its process polls it."""

    @property
    def spec(self) -> EnvSpec: ...

    @property
    def limits(self) -> Limits: ...

    @property
    def judged(self) -> bool:
        """Whether it knows if a task succeeded."""
        ...

    @property
    def outcome(self) -> bool | None: ...

    @property
    def period(self) -> float:
        """Between two polls [s]."""
        ...

    @property
    def time(self) -> float:
        """Up to when it has come [s]; the clock's, where it is real."""
        ...

    def begin(self, seed: int, options: Mapping[str, Any]) -> tuple[float, float]:
        """Start an episode; when it began, and how long it lasts at most [s]."""
        ...

    def command(self, action: np.ndarray, t: float) -> None: ...

    def stop(self) -> None: ...

    def advance(self, link: RobotLink) -> None:
        """Once a poll: go on, unless `link` says that somebody halted the driver."""
        ...

    def fail(self, link: RobotLink, fault: str) -> None:
        """What to do where it raised; raises where there is nothing else."""
        ...

    def read_state(self) -> Observation:
        """Without images."""
        ...

    def close(self) -> None: ...


def serve(factory: RobotFactory, rate_hz: float, pipe: Connection) -> None:
    """The robot's process: builds the robot, tells its spec and limits, then follows the monotonic clock.

    Requests over the pipe are JSON: `{"rings": names}` first, then `{"reset": {"seed", "options", "epoch"}}` or
    `{"exit": true}`; every request is answered. It ends when asked to or when its parent is gone.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _leave)
    with reporting(pipe):
        _with_priority()
        robot = factory()
        try:
            if isinstance(robot, Driver):
                robot.connect()
            judged = not isinstance(robot, Driver)
            tell(pipe, {"spec": robot.spec.to_dict(), "limits": robot.limits.to_json(), "judged": judged})
            link = RobotLink(robot.spec, json.loads(pipe.recv_bytes())["rings"])
            try:
                _Server(robot, rate_hz, link, pipe).run()
            finally:
                link.close()
        finally:
            robot.close()
        tell(pipe, {"exit": True})


def _leave(*_: object) -> None:
    raise SystemExit(0)  # a robot is stopped and let go, whoever ends its process


def _with_priority() -> None:
    """Prefer this process to ordinary ones where that is allowed: a real arm does not wait for a free core.

    Not in a real-time class: a renderer there uses up what the kernel allows such processes, which then all stop, the
    control loop among them.
    """
    try:
        os.nice(-10)
    except OSError:
        pass


class _Server:
    def __init__(self, robot: SimulatedBody | Driver, rate_hz: float, link: RobotLink, pipe: Connection) -> None:
        self._link, self._pipe = link, pipe
        self._device: Device = (
            DriverDevice(robot, rate_hz, self._publish_observation)
            if isinstance(robot, Driver)
            else SimulatedDevice(robot, self._publish_observation)
        )
        self._state_fields = {name for name, _, _ in link.state.layout.fields}
        self._epoch, self._seen = 0, 0
        self._commanded_at = 0.0
        self._clock = MonotonicClock()

    def run(self) -> None:
        try:
            self._run()
        finally:
            self._device.close()

    def _run(self) -> None:
        parent = os.getppid()
        deadline = self._clock.now()
        period = self._device.period
        # A robot does not vanish with its operator: the loop brings it to rest first.
        while os.getppid() == parent or self._clock.now() - self._commanded_at < ORPHANED:
            if os.getppid() == parent and self._pipe.poll():
                request = json.loads(self._pipe.recv_bytes())
                if "exit" in request:
                    return
                self._reset(**request["reset"])
            if self._epoch:
                self._poll()
            deadline = max(deadline + period, self._clock.now() - period)
            self._clock.sleep_until(deadline)

    def _poll(self) -> None:
        try:
            self._take_commands()
            self._device.advance(self._link)
            self._publish_state()
        except Exception as error:  # libraries of robots raise what they like, and the robot must still be stopped
            self._device.fail(self._link, f"{type(error).__name__}: {error}".partition("\n")[0])

    def _reset(self, seed: int, options: dict[str, Any], epoch: int) -> None:
        self._epoch = epoch
        self._link.clear_halt()
        start, time_limit = self._device.begin(seed, options)
        self._publish_state()
        tell(self._pipe, {"start": start, "time_limit": time_limit})

    def _take_commands(self) -> None:
        records, self._seen = self._link.commands.since(self._seen)
        if records:
            self._commanded_at = self._clock.now()
        for record in records:
            if int(record["epoch"]) != self._epoch:
                continue
            if record["stop"]:
                self._device.stop()
            else:
                self._device.command(record["action"], float(record["t"]))

    def _publish_observation(self, observation: Observation) -> None:
        observation.check(self._device.spec)
        self._link.observation.write(**observation_record(observation, self._epoch))

    def _publish_state(self) -> None:
        record = observation_record(self._device.read_state(), self._epoch)
        extra = {"outcome": encode_outcome(self._device.outcome), "time": self._device.time}
        self._link.state.write(**{k: v for k, v in record.items() if k in self._state_fields}, **extra)
