"""Leaving out tokens that add little, before a language model reads them or before heads attend to them.

What stays keeps its position, so that a token means the same wherever the others went.

Shape legend: B batch, N tokens, M tokens that stay, L words, D width.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from ..errors import ConfigError
from .base import VLM, Between, Sequenced, Tokens
from .vlm import ComposedVLM, among, places


class Pruner(nn.Module, ABC):
    """Chooses the tokens that stay.

    Args:
        keep: share of the tokens that stay, in (0, 1]; 1 keeps all.
    """

    def __init__(self, *, keep: float) -> None:
        super().__init__()
        if not 0 < keep <= 1:
            raise ConfigError("A share of tokens to keep is out of range", expected="(0, 1]", got=str(keep))
        self.keep = keep

    @abstractmethod
    def choose(self, tokens: Tokens, words: Tokens, count: int) -> Tensor:
        """int [B M]: which M = `count` of `tokens` [B N D] stay, in any order; `words` [B L D] say what matters."""

    def forward(self, tokens: Tokens, words: Tokens) -> Tensor:
        """int [B M], ascending: the places of the tokens that stay, M = ⌈keep · N⌉."""
        batch, total = tokens.mask.shape
        count = math.ceil(self.keep * total - 1e-9)
        if count == total:
            return torch.arange(total, device=tokens.mask.device).expand(batch, -1)
        return self.choose(tokens, words, count).sort(1).values


class AttentionPruner(Pruner):
    """Keeps what the words attend to most (as SparseVLM, Zhang et al. 2024, and FastV, Chen et al. 2024).

    Each word spreads one unit of attention over the tokens by softmax(cosine / temperature); a token's score is its
    part of the sum.

    Args:
        temperature: of the softmax.
    """

    def __init__(self, *, keep: float, temperature: float = 0.1) -> None:
        super().__init__(keep=keep)
        if temperature <= 0:
            raise ConfigError("A temperature must be positive", got=str(temperature))
        self.temperature = temperature

    def choose(self, tokens: Tokens, words: Tokens, count: int) -> Tensor:
        cosines = normalize(words.values.float(), dim=-1) @ normalize(tokens.values.float(), dim=-1).mT
        hidden = ~tokens.mask[:, None]
        # A row of nothing but padding still needs a softmax over something.
        spread = (cosines / self.temperature).masked_fill(hidden, -1e9).softmax(-1)
        scores = (spread * words.mask[..., None]).sum(1).masked_fill(~tokens.mask, -1.0)
        return scores.topk(count, 1).indices


class DiversityPruner(Pruner):
    """Keeps tokens that are unlike each other: each next one is the farthest, by cosine, from the nearest that is kept
    (farthest-point sampling; DivPrune, Alvar et al. 2025). The first is the one least like all others.
    """

    def choose(self, tokens: Tokens, words: Tokens, count: int) -> Tensor:
        unit = normalize(tokens.values.float(), dim=-1)
        apart = 1 - unit @ unit.mT
        both = tokens.mask[:, None] & tokens.mask[:, :, None]
        total = (apart * both).sum(-1).masked_fill(~tokens.mask, -1.0)
        rows = torch.arange(len(unit), device=unit.device)
        chosen = [total.argmax(1)]
        nearest = apart[rows, chosen[0]].masked_fill(~tokens.mask, -1.0)
        nearest[rows, chosen[0]] = -2.0
        while len(chosen) < count:
            following = nearest.argmax(1)
            chosen.append(following)
            nearest = torch.minimum(nearest, apart[rows, following])
            nearest[rows, following] = -2.0
        return torch.stack(chosen, 1)


class PrunedVLM(VLM):
    """A composed VLM that leaves out tokens of cameras and extra modalities; words always stay.

    Args:
        inner: the VLM; its parameters are those of this one.
        pruner: chooses.
        when: "before" the language model reads, which makes reading cheaper; "after" it has read everything, which
            makes only what attends to the prefix cheaper (an action expert, decoding), at less loss.
    """

    def __init__(self, *, inner: ComposedVLM, pruner: Pruner, when: Literal["before", "after"] = "before") -> None:
        super().__init__()
        self.inner, self.pruner = inner, pruner
        self.when: Literal["before", "after"] = when
        # Not a submodule: its parameters would stand twice in a checkpoint.
        object.__setattr__(self, "language", inner.language)

    def prefix(
        self,
        images: Mapping[str, Tensor],
        texts: Sequence[str],
        extra: Mapping[str, Tensor] | None = None,
        *,
        layers: bool = False,
    ) -> Sequenced:
        tokens = self.inner.embed(images, texts, extra)
        seen = tokens.mask.shape[1] - self.inner.tell(texts).mask.shape[1]
        if self.when == "before":
            return self._read(tokens, self._kept(tokens, seen), layers=layers)
        found = self.inner.read(tokens, layers=layers)
        return select(found, self._kept(Tokens(found.hidden, tokens.mask), seen))

    def between(self, prefix: Sequenced) -> Between | None:
        return self.inner.between(prefix)

    def _kept(self, tokens: Tokens, seen: int) -> Tensor:
        """int [B M + L]: places that stay, of the first `seen` those the pruner chooses."""
        values, mask = tokens.values.detach(), tokens.mask
        chosen = self.pruner(Tokens(values[:, :seen], mask[:, :seen]), Tokens(values[:, seen:], mask[:, seen:]))
        words = torch.arange(seen, mask.shape[1], device=mask.device).expand(len(mask), -1)
        return torch.cat([chosen, words], 1)

    def _read(self, tokens: Tokens, kept: Tensor, *, layers: bool) -> Sequenced:
        rows = torch.arange(len(kept), device=kept.device)[:, None]
        attend = among(tokens.mask, causal=self.inner.attention == "causal")
        attend = attend[rows[..., None], kept[:, :, None], kept[:, None]]
        positions = places(tokens.mask)[rows, kept]
        found = self.language(tokens.values[rows, kept], attend, positions, layers=layers)
        return replace(found, mask=tokens.mask[rows, kept])


def select(prefix: Sequenced, kept: Tensor) -> Sequenced:
    """The tokens at places `kept` int [B M] of each row of a prefix, with their positions, keys and values."""
    rows = torch.arange(len(kept), device=kept.device)[:, None]

    def of(values: Tensor) -> Tensor:
        heads = torch.arange(values.shape[1], device=kept.device)[None, :, None]
        return values[rows[..., None], heads, kept[:, None]]

    return replace(
        prefix,
        hidden=prefix.hidden[rows, kept],
        mask=prefix.mask[rows, kept],
        positions=prefix.positions[rows, kept],
        keys_values=tuple((of(keys), of(values)) for keys, values in prefix.keys_values),
        layers=tuple(layer[rows, kept] for layer in prefix.layers),
    )
