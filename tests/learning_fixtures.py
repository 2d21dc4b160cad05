"""A policy and a sampler small enough for the laws of training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from wayhand.vla.contract import ActionGroup, Camera, Element, EnvSpec
from wayhand.vla.learning.batch import Batch, masked_mean
from wayhand.vla.learning.policy import TorchPolicy
from wayhand.vla.normalize import FIELDS, NormStats

RECIPE = {"_target_": "wayhand.policies.regression.RegressionPolicy"}
SAMPLES, CHUNK = 64, 3


def make_spec() -> EnvSpec:
    arm = ActionGroup("arm", "joint_position", (Element("q1", "rad"), Element("q2", "rad")), (-1.0,) * 2, (1.0,) * 2)
    return EnvSpec(
        "toy", 0.05, (Camera("front", 8, 8, 8.0, 8.0, 4.0, 4.0),), (Element("x", "m"), Element("y", "m")), (arm,)
    )


def make_stats(spec: EnvSpec) -> NormStats:
    def column(size: int) -> dict[str, Any]:
        return {**{f: np.zeros(size) for f in FIELDS}, "std": np.ones(size)}

    return NormStats({"observation.state": column(spec.state_dim), "action": column(spec.action_dim)})


class TinyPolicy(TorchPolicy):
    """State and what a convolution sees → chunk; dropout makes randomness matter."""

    def __init__(self, *, spec: EnvSpec, stats: NormStats, dropout: float) -> None:
        super().__init__(spec=spec, stats=stats, chunk=CHUNK)
        self.see = nn.Conv2d(3, 3, 3)
        self.net = nn.Sequential(nn.Linear(5, 32), nn.SiLU(), nn.Dropout(dropout), nn.Linear(32, CHUNK * 2))

    def forward(self, batch: Batch) -> Tensor:
        image = batch["observation.images.front"].permute(0, 3, 1, 2).float() / 255
        colour = self.see(image).mean((2, 3))
        return self.net(torch.cat([self.state(batch), colour], -1)).unflatten(-1, (CHUNK, 2))

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Any]]:
        loss = masked_mean((self.forward(batch) - self.actions(batch)).square(), ~batch["action.is_pad"])
        return loss, {"mse": loss.detach()}

    def predict(self, batch: Batch, rng: Sequence[np.random.Generator]) -> Tensor:
        return self.forward(batch)


def make_policy(seed: int, *, dropout: float = 0.0) -> TinyPolicy:
    torch.manual_seed(seed)
    spec = make_spec()
    return TinyPolicy(spec=spec, stats=make_stats(spec), dropout=dropout)


class MemorySampler:
    """The stream of `WindowSampler` over one array in memory."""

    def __init__(self, *, batch_size: int, rank: int = 0, world: int = 1) -> None:
        rng = np.random.default_rng(0)
        self.batch_size, self.rank, self.world = batch_size, rank, world
        self._state = rng.normal(size=(SAMPLES, 2)).astype(np.float32)
        self._images = rng.integers(0, 256, (SAMPLES, 8, 8, 3), dtype=np.uint8)
        self._action = np.tanh(self._state[:, None] * np.arange(1, CHUNK + 1)[:, None]).astype(np.float32)

    def __len__(self) -> int:
        return SAMPLES // (self.batch_size * self.world)

    def batch(self, k: int) -> dict[str, Any]:
        first = (k * self.world + self.rank) * self.batch_size
        index = np.arange(first, first + self.batch_size) * 37 % SAMPLES
        return {
            "observation.state": self._state[index],
            "observation.images.front": self._images[index],
            "action": self._action[index],
            "action.is_pad": np.zeros((self.batch_size, CHUNK), bool),
            "task": ["move"] * self.batch_size,
            "index": index,
        }

    def locate(self, index: int) -> tuple[Path, int, int]:
        return Path("memory"), index // 8, index % 8
