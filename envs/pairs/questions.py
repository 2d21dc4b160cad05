"""Questions about a scene with one-word answers, drawn so that the words of a question tell little about its answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import combinations

import numpy as np

from ...vla.pairs import Question
from .captions import article
from .phrasings import WORDINGS
from .sample import MIDDLE, RELATIONS, beyond_middle, holds, region
from .things import AFFORDANCES, COLORS, KINDS, SIZES, USES, PairScene, Thing

TOPICS = (
    *("color", "kind", "size", "count", "existence", "affordance"),
    *("location", "side", "direction", "relation", "choice"),
)
PLURALS = {kind: kind + ("es" if kind.endswith(("s", "ch")) else "s") for kind in KINDS}
_MOST_COUNTED = 3
SHORT = {"left of": "left", "right of": "right", "in front of": "front", "behind": "behind"}
"""Relation → the word that answers where a thing is from another."""
SIDES = {
    "left of": "to the left",
    "right of": "to the right",
    "in front of": "to the front",
    "behind": "to the back",
}
"""Relation → the end at which the thing of two is that it holds of."""


def questions(scene: PairScene, seed: int, each: int = 3, *, held_out: bool = False) -> list[Question]:
    """About `each` questions a topic, a pure function of the seed; `held_out` phrasings or the others."""
    rng = np.random.default_rng([seed, 13])
    voice = np.random.default_rng([seed, 15, int(held_out)])
    found: list[Question] = []
    for make in (
        _attributes,
        _sizes,
        _counts,
        _locations,
        _sides,
        _directions,
        _relations,
        _choices,
        _existence,
        _uses,
    ):
        options = list(make(scene.things, scene, rng))
        topics = {form.partition("/")[0] for form, _, _ in options}
        for topic in sorted(topics):
            mine = [o for o in options if o[0].partition("/")[0] == topic]
            for i in rng.permutation(len(mine))[:each]:
                form, words, answer = mine[i]
                found.append(Question(WORDINGS[form].say(voice, words, held_out=held_out), answer, form))
    return found


Option = tuple[str, dict[str, str], str]


def _only(things: Sequence[Thing], key: Callable[[Thing], str]) -> Iterator[Thing]:
    """The things whose key no other has."""
    counts = Counter(map(key, things))
    return (t for t in things if counts[key(t)] == 1)


def _attributes(things: Sequence[Thing], scene: PairScene, rng: np.random.Generator) -> Iterator[Option]:
    for t in _only(things, lambda t: t.kind):
        yield "color", {"what": t.kind}, t.color
    for t in _only(things, lambda t: t.size + t.kind):
        yield "color/size", {"what": f"{t.size} {t.kind}"}, t.color
    for t in _only(things, lambda t: t.color):
        yield "kind", {"what": t.color}, t.kind
    for t in _only(things, lambda t: t.size + t.color):
        yield "kind/size", {"what": f"{t.size} {t.color}"}, t.kind


def _sizes(things: Sequence[Thing], scene: PairScene, rng: np.random.Generator) -> Iterator[Option]:
    return (("size", {"name": t.name}, t.size) for t in things)


def _counts(things: Sequence[Thing], scene: PairScene, rng: np.random.Generator) -> Iterator[Option]:
    """A number first, then something there are so many of, so that no number is usual."""
    wanted = {f"{color} things": sum(t.color == color for t in things) for color in COLORS}
    wanted |= {plural: sum(t.kind == kind for t in things) for kind, plural in PLURALS.items()}
    by_number: dict[int, list[str]] = {}
    for what, number in wanted.items():
        by_number.setdefault(number, []).append(what)
    for number in rng.permutation([n for n in by_number if n <= _MOST_COUNTED]):
        options = by_number[int(number)]
        yield "count", {"what": options[int(rng.integers(len(options)))]}, str(number)
    size = tuple(SIZES)[int(rng.integers(len(SIZES)))]
    yield "count", {"what": f"{size} things"}, str(sum(t.size == size for t in things))
    yield "count/all", {"what": "things"}, str(len(things))


def _relations(things: Sequence[Thing], scene: PairScene, rng: np.random.Generator) -> Iterator[Option]:
    """One question a pair and axis, asked in a direction that makes either answer as likely."""
    for one, other in combinations(things, 2):
        for axis in (RELATIONS[:2], RELATIONS[2:]):
            a, b = (one, other) if rng.random() < 0.5 else (other, one)
            relation = axis[int(rng.integers(2))]
            true = holds(relation, a, b, scene.view)
            if true is not None:
                yield "relation", {"a": a.name, "b": b.name, "relation": relation}, _yes(true)


def _sides(things: Sequence[Thing], scene: PairScene, rng: np.random.Generator) -> Iterator[Option]:
    """A relation to the picture's middle, worded as one between things and easier to learn."""
    for t in things:
        for axis in (RELATIONS[:2], RELATIONS[2:]):
            relation = axis[int(rng.integers(2))]
            true = beyond_middle(relation, t, scene.view)
            if true is not None:
                yield "side", {"a": t.name, "b": MIDDLE, "relation": relation}, _yes(true)


