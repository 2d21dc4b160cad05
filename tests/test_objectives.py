"""Pretraining objectives: closed forms, what may and may not be seen, and that each can be learned."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from wayhand.vla.backbones import objectives, reading
from wayhand.vla.backbones.connectors.projection import LinearConnector
from wayhand.vla.backbones.connectors.queries import ResamplerConnector
from wayhand.vla.backbones.gated import GatedVLM
from wayhand.vla.backbones.language.scratch import ScratchLM
from wayhand.vla.backbones.language.tokenizers import WordTokenizer
from wayhand.vla.backbones.reading import Seen
from wayhand.vla.backbones.towers.conv import ConvNetTower
from wayhand.vla.backbones.vlm import ComposedVLM
from wayhand.vla.learning.pretraining import Pretrainer

CAPTIONS = ["a red cube", "a blue ball and a cube", "a ball"]
QUESTIONS, ANSWERS = ["what color is the cube?", "what is blue?"], ["red", "ball"]
WORDS = WordTokenizer.fitted([*CAPTIONS, *QUESTIONS, *ANSWERS])


@pytest.fixture
def vlm() -> ComposedVLM:
    torch.manual_seed(0)
    return ComposedVLM(
        vision=ConvNetTower(channels=(8, 16), depths=(1, 1), heads=2),
        connector=partial(LinearConnector),
        language=ScratchLM(vocabulary=WORDS.vocabulary, width=16, depth=2, heads=2),
        tokenizer=WORDS,
    )


def pictures(count: int = 3) -> torch.Tensor:
    return torch.randint(0, 256, (count, 16, 16, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def seen(vlm: ComposedVLM) -> Seen:
    return Seen(vlm, pictures(), CAPTIONS, QUESTIONS, ANSWERS, torch.tensor([0, 1]))


@settings(max_examples=20, deadline=None)
@given(n=st.integers(1, 9), gap=st.floats(0, 20))
def test_softmax_contrast_of_partners_that_stand_out_by_a_gap(n: int, gap: float) -> None:
    logits = gap * torch.eye(n, dtype=torch.float64)
    expected = math.log(math.exp(gap) + n - 1) - gap
    assert objectives.softmax_contrast(logits).item() == pytest.approx(expected, abs=1e-9)


@settings(max_examples=20, deadline=None)
@given(n=st.integers(1, 9), partner=st.floats(-5, 5), other=st.floats(-5, 5))
def test_sigmoid_contrast_is_a_sum_of_binary_choices(n: int, partner: float, other: float) -> None:
    logits = torch.full((n, n), other, dtype=torch.float64).fill_diagonal_(partner)
    expected = math.log1p(math.exp(-partner)) + (n - 1) * math.log1p(math.exp(other))
    assert objectives.sigmoid_contrast(logits).item() == pytest.approx(expected, abs=1e-9)


def test_a_hard_negative_is_never_its_own_and_follows_similarity() -> None:
    torch.manual_seed(0)
    logits = torch.randn(5, 5)
    drawn = torch.stack([objectives.hard_negatives(logits) for _ in range(4000)])
    assert not (drawn == torch.arange(5)).any()
    share = torch.nn.functional.one_hot(drawn, 5).float().mean(0)
    expected = logits.masked_fill(torch.eye(5, dtype=torch.bool), -torch.inf).softmax(-1)
    assert torch.allclose(share, expected, atol=0.04)


def test_next_word_loss_of_a_model_that_knows_nothing_is_the_log_of_its_vocabulary(vlm: ComposedVLM) -> None:
    torch.nn.init.zeros_(vlm.language.get_parameter("words.weight"))
    told = seen(vlm)
    loss = objectives.CaptioningObjective(vlm=vlm)(told)
    assert loss.item() == pytest.approx(math.log(WORDS.vocabulary), abs=1e-5)
    assert objectives.AnsweringObjective(vlm=vlm)(told).item() == pytest.approx(math.log(WORDS.vocabulary), abs=1e-5)
    hidden = objectives.MaskedWordsObjective(vlm=vlm, share=1.0)(told)
    assert hidden.item() == pytest.approx(math.log(WORDS.vocabulary), abs=1e-5)


def test_matching_that_cannot_tell_costs_one_bit(vlm: ComposedVLM) -> None:
    matching = objectives.MatchingObjective(vlm=vlm)
    torch.nn.init.zeros_(matching.judge.weight)
    torch.nn.init.zeros_(matching.judge.bias)
    assert matching(seen(vlm)).item() == pytest.approx(math.log(2), abs=1e-6)


def test_masked_patches_cost_the_mean_distance_from_what_is_painted(vlm: ComposedVLM) -> None:
    masked = objectives.MaskedPatchesObjective(vlm=vlm, share=1.0, side=8)
    torch.nn.init.zeros_(masked.paint.weight)
    torch.nn.init.zeros_(masked.paint.bias)
    expected = (pictures().float() / 127.5 - 1).abs().mean()
    assert masked(seen(vlm)).item() == pytest.approx(expected.item(), abs=1e-5)


def test_patches_put_the_pixels_of_a_cell_behind_it() -> None:
    images = pictures(2)
    found = objectives.patches(images, 2, 2, 8).unflatten(-1, (3, 8, 8))
    for cell, (top, left) in enumerate([(0, 0), (0, 8), (8, 0), (8, 8)]):
        block = images[:, top : top + 8, left : left + 8].permute(0, 3, 1, 2).float()
        assert torch.equal(found[:, cell], block)


def test_a_caption_is_learned_from_earlier_words_alone(vlm: ComposedVLM) -> None:
    told = seen(vlm)
    ids, mask = told.told
    every = torch.zeros_like(mask[:, 1:])
    every[:, 1] = True  # the loss of the second word, which the last ones must not change
    changed = ids.clone()
    changed[:, 3:] = WORDS.pad
    before = reading.next_word_loss(vlm, told.prefix, ids, mask, every)
    after = reading.next_word_loss(vlm, told.prefix, changed, mask, every)
    assert torch.allclose(before, after, atol=1e-6)


def test_padding_changes_nothing(vlm: ComposedVLM) -> None:
    vlm.eval()
    alone = reading.read_text(vlm, *reading.encoded(vlm, CAPTIONS[:1]))
    together = reading.read_text(vlm, *reading.encoded(vlm, CAPTIONS))[:1]
    assert torch.allclose(alone, together, atol=1e-6)


def test_the_answer_alone_is_learned(vlm: ComposedVLM) -> None:
    ids, mask, answer = reading.dialogue(vlm, QUESTIONS, ANSWERS)
    assert WORDS.decode(torch.where(answer, ids, WORDS.pad)) == ANSWERS
    assert WORDS.decode(torch.where(mask & ~answer, ids, WORDS.pad)) == QUESTIONS


@pytest.mark.parametrize(
    "make",
    [
        objectives.ContrastiveObjective,
        partial(objectives.ContrastiveObjective, form="sigmoid"),
        objectives.MatchingObjective,
        objectives.CaptioningObjective,
        objectives.AnsweringObjective,
        objectives.MaskedWordsObjective,
        objectives.MaskedPatchesObjective,
    ],
    ids=["softmax", "sigmoid", "matching", "captioning", "answering", "masked words", "masked patches"],
)
def test_each_objective_teaches_the_tower(vlm: ComposedVLM, make: partial[objectives.Objective]) -> None:
    objective = make(vlm=vlm)
    optimizer = torch.optim.Adam([*vlm.parameters(), *objective.parameters()], 5e-3)
    losses: list[float] = []
    for _ in range(25):
        torch.manual_seed(0)
        loss = objective(seen(vlm))
        optimizer.zero_grad()
        loss.backward()
        assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in vlm.vision.parameters())
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]


def test_grounding_that_knows_nothing_costs_the_log_of_its_choices(vlm: ComposedVLM) -> None:
    grounding = objectives.GroundingObjective(vlm=vlm, bins=5)
    for head in (grounding.places, grounding.seek):
        torch.nn.init.zeros_(head.weight)
        torch.nn.init.zeros_(head.bias)
    places = torch.tensor([[0.25, 1.0], [0.25, 1.0]])
    told = Seen(vlm, pictures(), CAPTIONS, phrases=["cube", "ball"], places=places, pointed=torch.tensor([0, 2]))
    cells = math.log(4)  # the picture's 2 × 2 tokens
    assert grounding(told).item() == pytest.approx(math.log(5) + cells, abs=1e-5)
    with torch.no_grad():
        grounding.places.bias.view(2, 5)[0, 1] = grounding.places.bias.view(2, 5)[1, 4] = 40.0
    assert grounding(told).item() == pytest.approx(cells, abs=1e-5)
    found = grounding.point(vlm, reading.select(told.prefix, told.pointed), told.phrases)
    assert torch.allclose(found, places, atol=1e-4)
    assert grounding(seen(vlm)).item() == 0


@settings(max_examples=30, deadline=None)
@given(x=st.floats(0, 4), y=st.floats(0, 2))
def test_splitting_along_both_axes_interpolates_a_plane_exactly(x: float, y: float) -> None:
    plane = 3.0 * torch.arange(3)[:, None] + 2.0 * torch.arange(5)
    down, across = torch.tensor([y]), torch.tensor([x])
    found = objectives.split(objectives.split(plane[None], down, 1), across)
    assert found.item() == pytest.approx(3 * y + 2 * x, abs=1e-4)


def test_tokens_are_laid_out_as_the_grid_they_were_merged_from() -> None:
    assert objectives.laid_out((12, 8), 96) == (12, 8)
    assert objectives.laid_out((12, 8), 24) == (6, 4)
    assert objectives.laid_out((12, 12), 64) is None


def flamingo() -> GatedVLM:
    torch.manual_seed(0)
    return GatedVLM(
        vision=ConvNetTower(channels=(8, 16), depths=(1, 1), heads=2),
        connector=partial(ResamplerConnector, queries=3, depth=1, heads=2),
        language=ScratchLM(vocabulary=WORDS.vocabulary, width=16, depth=2, heads=2),
        tokenizer=WORDS,
        frozen=False,
    )


def test_cross_attention_learns_to_say_what_is_seen() -> None:
    model = Pretrainer(
        vlm=flamingo(),
        objectives={"captioning": objectives.CaptioningObjective, "answering": objectives.AnsweringObjective},
    )
    shown, captions = torch.stack([torch.zeros(16, 16, 3), torch.full((16, 16, 3), 255.0)]).byte(), CAPTIONS[:2]
    batch = {"images": shown, "captions": captions, "questions": ["what is blue?"] * 2, "answers": ["red", "ball"]}
    batch["about"] = torch.tensor([0, 1])
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.02)
    for _ in range(80):
        loss, _ = model.loss(batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    prefix = model.eval().see(shown)
    assert model.describe(prefix) == captions
    assert model.answer(prefix, torch.tensor([1, 0]), batch["questions"]) == ["ball", "red"]
    assert model.describe(prefix, start="a")[0].startswith("a red")


@torch.no_grad()
def test_rows_and_continuations_of_a_prefix_keep_what_it_looks_at() -> None:
    vlm = flamingo().eval()
    for cross in vlm.crosses:
        torch.nn.init.constant_(cross.attention_gate, 0.7)
    (tokens,) = vlm.see({reading.CAMERA: pictures()}).values()
    whole = vlm.read(tokens)
    parts = [reading.select(whole, torch.tensor(rows)) for rows in ([2, 0], [1])]
    again = reading.stacked(parts)
    ids, mask = reading.encoded(vlm, [CAPTIONS[i] for i in (2, 0, 1)])
    embedded = vlm.language.embed(ids)
    expected = vlm.extend(reading.select(whole, torch.tensor([2, 0, 1])), embedded, mask=mask)
    assert torch.equal(vlm.extend(again, embedded, mask=mask).hidden, expected.hidden)
    first = vlm.extend(again, embedded[:, :2], mask=mask[:, :2])
    rest = vlm.extend(reading.continued(again, first), embedded[:, 2:], mask=mask[:, 2:])
    real = mask[:, 2:]
    torch.testing.assert_close(rest.hidden[real], expected.hidden[:, 2:][real], atol=1e-5, rtol=1e-5)
