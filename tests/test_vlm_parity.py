"""Compositions equal transformers' LLaVA, BLIP-2 and IDEFICS (Flamingo) with the same weights, to 1e-5."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from wayhand.vla.backbones.base import VisionTower
from wayhand.vla.backbones.connectors.projection import MLPConnector
from wayhand.vla.backbones.connectors.queries import QFormerConnector, ResamplerConnector
from wayhand.vla.backbones.gated import GatedVLM
from wayhand.vla.backbones.language.causal import TransformersLM
from wayhand.vla.backbones.language.tokenizers import ByteTokenizer
from wayhand.vla.backbones.towers.clip import CLIPTower
from wayhand.vla.backbones.vlm import ComposedVLM

IMAGE, TEXTS = 300, ["pick it", "open the drawer"]
WORDS = dict(vocab_size=304, hidden_size=32, intermediate_size=48, num_hidden_layers=4, num_attention_heads=4)
WORDS |= dict(pad_token_id=0, bos_token_id=1, eos_token_id=2)
EYES = dict(
    hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2, image_size=28, patch_size=7
)


def images() -> Tensor:
    return torch.randint(0, 256, (2, 28, 28, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def shaken(model: nn.Module) -> Any:
    """Every weight random: zero biases, unit norms and closed gates would hide a mistake."""
    g = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=g) * 0.2)
    return model.eval()


def copy(ours: nn.Module, *theirs: nn.Module) -> None:
    with torch.no_grad():
        for name, parameter in ours.named_parameters():
            parameter.copy_(torch.cat([dict(module.named_parameters())[name] for module in theirs]))


def asked(count: int) -> tuple[Tensor, Tensor]:
    """Ids with image placeholders before the words, and their mask."""
    ids, mask = ByteTokenizer().encode(TEXTS)
    seen = torch.full((len(TEXTS), count), IMAGE)
    return torch.cat([seen, ids * mask], 1), torch.cat([torch.ones_like(seen), mask.long()], 1)


class Double(VisionTower):
    """A tower around whatever a model of transformers uses as its own."""

    def __init__(self, model: nn.Module, width: int, count: int) -> None:
        super().__init__()
        self.model, self.width, self.count = model, width, count

    def forward(self, images: Tensor) -> Tensor:
        return self.model(pixels(images)).last_hidden_state

    def grid(self, height: int, width: int) -> tuple[int, int]:
        return 1, self.count


def pixels(images: Tensor) -> Tensor:
    return images.permute(0, 3, 1, 2).float() / 127.5 - 1


@torch.no_grad()
def test_llava(tmp_path: Path) -> None:
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**EYES), text_config=LlamaConfig(**WORDS), image_token_index=IMAGE
    )
    theirs = shaken(LlavaForConditionalGeneration(config))
    theirs.model.vision_tower.save_pretrained(tmp_path)
    ours = ComposedVLM(
        vision=CLIPTower(path=str(tmp_path), layer=-2),
        connector=MLPConnector,
        language=TransformersLM(decoder=theirs.model.language_model, head=theirs.lm_head),
        tokenizer=ByteTokenizer(),
    ).eval()
    assert isinstance(ours.connector, MLPConnector)
    copy(ours.connector.layers[0], theirs.model.multi_modal_projector.linear_1)
    copy(ours.connector.layers[2], theirs.model.multi_modal_projector.linear_2)
    found = ours.prefix({"front": images()}, TEXTS)
    ids, mask = asked(16)
    assert isinstance(ours.vision, CLIPTower)
    expected = theirs(input_ids=ids, attention_mask=mask, pixel_values=ours.vision.pixels(images())).logits
    logits = ours.language.logits(found.hidden)
    torch.testing.assert_close(logits[found.mask], expected[found.mask], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_blip2() -> None:
    from transformers import Blip2Config, Blip2ForConditionalGeneration, LlamaConfig

    config = Blip2Config(
        vision_config=EYES,
        qformer_config=dict(
            hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, encoder_hidden_size=16
        ),
        text_config=LlamaConfig(**WORDS).to_dict(),
        num_query_tokens=5,
        image_token_index=IMAGE,
    )
    theirs = shaken(Blip2ForConditionalGeneration(config))
    ours = ComposedVLM(
        vision=Double(theirs.vision_model, 16, 17),
        connector=lambda source, width: QFormerConnector(
            source=source, width=width, queries=5, hidden=16, depth=2, heads=2, ratio=2.0
        ),
        language=TransformersLM(decoder=theirs.language_model.model, head=theirs.language_model.lm_head),
        tokenizer=ByteTokenizer(),
    ).eval()
    mine = ours.connector
    assert isinstance(mine, QFormerConnector)
    mine.queries.copy_(theirs.query_tokens[0])
    copy(mine.norm, theirs.qformer.layernorm)
    copy(mine.project, theirs.language_projection)
    for layer, other in zip(mine.layers, theirs.qformer.encoder.layer, strict=True):
        blocks = [(layer.own, layer.own_norm, other.attention)]
        blocks += [(layer.image, layer.image_norm, other.crossattention)] if other.has_cross_attention else []
        for attention, norm, block in blocks:
            copy(attention.query, block.attention.query)
            copy(attention.keys_values, block.attention.key, block.attention.value)
            copy(attention.out, block.output.dense)
            copy(norm, block.output.LayerNorm)
        copy(layer.feed[0], other.intermediate_query.dense)
        copy(layer.feed[2], other.output_query.dense)
        copy(layer.feed_norm, other.output_query.LayerNorm)
    found = ours.prefix({"front": images()}, TEXTS)
    ids, mask = asked(5)
    expected = theirs(input_ids=ids, attention_mask=mask, pixel_values=pixels(images())).logits
    logits = ours.language.logits(found.hidden)
    torch.testing.assert_close(logits[found.mask], expected[found.mask], atol=1e-5, rtol=1e-5)


def idefics(every: int) -> Any:
    from transformers import IdeficsConfig, IdeficsForVisionText2Text

    config = IdeficsConfig(
        **WORDS,
        additional_vocab_size=0,
        cross_layer_interval=every,
        use_resampler=True,
        qk_layer_norms=False,
        vision_config=dict(
            embed_dim=16, image_size=28, patch_size=7, num_attention_heads=2, num_hidden_layers=2, intermediate_size=64
        ),
        perceiver_config=dict(
            use_resampler=True,
            resampler_n_latents=5,
            resampler_depth=2,
            resampler_n_heads=2,
            resampler_head_dim=8,
            qk_layer_norms_perceiver=False,
        ),
    )
    return shaken(IdeficsForVisionText2Text(config))


def flamingo(theirs: Any, every: int) -> GatedVLM:
    """Ours with the weights of IDEFICS; its decoder's own layers are Llama's."""
    from transformers import LlamaConfig, LlamaModel

    decoder = LlamaModel(LlamaConfig(**WORDS, rms_norm_eps=theirs.config.rms_norm_eps)).eval()
    state = theirs.model.state_dict()
    decoder.load_state_dict({name: state[name] for name in decoder.state_dict()})
    ours = GatedVLM(
        vision=Double(theirs.model.vision_model, 16, 17),
        connector=lambda source, width: ResamplerConnector(source=source, width=width, queries=5, depth=2, heads=2),
        language=TransformersLM(decoder=decoder, head=theirs.lm_head),
        tokenizer=ByteTokenizer(),
        every=every,
        hidden=48,
    ).eval()
    resampler, other = ours.connector, theirs.model.perceiver_resampler
    assert isinstance(resampler, ResamplerConnector)
    resampler.latents.data.copy_(other.latents)
    copy(resampler.norm, other.layer_norm)
    for mine, (attention, feed) in zip(resampler.layers, other.blocks, strict=True):
        copy(mine.image_norm, attention.context_layer_norm)
        copy(mine.norm, attention.latents_layer_norm)
        copy(mine.attention.query, attention.q_proj)
        copy(mine.attention.keys_values, attention.k_proj, attention.v_proj)
        copy(mine.attention.out, attention.output_proj)
        copy(mine.feed[0], feed.ln)
        copy(mine.feed[1], feed.fc)
        copy(mine.feed[3], feed.c_proj)
    for mine, layer in zip(ours.crosses, theirs.model.gated_cross_attn_layers, strict=True):
        copy(mine.norm, layer.input_layernorm)
        copy(mine.feed_norm, layer.post_attention_layernorm)
        copy(mine.attention.query, layer.cross_attn.q_proj)
        copy(mine.attention.keys_values, layer.cross_attn.k_proj, layer.cross_attn.v_proj)
        copy(mine.attention.out, layer.cross_attn.o_proj)
        copy(mine.gate, layer.mlp.gate_proj)
        copy(mine.up, layer.mlp.up_proj)
        copy(mine.down, layer.mlp.down_proj)
        mine.attention_gate.data.copy_(layer.alpha_cross_attn.flatten())
        mine.feed_gate.data.copy_(layer.alpha_dense.flatten())
    return ours


@pytest.mark.parametrize("every", [1, 2])
@torch.no_grad()
def test_idefics(every: int) -> None:
    theirs = idefics(every)
    ours = flamingo(theirs, every)
    cameras = {"front": images(), "wrist": images().flip(1)}
    found = ours.prefix(cameras, TEXTS)
    ids, mask = ByteTokenizer().encode(TEXTS)
    expected = theirs(
        input_ids=ids * mask,
        attention_mask=mask.long(),
        pixel_values=torch.stack([pixels(view) for view in cameras.values()], 1),
        image_attention_mask=torch.ones(*ids.shape, 2, dtype=torch.long),
    ).logits
    logits = ours.language.logits(found.hidden)
    torch.testing.assert_close(logits[found.mask], expected[found.mask], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_what_follows_a_gated_prefix_sees_the_images_too() -> None:
    ours = flamingo(idefics(2), 2)
    view = {"front": images()}
    whole = ours.prefix(view, ["abcdef", "uvwxyz"])
    start = ours.prefix(view, ["abc", "uvw"])
    ids, _ = ours.tokenizer.encode(["def", "xyz"])
    rest = ours.extend(start, ours.language.embed(ids))
    torch.testing.assert_close(rest.hidden, whole.hidden[:, 3:], atol=1e-5, rtol=1e-5)
