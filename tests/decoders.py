"""Tiny decoders for tests: one that attends, and one whose next token depends on the last alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from wayhand.vla.backbones.base import VLM, Between, KeysValues, LanguageModel, Sequenced
from wayhand.vla.backbones.connectors.projection import LinearConnector
from wayhand.vla.backbones.language.scratch import ScratchLM
from wayhand.vla.backbones.language.tokenizers import ByteTokenizer
from wayhand.vla.backbones.towers.raw import RawPatches
from wayhand.vla.backbones.vlm import ComposedVLM


class TinyDecoder(LanguageModel):
    """Layers of grouped-query attention with rotated keys and queries; random, in double precision."""

    def __init__(self, *, width: int = 16, depth: int = 2, vocabulary: int = 23, seed: int = 0) -> None:
        super().__init__()
        self.width, self.depth, self.vocabulary = width, depth, vocabulary
        self.heads, self.kv_heads, self.head_width = 4, 2, 8
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.table = nn.Embedding(vocabulary, width)
            self.norms = nn.ModuleList([nn.LayerNorm(width) for _ in range(depth + 1)])
            self.queries = nn.ModuleList([nn.Linear(width, 32) for _ in range(depth)])
            self.others = nn.ModuleList([nn.Linear(width, 2 * 16) for _ in range(depth)])
            self.out = nn.ModuleList([nn.Linear(32, width) for _ in range(depth)])
            self.head = nn.Linear(width, vocabulary)
            for parameter in self.parameters():
                parameter.data.mul_(2.0)
        self.double()

    def embed(self, ids: Tensor) -> Tensor:
        return self.table(ids)

    def forward(
        self,
        x: Tensor,
        attend: Tensor,
        positions: Tensor,
        past: KeysValues | None = None,
        *,
        layers: bool = False,
        between: Between | None = None,
    ) -> Sequenced:
        before: list[Tensor] = []
        made: list[tuple[Tensor, Tensor]] = []
        for i in range(self.depth):
            x = x if between is None else between(i, x)
            before.append(x)
            normed = self.norms[i](x)
            q = _turn(self.queries[i](normed).unflatten(-1, (4, 8)).transpose(1, 2), positions)
            k, v = self.others[i](normed).chunk(2, -1)
            k = _turn(k.unflatten(-1, (2, 8)).transpose(1, 2), positions)
            v = v.unflatten(-1, (2, 8)).transpose(1, 2)
            made.append((k, v))
            if past is not None:
                k, v = torch.cat([past[i][0], k], 2), torch.cat([past[i][1], v], 2)
            k, v = k.repeat_interleave(2, 1), v.repeat_interleave(2, 1)
            seen = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=attend[:, None])
            x = x + torch.tanh(self.out[i](seen.transpose(1, 2).flatten(2)))
        x = x if between is None else between(self.depth, x)
        mask = torch.ones(x.shape[:2], dtype=torch.bool)
        return Sequenced(self.norms[-1](x), mask, positions, tuple(made), tuple(before) if layers else ())

    def logits(self, hidden: Tensor) -> Tensor:
        return self.head(hidden)


class Chain(LanguageModel):
    """A Markov chain: P(next | last) is a row of a table, whatever came before.

    Args:
        table: probabilities [V V]; the last token of a sequence picks the row.
    """

    def __init__(self, table: Tensor) -> None:
        super().__init__()
        self.vocabulary = self.width = len(table)
        self.depth = self.heads = self.kv_heads = self.head_width = 1
        self.table = nn.Parameter(table.double(), requires_grad=False)

    def embed(self, ids: Tensor) -> Tensor:
        return nn.functional.one_hot(ids, self.vocabulary).double()

    def forward(
        self,
        x: Tensor,
        attend: Tensor,
        positions: Tensor,
        past: KeysValues | None = None,
        *,
        layers: bool = False,
        between: Between | None = None,
    ) -> Sequenced:
        none = x.new_zeros(len(x), 1, x.shape[1], 1)
        return Sequenced(x, torch.ones(x.shape[:2], dtype=torch.bool), positions, ((none, none),))

    def logits(self, hidden: Tensor) -> Tensor:
        return (hidden @ self.table).log()


def read(language: LanguageModel, ids: Tensor, mask: Tensor | None = None) -> Sequenced:
    """The prefix that words int [B N] make; causal, with the padding nowhere and unseen."""
    mask = torch.ones_like(ids, dtype=torch.bool) if mask is None else mask
    attend = mask[:, None] & torch.ones(ids.shape[1], ids.shape[1], dtype=torch.bool).tril()
    attend = attend | torch.eye(ids.shape[1], dtype=torch.bool)
    positions = (mask.long().cumsum(1) - 1).clamp(min=0)
    done = language(language.embed(ids), attend, positions)
    return Sequenced(done.hidden, mask, positions, done.keys_values, done.layers)


def _turn(x: Tensor, positions: Tensor) -> Tensor:
    """Rotary positions (Su et al. 2021) of [B heads N 8]."""
    angle = positions[:, None, :, None] * (10.0 ** -torch.arange(4.0, dtype=x.dtype))
    a, b = x.chunk(2, -1)
    return torch.cat([a * angle.cos() - b * angle.sin(), b * angle.cos() + a * angle.sin()], -1)


class TinyVLM(VLM):
    """Reads words alone, a token a character."""

    def __init__(self, language: LanguageModel) -> None:
        super().__init__()
        self.language = language

    def prefix(
        self,
        images: Mapping[str, Tensor],
        texts: Sequence[str],
        extra: Mapping[str, Tensor] | None = None,
        *,
        layers: bool = False,
    ) -> Sequenced:
        longest = max(len(t) for t in texts)
        ids = torch.tensor([[ord(c) % self.language.vocabulary for c in t.ljust(longest)] for t in texts])
        mask = torch.tensor([[i < len(t) for i in range(longest)] for t in texts])
        return read(self.language, ids, mask)


def tiny_vlm(*, depth: int = 4, **options: Any) -> ComposedVLM:
    """A random composition: raw patches of 4 pixels, a linear connector, bytes, a decoder trained from nothing."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return ComposedVLM(
            vision=RawPatches(patch=4),
            connector=LinearConnector,
            language=ScratchLM(vocabulary=259, width=32, depth=depth, heads=4, kv_heads=2),
            tokenizer=ByteTokenizer(),
            **options,
        ).eval()


def tiny_images(batch: int = 2) -> dict[str, Tensor]:
    """Two cameras of 12 × 12 pixels, each 9 tokens."""
    generator = torch.Generator().manual_seed(1)
    shape = (batch, 12, 12, 3)
    names = ("front", "wrist")
    return {name: torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator) for name in names}
