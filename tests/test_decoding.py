"""Decoding behind a static cache: equal to recomputing everything, whatever the batch, the padding or the method."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from decoders import Chain, TinyDecoder, TinyVLM, read
from torch import Tensor

from wayhand.vla.backbones.base import LanguageModel
from wayhand.vla.backbones.decoding import Decoding, StaticCache, continued, draw, greedy, last_hidden, sample, settle
from wayhand.vla.backbones.parallel import ParallelActions, jacobi, parallel
from wayhand.vla.backbones.speculative import (
    Draft,
    ModelDraft,
    PromptLookup,
    speculative_greedy,
    speculative_sample,
    verify,
)
from wayhand.vla.errors import ConfigError

LANGUAGE = TinyDecoder().requires_grad_(False)
IDS = torch.tensor([[3, 1, 4, 1, 5], [9, 2, 6, 0, 0], [5, 3, 5, 8, 9]])
MASK = torch.tensor([[True] * 5, [True] * 3 + [False] * 2, [True] * 5])
PREFIX = read(LANGUAGE, IDS, MASK)


def recomputed(language: LanguageModel, ids: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Greedy tokens and their logits of one row without padding, the whole sequence run for each token."""
    logits: list[Tensor] = []
    for _ in range(count):
        logits.append(language.logits(last_hidden(read(language, ids))))
        ids = torch.cat([ids, logits[-1].argmax(-1, keepdim=True)], 1)
    return ids[:, -count:], torch.stack(logits, 1)


@pytest.mark.parametrize("row", range(3))
def test_greedy_equals_recomputing_the_whole_sequence_even_with_padding(row: int) -> None:
    decoded = greedy(LANGUAGE, PREFIX, 7)
    tokens, logits = recomputed(LANGUAGE, IDS[row : row + 1, : int(MASK[row].sum())], 7)
    assert torch.equal(decoded.tokens[row : row + 1], tokens)
    assert decoded.logits is not None
    assert torch.allclose(decoded.logits[row : row + 1], logits, atol=1e-10)
    assert decoded.passes == 6


def test_decoding_leaves_its_prefix_as_it_is() -> None:
    before = [t.clone() for pair in PREFIX.keys_values for t in pair]
    first = greedy(LANGUAGE, PREFIX, 7)
    assert torch.equal(first.tokens, greedy(LANGUAGE, PREFIX, 7).tokens)
    assert all(torch.equal(a, b) for a, b in zip(before, (t for p in PREFIX.keys_values for t in p), strict=True))


def test_memory_of_a_cache_never_moves() -> None:
    stream = Decoding(LANGUAGE, PREFIX, 4)
    places = [t.data_ptr() for pair in stream.cache.keys_values for t in pair]
    for token in range(4):
        stream.run(torch.full((3, 1), token))
    assert [t.data_ptr() for pair in stream.cache.keys_values for t in pair] == places
    assert stream.cache.used.tolist() == [4, 4, 4]


def test_rows_take_tokens_back_one_by_one() -> None:
    stream = Decoding(LANGUAGE, PREFIX, 6)
    stream.run(torch.tensor([[1, 2, 3], [4, 5, 6], [7, 8, 9]]))
    stream.cache.keep(torch.tensor([1, 3, 0]))
    after = stream.run(torch.tensor([[10], [11], [12]]))
    for row, said in enumerate([[1, 10], [4, 5, 6, 11], [12]]):
        ids = torch.tensor([IDS[row, : int(MASK[row].sum())].tolist() + said])
        assert torch.allclose(after[row, 0], last_hidden(read(LANGUAGE, ids))[0], atol=1e-10)


def test_a_question_behind_a_prefix_is_a_prefix() -> None:
    vlm = TinyVLM(LANGUAGE)
    asked = torch.tensor([[4, 2], [7, 0], [1, 8]])
    real = torch.tensor([[True, True], [True, False], [True, True]])
    both = continued(PREFIX, vlm.extend(PREFIX, LANGUAGE.embed(asked), mask=real))
    assert both.mask.shape == (3, 7)
    decoded = greedy(vlm, both, 4).tokens
    for row in range(3):
        ids = torch.cat([IDS[row][MASK[row]], asked[row][real[row]]])[None]
        assert decoded[row : row + 1].tolist() == recomputed(LANGUAGE, ids, 4)[0].tolist()


