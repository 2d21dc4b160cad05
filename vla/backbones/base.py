"""What every backbone gives to a head: a fixed number of tokens that summarise what is seen, felt and asked.

Shape legend: B batch, N tokens, D token width, K pooling heads, C channels, L words, h w pixels.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn


@dataclass(frozen=True)
class Tokens:
    """values: float [B N D]; mask: bool [B N], True where a token is real."""

    values: Tensor
    mask: Tensor


class Backbone(nn.Module, ABC):
    """Maps cameras, state and instruction to tokens.

    Attributes:
        width: D.
        count: N, fixed per model so that heads may flatten.
    """

    width: int
    count: int

    @abstractmethod
    def forward(self, images: Mapping[str, Tensor], state: Tensor, instructions: Sequence[str]) -> Tokens:
        """images: camera → uint8 [B h w 3]; state: float [B S], normalised; instructions: B strings."""


class PureModule(nn.Module):
    """A module whose forward is tensor arithmetic alone, so that `torch.compile` may fuse it as a whole."""
