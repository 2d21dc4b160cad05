"""The recorder in a process of its own: it reads what is published anyway, so nobody waits for it and its death costs
the recording alone."""

from __future__ import annotations

import ctypes
import json
import signal
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from multiprocessing.connection import Connection
from typing import Any

from ..contract import EnvSpec, EpisodeSink
from .child import Child, ChildError, reporting
from .clock import MonotonicClock
from .recorder import TICK_SLOTS, EpisodeRecorder, Tick, recorded_spec, tick_layout
from .robots.link import tell
from .shared import Ring, observation_layout, to_observation

SinkFactory = Callable[[EnvSpec], AbstractContextManager[EpisodeSink]]
"""Opens where episodes go; it travels to the recorder's process, so it must be importable there."""
POLL = 0.005
"""Seconds between two looks at the rings."""
BEGIN_TIMEOUT, COMMIT_TIMEOUT = 10.0, 60.0
SETTLE_TIMEOUT = 2.0
"""Seconds for a robot at rest to publish once more; one that died never does."""


class RecorderLink:
    """The operator's end: tells the recorder where an episode begins and ends, and outlives it.

    Args:
        sink: where episodes go.
        spec: of the robot.
        rate_hz: of the loop.
        rings: names of the rings `observation` and `ticks`.

    `warning` says why nothing is recorded any more; empty while all is well. `episodes` counts what was committed.

    Raises `RobotError` where the recorder cannot start; afterwards nothing of it raises.
    """

    def __init__(self, sink: SinkFactory, spec: EnvSpec, rate_hz: float, rings: Mapping[str, str]) -> None:
        self._child = Child("recorder", serve, sink, spec, rate_hz, dict(rings))
        self.warning = ""
        self.episodes = 0
        self._child.started()

    @property
    def pid(self) -> int | None:
        return self._child.pid

    def begin(self, epoch: int, *, orphaned: bool = True) -> None:
        """Record what is published with `epoch` from now on; `orphaned`: commit it even where we die before its end."""
        self._ask({"begin": epoch, "orphaned": orphaned}, BEGIN_TIMEOUT)

    def end(self, success: bool | None, provenance: Mapping[str, Any], *, kept: bool = True) -> None:
        """Commit the episode, or forget it where it is not `kept`; waits for it, while the robot rests."""
        answer = self._ask({"success": success, "provenance": dict(provenance), "kept": kept}, COMMIT_TIMEOUT)
        self.episodes += bool(answer.get("committed"))

    def _ask(self, message: Mapping[str, Any], timeout: float) -> dict[str, Any]:
        """Its answer; empty where it is gone."""
        if self.warning:
            return {}
        try:
            self._child.tell(message)
            return self._child.hear(timeout)
        except ChildError as error:
            kept = f"the {self.episodes} episodes before are safe" if self.episodes else "no episode was written"
            self.warning = f"The recorder is gone: {error.why}; {kept}, the run goes on unrecorded"
            return {}

    def close(self) -> None:
        self._child.close()


def serve(sink: SinkFactory, spec: EnvSpec, rate_hz: float, rings: Mapping[str, str], pipe: Connection) -> None:
    """The recorder's process. Requests are `{"begin": epoch, "orphaned"}`, answered by `{"begun": epoch}`, and
    `{"success", "provenance", "kept"}`, answered by `{"committed": bool}`. It ends with its parent, after committing
    what it has where that was `orphaned`."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with reporting(pipe):
        observations = Ring(observation_layout(spec), 4, rings["observation"])
        ticks = Ring(tick_layout(spec.action_dim), TICK_SLOTS, rings["ticks"])
        try:
            with sink(recorded_spec(spec, rate_hz)) as episodes:
                tell(pipe, {"ready": True})
                _Served(episodes, spec, rate_hz, observations, ticks, pipe).run()
        finally:
            observations.close()
            ticks.close()


class _Served:
    def __init__(
        self, sink: EpisodeSink, spec: EnvSpec, rate_hz: float, observations: Ring, ticks: Ring, pipe: Connection
    ) -> None:
        self._sink, self._spec, self._rate_hz, self._pipe = sink, spec, rate_hz, pipe
        self._observations, self._ticks = observations, ticks
        self._recorder: EpisodeRecorder | None = None
        self._epoch, self._orphaned = 0, True
        self._seen, self._ticked = 0, 0
        self._missed = 0
        self._observed = 0.0

    def run(self) -> None:
        while True:
            try:
                request = json.loads(self._pipe.recv_bytes()) if self._pipe.poll(POLL) else None
            except EOFError:
                self._commit(None, {"reason": "the operator's process ended"}, self._orphaned)
                return
            if request is not None and "begin" in request:
                self._recorder = EpisodeRecorder(self._spec, self._rate_hz)
                self._epoch, self._orphaned, self._missed = int(request["begin"]), bool(request["orphaned"]), 0
                tell(self._pipe, {"begun": self._epoch})
            self._read()
            if request is not None and "success" in request:
                self._settle()
                committed = self._commit(request["success"], request["provenance"], request["kept"])
                _release_memory()
                tell(self._pipe, {"committed": committed})

    def _settle(self) -> None:
        """Wait for an observation from after the stop, which takes the ticks of the stop with it."""
        clock = MonotonicClock()
        asked = clock.now()
        self._read()
        # The robot rests by now, and the loop's last command of the stop is for one period later at most.
        while self._observed < asked + 1.0 / self._rate_hz and clock.now() < asked + SETTLE_TIMEOUT:
            clock.sleep_until(clock.now() + POLL)
            self._read()

    def _read(self) -> None:
        """What is new, each observation after the ticks before it: those are published before its time."""
        seen, ticked = self._seen, self._ticked
        observations, self._seen = self._observations.since(seen)
        ticks, self._ticked = self._ticks.since(ticked)
        if self._recorder is None:
            return
        mine = [o for o in observations if int(o["epoch"]) == self._epoch]
        self._missed += self._seen - seen - len(observations) + self._ticked - ticked - len(ticks)
        for record in ticks:
            if int(record["epoch"]) == self._epoch:
                self._recorder.tick(Tick.from_record(record))
        for record in mine:
            observation = to_observation(record)
            self._recorder.observe(observation)
            self._observed = observation.time

    def _commit(self, success: bool | None, provenance: Mapping[str, Any], kept: bool) -> bool:
        recorder, self._recorder = self._recorder, None
        if recorder is None or not kept:
            return False
        episode = recorder.finish(success, {**provenance, "records_missed": self._missed})
        if episode is not None:
            self._sink.append(episode)
        return episode is not None


def _release_memory() -> None:
    """Give the system what is free here. The C library keeps it, and episodes of many lengths leave holes that the next
    ones do not fill: without this the process grows for hours though it holds no more."""
    trim: Any = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's
    if trim is not None:
        trim(0)
