"""The action expert: a small decoder over action tokens that attends to what a vision-language model has read.

It shares attention with the language model layer by layer, not weights (π0, Black et al. 2024), or alternates such
layers with cross-attention to the language model's keys and values (SmolVLA, Shukor et al. 2025).

Shape legend: B batch, P tokens of the prefix, H action tokens, W width, K key-value heads, E width of a head.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..errors import ConfigError
from .base import KeysValues, LanguageModel, Sequenced
from .decoder import Family, GatedMLP, GroupedAttention, RMSNorm, Rotation, Shape, attention, rotation


@dataclass(frozen=True)
class PrefixCache:
    """What every denoising step reads of a prefix and no step changes.

    Args:
        keys_values: of each layer of the expert, [B K P E]; those of cross-attention are already projected.
        mask: bool [B P], True where a token is real.
        start: int [B], the position of the first action token.
    """

    keys_values: KeysValues
    mask: Tensor
    start: Tensor


class ModulatedNorm(nn.Module):
    """x / rms(x) · (1 + scale) + shift, and a gate for the residual, all made of a condition (adaRMS, π0.5, 2025).

    It starts with a closed gate, so that depth costs nothing at first (adaLN-Zero, Peebles and Xie 2023).
    """

    def __init__(self, width: int, eps: float, condition: int) -> None:
        super().__init__()
        self.eps = eps
        self.project = nn.Linear(condition, 3 * width)
        nn.init.zeros_(self.project.weight)
        nn.init.zeros_(self.project.bias)

    def forward(self, x: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        """x: [B H W]; condition: [B C], or [B H C], one for each token. Returns the modulated x and the gate."""
        condition = condition[:, None] if condition.ndim == 2 else condition
        scale, shift, gate = self.project(condition).chunk(3, -1)
        return nn.functional.rms_norm(x, x.shape[-1:], eps=self.eps) * (1 + scale) + shift, gate


class ExpertLayer(nn.Module):
    """Attention to the prefix (and, where it is shared, to the action tokens), then a gated MLP.

    Args:
        crosses: attend to the prefix alone, through projections of its keys and values.
        condition: width of what modulates the norms; 0 has plain norms.
    """

    def __init__(self, shape: Shape, family: Family, eps: float, *, crosses: bool, condition: int) -> None:
        super().__init__()
        self.crosses = crosses
        self.attention = GroupedAttention(shape, shape.kv_heads * shape.head_width if crosses else None)
        self.feed = GatedMLP(shape, family)
        self.enter, self.middle = (make_norm(shape.width, family, eps, condition) for _ in range(2))

    def context(self, keys_values: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """The language model's keys and values [B K P E] as this layer attends to them: once per prefix."""
        if not self.crosses:
            return keys_values
        keys, values = (x.transpose(1, 2).flatten(2) for x in keys_values)
        return self._heads(self.attention.key(keys)), self._heads(self.attention.value(values))

    def forward(
        self, x: Tensor, context: tuple[Tensor, Tensor], steps: Steps, condition: Tensor | None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """[B H W] → the same, and the keys and values the layer attended to."""
        normed, gate = normalize(self.enter, x, condition)
        keys, values = context
        if self.crosses:
            queries, attend = self.attention.queries(normed, steps.own), steps.across
        else:
            queries, attend = self.attention.queries(normed, steps.shared), steps.attend
            own = self.attention.keys_values(normed, steps.shared)
            keys, values = torch.cat([keys, own[0]], 2), torch.cat([values, own[1]], 2)
        x = residual(x, self.attention.out(attention(queries, keys, values, attend)), gate)
        normed, gate = normalize(self.middle, x, condition)
        return residual(x, self.feed(normed), gate), (keys, values)

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (-1, self.attention.shape.head_width)).transpose(1, 2).contiguous()


@dataclass(frozen=True)
class Steps:
    """Positions of the action tokens and what they may attend to, the same in every layer.

    Args:
        shared: rotation at positions behind the prefix.
        own: rotation at positions from 0, for cross-attention.
        attend: bool [B H P + H].
        across: bool [B H P].
    """

    shared: Rotation
    own: Rotation
    attend: Tensor
    across: Tensor


