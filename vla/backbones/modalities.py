"""What is neither image nor word enters as tokens of the language model's width; whole modalities may be dropped."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ..errors import ConfigError, SpecError
from .base import Tokens


class Modality(nn.Module, ABC):
    """Maps features of one modality to tokens.

    Constructors take `width` as a keyword, so that a composition can fill it in.

    Attributes:
        width: D.
    """

    width: int

    @abstractmethod
    def forward(self, features: Tensor) -> Tensor:
        """float [B M source] → [B N D]."""


class FeatureTokens(Modality):
    """One token per feature vector, through an MLP (PaLM-E, Driess et al. 2023: state, object and scene vectors).

    Args:
        source: length of a feature vector.
        width: D.
        hidden: width of the inner layer; 0 is a single linear layer.
    """

    def __init__(self, *, source: int, width: int, hidden: int = 0) -> None:
        super().__init__()
        self.width = width
        self.source = source
        layers: list[nn.Module] = [nn.Linear(hidden or source, width)]
        if hidden:
            layers = [nn.Linear(source, hidden), nn.GELU(), *layers]
        self.layers = nn.Sequential(*layers)

    def forward(self, features: Tensor) -> Tensor:
        if features.ndim != 3 or features.shape[-1] != self.source:
            raise SpecError(
                "Features of an extra modality have the wrong shape",
                expected=f"[B M {self.source}]",
                got=str(list(features.shape)),
            )
        return self.layers(features)


class ModalityDropout(nn.Module):
    """Hides whole modalities from some rows in training, so that a model can do without any one of them
    (ModDrop, Neverova et al. 2016).

    What is hidden is masked, not zeroed: nothing attends to it and it takes no position. A row never loses all.

    Args:
        rates: modality → probability in [0, 1): a camera's name, "text", or the name of an extra modality.
    """

    def __init__(self, *, rates: Mapping[str, float]) -> None:
        super().__init__()
        wrong = {name: rate for name, rate in rates.items() if not 0 <= rate < 1}
        if wrong:
            raise ConfigError("A modality's dropout rate is out of range", expected="[0, 1)", got=str(wrong))
        self.rates = dict(rates)

    def forward(self, parts: Mapping[str, Tokens]) -> dict[str, Tokens]:
        """Modality → tokens, with some masks cleared; unchanged in evaluation."""
        if not self.training or not parts:
            return dict(parts)
        first = next(iter(parts.values())).values
        rates = torch.tensor([self.rates.get(name, 0.0) for name in parts], device=first.device)
        keep = torch.rand(len(first), len(parts), device=first.device) >= rates
        there = torch.stack([tokens.mask.any(1) for tokens in parts.values()], 1)
        lost = ~(keep & there).any(1, keepdim=True)
        keep = keep | lost
        return {
            name: Tokens(tokens.values, tokens.mask & keep[:, i, None])
            for i, (name, tokens) in enumerate(parts.items())
        }
