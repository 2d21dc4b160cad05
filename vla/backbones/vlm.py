"""A vision-language model composed of a tower, a connector and a language model.

Layout of a prefix: the tokens of each camera in order, those of extra modalities, then the words.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor, nn

from ..errors import SpecError
from .base import VLM, Connector, LanguageModel, Sequenced, Tokens, VisionTower
from .fusion import Fusion, joined
from .language.tokenizers import Tokenizer
from .modalities import Modality, ModalityDropout
from .towers.conditioned import ConditionedTower

TEXT = "text"
Direction = Literal["causal", "bidirectional"]


class Composition(VLM):
    """What compositions share: one tower for all cameras, its connector, the words, and extra modalities.

    Attributes:
        vision, connector, tokenizer: the parts.
        attention: among the tokens of a prefix.
        modalities: name → module that makes tokens of its features.
    """

    attention: Direction = "causal"

    def __init__(
        self,
        *,
        vision: VisionTower,
        connector: Connector,
        language: LanguageModel,
        tokenizer: Tokenizer,
        cameras: Sequence[str] | None,
        modalities: Mapping[str, Callable[..., Modality]] | None,
        dropout: ModalityDropout | None,
        bos: bool,
    ) -> None:
        super().__init__()
        if tokenizer.vocabulary > language.vocabulary:
            raise SpecError(
                "The tokenizer has ids that the language model cannot embed",
                expected=f"at most {language.vocabulary} ids",
                got=str(tokenizer.vocabulary),
            )
        self.vision = vision
        self.connector = connector
        self.language = language
        self.tokenizer = tokenizer
        self.cameras = None if cameras is None else tuple(cameras)
        made = {name: modality(width=language.width) for name, modality in (modalities or {}).items()}
        self.modalities = nn.ModuleDict(made)
        self.dropout = dropout
        self.bos = bos
        width = vision.condition if isinstance(vision, ConditionedTower) else 0
        self.condition = nn.Linear(language.width, width) if width else None

    @abstractmethod
    def prefix(
        self,
        images: Mapping[str, Tensor],
        texts: Sequence[str],
        extra: Mapping[str, Tensor] | None = None,
        *,
        layers: bool = False,
    ) -> Sequenced: ...

    @abstractmethod
    def read(self, tokens: Tokens, *, layers: bool = False) -> Sequenced:
        """Begin a sequence with the tokens of what is seen, without a word; more follows by `extend`."""

    @abstractmethod
    def bridges(self) -> tuple[nn.Module, ...]:
        """What joins tower and language model: the parts that stage 1 of LLaVA trains."""

    def see(self, images: Mapping[str, Tensor], told: Tokens | None = None) -> dict[str, Tokens]:
        """Camera → tokens [B M ·] of the connector's width; frames [B T h w 3] follow one another.

        Args:
            images: camera → uint8.
            told: the words, whose mean a tower that takes an instruction is conditioned on (RT-1).

        Raises:
            SpecError: where a camera is missing, or its images have another shape.
        """
        names = tuple(images) if self.cameras is None else self.cameras
        missing = [name for name in names if name not in images]
        if missing:
            raise SpecError(f"Camera '{missing[0]}' is missing", expected=", ".join(names), exists=list(images))
        return {name: whole(self._view(images[name], told)) for name in names}

    def sense(self, extra: Mapping[str, Tensor]) -> dict[str, Tokens]:
        """Extra modality → tokens [B N D], in the order the modalities were declared.

        Raises:
            SpecError: for a modality that nothing here makes tokens of.
        """
        unknown = [name for name in extra if name not in self.modalities]
        if unknown:
            raise SpecError(f"Nothing makes tokens of the modality '{unknown[0]}'", exists=list(self.modalities))
        return {name: whole(module(extra[name])) for name, module in self.modalities.items() if name in extra}

    def tell(self, texts: Sequence[str]) -> Tokens:
        """B strings → embedded words [B L D]."""
        ids, mask = self.tokenizer.encode(texts, bos=self.bos)
        device = next(self.language.parameters()).device
        return Tokens(self.language.embed(ids.to(device)), mask.to(device))

    def hide(self, parts: Mapping[str, Tokens]) -> dict[str, Tokens]:
        """Modality dropout, in training."""
        return dict(parts) if self.dropout is None else self.dropout(parts)

    def _view(self, images: Tensor, told: Tokens | None) -> Tensor:
        if images.ndim not in (4, 5) or images.shape[-1] != 3:
            raise SpecError(
                "Images have the wrong shape", expected="[B h w 3] or [B T h w 3]", got=str(list(images.shape))
            )
        frames = images.flatten(0, 1) if images.ndim == 5 else images
        if self.condition is not None and told is not None and isinstance(self.vision, ConditionedTower):
            condition = self.condition(mean(told)).repeat_interleave(len(frames) // len(images), 0)
            found = self.vision.conditioned(frames, condition)
        else:
            found = self.vision(frames)
        tokens = self.connector(found, self.vision.grid(frames.shape[1], frames.shape[2]))
        return tokens.reshape(len(images), -1, self.connector.width)


class ComposedVLM(Composition):
    """Tower × connector × language model, as LLaVA (Liu et al. 2023) and PaliGemma (Beyer et al. 2024) compose them.

    Args:
        vision: one tower, shared by all cameras.
        connector: class or partial; `source` (the tower's width) and `width` (the language model's) are filled in here.
        language, tokenizer: the decoder, and what turns strings into its ids.
        cameras: names in the order of the prefix; None takes all that are given, in the order they are given.
        attention: "causal", or "bidirectional" among all tokens of the prefix (prefix-LM).
        modalities: extra modality → class or partial of what makes tokens of it; `width` is filled in here.
        fusion: class or partial that makes one sequence of cameras and extra modalities; `width` is filled in here.
            None lays them one behind the other.
        dropout: hides whole modalities in training.
        bos: begin the words with the tokenizer's `bos`.
    """

    def __init__(
        self,
        *,
        vision: VisionTower,
        connector: Callable[..., Connector],
        language: LanguageModel,
        tokenizer: Tokenizer,
        cameras: Sequence[str] | None = None,
        attention: Direction = "causal",
        modalities: Mapping[str, Callable[..., Modality]] | None = None,
        fusion: Callable[..., Fusion] | None = None,
        dropout: ModalityDropout | None = None,
        bos: bool = False,
    ) -> None:
        super().__init__(
            vision=vision,
            connector=connector(source=vision.width, width=language.width),
            language=language,
            tokenizer=tokenizer,
            cameras=cameras,
            modalities=modalities,
            dropout=dropout,
            bos=bos,
        )
        self.attention = attention
        self.fusion = None if fusion is None else fusion(width=language.width)

    def prefix(
        self,
        images: Mapping[str, Tensor],
        texts: Sequence[str],
        extra: Mapping[str, Tensor] | None = None,
        *,
        layers: bool = False,
    ) -> Sequenced:
        return self.read(self.embed(images, texts, extra), layers=layers)

    def embed(
        self, images: Mapping[str, Tensor], texts: Sequence[str], extra: Mapping[str, Tensor] | None = None
    ) -> Tokens:
        """The embeddings [B N D] that `read` runs the decoder over."""
        told = self.tell(texts)
        parts = self.hide({**self.see(images, told), **self.sense(extra or {}), TEXT: told})
        told = parts.pop(TEXT)
        if self.fusion is None or not parts:
            return joined((*parts.values(), told))
        return joined((self.fusion(parts), told))

    def read(self, tokens: Tokens, *, layers: bool = False) -> Sequenced:
        """Run the decoder over embeddings that begin a sequence; padding takes no position and is not attended to."""
        attend = among(tokens.mask, causal=self.attention == "causal")
        return replace(self.language(tokens.values, attend, places(tokens.mask), layers=layers), mask=tokens.mask)

    def bridges(self) -> tuple[nn.Module, ...]:
        return (self.connector,)


def whole(values: Tensor) -> Tokens:
    """Tokens [B N D] that are all real."""
    return Tokens(values, torch.ones(values.shape[:2], dtype=torch.bool, device=values.device))


def mean(tokens: Tokens) -> Tensor:
    """[B N D] → [B D], over real tokens."""
    weight = tokens.mask[..., None].to(tokens.values.dtype)
    return (tokens.values * weight).sum(1) / weight.sum(1).clamp(min=1)


def places(mask: Tensor) -> Tensor:
    """bool [B N] → int [B N]: positions that count real tokens alone."""
    return (mask.long().cumsum(1) - 1).clamp(min=0)


def among(mask: Tensor, *, causal: bool) -> Tensor:
    """bool [B N] → bool [B N N]: what tokens of a sequence may attend to among themselves."""
    count = mask.shape[1]
    attend = mask[:, None].expand(-1, count, -1)
    if causal:
        attend = attend & torch.ones(count, count, dtype=torch.bool, device=mask.device).tril()
    return attend
