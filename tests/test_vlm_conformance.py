"""One suite for every tower × connector × language model of the tiny zoo: two training steps, save, load, equal."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor, nn

from wayhand.scripts.compose import CONF
from wayhand.scripts.parts import swapped
from wayhand.vla import checkpoint
from wayhand.vla.backbones.base import VLM, LanguageModel, VisionTower
from wayhand.vla.backbones.gated import GatedVLM
from wayhand.vla.backbones.language.tokenizers import ByteTokenizer
from wayhand.vla.backbones.vlm import ComposedVLM, Composition
from wayhand.vla.config import compose, instantiate
from wayhand.vla.errors import ConfigError

PROMPTS, ANSWERS = ["pick it", "open the drawer"], [" ok", " no way"]


def zoo(group: str, *more: str) -> list[str]:
    return sorted([p.stem for p in (CONF / group).glob("*_tiny.yaml")] + list(more))


TOWERS, LANGUAGES = zoo("vision"), zoo("language")
CONNECTORS = zoo("connector", "linear", "mlp")
# Families that differ from these in their layers alone meet every tower and every connector, not every pair of them.
WHOLE = ("gemma_tiny", "llama_tiny", "qwen3_tiny", "scratch_tiny")
COMBINATIONS = [
    (tower, connector, language)
    for tower in TOWERS
    for connector in CONNECTORS
    for language in LANGUAGES
    if language in WHOLE or tower == "vit_tiny" or connector == "mlp"
]


@cache
def recipe(group: str, name: str) -> Mapping[str, Any]:
    return yaml.safe_load((CONF / group / f"{name}.yaml").read_text(encoding="utf-8"))


@cache
def part(group: str, name: str, fresh: bool) -> Any:
    """Built once, since building through transformers costs most: one to copy and train, a fresh one to load into."""
    torch.manual_seed(int(fresh))
    return instantiate(recipe(group, name))


def build(tower: str, connector: str, language: str, fresh: bool, cls: Callable[..., VLM] = ComposedVLM) -> VLM:
    vision, words = part("vision", tower, fresh), part("language", language, fresh)
    assert isinstance(vision, VisionTower) and isinstance(words, LanguageModel)
    if not fresh:
        vision, words = copy.deepcopy(vision), copy.deepcopy(words)
    torch.manual_seed(int(fresh))
    make = instantiate(recipe("connector", connector))
    return cls(vision=vision, connector=make, language=words, tokenizer=ByteTokenizer())


def views() -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(1)
    return {"front": torch.randint(0, 256, (2, 32, 32, 3), dtype=torch.uint8, generator=g)}


def loss(vlm: VLM) -> Tensor:
    """Cross-entropy of answers behind prompts."""
    assert isinstance(vlm, Composition)
    ids, mask = vlm.tokenizer.encode(ANSWERS, eos=True)
    found = vlm.extend(vlm.prefix(views(), PROMPTS), vlm.language.embed(ids), mask=mask)
    logits = vlm.language.logits(found.hidden)[:, :-1]
    return nn.functional.cross_entropy(logits[mask[:, 1:]].float(), ids[:, 1:][mask[:, 1:]])


def train(vlm: VLM, steps: int = 2) -> list[float]:
    optimizer = torch.optim.AdamW([p for p in vlm.parameters() if p.requires_grad], lr=1e-3)
    losses = []
    for _ in range(steps):
        value = loss(vlm.train())
        value.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(value.item())
    return losses


@torch.no_grad()
def found(vlm: VLM) -> list[Tensor]:
    prefix = vlm.eval().prefix(views(), PROMPTS, layers=True)
    pairs = [tensor for pair in prefix.keys_values for tensor in pair]
    return [prefix.hidden, vlm.language.logits(prefix.hidden), *prefix.layers, *pairs]


def trains_saves_loads_equals(make: Callable[[bool], VLM], folder: Path) -> None:
    vlm = make(False)
    assert isinstance(vlm, Composition)
    before = {name: value.clone() for name, value in vlm.state_dict().items()}
    losses = train(vlm)
    assert all(value == value and value < 100 for value in losses)
    moved = {name for name, value in vlm.state_dict().items() if not torch.equal(value, before[name])}
    assert any(name.startswith("connector.") for name in moved)
    path = checkpoint.save(
        folder, 2, parts={"model": vlm.state_dict()}, policy={}, specs={}, statistics={}, config={}, trainer={}
    )
    other = make(True)
    assert isinstance(other, Composition)
    expected = found(vlm)
    assert not torch.equal(next(iter(other.connector.parameters())), next(iter(vlm.connector.parameters())))
    other.load_state_dict(checkpoint.load(path).weights("model"))
    for ours, loaded in zip(expected, found(other), strict=True):
        assert ours.isfinite().all() and torch.equal(ours, loaded)


def test_the_zoo_is_large_enough() -> None:
    assert len(COMBINATIONS) >= 60


@pytest.mark.parametrize(("tower", "connector", "language"), COMBINATIONS, ids=lambda name: name.replace("_tiny", ""))
def test_a_combination_trains_saves_loads_equals(tower: str, connector: str, language: str, tmp_path: Path) -> None:
    trains_saves_loads_equals(partial(build, tower, connector, language), tmp_path)


@pytest.mark.parametrize("language", LANGUAGES)
def test_gated_cross_attention_trains_saves_loads_equals(language: str, tmp_path: Path) -> None:
    """Flamingo's way of reading an image works in every language model."""
    trains_saves_loads_equals(partial(build, "vit_tiny", "resampler_tiny", language, cls=GatedVLM), tmp_path)


# --- swapping by one word --------------------------------------------------------------------------------------


def composed(tmp_path: Path, *words: str) -> dict[str, Any]:
    """What a command with these words would build, over the real groups."""
    for group in ("vlm", "vision", "connector", "language", "tokenizer"):
        if not (tmp_path / group).exists():
            (tmp_path / group).symlink_to(CONF / group)
    groups = "".join(f"  - {group}: null\n" for group in ("vision", "connector", "language", "tokenizer"))
    (tmp_path / "main.yaml").write_text(f"defaults:\n  - vlm: llava_tiny\n{groups}  - _self_\n")
    config = compose(tmp_path, "main", words)
    return swapped(config.vlm, **{name: config.get(name) for name in ("vision", "connector", "language", "tokenizer")})


@pytest.mark.parametrize(
    ("words", "kinds"),
    [
        ((), ("ViT", "MLPConnector", "ScratchLM")),
        (("vision=siglip_tiny",), ("SigLIPTower", "MLPConnector", "ScratchLM")),
        (("connector=qformer",), ("ViT", "QFormerConnector", "ScratchLM")),
        (("language=llama_tiny",), ("ViT", "MLPConnector", "CausalLM")),
        (
            ("vision=dinov2_tiny", "connector=qformer", "language=llama_tiny"),
            ("DINOv2Tower", "QFormerConnector", "CausalLM"),
        ),
        (("vlm=flamingo_tiny", "vision=clip_tiny"), ("CLIPTower", "ResamplerConnector", "ScratchLM")),
    ],
)
def test_a_part_is_swapped_by_one_word(words: tuple[str, ...], kinds: tuple[str, ...], tmp_path: Path) -> None:
    vlm = instantiate(composed(tmp_path, *words))
    assert isinstance(vlm, Composition)
    assert (type(vlm.vision).__name__, type(vlm.connector).__name__, type(vlm.language).__name__) == kinds
    assert loss(vlm).isfinite()


def test_a_complete_model_has_no_part_to_swap(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no part 'connector'"):
        composed(tmp_path, "vlm=smolvlm", "connector=qformer")
