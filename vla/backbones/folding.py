"""Load-time folding: fewer, larger matrices that give the same numbers.

Scales of norms, the scale of attention and biases of norms go into the weights behind them; queries, keys and values
become one matrix, as do gate and up. Equal to the plain modules up to the rounding of one matrix product.

Shape legend: B batch, N tokens, M tokens attended to, D width, Q query heads, K key-value heads, E width of a head.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

from .base import PureModule
from .decoder import DecoderLayer, Family, RMSNorm, Rotation, rotate
from .expert import ExpertLayer, ModulatedNorm
from .packed import Activation, PackedLinear, activated, can_pack
from .siglip import SiglipLayer, SiglipTower

T = TypeVar("T")


@dataclass(frozen=True)
class FoldedWeights:
    """Of one layer, float [out in] and [out].

    Args:
        mix: makes queries, then keys, then values; queries alone where the layer crosses.
        out: behind the attention.
        up: of the MLP; where it is gated, the gate's rows come first.
        down: behind it.
        mix_bias, out_bias, up_bias, down_bias: None where there is none.
    """

    mix: Tensor
    out: Tensor
    up: Tensor
    down: Tensor
    mix_bias: Tensor | None = None
    out_bias: Tensor | None = None
    up_bias: Tensor | None = None
    down_bias: Tensor | None = None


def fold_sight(layer: SiglipLayer) -> FoldedWeights:
    """Behind norms without affine, before attention without a scale."""
    parts = [_behind(layer.enter, p) for p in (layer.query, layer.key, layer.value)]
    scale = (layer.out.in_features // layer.heads) ** -0.5
    parts[0] = (parts[0][0] * scale, parts[0][1] * scale)
    up, up_bias = _behind(layer.middle, layer.up)
    return FoldedWeights(
        mix=torch.cat([w for w, _ in parts]),
        mix_bias=torch.cat([b for _, b in parts]),
        out=layer.out.weight,
        out_bias=layer.out.bias,
        up=up,
        up_bias=up_bias,
        down=layer.down.weight,
        down_bias=layer.down.bias,
    )


def fold_layer(layer: DecoderLayer | ExpertLayer) -> FoldedWeights:
    """As `fold_sight`; modulated norms have no scale of their own."""
    attention, feed = layer.attention, layer.feed
    queries = attention.query.weight * attention.shape.head_width**-0.5
    crosses = isinstance(layer, ExpertLayer) and layer.crosses
    parts = [queries] if crosses else [queries, attention.key.weight, attention.value.weight]
    return FoldedWeights(
        mix=torch.cat(parts) * scale_of(layer.enter),
        out=attention.out.weight,
        up=torch.cat([feed.gate.weight, feed.up.weight]) * scale_of(layer.middle),
        down=feed.down.weight,
    )


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
        folded = fold_sight(layer)
        self.mix = PackedLinear(folded.mix, folded.mix_bias, rows=rows)
        self.out = PackedLinear(folded.out, folded.out_bias, rows=rows)
        self.up = PackedLinear(folded.up, folded.up_bias, rows=rows, activation="gelu_tanh")
        self.down = PackedLinear(folded.down, folded.down_bias, rows=rows)

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
        shape, folded = layer.attention.shape, fold_layer(layer)
        self.crosses = isinstance(layer, ExpertLayer) and layer.crosses
        self.kv_heads, self.group, self.size = shape.kv_heads, shape.heads // shape.kv_heads, shape.head_width
        self.eps = eps_of(layer.enter)
        self.mix = PackedLinear(folded.mix, None, rows=rows)
        self.out = PackedLinear(folded.out, None, rows=rows)
        self.mlp = FoldedMLP(folded, layer.feed.family, rows, apart=apart)

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
    """The gated MLP behind a folded norm.

    Args:
        apart: gate and up stay two matrices where a kernel multiplies their results itself; one is better where a
            compiler does, or nothing.
    """

    def __init__(self, folded: FoldedWeights, family: Family, rows: int, *, apart: bool) -> None:
        super().__init__()
        self.activation: Activation = "gelu_tanh" if family == "gemma" else "silu"
        gate, up = folded.up.chunk(2)
        self.down = PackedLinear(folded.down, None, rows=rows)
        if apart and can_pack(gate):
            self.gate = PackedLinear(gate, None, rows=rows, activation=self.activation)
            self.up = PackedLinear(up, None, rows=rows)
        else:
            self.gate = PackedLinear(folded.up, None, rows=rows)
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
