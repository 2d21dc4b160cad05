"""From words to operations: the inverse of the grammar, through the words alone."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

from .grammar import place_names, thing_names
from .lexicon import Lexicon, Names, Template
from .lexicon_en import ENGLISH
from .program import InstructionError, Op, Place, Thing
from .shapes import SHAPES, build, slots_of

Tokens = tuple[str, ...]


def tokens(text: str) -> Tokens:
    """Words in lower case; punctuation marks are words of their own."""
    return tuple(re.sub(r"([,.;:!?])", r" \1 ", text.lower()).split())


class _Words:
    """Phrases of several words and what each means."""

    def __init__(self, table: Mapping[str, Names]) -> None:
        self._by_first: dict[str, list[tuple[Tokens, str]]] = {}
        for key, names in table.items():
            for name in dict.fromkeys((*names.training, *names.held_out)):
                phrase = tokens(name)
                self._by_first.setdefault(phrase[0], []).append((phrase, key))

    def at(self, said: Tokens, i: int) -> list[tuple[int, str]]:
        options = self._by_first.get(said[i], ()) if i < len(said) else ()
        return [(i + len(phrase), key) for phrase, key in options if said[i : i + len(phrase)] == phrase]


_SLOT = re.compile(r"(\{\w+\})")


def _pieces(text: str, names: Sequence[str]) -> tuple[tuple[str, Tokens], ...]:
    """A pattern as slots, under the names given for them in order, and literal words."""
    left = iter(names)
    out: list[tuple[str, Tokens]] = []
    for part in _SLOT.split(text):
        if part.startswith("{"):
            out.append((next(left), ()))
        elif part.strip():
            out.append(("", tokens(part)))
    return tuple(out)


class Parser:
    """The reader of one language: every way to split a text into clauses is tried, longest clauses first.

    Args:
        categories, kinds: things and rooms that the tables may not list.
    """

    def __init__(self, lexicon: Lexicon, categories: Iterable[str] = (), kinds: Iterable[str] = ()) -> None:
        self.lexicon = lexicon
        things = {c: thing_names(lexicon, c) for c in categories if c not in lexicon.things}
        places = {k: place_names(lexicon, k) for k in kinds if k not in lexicon.places}
        self.words = {
            "thing": _Words({**things, **lexicon.things}),
            "place": _Words({**places, **lexicon.places}),
            "colour": _Words(lexicon.colours),
            "direction": _Words(lexicon.directions),
            "level": _Words(lexicon.levels),
            "article": _Words({"": Names(lexicon.articles)}),
        }
        p = lexicon.patterns
        # What may stand for a symbol: patterns whose slots are symbols again.
        self.rules = {
            "noun": (
                _pieces(p["coloured"], self._named(p["coloured"], colour="colour", name="thing")),
                (("thing", ()),),
            ),
            "the_thing": (_pieces(p["thing"], ("noun",)),),
            "a_thing": (
                _pieces(p["a_thing"], self._named(p["a_thing"], article="article", noun="noun")),
                _pieces(p["some_things"], ("noun",)),
            ),
            "plain_place": (_pieces(p["place"], ("place",)),),
            "featured_place": (
                _pieces(p["feature"], self._named(p["feature"], place="plain_place", a_thing="a_thing")),
                (("plain_place", ()),),
            ),
            "the_place": (
                _pieces(p["level"], self._named(p["level"], place="featured_place", level="level")),
                (("featured_place", ()),),
            ),
        }
        self.fillers = frozenset(lexicon.fillers)
        self.clauses: dict[str, list[tuple[Template, tuple[tuple[str, Tokens], ...]]]] = {}
        for template in lexicon.templates:
            names = [self._symbol(written, name) for written, name, _ in slots_of(template)]
            pieces = _pieces(template.text, names)
            self.clauses.setdefault(pieces[0][1][0] if pieces[0][1] else "", []).append((template, pieces))

    @staticmethod
    def _named(pattern: str, **symbols: str) -> list[str]:
        return [symbols[name] for name in re.findall(r"\{(\w+)\}", pattern)]

    @staticmethod
    def _symbol(written: str, name: str) -> str:
        if written.startswith("{a_"):
            return "a_thing"
        return {"thing": "the_thing", "anchor": "the_thing", "place": "the_place", "beside": "the_place"}.get(
            name, "direction"
        )

    def read(self, text: str, *, strict: bool = True) -> tuple[Op, ...]:
        """The operations of a text.

        Args:
            strict: refuse a text with words that no clause explains; otherwise pass over them.

        Raises:
            InstructionError: nothing explains the words from some point on.
        """
        return _Reading(self, tokens(text), strict).ops()


class _Reading:
    """One text while it is read; what stands for a symbol at a word is worked out once."""

    def __init__(self, parser: Parser, said: Tokens, strict: bool) -> None:
        self._parser, self._said, self._strict = parser, said, strict
        self._known: dict[tuple[str, int], list[tuple[int, Any]]] = {}
        self._dead: set[int] = set()
        self._furthest = 0

    def ops(self) -> tuple[Op, ...]:
        found = self._rest(0)
        if found is None:
            raise InstructionError(
                "These words are not understood",
                expected=f"clauses of the tables of '{self._parser.lexicon.code}'",
                got=" ".join(self._said[self._furthest : self._furthest + 12]),
            )
        return tuple(found)

    def _rest(self, start: int) -> list[Op] | None:
        at = start
        while at < len(self._said) and self._said[at] in self._parser.fillers:
            at += 1
        self._furthest = max(self._furthest, at)
        if at == len(self._said):
            return []
        if start in self._dead:
            return None
        # A word that joins clauses may also begin one ("now that …").
        for i in range(start, at + 1):
            for end, ops in self._clauses(i):
                tail = self._rest(end)
                if tail is not None:
                    return [*ops, *tail]
        if not self._strict:
            return self._rest(at + 1)
        self._dead.add(start)
        return None

    def _clauses(self, at: int) -> list[tuple[int, tuple[Op, ...]]]:
        """What clauses begin at a word, longest first."""
        table = self._parser.clauses
        found: list[tuple[int, tuple[Op, ...]]] = []
        for template, pieces in (*table.get(self._said[at], ()), *table.get("", ())):
            for end, values in self._match(pieces, at):
                filled: list[dict[str, Any]] = [{} for _ in template.shapes]
                for (_, name, op), value in zip(slots_of(template), values, strict=True):
                    filled[op][name] = value
                found.append((end, tuple(build(SHAPES[s], v) for s, v in zip(template.shapes, filled, strict=True))))
        return sorted(found, key=lambda f: -f[0])

    def _match(self, pieces: Sequence[tuple[str, Tokens]], at: int) -> list[tuple[int, tuple[Any, ...]]]:
        found: list[tuple[int, tuple[Any, ...]]] = [(at, ())]
        for symbol, literal in pieces:
            if literal:
                n = len(literal)
                found = [(i + n, values) for i, values in found if self._said[i : i + n] == literal]
            else:
                found = [(j, (*values, v)) for i, values in found for j, v in self._symbol(symbol, i)]
            if not found:
                break
        return found

    def _symbol(self, symbol: str, at: int) -> list[tuple[int, Any]]:
        """Ends and meanings of what may stand for a symbol at a word."""
        if (symbol, at) not in self._known:
            words = self._parser.words.get(symbol)
            if words is not None:
                self._known[symbol, at] = words.at(self._said, at)
            else:
                rules = self._parser.rules[symbol]
                self._known[symbol, at] = [
                    (end, self._mean(symbol, pieces, values))
                    for pieces in rules
                    for end, values in self._match(pieces, at)
                ]
        return self._known[symbol, at]

    @staticmethod
    def _mean(symbol: str, pieces: Sequence[tuple[str, Tokens]], values: Sequence[Any]) -> Any:
        slots = dict(zip((s for s, literal in pieces if not literal), values, strict=True))
        if symbol == "noun":
            return Thing(slots["thing"], slots.get("colour", ""))
        if symbol == "plain_place":
            return Place(slots["place"])
        if symbol == "featured_place" and "a_thing" in slots:
            return Place(slots["plain_place"].kind, slots["a_thing"])
        if symbol == "the_place" and "level" in slots:
            inner = slots["featured_place"]
            return Place(inner.kind, inner.feature, int(slots["level"]))
        return values[-1]


@cache
def _parser(lexicon: Lexicon, categories: tuple[str, ...], kinds: tuple[str, ...]) -> Parser:
    return Parser(lexicon, categories, kinds)


def parse(
    text: str,
    *,
    lexicon: Lexicon = ENGLISH,
    categories: Iterable[str] = (),
    kinds: Iterable[str] = (),
    strict: bool = True,
) -> tuple[Op, ...]:
    """The operations that a text tells; see `Parser`."""
    unlisted = tuple(sorted(set(categories) - set(lexicon.things)))
    rooms = tuple(sorted(set(kinds) - set(lexicon.places)))
    return _parser(lexicon, unlisted, rooms).read(text, strict=strict)
