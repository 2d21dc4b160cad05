"""Pictures with words: what image–text training, its data and its evaluation exchange."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from .errors import DataError


@dataclass(frozen=True)
class Question:
    """A question about a picture.

    Args:
        kind: topic, and after a slash its form; answers are balanced within a kind, figures reported by topic.
    """

    question: str
    answer: str
    kind: str = "question"

    @property
    def topic(self) -> str:
        return self.kind.partition("/")[0]


@dataclass(frozen=True)
class Texts:
    """All that is said about one picture.

    Args:
        captions: sentences that are true of it.
        facts: what there is in it, e.g. `"small red cube"`; a caption's words are held against them.
        extras: JSON values of whoever made it.
    """

    captions: tuple[str, ...]
    questions: tuple[Question, ...] = ()
    facts: tuple[str, ...] = ()
    extras: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """JSON types; see `from_dict`."""
        asked = [[q.question, q.answer, q.kind] for q in self.questions]
        return {"captions": list(self.captions), "questions": asked, "facts": list(self.facts), "extras": self.extras}

    @classmethod
    def from_dict(cls, record: Mapping[str, Any], where: str) -> Texts:
        """Read a record of a file; unknown keys are left alone.

        Raises:
            DataError: naming `where`, if a value has the wrong type or nothing is said.
        """
        captions, asked = record.get("captions", record.get("caption", [])), record.get("questions", [])
        captions = [captions] if isinstance(captions, str) else captions
        if not _strings(captions) or not isinstance(asked, list) or not (captions or asked):
            raise DataError(
                f"{where} says nothing that can be learned from",
                expected='"captions": [text, …] or "questions": [[question, answer, kind], …]',
                got=f"keys {sorted(record)}",
            )
        for question in asked:
            if not _strings(question) or len(question) not in (2, 3):
                raise DataError(
                    f"{where} has a malformed question", expected="[question, answer, kind]", got=repr(question)
                )
        facts = record.get("facts", [])
        if not _strings(facts):
            raise DataError(f"{where} has malformed facts", expected="a list of strings", got=repr(facts))
        return cls(tuple(captions), tuple(Question(*q) for q in asked), tuple(facts), dict(record.get("extras", {})))


def _strings(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(v, str) for v in value)


class Pairs(Protocol):
    """A set of pictures with texts, read at random."""

    def __len__(self) -> int: ...

    def images(self, indices: Sequence[int]) -> np.ndarray:
        """uint8 [n h w 3]."""
        ...

    def texts(self, index: int) -> Texts: ...
