"""A decoder of the Llama and Gemma families in plain PyTorch, which load-time folding and whole-graph capture need.

Shape legend: B batch, N tokens, P tokens of the past, D width, Q query heads, K key-value heads, E width of a head.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from ..errors import ConfigError
from .base import Between, KeysValues, LanguageModel, Sequenced

Family = Literal["llama", "gemma"]
Rotation = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Shape:
    """Sizes of one decoder layer: width D, Q query heads, K key-value heads of width E, inner width of the MLP."""

    width: int
    heads: int
    kv_heads: int
    head_width: int
    inner: int

    def __post_init__(self) -> None:
        if self.heads % self.kv_heads or self.head_width % 2:
            raise ConfigError(
                "The heads of a decoder do not fit together",
                expected="query heads a multiple of key-value heads, heads of even width",
                got=f"{self.heads} query heads, {self.kv_heads} key-value heads of width {self.head_width}",
            )


class RMSNorm(nn.Module):
    """x / rms(x) · scale (Zhang and Sennrich 2019); Gemma stores the scale less one, so that decay draws it to one."""

    def __init__(self, width: int, eps: float, family: Family) -> None:
        super().__init__()
        self.eps = eps
        self.offset = 1.0 if family == "gemma" else 0.0
        self.weight = nn.Parameter(torch.full((width,), 1.0 - self.offset))

    def scale(self) -> Tensor:
        """[D]: what a normalised token is multiplied by."""
        return self.weight + self.offset if self.offset else self.weight

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.rms_norm(x, x.shape[-1:], self.scale(), self.eps)


def rotation(positions: Tensor, width: int, theta: float) -> Rotation:
    """Cosines and sines [B 1 N E/2] of rotary positions (Su et al. 2021) for int [B N]."""
    frequency = theta ** (-torch.arange(0, width, 2, device=positions.device, dtype=torch.float32) / width)
    angle = positions[:, None, :, None].float() * frequency
    return angle.cos(), angle.sin()


def rotate(x: Tensor, by: Rotation) -> Tensor:
    """[B · N E], the first half of a head's elements paired with the second."""
    cos, sin = (a.to(x.dtype) for a in by)
    first, second = x.chunk(2, -1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], -1)


def activate(x: Tensor, family: Family) -> Tensor:
    """SiLU (Llama) or the tanh form of GELU (Gemma)."""
    return nn.functional.gelu(x, approximate="tanh") if family == "gemma" else nn.functional.silu(x)


def attention(queries: Tensor, keys: Tensor, values: Tensor, attend: Tensor | None) -> Tensor:
    """[B Q N E] to [B K M E] → [B N Q·E]; attend: bool [B N M] or None (all), at least one True in each row."""
    grouped = queries.shape[1] != keys.shape[1]
    mask = None if attend is None else attend[:, None]
    found = nn.functional.scaled_dot_product_attention(queries, keys, values, attn_mask=mask, enable_gqa=grouped)
    return found.transpose(1, 2).flatten(2)


class GroupedAttention(nn.Module):
    """Projections of grouped-query attention (Ainslie et al. 2023) without biases.

    Args:
        shape: sizes.
        source: width of what keys and values come from, where that is not D.
    """

    def __init__(self, shape: Shape, source: int | None = None) -> None:
        super().__init__()
        self.shape = shape
        self.query = nn.Linear(shape.width, shape.heads * shape.head_width, bias=False)
        self.key = nn.Linear(source or shape.width, shape.kv_heads * shape.head_width, bias=False)
        self.value = nn.Linear(source or shape.width, shape.kv_heads * shape.head_width, bias=False)
        self.out = nn.Linear(shape.heads * shape.head_width, shape.width, bias=False)

    def queries(self, x: Tensor, by: Rotation) -> Tensor:
        """[B N D] → [B Q N E]."""
        return rotate(self._split(self.query(x)), by)

    def keys_values(self, x: Tensor, by: Rotation | None) -> tuple[Tensor, Tensor]:
        """[B N ·] → keys and values [B K N E]; without a rotation keys stay as they are projected."""
        keys = self._split(self.key(x))
        return (keys if by is None else rotate(keys, by)), self._split(self.value(x))

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (-1, self.shape.head_width)).transpose(1, 2)