def test_greedy_is_what_transformers_generates(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    from wayhand.vla.backbones.language.causal import CausalLM

    torch.manual_seed(0)
    settings = transformers.LlamaConfig(
        hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        vocab_size=40, max_position_embeddings=64, initializer_range=0.3,
        bos_token_id=None, eos_token_id=None, pad_token_id=0,
    )  # fmt: skip
    transformers.LlamaForCausalLM(settings).save_pretrained(tmp_path)
    model = transformers.LlamaForCausalLM.from_pretrained(tmp_path).eval()
    language = CausalLM(source=tmp_path).eval()
    ids = torch.tensor([[3, 1, 4, 1, 5], [9, 2, 6, 5, 3]])
    expected = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=7, do_sample=False)[:, 5:]
    with torch.no_grad():
        prefix = read(language, ids)
    assert torch.equal(greedy(language, prefix, 7).tokens, expected)
    assert torch.equal(jacobi(language, prefix, 7).tokens, expected)
    assert torch.equal(speculative_greedy(language, prefix, 7, PromptLookup(ids, 40)).tokens, expected)


def test_a_cache_without_room_is_refused() -> None:
    with pytest.raises(ConfigError, match="room"):
        StaticCache(PREFIX, 0)


def test_only_allowed_tokens_are_produced() -> None:
    allowed = torch.tensor([20, 21, 22])
    for decoded in (greedy(LANGUAGE, PREFIX, 5, allowed=allowed), jacobi(LANGUAGE, PREFIX, 5, allowed=allowed)):
        assert bool((decoded.tokens >= 20).all())


def test_behind_a_stop_there_are_only_stops() -> None:
    assert settle(torch.tensor([[1, 0, 2, 0], [0, 3, 1, 2]]), 0).tolist() == [[1, 0, 0, 0], [0, 0, 0, 0]]
    free = greedy(LANGUAGE, PREFIX, 8).tokens
    stop = int(free[0, 2])
    expected = settle(free, stop)
    decoded = greedy(LANGUAGE, PREFIX, 8, stop=stop).tokens
    assert torch.equal(decoded, expected[:, : decoded.shape[1]])
    draft = ModelDraft(LANGUAGE, PREFIX)
    assert torch.equal(speculative_greedy(LANGUAGE, PREFIX, 8, draft, stop=stop).tokens, expected)
    assert torch.equal(jacobi(LANGUAGE, PREFIX, 8, stop=stop).tokens, expected)


def test_greedy_ends_early_where_all_rows_have_stopped() -> None:
    prefix = read(LANGUAGE, IDS[:1])
    free = greedy(LANGUAGE, prefix, 8)
    decoded = greedy(LANGUAGE, prefix, 8, stop=int(free.tokens[0, 1]))
    assert decoded.tokens.shape[1] <= 2
    assert decoded.passes <= 1


# --- many tokens in a pass -------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_the_fixed_point_is_greedy_whatever_was_guessed(seed: int) -> None:
    guess = torch.randint(0, 23, (3, 7), generator=torch.Generator().manual_seed(seed))
    found = jacobi(LANGUAGE, PREFIX, 7, guess=guess)
    best = greedy(LANGUAGE, PREFIX, 7)
    assert torch.equal(found.tokens, best.tokens)
    assert found.logits is not None
    assert best.logits is not None
    assert torch.allclose(found.logits, best.logits, atol=1e-10)
    assert found.passes <= 6


def test_a_right_guess_takes_one_pass() -> None:
    best = greedy(LANGUAGE, PREFIX, 7)
    assert jacobi(LANGUAGE, PREFIX, 7, guess=best.tokens).passes == 1
    assert jacobi(LANGUAGE, PREFIX, 1).tokens.tolist() == best.tokens[:, :1].tolist()


def test_a_guess_of_another_shape_is_refused() -> None:
    with pytest.raises(ConfigError, match="guess"):
        jacobi(LANGUAGE, PREFIX, 7, guess=torch.zeros(3, 6, dtype=torch.long))


