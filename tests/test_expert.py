"""Laws of the action expert and of flow matching over a cached prefix."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from wayhand.vla.backbones.base import Sequenced
from wayhand.vla.backbones.connectors.projection import LinearConnector
from wayhand.vla.backbones.decoder import Decoder
from wayhand.vla.backbones.expert import ActionExpert
from wayhand.vla.backbones.flow import FlowExpert, NoiseAtOne, time_features
from wayhand.vla.backbones.language.tokenizers import ByteTokenizer
from wayhand.vla.backbones.native import NativeVLM, blockwise, padded
from wayhand.vla.backbones.siglip import SiglipTower
from wayhand.vla.errors import ConfigError, SpecError

KINDS: dict[str, dict[str, Any]] = {
    "pi0": {"state": 6},
    "pi05": {"time": "norm", "condition": 24},
    "smolvla": {"alternate": 2, "causal": True},
}


def make(kind: str, *, seed: int = 0) -> tuple[NativeVLM, FlowExpert]:
    """A tiny model with random weights everywhere."""
    torch.manual_seed(seed)
    family: Any = "llama" if kind == "smolvla" else "gemma"
    options = dict(KINDS[kind])
    vlm = NativeVLM(
        vision=SiglipTower(size=16, patch=8, width=16, depth=1, heads=2, inner=24),
        connector=partial(LinearConnector),
        language=Decoder(vocabulary=259, width=32, depth=2, heads=4, kv_heads=2, inner=48, family=family),
        tokenizer=ByteTokenizer(),
        state=6 if kind == "smolvla" else 0,
        scaling="all" if kind == "smolvla" else "words",
    )
    expert = ActionExpert(
        language=vlm.language,
        width=24,
        inner=40,
        alternate=options.pop("alternate", 0),
        condition=options.pop("condition", 0),
        family=family,
    )
    flow = FlowExpert(expert=expert, actions=6, **options)
    for parameter in [*vlm.parameters(), *flow.parameters()]:
        nn.init.normal_(parameter, std=0.2)
    return vlm.eval(), flow.eval()


def make_inputs(batch: int = 2, *, words: int = 5) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(1)
    mask = torch.ones(batch, words, dtype=torch.bool)
    mask[0, 3:] = False
    return {
        "images": torch.randint(0, 256, (batch, 2, 16, 16, 3), dtype=torch.uint8, generator=g),
        "ids": torch.randint(0, 256, (batch, words), generator=g),
        "mask": mask,
        "state": torch.randn(batch, 6, generator=g),
        "noise": torch.randn(batch, 5, 6, generator=g),
    }


def read(vlm: NativeVLM, inputs: dict[str, Tensor]) -> Sequenced:
    pixels = torch.stack([vlm.pixels(inputs["images"][:, c]) for c in range(2)], 1)
    state = inputs["state"] if vlm.state is not None else None
    return vlm.read(vlm.embed(pixels, inputs["ids"], inputs["mask"], state))


def plain(vlm: NativeVLM, flow: FlowExpert, inputs: dict[str, Tensor], steps: int = 4) -> Tensor:
    """Actions of the plain path."""
    with torch.no_grad():
        cache = flow.cache(read(vlm, inputs), inputs["state"] if flow.state is not None else None)
        return flow.sample(inputs["noise"], cache, steps)


@pytest.mark.parametrize("kind", KINDS)
def test_a_cached_prefix_gives_what_reading_it_again_at_every_step_gives(kind: str) -> None:
    vlm, flow = make(kind)
    inputs = make_inputs()
    state = inputs["state"] if flow.state is not None else None
    with torch.no_grad():
        again = NoiseAtOne.integrate(lambda x, t: flow(x, t, flow.cache(read(vlm, inputs), state)), inputs["noise"], 4)
    torch.testing.assert_close(plain(vlm, flow, inputs), again, atol=1e-4, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_denoising_never_changes_the_cache(kind: str) -> None:
    vlm, flow = make(kind)
    inputs = make_inputs()
    with torch.no_grad():
        cache = flow.cache(read(vlm, inputs), inputs["state"] if flow.state is not None else None)
        before = [t.clone() for pair in cache.keys_values for t in pair]
        flow.sample(inputs["noise"], cache, 3)
    assert all(torch.equal(a, b) for a, b in zip(before, (t for p in cache.keys_values for t in p), strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_padded_words_change_nothing(kind: str) -> None:
    vlm, flow = make(kind)
    inputs = make_inputs()
    more = {**inputs, "ids": torch.cat([inputs["ids"], torch.full((2, 4), 7)], 1)}
    more["mask"] = torch.cat([inputs["mask"], torch.zeros(2, 4, dtype=torch.bool)], 1)
    torch.testing.assert_close(plain(vlm, flow, more), plain(vlm, flow, inputs), atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_rows_do_not_see_each_other(kind: str) -> None:
    vlm, flow = make(kind)
    inputs = make_inputs()
    alone = {name: value[1:] for name, value in inputs.items()}
    torch.testing.assert_close(plain(vlm, flow, alone), plain(vlm, flow, inputs)[1:], atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_an_action_sees_later_ones_unless_it_is_causal(kind: str) -> None:
    vlm, flow = make(kind)
    inputs = make_inputs()
    cache = flow.cache(read(vlm, inputs), inputs["state"] if flow.state is not None else None)
    other = inputs["noise"].clone()
    other[:, 3:] += 1
    t = torch.full((2,), 0.5)
    same = torch.isclose(flow(inputs["noise"], t, cache), flow(other, t, cache), atol=1e-6).all(-1)
    assert same[:, :3].all() == flow.causal
    assert not same[:, 3:].any()


@torch.no_grad()
def test_the_state_block_is_the_same_in_every_step() -> None:
    """π0 runs state and actions together in each step; the state does not see the actions, so once is enough."""
    vlm, flow = make("pi0")
    assert flow.state is not None
    inputs = make_inputs()
    prefix = read(vlm, inputs)
    t = torch.full((2,), 0.3)
    tokens = torch.cat([flow.state(inputs["state"])[:, None], flow.embed(inputs["noise"], t)[0]], 1)
    _, together, _ = blockwise(torch.ones(1, 6, dtype=torch.bool), torch.tensor([0, 1, 1, 1, 1, 1]))
    joint = flow.leave(flow.expert(tokens, flow.expert.cache(prefix), together[0]))[:, 1:]
    torch.testing.assert_close(flow(inputs["noise"], t, flow.cache(prefix, inputs["state"])), joint, atol=1e-5, rtol=0)


@torch.no_grad()
def test_modulated_norms_start_with_closed_gates() -> None:
    language = Decoder(vocabulary=10, width=16, depth=1, heads=2, kv_heads=1, inner=16)
    expert = ActionExpert(language=language, width=12, inner=16, condition=4)
    x = torch.randn(1, 3, 12)
    cache = expert.cache(language(torch.randn(1, 2, 16), torch.ones(1, 2, 2).bool(), torch.arange(2)[None]))
    expected = nn.functional.rms_norm(x, (12,), eps=1e-5)
    torch.testing.assert_close(expert(x, cache, torch.ones(3, 3).bool(), torch.randn(1, 4)), expected)
    with pytest.raises(ConfigError, match="needs a condition"):
        expert(x, cache, torch.ones(3, 3).bool())


def test_an_expert_of_half_the_depth_attends_to_every_other_layer() -> None:
    language = Decoder(vocabulary=10, width=16, depth=4, heads=2, kv_heads=1, inner=16)
    expert = ActionExpert(language=language, width=12, inner=16, depth=2)
    done = language(torch.randn(1, 2, 16), torch.ones(1, 2, 2).bool(), torch.arange(2)[None])
    cache = expert.cache(done)
    assert torch.equal(cache.keys_values[1][0], done.keys_values[2][0])
    with pytest.raises(ConfigError, match="divides 4"):
        ActionExpert(language=language, width=12, inner=16, depth=3)


def test_what_does_not_fit_is_refused() -> None:
    vlm, flow = make("smolvla")
    with pytest.raises(ConfigError, match="where time enters"):
        FlowExpert(expert=flow.expert, actions=6, time="norm")
    with pytest.raises(ConfigError, match="language model's tokens alone"):
        flow.expert.extend(flow.expert.cache(read(vlm, make_inputs())), torch.zeros(2, 1, 24))
    other, token = make("pi0")
    prefix = read(other, make_inputs())
    with pytest.raises(ConfigError, match="state enters the expert"):
        token.cache(prefix)
    with pytest.raises(SpecError, match="extra modalities"):
        vlm.prefix({"front": make_inputs()["images"][:, 0]}, ["a", "b"])
    with pytest.raises(SpecError, match="room"):
        padded(torch.zeros(1, 7), 6)


def test_the_prefix_attends_by_blocks() -> None:
    mask = torch.tensor([[True, True, False, True]])
    _, attend, positions = blockwise(mask, torch.tensor([0, 0, 0, 1]))
    assert attend[0, 0].tolist() == [True, True, False, False]
    assert attend[0, 3].tolist() == [True, True, False, True]
    assert attend[0, 2, 2] and positions.tolist() == [[0, 1, 1, 2]]


def test_noise_lies_at_one() -> None:
    g = torch.Generator().manual_seed(0)
    actions, noise = torch.randn(2, 3, 4, generator=g), torch.randn(2, 3, 4, generator=g)
    torch.testing.assert_close(NoiseAtOne.point(actions, noise, torch.ones(2)), noise)
    torch.testing.assert_close(NoiseAtOne.point(actions, noise, torch.zeros(2)), actions)
    exact = NoiseAtOne.velocity(actions, noise)
    for steps in (1, 7):
        torch.testing.assert_close(NoiseAtOne.integrate(lambda x, t: exact, noise, steps), actions)
    assert NoiseAtOne.times(4) == [1.0, 0.75, 0.5, 0.25]


def test_times_follow_their_distribution() -> None:
    torch.manual_seed(0)
    t = NoiseAtOne.sample_times(50_000)
    assert t.min() >= 0.001 and t.max() <= 1.0
    for level in (0.2, 0.5, 0.8):  # P(t ≤ 0.001 + 0.999·q) = q^1.5
        assert (t <= 0.001 + 0.999 * level).float().mean().item() == pytest.approx(level**1.5, abs=0.01)


def test_time_features_are_sines_and_cosines_of_known_periods() -> None:
    features = time_features(torch.tensor([0.5]), 4)[0]
    angles = torch.tensor([0.5 * 2 * torch.pi / 4e-3, 0.5 * 2 * torch.pi / 4.0], dtype=torch.float64)
    torch.testing.assert_close(features, torch.cat([angles.sin(), angles.cos()]).float(), atol=1e-6, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_reach_the_language_model_through_the_cache(kind: str) -> None:
    vlm, flow = make(kind)
    inputs = make_inputs()
    cache = flow.cache(read(vlm, inputs), inputs["state"] if flow.state is not None else None)
    flow(inputs["noise"], torch.full((2,), 0.5), cache).square().mean().backward()
    assert vlm.language.layers[0].get_submodule("feed.gate").weight.grad.abs().sum() > 0  # type: ignore[union-attr]
    assert vlm.vision.embed.weight.grad is not None
