"""Making one sequence of several modalities: side by side, gated, by cross-attention, or through a bottleneck.

Axis legend: B batch, N tokens of a modality, D width.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from ..errors import ConfigError, SpecError
from .attention import Attention, EncoderLayer, FeedForward
from .base import Tokens


def joined(parts: Iterable[Tokens]) -> Tokens:
    """Tokens one behind the other, in the type of the last."""
    parts = tuple(parts)
    dtype = parts[-1].values.dtype
    return Tokens(torch.cat([p.values.to(dtype) for p in parts], 1), torch.cat([p.mask for p in parts], 1))


class Fusion(nn.Module, ABC):
    """Makes one sequence of the tokens of several modalities, all of width D.

    Constructors take `width` as a keyword, so that a composition can fill it in.
    """

    @abstractmethod
    def forward(self, parts: Mapping[str, Tokens]) -> Tokens:
        """Modality → tokens [B N D]; raises `SpecError` where one that is needed is missing."""


class ConcatFusion(Fusion):
    """One behind the other, each with a learned vector that says what it is.

    Args:
        width: D.
        names: the modalities that may come.
    """

    def __init__(self, *, width: int, names: Sequence[str]) -> None:
        super().__init__()
        self.names = tuple(names)
        self.kinds = nn.Parameter(torch.zeros(len(self.names), width))

    def forward(self, parts: Mapping[str, Tokens]) -> Tokens:
        _require(parts, self.names, all_of=False)
        return joined(Tokens(p.values + self.kinds[self.names.index(n)], p.mask) for n, p in parts.items())


class GatedFusion(Fusion):
    """Token by token a weighted sum, the weights a softmax over the modalities that are there
    (gated multimodal unit, Arevalo et al. 2017). All modalities have equally many tokens.

    Args:
        width: D.
        names: the modalities.
    """

    def __init__(self, *, width: int, names: Sequence[str]) -> None:
        super().__init__()
        self.names = tuple(names)
        self.gates = nn.ModuleDict({name: nn.Linear(width, width) for name in self.names})

    def forward(self, parts: Mapping[str, Tokens]) -> Tokens:
        _require(parts, self.names, all_of=True)
        counts = {name: parts[name].mask.shape[1] for name in self.names}
        if len(set(counts.values())) != 1:
            raise SpecError("Gated fusion needs equally many tokens of each modality", got=str(counts))
        values = torch.stack([parts[name].values for name in self.names])
        masks = torch.stack([parts[name].mask for name in self.names])
        scores = torch.stack([self.gates[name](parts[name].values) for name in self.names])
        # Where no modality is there the token is masked, and an even mixture keeps it finite.
        absent = ~masks & masks.any(0)
        weights = scores.masked_fill(absent[..., None], float("-inf")).softmax(0)
        return Tokens((weights * values).sum(0), masks.any(0))


class CrossAttentionFusion(Fusion):
    """One modality's tokens attend to all others'; theirs alone go on.

    Args:
        width: D.
        main: the modality whose tokens go on.
        depth, heads: of the layers, each cross-attention and feed-forward, pre-norm.
        dropout: within the layers.
    """

    def __init__(self, *, width: int, main: str, depth: int = 1, heads: int = 8, dropout: float = 0.0) -> None:
        super().__init__()
        self.main = main
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(depth))
        self.others = nn.LayerNorm(width)
        self.attentions = nn.ModuleList(Attention(width, heads) for _ in range(depth))
        self.feeds = nn.ModuleList(FeedForward(width, dropout) for _ in range(depth))

    def forward(self, parts: Mapping[str, Tokens]) -> Tokens:
        _require(parts, (self.main,), all_of=True, only=False)
        x, mask = parts[self.main].values, parts[self.main].mask
        rest = [p for name, p in parts.items() if name != self.main]
        if not rest:
            return parts[self.main]
        around = joined(rest)
        context = self.others(around.values)
        for norm, attention, feed in zip(self.norms, self.attentions, self.feeds, strict=True):
            assert isinstance(attention, Attention)
            x = x + attention(norm(x), attention.project(context), around.mask)
            x = x + feed(x)
        return Tokens(x, mask)


class BottleneckFusion(Fusion):
    """Modalities keep to themselves and talk through a few shared tokens, averaged over them after each layer
    (attention bottlenecks, Nagrani et al. 2021).

    Args:
        width: D.
        names: the modalities, each with layers of its own.
        queries: shared bottleneck tokens.
        depth, heads: of each modality's transformer.
        dropout: within the layers.
        only: pass on the bottleneck tokens alone; else they follow all others.
    """

    def __init__(
        self,
        *,
        width: int,
        names: Sequence[str],
        queries: int = 4,
        depth: int = 2,
        heads: int = 8,
        dropout: float = 0.0,
        only: bool = False,
    ) -> None:
        super().__init__()
        if queries < 1:
            raise ConfigError("A bottleneck needs a token", expected="queries ≥ 1", got=str(queries))
        self.names, self.depth, self.only = tuple(names), depth, only
        self.shared = nn.Parameter(torch.randn(queries, width) * 0.02)
        self.layers = nn.ModuleDict(
            {name: nn.ModuleList(EncoderLayer(width, heads, dropout) for _ in range(depth)) for name in self.names}
        )

    def forward(self, parts: Mapping[str, Tokens]) -> Tokens:
        _require(parts, self.names, all_of=False)
        first = next(iter(parts.values()))
        shared = self.shared.to(first.values.dtype).expand(len(first.values), -1, -1)
        real = torch.ones(shared.shape[:2], dtype=torch.bool, device=shared.device)
        own = dict(parts)
        for i in range(self.depth):
            said: list[Tensor] = []
            for name, part in own.items():
                x = joined((part, Tokens(shared, real)))
                layers = self.layers[name]
                assert isinstance(layers, nn.ModuleList)
                y = layers[i](x.values, x.mask)
                count = part.mask.shape[1]
                own[name] = Tokens(y[:, :count], part.mask)
                said.append(y[:, count:])
            shared = torch.stack(said).mean(0)
        bottleneck = Tokens(shared, real)
        return bottleneck if self.only else joined((*own.values(), bottleneck))


def _require(parts: Mapping[str, Tokens], names: Sequence[str], *, all_of: bool, only: bool = True) -> None:
    missing = [name for name in names if name not in parts] if all_of else []
    unknown = [name for name in parts if name not in names] if only else []
    if missing or unknown or not parts:
        what = f"'{missing[0]}' is missing" if missing else f"'{unknown[0]}' is unknown" if unknown else "None came"
        raise SpecError(f"A modality does not fit the fusion: {what}", expected=", ".join(names), exists=list(parts))
