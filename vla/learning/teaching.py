"""Distillation as objectives of pretraining: trained models as teachers, or a peer that learns at the same time.

Shape legend: n texts, L words, V vocabulary, M tokens of a picture, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from .. import checkpoint
from ..backbones.base import Connector, LanguageModel, VisionTower
from ..backbones.objectives import Objective, Seen, dialogue, select
from ..backbones.vlm import ComposedVLM, Composition
from ..config import instantiate
from ..errors import CheckpointError, ConfigError
from .distill import Distillation, mutual

Words = Literal["captions", "answers", "both"]
"""Which texts are learned."""

Said = tuple[Tensor, Tensor]
"""Next-word logits [n L−1 V], and bool [n L−1] where the word that follows is one to learn."""


class TaughtObjective(Objective):
    """What one or several trained models would say next, and how they see, for a student to follow.

    The teachers are no part of the student's checkpoint; only training it further needs them where they were.

    Args:
        vlm: the student.
        teachers: runs of `wayhand pretrain` over the same vocabulary.
        weights: of each teacher; by default all count the same.
        temperature: T of the distributions.
        logits, features: weights of the divergence of words and of the difference of pooled picture features.
        kind: how features are compared; see `FeatureMatching`.
        words: which texts are compared.
    """

    def __init__(
        self,
        *,
        vlm: Composition,
        teachers: Sequence[Path],
        weights: Sequence[float] | None = None,
        temperature: float = 2.0,
        logits: float = 1.0,
        features: float = 0.0,
        kind: Literal["mse", "cosine", "relation"] = "mse",
        words: Words = "both",
    ) -> None:
        super().__init__()
        if not teachers:
            raise ConfigError("Distillation needs a teacher", run="objectives.taught.teachers=[RUN]")
        self.paths = tuple(Path(path) for path in teachers)
        # In a tuple: neither trained with the student nor saved with it.
        self._models: tuple[Composition, ...] = ()
        self.words: Words = words
        self.distillation = Distillation(
            temperature=temperature,
            logits=logits,
            features=features,
            teachers=weights,
            kind=kind,
            width=vlm.language.width,
            teacher_widths=[model.language.width for model in self.models()] if features else (),
        )

    def models(self) -> tuple[Composition, ...]:
        """The teachers, loaded when they are first needed: a student that only answers does without them."""
        if not self._models:
            self._models = tuple(load_teacher(path) for path in self.paths)
        return self._models

    def forward(self, seen: Seen) -> Tensor:
        device = seen.images.device
        views = [beside(seen, model.to(device)) for model in self.models()]
        with torch.no_grad():
            told = [said(view, self.words) for view in views]
            pooled = [view.prefix.hidden.mean(1) for view in views]
        logits, learned = said(seen, self.words)
        for view, (others, _) in zip(views, told, strict=True):
            if others.shape != logits.shape or not torch.equal(view.told[0], seen.told[0]):
                raise ConfigError(
                    "A teacher reads the captions as other words than the student does",
                    expected="the same tokenizer and vocabulary",
                    run="train both on the same data with the same tokenizer",
                )
        targets = [other[learned] for other, _ in told]
        divergence, _ = self.distillation.words(logits[learned], targets)
        return divergence + self.distillation.sights(seen.prefix.hidden.mean(1), pooled)


class MutualObjective(Objective):
    """A peer of another shape learns the same, and each follows what the other says (Zhang et al. 2018).

    Args:
        vlm: the student.
        vision: the peer's tower; connector, language: class or partial of its other parts, whose widths and vocabulary
            are filled in here. It shares the student's tokenizer.
        temperature: T of the distributions.
        weight: of the divergences, beside the peer's own loss on the words.
        words: which texts are learned.
    """

    def __init__(
        self,
        *,
        vlm: Composition,
        vision: VisionTower,
        connector: Callable[..., Connector],
        language: Callable[..., LanguageModel],
        temperature: float = 1.0,
        weight: float = 1.0,
        words: Words = "both",
    ) -> None:
        super().__init__()
        self.temperature, self.weight = temperature, weight
        self.words: Words = words
        self.peer = ComposedVLM(
            vision=vision,
            connector=connector,
            language=language(vocabulary=vlm.language.vocabulary),
            tokenizer=vlm.tokenizer,
            attention=vlm.attention,
            bos=vlm.bos,
        )

    def forward(self, seen: Seen) -> Tensor:
        view = beside(seen, self.peer)
        (own, learned), (others, _) = said(seen, self.words), said(view, self.words)
        follows = following(view, self.words)
        alone = nn.functional.cross_entropy(others[learned].float(), follows[learned])
        return alone + self.weight * torch.stack(mutual([own[learned], others[learned]], self.temperature)).sum()


def load_teacher(path: Path) -> Composition:
    """The model of a finished run, without gradients; raises `CheckpointError` where the run holds none."""
    from .pretraining import Pretrainer

    loaded = checkpoint.load(path)
    found = instantiate(loaded.policy)
    if not isinstance(found, Pretrainer):
        raise CheckpointError(f"{path} is no teacher", expected="a run of `wayhand pretrain`", got=type(found).__name__)
    found.load_state_dict(loaded.weights("ema" if loaded.has("ema") else "model"))
    return found.vlm.eval().requires_grad_(False)


def beside(seen: Seen, vlm: Composition) -> Seen:
    """The same pictures and words through another model."""
    return Seen(vlm, seen.images, seen.captions, seen.questions, seen.answers, seen.about)


def texts(seen: Seen, words: Words) -> list[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Ids [n L], their mask, where the words to learn are, and int [n] the pictures they are about, of each kind."""
    found: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
    if words != "answers":
        ids, mask = seen.told
        found.append((ids, mask, mask, torch.arange(len(ids), device=ids.device)))
    if words != "captions" and seen.questions:
        found.append((*dialogue(seen.vlm, seen.questions, seen.answers), seen.about))
    return found


def said(seen: Seen, words: Words) -> Said:
    """What a model says next behind each picture, of all kinds of text together: [n·L V] and [n·L]."""
    vlm = seen.vlm
    logits: list[Tensor] = []
    learned: list[Tensor] = []
    for ids, mask, wanted, about in texts(seen, words):
        found = vlm.extend(select(seen.prefix, about), vlm.language.embed(ids[:, :-1]), mask=mask[:, :-1])
        logits.append(vlm.language.logits(found.hidden).flatten(0, 1))
        learned.append(wanted[:, 1:].flatten())
    return torch.cat(logits), torch.cat(learned)


def following(seen: Seen, words: Words) -> Tensor:
    """int [n·L]: the words that `said` is about."""
    return torch.cat([ids[:, 1:].flatten() for ids, _, _, _ in texts(seen, words)])
