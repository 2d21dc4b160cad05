"""Chunk regression: the next H actions in one forward pass, trained with L1.

The deterministic core of ACT (Zhao et al. 2023) and of OpenVLA-OFT's continuous head (Kim et al. 2025).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from torch import Tensor, nn

from ..vla.backbones import Backbone
from ..vla.backbones.trunk import Trunk
from ..vla.contract import EnvSpec
from ..vla.learning.batch import Batch, masked_mean
from ..vla.learning.policy import TorchPolicy
from ..vla.normalize import NormStats


class RegressionPolicy(TorchPolicy):
    """backbone × linear head over the whole chunk.

    Args:
        spec, stats: the body, and the statistics its state and actions are normalised by.
        backbone: called with `spec=`; what the robot sees and is told.
        chunk: H, actions per chunk.
        hidden, depth: of the trunk.
    """

    def __init__(
        self,
        *,
        spec: EnvSpec,
        stats: NormStats,
        backbone: Callable[..., Backbone],
        chunk: int = 16,
        hidden: int = 512,
        depth: int = 2,
    ) -> None:
        super().__init__(spec=spec, stats=stats, chunk=chunk)
        self.backbone = backbone(spec=spec)
        self.trunk = Trunk(count=self.backbone.count, width=self.backbone.width, hidden=hidden, depth=depth)
        self.head = nn.Linear(hidden, chunk * spec.action_dim)

    def forward(self, batch: Batch) -> Tensor:
        """Normalised actions [B H A]."""
        tokens = self.backbone(self.images(batch), self.state(batch), batch["task"])
        return self.head(self.trunk(tokens)).unflatten(-1, (self.chunk, self.spec.action_dim))

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Any]]:
        """Mean absolute error over real (not padded) actions, in normalised units."""
        error = (self.forward(batch) - self.actions(batch)).abs()
        loss = masked_mean(error, ~batch["action.is_pad"])
        return loss, {"l1": loss.detach()}

    def predict(self, batch: Batch, rng: Sequence[np.random.Generator]) -> Tensor:
        return self.forward(batch)
