"""Laws of language models: the numbers of transformers, a past that stays, masks and positions that are obeyed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM

from wayhand.vla.backbones.base import LanguageModel, Sequenced
from wayhand.vla.backbones.language.causal import CausalLM
from wayhand.vla.backbones.language.scratch import ScratchLM
from wayhand.vla.errors import ConfigError

SIZES = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
HYBRID = {"sliding_window": 3, "layer_types": ["sliding_attention", "full_attention"]}
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {"model_type": "llama"},
    "llama one head per query": {"model_type": "llama", "num_key_value_heads": 4, "tie_word_embeddings": True},
    "llama multi-query": {"model_type": "llama", "num_key_value_heads": 1},
    "mistral with a window": {"model_type": "mistral", "sliding_window": 3},
    "qwen2": {"model_type": "qwen2"},
    "qwen2 with a window": {"model_type": "qwen2", "use_sliding_window": True, **HYBRID},
    "qwen3": {"model_type": "qwen3"},
    "gemma multi-query": {"model_type": "gemma", "num_key_value_heads": 1, "tie_word_embeddings": True},
    "gemma2": {"model_type": "gemma2", "query_pre_attn_scalar": 8, **HYBRID},
    "gemma3": {"model_type": "gemma3_text", "query_pre_attn_scalar": 8, **HYBRID},
}
COUNT = 9


@pytest.fixture(params=FAMILIES, scope="module")
def saved(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A folder that transformers wrote and the model in it, whose weights are large enough for attention to matter."""
    torch.manual_seed(0)
    settings = AutoConfig.for_model(**SIZES | FAMILIES[request.param])
    # Soft caps on attention scores exist in the eager implementation alone.
    kind = "eager" if settings.model_type == "gemma2" else "sdpa"
    model = AutoModelForCausalLM.from_config(settings, attn_implementation=kind).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.copy_(torch.randn_like(weight) * (0.25 if weight.ndim == 2 else 0.1) + ("norm" in name))
    folder = tmp_path_factory.mktemp("saved") / "model"
    model.save_pretrained(folder)
    return folder, model


def tokens(rows: int = 2, count: int = COUNT) -> Tensor:
    return torch.randint(3, 64, (rows, count), generator=torch.Generator().manual_seed(1))


def causal(rows: int, count: int) -> Tensor:
    return torch.ones(rows, count, count, dtype=torch.bool).tril()


def places(rows: int, count: int) -> Tensor:
    return torch.arange(count).expand(rows, count)


def whole(lm: LanguageModel, ids: Tensor, **more: Any) -> Sequenced:
    return lm(lm.embed(ids), causal(*ids.shape), places(*ids.shape), **more)


@torch.no_grad()
def test_logits_and_hidden_states_are_those_of_transformers(saved: tuple[Path, Any]) -> None:
    folder, model = saved
    lm, ids = CausalLM(source=folder).eval(), tokens()
    expected = model(input_ids=ids, output_hidden_states=True, use_cache=False)
    found = whole(lm, ids, layers=True)
    torch.testing.assert_close(lm.logits(found.hidden), expected.logits, atol=1e-5, rtol=1e-5)
    assert len(found.layers) == lm.depth == 2
    for ours, theirs in zip(found.layers, expected.hidden_states, strict=False):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    assert found.mask.all()
    shape = (2, lm.kv_heads, COUNT, lm.head_width)
    assert [tuple(t.shape) for pair in found.keys_values for t in pair] == [shape] * 4


@torch.no_grad()
def test_padding_before_a_text_changes_nothing(saved: tuple[Path, Any]) -> None:
    """Left padding, as transformers generates with it; the padded tokens are no real ones."""
    lm, ids, pad = CausalLM(source=saved[0]).eval(), tokens(1, 6), 3
    padded = torch.cat([torch.zeros(1, pad, dtype=torch.long), ids], 1)
    attend = causal(1, 9)
    attend[..., :pad] = False
    positions = (torch.arange(9) - pad).clamp(min=0)[None]
    found = lm(lm.embed(padded), attend, positions)
    torch.testing.assert_close(found.hidden[:, pad:], whole(lm, ids).hidden, atol=1e-5, rtol=1e-5)
    assert found.mask.tolist() == [[False] * pad + [True] * 6]


