"""Pruned tokens: all kept is nothing changed, what stays keeps its place, and the right ones stay."""

from __future__ import annotations

from typing import Literal

import pytest
import torch
from decoders import tiny_images, tiny_vlm
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from wayhand.vla.backbones.base import Sequenced, Tokens
from wayhand.vla.backbones.decoding import greedy
from wayhand.vla.backbones.pruning import AttentionPruner, DiversityPruner, PrunedVLM, Pruner, select
from wayhand.vla.backbones.vlm import whole
from wayhand.vla.errors import ConfigError

VLM = tiny_vlm(depth=2)
IMAGES, TEXTS = tiny_images(), ["pick up", "go on to the door"]
PRUNERS = (AttentionPruner, DiversityPruner)


def prefix(pruner: Pruner, when: Literal["before", "after"]) -> Sequenced:
    with torch.no_grad():
        return PrunedVLM(inner=VLM, pruner=pruner, when=when).prefix(IMAGES, TEXTS)


def random(batch: int, count: int, seed: int = 0) -> Tokens:
    return whole(torch.randn(batch, count, 8, generator=torch.Generator().manual_seed(seed)))


@pytest.mark.parametrize("kind", PRUNERS)
@pytest.mark.parametrize("when", ["before", "after"])
def test_keeping_all_changes_nothing(kind: type[Pruner], when: Literal["before", "after"]) -> None:
    found = prefix(kind(keep=1.0), when)
    with torch.no_grad():
        plain = VLM.prefix(IMAGES, TEXTS)
    assert torch.equal(found.hidden, plain.hidden)
    assert torch.equal(found.positions, plain.positions)
    assert torch.equal(found.mask, plain.mask)
    pairs = zip(found.keys_values, plain.keys_values, strict=True)
    assert all(torch.equal(a, b) for x, y in pairs for a, b in zip(x, y, strict=True))


@pytest.mark.parametrize("kind", PRUNERS)
@pytest.mark.parametrize("when", ["before", "after"])
def test_what_stays_keeps_its_position_and_words_stay(kind: type[Pruner], when: Literal["before", "after"]) -> None:
    found = prefix(kind(keep=0.5), when)
    longest = max(len(t) for t in TEXTS)
    assert found.mask.shape == (2, 9 + longest)
    for row, text in enumerate(TEXTS):
        places = found.positions[row][found.mask[row]].tolist()
        assert places == sorted(set(places))
        assert places[9:] == list(range(18, 18 + len(text)))
        assert all(place < 18 for place in places[:9])
    assert PrunedVLM(inner=VLM, pruner=kind(keep=0.5)).next_position(found).tolist() == [18 + len(t) for t in TEXTS]


def test_pruning_afterwards_picks_from_what_was_read() -> None:
    with torch.no_grad():
        plain = VLM.prefix(IMAGES, TEXTS)
    kept = torch.tensor([[0, 3, 20], [1, 2, 19]])
    found = select(plain, kept)
    for row in range(2):
        assert torch.equal(found.hidden[row], plain.hidden[row, kept[row]])
        assert torch.equal(found.positions[row], plain.positions[row, kept[row]])
        for (keys, values), (all_keys, all_values) in zip(found.keys_values, plain.keys_values, strict=True):
            assert torch.equal(keys[row], all_keys[row][:, kept[row]])
            assert torch.equal(values[row], all_values[row][:, kept[row]])


def test_pruning_beforehand_is_reading_without_the_others() -> None:
    """Tokens that are masked in the whole sequence, positions left as they are, give the same as tokens left out."""
    pruned = prefix(AttentionPruner(keep=0.5), "before")
    with torch.no_grad():
        tokens = VLM.embed(IMAGES, TEXTS)
        count = tokens.mask.shape[1]
        stays = torch.zeros_like(tokens.mask)
        words = torch.arange(18, count).expand(2, -1)
        kept = torch.cat([pruned.positions[:, :9], words], 1)
        stays = stays.scatter(1, kept, True) & tokens.mask
        attend = stays[:, None] & torch.ones(count, count, dtype=torch.bool).tril() | torch.eye(count, dtype=torch.bool)
        positions = (tokens.mask.long().cumsum(1) - 1).clamp(min=0)
        found = VLM.language(tokens.values, attend, positions)
    rows = torch.arange(2)[:, None]
    real = pruned.mask
    assert torch.allclose(pruned.hidden[real], found.hidden[rows, kept][real], atol=1e-5)


@pytest.mark.parametrize("when", ["before", "after"])
def test_decoding_goes_on_behind_a_pruned_prefix(when: Literal["before", "after"]) -> None:
    vlm = PrunedVLM(inner=VLM, pruner=DiversityPruner(keep=0.4), when=when)
    with torch.no_grad():
        found = vlm.prefix(IMAGES, TEXTS)
    assert greedy(vlm, found, 3).tokens.shape == (2, 3)


def test_words_keep_what_they_attend_to() -> None:
    tokens = random(2, 10)
    words = Tokens(tokens.values[:, [7, 2, 4]] * 3, torch.tensor([[True, True, False], [False, True, True]]))
    kept = AttentionPruner(keep=0.2, temperature=0.05)(tokens, words)
    assert kept.tolist() == [[2, 7], [2, 4]]


def test_what_resembles_another_goes() -> None:
    values = torch.eye(8)[[0, 1, 0, 2, 1, 0, 3]][None] + 0.01 * random(1, 7).values
    kept = DiversityPruner(keep=4 / 7)(whole(values), random(1, 1))
    assert sorted({(0, 1, 0, 2, 1, 0, 3)[i] for i in kept[0].tolist()}) == [0, 1, 2, 3]


@given(st.sampled_from(PRUNERS), st.integers(1, 9), st.floats(0.05, 1.0), st.integers(0, 5))
def test_places_are_distinct_ascending_and_real_first(kind: type[Pruner], count: int, keep: float, hidden: int) -> None:
    tokens = random(1, count, seed=count)
    mask = torch.arange(count)[None] >= min(hidden, count - 1)
    kept = kind(keep=keep)(Tokens(tokens.values, mask), random(1, 2))[0].tolist()
    assert kept == sorted(set(kept))
    assert len(kept) >= keep * count - 1e-6
    real: Tensor = mask[0]
    assert sum(bool(real[i]) for i in kept) == min(len(kept), int(real.sum()))


def test_rows_do_not_influence_each_other() -> None:
    tokens, words = random(3, 12), random(3, 4, seed=9)
    for kind in PRUNERS:
        together = kind(keep=0.5)(tokens, words)
        for row in range(3):
            alone = kind(keep=0.5)(whole(tokens.values[row : row + 1]), whole(words.values[row : row + 1]))
            assert together[row].tolist() == alone[0].tolist()


def test_weights_of_a_pruned_model_are_saved_once() -> None:
    names = PrunedVLM(inner=VLM, pruner=DiversityPruner(keep=0.5)).state_dict()
    assert all(name.startswith("inner.") for name in names)


def test_shares_that_make_no_sense_are_refused() -> None:
    for keep in (0.0, 1.5):
        with pytest.raises(ConfigError, match="keep"):
            DiversityPruner(keep=keep)
    with pytest.raises(ConfigError, match="temperature"):
        AttentionPruner(keep=0.5, temperature=0)
