"""The tables a language is made of. English is in `lexicon_en`; another language is another `Lexicon`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Phrasing = Literal["training", "held_out"]


@dataclass(frozen=True)
class Names:
    """The words for one category, kind, colour or number.

    Args:
        training, held_out: alternatives of both phrasings; no held-out ones: the same words serve both.
        plural: whether they are plural nouns (`"curtains"`).
    """

    training: tuple[str, ...]
    held_out: tuple[str, ...] = ()
    plural: bool = False

    def of(self, phrasing: Phrasing) -> tuple[str, ...]:
        return self.held_out if phrasing == "held_out" and self.held_out else self.training


@dataclass(frozen=True)
class Template:
    """A clause with slots, for one operation or for a few that are said in one breath.

    Args:
        id: unique in the lexicon.
        shapes: the shape of each operation it tells, as `grammar.shape` names them.
        text: words and slots: `{thing}`, `{a_thing}`, `{place}`, `{direction}`, `{side}`, …; a digit at the end of a
            slot says which operation it belongs to (none: the first that has such a field).
        verb: the word that carries it.
        phrasing: drawn for training or held out.
        spoken: only for the register of spoken guides.
        alone: a sentence of its own, never joined with another clause.
        twice: for two turns to the same side, and for no others.
    """

    id: str
    shapes: tuple[str, ...]
    text: str
    verb: str
    phrasing: Phrasing
    spoken: bool = False
    alone: bool = False
    twice: bool = False


@dataclass(frozen=True, eq=False)
class Lexicon:
    """A language.

    Args:
        code: BCP 47 tag.
        things, places, colours, directions, levels: category, kind, … → its names.
        patterns: how a described thing or place is put together: `thing`, `a_thing`, `some_things`, `coloured`,
            `place`, `feature`, `level`.
        articles: the indefinite article before a consonant and before a vowel.
        templates: all clauses of all phrasings.
        joiners: between two clauses of a sentence.
        openers: before the first clause of a sentence that is not the first.
        fillers: words between clauses that a reader passes over.
    """

    code: str
    things: Mapping[str, Names]
    places: Mapping[str, Names]
    colours: Mapping[str, Names]
    directions: Mapping[str, Names]
    levels: Mapping[str, Names]
    patterns: Mapping[str, str]
    articles: tuple[str, str]
    templates: tuple[Template, ...]
    joiners: tuple[str, ...]
    openers: tuple[str, ...]
    fillers: tuple[str, ...]