@torch.no_grad()
def test_a_gap_of_padding_inside_the_past_changes_nothing(saved: tuple[Path, Any]) -> None:
    """A window counts real tokens, so a prefix padded to a fixed length serves as well as one without padding."""
    lm, ids = CausalLM(source=saved[0]).eval(), tokens(1)
    prefix = whole(lm, torch.cat([ids[:, :4], torch.zeros(1, 3, dtype=torch.long)], 1))
    attend = torch.cat([torch.ones(1, 5, 4), torch.zeros(1, 5, 3), torch.ones(1, 5, 5).tril()], -1).bool()
    found = lm(lm.embed(ids[:, 4:]), attend, torch.arange(4, 9)[None], prefix.keys_values)
    torch.testing.assert_close(found.hidden, whole(lm, ids).hidden[:, 4:], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_a_prefix_and_its_suffix_are_the_whole_and_the_past_stays(saved: tuple[Path, Any]) -> None:
    lm, ids = CausalLM(source=saved[0]).eval(), tokens()
    assert_continues(lm, ids)


def assert_continues(lm: LanguageModel, ids: Tensor) -> None:
    expected = whole(lm, ids)
    prefix = lm(lm.embed(ids[:, :5]), causal(2, 5), places(2, 5))
    before = [(keys.clone(), values.clone()) for keys, values in prefix.keys_values]
    for _ in range(2):  # the second time finds the same past
        rest = lm(lm.embed(ids[:, 5:]), causal(2, COUNT)[:, 5:], places(2, COUNT)[:, 5:], prefix.keys_values)
        torch.testing.assert_close(rest.hidden, expected.hidden[:, 5:], atol=1e-5, rtol=1e-5)
    for own, kept, all_ in zip(prefix.keys_values, before, expected.keys_values, strict=True):
        assert torch.equal(own[0], kept[0]) and torch.equal(own[1], kept[1])
        torch.testing.assert_close(own[0], all_[0][:, :, :5], atol=1e-5, rtol=1e-5)
    for own, all_ in zip(rest.keys_values, expected.keys_values, strict=True):
        torch.testing.assert_close(own[1], all_[1][:, :, 5:], atol=1e-5, rtol=1e-5)


# --- what a caller decides -------------------------------------------------------------------------------------


def models() -> dict[str, LanguageModel]:
    torch.manual_seed(0)
    return {
        "transformers": CausalLM(config=SIZES | FAMILIES["llama"]),
        "scratch": ScratchLM(vocabulary=64, width=32, depth=2, heads=4, kv_heads=2),
        "scratch multi-query": ScratchLM(vocabulary=64, width=32, depth=2, heads=4, kv_heads=1),
    }


@pytest.fixture(params=("transformers", "scratch", "scratch multi-query"))
def lm(request: pytest.FixtureRequest) -> LanguageModel:
    return models()[request.param].eval()


@torch.no_grad()
def test_every_model_continues_a_past(lm: LanguageModel) -> None:
    assert_continues(lm, tokens())


@torch.no_grad()
def test_what_may_not_be_attended_to_has_no_influence(lm: LanguageModel) -> None:
    ids, attend = tokens(), causal(2, COUNT)
    attend[:, 6:, 2] = False
    attend[:, 2] = False  # a token that may attend to nothing is a number all the same
    x = lm.embed(ids)
    other = x.clone()
    other[:, 2] += torch.randn(lm.width)
    found, changed = (lm(v, attend, places(2, COUNT)).hidden for v in (x, other))
    rest = [0, 1, 6, 7, 8]
    assert found.isfinite().all()
    # tokens 3 to 5 saw token 2, and 6 to 8 see them, but only through the second layer
    assert torch.equal(found[:, :2], changed[:, :2])
    attend[:, 3:6, 2] = False
    found, changed = (lm(v, attend, places(2, COUNT)).hidden for v in (x, other))
    torch.testing.assert_close(found[:, rest], changed[:, rest])


@torch.no_grad()
def test_only_differences_of_positions_matter(lm: LanguageModel) -> None:
    x = lm.embed(tokens())
    here, there = (lm(x, causal(2, COUNT), places(2, COUNT) + shift).hidden for shift in (0, 5))
    torch.testing.assert_close(here, there, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_tokens_may_attend_to_what_follows(lm: LanguageModel) -> None:
    ids = tokens()
    everything = torch.ones(2, COUNT, COUNT, dtype=torch.bool)
    x = lm.embed(ids)
    found = lm(x, everything, places(2, COUNT)).hidden
    order = torch.arange(COUNT).flip(0)
    turned = lm(x[:, order], everything, places(2, COUNT)[:, order]).hidden
    torch.testing.assert_close(turned, found[:, order], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_what_comes_between_layers_is_read_by_the_next(lm: LanguageModel) -> None:
    x, seen = lm.embed(tokens()), list[int]()

    def between(layer: int, hidden: Tensor) -> Tensor:
        seen.append(layer)
        return hidden + (layer == 1)

    found = lm(x, causal(2, COUNT), places(2, COUNT), layers=True, between=between)
    plain = whole(lm, tokens(), layers=True)
    assert seen == [0, 1, 2]
    torch.testing.assert_close(found.layers[1], plain.layers[1] + 1)
    assert not torch.allclose(found.hidden, plain.hidden)
    torch.testing.assert_close(whole(lm, tokens()).hidden, plain.hidden)


def test_every_weight_learns_and_a_text_can_be_learnt(lm: LanguageModel) -> None:
    lm.train()
    ids = tokens(4, 8)
    optimizer = torch.optim.AdamW(lm.parameters(), lr=1e-2)
    losses: list[float] = []
    for _ in range(40):
        logits = lm.logits(whole(lm, ids).hidden)
        loss = nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        assert all(p.grad is not None for p in lm.parameters())
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 < 3 < losses[0]


def test_weights_round_trip_by_name(lm: LanguageModel) -> None:
    torch.manual_seed(1)
    other = {name: value + 1 for name, value in lm.state_dict().items()}
    lm.load_state_dict(other)
    assert all(torch.equal(value, other[name]) for name, value in lm.state_dict().items())
    pointers = [value.data_ptr() for value in lm.state_dict().values()]
    assert len(set(pointers)) == len(pointers), "a tied weight would stand twice in a checkpoint"


# --- construction ----------------------------------------------------------------------------------------------


@torch.no_grad()
def test_the_first_layers_alone_are_the_first_layers(tmp_path: Path) -> None:
    torch.manual_seed(0)
    lm = CausalLM(config=SIZES | FAMILIES["qwen3"]).eval()
    expected = whole(lm, tokens(), layers=True)
    lm.keep(1)
    found = whole(lm, tokens(), layers=True)
    assert lm.depth == len(found.keys_values) == 1
    torch.testing.assert_close(found.hidden, lm.decoder.norm(expected.layers[1]))
    with pytest.raises(ConfigError, match="not so many layers"):
        lm.keep(2)


def test_a_frozen_model_passes_gradients_on_and_keeps_its_own() -> None:
    lm = CausalLM(config=SIZES | FAMILIES["llama"], frozen=True).train()
    assert not lm.training and not any(p.requires_grad for p in lm.parameters())
    x = lm.embed(tokens()).requires_grad_()
    lm(x, causal(2, COUNT), places(2, COUNT)).hidden.sum().backward()
    assert x.grad is not None and x.grad.abs().sum() > 0


def test_half_precision_follows_full(saved: tuple[Path, Any]) -> None:
    lm = CausalLM(source=saved[0], precision="bfloat16").eval()
    with torch.no_grad():
        found = lm.logits(whole(lm, tokens()).hidden)
        expected = saved[1](input_ids=tokens()).logits
    assert found.dtype == torch.bfloat16
    assert (found.float() - expected).norm() < 0.05 * expected.norm()


GRANITE = {"model_type": "granite", "embedding_multiplier": 2.0, "logits_scaling": 3.0}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "`source` or `config`"),
        ({"source": "x", "config": {"model_type": "llama"}}, "`source` or `config`"),
        ({"config": SIZES | GRANITE}, "'granite' computes in a way that CausalLM does not reproduce"),
        ({"config": {"model_type": "gpt2", "vocab_size": 64, "n_embd": 16, "n_layer": 1, "n_head": 2}}, "not a stack"),
        ({"config": {"hidden_size": 4}}, "model_type"),
        ({"config": SIZES | FAMILIES["llama"], "depth": 3}, "not so many layers"),
    ],
)
def test_what_cannot_be_built_is_refused(arguments: Mapping[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        CausalLM(**arguments)


def test_the_scratch_model_has_the_sizes_it_is_told() -> None:
    lm = ScratchLM(vocabulary=50, width=48, depth=3, heads=4, kv_heads=2, inner=64)
    a_layer = 48 * (4 + 2 * 2) * 12 + 48 * 48 + 3 * 48 * 64 + 2 * 48
    assert sum(p.numel() for p in lm.parameters()) == 50 * 48 + 3 * a_layer + 48
    with pytest.raises(ConfigError, match="heads"):
        ScratchLM(vocabulary=50, width=48, heads=4, kv_heads=3)
