"""What is said and what stands on the table: splits keep what they hold out, and the words decide."""

from __future__ import annotations

import re
from collections import Counter
from itertools import combinations

import numpy as np
import pytest

from wayhand.envs.tabletop.instructions import PHRASINGS, instruction
from wayhand.envs.tabletop.layout import SLOTS, Layout, sample
from wayhand.envs.tabletop.objects import (
    BUTTON_PLACES,
    COLORS,
    DRAWER_PLACES,
    HELD_OUT,
    HELD_OUT_BUTTONS,
    HELD_OUT_DRAWERS,
    SHAPES,
    TRAINING,
    Pair,
)
from wayhand.envs.tabletop.tasks import TASKS

SEEDS = range(150)
FIXTURES = {"open": (DRAWER_PLACES, HELD_OUT_DRAWERS), "press": (BUTTON_PLACES, HELD_OUT_BUTTONS)}
OBJECT_TASKS = tuple(t for t in TASKS if t not in FIXTURES)


def fixtures(layout: Layout) -> list[Pair]:
    """(colour, place) of the drawers or buttons."""
    return [(f.color, f.place) for f in (*layout.drawers, *layout.buttons)]


def words(text: str) -> set[str]:
    return set(re.findall(r"[a-z]+", re.sub(r"\{\w+\}", "", text)))


def scene(task: str, seed: int, unseen: bool = False, more: int = 0) -> Layout:
    return sample(task, seed, unseen_pair=unseen, distractors=min(SLOTS - 1, TASKS[task].distractors + more))


@pytest.mark.parametrize("task", TASKS)
def test_there_are_enough_phrasings(task: str) -> None:
    phrasings = PHRASINGS[task]
    assert len({p.text for p in phrasings.training}) >= 8
    assert len({p.text for p in phrasings.held_out}) >= 4
    for phrase in (*phrasings.training, *phrasings.held_out):
        assert phrase.verb in words(phrase.text), phrase
        assert "{object}" in phrase.text or ("{color}" in phrase.text and "{shape}" in phrase.text), phrase
        assert ("{goal}" in phrase.text) == (task in ("place", "stack")), phrase


def test_held_out_phrasings_share_no_verb_with_any_training_sentence() -> None:
    said = set().union(*(words(p.text) for t in PHRASINGS.values() for p in t.training))
    for task, phrasings in PHRASINGS.items():
        for phrase in phrasings.held_out:
            assert phrase.verb not in said, (task, phrase)
        trained = {p.verb for p in phrasings.training}
        for phrase in phrasings.held_out:
            assert not trained & words(phrase.text), (task, phrase)


def test_a_held_out_verb_means_one_task() -> None:
    for a, b in combinations(PHRASINGS.values(), 2):
        assert not {p.verb for p in a.held_out} & {p.verb for p in b.held_out}


@pytest.mark.parametrize("task", TASKS)
def test_sentences_name_what_is_asked(task: str) -> None:
    for seed in range(30):
        for held_out in (False, True):
            for candidate in scene(task, seed).candidates:
                sentence = instruction(task, candidate.words, seed, held_out=held_out)
                assert set(candidate.words["object"].split()) <= words(sentence)
                assert set(candidate.words.get("goal", "").split()) <= words(sentence)
                assert "{" not in sentence and len(sentence.encode()) < 128


def test_pairs_are_held_out_but_every_colour_and_shape_is_trained() -> None:
    assert len(COLORS) >= 6 and len(SHAPES) >= 4
    assert 0.15 <= len(HELD_OUT) / (len(COLORS) * len(SHAPES)) <= 0.25
    assert {c for c, _ in TRAINING} == set(COLORS) and {s for _, s in TRAINING} == set(SHAPES)
    assert not set(TRAINING) & set(HELD_OUT)


@pytest.mark.parametrize("task", OBJECT_TASKS)
def test_training_scenes_hold_no_held_out_pair(task: str) -> None:
    for seed in SEEDS:
        for more in (0, 2):
            assert not {t.pair for t in scene(task, seed, more=more).things} & set(HELD_OUT)


@pytest.mark.parametrize("task", FIXTURES)
def test_training_fixtures_hold_no_held_out_place(task: str) -> None:
    for seed in SEEDS:
        pairs = fixtures(scene(task, seed))
        assert len({color for color, _ in pairs}) == len({place for _, place in pairs}) == len(pairs) >= 2
        assert not set(pairs) & set(FIXTURES[task][1])


@pytest.mark.parametrize("task", TASKS)
def test_unseen_targets_are_held_out_ones(task: str) -> None:
    met = set()
    for seed in SEEDS:
        layout = scene(task, seed, unseen=True)
        asked = layout.asked(False)
        met.add(fixtures(layout)[asked.index] if task in FIXTURES else layout.things[asked.index].pair)
    assert met == set(FIXTURES[task][1] if task in FIXTURES else HELD_OUT)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("unseen", [False, True])
def test_names_mean_one_thing_and_swap_means_another(task: str, unseen: bool) -> None:
    for seed in SEEDS:
        layout = scene(task, seed, unseen)
        names = [c.name for c in layout.candidates]
        assert len(set(names)) == len(names) >= 2
        assert layout.asked(False) is not layout.asked(True)
        assert len({t.pair[0] for t in layout.things}) == len(layout.things)


@pytest.mark.parametrize("task", TASKS)
def test_place_on_the_table_does_not_tell_the_target(task: str) -> None:
    """Without the words, the target is found by chance only: its rank along y is uniform."""
    ranks: Counter[int] = Counter()
    total = 600
    for seed in range(total):
        layout = scene(task, seed)
        index = layout.asked(False).index
        if task in FIXTURES:
            ranks[FIXTURES[task][0].index(fixtures(layout)[index][1])] += 1
        else:
            ranks[sorted(range(len(layout.things)), key=lambda i: layout.things[i].y).index(index)] += 1
    expected = total / len(ranks)
    chi_square = sum((n - expected) ** 2 / expected for n in ranks.values())
    assert len(ranks) == (2 if task == "place" else 3) and chi_square < 14


@pytest.mark.parametrize("task", OBJECT_TASKS)
def test_objects_stand_clear_of_each_other(task: str) -> None:
    for seed in SEEDS:
        for more in (0, 2):
            layout = scene(task, seed, more=more)
            for a, b in combinations(layout.things, 2):
                assert abs(a.y - b.y) > 0.08
            for thing in layout.things:
                assert 0.36 < thing.x < 0.56 and abs(thing.y) < 0.25
                assert all(np.hypot(thing.x - b.x, thing.y - b.y) > 0.1 for b in layout.bins)


def test_reach_push_and_pick_share_their_scenes() -> None:
    for seed in range(20):
        a, b, c = (scene(t, seed) for t in ("reach", "push", "pick"))
        assert a.things == b.things == c.things and a.hand == b.hand == c.hand
