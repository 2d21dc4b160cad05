"""A run as a dataset episode: what the robot sensed, what was asked of it, what the gate let pass, and when.

A row is one published observation. Everything the loop did since the observation before it lies in the row's extras,
so nothing in a row is from after its time:

- `ticks` []: K, how many ticks; the first K entries of the following are used, the rest are zero;
- `tick_times` [N] s: the time that each command is for; `tick_lateness` [N] s: how late the loop woke for it;
- `references` [N A]: raw, what the policy's chunks ask for at that time; `commands` [N A]: filtered, what was sent;
- `tick_flags` [N]: `REFERENCED` where there is a reference, `LATCHED` where the gate holds, `HUMAN` where the reference
  is a human's;
- `planned_at` [] s: the observation behind the action executed last, 0 before the first.

The row's `action` is the command that holds at the next observation.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..contract import ArraySpec, EnvSpec, Episode, EpisodeBuilder, Observation
from ..errors import SpecError
from .shared import Layout

REFERENCED, LATCHED, HUMAN = 1, 2, 4
ROOM = 4
"""How many control periods without a published observation a row has room for."""
TICK_SLOTS = 1024
"""How many ticks a recorder may fall behind: a second of the fastest loop."""
EXTRAS = ("ticks", "tick_times", "tick_lateness", "references", "commands", "tick_flags", "planned_at")


def recorded_spec(spec: EnvSpec, rate_hz: float) -> EnvSpec:
    """The spec of recorded episodes of a robot with `spec` and a loop at `rate_hz`."""
    n, width = ROOM * math.ceil(rate_hz * spec.control_dt), spec.action_dim
    extras = {
        "ticks": ArraySpec((), "int32"),
        "tick_times": ArraySpec((n,), "float64", "s"),
        "tick_lateness": ArraySpec((n,), "float64", "s"),
        "references": ArraySpec((n, width), "float64"),
        "commands": ArraySpec((n, width), "float64"),
        "tick_flags": ArraySpec((n,), "uint8"),
        "planned_at": ArraySpec((), "float64", "s"),
    }
    return replace(spec, extras={**spec.extras, **extras})


def tick_layout(width: int) -> Layout:
    """The record of one tick on its way from the loop to the recorder."""
    return Layout.of(
        time=((), "float64"),
        lateness=((), "float64"),
        reference=((width,), "float64"),
        command=((width,), "float64"),
        flags=((), "uint8"),
        planned_at=((), "float64"),
        epoch=((), "int64"),
    )


@dataclass(frozen=True)
class Tick:
    """One period of the loop.

    Args:
        time: that the command is for [s].
        lateness: of the loop's wake-up [s].
        reference: [A], what the policy asked for; None where nothing was there to execute.
        command: [A], what the gate let pass.
        latched: whether the gate holds.
        planned_at: the observation behind the reference [s]; 0 where there is none.
        human: whether the reference is a human's.
    """

    time: float
    lateness: float
    reference: np.ndarray | None
    command: np.ndarray
    latched: bool
    planned_at: float
    human: bool = False

    def record(self, epoch: int) -> dict[str, object]:
        """Fields of `tick_layout`."""
        return {
            "time": self.time,
            "lateness": self.lateness,
            "reference": 0.0 if self.reference is None else self.reference,
            "command": self.command,
            "flags": REFERENCED * (self.reference is not None) + LATCHED * self.latched + HUMAN * self.human,
            "planned_at": self.planned_at,
            "epoch": epoch,
        }

    @staticmethod
    def from_record(record: Mapping[str, np.ndarray]) -> Tick:
        flags = int(record["flags"])
        return Tick(
            float(record["time"]),
            float(record["lateness"]),
            record["reference"] if flags & REFERENCED else None,
            record["command"],
            bool(flags & LATCHED),
            float(record["planned_at"]),
            bool(flags & HUMAN),
        )


class EpisodeRecorder:
    """Builds one episode; memory grows with its length alone.

    Args:
        spec: of the robot.
        rate_hz: of the loop.
    """

    def __init__(self, spec: EnvSpec, rate_hz: float) -> None:
        self.spec = recorded_spec(spec, rate_hz)
        self._room = self.spec.extras["tick_times"].shape[0]
        self._builder: EpisodeBuilder | None = None
        self._last: Observation | None = None
        self._ahead: list[Tick] = []
        self._command: np.ndarray | None = None
        self._planned_at = 0.0
        self._dropped = 0
        self._stopped_at: float | None = None

    def tick(self, tick: Tick) -> None:
        """Take over one tick; ticks come in the order of their times."""
        self._ahead.append(tick)
        if tick.latched and self._stopped_at is None:
            self._stopped_at = tick.time

    def observe(self, observation: Observation) -> None:
        """Take over an observation; every tick for a time up to its own must have come before."""
        ready = [t for t in self._ahead if t.time <= observation.time + 1e-9]
        self._ahead = self._ahead[len(ready) :]
        if ready:
            self._command, self._planned_at = ready[-1].command, ready[-1].planned_at
        observation = replace(observation, extras={**observation.extras, **self._extras(ready)})
        if self._builder is None:
            self._builder = EpisodeBuilder(self.spec, observation.instruction)
        if self._last is not None and self._command is not None:
            self._builder.add(self._last, self._command, 0.0)
        self._last = observation

    def _extras(self, ticks: list[Tick]) -> dict[str, np.ndarray]:
        self._dropped += max(len(ticks) - self._room, 0)
        ticks = ticks[-self._room :]
        columns = {n: np.zeros(self.spec.extras[n].shape, self.spec.extras[n].dtype) for n in EXTRAS}
        columns["ticks"] = np.asarray(len(ticks), np.int32)
        columns["planned_at"] = np.asarray(self._planned_at, np.float64)
        for k, tick in enumerate(ticks):
            record = tick.record(0)
            for column, field in (("tick_times", "time"), ("tick_lateness", "lateness"), ("references", "reference"),
                                  ("commands", "command"), ("tick_flags", "flags")):  # fmt: skip
                columns[column][k] = record[field]
        return columns

    def finish(self, success: bool | None, provenance: Mapping[str, Any]) -> Episode | None:
        """The episode, or None where it has no row; `success` as the task says, if it does.

        Its provenance says as well when the gate stopped the robot (`stopped_at`, seconds from the first observation,
        null where it did not) and how many ticks found no room (`ticks_without_room`). An instruction that was told
        from the first observation on (`told`, pairs of seconds and text) is the episode's.
        """
        if self._builder is None or self._last is None or not len(self._builder):
            return None
        episode = self._builder.finish(self._last, success, {})
        first = float(episode.columns["observation.times.state"][0])
        stopped = None if self._stopped_at is None else round(self._stopped_at - first, 6)
        facts = {"stopped_at": stopped, "ticks_without_room": self._dropped}
        instruction = next((text for seconds, text in provenance.get("told", ()) if seconds <= 0), episode.instruction)
        return replace(episode, instruction=instruction, provenance={**provenance, **facts})


@dataclass(frozen=True)
class Trace:
    """All ticks of a recorded episode in order.

    Args:
        times: [K] s, that the commands are for, from the episode's first observation on.
        references, commands: [K A], raw and filtered.
        flags: [K].
    """

    times: np.ndarray
    references: np.ndarray
    commands: np.ndarray
    flags: np.ndarray

    @staticmethod
    def of(episode: Episode) -> Trace:
        """Raises `SpecError` where the episode is no recorded run."""
        path = "observation.extras."
        if missing := [n for n in EXTRAS if path + n not in episode.columns]:
            raise SpecError("The episode is no recorded run", got=f"no {', '.join(missing)}", run="deploy … record=DIR")
        last = episode.final.extras

        def column(name: str) -> np.ndarray:
            return np.concatenate([episode.columns[path + name], np.asarray(last[name])[None]])

        counts = column("ticks")
        used = np.arange(column("tick_times").shape[1]) < counts[:, None]
        first = float(episode.columns["observation.times.state"][0])
        return Trace(
            column("tick_times")[used] - first,
            column("references")[used],
            column("commands")[used],
            column("tick_flags")[used],
        )
