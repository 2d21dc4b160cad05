"""Transformer parts: attention of tokens to a context, and the pre-norm layer built from it.

Axis legend: B batch, Q queries, N context tokens, W width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..errors import ConfigError


class Attention(nn.Module):
    """Multi-head attention (Vaswani et al. 2017) from queries to a context; a row without context gives the bias.

    Args:
        width: W of the queries and of what comes out.
        heads: how many; they share `inner`, which is W unless given.
        context: width of the context's tokens, W unless given.
        bias: of all projections.
    """

    def __init__(
        self, width: int, heads: int, context: int | None = None, *, inner: int | None = None, bias: bool = True
    ) -> None:
        super().__init__()
        inner = inner or width
        if inner % heads:
            raise ConfigError(
                "Attention cannot be shared among its heads", expected=f"a multiple of {heads}", got=str(inner)
            )
        self.heads = heads
        self.query = nn.Linear(width, inner, bias=bias)
        self.keys_values = nn.Linear(context or width, 2 * inner, bias=bias)
        self.out = nn.Linear(inner, width, bias=bias)

    def project(self, context: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values [B heads N ·] of a context [B N ·], which many queries may share."""
        keys, values = self.keys_values(context).chunk(2, -1)
        return self._split(keys), self._split(values)

    def forward(self, x: Tensor, context: tuple[Tensor, Tensor], mask: Tensor | None = None) -> Tensor:
        """x: [B Q W]; context: as `project` gives it; mask: bool [B N], True where a token may be attended to."""
        keys, values = context
        if mask is None:
            found = nn.functional.scaled_dot_product_attention(self._split(self.query(x)), keys, values)
            return self.out(found.transpose(1, 2).flatten(2))
        allowed = mask[:, None, None, :]
        # A row that may attend to nothing attends to all and is silenced: a softmax over nothing is not a number.
        some = allowed.any(-1, keepdim=True)
        found = nn.functional.scaled_dot_product_attention(
            self._split(self.query(x)), keys, values, attn_mask=allowed | ~some
        )
        return self.out((found * some).transpose(1, 2).flatten(2))

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class FeedForward(nn.Module):
    """W₂ GELU(W₁ LayerNorm(x))."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, 2 * width),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(2 * width, width),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class EncoderLayer(nn.Module):
    """Pre-norm self-attention and feed-forward, both residual."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.feed = FeedForward(width, dropout)
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """x: [B N W]; mask: bool [B N]."""
        normed = self.norm(x)
        x = x + self.drop(self.attention(normed, self.attention.project(normed), mask))
        return x + self.drop(self.feed(x))


class CrossLayer(nn.Module):
    """Tokens attend to themselves with what lies around, then to the words, then feed forward.

    One direction only: the words are encoded once per episode and never change (Recurrent VLN-BERT, Hong et al. 2021).
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.self_norm, self.word_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.seen, self.words = Attention(width, heads), Attention(width, heads)
        self.feed = FeedForward(width, dropout)
        self.drop = nn.Dropout(dropout)

    def forward(
        self, x: Tensor, mask: Tensor, around: tuple[Tensor, Tensor], words: tuple[Tensor, Tensor], told: Tensor
    ) -> Tensor:
        """x: [B Q W], real where mask [B Q]; around: [B N W] with its mask; words: projected by `self.words`."""
        others, known = around
        normed = self.self_norm(x)
        context = self.seen.project(torch.cat([normed, others], 1))
        x = x + self.drop(self.seen(normed, context, torch.cat([mask, known], 1)))
        x = x + self.drop(self.words(self.word_norm(x), words, told))
        return x + self.drop(self.feed(x))