def test_placeholders_see_each_other_in_one_pass() -> None:
    placeholders = LANGUAGE.embed(torch.tensor([7, 8, 9]))
    decoded = parallel(LANGUAGE, PREFIX, placeholders)
    assert decoded.passes == 1
    assert decoded.tokens.shape == (3, 3)
    changed = placeholders.clone()
    changed[2] *= -1
    other = parallel(LANGUAGE, PREFIX, changed)
    assert decoded.logits is not None
    assert other.logits is not None
    assert not torch.allclose(decoded.logits[:, 0], other.logits[:, 0])


def test_parallel_actions_learn_a_chunk() -> None:
    vlm = TinyVLM(LANGUAGE)
    torch.manual_seed(0)
    head = ParallelActions(width=16, chunk=4, actions=3, hidden=32).double()
    prefix = vlm.prefix({}, ["abc", "de"])
    wanted = torch.linspace(-1, 1, 24, dtype=torch.float64).view(2, 4, 3)
    losses: list[float] = []
    for _ in range(30):
        found = head(vlm, prefix)
        assert found.shape == (2, 4, 3)
        loss = (found - wanted).square().mean()
        slopes = torch.autograd.grad(loss, list(head.parameters()))
        for parameter, slope in zip(head.parameters(), slopes, strict=True):
            assert bool(slope.any())
            parameter.data -= 0.1 * slope
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


# --- speculation -----------------------------------------------------------------------------------------------


def drafts() -> dict[str, Draft]:
    other = TinyDecoder(depth=1, seed=7)
    return {
        "itself": ModelDraft(LANGUAGE, PREFIX),
        "another": ModelDraft(other, read(other, IDS, MASK)),
        "lookup": PromptLookup(IDS, 23),
    }


