"""OpenVLA-OFT (Kim et al. 2025): a vision-language model and a whole chunk of continuous actions from one pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from ..vla.backbones.base import VLM
from ..vla.backbones.parallel import ParallelActions
from ..vla.contract import EnvSpec
from ..vla.learning.batch import Batch, masked_mean
from ..vla.normalize import NormStats
from .vlm_policy import VLMPolicy


class OFTPolicy(VLMPolicy):
    """Placeholders behind the prefix attend to it and to each other; an MLP makes actions of them.

    Args:
        spec, stats: the body, and the statistics its state and actions are normalised by.
        vlm: what the robot sees and is told.
        chunk: H; the reference takes 8 on LIBERO and 25 on ALOHA.
        hidden, blocks: of the MLP.
        room: what the state is padded to for the VLM's modality `state`; 0 where the VLM is not told the state.
    """

    def __init__(
        self,
        *,
        spec: EnvSpec,
        stats: NormStats,
        vlm: VLM,
        chunk: int = 8,
        hidden: int = 1024,
        blocks: int = 2,
        room: int = 32,
    ) -> None:
        super().__init__(spec=spec, stats=stats, vlm=vlm, chunk=chunk, room=room)
        self.head = ParallelActions(
            width=vlm.language.width, chunk=chunk, actions=spec.action_dim, hidden=hidden, blocks=blocks
        )

    def forward(self, batch: Batch) -> Tensor:
        """Normalised actions [B H A]."""
        return self.head(self.vlm, self.vlm.prefix(*self.inputs(batch))).float()

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Any]]:
        """Mean absolute error over real (not padded) actions, in normalised units."""
        error = (self.forward(batch) - self.actions(batch)).abs()
        loss = masked_mean(error, ~batch["action.is_pad"])
        return loss, {"l1": loss.detach()}

    def predict(self, batch: Batch, rng: Sequence[np.random.Generator]) -> Tensor:
        return self.forward(batch)
