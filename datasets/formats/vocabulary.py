"""Words as numbers, for VLN-CE's `instruction_tokens` and `instruction_vocab`."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

PAD, UNKNOWN = "<pad>", "<unk>"
LENGTH = 200
_APART = re.compile(r"([^\w-]+)")


def words(text: str) -> list[str]:
    """Words and punctuation in lower case, as VLN-CE's tokens have them: no commas, no question marks."""
    plain = text.lower().replace(",", "").replace("?", "")
    return [word for part in _APART.split(plain) if (word := part.strip())]


@dataclass(frozen=True)
class Vocabulary:
    """The words of a benchmark; a word's token is its place. The first two stand for padding and unknown words."""

    word_list: tuple[str, ...]

    @classmethod
    def of(cls, texts: Iterable[str], *, least: int = 1) -> Vocabulary:
        """The words that occur at least `least` times in `texts`, sorted."""
        counts = Counter(word for text in texts for word in words(text))
        return cls((PAD, UNKNOWN, *sorted(word for word, n in counts.items() if n >= least)))

    @classmethod
    def from_field(cls, field: Mapping[str, Any]) -> Vocabulary:
        """The vocabulary of a file's `instruction_vocab`."""
        return cls(tuple(field["word_list"]))

    @cached_property
    def tokens(self) -> dict[str, int]:
        """Word → token."""
        return {word: token for token, word in enumerate(self.word_list)}

    def encode(self, text: str, length: int = LENGTH) -> list[int]:
        """The tokens of a text, cut or padded to `length`."""
        unknown = self.tokens.get(UNKNOWN, 0)
        tokens = [self.tokens.get(word, unknown) for word in words(text)][:length]
        return tokens + [self.tokens.get(PAD, 0)] * (length - len(tokens))

    def to_field(self) -> dict[str, Any]:
        """As `instruction_vocab` holds it."""
        listed = list(self.word_list)
        return {
            "word_list": listed,
            "word2idx_dict": dict(self.tokens),
            "stoi": dict(self.tokens),
            "itos": list(listed),
            "num_vocab": len(listed),
            "UNK_INDEX": self.tokens.get(UNKNOWN),
            "PAD_INDEX": self.tokens.get(PAD),
        }
