"""Policies without a model, to test a robot, a bridge or a server: one that asks for nothing, one that repeats."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..contract import ActionChunk, EnvSpec, Episode, Memory, Observation
from ..errors import SpecError

_AT_REST = ("joint_velocity", "base_velocity", "ee_delta")
"""Kinds whose zero means no motion."""


class NullPolicy:
    """Asks the robot to stay as it is: zero velocities and increments, measured joints, the choice `stop`.

    Args:
        spec: the body it pretends to be trained for.
        chunk: H, actions per chunk.
    """

    def __init__(self, *, spec: EnvSpec, chunk: int = 16) -> None:
        self._spec, self._chunk = spec, chunk
        self._rest, self._joints, self._measured = _rest_of(spec)
        self._steps = spec.control_dt * np.arange(1, chunk + 1)

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
        """One chunk of rest per observation."""
        return [self._chunk_for(observation) for observation in observations], memory, {}

    def _chunk_for(self, observation: Observation) -> ActionChunk:
        action = self._rest.copy()
        action[self._joints] = observation.state[self._measured]
        time = observation.time
        return ActionChunk(np.repeat(action[None], self._chunk, axis=0), time + self._steps, time)


class ReplayPolicy:
    """Repeats what was done in a recorded episode, at its own pace.

    The row is told by the time since the first observation after `init`, so that it does not matter how many actions
    of a chunk are executed before the next one is asked for. After its last row it asks for rest.

    Args:
        episode: whose actions are repeated.
        chunk: H, actions per chunk.
    """

    def __init__(self, *, episode: Episode, chunk: int = 16) -> None:
        self._episode, self._chunk = episode, chunk
        self._actions = np.asarray(episode.columns["action"], np.float32)
        self._last = self._actions[-1].copy()
        for group, where in episode.spec.group_slices():
            if group.kind in _AT_REST:
                self._last[where] = 0

    @property
    def spec(self) -> EnvSpec:
        return self._episode.spec

    def init(self, spec: EnvSpec, seeds: Sequence[int]) -> Memory:
        """A start time per environment, not known yet."""
        self.spec.require_same(spec, "the recorded robot (left) meets this one (right)")
        return [None for _ in seeds]

    def act(
        self,
        observations: Sequence[Observation],
        memory: Memory,
        *,
        rng: Sequence[np.random.Generator],
        prefix: Sequence[ActionChunk | None] | None = None,
        delay: int = 0,
    ) -> tuple[list[ActionChunk], Memory, dict[str, Any]]:
        """The recorded actions that follow each observation's time."""
        starts = [o.time if start is None else float(start) for o, start in zip(observations, memory, strict=True)]
        chunks = [self._chunk_for(o, start) for o, start in zip(observations, starts, strict=True)]
        return chunks, starts, {}

    def _chunk_for(self, observation: Observation, start: float) -> ActionChunk:
        dt = self.spec.control_dt
        row = max(round((observation.time - start) / dt), 0)
        recorded = self._actions[row : row + self._chunk]
        rest = np.repeat(self._last[None], self._chunk - len(recorded), axis=0)
        times = observation.time + dt * np.arange(1, self._chunk + 1)
        return ActionChunk(np.concatenate([recorded, rest]), times, observation.time)


def _rest_of(spec: EnvSpec) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A resting action [A], and which of its elements are the measured state's which elements."""
    rest = np.zeros(spec.action_dim, np.float32)
    names = [e.name for e in spec.state]
    pairs: list[tuple[int, int]] = []
    for group, where in spec.group_slices():
        if group.kind == "discrete" and "stop" in group.choices:
            rest[where] = group.choices.index("stop")
        elif group.kind == "joint_position" and all(e.name in names for e in group.elements):
            pairs += [(where.start + k, names.index(e.name)) for k, e in enumerate(group.elements)]
        elif group.kind not in _AT_REST:
            raise SpecError(
                f"Nothing says what rest is for action group '{group.name}'",
                expected="velocities, increments, measured joint positions, or a choice 'stop'",
                got=group.kind,
            )
    to, source = (np.array([p[k] for p in pairs], np.intp) for k in (0, 1))
    return rest, to, source
