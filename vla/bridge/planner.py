"""The policy's side of the bridge: an observation in, a chunk of joint targets out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..contract import ActionChunk, EnvSpec, Memory, Observation, Policy
from ..errors import SpecError
from .chunking import JointTargets
from .limits import joint_indices


class Planner:
    """One policy driving one robot; holds the memory and the generator that the policy itself does not.

    Args:
        policy: any policy of the contract.
        spec: the body its observations come from.
        targets: from the policy's action spec to the robot's joints.
    """

    def __init__(self, *, policy: Policy, spec: EnvSpec, targets: JointTargets) -> None:
        self._policy, self._spec, self._targets = policy, spec, targets
        self._memory: Any = None
        self._rng: list[np.random.Generator] = []

    def reset(self, seed: int) -> None:
        """Begin an episode."""
        self._memory = self._policy.init(self._spec, [seed])
        # The same draws as in an evaluation of this seed (`evaluation.lanes`).
        self._rng = [np.random.default_rng([seed, 2])]

    def plan(self, observation: Observation) -> ActionChunk:
        """Absolute joint targets [H A] float64, dated on the observation's clock."""
        chunks, self._memory, _ = self._policy.act([observation], self._memory, rng=self._rng)
        return self._targets(chunks[0], observation)


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
