"""The policy's side of the bridge: an observation in, a chunk of joint targets out."""

from __future__ import annotations

import math
from collections import deque
from typing import Any, Literal, Protocol

import numpy as np

from ..contract import ActionChunk, EnvSpec, Observation, Policy
from ..errors import ConfigError
from .chunking import Going, Targets
from .clock import Clock
from .ensembling import DECAY, FRESH, TemporalEnsemble
from .warmup import warm_up

Chunking = Literal["synchronous", "latest", "ensemble", "rtc"]
CHUNKINGS: tuple[Chunking, ...] = ("synchronous", "latest", "ensemble", "rtc")
WAIT = 1.0
"""Seconds that a robot stands still for a policy it waits for; standing is an action only so long."""


class Pilot(Protocol):
    """Who plans for the robot: a policy, a human, or the two in turns."""

    @property
    def urgent(self) -> bool:
        """Whether to plan from the very next observation, whenever the one after the last chunk is due."""
        ...

    @property
    def finished(self) -> bool:
        """Whether the episode is to end here."""
        ...

    def reset(self, seed: int) -> None:
        """Begin an episode."""
        ...

    def due(self, observed: float, latency: float, execute: int) -> float:
        """See `Planner.due`."""
        ...

    def plan(self, observation: Observation, latency: float = 0.0, execute: int | None = None) -> ActionChunk:
        """Absolute joint targets [H A] float64, dated on the observation's clock; see `Planner.plan`."""
        ...


