"""Actions as words of a vision-language model (RT-2, Brohan et al. 2023; OpenVLA, Kim et al. 2024)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from ..vla.backbones.base import VLM, Sequenced
from ..vla.backbones.decoding import greedy, last_hidden
from ..vla.backbones.parallel import jacobi, parallel
from ..vla.contract import EnvSpec
from ..vla.errors import ConfigError
from ..vla.learning.batch import Batch
from ..vla.learning.policy import ACTION
from ..vla.normalize import NormStats
from .vlm_policy import VLMPolicy

Decoding = Literal["greedy", "fixed_point", "parallel"]


class ActionTokenPolicy(VLMPolicy):
    """Each action element is one of the last K words of the vocabulary, a bin between the data's least and largest.

    Shape legend: T = H·A tokens of a chunk, step by step; V vocabulary.

    Args:
        spec, stats: the body, and the statistics its state and actions are normalised by.
        vlm: what the robot sees and is told; the last words of its vocabulary are given a new meaning.
        chunk: H; the references take 1.
        bins: K.
        decoding: one token after another ("greedy"), the same found in fewer passes ("fixed_point", PD-VLA), or all
            in one pass over placeholders ("parallel", OpenVLA-OFT's discrete form), which is also trained that way.
        room: what the state is padded to for the VLM's modality `state`; 0 where the VLM is not told the state.
    """

    def __init__(
        self,
        *,
        spec: EnvSpec,
        stats: NormStats,
        vlm: VLM,
        chunk: int = 1,
        bins: int = 256,
        decoding: Decoding = "greedy",
        room: int = 32,
    ) -> None:
        super().__init__(spec=spec, stats=stats, vlm=vlm, chunk=chunk, room=room)
        if bins > vlm.language.vocabulary:
            raise ConfigError(
                "There are not enough words for actions", expected=f"bins ≤ {vlm.language.vocabulary}", got=str(bins)
            )
        self.bins, self.decoding = bins, decoding
        self.tokens = chunk * spec.action_dim
        self.placeholders = (
            nn.Parameter(torch.randn(self.tokens, vlm.language.width) * 0.02) if decoding == "parallel" else None
        )
        ends = (stats.encode(ACTION, stats.columns[ACTION][end]) for end in ("min", "max"))
        low, high = (torch.from_numpy(end).float() for end in ends)
        self.register_buffer("low", low, persistent=False)
        self.register_buffer("span", (high - low).clamp_min(1e-6), persistent=False)
        words = torch.arange(vlm.language.vocabulary - bins, vlm.language.vocabulary)
        self.register_buffer("words", words, persistent=False)

    def encode(self, actions: Tensor) -> Tensor:
        """Normalised actions [B H A] → words int [B T]; what lies outside the data's range enters the outer bins."""
        share = (actions - self.get_buffer("low")) / self.get_buffer("span")
        bins = (share * self.bins).long().clamp(0, self.bins - 1)
        return self.get_buffer("words")[bins.flatten(1)]

    def decode(self, words: Tensor) -> Tensor:
        """Words int [B T] → the middles of their bins [B H A]."""
        bins = (words - self.get_buffer("words")[0]).unflatten(1, (self.chunk, -1))
        return (bins + 0.5) / self.bins * self.get_buffer("span") + self.get_buffer("low")

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Any]]:
        """Cross-entropy of the words of real (not padded) actions, and the share of them that is guessed right."""
        words = self.encode(self.actions(batch))
        logits = self._logits(self.vlm.prefix(*self.inputs(batch)), words).float()
        real = (~batch["action.is_pad"]).repeat_interleave(self.spec.action_dim, 1)
        total = real.sum().clamp_min(1)
        loss = (cross_entropy(logits.transpose(1, 2), words, reduction="none") * real).sum() / total
        right = ((logits.argmax(-1) == words) & real).sum() / total
        return loss, {"cross_entropy": loss.detach(), "accuracy": right}

    def predict(self, batch: Batch, rng: Sequence[np.random.Generator]) -> Tensor:
        prefix, words = self.vlm.prefix(*self.inputs(batch)), self.get_buffer("words")
        if self.placeholders is not None:
            return self.decode(parallel(self.vlm, prefix, self.placeholders, allowed=words).tokens)
        search = greedy if self.decoding == "greedy" else jacobi
        return self.decode(search(self.vlm, prefix, self.tokens, allowed=words).tokens)

    def _logits(self, prefix: Sequenced, words: Tensor) -> Tensor:
        """[B T V], of each word behind those before it, or of all at once."""
        language = self.vlm.language
        if self.placeholders is not None:
            x = self.placeholders.expand(len(words), -1, -1)
            return language.logits(self.vlm.extend(prefix, x, causal=False).hidden)
        first = last_hidden(prefix)[:, None]
        if self.tokens == 1:
            return language.logits(first)
        more = self.vlm.extend(prefix, language.embed(words[:, :-1])).hidden
        return language.logits(torch.cat([first, more], 1))
