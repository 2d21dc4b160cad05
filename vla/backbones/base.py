"""What towers, connectors, language models and whole backbones promise to each other and to a head.

Shape legend: B batch, N tokens, D token width, K key-value heads, E width of a head, C channels, L words, V vocabulary,
h w pixels.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
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


class VisionTower(nn.Module, ABC):
    """Maps images to tokens, row by row from the top left; scaling and normalisation of pixels are its own matter.

    Attributes:
        width: D.
    """

    width: int

    @abstractmethod
    def forward(self, images: Tensor) -> Tensor:
        """uint8 [B h w 3] → float [B N D], N as `grid` says."""

    @abstractmethod
    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of tokens for an image of that size; their product is N."""


class Connector(nn.Module, ABC):
    """Maps a tower's tokens to tokens of a language model's width.

    Constructors take `source` (width of what comes) and `width` as keywords, so that a composition can fill them in.

    Attributes:
        width: D of the tokens it gives.
    """

    width: int

    @abstractmethod
    def forward(self, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        """[B N source] → [B M D]; grid: rows and columns of the N tokens."""

    @abstractmethod
    def count(self, grid: tuple[int, int]) -> int:
        """M for a grid."""


KeysValues = tuple[tuple[Tensor, Tensor], ...]
"""Keys and values [B K N E] of each layer, positions already applied. Never changed in place."""

Between = Callable[[int, Tensor], Tensor]
"""(index i of a layer, hidden states [B N D] before it) → what the layer reads; i = depth is before the last norm."""


@dataclass(frozen=True)
class Sequenced:
    """What a decoder computed for N tokens.

    Args:
        hidden: float [B N D], after the last norm.
        mask: bool [B N], True where a token is real.
        positions: int [B N], or [B N 3] where a model counts time, rows and columns apart.
        keys_values: of these tokens alone, not of what they attended to.
        layers: hidden states [B N D] before each layer, where asked for; else empty.
        seen: image tokens [B M C] that all that follows attends to by cross-attention; None where there are none, or
            where they stand in the sequence.
    """

    hidden: Tensor
    mask: Tensor
    positions: Tensor
    keys_values: KeysValues
    layers: tuple[Tensor, ...] = ()
    seen: Tokens | None = None


class LanguageModel(nn.Module, ABC):
    """A decoder over embeddings, with attention, positions and cache in the caller's hands.

    Attributes:
        width: D; depth: layers; heads, kv_heads, head_width: of its attention; vocabulary: V.
    """

    width: int
    depth: int
    heads: int
    kv_heads: int
    head_width: int
    vocabulary: int

    @abstractmethod
    def embed(self, ids: Tensor) -> Tensor:
        """int [B N] → float [B N D], scaled as the model scales its own embeddings."""

    @abstractmethod
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
        """Run the decoder over embeddings.

        Args:
            x: [B N D]; positions: int [B N] (or [B N 3] where the model takes it).
            attend: bool [B N P + N], True where a token may attend to the P of the past and to the N present.
            past: keys and values of P tokens, read and not changed.
            layers: also return the hidden states before each layer.
            between: changes hidden states between layers (gated cross-attention, Flamingo; DeepStack, Qwen3-VL).
        """

    @abstractmethod
    def logits(self, hidden: Tensor) -> Tensor:
        """[… D] → [… V]."""


class VLM(nn.Module, ABC):
    """Reads cameras and words once; heads attend to what it found.

    Attributes:
        language: the decoder; `prefix` gives its keys and values.
    """

    language: LanguageModel

    @abstractmethod
    def prefix(
        self,
        images: Mapping[str, Tensor],
        texts: Sequence[str],
        extra: Mapping[str, Tensor] | None = None,
        *,
        layers: bool = False,
    ) -> Sequenced:
        """Hidden states, mask and keys and values of what is seen and told.

        Args:
            images: camera → uint8 [B h w 3] (or [B T h w 3] where a camera gives T frames).
            texts: B strings.
            extra: modality → float [B M ·] features (state, depth, audio) that enter as tokens (PaLM-E, Driess 2023).
        """

    def extend(
        self,
        prefix: Sequenced,
        x: Tensor,
        *,
        mask: Tensor | None = None,
        causal: bool = True,
        layers: bool = False,
    ) -> Sequenced:
        """More tokens [B N D] behind a prefix, which stays as it is; causal among themselves, or all to all."""
        batch, count = x.shape[:2]
        real = torch.ones(batch, count, dtype=torch.bool, device=x.device) if mask is None else mask
        own = real[:, None].expand(-1, count, -1)
        if causal:
            own = own & torch.ones(count, count, dtype=torch.bool, device=x.device).tril()
        attend = torch.cat([prefix.mask[:, None].expand(-1, count, -1), own], -1)
        positions = self.next_position(prefix)[:, None] + real.long().cumsum(1) - 1
        past, between = prefix.keys_values, self.between(prefix)
        found = self.language(x, attend, positions.clamp(min=0), past, layers=layers, between=between)
        return replace(found, mask=real)

    def between(self, prefix: Sequenced) -> Between | None:
        """What changes hidden states between layers behind this prefix; None where nothing does."""
        return None

    @staticmethod
    def next_position(prefix: Sequenced) -> Tensor:
        """int [B]: one beyond the last real position, of all axes where there are several."""
        places = prefix.positions if prefix.positions.ndim == 2 else prefix.positions.amax(-1)
        return places.masked_fill(~prefix.mask, -1).amax(1) + 1
