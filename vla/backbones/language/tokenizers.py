"""Tokenizers: text to ids and back. Bytes and words need no pretrained files; the third is a model's own.

Shape legend: B batch, L tokens.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...errors import ConfigError
from ..hub import load_tokenizer
from ..words import tokenize


class Tokenizer(ABC):
    """Text to ids and back.

    Attributes:
        vocabulary: number of ids.
        pad: the id that fills rows; its mask is False.
        bos, eos: ids that begin and end a text; None where the model has none.
    """

    vocabulary: int
    pad: int
    bos: int | None
    eos: int | None

    @abstractmethod
    def ids(self, text: str) -> list[int]:
        """The ids of a text alone, without beginning and end."""

    @abstractmethod
    def text(self, ids: Sequence[int]) -> str:
        """The text of ids, none of which is `pad`, `bos` or `eos`."""

    def encode(
        self, texts: Sequence[str], *, bos: bool = False, eos: bool = False, length: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """B texts → int64 ids [B L] and bool mask [B L], filled up at the end; L ≥ 1.

        Args:
            bos, eos: begin or end each text with that id, where the model has one.
            length: exactly this L; longer texts lose their end (not their `eos`). Else that of the longest text.
        """
        start = [self.bos] if bos and self.bos is not None else []
        end = [self.eos] if eos and self.eos is not None else []
        rows = [self.ids(text) for text in texts]
        if length is not None:
            room = length - len(start) - len(end)
            if room < 0:
                raise ConfigError("There is no room for a text", expected="length ≥ 1 + bos + eos", got=str(length))
            rows = [row[:room] for row in rows]
        rows = [start + row + end for row in rows]
        size = length if length is not None else max([1, *(len(row) for row in rows)])
        ids = torch.full((len(rows), size), self.pad, dtype=torch.long)
        mask = torch.zeros(len(rows), size, dtype=torch.bool)
        for i, row in enumerate(rows):
            ids[i, : len(row)] = torch.tensor(row, dtype=torch.long)
            mask[i, : len(row)] = True
        return ids, mask

    def decode(self, ids: Tensor) -> list[str]:
        """int [B L] → B texts, each up to its first `eos`."""
        return [self.text(self._content(row)) for row in ids.tolist()]

    def _content(self, row: Iterable[int]) -> list[int]:
        content: list[int] = []
        for i in row:
            if i == self.eos:
                break
            if i not in (self.pad, self.bos):
                content.append(i)
        return content


class ByteTokenizer(Tokenizer):
    """UTF-8 bytes (ByT5, Xue et al. 2022): 259 ids, any text, nothing to fit or to download."""

    def __init__(self) -> None:
        self.vocabulary, self.bos, self.eos, self.pad = 259, 256, 257, 258

    def ids(self, text: str) -> list[int]:
        return list(text.encode("utf-8"))

    def text(self, ids: Sequence[int]) -> str:
        return bytes(i for i in ids if i < 256).decode("utf-8", errors="replace")


class WordTokenizer(Tokenizer):
    """Lower-cased words and signs of a closed vocabulary; a word outside it is `[unk]`.

    Args:
        words: the vocabulary, without the four special ids; `WordTokenizer.fitted` takes them from texts.
    """

    SPECIAL = ("[pad]", "[bos]", "[eos]", "[unk]")

    def __init__(self, *, words: tuple[str, ...]) -> None:
        twice = sorted({w for w in words if words.count(w) > 1}) if len(set(words)) < len(words) else []
        odd = [w for w in words if tokenize(w) != [w]]
        if twice or odd:
            raise ConfigError(
                "A vocabulary holds each word once, lower-cased, without spaces", got=", ".join((twice + odd)[:8])
            )
        self.words = tuple(words)
        self._id = {w: i for i, w in enumerate((*self.SPECIAL, *words))}
        self.vocabulary, self.pad, self.bos, self.eos, self.unknown = len(self._id), 0, 1, 2, 3

    @classmethod
    def fitted(cls, texts: Iterable[str]) -> WordTokenizer:
        """The vocabulary of texts, in alphabetical order, so that their order does not matter."""
        return cls(words=tuple(sorted({word for text in texts for word in tokenize(text)})))

    def ids(self, text: str) -> list[int]:
        return [self._id.get(word, self.unknown) for word in tokenize(text)]

    def text(self, ids: Sequence[int]) -> str:
        names = (*self.SPECIAL, *self.words)
        joined = " ".join(names[i] for i in ids if i < len(names))
        return re.sub(r"\s+([.,;:?!])", r"\1", joined)


class PretrainedTokenizer(Tokenizer):
    """The tokenizer of a pretrained model.

    Args:
        source: its folder or hub id, checked by `hub.checked`.
        revision: of a hub id.
    """

    def __init__(self, *, source: str | Path, revision: str | None = None) -> None:
        self.source, self.revision = str(source), revision
        self._tokenizer: Any = load_tokenizer(source, revision)
        self.bos, self.eos = self._tokenizer.bos_token_id, self._tokenizer.eos_token_id
        pad = self._tokenizer.pad_token_id
        if pad is None:
            pad = self.eos if self.eos is not None else 0
        self.pad = pad
        self.vocabulary = len(self._tokenizer)

    def ids(self, text: str) -> list[int]:
        return list(self._tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])

    def text(self, ids: Sequence[int]) -> str:
        return self._tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)
