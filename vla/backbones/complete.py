"""Whole vision-language models of transformers behind the one interface that heads know.

Layout of a prefix: `head`, then for each camera `before`, its image tokens, `after`, then `words` with the text in it.

Shape legend: B batch, M image tokens, N tokens of the prefix, D width.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import SpecError
from .base import VLM, LanguageModel, Sequenced, Tokens
from .fusion import joined
from .hub import load_model
from .language.causal import TransformersLM
from .language.tokenizers import PretrainedTokenizer, Tokenizer
from .vlm import Direction, among, places, whole


@dataclass(frozen=True)
class Prompt:
    """The strings around images and words that a model was trained with.

    Args:
        head: before everything.
        before, after: around each camera's image tokens.
        words: around the text, which replaces `{}`.
    """

    head: str = ""
    before: str = ""
    after: str = ""
    words: str = "{}"

    def __post_init__(self) -> None:
        if self.words.count("{}") != 1:
            raise SpecError("A prompt has one place for the text", expected="one {}", got=repr(self.words))


@dataclass(frozen=True)
class View:
    """What a model saw in one image.

    Args:
        values: float [B M D], to be put into the sequence.
        grid: rows and columns of the M tokens.
        deep: float [B M D] each, to be added to the hidden states before layers 1, 2, … (DeepStack).
    """

    values: Tensor
    grid: tuple[int, int]
    deep: tuple[Tensor, ...] = ()


Segment = Tokens | View


class CompleteVLM(VLM):
    """What complete models share: the prompt, the words, and how segments become one sequence.

    Attributes:
        language: the decoder inside.
        attention: "causal" or "bidirectional" among the tokens of a prefix.
        first: position of the first token.
        standard: the prompt of the reference.

    Args:
        source, revision: folder or hub id, checked by `hub.checked`.
        tokenizer: None takes the model's own.
        prompt: the strings around images and words; None is that of the reference.
        cameras: names in the order of the prefix; None takes all that are given, in the order they are given.
        frozen: keep all weights as they are.
    """

    attention: Direction = "causal"
    first: int = 0
    standard: Prompt = Prompt()

    def __init__(
        self,
        *,
        source: str | Path,
        revision: str | None = None,
        tokenizer: Tokenizer | None = None,
        prompt: Prompt | None = None,
        cameras: Sequence[str] | None = None,
        frozen: bool = False,
    ) -> None:
        super().__init__()
        model = load_model(self.kind(), source, revision)
        self.language: LanguageModel = TransformersLM(decoder=self.take(model), head=model.lm_head)
        self.tokenizer = tokenizer or PretrainedTokenizer(source=source, revision=revision)
        self.prompt = prompt or self.standard
        self.cameras = None if cameras is None else tuple(cameras)
        self.frozen = frozen
        if frozen:
            self.requires_grad_(False)
            self.eval()

    @staticmethod
    @abstractmethod
    def kind() -> Any:
        """The class of transformers that loads the model."""

    @abstractmethod
    def take(self, model: Any) -> nn.Module:
        """Keep the parts of a model that make image tokens; returns the part that reads embeddings."""

    @abstractmethod
    def pixels(self, images: Tensor) -> Tensor:
        """uint8 [B h w 3] → what the model's vision part reads."""

    @abstractmethod
    def look(self, images: Tensor) -> View:
        """uint8 [B h w 3] → image tokens."""

    def prefix(
        self,
        images: Mapping[str, Tensor],
        texts: Sequence[str],
        extra: Mapping[str, Tensor] | None = None,
        *,
        layers: bool = False,
    ) -> Sequenced:
        """As the base class says; `extra` may hold tokens of this model's own width, which stand before the words.

        Raises:
            SpecError: where a camera is missing, or images or extra tokens have another shape.
        """
        segments = self.segments(images, texts, extra or {})
        tokens = joined(whole(s.values) if isinstance(s, View) else s for s in segments)
        found = self.language(
            tokens.values,
            among(tokens.mask, causal=self.attention == "causal"),
            self.positions(segments, tokens.mask),
            layers=layers,
            between=deepened(segments),
        )
        return replace(found, mask=tokens.mask)

    def segments(
        self, images: Mapping[str, Tensor], texts: Sequence[str], extra: Mapping[str, Tensor]
    ) -> list[Segment]:
        """The parts of a prefix in their order."""
        names = tuple(images) if self.cameras is None else self.cameras
        missing = [name for name in names if name not in images]
        if missing:
            raise SpecError(f"Camera '{missing[0]}' is missing", expected=", ".join(names), exists=list(images))
        before, after = self._same(self.prompt.before, len(texts)), self._same(self.prompt.after, len(texts))
        parts: list[Segment] = self._same(self.prompt.head, len(texts))
        for name in names:
            for frame in frames(images[name]):
                parts += [*before, self.look(frame), *after]
        for name, values in extra.items():
            if values.ndim != 3 or values.shape[-1] != self.language.width:
                raise SpecError(
                    f"Tokens of '{name}' do not fit the model",
                    expected=f"[B M {self.language.width}]",
                    got=str(list(values.shape)),
                )
            parts.append(whole(values))
        return [*parts, self.tell([self.prompt.words.replace("{}", text) for text in texts])]

    def tell(self, texts: Sequence[str]) -> Tokens:
        """B strings → embedded words [B L D]."""
        ids, mask = self.tokenizer.encode(texts)
        device = next(self.language.parameters()).device
        return Tokens(self.language.embed(ids.to(device)), mask.to(device))

    def positions(self, segments: Sequence[Segment], mask: Tensor) -> Tensor:
        """int [B N], or [B N 3] where a model counts time, rows and columns apart."""
        return places(mask) + self.first

    def train(self, mode: bool = True) -> CompleteVLM:
        """A frozen model stays in evaluation mode."""
        super().train(mode and not self.frozen)
        return self

    def _same(self, text: str, batch: int) -> list[Segment]:
        if not text:
            return []
        told = self.tell([text])
        return [Tokens(told.values.expand(batch, -1, -1), told.mask.expand(batch, -1))]


def frames(images: Tensor) -> list[Tensor]:
    """[B h w 3] or [B T h w 3] → T tensors [B h w 3]."""
    if images.ndim not in (4, 5) or images.shape[-1] != 3:
        raise SpecError("Images have the wrong shape", expected="[B h w 3] or [B T h w 3]", got=str(list(images.shape)))
    return [images] if images.ndim == 4 else list(images.unbind(1))


def deepened(segments: Sequence[Segment]) -> Any:
    """What adds deep image features to the hidden states of image tokens behind the first layers; None without any
    (DeepStack, Meng et al. 2024)."""
    depth = max([len(s.deep) for s in segments if isinstance(s, View)], default=0)
    if not depth:
        return None
    added = [
        torch.cat([s.deep[i] if isinstance(s, View) else torch.zeros_like(s.values) for s in segments], 1)
        for i in range(depth)
    ]

    def between(layer: int, x: Tensor) -> Tensor:
        return x + added[layer - 1].to(x.dtype) if 1 <= layer <= depth else x

    return between