def _directions(things: Sequence[Thing], scene: PairScene, rng: np.random.Generator) -> Iterator[Option]:
    """On which side of one thing another is: what is to be known before a relation can be denied."""
    for one, other in combinations(things, 2):
        for axis in (RELATIONS[:2], RELATIONS[2:]):
            a, b = (one, other) if rng.random() < 0.5 else (other, one)
            first = holds(axis[0], a, b, scene.view)
            if first is not None:
                words = {"a": a.name, "b": b.name, "either": _either(axis, rng)}
                yield f"direction/{axis[0]}", words, SHORT[axis[0] if first else axis[1]]


def _either(axis: Sequence[str], rng: np.random.Generator) -> str:
    """ "left or right of", "behind or in front of": two relations, either first."""
    one, other = axis if rng.random() < 0.5 else axis[::-1]
    return f"{one.removesuffix(' of') if one.startswith(('left', 'right')) else one} or {other}"


def _choices(things: Sequence[Thing], scene: PairScene, rng: np.random.Generator) -> Iterator[Option]:
    """Which of two things is further to one side; the first that is named is as likely right as the second."""
    for one, other in combinations(things, 2):
        for axis in (RELATIONS[:2], RELATIONS[2:]):
            a, b = (one, other) if rng.random() < 0.5 else (other, one)
            relation = axis[int(rng.integers(2))]
            true = holds(relation, a, b, scene.view)
            if true is not None:
                yield "choice", {"a": a.name, "b": b.name, "side": SIDES[relation]}, (a if true else b).name


def _locations(things: Sequence[Thing], scene: PairScene, rng: np.random.Generator) -> Iterator[Option]:
    """The ninth of the area in which a thing stands."""
    for t in things:
        place = region(t, scene.view)
        if place is not None:
            yield "location", {"name": t.name}, place


def _existence(things: Sequence[Thing], scene: PairScene, rng: np.random.Generator) -> Iterator[Option]:
    """Half of the answers are no, about a thing that shares its colour or its kind with one that is there."""
    there = {t.name for t in things}
    for t in things:
        if rng.random() < 0.5:
            yield "existence", {"name": article(t.name)}, "yes"
            continue
        other = [f"{c} {t.kind}" for c in COLORS] if rng.random() < 0.5 else [f"{t.color} {k}" for k in KINDS]
        absent = [name for name in other if name not in there]
        yield "existence", {"name": article(absent[int(rng.integers(len(absent)))])}, "no"


def _uses(things: Sequence[Thing], scene: PairScene, rng: np.random.Generator) -> Iterator[Option]:
    for t in _only(things, lambda t: t.color):
        others = [use for use in AFFORDANCES if use != USES[t.kind]]
        use = USES[t.kind] if rng.random() < 0.5 else others[int(rng.integers(len(others)))]
        yield "affordance", {"color": t.color, "use": use}, _yes(use == USES[t.kind])
    for t in _only(things, lambda t: USES[t.kind]):
        yield "affordance/color", {"what": f"thing that can be {USES[t.kind]}"}, t.color


def _yes(true: bool) -> str:
    return "yes" if true else "no"
