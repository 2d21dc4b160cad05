"""Learned queries that ask a tower's tokens: Q-Former, Perceiver resampler, bottleneck tokens.

Axis legend: B batch, N tokens of the tower, Q queries, W inner width, D width of the language model.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..attention import Attention, EncoderLayer
from ..base import Connector


class QFormerLayer(nn.Module):
    """Queries attend to each other, in some layers to the image, then feed forward; each step post-norm, as in BERT."""

    def __init__(self, width: int, heads: int, *, context: int | None, hidden: int, dropout: float, eps: float) -> None:
        super().__init__()
        self.own, self.own_norm = Attention(width, heads), nn.LayerNorm(width, eps)
        self.image = None if context is None else Attention(width, heads, context)
        self.image_norm = None if context is None else nn.LayerNorm(width, eps)
        self.feed = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))
        self.feed_norm = nn.LayerNorm(width, eps)
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor, tokens: Tensor) -> Tensor:
        """x: [B Q W]; tokens: [B N context]."""
        x = self.own_norm(x + self.drop(self.own(x, self.own.project(x))))
        if self.image is not None and self.image_norm is not None:
            x = self.image_norm(x + self.drop(self.image(x, self.image.project(tokens))))
        return self.feed_norm(x + self.drop(self.feed(x)))


class QFormerConnector(Connector):
    """A fixed number of learned queries that read an image (Q-Former of BLIP-2, Li et al. 2023).

    Args:
        source: width of the tower's tokens.
        width: D.
        queries: Q, how many tokens come out.
        hidden: W; None is D.
        depth, heads: of the transformer.
        every: an image is attended to in layers 0, every, 2·every, …
        ratio: width of the feed-forward layer over W.
        dropout: on every residual branch.
        eps: of the layer norms.
    """

    def __init__(
        self,
        *,
        source: int,
        width: int,
        queries: int = 32,
        hidden: int | None = None,
        depth: int = 6,
        heads: int = 8,
        every: int = 2,
        ratio: float = 4.0,
        dropout: float = 0.0,
        eps: float = 1e-12,
    ) -> None:
        super().__init__()
        inner = hidden or width
        self.width = width
        self.queries = nn.Parameter(torch.randn(queries, inner) * 0.02)
        self.norm = nn.LayerNorm(inner, eps)
        self.drop = nn.Dropout(dropout)
        feed = int(ratio * inner)
        self.layers = nn.ModuleList(
            QFormerLayer(inner, heads, context=None if i % every else source, hidden=feed, dropout=dropout, eps=eps)
            for i in range(depth)
        )
        self.project = nn.Linear(inner, width)

    def forward(self, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        x = self.drop(self.norm(self.queries)).expand(len(tokens), -1, -1)
        for layer in self.layers:
            x = layer(x, tokens)
        return self.project(x)

    def count(self, grid: tuple[int, int]) -> int:
        return len(self.queries)


class ResamplerLayer(nn.Module):
    """Latents attend to the image and to themselves in one softmax, then feed forward; pre-norm, without biases."""

    def __init__(self, width: int, heads: int, *, head_width: int, hidden: int) -> None:
        super().__init__()
        self.image_norm, self.norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, heads, inner=heads * head_width, bias=False)
        self.feed = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, hidden, bias=False), nn.ReLU(), nn.Linear(hidden, width, bias=False)
        )

    def forward(self, x: Tensor, tokens: Tensor) -> Tensor:
        """x: [B Q W]; tokens: [B N W]."""
        normed = self.norm(x)
        context = torch.cat([self.image_norm(tokens), normed], 1)
        x = x + self.attention(normed, self.attention.project(context))
        return x + self.feed(x)


class ResamplerConnector(Connector):
    """Perceiver resampler (Flamingo, Alayrac et al. 2022; layers as in IDEFICS, Laurençon et al. 2023).

    Works at the tower's width; one linear layer follows where D is another.

    Args:
        source: width of the tower's tokens, which is W.
        width: D.
        queries: Q latents, how many tokens come out.
        depth, heads: of the resampler.
        head_width: of each head; None shares W among the heads.
        ratio: width of the feed-forward layer over W.
    """

    def __init__(
        self,
        *,
        source: int,
        width: int,
        queries: int = 64,
        depth: int = 6,
        heads: int = 8,
        head_width: int | None = None,
        ratio: float = 4.0,
    ) -> None:
        super().__init__()
        self.width = width
        self.latents = nn.Parameter(torch.randn(queries, source))
        each = head_width or source // heads
        self.layers = nn.ModuleList(
            ResamplerLayer(source, heads, head_width=each, hidden=int(ratio * source)) for _ in range(depth)
        )
        self.norm = nn.LayerNorm(source)
        self.project = nn.Identity() if source == width else nn.Linear(source, width)

    def forward(self, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        x = self.latents.expand(len(tokens), -1, -1)
        for layer in self.layers:
            x = layer(x, tokens)
        return self.project(self.norm(x))

    def count(self, grid: tuple[int, int]) -> int:
        return len(self.latents)


class BottleneckConnector(Connector):
    """Learned tokens join the image's in full self-attention and alone go on, so all must pass through them
    (bottleneck tokens, Nagrani et al. 2021).

    Args:
        source: width of the tower's tokens.
        width: D.
        queries: Q bottleneck tokens.
        hidden: W; None is D.
        depth, heads: of the transformer.
        dropout: on every residual branch.
    """

    def __init__(
        self,
        *,
        source: int,
        width: int,
        queries: int = 16,
        hidden: int | None = None,
        depth: int = 2,
        heads: int = 8,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        inner = hidden or width
        self.width = width
        self.enter = nn.Linear(source, inner)
        self.bottleneck = nn.Parameter(torch.randn(queries, inner) * 0.02)
        self.layers = nn.ModuleList(EncoderLayer(inner, heads, dropout) for _ in range(depth))
        self.leave = nn.Sequential(nn.LayerNorm(inner), nn.Linear(inner, width))

    def forward(self, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        own = self.bottleneck.expand(len(tokens), -1, -1)
        x = torch.cat([own, self.enter(tokens)], 1)
        for layer in self.layers:
            x = layer(x)
        return self.leave(x[:, : len(self.bottleneck)])

    def count(self, grid: tuple[int, int]) -> int:
        return len(self.bottleneck)
