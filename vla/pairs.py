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
class Place:
    """Where in a picture the one thing is that a phrase names: x and y from (0, 0), left and on top, to (1, 1)."""

    phrase: str
    x: float
    y: float


@dataclass(frozen=True)
class Texts:
    """All that is said about one picture.

    Args:
        captions: sentences that are true of it.
        facts: what there is in it, e.g. `"small red cube"`; a caption's words are held against them.
        extras: JSON values of whoever made it.
        places: where things are.
    """

    captions: tuple[str, ...]
    questions: tuple[Question, ...] = ()
    facts: tuple[str, ...] = ()
    extras: dict[str, Any] = field(default_factory=dict)
    places: tuple[Place, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """JSON types; see `from_dict`."""
        asked = [[q.question, q.answer, q.kind] for q in self.questions]
        found = {"captions": list(self.captions), "questions": asked, "facts": list(self.facts), "extras": self.extras}
        return found | ({"places": [[p.phrase, p.x, p.y] for p in self.places]} if self.places else {})

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
        return cls(
            tuple(captions),
            tuple(Question(*q) for q in asked),
            tuple(facts),
            dict(record.get("extras", {})),
            _places(record.get("places", []), where),
        )


def _places(listed: object, where: str) -> tuple[Place, ...]:
    found: list[Place] = []
    for entry in listed if isinstance(listed, list) else [listed]:
        match entry:
            case [str() as phrase, int() | float() as x, int() | float() as y] if 0 <= x <= 1 and 0 <= y <= 1:
                found.append(Place(phrase, float(x), float(y)))
            case _:
                raise DataError(f"{where} has a malformed place", expected="[phrase, x, y], 0 to 1", got=repr(entry))
    return tuple(found)


def _strings(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(v, str) for v in value)


class Pairs(Protocol):
    """A set of pictures with texts, read at random."""

    def __len__(self) -> int: ...

    def images(self, indices: Sequence[int]) -> np.ndarray:
        """uint8 [n h w 3]."""
        ...

    def texts(self, index: int) -> Texts: ...
