"""Laws of the plain decoder, tower and connector: golden parity with transformers, cache, padding, errors."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from wayhand.vla.backbones.decoder import Decoder, Shape, rotate, rotation
from wayhand.vla.backbones.siglip import PixelShuffle, SiglipTower, letterbox
from wayhand.vla.backbones.weights import LAYER, VISION, VISION_LAYER, nested, numbered, renamed
from wayhand.vla.errors import ConfigError, SpecError

SIZES: dict[str, Any] = {"vocabulary": 50, "width": 32, "depth": 2, "heads": 4, "kv_heads": 2, "inner": 48}


def scatter(module: nn.Module, seed: int = 0) -> nn.Module:
    """Random weights everywhere, so that a norm or a bias left out shows."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.2, generator=generator)
    return module.eval()


def causal(mask: Tensor) -> Tensor:
    count = mask.shape[1]
    return torch.ones(count, count, dtype=torch.bool).tril() & mask[:, None] | torch.eye(count, dtype=torch.bool)


def reference(family: str) -> nn.Module:
    from transformers import GemmaConfig, GemmaModel, LlamaConfig, LlamaModel

    sizes: dict[str, Any] = {
        "vocab_size": 50,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 48,
        "head_dim": 8,
        "rms_norm_eps": 1e-5,
        "pad_token_id": 0,
    }
    return scatter(LlamaModel(LlamaConfig(**sizes)) if family == "llama" else GemmaModel(GemmaConfig(**sizes)))


@pytest.mark.parametrize("family", ["llama", "gemma"])
@torch.no_grad()
def test_the_decoder_is_that_of_transformers(family: Any) -> None:
    theirs = reference(family)
    ours = Decoder(**SIZES, family=family)
    names = {
        r"embed_tokens\.weight": "words.weight",
        r"norm\.weight": "norm.weight",
        **numbered("layers", "layers", LAYER),
    }
    ours.load_state_dict(renamed(theirs.state_dict(), names))
    ids = torch.randint(0, 50, (2, 7), generator=torch.Generator().manual_seed(0))
    mask = torch.ones(2, 7, dtype=torch.bool)
    mask[1, 5:] = False
    expected = theirs(input_ids=ids, attention_mask=mask.long(), use_cache=True)
    found = ours(ours.embed(ids), causal(mask), torch.arange(7).expand(2, -1))
    torch.testing.assert_close(found.hidden[mask], expected.last_hidden_state[mask], atol=1e-5, rtol=0)
    for (keys, values), layer in zip(found.keys_values, expected.past_key_values.layers, strict=True):
        where = mask[:, None, :, None].expand_as(keys)
        torch.testing.assert_close(keys[where], layer.keys[where], atol=1e-5, rtol=0)
        torch.testing.assert_close(values[where], layer.values[where], atol=1e-5, rtol=0)


@torch.no_grad()
def test_reading_in_two_parts_is_reading_at_once() -> None:
    ours = scatter(Decoder(**SIZES))
    assert isinstance(ours, Decoder)
    x = torch.randn(1, 6, 32, generator=torch.Generator().manual_seed(0))
    attend, places = causal(torch.ones(1, 6, dtype=torch.bool)), torch.arange(6)[None]
    whole = ours(x, attend, places, layers=True)
    first = ours(x[:, :4], attend[:, :4, :4], places[:, :4])
    before = [tensor.clone() for pair in first.keys_values for tensor in pair]
    second = ours(x[:, 4:], attend[:, 4:], places[:, 4:], first.keys_values)
    torch.testing.assert_close(second.hidden, whole.hidden[:, 4:])
    assert all(torch.equal(a, b) for a, b in zip(before, (t for p in first.keys_values for t in p), strict=True))
    assert len(whole.layers) == 2 and torch.equal(whole.layers[0], x)


@torch.no_grad()
def test_a_token_that_sees_nothing_stays_finite() -> None:
    ours = scatter(Decoder(**SIZES))
    hidden = ours(torch.randn(1, 3, 32), torch.zeros(1, 3, 3, dtype=torch.bool), torch.zeros(1, 3, dtype=torch.long))
    assert torch.isfinite(hidden.hidden).all()


def test_rotations_depend_on_the_difference_of_positions() -> None:
    g = torch.Generator().manual_seed(0)
    q, k = torch.randn(1, 1, 1, 8, generator=g), torch.randn(1, 1, 1, 8, generator=g)

    def score(i: int, j: int) -> Tensor:
        return (
            rotate(q, rotation(torch.tensor([[i]]), 8, 1e4)) * rotate(k, rotation(torch.tensor([[j]]), 8, 1e4))
        ).sum()

    torch.testing.assert_close(score(5, 2), score(13, 10))
    assert not torch.allclose(score(5, 2), score(5, 3))


def test_heads_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ConfigError, match="5 query heads, 2 key-value heads"):
        Shape(32, 5, 2, 8, 48)


@torch.no_grad()
def test_the_tower_and_the_pixel_shuffle_are_those_of_smolvlm() -> None:
    from transformers.models.smolvlm.configuration_smolvlm import SmolVLMConfig
    from transformers.models.smolvlm.modeling_smolvlm import SmolVLMModel

    text = {"model_type": "llama", "hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
    vision |= {"image_size": 32, "patch_size": 8, "model_type": "smolvlm_vision"}
    text |= {"num_key_value_heads": 1, "intermediate_size": 32, "vocab_size": 20}
    theirs = scatter(
        SmolVLMModel(SmolVLMConfig(text_config=text, vision_config=vision, scale_factor=2, pad_token_id=0))
    )
    tower = SiglipTower(size=32, patch=8, width=32, depth=2, heads=2, inner=48)
    names = {**nested("x", "x", VISION), **numbered(r"x\.encoder\.layers", "x.layers", VISION_LAYER)}
    renaming = renamed({f"x.{k}": v for k, v in theirs.vision_model.state_dict().items()}, names)
    tower.load_state_dict({k.removeprefix("x."): v for k, v in renaming.items()})
    images = torch.randint(0, 256, (2, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    seen = tower(images)
    torch.testing.assert_close(
        seen, theirs.vision_model(pixel_values=letterbox(images, 32)).last_hidden_state, atol=1e-5, rtol=0
    )
    connector = PixelShuffle(source=32, width=24, factor=2)
    connector.project.weight.copy_(theirs.connector.modality_projection.proj.weight)
    torch.testing.assert_close(connector(seen, tower.grid(32, 32)), theirs.connector(seen), atol=1e-5, rtol=0)
    assert connector.count((4, 4)) == 4


def test_a_wide_image_keeps_its_aspect_below_a_black_bar() -> None:
    image = torch.full((1, 4, 8, 3), 255, dtype=torch.uint8)
    boxed = letterbox(image, 8)
    assert boxed.shape == (1, 3, 8, 8)
    assert (boxed[:, :, :4] == -1).all() and (boxed[:, :, 4:] == 1).all()


def test_what_is_no_image_is_refused() -> None:
    tower = SiglipTower(size=16, patch=8, width=8, depth=1, heads=2, inner=8)
    with pytest.raises(SpecError, match="float32"):
        tower(torch.zeros(1, 16, 16, 3))
    with pytest.raises(ConfigError, match="whole patches"):
        SiglipTower(size=17, patch=8, width=8, depth=1, heads=2, inner=8)
    with pytest.raises(ConfigError, match="merged"):
        PixelShuffle(source=4, width=4, factor=2).count((3, 4))
