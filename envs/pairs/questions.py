"""Questions about a scene with one-word answers, drawn so that the words of a question tell little about its answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import combinations

import numpy as np

from ...vla.pairs import Question
from .captions import article
from .sample import RELATIONS, holds
from .things import AFFORDANCES, COLORS, KINDS, SIZES, USES, PairScene, Thing

TOPICS = ("color", "kind", "size", "count", "relation", "existence", "affordance")
PLURALS = {kind: kind + ("es" if kind.endswith(("s", "ch")) else "s") for kind in KINDS}
_MOST_COUNTED = 3

_FORMS: dict[str, tuple[str, str]] = {
    "color": ("what color is the {kind}?", "the {kind} is what color?"),
    "color/size": ("what color is the {size} {kind}?", "the {size} {kind} is what color?"),
    "kind": ("what is the {color} thing?", "the {color} thing is what?"),
    "kind/size": ("what is the {size} {color} thing?", "the {size} {color} thing is what?"),
    "size": ("is the {name} small or large?", "small or large: the {name}?"),
    "count": ("how many {what} are there?", "there are how many {what}?"),
    "count/all": ("how many things are there?", "there are how many things?"),
    "relation": ("is the {a} {relation} the {b}?", "{relation} the {b}: is the {a} there?"),
    "existence": ("is there {name}?", "{name}: is there one?"),
    "affordance": ("can the {color} thing be {use}?", "the {color} thing: can it be {use}?"),
    "affordance/color": ("what color is the thing that can be {use}?", "the thing that can be {use} is what color?"),
}
"""Form → its phrasing to learn from and the held-out one."""


def questions(scene: PairScene, seed: int, each: int = 2, *, held_out: bool = False) -> list[Question]:
    """About `each` questions a topic, a pure function of the seed; `held_out` phrasings or the others."""
    rng = np.random.default_rng([seed, 13])
    found: list[Question] = []
    for make in (_attributes, _sizes, _counts, _relations, _existence, _uses):
        options = list(make(scene.things, scene, rng))
        topics = {form.partition("/")[0] for form, _, _ in options}
        for topic in sorted(topics):
            mine = [o for o in options if o[0].partition("/")[0] == topic]
            for i in rng.permutation(len(mine))[:each]:
                form, words, answer = mine[i]
                text = _FORMS[form][int(held_out)].format(**words)
                found.append(Question(text, answer, form))
    return found


Option = tuple[str, dict[str, str], str]


def _only(things: Sequence[Thing], key: Callable[[Thing], str]) -> Iterator[Thing]:
    """The things whose key no other has."""
    counts = Counter(map(key, things))
    return (t for t in things if counts[key(t)] == 1)


def _attributes(things: Sequence[Thing], scene: PairScene, rng: np.random.Generator) -> Iterator[Option]:
    for t in _only(things, lambda t: t.kind):
        yield "color", {"kind": t.kind}, t.color
    for t in _only(things, lambda t: t.size + t.kind):
        yield "color/size", {"size": t.size, "kind": t.kind}, t.color
    for t in _only(things, lambda t: t.color):
        yield "kind", {"color": t.color}, t.kind
    for t in _only(things, lambda t: t.size + t.color):
        yield "kind/size", {"size": t.size, "color": t.color}, t.kind


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
    yield "count/all", {}, str(len(things))


def _relations(things: Sequence[Thing], scene: PairScene, rng: np.random.Generator) -> Iterator[Option]:
    """One question a pair and axis, asked in a direction that makes either answer as likely."""
    for one, other in combinations(things, 2):
        for axis in (RELATIONS[:2], RELATIONS[2:]):
            a, b = (one, other) if rng.random() < 0.5 else (other, one)
            relation = axis[int(rng.integers(2))]
            true = holds(relation, a, b, scene.view)
            if true is not None:
                yield "relation", {"a": a.name, "b": b.name, "relation": relation}, _yes(true)


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
        yield "affordance/color", {"use": USES[t.kind]}, t.color


def _yes(true: bool) -> str:
    return "yes" if true else "no"
