"""Words with the seconds in which they were spoken, as RxR and RxR-CE hold them (Ku et al. 2020)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...vla.navigation import TimedWord
from .fields import Fields


def decode_words(item: Fields, name: str = "timed_instruction") -> tuple[TimedWord, ...]:
    """The words of a field; some have no times, which RxR's authors say is so."""
    return tuple(
        TimedWord(
            word.text("word"),
            word.number("start_time") if word.has("start_time") else None,
            word.number("end_time") if word.has("end_time") else None,
        )
        for word in item.objects(name)
    )


def encode_words(words: Sequence[TimedWord]) -> list[dict[str, Any]]:
    """As a file holds them; times that are not known are left out."""
    made: list[dict[str, Any]] = []
    for word in words:
        item: dict[str, Any] = {} if word.start is None else {"start_time": word.start}
        item["word"] = word.word
        made.append(item if word.end is None else item | {"end_time": word.end})
    return made
