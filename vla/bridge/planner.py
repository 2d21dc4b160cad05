"""The policy's side of the bridge: an observation in, a chunk of joint targets out."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from ..contract import ActionChunk, EnvSpec, Memory, Observation, Policy
from ..errors import ConfigError, SpecError
from .chunking import JointTargets
from .ensembling import TemporalEnsemble
from .limits import joint_indices

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


class HoldStill:
    """A policy that asks the robot to stay where it is: the path without a model, for jitter and for a first start.

    Args:
        spec: the body it pretends to be trained for.
        chunk: H, actions per chunk.
    """

    def __init__(self, *, spec: EnvSpec, chunk: int = 16) -> None:
        self._spec, self._chunk = spec, chunk
        names = [e.name for e in spec.state]
        self._still: list[tuple[slice, np.ndarray | None]] = []
        for group, where in spec.group_slices():
            if not (group.relative or group.kind == "joint_position"):
                raise SpecError(f"Nothing says what standing still is for '{group.name}'", got=group.kind)
            wanted = None if group.relative else joint_indices(names, [e.name for e in group.elements])
            self._still.append((where, wanted))

    @property
    def spec(self) -> EnvSpec:
        return self._spec

    def init(self, spec: EnvSpec, seeds: Sequence[int]) -> Memory:
        self._spec.require_same(spec, "the policy (left) meets the robot (right)")
        return ()

    def act(
        self,
        observations: Sequence[Observation],
        memory: Memory,
        *,
        rng: Sequence[np.random.Generator],
        prefix: Sequence[ActionChunk | None] | None = None,
        delay: int = 0,
    ) -> tuple[list[ActionChunk], Memory, dict[str, Any]]:
        """Zero increments and the measured joints."""
        return [self._rest(observation) for observation in observations], memory, {}

    def _rest(self, observation: Observation) -> ActionChunk:
        action = np.zeros(self._spec.action_dim, np.float32)
        for where, joints in self._still:
            if joints is not None:
                action[where] = observation.state[joints]
        times = observation.time + self._spec.control_dt * np.arange(1, self._chunk + 1)
        return ActionChunk(np.tile(action, (self._chunk, 1)), times, observation.time)