class Planner:
    """One policy driving one robot; holds the memory and the generator that the policy itself does not.

    Args:
        policy: any policy of the contract.
        spec: the body its observations come from.
        targets: from the policy's action spec to the robot's joints.
        chunking: how a chunk joins the one before it. "synchronous": the robot stands still while the policy thinks;
            "latest": the newer replaces the older while the robot goes on; "ensemble": absolute targets for the same
            moment, or velocities of a base, are averaged (`TemporalEnsemble`); "rtc": real-time chunking, the policy is
            told what is left of the last chunk and how late its answer will be.
    Increments chain from the pose the robot was commanded to where its observations report one (extras `ee_target`),
    up to the environment's clamps and the gate's limits; else from the measured pose, with a seam of the tracking
    error. With "rtc" the prefix is in the policy's own action units, to the nearest period, and the increments of a
    chunk chain from where the last chunk has the robot at the observation: another one may be in execution then, and
    chunks that each went on from what is executed would lead two ways in turns.
    """

    def __init__(
        self,
        *,
        policy: Policy,
        spec: EnvSpec,
        targets: Targets,
        chunking: Chunking = "latest",
        clock: Clock | None = None,
    ) -> None:
        if chunking not in CHUNKINGS:
            raise ConfigError("Unknown chunking", got=str(chunking), exists=CHUNKINGS)
        self._policy, self._spec, self._targets = policy, spec, targets
        self._clock = clock
        self._memory: Any = None
        self._seed = 0
        self._rng: list[np.random.Generator] = []
        # Ways that begin at different places have no mean; the velocities that lead along them do.
        self._drives = all(group.kind == "base_velocity" for group in spec.action)
        self._ensemble = TemporalEnsemble(FRESH if self._drives else DECAY) if chunking == "ensemble" else None
        stepwise = any(group.kind == "discrete" for group in spec.action)
        if stepwise and chunking not in ("synchronous", "latest"):
            raise ConfigError("Discrete moves are made one after the other", got=chunking, run="chunking=synchronous")
        self._continue, self._waits = chunking == "rtc", chunking == "synchronous" or stepwise
        self._ends = np.zeros(0)  # of the targets, from where the chunk begins
        self._pauses = False  # whether the robot rests after them
        self._executed: ActionChunk | None = None
        self._last: ActionChunk | None = None

    @property
    def urgent(self) -> bool:
        """False: a policy plans when it is due."""
        return False

    @property
    def finished(self) -> bool:
        """False: a policy drives until somebody else ends the episode."""
        return False

    def reset(self, seed: int) -> None:
        """Begin an episode."""
        self._seed = seed
        # The same draws as in an evaluation of this seed (`evaluation.lanes`).
        self._rng = [np.random.default_rng([seed, 2])]
        self.resume()

    def resume(self) -> None:
        """Go on after somebody else drove: history and the chunk that was executing no longer hold."""
        self._memory = self._policy.init(self._spec, [self._seed])
        self._last = self._executed = None
        if self._ensemble is not None:
            self._ensemble.reset()

    def warm_up(self) -> float:
        """Let the policy answer about nothing before it counts; the seconds of the last answer."""
        return warm_up(self._policy, self._spec, continues=self._continue)

    def due(self, observed: float, latency: float, execute: int) -> float:
        """When to look again [s] after an observation whose chunk arrived `latency` [s] later.

        Args:
            execute: periods of the policy between two observations, not counting those in which the robot waits; no
                more than its chunks have.
        """
        ends = execute * self._spec.control_dt
        if self._ends.size and np.isfinite(self._ends).all():
            ends = float(self._ends[-1 if self._pauses else min(execute * self._targets.rows, len(self._ends)) - 1])
        return observed + max(ends, self._spec.control_dt) + (latency if self._waits else 0.0)

    def plan(self, observation: Observation, latency: float = 0.0, execute: int | None = None) -> ActionChunk:
        """Absolute joint targets [H A] float64, dated on the observation's clock.

        Args:
            latency: expected from the observation until the chunk arrives [s]; asked where the robot waits, and by
                real-time chunking.
            execute: actions after which a robot that waits begins to; None for all of the chunk.
        """
        seen, left = self._targets.seen(observation), None
        if not self._continue:
            chunks, self._memory, _ = self._policy.act([seen], self._memory, rng=self._rng)
        else:
            delay = self._periods(latency)
            left = left_over(self._last, observation.time, self._spec.control_dt)
            chunks, self._memory, _ = self._policy.act([seen], self._memory, rng=self._rng, prefix=[left], delay=delay)
        if self._clock is not None:
            latency = max(latency, self._clock.now() - observation.time)
        chunk, origin = chunks[0], self._origin(left)
        if self._ensemble is not None and self._drives:
            chunk = self._ensemble(chunk)
        if self._continue:
            if left is None:  # the robot stands still until then, and what it is told begins there
                late = self._periods(latency) * self._spec.control_dt
                chunk = ActionChunk(chunk.actions, chunk.times + late, chunk.observed_at)
            self._last = chunk if np.isfinite(chunk.actions).all() else None
        self._pauses = self._waits and latency > 0.0
        going = None if self._waits else Going(self._executed, observation.time + latency, origin=origin)
        if self._pauses:
            going = Going(None, observation.time, len(chunk) if execute is None else execute)
        targets = self._targets(chunk, observation, going)
        self._ends = targets.times - targets.times[:1] + self._spec.control_dt / self._targets.rows
        if self._waits:
            executed = None if self._pauses or execute is None else execute * self._targets.rows
            return waited_for(targets, latency, executed)
        self._executed = targets if self._ensemble is None or self._drives else self._ensemble(targets)
        return self._executed

    def _periods(self, seconds: float) -> int:
        """Whole control periods that `seconds` reach into."""
        return math.ceil(seconds / self._spec.control_dt - 1e-6)

    def _origin(self, left: ActionChunk | None) -> np.ndarray | None:
        """[A] where the first action of what is `left` of the last chunk begins, or None where that is not planned."""
        if left is None or self._last is None or self._executed is None:
            return None
        past = (len(self._last) - len(left)) * self._targets.rows
        whole = len(self._executed) == len(self._last) * self._targets.rows
        return self._executed.actions[past - 1] if whole and past > 0 else None


def waited_for(chunk: ActionChunk, latency: float, execute: int | None = None) -> ActionChunk:
    """The first `execute` targets, to be reached `latency` [s] later, and then rest for `WAIT`."""
    actions, times = chunk.actions[:execute], chunk.times[:execute] + latency
    return ActionChunk(np.concatenate([actions, actions[-1:]]), np.append(times, times[-1:] + WAIT), chunk.observed_at)


def left_over(chunk: ActionChunk | None, now: float, dt: float) -> ActionChunk | None:
    """The actions of `chunk` for `now + dt` [s] and later, or None; to the nearest period where `now` is between."""
    if chunk is None:
        return None
    first = int(np.searchsorted(chunk.times, now + dt / 2))
    if first == len(chunk):
        return None
    return ActionChunk(chunk.actions[first:], chunk.times[first:], chunk.observed_at)


class LatencyEstimate:
    """How late the next chunk will be: a quantile of the last ones, so that one slow answer is forgotten again.

    Args:
        window: answers remembered.
        quantile: of them.
    """

    def __init__(self, window: int = 20, quantile: float = 0.9) -> None:
        self._seconds: deque[float] = deque(maxlen=window)
        self._quantile = quantile

    def add(self, seconds: float) -> None:
        self._seconds.append(seconds)

    @property
    def seconds(self) -> float:
        """0 before the first answer."""
        return float(np.quantile(self._seconds, self._quantile)) if self._seconds else 0.0
