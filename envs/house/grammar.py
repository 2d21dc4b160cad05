"""From a program to words: a clause for each operation, clauses into sentences, every word tied to its operation."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Final

from .dice import Dice
from .lexicon import Lexicon, Names, Phrasing, Template
from .lexicon_en import ENGLISH
from .program import InstructionError, Place, Program, Step, Thing
from .shapes import shape_of, slot_values, slots_of


@dataclass(frozen=True)
class Word:
    """A word of a text (with its punctuation) and the position of its operation in the program."""

    text: str
    op: int


@dataclass(frozen=True)
class Realisation:
    """A program in words.

    Args:
        words: in order; joined by spaces they are `text`.
        templates: ids of the clauses, in order.
    """

    words: tuple[Word, ...]
    templates: tuple[str, ...]

    @property
    def text(self) -> str:
        return " ".join(word.text for word in self.words)

    @property
    def sentences(self) -> tuple[str, ...]:
        """The text, sentence by sentence."""
        out: list[list[str]] = [[]]
        for word in self.words:
            out[-1].append(word.text)
            if word.text.endswith("."):
                out.append([])
        return tuple(" ".join(words) for words in out if words)


@cache
def _by_shapes(lexicon: Lexicon) -> dict[tuple[tuple[str, ...], Phrasing], tuple[Template, ...]]:
    out: dict[tuple[tuple[str, ...], Phrasing], list[Template]] = {}
    for template in lexicon.templates:
        out.setdefault((template.shapes, template.phrasing), []).append(template)
    return {key: tuple(rows) for key, rows in out.items()}


def thing_names(lexicon: Lexicon, category: str) -> Names:
    """The nouns of a category; one the table does not list is said as it is spelled."""
    return lexicon.things.get(category) or Names((category.replace("_", " ").lower(),))


def place_names(lexicon: Lexicon, kind: str) -> Names:
    """The nouns of a kind of room; one the table does not list is said as it is spelled."""
    return lexicon.places.get(kind) or Names((kind.replace("_", " ").lower(),))


class _Speaker:
    """The choices of one text: a category keeps its noun, clauses do not repeat while there are others."""

    def __init__(self, lexicon: Lexicon, phrasing: Phrasing, dice: Dice, spoken: bool) -> None:
        self.lexicon, self.dice, self.spoken = lexicon, dice, spoken
        self.phrasing: Phrasing = phrasing
        self._nouns: dict[tuple[str, str], str] = {}
        self._used: Counter[str] = Counter()
        self.templates: list[str] = []

    def _name(self, table: str, key: str, names: Names) -> str:
        if (table, key) not in self._nouns:
            self._nouns[table, key] = self.dice.pick(names.of(self.phrasing))
        return self._nouns[table, key]

    def _noun(self, thing: Thing) -> tuple[str, bool]:
        names = thing_names(self.lexicon, thing.category)
        name = self._name("thing", thing.category, names)
        if not thing.colour:
            return name, names.plural
        colours = self.lexicon.colours.get(thing.colour) or Names((thing.colour,))
        colour = self._name("colour", thing.colour, colours)
        return self.lexicon.patterns["coloured"].format(colour=colour, name=name), names.plural

    def thing(self, thing: Thing) -> str:
        return self.lexicon.patterns["thing"].format(noun=self._noun(thing)[0])

    def a_thing(self, thing: Thing) -> str:
        noun, plural = self._noun(thing)
        article = self.lexicon.articles[noun[0] in "aeiou"]
        return self.lexicon.patterns["some_things" if plural else "a_thing"].format(noun=noun, article=article)

    def place(self, place: Place) -> str:
        patterns = self.lexicon.patterns
        said = patterns["place"].format(name=self._name("place", place.kind, place_names(self.lexicon, place.kind)))
        if place.feature is not None:
            said = patterns["feature"].format(place=said, a_thing=self.a_thing(place.feature))
        if place.level:
            level = self._name("level", str(place.level), self.lexicon.levels[str(place.level)])
            said = patterns["level"].format(place=said, level=level)
        return said

    def slot(self, name: str, value: Any) -> str:
        if name == "a_thing":
            return self.a_thing(value)
        if isinstance(value, Thing):
            return self.thing(value)
        if isinstance(value, Place):
            return self.place(value)
        return self.lexicon.directions[value].of(self.phrasing)[0]

    def template(self, shapes: tuple[str, ...], twice: bool = False) -> Template:
        rows = tuple(t for t in _by_shapes(self.lexicon).get((shapes, self.phrasing), ()) if t.twice == twice)
        if not rows:
            raise InstructionError(
                f"The language '{self.lexicon.code}' has no {self.phrasing} clause for this",
                got=" ".join(shapes),
                exists=sorted({" ".join(t.shapes) for t in self.lexicon.templates}),
            )
        spoken = [t for t in rows if t.spoken]
        if self.spoken and spoken and self.dice.chance(0.6):
            rows = tuple(spoken)
        elif not self.spoken:
            rows = tuple(t for t in rows if not t.spoken)
        weights = [0.3 ** (2 * self._used[t.id] + sum(self._used[v] for v in t.verb.split())) for t in rows]
        chosen = self.dice.weighted(rows, weights)
        self._used.update([chosen.id, *chosen.verb.split()])
        self.templates.append(chosen.id)
        return chosen


def has_clause(
    lexicon: Lexicon, shapes: tuple[str, ...], phrasing: Phrasing, *, spoken: bool = False, twice: bool = False
) -> bool:
    """Whether the language says these shapes in one clause; `twice`: two turns to the same side."""
    rows = _by_shapes(lexicon).get((shapes, phrasing), ())
    return any(t.twice == twice and (spoken or not t.spoken) for t in rows)


_IN_ONE_BREATH: Final = {
    "turn enter": 0.8, "turn pass": 0.5, "turn toward": 0.7, "turn forward": 0.8, "turn cross": 0.7, "pass turn": 0.4,
    "leave enter": 0.75, "leave turn": 0.35, "enter turn": 0.3, "pass enter": 0.4, "cross enter": 0.7,
    "forward enter": 0.7, "turn turn": 0.9, "slip turn": 0.7,
}  # fmt: skip
"""How often two operations are said in one clause."""
_SAME_PLACE: Final = frozenset({"enter", "pass", "toward", "forward", "cross"})
"""What a turn is said in one clause with only where it follows at once."""


def _together(first: Step, second: Step) -> float:
    """How often two operations are said in one clause."""
    pair = f"{first.op.kind} {second.op.kind}"
    apart = second.node - first.node
    if apart > 1 or (apart and first.op.kind == "turn" and second.op.kind in _SAME_PLACE):
        return 0.0
    return _IN_ONE_BREATH.get(pair, 0.0)


@cache
def _between_slots(template: Template) -> tuple[str, ...]:
    """The words before, between and after the slots, punctuation marks as words of their own."""
    return tuple(re.sub(r"([,.])", r" \1 ", piece) for piece in re.split(r"\{\w+\}", template.text))


def _clause(speaker: _Speaker, template: Template, steps: Sequence[Step], first: int) -> list[Word]:
    slots = slots_of(template)
    words: list[Word] = []

    def say(text: str, op: int) -> None:
        for token in text.split():
            if words and re.fullmatch(r"[,.]+", token):
                words[-1] = replace(words[-1], text=words[-1].text + token)
            else:
                words.append(Word(token, first + op))

    for i, piece in enumerate(_between_slots(template)):
        say(piece, slots[min(i, len(slots) - 1)][2] if slots else 0)
        if i < len(slots):
            written, name, op = slots[i]
            values = slot_values(steps[op].op)
            say(speaker.slot("a_thing" if written.startswith("{a_") else name, values[name]), op)
    return words


def _join(joiner: str, words: list[Word], clause: list[Word]) -> None:
    """Put a clause behind the words of a sentence."""
    tokens = joiner.split()
    if tokens and tokens[0] == ",":
        words[-1] = replace(words[-1], text=words[-1].text + ",")
        tokens = tokens[1:]
    words.extend(Word(token, clause[0].op) for token in tokens)
    words.extend(clause)


def _size(templates: Sequence[Template], dice: Dice) -> int:
    """How many clauses the next sentence has: a turn goes with the move after it rather than with another turn."""
    if templates[0].alone:
        return 1
    size, most = 1, dice.weighted((1, 2, 3), (0.3, 0.5, 0.2))
    while size < len(templates) and not templates[size].alone:
        ends_turning = _turns(templates[size - 1].shapes[-1])
        if ends_turning and _turns(templates[size].shapes[0]):
            break
        if size >= most and not (ends_turning and size < 3):
            break
        size += 1
    return size


def _turns(shape: str) -> bool:
    return shape.startswith("turn")


def _joiners(lexicon: Lexicon, dice: Dice, clauses: Sequence[tuple[Template, list[Word]]]) -> list[str]:
    """What joins the clauses of a sentence: no word twice where it can be helped, and a word before the last clause."""
    said = {j: frozenset(j.replace(",", "").split()) for j in lexicon.joiners}
    spoken = {t for _, words in clauses for w in words for t in w.text.strip(",").split()}
    used = frozenset(spoken & frozenset[str]().union(*said.values()))
    lasts = [j for j in said if said[j]]
    out: list[str] = []
    for _ in clauses[1:-1]:
        # It leaves a word for the last.
        fresh = [j for j in said if not said[j] & used and any(not said[k] & (used | said[j]) for k in lasts)]
        out.append(dice.pick(fresh or [j for j in said if not said[j]] or lasts))
        used |= said[out[-1]]
    return [*out, dice.pick([j for j in lasts if not said[j] & used] or lasts)] if len(clauses) > 1 else []


def _sentences(speaker: _Speaker, clauses: Sequence[tuple[Template, list[Word]]], separate: bool) -> list[Word]:
    dice, lexicon = speaker.dice, speaker.lexicon
    text: list[Word] = []
    at, opener = 0, ""
    while at < len(clauses):
        size = 1 if separate else _size([template for template, _ in clauses[at:]], dice)
        sentence: list[Word] = []
        if text and not clauses[at][0].alone and dice.chance(0.2):
            opener = dice.pick([o for o in lexicon.openers if o != opener])
            sentence = [Word(token, clauses[at][1][0].op) for token in opener.split()]
        sentence.extend(clauses[at][1])
        for i, joiner in zip(range(1, size), _joiners(lexicon, dice, clauses[at : at + size]), strict=False):
            _join(joiner.replace(",", " ,"), sentence, clauses[at + i][1])
        head = sentence[0]
        sentence[0] = replace(head, text=head.text[0].upper() + head.text[1:])
        tail = sentence[-1]
        sentence[-1] = replace(tail, text=tail.text + ".")
        text.extend(sentence)
        at += size
    return text


def realise(
    program: Program,
    seed: str,
    *,
    phrasing: Phrasing = "training",
    spoken: bool = False,
    separate: bool = False,
    lexicon: Lexicon = ENGLISH,
) -> Realisation:
    """Say a program.

    Args:
        seed: the same seed and program give the same words.
        phrasing: which alternatives of the tables are drawn.
        spoken: with the longer clauses of spoken guides (RxR).
        separate: every clause a sentence of its own (ALFRED's steps).

    Raises:
        InstructionError: an operation cannot be said.
    """
    dice = Dice(f"words {seed}")
    speaker = _Speaker(lexicon, phrasing, dice, spoken)
    clauses: list[tuple[Template, list[Word]]] = []
    at = 0
    while at < len(program):
        shapes: tuple[str, ...] = (shape_of(program[at].op),)
        twice = False
        if at + 1 < len(program) and dice.chance(_together(program[at], program[at + 1])):
            both = (*shapes, shape_of(program[at + 1].op))
            same = both == ("turn", "turn") and program[at].op == program[at + 1].op
            if has_clause(lexicon, both, phrasing, spoken=spoken, twice=same):
                shapes, twice = both, same
        template = speaker.template(shapes, twice)
        clauses.append((template, _clause(speaker, template, program[at : at + len(shapes)], at)))
        at += len(shapes)
    return Realisation(tuple(_sentences(speaker, clauses, separate)), tuple(speaker.templates))
