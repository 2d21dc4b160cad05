"""Sentences that are true of a scene and name everything in it, and what a sentence claims, read back.

Two sets of phrasings share one vocabulary: one to learn from, one that is held out.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from itertools import pairwise

import numpy as np

from .sample import RELATIONS, holds, row
from .things import COLORS, KINDS, SIZES, PairScene, Thing

MOST_WORDS = 25
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six")
_OPPOSITE = {"left of": "right of", "right of": "left of", "in front of": "behind", "behind": "in front of"}
ORDERS = {
    "left to right": ("left of", False),
    "right to left": ("left of", True),
    "front to back": ("in front of", False),
    "back to front": ("in front of", True),
}
"""Order a list is read in → the relation of each to the next, and whether to reverse it."""

_ROWS = ("from {order}: {list}", "{order} there are {list}", "on the table from {order} {list}")
_ROWS_HELD_OUT = ("{list}, from {order}", "there are {count} things, {order}: {list}", "{order} on the table: {list}")
_SETS = ("{list}", "a table with {list}", "{count} things: {list}", "there are {list}")
_SETS_HELD_OUT = ("on the table there are {list}", "{list} on the table", "a table with {count} things, {list}")
_RELATED = ("{list}; {a} is {relation} {b}", "{a} is {relation} {b}; there are {list}")
_RELATED_HELD_OUT = ("on the table {a} is {relation} {b}: {list}", "{relation} {b} is {a}; {list}")

_NAME = re.compile(rf"({'|'.join(SIZES)}) ({'|'.join(COLORS)}) ({'|'.join(KINDS)})")
_ORDER = re.compile("|".join(ORDERS))


def captions(scene: PairScene, seed: int, count: int, *, held_out: bool = False) -> list[str]:
    """`count` captions of at most 25 words, a pure function of the seed; `held_out` phrasings or the others."""
    rng = np.random.default_rng([seed, 12, int(held_out)])
    return [caption(scene, rng, held_out=held_out) for _ in range(count)]


def caption(scene: PairScene, rng: np.random.Generator, *, held_out: bool = False) -> str:
    """One caption: a list in a stated order, a list, or a list and one relation, as far as these are beyond doubt."""
    makers: list[Callable[[PairScene, np.random.Generator, bool], str | None]] = [_ordered, _related]
    for choice in rng.permutation(3):
        if choice < len(makers):
            text = makers[choice](scene, rng, held_out)
            if text is not None:
                return text
        else:
            break
    things = tuple(scene.things[i] for i in rng.permutation(len(scene.things)))
    return _filled(_pick(_SETS_HELD_OUT if held_out else _SETS, rng), things, rng) or _plain(things)


def article(name: str) -> str:
    """`name` behind "a" or "an"."""
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def names(text: str) -> Counter[str]:
    """The things a caption names, as size, colour and kind."""
    return Counter(" ".join(found) for found in _NAME.findall(text))


def order_claimed(text: str, scene: PairScene) -> bool | None:
    """Whether the order a caption states for its list is that of the scene; None where it states none, or nothing."""
    found = _ORDER.search(text)
    listed = [" ".join(n) for n in _NAME.findall(text)]
    if found is None or len(listed) < 2:
        return None
    relation, backwards = ORDERS[found[0]]
    by_name = {t.full_name: t for t in scene.things}
    if any(name not in by_name for name in listed):
        return False
    things = [by_name[name] for name in (reversed(listed) if backwards else listed)]
    return all(holds(relation, a, b, scene.view) is not False for a, b in pairwise(things))


def _ordered(scene: PairScene, rng: np.random.Generator, held_out: bool) -> str | None:
    for order in rng.permutation(list(ORDERS)):
        relation, backwards = ORDERS[str(order)]
        things = row(scene.things, relation, scene.view)
        if things is not None:
            form = _pick(_ROWS_HELD_OUT if held_out else _ROWS, rng)
            return _filled(form, things[::-1] if backwards else things, rng, order=str(order))
    return None


def _related(scene: PairScene, rng: np.random.Generator, held_out: bool) -> str | None:
    things = tuple(scene.things[i] for i in rng.permutation(len(scene.things)))
    for relation in rng.permutation(list(RELATIONS)):
        if holds(str(relation), things[0], things[1], scene.view):
            form = _pick(_RELATED_HELD_OUT if held_out else _RELATED, rng)
            a, b = (f"the {t.name}" for t in things[:2])
            listed = tuple(things[i] for i in rng.permutation(len(things)))
            return _filled(form, listed, rng, relation=str(relation), a=a, b=b)
    return None


def _filled(form: str, things: tuple[Thing, ...], rng: np.random.Generator, **words: str) -> str | None:
    """The form with its list, with articles where the length allows it and the dice say so; None if it is too long."""
    count = NUMBERS[len(things)]
    if rng.random() < 0.7:
        text = form.format(list=_listed([article(t.full_name) for t in things]), count=count, **words)
        if len(text.split()) <= MOST_WORDS:
            return text
    text = form.format(list=_plain(things), count=count, **words)
    return text if len(text.split()) <= MOST_WORDS else None


def _plain(things: tuple[Thing, ...]) -> str:
    return ", ".join(t.full_name for t in things)


def _listed(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _pick(forms: tuple[str, ...], rng: np.random.Generator) -> str:
    return forms[int(rng.integers(len(forms)))]
