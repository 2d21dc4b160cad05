"""Laws of words: they and operations are each other's inverse, and phrasings that are held out share nothing."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wayhand.envs.house import follower as follower_module
from wayhand.envs.house.grammar import realise
from wayhand.envs.house.lexicon_en import COLOURS, ENGLISH, PLACES, THINGS
from wayhand.envs.house.parser import parse, tokens
from wayhand.envs.house.program import InstructionError, Op, Place, Program, Step, Thing, mirrored, operations
from wayhand.envs.house.shapes import SHAPES, build, shape_of, slot_values

things = st.builds(Thing, st.sampled_from(sorted(THINGS)), st.sampled_from(["", *COLOURS]))
places = st.builds(Place, st.sampled_from(sorted(PLACES)), st.none() | things, st.sampled_from([0, 1, 2]))
sides = st.sampled_from(["left", "right"])
SLOTS = {"thing": things, "anchor": things, "place": places, "beside": places, "direction": sides, "side": sides}


@st.composite
def ops(draw: st.DrawFn) -> Op:
    shape = SHAPES[draw(st.sampled_from(sorted(SHAPES)))]
    return build(shape, {name: draw(SLOTS[name]) for name in shape.slots})


programs = st.lists(ops(), min_size=1, max_size=9).map(lambda told: tuple(Step(op) for op in told))
ways = {"phrasing": st.sampled_from(["training", "held_out"]), "spoken": st.booleans(), "separate": st.booleans()}


@settings(max_examples=150, deadline=None)
@given(programs, st.integers(0, 10**6), st.fixed_dictionaries(ways))
def test_reading_what_was_said_gives_the_program_back(
    program: tuple[Step, ...], seed: int, way: dict[str, Any]
) -> None:
    said = realise(program, str(seed), **way)
    assert parse(said.text) == operations(program)
    assert realise(program, str(seed), **way) == said


@settings(max_examples=60, deadline=None)
@given(programs, st.integers(0, 10**6), st.fixed_dictionaries(ways))
def test_every_word_belongs_to_an_operation_in_order(program: tuple[Step, ...], seed: int, way: dict[str, Any]) -> None:
    said = realise(program, str(seed), **way)
    assert said.text.split() == [word.text for word in said.words]
    assert {word.op for word in said.words} == set(range(len(program)))
    # Within one clause two operations may interlace; from clause to clause they only go on.
    assert all(b.op >= a.op - 1 for a, b in pairwise(said.words))
    assert said.text[0].isupper() and said.text.endswith(".")
    assert not re.search(r"[a-z] [,.]|[,.]{2}|  | a [aeiou]| an [^aeiou]", said.text.replace(" a u-turn", ""))


@settings(max_examples=100, deadline=None)
@given(programs)
def test_operations_survive_json_and_two_mirrors(program: Program) -> None:
    for op in operations(program):
        assert Op.from_dict(op.to_dict()) == op
        assert mirrored(mirrored(op)) == op
        assert build(SHAPES[shape_of(op)], slot_values(op)) == op


def test_all_clauses_can_be_read_in_all_forms() -> None:
    """Not only those that chance has picked: each template is said once with each kind of words."""
    values = {
        "thing": Thing("sofa", "red"), "anchor": Thing("desk"), "place": Place("bedroom", Thing("chair", "orange"), 2),
        "beside": Place("kitchen"), "direction": "left", "side": "right",
    }  # fmt: skip
    for phrasing in ("training", "held_out"):
        for name, shape in SHAPES.items():
            op = build(shape, {slot: values[slot] for slot in shape.slots})
            texts = {realise((Step(op),), str(i), phrasing=phrasing, spoken=i % 2 == 1).text for i in range(60)}
            assert len(texts) >= 1 and all(parse(t) == (op,) for t in texts), (name, texts)


def test_a_word_means_one_thing() -> None:
    for table in (ENGLISH.things, ENGLISH.places, ENGLISH.colours, ENGLISH.directions, ENGLISH.levels):
        means: dict[str, str] = {}
        for key, names in table.items():
            for name in {*names.training, *names.held_out}:
                assert means.setdefault(name, key) == key, f"'{name}' means {means[name]} and {key}"
            assert not set(names.training) & set(names.held_out)


def test_held_out_phrasings_share_no_clause_and_no_verb_with_training() -> None:
    training = [t for t in ENGLISH.templates if t.phrasing == "training"]
    held_out = [t for t in ENGLISH.templates if t.phrasing == "held_out"]
    assert not {t.id for t in training} & {t.id for t in held_out}
    assert not {t.text for t in training} & {t.text for t in held_out}
    said = {word for t in training for word in tokens(t.text)}
    told = {word for t in held_out for word in tokens(t.text)}
    auxiliary = {"be", "has"}
    for template in held_out:
        assert not set(template.verb.split()) & said, template
    for template in training:
        assert not set(template.verb.split()) & (told - auxiliary), template


def test_left_and_right_are_never_said_without_meaning_them() -> None:
    """So that exchanging the two words exchanges the directions and nothing else ("right beside" would not)."""
    for template in ENGLISH.templates:
        if not set(template.shapes) & {"find_left", "find_right"}:
            assert not {"left", "right"} & set(tokens(template.text)), template


def test_every_operation_has_both_phrasings_and_enough_of_them() -> None:
    for name in SHAPES:
        for phrasing, least in (("training", 2), ("held_out", 1)):
            rows = [t for t in ENGLISH.templates if t.shapes == (name,) and t.phrasing == phrasing and not t.spoken]
            assert len(rows) >= least, (name, phrasing)
            assert len({t.id for t in rows}) == len(rows)


def test_words_nobody_knows_are_an_error_or_are_passed_over() -> None:
    with pytest.raises(InstructionError, match="not understood") as error:
        parse("Turn left. Frobnicate the sofa.")
    assert error.value.got is not None and error.value.got.startswith("frobnicate")
    assert parse("Turn left. Frobnicate the sofa, stop.", strict=False) == (Op("turn", "left"), Op("stop"))
    with pytest.raises(InstructionError, match="No clause"):
        shape_of(Op("turn", "upwards"))


def test_the_two_operations_of_one_doorway_and_of_one_breath() -> None:
    left = Op("turn", "left"), Op("enter", place=Place("kitchen"))
    assert parse("Turn left into the kitchen.") == left
    assert parse("Enter the kitchen on your left.") == left
    assert parse("Leave the hall and go into the kitchen.") == (Op("leave", place=Place("hallway")), left[1])
    assert parse("Now that you are in the hall, turn to your left.") == (replace(left[0], place=Place("hallway")),)


def test_two_turns_in_one_breath_are_told_as_one_says_them() -> None:
    for phrasing in ("training", "held_out"):
        for second in ("left", "right"):
            program = Step(Op("turn", "left")), Step(Op("turn", second), 1)
            texts = {realise(program, str(i), phrasing=phrasing).text for i in range(40)}
            assert all(parse(text) == operations(program) for text in texts)
            again = [text for text in texts if re.search(r" another | again| one more | once more", text)]
            assert bool(again) == (second == "left")


def test_a_sentence_joins_its_clauses_with_a_word_and_with_no_word_twice() -> None:
    way = Op("pass", thing=Thing("sofa")), Op("enter", place=Place("kitchen")), Op("forward")
    ops = Op("turn", "left"), *way, Op("stop")
    program = tuple(Step(op, i) for i, op in enumerate(ops))
    for seed in range(60):
        for sentence in realise(program, str(seed)).sentences:
            assert sentence.count(" and ") <= 2 and sentence.count(" then ") <= 1, sentence


def test_a_follower_knows_nothing_of_programs() -> None:
    """Its module reaches the text through the parser and never the grammar or the guide that wrote it."""
    names = vars(follower_module)
    assert {"realise", "derive", "Program", "Step", "Told"} & set(names) == set()
