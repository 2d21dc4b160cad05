"""A run seen in rerun while it happens: cameras, state, what was asked for and what was sent, and why it stopped.

A process of its own reads what is published anyway, at its own pace and with low priority. Nobody waits for it: what
it misses it does not show, and its death costs the picture alone.
"""

from __future__ import annotations

import importlib.util
import os
import signal
from collections.abc import Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from ..contract import EnvSpec, Observation
from ..errors import ConfigError
from .child import Child, reporting
from .loop_link import LoopLink, Status, read_status
from .recorder import HUMAN, REFERENCED, TICK_SLOTS, tick_layout
from .robots.link import tell
from .shared import Ring, observation_layout, to_observation

STOP_TIMEOUT = 30.0
"""Seconds that a recording may take to be complete."""
POLL = 0.02
"""Seconds between two looks."""
APPLICATION = "wayhand"
_QUALITY = 80


def require_rerun() -> None:
    """Raise a `ConfigError` where rerun is not installed."""
    if importlib.util.find_spec("rerun") is None:
        raise ConfigError("The live view needs rerun", run="pip install 'wayhand[rerun]'")


class LiveView:
    """Context manager around the view's process.

    Args:
        spec: of the robot.
        names: of the shared memory of a `RobotLink` and of a `LoopLink`; the loop must be traced to show its commands.
        path: of a recording (.rrd); None opens the viewer.

    Raises:
        ConfigError: rerun is not installed.
        RobotError: the view cannot start.
    """

    def __init__(
        self, spec: EnvSpec, names: tuple[Mapping[str, str], Mapping[str, str]], path: Path | None = None
    ) -> None:
        require_rerun()
        recording = None if path is None else str(path)
        self._child = Child("live view", serve, spec, dict(names[0]), dict(names[1]), recording)
        self._child.started()

    @property
    def pid(self) -> int | None:
        return self._child.pid

    def close(self) -> None:
        """End the view; a recording is complete afterwards."""
        self._child.close(STOP_TIMEOUT)

    def __enter__(self) -> LiveView:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def serve(spec: EnvSpec, robot: Mapping[str, str], loop: Mapping[str, str], path: str | None, pipe: Connection) -> None:
    """The view's process: tells that it is ready, then logs until its parent closes the pipe."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with reporting(pipe):
        stream = _open(path)
        rings = [Ring(observation_layout(spec), 4, robot["observation"])]
        rings.append(Ring(tick_layout(spec.action_dim), TICK_SLOTS, loop["ticks"]))
        link = LoopLink(spec.action_dim, loop)
        try:
            log = _Log(spec, stream)
            tell(pipe, {"ready": True})
            os.nice(5)  # the robot goes first
            while not pipe.poll(POLL):
                log.look(rings[0], rings[1], read_status(link.status))
        finally:
            link.close()
            for ring in rings:
                ring.close()
            stream.flush()
            stream.disconnect()


def _open(path: str | None) -> Any:
    import rerun as rr

    stream = rr.RecordingStream(APPLICATION)
    if path is None:
        stream.spawn()
    else:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        stream.save(path)
    return stream


class _Log:
    """Says to a rerun stream what is new, on the timeline `time` [s] since the first observation."""

    def __init__(self, spec: EnvSpec, stream: Any) -> None:
        import rerun as rr

        self._rr, self._stream = rr, stream
        self._state = [e.name for e in spec.state]
        self._joints = [e.name for e in spec.action_elements]
        self._seen = self._ticked = 0
        self._next_tick = 0.0
        self._first: float | None = None
        self._instruction = self._reason = ""
        # The first of a kind loads what it needs, which would cost the beginning of the first run.
        rr.Image(np.zeros((8, 8, 3), np.uint8)).compress(jpeg_quality=_QUALITY)
        rr.Scalars(0.0)

    def look(self, observations: Ring, ticks: Ring, status: Status | None) -> None:
        sensed, self._seen = observations.since(self._seen)
        for record in sensed:
            self._observe(to_observation(record))
        new, self._ticked = ticks.since(self._ticked)
        for tick in new:
            # Before the first observation the loop only warms up.
            if self._first is not None and float(tick["time"]) >= max(self._next_tick, self._first):
                self._next_tick = float(tick["time"]) + POLL
                self._command(tick)
        if status is not None and status.reason != self._reason:
            self._reason = status.reason
            self._stream.log("safety", self._rr.TextLog(status.reason or "driving"))

    def _observe(self, observation: Observation) -> None:
        rr, stream = self._rr, self._stream
        now = observation.times["state"]
        self._first = now if self._first is None else self._first
        stream.set_time("time", duration=now - self._first)
        for name, image in observation.images.items():
            stream.log(f"cameras/{name}", rr.Image(image).compress(jpeg_quality=_QUALITY))
        for name, value in zip(self._state, observation.state.tolist(), strict=True):
            stream.log(f"state/{name}", rr.Scalars(value))
        if observation.instruction != self._instruction:
            self._instruction = observation.instruction
            stream.log("instruction", rr.TextDocument(observation.instruction))

    def _command(self, tick: Mapping[str, Any]) -> None:
        rr, stream = self._rr, self._stream
        assert self._first is not None
        stream.set_time("time", duration=float(tick["time"]) - self._first)
        flags = int(tick["flags"])
        for k, name in enumerate(self._joints):
            stream.log(f"command/{name}", rr.Scalars(float(tick["command"][k])))
            if flags & REFERENCED:
                stream.log(f"reference/{name}", rr.Scalars(float(tick["reference"][k])))
        stream.log("loop/lateness_us", rr.Scalars(1e6 * float(tick["lateness"])))
        stream.log("loop/human", rr.Scalars(float(bool(flags & HUMAN))))
