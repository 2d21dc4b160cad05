"""A small decoder to train from nothing: Llama's layer with its projections fused, so that few large products remain.

Shape legend: B batch, N tokens, P tokens of the past, D width, Q query heads, K key-value heads, E width of a head.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..decoder import RMSNorm, RotaryDecoder, Rotation, Shape, attention, rotate


class ScratchLM(RotaryDecoder):
    """Llama's decoder (Touvron et al. 2023): RMS norms, rotary positions, grouped queries, SwiGLU, tied embeddings.

    Args:
        vocabulary: V.
        width, depth, heads: D, layers, Q.
        kv_heads: K; None for one per query head, 1 for multi-query attention.
        inner: width of the feed-forward; None for 8/3 D, rounded up to a multiple of 16.
        dropout: share of each layer's two outputs that is zeroed in training.
        theta: base of the rotary positions.
    """

    def __init__(
        self,
        *,
        vocabulary: int,
        width: int = 256,
        depth: int = 6,
        heads: int = 4,
        kv_heads: int | None = None,
        inner: int | None = None,
        dropout: float = 0.0,
        theta: float = 10_000.0,
    ) -> None:
        super().__init__()
        inner = inner or -(-8 * width // 3 // 16) * 16
        shape = Shape(width, heads, kv_heads or heads, width // heads, inner)
        self.vocabulary, self.width, self.depth, self.theta = vocabulary, width, depth, theta
        self.heads, self.kv_heads, self.head_width = shape.heads, shape.kv_heads, shape.head_width
        self.words = nn.Embedding(vocabulary, width)
        self.layers = nn.ModuleList([ScratchLayer(shape, dropout) for _ in range(depth)])
        self.norm = RMSNorm(width, 1e-5, "llama")
        self._initialise()

    def _initialise(self) -> None:
        # The residual stream sums 2 · depth outputs; its variance should not grow with depth (GPT-2).
        for name, weight in self.named_parameters():
            if weight.ndim == 2:
                nn.init.normal_(weight, std=0.02 if name == "words.weight" else weight.shape[1] ** -0.5)
            if name.endswith(("out.weight", "down.weight")):
                with torch.no_grad():
                    weight.mul_((2 * self.depth) ** -0.5)

    def embed(self, ids: Tensor) -> Tensor:
        return self.words(ids) * self.width**0.5

    def logits(self, hidden: Tensor) -> Tensor:
        return nn.functional.linear(hidden, self.words.weight)


class ScratchLayer(nn.Module):
    """Pre-norm attention and SwiGLU (Shazeer 2020), both residual, each with one fused projection in."""

    def __init__(self, shape: Shape, dropout: float) -> None:
        super().__init__()
        self.shape = shape
        self.enter = RMSNorm(shape.width, 1e-5, "llama")
        self.queries_keys_values = nn.Linear(
            shape.width, (shape.heads + 2 * shape.kv_heads) * shape.head_width, bias=False
        )
        self.out = nn.Linear(shape.heads * shape.head_width, shape.width, bias=False)
        self.middle = RMSNorm(shape.width, 1e-5, "llama")
        self.gate_up = nn.Linear(shape.width, 2 * shape.inner, bias=False)
        self.down = nn.Linear(shape.inner, shape.width, bias=False)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, x: Tensor, by: Rotation, attend: Tensor, past: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """[B N D] → the same, and this layer's keys and values [B K N E]; attend: bool [B N P + N]."""
        heads, kv_heads = self.shape.heads, self.shape.kv_heads
        mixed = self.queries_keys_values(self.enter(x)).unflatten(-1, (-1, self.shape.head_width)).transpose(1, 2)
        turned = rotate(mixed[:, : heads + kv_heads], by)  # queries and keys turn together
        queries, keys, values = turned[:, :heads], turned[:, heads:], mixed[:, heads + kv_heads :]
        own = (keys, values)
        if past is not None:
            keys, values = torch.cat([past[0], keys], 2), torch.cat([past[1], values], 2)
        x = x + self.dropout(self.out(attention(queries, keys, values, attend)))
        gate, up = self.gate_up(self.middle(x)).chunk(2, -1)
        return x + self.dropout(self.down(nn.functional.silu(gate) * up)), own
