"""A word-level text encoder: learned vectors of a vocabulary that travels in the checkpoint's recipe."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from .text import TextEncoder

_TOKEN = re.compile(r"\w+|[^\w\s]")
PAD, UNKNOWN = 0, 1


def tokenize(text: str) -> list[str]:
    """Lower-case words and punctuation marks."""
    return _TOKEN.findall(text.lower())


def vocabulary(texts: Iterable[str], least: int = 2) -> tuple[str, ...]:
    """The tokens that occur at least `least` times, most frequent first."""
    counts = Counter(token for text in texts for token in tokenize(text))
    return tuple(sorted((t for t, n in counts.items() if n >= least), key=lambda t: (-counts[t], t)))


class WordEncoder(TextEncoder):
    """One learned vector per word of a vocabulary, one for all others, plus one per position.

    Args:
        words: the vocabulary; see `vocabulary`.
        width: D.
        length: tokens beyond it are cut off.
        forget: in training, the share of words replaced by the unknown one, so that it learns to mean something.
    """

    def __init__(self, *, words: Sequence[str], width: int = 128, length: int = 80, forget: float = 0.05) -> None:
        super().__init__()
        self.width, self.length, self.forget = width, length, forget
        self._index = {word: i + 2 for i, word in enumerate(words)}
        self.vectors = nn.Embedding(len(words) + 2, width, padding_idx=PAD)
        self.positions = nn.Parameter(torch.randn(length, width) * 0.02)

    def forward(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        rows = [[self._index.get(t, UNKNOWN) for t in tokenize(text)[: self.length]] or [UNKNOWN] for text in texts]
        size = max(len(row) for row in rows)
        ids = torch.tensor([row + [PAD] * (size - len(row)) for row in rows], device=self.positions.device)
        mask = ids != PAD
        if self.training and self.forget:
            ids = torch.where(mask & (torch.rand(ids.shape, device=ids.device) < self.forget), UNKNOWN, ids)
        return self.vectors(ids) + self.positions[:size], mask