class GatedMLP(nn.Module):
    """down(act(gate x) ⊙ up x) (Shazeer 2020)."""

    def __init__(self, shape: Shape, family: Family) -> None:
        super().__init__()
        self.family: Family = family
        self.gate = nn.Linear(shape.width, shape.inner, bias=False)
        self.up = nn.Linear(shape.width, shape.inner, bias=False)
        self.down = nn.Linear(shape.inner, shape.width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(activate(self.gate(x), self.family) * self.up(x))


class DecoderLayer(nn.Module):
    """Pre-norm attention and gated MLP, both residual."""

    def __init__(self, shape: Shape, family: Family, eps: float) -> None:
        super().__init__()
        self.enter = RMSNorm(shape.width, eps, family)
        self.attention = GroupedAttention(shape)
        self.middle = RMSNorm(shape.width, eps, family)
        self.feed = GatedMLP(shape, family)

    def forward(
        self, x: Tensor, by: Rotation, attend: Tensor, past: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """[B N D] → the same, and this layer's keys and values of the N tokens."""
        normed = self.enter(x)
        keys, values = own = self.attention.keys_values(normed, by)
        if past is not None:
            keys, values = torch.cat([past[0], keys], 2), torch.cat([past[1], values], 2)
        x = x + self.attention.out(attention(self.attention.queries(normed, by), keys, values, attend))
        return x + self.feed(self.middle(x)), own


class RotaryDecoder(LanguageModel):
    """Pre-norm layers with rotary positions, one behind the other.

    Attributes:
        layers: each (x [B N D], rotation, attend, past) → the same x, and its keys and values of the N tokens.
        norm: after the last; theta: base of the rotary positions.
    """

    layers: nn.ModuleList
    norm: nn.Module
    theta: float

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
        """As the base class says. A token is real if it may attend to itself; one that may not at all, to all."""
        by = rotation(positions, self.head_width, self.theta)
        allowed = attend | ~attend.any(-1, keepdim=True)
        own: list[tuple[Tensor, Tensor]] = []
        before: list[Tensor] = []
        for i, layer in enumerate(self.layers):
            x = x if between is None else between(i, x)
            if layers:
                before.append(x)
            x, keys_values = layer(x, by, allowed, None if past is None else past[i])
            own.append(keys_values)
        x = x if between is None else between(self.depth, x)
        real = attend[..., -x.shape[1] :].diagonal(dim1=1, dim2=2)
        return Sequenced(self.norm(x), real, positions, tuple(own), tuple(before))


class Decoder(RotaryDecoder):
    """Llama (Touvron et al. 2023) or Gemma (Gemma Team 2024) with everything in the caller's hands.

    Args:
        vocabulary: V.
        width, depth, heads, kv_heads, head_width, inner: sizes; `head_width` None is width / heads.
        family: norm, activation and scale of the embeddings.
        theta: base of the rotary positions.
        eps: of the norms.
    """

    def __init__(
        self,
        *,
        vocabulary: int,
        width: int,
        depth: int,
        heads: int,
        kv_heads: int,
        inner: int,
        head_width: int | None = None,
        family: Family = "llama",
        theta: float = 10_000.0,
        eps: float = 1e-5,
    ) -> None:
        super().__init__()
        self.width, self.depth, self.heads, self.kv_heads = width, depth, heads, kv_heads
        self.head_width = head_width or width // heads
        self.vocabulary, self.theta, self.eps = vocabulary, theta, eps
        self.family: Family = family
        shape = Shape(width, heads, kv_heads, self.head_width, inner)
        self.words = nn.Embedding(vocabulary, width)
        self.layers = nn.ModuleList([DecoderLayer(shape, family, eps) for _ in range(depth)])
        self.norm = RMSNorm(width, eps, family)
        nn.init.normal_(self.words.weight, std=width**-0.5)

    def blocks(self) -> list[DecoderLayer]:
        """The layers as what they are."""
        return [layer for layer in self.layers if isinstance(layer, DecoderLayer)]

    def embed(self, ids: Tensor) -> Tensor:
        words = self.words(ids)
        return words * self.width**0.5 if self.family == "gemma" else words

    def logits(self, hidden: Tensor) -> Tensor:
        """Word vectors and output weights are tied, as in the small models of both families."""
        return hidden @ self.words.weight.T
