"""Load-time folding: fewer, larger matrices that give the same numbers.

Scales of norms, the scale of attention and biases of norms go into the weights behind them; queries, keys and values
become one matrix, as do gate and up. Equal to the plain modules up to the rounding of one matrix product.

Shape legend: B batch, N tokens, M tokens attended to, D width, Q query heads, K key-value heads, E width of a head.
"""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor, nn

from .base import PureModule
from .decoder import DecoderLayer, GatedMLP, RMSNorm, Rotation, rotate
from .expert import ExpertLayer, ModulatedNorm
from .packed import Activation, PackedLinear, activated, can_pack
from .siglip import SiglipLayer, SiglipTower

T = TypeVar("T")


class FoldedTower(PureModule):
    """`SiglipTower.forward` with folded layers."""

    def __init__(self, tower: SiglipTower) -> None:
        super().__init__()
        self.patch = tower.patch
        rows = len(tower.places)
        # Pixels stay 0 … 255: their scaling to [−1, 1] is part of the weights.
        weight = tower.embed.weight.permute(0, 2, 3, 1).flatten(1)
        self.embed = nn.Buffer((weight / 127.5).detach())
        self.places = nn.Buffer((tower.places + _bias(tower.embed) - weight.sum(1)).detach())
        self.layers = nn.ModuleList(FoldedSight(layer, rows) for layer in _each(tower.layers, SiglipLayer))
        self.norm = tower.norm

    def forward(self, pixels: Tensor) -> Tensor:
        """uint8 [B h w 3] of whole patches → [B N D]."""
        b, h, w, _ = pixels.shape
        p = self.patch
        x = pixels.view(b, h // p, p, w // p, p, 3).transpose(2, 3).reshape(b, -1, p * p * 3)
        x = nn.functional.linear(x.to(self.places.dtype), self.embed) + self.places
        for layer in self.layers:
            x = layer(x)
        return self.norm(x)


class FoldedSight(nn.Module):
    """One layer of the tower: norms without affine, one matrix for queries, keys and values."""

    def __init__(self, layer: SiglipLayer, rows: int) -> None:
        super().__init__()
        self.heads, self.eps, self.size = layer.heads, layer.enter.eps, layer.out.in_features // layer.heads
        parts = [_behind(layer.enter, p) for p in (layer.query, layer.key, layer.value)]
        parts[0] = (parts[0][0] * self.size**-0.5, parts[0][1] * self.size**-0.5)
        self.mix = PackedLinear(torch.cat([w for w, _ in parts]), torch.cat([b for _, b in parts]), rows=rows)
        self.out = PackedLinear(layer.out.weight, layer.out.bias, rows=rows)
        self.up = PackedLinear(*_behind(layer.middle, layer.up), rows=rows, activation="gelu_tanh")
        self.down = PackedLinear(layer.down.weight, layer.down.bias, rows=rows)

    def forward(self, x: Tensor) -> Tensor:
        normed = nn.functional.layer_norm(x, x.shape[-1:], eps=self.eps)
        queries, keys, values = self.mix(normed).unflatten(-1, (3, self.heads, self.size)).permute(2, 0, 3, 1, 4)
        found = nn.functional.scaled_dot_product_attention(queries, keys, values, scale=1.0)
        x = self.out.plus(found.transpose(1, 2).flatten(2), x)
        normed = nn.functional.layer_norm(x, x.shape[-1:], eps=self.eps)
        return self.down.plus(self.up(normed), x)


class FoldedLayer(nn.Module):
    """A layer of the decoder or of the expert; where it crosses it makes queries alone.

    Args:
        rows: tokens of a call, a hint for the layout of the weights.
        apart: as `FoldedMLP` takes it.
    """

    def __init__(self, layer: DecoderLayer | ExpertLayer, rows: int, *, apart: bool) -> None:
        super().__init__()
        attention, feed = layer.attention, layer.feed
        shape = attention.shape
        self.crosses = isinstance(layer, ExpertLayer) and layer.crosses
        self.kv_heads, self.group, self.size = shape.kv_heads, shape.heads // shape.kv_heads, shape.head_width
        self.eps = eps_of(layer.enter)
        before, between = scale_of(layer.enter), scale_of(layer.middle)
        queries = attention.query.weight * shape.head_width**-0.5
        parts = [queries] if self.crosses else [queries, attention.key.weight, attention.value.weight]
        self.mix = PackedLinear(torch.cat(parts) * before, None, rows=rows)
        self.out = PackedLinear(attention.out.weight, None, rows=rows)
        self.mlp = FoldedMLP(feed, between, rows, apart=apart)

    def project(self, x: Tensor, by: Rotation) -> tuple[Tensor, Tensor, Tensor]:
        """Normed [B N D] → queries [B K G·N E], grouped by key-value head, and keys and values [B K N E] of x."""
        k, g = self.kv_heads, self.group
        mixed = self.mix(x).unflatten(-1, (-1, self.size)).transpose(1, 2)
        turned = rotate(mixed[:, : k * g if self.crosses else k * (g + 1)], by)
        queries = turned[:, : k * g].unflatten(1, (k, g)).flatten(2, 3)
        return queries, turned[:, k * g :], mixed[:, k * (g + 1) :]

    def attend(self, queries: Tensor, keys: Tensor, values: Tensor, bias: Tensor | None) -> Tensor:
        """[B K G·N E] to [B K M E] → [B N Q·E]; bias: [B 1 1 N M], 0 or −1e30. Keys are not copied for each head."""
        scores = (queries @ keys.transpose(-1, -2)).unflatten(2, (self.group, -1))
        if bias is not None:
            scores = scores + bias
        found = scores.float().softmax(-1).to(values.dtype).flatten(2, 3) @ values
        return found.unflatten(2, (self.group, -1)).permute(0, 3, 1, 2, 4).flatten(2)

    def norm(self, x: Tensor) -> Tensor:
        return nn.functional.rms_norm(x, x.shape[-1:], eps=self.eps)


class FoldedMLP(nn.Module):
    """`GatedMLP` behind a folded norm.

    Args:
        apart: gate and up stay two matrices where a kernel multiplies their results itself; one is better where a
            compiler does, or nothing.
    """

    def __init__(self, feed: GatedMLP, scale: Tensor | float, rows: int, *, apart: bool) -> None:
        super().__init__()
        self.activation: Activation = "gelu_tanh" if feed.family == "gemma" else "silu"
        gate, up = feed.gate.weight * scale, feed.up.weight * scale
        self.down = PackedLinear(feed.down.weight, None, rows=rows)
        if apart and can_pack(gate):
            self.gate = PackedLinear(gate, None, rows=rows, activation=self.activation)
            self.up = PackedLinear(up, None, rows=rows)
        else:
            self.gate = PackedLinear(torch.cat([gate, up]), None, rows=rows)
            self.up = None

    def forward(self, x: Tensor, onto: Tensor | None) -> Tensor:
        """[B N D] → what the MLP adds to `onto`, and that sum; the change alone where `onto` is None."""
        if self.up is not None:
            inner = self.up.times(x, self.gate(x))
        else:
            gate, up = self.gate(x).chunk(2, -1)
            inner = activated(gate, self.activation) * up
        return self.down(inner) if onto is None else self.down.plus(inner, onto)


def bias_of(attend: Tensor) -> Tensor:
    """bool [B N M] → float [B 1 1 N M] that is added to scores; −1e30 keeps a row of nothing finite."""
    return torch.where(attend, 0.0, -1e30)[:, None, None]


def _behind(norm: nn.LayerNorm, linear: nn.Linear) -> tuple[Tensor, Tensor]:
    """Weight and bias of `linear` with the norm's affine before it folded in."""
    return linear.weight * norm.weight, _bias(linear) + linear.weight @ norm.bias


def _bias(layer: nn.Linear | nn.Conv2d) -> Tensor:
    assert layer.bias is not None
    return layer.bias


def scale_of(norm: nn.Module) -> Tensor | float:
    return norm.scale() if isinstance(norm, RMSNorm) else 1.0


def eps_of(norm: nn.Module) -> float:
    assert isinstance(norm, RMSNorm | ModulatedNorm)
    return norm.eps


def _each(modules: nn.ModuleList, kind: type[T]) -> list[T]:
    return [m for m in modules if isinstance(m, kind)]
