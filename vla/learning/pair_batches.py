"""Batches of pictures with words, drawn from pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from ..errors import ConfigError
from ..pairs import Pairs, Place, Question
from .augment import augment, offsets_of
from .batch import Batch
from .curriculum import Curriculum

IMAGES, CAPTIONS, QUESTIONS, ANSWERS, ABOUT = "images", "captions", "questions", "answers", "about"
PHRASES, PLACES, POINTED = "phrases", "places", "pointed"
"""Keys of a batch: uint8 [B h w 3]; B strings; n strings each; int [n], the picture a question is about; p strings;
float [p 2], where each is; int [p], in which picture."""


class PairBatches:
    """Batches of pictures with words; each is a pure function of (seed, step, share of the run).

    Args:
        sources: name → pairs.
        batch_size: pictures.
        questions: asked about each picture that has that many.
        ask: topic → how much likelier than others it is asked about; 0 never.
        phrases: whose places are learned, of each picture that has that many.
        curriculum: what share of a batch comes from which source; None: by their sizes.
        shift, jitter: image augmentation; see `augment`. Places move with their picture.

    Raises:
        ConfigError: where the curriculum draws from a source that there is not.
    """

    def __init__(
        self,
        sources: Mapping[str, Pairs],
        *,
        batch_size: int,
        questions: int,
        seed: int,
        ask: Mapping[str, float] | None = None,
        curriculum: Curriculum | None = None,
        shift: int = 0,
        jitter: float = 0.0,
        phrases: int = 0,
    ) -> None:
        wanted = [] if curriculum is None else [name for name in curriculum.shares(0.0) if name not in sources]
        if wanted:
            raise ConfigError(
                f"The curriculum draws from a source that there is not: '{wanted[0]}'",
                exists=list(sources),
                run="curriculum=null, or rendered pictures of every number of things",
            )
        self._sources, self._size, self._questions, self._seed = dict(sources), batch_size, questions, seed
        self._phrases = phrases
        self._ask = dict(ask or {})
        self._curriculum, self._shift, self._jitter = curriculum, shift, jitter

    def __call__(self, step: int, share: float) -> Batch:
        rng = np.random.default_rng([self._seed, 21, step])
        images: list[np.ndarray] = []
        captions: list[str] = []
        asked: list[tuple[Question, int]] = []
        named: list[tuple[Place, int]] = []
        for name, count in self._counts(share, rng).items():
            pairs = self._sources[name]
            rows = [int(i) for i in rng.integers(len(pairs), size=count)]
            if rows:
                images.append(pairs.images(rows))
            for row in rows:
                texts, own = pairs.texts(row), len(captions)
                captions.append(texts.captions[int(rng.integers(len(texts.captions)))] if texts.captions else "")
                asked += [(texts.questions[i], own) for i in self._chosen(texts.questions, rng)]
                few = rng.permutation(len(texts.places))[: self._phrases]
                named += [(texts.places[i], own) for i in few]
        pictures = np.concatenate(images)
        places = np.array([(p.x, p.y) for p, _ in named], np.float32).reshape(-1, 2)
        pointed = np.array([i for _, i in named], np.int64)
        if self._shift or self._jitter:
            seed = int(rng.integers(2**31))
            pictures = augment(
                {_PICTURE: pictures}, seed, shift=self._shift, brightness=self._jitter, contrast=self._jitter
            )[_PICTURE]
            moved = offsets_of(_PICTURE, seed, len(pictures), self._shift)[:, ::-1] / pictures.shape[2:0:-1]
            places = (places + moved[pointed]).clip(0, 1).astype(np.float32)
        return {
            IMAGES: torch.from_numpy(pictures),
            CAPTIONS: captions,
            QUESTIONS: [q.question for q, _ in asked],
            ANSWERS: [q.answer for q, _ in asked],
            ABOUT: torch.tensor([i for _, i in asked], dtype=torch.long),
            PHRASES: [p.phrase for p, _ in named],
            PLACES: torch.from_numpy(places),
            POINTED: torch.from_numpy(pointed),
            "index": captions,
        }

    def _chosen(self, questions: Sequence[Question], rng: np.random.Generator) -> Sequence[int]:
        weights = np.array([self._ask.get(q.topic, 1.0) for q in questions])
        count = min(self._questions, int((weights > 0).sum()))
        return rng.choice(len(questions), count, replace=False, p=weights / weights.sum()).tolist() if count else []

    def _counts(self, share: float, rng: np.random.Generator) -> dict[str, int]:
        if self._curriculum is not None:
            return self._curriculum.counts(share, self._size)
        sizes = np.array([len(p) for p in self._sources.values()], np.float64)
        return dict(zip(self._sources, rng.multinomial(self._size, sizes / sizes.sum()).tolist(), strict=True))


_PICTURE = "observation.images.picture"
