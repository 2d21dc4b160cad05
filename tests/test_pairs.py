"""Rendered pairs: what is said is true of the scene, and depends on nothing but the seed."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from wayhand.datasets import pairs as store
from wayhand.envs.pairs.captions import MOST_WORDS, captions, names, order_claimed
from wayhand.envs.pairs.generate import retell, stream, tell
from wayhand.envs.pairs.houses import stream_houses
from wayhand.envs.pairs.phrasings import WORDINGS
from wayhand.envs.pairs.questions import questions
from wayhand.envs.pairs.sample import RELATIONS, holds, region, sample
from wayhand.envs.pairs.things import AFFORDANCES, COLORS, HELD_OUT, KINDS, SEEN, SIZES, USES, PairScene, Thing
from wayhand.envs.pairs.world import TRIES
from wayhand.vla.errors import DataError
from wayhand.vla.evaluation import understanding
from wayhand.vla.pairs import Place, Question, Texts

SEEDS = st.integers(0, 10**6)


def test_every_color_and_kind_is_seen_in_training_and_held_out() -> None:
    assert {c for c, _ in SEEN} == {c for c, _ in HELD_OUT} == set(COLORS)
    assert {k for _, k in SEEN} == {k for _, k in HELD_OUT} == set(KINDS)
    assert set(USES.values()) == set(AFFORDANCES)


@settings(max_examples=60, deadline=None)
@given(seed=SEEDS, unseen=st.booleans())
def test_a_scene_holds_what_its_split_may_hold(seed: int, unseen: bool) -> None:
    scene = sample(seed, unseen=unseen)
    assert scene == sample(seed, unseen=unseen)
    assert any((t.color, t.kind) in HELD_OUT for t in scene.things) == unseen
    assert len({t.name for t in scene.things}) == len(scene.things)


@settings(max_examples=60, deadline=None)
@given(seed=SEEDS)
def test_relations_are_antisymmetric_and_mirror_each_other(seed: int) -> None:
    scene = sample(seed)
    for a, b in pairwise(scene.things):
        for relation, opposite in (RELATIONS[:2], RELATIONS[2:]):
            there = holds(relation, a, b, scene.view)
            assert there == holds(opposite, b, a, scene.view)
            assert there is None or there != holds(opposite, a, b, scene.view)


@settings(max_examples=60, deadline=None)
@given(seed=SEEDS, held_out=st.booleans())
def test_captions_name_everything_and_state_true_orders(seed: int, held_out: bool) -> None:
    scene = sample(seed)
    for caption in captions(scene, seed, 4, held_out=held_out):
        assert len(caption.split()) <= MOST_WORDS
        assert sorted(names(caption).elements()) == sorted(t.full_name for t in scene.things)
        assert order_claimed(caption, scene) is not False


def test_an_order_that_is_not_so_is_noticed() -> None:
    view = sample(0).view
    things = (Thing("small", "red", "cube", -0.1, 0, 0), Thing("large", "blue", "ball", 0.1, 0, 0))
    scene = PairScene(things, view)
    assert order_claimed("from left to right: a small red cube and a large blue ball", scene)
    assert order_claimed("from right to left: a small red cube and a large blue ball", scene) is False
    assert order_claimed("a small red cube and a large blue ball", scene) is None


NAME = re.compile(rf"({'|'.join(COLORS)}) ({'|'.join(KINDS)})")
APART: dict[str, Callable[[Thing, Thing], float]] = {
    "left": lambda a, b: b.right - a.right,
    "right": lambda a, b: a.right - b.right,
    "front": lambda a, b: a.near - b.near,
    "back": lambda a, b: b.near - a.near,
}
TOWARDS = {"left of": "left", "right of": "right", "in front of": "front", "behind": "back"}


def answered(question: str, scene: PairScene) -> str:
    """An independent reading of the questions, by the words in them whatever their order."""
    things = scene.things
    words = re.findall("[a-z]+", question)
    by_name = {t.name: t for t in things}
    named = [by_name.get(" ".join(n)) for n in NAME.findall(question)]
    if "many" in words or "number" in words:
        if "things" in words:
            told = [w for w in words if w in COLORS or w in SIZES]
            return str(sum(all(w in (t.color, t.size) for w in told) for t in things))
        kind = next(k for k in KINDS if any(w in (k, k + "s", k + "es") for w in words))
        return str(sum(t.kind == kind for t in things))
    if "further" in words:
        a, b = named
        assert a is not None and b is not None
        return (a if APART[words[words.index("further") + 3 if "to" in words else -1]](a, b) > 0 else b).name
    either = re.search(r"(left|right|in front of|behind) or (left|right|in front|behind)", question)
    if either:
        a, b = named[::-1] if question.startswith(either[0]) else named
        assert a is not None and b is not None
        if "left" in either[0]:
            return "left" if APART["left"](a, b) > 0 else "right"
        return "front" if APART["front"](a, b) > 0 else "behind"
    for relation, side in TOWARDS.items():
        if relation in question:
            if "middle" in words:
                assert named[0] is not None
                middle = Thing("", "", "", 0.0, 0.0, 0.0)
                return "yes" if APART[side](named[0], middle) > 0 else "no"
            # "left of B …" names what it is asked about last.
            a, b = named[::-1] if question.startswith(relation) else named
            assert a is not None and b is not None
            return "yes" if APART[side](a, b) > 0 else "no"
    if "where" in words:
        assert named[0] is not None
        return region(named[0], scene.view) or "nowhere"
    if "color" in words:
        use = next((u for u in AFFORDANCES if u in words), None)
        size = next((s for s in SIZES if s in words), None)
        return next(
            t.color
            for t in things
            if (USES[t.kind] == use if use else t.kind in words and (size is None or t.size == size))
        )
    if "size" in words or "or large" in question or "or small" in question:
        assert named[0] is not None
        return named[0].size
    if any(use in words for use in AFFORDANCES):
        return "yes" if USES[next(t.kind for t in things if t.color in words)] in words else "no"
    if NAME.search(question):
        return "no" if named[0] is None else "yes"
    size = next((s for s in SIZES if s in words), None)
    return next(t.kind for t in things if t.color in words and (size is None or t.size == size))


@settings(max_examples=80, deadline=None)
@given(seed=SEEDS)
def test_answers_are_those_of_an_independent_reading(seed: int) -> None:
    scene = sample(seed)
    asked = questions(scene, seed)
    assert asked == questions(scene, seed)
    others = questions(scene, seed, held_out=True)
    for q in [*asked, *others]:
        assert answered(q.question, scene) == q.answer, q.question
    assert [q.answer for q in others] == [q.answer for q in asked]


def test_every_form_is_said_in_several_ways_and_none_is_shared_with_the_held_out_ones() -> None:
    for wordings in WORDINGS.values():
        assert len(set(wordings.learned)) >= 4
        assert len(set(wordings.held_out)) >= 2
        assert not set(wordings.learned) & set(wordings.held_out)


@settings(max_examples=40, deadline=None)
@given(seed=SEEDS)
def test_what_was_told_of_a_picture_is_told_again_from_its_record(seed: int) -> None:
    scene = sample(seed * TRIES + 2, unseen=True)
    told = tell(scene, seed, held_out_phrasing=True)
    older = Texts(("a caption",), extras=told.extras)
    assert retell(older, unseen=True, held_out_phrasing=True) == told
    with pytest.raises(DataError, match="No scene"):
        retell(Texts(("a caption",), extras={"seed": seed, "things": []}))


def test_places_are_where_the_things_colors_are() -> None:
    for image, texts in stream(11, 4, size=96):
        colors = {t["size"] + " " + t["color"] + " " + t["kind"]: COLORS[t["color"]] for t in texts.extras["things"]}
        assert {p.phrase for p in texts.places} >= set(texts.facts)
        for place in texts.places:
            color = colors.get(place.phrase)
            if color is not None:
                x, y = round(place.x * 96), round(place.y * 96)
                around = image[max(y - 10, 0) : y + 4, max(x - 6, 0) : x + 6].astype(float) / 255
                assert np.abs(around - color).max(-1).min() < 0.45, place


def test_held_out_phrasings_share_words_and_no_sentence_with_the_others() -> None:
    ours, theirs = set[str](), set[str]()
    for seed in range(300):
        scene = sample(seed)
        for found, held_out in ((ours, False), (theirs, True)):
            found.update(captions(scene, seed, 4, held_out=held_out))
            found.update(q.question for q in questions(scene, seed, held_out=held_out))
    assert not ours & theirs
    plain = [
        {w for s in found for w in s.replace(",", "").replace(":", "").rstrip("?").split()} for found in (ours, theirs)
    ]
    assert {w.rstrip(";.") for w in plain[1]} <= {w.rstrip(";.") for w in plain[0]}


def drawn(count: int = 3) -> tuple[np.ndarray, list[Texts]]:
    rng = np.random.default_rng(0)
    asked, where = Question("which?", "1", "number"), Place("it", 0.25, 1.0)
    texts = [Texts((f"picture {i}",), (asked,), (f"thing {i}",), {}, (where,) * i) for i in range(count)]
    return rng.integers(0, 256, (count, 8, 8, 3), dtype=np.uint8), texts


def test_all_stores_give_back_what_was_written(tmp_path: Path) -> None:
    images, texts = drawn()
    store.write_part(tmp_path / "cache", 0, zip(images[:2], texts[:2], strict=True), 2)
    store.write_part(tmp_path / "cache", 1, zip(images[2:], texts[2:], strict=True), 1)
    store.write_zarr(tmp_path / "group", images, texts, chunk=2)
    (tmp_path / "folder").mkdir()
    lines: list[str] = []
    for i, (image, said) in enumerate(zip(images, texts, strict=True)):
        Image.fromarray(image).save(tmp_path / "folder" / f"{i}.png")
        lines.append(json.dumps({"image": f"{i}.png", **said.to_dict()}))
    (tmp_path / "folder" / "pairs.jsonl").write_text("\n".join(lines))
    for name in ("cache", "group", "folder"):
        found = store.open_pairs(tmp_path / name)
        assert len(found) == 3
        assert np.array_equal(found.images([2, 0, 2]), images[[2, 0, 2]])
        assert [found.texts(i) for i in range(3)] == texts


def test_a_part_that_breaks_off_is_absent(tmp_path: Path) -> None:
    images, texts = drawn()
    with pytest.raises(DataError, match="would not be whole"):
        store.write_part(tmp_path, 0, zip(images, texts, strict=True), 4)
    with pytest.raises(DataError, match="holds no pairs"):
        store.open_pairs(tmp_path)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "is not JSON"),
        ("[]", "is not an object"),
        ('{"image": "a.png"}', "says nothing"),
        ('{"image": "a.png", "captions": [1]}', "says nothing"),
        ('{"image": "../a.png", "captions": ["a"]}', "names no picture in its folder"),
        ('{"image": "a.png", "questions": [["what?"]]}', "malformed question"),
        ('{"image": "a.png", "captions": ["a"], "facts": "b"}', "malformed facts"),
        ('{"image": "a.png", "captions": ["a"], "places": [["b", 0.5, 1.5]]}', "malformed place"),
    ],
)
def test_malformed_records_are_named(tmp_path: Path, line: str, message: str) -> None:
    (tmp_path / "pairs.jsonl").write_text(line)
    with pytest.raises(DataError, match=message):
        store.open_pairs(tmp_path).texts(0)


def test_rendered_pairs_are_a_function_of_the_seed_and_show_everything() -> None:
    first = list(stream(7, 3, size=48))
    again = list(stream(8, 1, size=48))
    assert np.array_equal(first[1][0], again[0][0])
    assert first[1][1] == again[0][1]
    for image, texts in first:
        assert image.shape == (48, 48, 3)
        assert image.std() > 5
        for thing in texts.extras["things"]:
            near = np.abs(image.astype(float) / 255 - COLORS[thing["color"]]).max(-1).min()
            assert near < 0.45, thing


def test_views_of_houses_name_what_is_seen() -> None:
    first = list(stream_houses(41, 2, size=48))
    again = list(stream_houses(42, 1, size=48))
    assert np.array_equal(first[1][0], again[0][0])
    assert first[1][1] == again[0][1]
    for image, texts in first:
        assert image.shape == (48, 48, 3)
        assert all(fact in caption for caption in texts.captions for fact in texts.facts)
        answers = {q.question: q.answer for q in texts.questions}
        assert answers["what room is this?"] in texts.captions[0]
        for question, answer in answers.items():
            if question.startswith("is there"):
                assert (question.rstrip("?").split(" ", 3)[3] in texts.facts) == (answer == "yes")


def test_recall_counts_ties_against_the_partner() -> None:
    assert understanding.recall_at(np.eye(4)) == 1
    assert understanding.recall_at(np.zeros((4, 4))) == 0
    assert understanding.recall_at(np.zeros((4, 4)), 4) == 1


def test_reranking_with_a_perfect_judge_finds_all_partners_among_the_candidates() -> None:
    rng = np.random.default_rng(0)
    similarity = rng.normal(size=(30, 30))
    k = 10
    order = understanding.reranked(similarity, k, lambda rows, columns: (rows == columns) * 1.0 + 1e-3 * columns)
    assert understanding.recall_at(order) == understanding.recall_at(similarity, k)


def test_balanced_questions_have_no_usual_answer() -> None:
    rng = np.random.default_rng(0)
    asked = [Question("?", str(a), k) for k in ("x", "y") for a in rng.choice(3, 300, p=[0.6, 0.3, 0.1])]
    chosen = [asked[i] for i in understanding.balanced(asked, rng, least=0.2)]
    for kind in ("x", "y"):
        counts = [sum(q.kind == kind and q.answer == str(a) for q in chosen) for a in range(3)]
        assert len(set(counts)) == 1
    assert understanding.prior(chosen)["mean"] == pytest.approx(1 / 3)


def test_f1_counts_a_fact_as_often_as_it_holds() -> None:
    found = understanding.f1([{"a": 2, "b": 1}, {}], [["a", "c"], ["d"]])
    assert found == {"precision": pytest.approx(1 / 3), "recall": pytest.approx(1 / 3), "f1": pytest.approx(1 / 3)}


def test_an_interval_holds_the_share_and_narrows_with_more_questions() -> None:
    few, many = understanding.wilson(8, 10), understanding.wilson(800, 1000)
    assert few[0] < many[0] < 0.8 < many[1] < few[1]
    assert understanding.wilson(0, 10)[0] == pytest.approx(0)
    asked = [Question("?", "a", "x/1"), Question("?", "b", "x/2")]
    assert understanding.intervals(asked, ["a", "a"]) == {"x": (2, *understanding.wilson(1, 2))}
