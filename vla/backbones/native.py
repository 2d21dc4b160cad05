"""A vision-language model whose parts are all plain PyTorch, laid out as SmolVLA and π0 read one.

Layout of a prefix: the tokens of each camera in order, the words, then the state. Images and words attend to each
other both ways; the state attends to all of them and they do not attend to it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from ..errors import SpecError
from .base import VLM, Connector, Sequenced
from .decoder import Decoder
from .language.tokenizers import Tokenizer
from .siglip import SiglipTower, letterbox

STATE = "state"


@dataclass(frozen=True)
class Prefix:
    """Embeddings of a prefix and who may attend to whom.

    Args:
        values: float [B N D].
        mask: bool [B N], True where a token is real.
        attend: bool [B N N].
        positions: int [B N], counting real tokens alone.
    """

    values: Tensor
    mask: Tensor
    attend: Tensor
    positions: Tensor


class NativeVLM(VLM):
    """SigLIP × connector × decoder (SmolVLM, Marafioti et al. 2025; PaliGemma, Beyer et al. 2024).

    Args:
        vision: the tower, shared by all cameras.
        connector: class or partial; the widths are filled in here.
        language: the decoder.
        tokenizer: turns strings into its ids.
        state: length the state is padded to, which enters as one token; 0 takes no state.
        words: every instruction takes this many tokens, as a captured graph needs; None pads to the longest.
        scaling: what is multiplied by √D before the decoder: "all" (SmolVLA: images and words), or "words" as the
            family says (Gemma scales its words, Llama nothing).
    """

    def __init__(
        self,
        *,
        vision: SiglipTower,
        connector: Callable[..., Connector],
        language: Decoder,
        tokenizer: Tokenizer,
        state: int = 0,
        words: int | None = None,
        scaling: Literal["all", "words"] = "words",
    ) -> None:
        super().__init__()
        self.vision = vision
        self.connector = connector(source=vision.width, width=language.width)
        self.language = language
        self.tokenizer = tokenizer
        self.words = words
        self.scaling: Literal["all", "words"] = scaling
        self.state = nn.Linear(state, language.width) if state else None

    def prefix(
        self,
        images: Mapping[str, Tensor],
        texts: Sequence[str],
        extra: Mapping[str, Tensor] | None = None,
        *,
        layers: bool = False,
    ) -> Sequenced:
        """As the base class says; `extra` is {"state": [B S]} or [B 1 S] where the model takes one, padded here."""
        ids, mask = self.tell(texts)
        pixels = torch.stack([self.pixels(view) for view in images.values()], 1)
        return self.read(self.embed(pixels, ids, mask, self._state(extra or {})), layers=layers)

    @property
    def decoder(self) -> Decoder:
        """The language model as what it is here."""
        assert isinstance(self.language, Decoder)
        return self.language

    def tell(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """B strings → ids and mask [B L] on this model's device."""
        ids, mask = self.tokenizer.encode(texts, length=self.words)
        device = self.decoder.words.weight.device
        return ids.to(device), mask.to(device)

    def pixels(self, images: Tensor) -> Tensor:
        """uint8 [B h w 3] → float [B 3 size size] in [−1, 1]."""
        return letterbox(images, self.vision.size)

    def embed(self, pixels: Tensor, ids: Tensor, mask: Tensor, state: Tensor | None) -> Prefix:
        """Tensors alone: float [B C 3 size size], int and bool [B L], float [B S] → the prefix.

        Cameras pass the tower together, whatever their number.
        """
        batch, cameras = pixels.shape[:2]
        seen = self.connector(self.vision.read(pixels.flatten(0, 1)), self.vision.grid(0, 0))
        seen = seen.unflatten(0, (batch, cameras)).flatten(1, 2)
        words = self.language.embed(ids)
        if self.scaling == "all":
            root = self.language.width**0.5
            seen, words = seen * root, words * root
        parts = [seen, words]
        if self.state is not None and state is not None:
            parts.append(self.state(state)[:, None])
        real = [torch.ones(batch, p.shape[1], dtype=torch.bool, device=ids.device) for p in parts]
        real[1] = mask
        block = [torch.full((p.shape[1],), int(i == 2), device=ids.device) for i, p in enumerate(parts)]
        return Prefix(torch.cat(parts, 1), *blockwise(torch.cat(real, 1), torch.cat(block)))

    def read(self, prefix: Prefix, *, layers: bool = False) -> Sequenced:
        """Run the decoder over a prefix."""
        done = self.language(prefix.values, prefix.attend, prefix.positions, layers=layers)
        return Sequenced(done.hidden, prefix.mask, done.positions, done.keys_values, done.layers)

    def _state(self, extra: Mapping[str, Tensor]) -> Tensor | None:
        wanted = {STATE} if self.state is not None else set[str]()
        if set(extra) != wanted:
            raise SpecError(
                "The extra modalities are not those the model was made for",
                expected=", ".join(sorted(wanted)) or "none",
                got=", ".join(sorted(extra)) or "none",
            )
        if self.state is None:
            return None
        state = extra[STATE] if extra[STATE].ndim == 2 else extra[STATE][:, 0]
        return padded(state, self.state.in_features)


def blockwise(mask: Tensor, block: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mask, attention [B N N] and positions [B N] of a block-causal sequence (π0, Black et al. 2024).

    Tokens attend to all real ones of their own and of earlier blocks; every token attends to itself, since the softmax
    of padding must be over something.

    Args:
        mask: bool [B N], True where a token is real.
        block: int [N], not falling.
    """
    own = torch.eye(len(block), dtype=torch.bool, device=mask.device)
    attend = mask[:, None, :] & (block[None, :] <= block[:, None]) | own
    return mask, attend, (mask.long().cumsum(1) - 1).clamp(min=0)


def padded(values: Tensor, size: int) -> Tensor:
    """[… S] → [… size] with zeros; `SpecError` where the body has more elements than the model has room for."""
    if values.shape[-1] > size:
        raise SpecError(
            "The body has more elements than the model has room for", expected=f"≤ {size}", got=str(values.shape[-1])
        )
    return nn.functional.pad(values, (0, size - values.shape[-1]))
