"""Complete vision-language models give through `prefix` the logits of transformers' own forward, to 1e-5."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from wayhand.vla.backbones.base import Sequenced
from wayhand.vla.backbones.complete import CompleteVLM, Prompt
from wayhand.vla.backbones.complete_models import Llava, PaliGemma, SmolVLM
from wayhand.vla.backbones.complete_qwen import QwenVL
from wayhand.vla.backbones.language.tokenizers import ByteTokenizer
from wayhand.vla.errors import SpecError

IMAGE, TEXTS = 300, ["pick it", "open the drawer"]
WORDS = dict(vocab_size=304, hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4)
WORDS |= dict(num_key_value_heads=2, pad_token_id=0, bos_token_id=1, eos_token_id=2)
EYES = dict(
    hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2, image_size=28, patch_size=7
)
ROPE = dict(rope_type="default", rope_theta=10000.0, mrope_section=[1, 1, 2])


def llava() -> Any:
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**EYES), text_config=LlamaConfig(**WORDS), image_token_index=IMAGE
    )
    return LlavaForConditionalGeneration(config)


def paligemma() -> Any:
    from transformers import GemmaConfig, PaliGemmaConfig, PaliGemmaForConditionalGeneration, SiglipVisionConfig

    eyes = SiglipVisionConfig(**EYES, projection_dim=32, vision_use_head=False)
    words = GemmaConfig(**WORDS, head_dim=8)
    config = PaliGemmaConfig(
        vision_config=eyes.to_dict(), text_config=words.to_dict(), image_token_index=IMAGE, projection_dim=32
    )
    return PaliGemmaForConditionalGeneration(config)


def smolvlm() -> Any:
    from transformers import LlamaConfig, SmolVLMConfig, SmolVLMForConditionalGeneration

    words = LlamaConfig(**WORDS).to_dict()
    config = SmolVLMConfig(vision_config=EYES, text_config=words, image_token_id=IMAGE, scale_factor=2)
    return SmolVLMForConditionalGeneration(config)


def idefics3() -> Any:
    from transformers import Idefics3Config, Idefics3ForConditionalGeneration, LlamaConfig

    words = LlamaConfig(**WORDS).to_dict()
    config = Idefics3Config(vision_config=EYES, text_config=words, image_token_id=IMAGE, scale_factor=2)
    return Idefics3ForConditionalGeneration(config)


def qwen25() -> Any:
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    eyes = dict(depth=2, hidden_size=16, intermediate_size=24, num_heads=2, patch_size=4, out_hidden_size=32)
    eyes |= dict(window_size=16, fullatt_block_indexes=[1], spatial_merge_size=2)
    config = Qwen2_5_VLConfig(
        vision_config=eyes, text_config=WORDS | dict(rope_parameters=ROPE), image_token_id=IMAGE, video_token_id=301
    )
    return Qwen2_5_VLForConditionalGeneration(config)


def qwen3() -> Any:
    from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

    eyes = dict(depth=3, hidden_size=16, intermediate_size=24, num_heads=2, patch_size=4, out_hidden_size=32)
    eyes |= dict(deepstack_visual_indexes=[0, 1], num_position_embeddings=16, spatial_merge_size=2)
    words = WORDS | dict(rope_parameters=ROPE, head_dim=8)
    config = Qwen3VLConfig(vision_config=eyes, text_config=words, image_token_id=IMAGE, video_token_id=301)
    return Qwen3VLForConditionalGeneration(config)


MODELS: dict[str, tuple[Callable[[], Any], type[CompleteVLM]]] = {
    "llava": (llava, Llava),
    "paligemma": (paligemma, PaliGemma),
    "smolvlm": (smolvlm, SmolVLM),
    "idefics3": (idefics3, SmolVLM),
    "qwen2.5-vl": (qwen25, QwenVL),
    "qwen3-vl": (qwen3, QwenVL),
}


@pytest.fixture(scope="module", params=MODELS)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, CompleteVLM]:
    """A random model of transformers and ours, loaded from the folder it was saved to."""
    build, ours = MODELS[request.param]
    torch.manual_seed(0)
    model = build().eval()
    folder = tmp_path_factory.mktemp(request.param)
    model.save_pretrained(folder)
    more: dict[str, Any] = dict(pixels_least=8 * 8, pixels_most=40 * 40) if ours is QwenVL else {}
    return model, ours(source=folder, tokenizer=ByteTokenizer(), prompt=Prompt(), **more)


def views(seed: int = 0) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(seed)
    return {name: torch.randint(0, 256, (2, 24, 32, 3), dtype=torch.uint8, generator=g) for name in ("front", "wrist")}


def asked(model: Any, ours: CompleteVLM, images: dict[str, Tensor], texts: list[str]) -> dict[str, Any]:
    """What transformers' forward is given for the same prompt: ids with placeholders, masks and pixels."""
    prompt, family = ours.prompt, model.config.model_type
    rows = []
    for text in texts:
        row = ours.tokenizer.ids(prompt.head)
        for image in images.values():
            seen = [IMAGE] * ours.look(image).values.shape[1]
            row += [*ours.tokenizer.ids(prompt.before), *seen, *ours.tokenizer.ids(prompt.after)]
        rows.append(row + ours.tokenizer.ids(prompt.words.format(text)))
    longest = max(map(len, rows))
    ids = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
    pixels = torch.stack([ours.pixels(image) for image in images.values()], 1).contiguous()  # [B cameras …]
    given: dict[str, Any] = dict(input_ids=ids, attention_mask=mask)
    if family in ("llava", "paligemma"):
        pixels = pixels.flatten(0, 1)
    if family == "paligemma":
        given["token_type_ids"] = torch.zeros_like(ids)
    if isinstance(ours, QwenVL):
        pixels = pixels.flatten(0, 2)
        height, width = ours.size(24, 32)
        grid = [[1, height // ours.patch, width // ours.patch]] * (2 * len(images))
        given |= dict(image_grid_thw=torch.tensor(grid), mm_token_type_ids=(ids == IMAGE).int())
    return given | dict(pixel_values=pixels)


@torch.no_grad()
def read(ours: CompleteVLM, images: dict[str, Tensor], texts: list[str]) -> tuple[Sequenced, Tensor]:
    found = ours.eval().prefix(images, texts)
    return found, ours.language.logits(found.hidden)


def test_logits_equal_transformers(pair: tuple[Any, CompleteVLM]) -> None:
    model, ours = pair
    images = {"front": views()["front"]}
    found, logits = read(ours, images, TEXTS)
    with torch.no_grad():
        expected = model(**asked(model, ours, images, TEXTS)).logits
    torch.testing.assert_close(logits[found.mask], expected[found.mask], atol=1e-5, rtol=1e-5)


def test_logits_of_two_cameras_in_a_whole_prompt_equal_transformers(pair: tuple[Any, CompleteVLM]) -> None:
    model, ours = pair
    ours.prompt = Prompt(head="[", before="<", after=">", words="{}]")
    found, logits = read(ours, views(), TEXTS)
    with torch.no_grad():
        expected = model(**asked(model, ours, views(), TEXTS)).logits
    ours.prompt = Prompt()
    torch.testing.assert_close(logits[found.mask], expected[found.mask], atol=1e-5, rtol=1e-5)


def test_a_prefix_can_be_extended_as_if_read_at_once(pair: tuple[Any, CompleteVLM]) -> None:
    """Causal models: words behind a prefix give the logits they give inside it. Keys and values stay as they are."""
    _, ours = pair
    images = {"front": views()["front"]}
    if ours.attention == "bidirectional":
        ours.attention = "causal"
    whole, logits = read(ours, images, ["abcdef", "uvwxyz"])
    start, _ = read(ours, images, ["abc", "uvw"])
    before = [(k.clone(), v.clone()) for k, v in start.keys_values]
    ids, _ = ours.tokenizer.encode(["def", "xyz"])
    with torch.no_grad():
        rest = ours.extend(start, ours.language.embed(ids))
        found = ours.language.logits(rest.hidden)
    ours.attention = type(ours).attention
    torch.testing.assert_close(found, logits[:, -3:], atol=1e-5, rtol=1e-5)
    for kept, (keys, values) in zip(before, start.keys_values, strict=True):
        assert torch.equal(kept[0], keys) and torch.equal(kept[1], values)
    assert torch.equal(
        rest.positions, whole.positions[..., -3:, :].amax(-1) if whole.positions.ndim == 3 else whole.positions[:, -3:]
    )


def test_padding_changes_nothing(pair: tuple[Any, CompleteVLM]) -> None:
    _, ours = pair
    images = {"front": views()["front"]}
    together, _ = read(ours, images, TEXTS)
    alone, _ = read(ours, {"front": images["front"][:1]}, TEXTS[:1])
    count = alone.mask.shape[1]
    torch.testing.assert_close(together.hidden[:1, :count], alone.hidden, atol=1e-5, rtol=1e-5)


def test_what_is_missing_or_does_not_fit_is_named(pair: tuple[Any, CompleteVLM]) -> None:
    _, ours = pair
    with pytest.raises(SpecError, match=r"\[B h w 3\]"):
        ours.prefix({"front": torch.zeros(2, 3, 24, 32, dtype=torch.uint8)}, TEXTS)
    with pytest.raises(SpecError, match="force"):
        ours.prefix(views(), TEXTS, {"force": torch.zeros(2, 1, 5)})
    ours.cameras = ("front", "top")
    with pytest.raises(SpecError, match="'top' is missing"):
        ours.prefix(views(), TEXTS)
    ours.cameras = None


def test_extra_tokens_enter_before_the_words(pair: tuple[Any, CompleteVLM]) -> None:
    _, ours = pair
    images = {"front": views()["front"]}
    plain, _ = read(ours, images, TEXTS)
    with torch.no_grad():
        more = ours.prefix(images, TEXTS, {"state": torch.ones(2, 2, ours.language.width)})
    assert more.mask.shape[1] == plain.mask.shape[1] + 2


def test_a_frozen_model_stays_as_it_is(tmp_path: Path) -> None:
    torch.manual_seed(0)
    llava().save_pretrained(tmp_path)
    frozen = Llava(source=tmp_path, tokenizer=ByteTokenizer(), frozen=True).train()
    assert not frozen.training and not any(p.requires_grad for p in frozen.parameters())