@pytest.mark.parametrize("name", ["itself", "another", "lookup"])
@pytest.mark.parametrize("ahead", [1, 3, 9])
def test_speculative_decoding_equals_greedy_token_for_token(name: str, ahead: int) -> None:
    decoded = speculative_greedy(LANGUAGE, PREFIX, 8, drafts()[name], ahead=ahead)
    assert torch.equal(decoded.tokens, greedy(LANGUAGE, PREFIX, 8).tokens)
    if name == "itself":
        assert decoded.passes == -(-7 // (ahead + 1))


def test_a_lookup_proposes_what_followed_before() -> None:
    draft = PromptLookup(torch.tensor([[1, 2, 3, 4, 1, 2]]), 5)
    draft.begin(9, None)
    tokens, chances = draft.propose(torch.tensor([3]), 3, lambda logits: (logits, logits))
    assert tokens.tolist() == [[4, 1, 2]]
    assert torch.equal(chances.argmax(-1), tokens)


def test_draws_follow_their_chances_exactly() -> None:
    chances = torch.tensor([[0.0, 0.5, 0.0, 0.375, 0.125, 0.0]]).expand(8, -1)
    uniform = (torch.arange(8) + 0.5) / 8
    assert draw(chances, uniform).tolist() == [1, 1, 1, 1, 3, 3, 3, 4]
    assert draw(chances[:1], torch.tensor([1 - 1e-17])).tolist() == [4]


P = torch.tensor([[4.0, 2, 1, 1], [1, 4, 1, 2], [2, 2, 2, 2], [0, 6, 1, 1]], dtype=torch.float64) / 8
Q = torch.tensor([[2.0, 2, 2, 2], [1, 4, 1, 2], [4, 2, 1, 1], [4, 1, 2, 1]], dtype=torch.float64) / 8
GRID = (torch.arange(64, dtype=torch.float64) + 0.5) / 64


def test_one_proposal_yields_the_target_distribution_exactly() -> None:
    """Every proposal with its weight, every uniform number on a grid that all thresholds of P and Q lie on."""
    for p, q in zip(P, Q, strict=True):
        law = torch.zeros(4, dtype=torch.float64)
        for x in range(4):
            keep, again = torch.meshgrid(GRID, GRID, indexing="ij")
            count = keep.numel()
            accepted, follows = verify(
                torch.stack([p, P[0]]).expand(count, -1, -1),
                q.expand(count, 1, -1),
                torch.full((count, 1), x),
                keep.reshape(-1, 1),
                again.reshape(-1),
            )
            first = torch.where(accepted == 1, x, follows)
            law += q[x] * torch.bincount(first, minlength=4) / count
        assert torch.allclose(law, p, atol=1e-12)


def test_many_proposals_yield_the_target_chain_exactly() -> None:
    """All proposals, all acceptances, all draws, each with its weight; what a round leaves open the chain continues."""
    start, law = 0, torch.zeros(4, 4, 4, dtype=torch.float64)
    for proposal in product(range(4), repeat=2):
        path = (start, *proposal)
        target, drafted = P[list(path)], Q[list(path[:-1])]
        drawn, stands = 1.0, []
        for i, token in enumerate(proposal):
            drawn *= float(drafted[i, token])
            stands.append(min(1.0, float(target[i, token] / drafted[i, token])))
        for accepted, reach in enumerate((1 - stands[0], stands[0] * (1 - stands[1]), stands[0] * stands[1])):
            keep = torch.tensor([0.0 if i < accepted else 1 - 1e-9 for i in range(2)], dtype=torch.float64)
            if drawn * reach == 0:
                continue
            stood, follows = verify(
                target.expand(64, -1, -1),
                drafted.expand(64, -1, -1),
                torch.tensor(proposal).expand(64, -1),
                keep.expand(64, -1),
                GRID,
            )
            assert stood.tolist() == [accepted] * 64
            for token in follows.tolist():
                law[_those_that_begin((*proposal[:accepted], token))] += (
                    drawn * reach / 64 * _chances_after((*proposal[:accepted], token))
                )
    assert torch.allclose(law, P[start][:, None, None] * P[:, :, None] * P[None], atol=1e-12)


def _those_that_begin(said: tuple[int, ...]) -> tuple[int | slice, ...]:
    return (*said, *[slice(None)] * (3 - len(said)))


def _chances_after(said: tuple[int, ...]) -> Tensor:
    """P of the tokens that fill up to three, given those said: [4 4], [4] or a number."""
    last = P[said[-1]]
    return {1: last[:, None] * P, 2: last, 3: torch.tensor(1.0)}[len(said)]


def test_sampling_behind_a_draft_has_the_law_of_sampling() -> None:
    language, draft = Chain(P), Chain(Q)
    rows = 4096
    ids = torch.zeros(rows, 1, dtype=torch.long)
    rng = [np.random.default_rng([5, i]) for i in range(rows)]
    prefix = read(language, ids)
    tokens = speculative_sample(language, prefix, 3, ModelDraft(draft, read(draft, ids)), rng, ahead=2).tokens
    expected = (P[0][:, None, None] * P[:, :, None] * P[None]).reshape(-1)
    found = torch.bincount(tokens[:, 0] * 16 + tokens[:, 1] * 4 + tokens[:, 2], minlength=64) / rows
    possible = expected > 0
    chi_square = float((rows * (found - expected)[possible] ** 2 / expected[possible]).sum())
    freedom = int(possible.sum()) - 1
    assert chi_square < freedom + 4 * (2 * freedom) ** 0.5
    assert bool((found[expected == 0] == 0).all())


def test_a_row_is_sampled_alike_in_any_company() -> None:
    def rng() -> list[np.random.Generator]:
        return [np.random.default_rng(i) for i in range(3)]

    together = sample(LANGUAGE, PREFIX, 6, rng(), temperature=0.7).tokens
    alone = sample(LANGUAGE, read(LANGUAGE, IDS[2:]), 6, rng()[2:], temperature=0.7).tokens
    assert together[2:].tolist() == alone.tolist()
    draft = drafts()["itself"]
    assert torch.equal(
        speculative_sample(LANGUAGE, PREFIX, 6, draft, rng()).tokens,
        speculative_sample(LANGUAGE, PREFIX, 6, draft, rng()).tokens,
    )


def test_a_temperature_of_zero_is_refused() -> None:
    with pytest.raises(ConfigError, match="temperature"):
        sample(LANGUAGE, PREFIX, 2, [np.random.default_rng(0)] * 3, temperature=0)
