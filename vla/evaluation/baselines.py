"""Policies that know nothing: what any score must be compared with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from ..contract import ActionChunk, EnvSpec, Memory, Observation


class Baseline:
    """Constant or random actions inside the limits of the spec.

    Args:
        kind: `zero` (the nearest to zero that the limits allow) or `random` (uniform).
        chunk: H.
    """

    def __init__(self, spec: EnvSpec, *, kind: Literal["zero", "random"], chunk: int = 8) -> None:
        self.spec = spec
        self._kind = kind
        self._chunk = chunk

    def init(self, spec: EnvSpec, seeds: Sequence[int]) -> Memory:
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
        return [self._decide(o, r) for o, r in zip(observations, rng, strict=True)], memory, {}

    def _decide(self, observation: Observation, rng: np.random.Generator) -> ActionChunk:
        lower, upper = self.spec.action_lower, self.spec.action_upper
        size = (self._chunk, self.spec.action_dim)
        actions = rng.uniform(lower, upper, size) if self._kind == "random" else np.zeros(size).clip(lower, upper)
        times = observation.time + self.spec.control_dt * np.arange(1, self._chunk + 1)
        return ActionChunk(actions, times, observation.time)
