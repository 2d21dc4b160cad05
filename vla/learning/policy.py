"""The torch side of a policy: normalisation as buffers, inference that does not depend on the batch, checkpoints."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from ..contract import ActionChunk, EnvSpec, Memory, Observation
from ..normalize import NormStats
from .batch import Batch, collate

STATE = "observation.state"
ACTION = "action"


class TorchPolicy(nn.Module, ABC):
    """A policy over torch modules: implement `loss` and `predict` in normalised units.

    Shape legend: B batch, H chunk, A action elements, S state elements.

    Args:
        spec: the body the policy drives.
        stats: statistics of its state and actions; a missing one raises here, not on the robot.
        chunk: H.

    Attributes:
        supports_prefix: the class's `predict` also takes `prefix` (one chunk or None per row, raw units) and `delay`
            as keywords, and makes its actions continue the chunk in execution. Otherwise both are ignored.
    """

    supports_prefix: ClassVar[bool] = False

    def __init__(self, *, spec: EnvSpec, stats: NormStats, chunk: int) -> None:
        super().__init__()
        self._spec = spec
        self.stats = stats
        self.chunk = chunk
        for path, size in ((STATE, spec.state_dim), (ACTION, spec.action_dim)):
            stats.require(path, size)
            affine = stats.affine(path)
            key = path.replace(".", "_")
            self.register_buffer(f"{key}_shift", torch.from_numpy(affine.shift).float(), persistent=False)
            self.register_buffer(f"{key}_scale", torch.from_numpy(affine.scale).float(), persistent=False)

    @property
    def spec(self) -> EnvSpec:
        return self._spec

    @property
    def device(self) -> torch.device:
        return self.get_buffer("action_shift").device

    @abstractmethod
    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Any]]:
        """The scalar loss of a batch in raw units, and its named terms."""

    @abstractmethod
    def predict(self, batch: Batch, rng: Sequence[np.random.Generator]) -> Tensor:
        """Normalised actions [B H A]; `rng` holds one generator per row, the only source of randomness."""

    def images(self, batch: Batch) -> dict[str, Tensor]:
        """camera → uint8 [B h w 3], in the spec's order."""
        return {c.name: batch[f"observation.images.{c.name}"] for c in self.spec.cameras}

    def state(self, batch: Batch) -> Tensor:
        """Normalised state [B S]."""
        return (batch[STATE] - self.get_buffer("observation_state_shift")) / self.get_buffer("observation_state_scale")

    def actions(self, batch: Batch) -> Tensor:
        """Normalised actions [B H A]."""
        return (batch[ACTION] - self.get_buffer("action_shift")) / self.get_buffer("action_scale")

    def init(self, spec: EnvSpec, seeds: Sequence[int]) -> Memory:
        """No memory; raises `SpecError` where the environment is not the one the policy was trained for."""
        self.spec.require_same(spec, "the policy (left) meets the environment (right)")
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
        """One chunk per observation; action k is meant for (k + 1) control periods after the observation.

        On a CPU rows are computed one at a time: a matrix product over one row gives the same bits whatever
        else is in flight, so an evaluation does not depend on how many environments run beside it.
        """
        self.eval()
        size = 1 if self.device.type == "cpu" else max(len(observations), 1)
        chunks: list[ActionChunk] = []
        with torch.inference_mode():
            for start in range(0, len(observations), size):
                rows = observations[start : start + size]
                options: dict[str, Any] = {}
                if self.supports_prefix:
                    options = {"prefix": prefix[start : start + size] if prefix else [None] * len(rows), "delay": delay}
                predicted = self.predict(collate(rows, self.device), rng[start : start + size], **options)
                actions = predicted.float() * self.get_buffer("action_scale") + self.get_buffer("action_shift")
                chunks += [self._chunk(o, a) for o, a in zip(rows, actions.cpu().numpy(), strict=True)]
        return chunks, memory, {}

    def _chunk(self, observation: Observation, actions: np.ndarray) -> ActionChunk:
        clipped = np.clip(actions, self.spec.action_lower, self.spec.action_upper)
        times = observation.time + self.spec.control_dt * np.arange(1, len(actions) + 1)
        return ActionChunk(clipped, times, observation.time)

    @staticmethod
    def from_checkpoint(path: str | Path, *, device: str = "cpu", ema: bool = True) -> TorchPolicy:
        """The policy a checkpoint holds: class and configuration, spec, statistics and weights.

        Args:
            path: a run (its newest valid step) or one step.
            ema: take the averaged weights where the checkpoint has them.
        """
        from .. import checkpoint
        from ..config import instantiate

        loaded = checkpoint.load(path)
        policy = instantiate(loaded.policy, spec=loaded.spec, stats=loaded.stats)
        policy.load_state_dict(loaded.weights("ema" if ema and loaded.has("ema") else "model"), strict=True)
        return policy.to(device).eval()