class ActionExpert(nn.Module):
    """Layers over action tokens, each attending to the language model's layer of the same depth.

    Args:
        language: the decoder whose keys and values are attended to; heads and their width are its own. Expert layer i
            of `depth` attends to its layer i · (its depth / depth).
        width, inner: W and the inner width of the MLPs.
        depth: layers; None is the language model's.
        alternate: n where only every n-th layer shares attention and the others cross; 0 where all share.
        condition: width of what modulates the norms (π0.5); 0 has plain norms.
        family, theta, eps: norm and activation, base of the rotary positions, of the norms.
    """

    def __init__(
        self,
        *,
        language: LanguageModel,
        width: int,
        inner: int,
        depth: int | None = None,
        alternate: int = 0,
        condition: int = 0,
        family: Family = "llama",
        theta: float = 10_000.0,
        eps: float = 1e-5,
    ) -> None:
        super().__init__()
        depth = depth or language.depth
        if language.depth % depth or alternate < 0:
            raise ConfigError(
                "The expert's layers do not fit the language model's",
                expected=f"a depth that divides {language.depth}, alternate ≥ 0",
                got=f"depth {depth}, alternate {alternate}",
            )
        self.width, self.stride, self.condition = width, language.depth // depth, condition
        self.head_width, self.theta = language.head_width, theta
        shape = Shape(width, language.heads, language.kv_heads, language.head_width, inner)
        self.layers = nn.ModuleList(
            ExpertLayer(shape, family, eps, crosses=bool(alternate and i % alternate), condition=condition)
            for i in range(depth)
        )
        self.norm = make_norm(width, family, eps, condition)

    def blocks(self) -> list[ExpertLayer]:
        """The layers as what they are."""
        return [layer for layer in self.layers if isinstance(layer, ExpertLayer)]

    def cache(self, prefix: Sequenced) -> PrefixCache:
        """What the denoising steps share: computed once per observation, read by every step."""
        chosen = prefix.keys_values[:: self.stride]
        keys_values = tuple(layer.context(kv) for layer, kv in zip(self.blocks(), chosen, strict=True))
        places = prefix.positions if prefix.positions.ndim == 2 else prefix.positions.amax(-1)
        start = places.masked_fill(~prefix.mask, -1).amax(1) + 1
        return PrefixCache(keys_values, prefix.mask, start)

    def extend(self, cache: PrefixCache, x: Tensor) -> PrefixCache:
        """Behind the prefix comes a block of tokens [B N W] which later ones attend to and which sees none of them.

        Since it does not see the actions it is the same in every denoising step (the state of π0).
        """
        if any(layer.crosses for layer in self.blocks()):
            raise ConfigError("Layers that cross attend to the language model's tokens alone", expected="alternate: 0")
        batch, count = x.shape[:2]
        own = torch.ones(count, count, dtype=torch.bool, device=x.device)
        keys_values = self._run(x, cache, own, None)[1]
        mask = torch.cat([cache.mask, cache.mask.new_ones(batch, count)], 1)
        return PrefixCache(keys_values, mask, cache.start + count)

    def forward(self, x: Tensor, cache: PrefixCache, own: Tensor, condition: Tensor | None = None) -> Tensor:
        """x: [B H W]; own: bool [H H], who attends to whom; condition: [B C] or [B H C]. Returns [B H W], normed."""
        hidden = self._run(x, cache, own, condition)[0]
        return normalize(self.norm, hidden, condition)[0]

    def _run(self, x: Tensor, cache: PrefixCache, own: Tensor, condition: Tensor | None) -> tuple[Tensor, KeysValues]:
        steps = self._steps(cache, own)
        seen: list[tuple[Tensor, Tensor]] = []
        for layer, context in zip(self.layers, cache.keys_values, strict=True):
            x, keys_values = layer(x, context, steps, condition)
            seen.append(keys_values)
        return x, tuple(seen)

    def _steps(self, cache: PrefixCache, own: Tensor) -> Steps:
        count = len(own)
        place = torch.arange(count, device=own.device)[None]
        across = cache.mask[:, None].expand(-1, count, -1)
        attend = torch.cat([across, own[None].expand(len(across), -1, -1)], -1)
        shared = rotation(cache.start[:, None] + place, self.head_width, self.theta)
        return Steps(shared, rotation(place, self.head_width, self.theta), attend, across)


def make_norm(width: int, family: Family, eps: float, condition: int) -> nn.Module:
    return ModulatedNorm(width, eps, condition) if condition else RMSNorm(width, eps, family)


def normalize(norm: nn.Module, x: Tensor, condition: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """The normalised x and the gate of what follows, None where it always passes."""
    if not isinstance(norm, ModulatedNorm):
        return norm(x), None
    if condition is None:
        raise ConfigError("An expert with modulated norms needs a condition", expected="float [B C]", got="None")
    return norm(x, condition)


def residual(x: Tensor, change: Tensor, gate: Tensor | None) -> Tensor:
    return x + change if gate is None else x + gate * change
