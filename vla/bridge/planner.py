"""The policy's side of the bridge: an observation in, a chunk of joint targets out."""

from __future__ import annotations

from collections import deque
from typing import Any, Literal

import numpy as np

from ..contract import ActionChunk, EnvSpec, Observation, Policy
from ..errors import ConfigError
from .chunking import JointTargets
from .ensembling import TemporalEnsemble

Chunking = Literal["latest", "ensemble", "rtc"]
CHUNKINGS: tuple[Chunking, ...] = ("latest", "ensemble", "rtc")


class Planner:
    """One policy driving one robot; holds the memory and the generator that the policy itself does not.

    Args:
        policy: any policy of the contract.
        spec: the body its observations come from.
        targets: from the policy's action spec to the robot's joints.
        chunking: how a chunk joins the one before it. "latest": the newer replaces the older; "ensemble": absolute
            targets for the same moment are averaged (`TemporalEnsemble`); "rtc": real-time chunking, the policy is
            told what is left of the last chunk and how late its answer will be.

    With "rtc" the prefix is in the policy's own action units. Absolute groups continue, to the nearest period.
    Increments chain from the pose the robot was commanded to where its observations report one (extras `ee_target`),
    up to the environment's clamps and the gate's limits; else from the measured pose, with a seam of the tracking
    error.
    """

    def __init__(self, *, policy: Policy, spec: EnvSpec, targets: JointTargets, chunking: Chunking = "latest") -> None:
        if chunking not in CHUNKINGS:
            raise ConfigError("Unknown chunking", got=str(chunking), exists=CHUNKINGS)
        self._policy, self._spec, self._targets = policy, spec, targets
        self._memory: Any = None
        self._rng: list[np.random.Generator] = []
        self._ensemble = TemporalEnsemble() if chunking == "ensemble" else None
        self._continue = chunking == "rtc"
        self._last: ActionChunk | None = None

    def reset(self, seed: int) -> None:
        """Begin an episode."""
        self._memory = self._policy.init(self._spec, [seed])
        # The same draws as in an evaluation of this seed (`evaluation.lanes`).
        self._rng = [np.random.default_rng([seed, 2])]
        self._last = None
        if self._ensemble is not None:
            self._ensemble.reset()

    def plan(self, observation: Observation, latency: float = 0.0) -> ActionChunk:
        """Absolute joint targets [H A] float64, dated on the observation's clock.

        Args:
            latency: expected from the observation until the chunk arrives [s]; only real-time chunking asks.
        """
        if not self._continue:
            chunks, self._memory, _ = self._policy.act([observation], self._memory, rng=self._rng)
        else:
            delay = int(np.ceil(latency / self._spec.control_dt - 1e-6))
            prefix = [left_over(self._last, observation.time, self._spec.control_dt)]
            chunks, self._memory, _ = self._policy.act(
                [observation], self._memory, rng=self._rng, prefix=prefix, delay=delay
            )
            self._last = chunks[0] if np.isfinite(chunks[0].actions).all() else None
        targets = self._targets(chunks[0], observation)
        return targets if self._ensemble is None else self._ensemble(targets)


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
