"""DeeR-VLA (Yue et al. 2024): a vision-language model that thinks only as deep as the moment asks for."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..vla.backbones.exits import MultiExit
from ..vla.backbones.vlm import ComposedVLM
from ..vla.contract import EnvSpec
from ..vla.errors import ConfigError
from ..vla.learning.batch import Batch, masked_mean
from ..vla.normalize import NormStats
from .vlm_policy import VLMPolicy


class ExitHead(nn.Module):
    """An MLP from one token [B D] to a chunk [B H·A]."""

    def __init__(self, *, width: int, size: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, size))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class DeeRPolicy(VLMPolicy):
    """A head behind each of several layers; the first that agrees with the one before it acts.

    How much two exits may differ is what keeps the mean number of layers within the budget on the samples that
    training saw last.

    Args:
        spec, stats: the body, and the statistics its state and actions are normalised by.
        vlm: what the robot sees and is told.
        exits: after how many layers of its language model the heads lie, rising; the first only serves comparison.
        chunk: H, actions per chunk.
        budget: mean number of layers to spend on an action.
        samples: how many to calibrate on.
        room: what the state is padded to for the VLM's modality `state`; 0 where the VLM is not told the state.
    """

    def __init__(
        self,
        *,
        spec: EnvSpec,
        stats: NormStats,
        vlm: ComposedVLM,
        exits: Sequence[int],
        chunk: int = 8,
        budget: float = 4.0,
        samples: int = 512,
        room: int = 32,
    ) -> None:
        super().__init__(spec=spec, stats=stats, vlm=vlm, chunk=chunk, room=room)
        self.budget = budget
        size = chunk * spec.action_dim
        self.exits = MultiExit(width=vlm.language.width, layers=exits, head=partial(ExitHead, size=size))
        if len(exits) < 2 or budget < exits[1]:
            raise ConfigError(
                "The first exit is there for comparison and the second is the earliest to act",
                expected="two exits or more, and a budget of at least the second",
                got=f"exits {list(exits)}, budget {budget:g}",
            )
        self.register_buffer("doubts", torch.full((samples, len(exits)), torch.nan))
        self.register_buffer("seen", torch.zeros((), dtype=torch.long))

    @property
    def composed(self) -> ComposedVLM:
        """`vlm`, whose embeddings and layers are run here one by one."""
        assert isinstance(self.vlm, ComposedVLM)
        return self.vlm

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Any]]:
        """Mean absolute error over real (not padded) actions, in normalised units, the mean over the exits."""
        outputs = self.exits(self.composed, self.composed.embed(*self.inputs(batch)))
        real, actions = ~batch["action.is_pad"], self.actions(batch)
        errors = [masked_mean((self._chunks(o) - actions).abs(), real) for o in outputs]
        if self.training:
            self._remember(self.exits.doubts([o.detach() for o in outputs]))
        loss = torch.stack(errors).mean()
        return loss, {f"l1_{layer}": e.detach() for layer, e in zip(self.exits.layers, errors, strict=True)}

    def predict(self, batch: Batch, rng: Sequence[np.random.Generator]) -> Tensor:
        return self._chunks(self.exits.act(self.composed, self.composed.embed(*self.inputs(batch))).output)

    def train(self, mode: bool = True) -> DeeRPolicy:
        """Before acting, thresholds are set by the samples that were seen last; without any, nothing exits early."""
        doubts = self.get_buffer("doubts")[: int(self.get_buffer("seen").clamp(max=len(self.get_buffer("doubts"))))]
        if not mode and len(doubts):
            self.exits.calibrate(doubts, self.budget)
        super().train(mode)
        return self

    def _chunks(self, output: Tensor) -> Tensor:
        """[B H·A] → normalised actions [B H A]."""
        return output.float().unflatten(-1, (self.chunk, -1))

    def _remember(self, doubts: Tensor) -> None:
        kept, seen = self.get_buffer("doubts"), self.get_buffer("seen")
        places = (seen + torch.arange(len(doubts), device=seen.device)) % len(kept)
        kept[places] = doubts.float()
        seen += len(doubts)
