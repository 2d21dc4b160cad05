"""Laws of compositions: layout, masks and positions, extension, fusion, extra modalities and their dropout."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from wayhand.vla.backbones.base import Tokens
from wayhand.vla.backbones.connectors.projection import LinearConnector
from wayhand.vla.backbones.connectors.queries import ResamplerConnector
from wayhand.vla.backbones.fusion import BottleneckFusion, ConcatFusion, CrossAttentionFusion, Fusion, GatedFusion
from wayhand.vla.backbones.gated import GatedVLM
from wayhand.vla.backbones.language.scratch import ScratchLM
from wayhand.vla.backbones.language.tokenizers import ByteTokenizer
from wayhand.vla.backbones.modalities import FeatureTokens, ModalityDropout
from wayhand.vla.backbones.towers.efficientnet import EfficientNetTower
from wayhand.vla.backbones.towers.vit import ViT
from wayhand.vla.backbones.vlm import ComposedVLM, Composition
from wayhand.vla.errors import ConfigError, SpecError

WIDTH, TEXTS = 32, ["pick it", "open the drawer"]
FEATURES = {"state": partial(FeatureTokens, source=5), "audio": partial(FeatureTokens, source=3, hidden=8)}


def parts() -> dict[str, Any]:
    torch.manual_seed(0)
    return dict(
        vision=ViT(width=16, depth=1, heads=2, patch=8),
        language=ScratchLM(vocabulary=259, width=WIDTH, depth=2, heads=2),
        tokenizer=ByteTokenizer(),
    )


def composed(**changes: Any) -> ComposedVLM:
    return ComposedVLM(**{**parts(), "connector": LinearConnector, **changes}).eval()


def gated(**changes: Any) -> GatedVLM:
    vlm = GatedVLM(**{**parts(), "connector": partial(ResamplerConnector, queries=3, heads=2, depth=1), **changes})
    for cross in vlm.crosses:  # closed gates would hide the image
        nn.init.constant_(cross.attention_gate, 0.7)
        nn.init.constant_(cross.feed_gate, 0.3)
    return vlm.eval()


COMPOSITIONS: dict[str, Callable[..., Composition]] = {
    "causal": composed,
    "bidirectional": partial(composed, attention="bidirectional"),
    "gated": gated,
}


@pytest.fixture(params=COMPOSITIONS)
def build(request: pytest.FixtureRequest) -> Callable[..., Composition]:
    return COMPOSITIONS[request.param]


def views(batch: int = 2) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(1)
    return {
        "front": torch.randint(0, 256, (batch, 16, 24, 3), dtype=torch.uint8, generator=g),
        "wrist": torch.randint(0, 256, (batch, 16, 16, 3), dtype=torch.uint8, generator=g),
    }


def felt(batch: int = 2) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(2)
    return {"state": torch.randn(batch, 1, 5, generator=g), "audio": torch.randn(batch, 4, 3, generator=g)}


# --- layout ----------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_a_prefix_is_cameras_then_extras_then_words() -> None:
    vlm = composed(modalities=FEATURES)
    found = vlm.prefix(views(), TEXTS, felt(), layers=True)
    seen, extra, words = 6 + 4, 1 + 4, max(map(len, TEXTS))
    assert found.hidden.shape == (2, seen + extra + words, WIDTH)
    assert found.mask.sum(1).tolist() == [seen + extra + len(t) for t in TEXTS]
    assert len(found.layers) == 2
    first = vlm.see(views())["front"].values
    torch.testing.assert_close(found.layers[0][:, :6], first)
    torch.testing.assert_close(found.layers[0][:, 10:11], vlm.sense(felt())["state"].values)


@torch.no_grad()
def test_the_order_of_cameras_is_the_one_declared() -> None:
    vlm = composed(cameras=("wrist", "front"))
    swapped = dict(reversed(views().items()))
    assert torch.equal(vlm.prefix(views(), TEXTS).hidden, vlm.prefix(swapped, TEXTS).hidden)
    assert list(vlm.see(views())) == ["wrist", "front"]


@torch.no_grad()
def test_a_gated_prefix_does_not_grow_with_cameras() -> None:
    one, two = (gated().prefix(v, TEXTS) for v in ({"front": views()["front"]}, views()))
    assert one.hidden.shape == two.hidden.shape
    assert not torch.allclose(one.hidden, two.hidden)


@torch.no_grad()
def test_frames_of_a_camera_follow_one_another() -> None:
    vlm = composed()
    film = torch.stack([views()["front"], views()["front"].flip(1)], 1)
    apart = vlm.see({"a": film[:, 0], "b": film[:, 1]})
    together = vlm.see({"a": film})["a"].values
    torch.testing.assert_close(together, torch.cat([p.values for p in apart.values()], 1), atol=1e-6, rtol=1e-5)


@torch.no_grad()
def test_a_bidirectional_prefix_lets_the_image_read_the_words() -> None:
    for attention, sees in (("causal", False), ("bidirectional", True)):
        vlm = composed(attention=attention)
        a, b = (vlm.prefix(views(), [w, w]).hidden[:, :10] for w in ("abc", "xyz"))
        assert torch.allclose(a, b) is not sees


# --- masks and positions ---------------------------------------------------------------------------------------


@torch.no_grad()
def test_padding_changes_nothing(build: Callable[..., Composition]) -> None:
    vlm = build(modalities=FEATURES)
    together = vlm.prefix(views(), TEXTS, felt())
    alone = vlm.prefix({k: v[:1] for k, v in views().items()}, TEXTS[:1], {k: v[:1] for k, v in felt().items()})
    count = alone.mask.shape[1]
    torch.testing.assert_close(together.hidden[:1, :count], alone.hidden, atol=1e-5, rtol=1e-5)
    rest = [vlm.extend(p, torch.ones(len(p.mask), 2, WIDTH)) for p in (together, alone)]
    torch.testing.assert_close(rest[0].hidden[:1], rest[1].hidden, atol=1e-5, rtol=1e-5)
    assert torch.equal(rest[0].positions[:1], rest[1].positions)


@torch.no_grad()
def test_a_prefix_can_be_extended_as_if_read_at_once() -> None:
    for vlm in (composed(), gated()):
        whole = vlm.prefix(views(), ["abcdef", "uvwxyz"])
        start = vlm.prefix(views(), ["abc", "uvw"])
        rest = vlm.extend(start, vlm.language.embed(vlm.tokenizer.encode(["def", "xyz"])[0]))
        torch.testing.assert_close(rest.hidden, whole.hidden[:, -3:], atol=1e-5, rtol=1e-5)
        assert torch.equal(rest.positions, whole.positions[:, -3:])


@torch.no_grad()
def test_what_extends_a_prefix_is_causal_or_not() -> None:
    vlm = composed()
    prefix, x = vlm.prefix(views(), TEXTS), torch.randn(2, 3, WIDTH)
    later = x.clone()
    later[:, -1] += 1
    for causal in (True, False):
        same = torch.allclose(
            vlm.extend(prefix, x, causal=causal).hidden[:, 0], vlm.extend(prefix, later, causal=causal).hidden[:, 0]
        )
        assert same is causal


@torch.no_grad()
def test_a_masked_token_behind_a_prefix_is_not_there() -> None:
    vlm = composed()
    prefix, x = vlm.prefix(views(), TEXTS), torch.randn(2, 3, WIDTH)
    mask = torch.tensor([[True, False, True]] * 2)
    without = vlm.extend(prefix, x[:, [0, 2]])
    torch.testing.assert_close(vlm.extend(prefix, x, mask=mask).hidden[:, [0, 2]], without.hidden)


@pytest.mark.parametrize("part", ["front", "wrist", "state", "audio", "words"])
def test_every_input_reaches_the_last_token(build: Callable[..., Composition], part: str) -> None:
    vlm = build(modalities=FEATURES)
    images, texts, extra = views(1), ["abc"], felt(1)
    with torch.no_grad():
        before = vlm.prefix(images, texts, extra).hidden[:, -1]
        if part in images:
            images[part] = 255 - images[part]
        elif part in extra:
            extra[part] = extra[part] + 1
        else:
            texts = ["xbc"]
        assert not torch.allclose(vlm.prefix(images, texts, extra).hidden[:, -1], before, atol=1e-4)


def test_a_closed_gate_leaves_the_language_model_as_it_is() -> None:
    vlm = GatedVLM(**parts(), connector=partial(ResamplerConnector, queries=3, heads=2, depth=1)).eval()
    with torch.no_grad():
        assert torch.equal(vlm.prefix(views(), TEXTS).hidden, vlm.prefix({}, TEXTS).hidden)
    assert not any(p.requires_grad for p in vlm.language.parameters())
    assert all(p.requires_grad for p in vlm.crosses.parameters())


def test_a_gated_layer_must_stand_somewhere() -> None:
    with pytest.raises(ConfigError, match="1 ≤ every ≤ 2"):
        gated(every=3)


def test_a_tower_that_takes_an_instruction_is_given_the_words() -> None:
    tower = EfficientNetTower(wide=0.1, deep=0.1, condition=8, width=16, size=64)
    for parameter in tower.parameters():  # FiLM starts as the identity
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=0.2)
    vlm = composed(vision=tower)
    with torch.no_grad():
        a, b = (vlm.see(views(), vlm.tell([t] * 2))["front"].values for t in TEXTS)
    assert not torch.allclose(a, b)


def test_what_is_missing_or_does_not_fit_is_named() -> None:
    vlm = composed(cameras=("front", "top"), modalities=FEATURES)
    with pytest.raises(SpecError, match="'top' is missing"):
        vlm.prefix(views(), TEXTS)
    vlm = composed(modalities=FEATURES)
    with pytest.raises(SpecError, match="'force'"):
        vlm.prefix(views(), TEXTS, {"force": torch.zeros(2, 1, 2)})
    with pytest.raises(SpecError, match=r"\[B M 5\]"):
        vlm.prefix(views(), TEXTS, {"state": torch.zeros(2, 1, 4)})
    with pytest.raises(SpecError, match=r"\[B h w 3\]"):
        vlm.prefix({"front": torch.zeros(16, 24, 3, dtype=torch.uint8)}, TEXTS)
    with pytest.raises(SpecError, match="at most 200"):
        composed(language=ScratchLM(vocabulary=200, width=WIDTH, depth=1, heads=2))


# --- modality dropout ------------------------------------------------------------------------------------------


def hidden(rates: dict[str, float], batch: int = 400) -> dict[str, Tokens]:
    torch.manual_seed(0)
    parts = {n: Tokens(torch.ones(batch, 2, 4), torch.ones(batch, 2, dtype=torch.bool)) for n in ("a", "b", "text")}
    return ModalityDropout(rates=rates)(parts)


def test_dropout_hides_a_modality_at_its_rate_and_whole() -> None:
    masks = {name: part.mask for name, part in hidden({"a": 0.25, "b": 0.5}).items()}
    assert all(torch.equal(mask[:, 0], mask[:, 1]) for mask in masks.values())
    kept = {name: mask[:, 0].float().mean().item() for name, mask in masks.items()}
    assert abs(kept["a"] - 0.75) < 0.07 and abs(kept["b"] - 0.5) < 0.08 and kept["text"] == 1


def test_dropout_never_hides_all() -> None:
    masks = [part.mask[:, 0] for part in hidden({"a": 0.9, "b": 0.9, "text": 0.9}).values()]
    assert torch.stack(masks).any(0).all()


def test_dropout_rests_in_evaluation() -> None:
    drop = ModalityDropout(rates={"a": 0.9}).eval()
    part = Tokens(torch.ones(3, 2, 4), torch.ones(3, 2, dtype=torch.bool))
    assert drop({"a": part})["a"] is part
    with pytest.raises(ConfigError, match=r"\[0, 1\)"):
        ModalityDropout(rates={"a": 1.0})


def test_what_is_dropped_is_as_if_it_had_not_come() -> None:
    """Nothing attends to a dropped camera and it takes no position."""
    vlm = composed(modalities=FEATURES, dropout=ModalityDropout(rates={"front": 0.999999}))
    vlm.dropout.train()  # type: ignore[union-attr]
    with torch.no_grad():
        found = vlm.prefix(views(), TEXTS, felt())
        without = composed(modalities=FEATURES).prefix({"wrist": views()["wrist"]}, TEXTS, felt())
    assert not found.mask[:, :6].any()
    torch.testing.assert_close(found.hidden[:, 6:][without.mask], without.hidden[without.mask], atol=1e-5, rtol=1e-5)


def test_training_with_everything_dropped_at_random_stays_finite(build: Callable[..., Composition]) -> None:
    rates = dict.fromkeys(("front", "wrist", "state", "audio", "text"), 0.7)
    vlm = build(modalities=FEATURES, dropout=ModalityDropout(rates=rates)).train()
    vlm.requires_grad_()
    found = vlm.prefix(views(8), TEXTS * 4, felt(8))
    found.hidden[found.mask].square().sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in vlm.parameters())


# --- fusion ----------------------------------------------------------------------------------------------------

NAMES = ("front", "wrist", "state")
FUSIONS: dict[str, Callable[..., Fusion]] = {
    "concat": partial(ConcatFusion, names=NAMES),
    "gated": partial(GatedFusion, names=("front", "wrist")),
    "cross": partial(CrossAttentionFusion, main="front", heads=2),
    "bottleneck": partial(BottleneckFusion, names=NAMES, heads=2, queries=3),
    "bottleneck only": partial(BottleneckFusion, names=NAMES, heads=2, queries=3, only=True),
}


@pytest.mark.parametrize("name", FUSIONS)
def test_a_fusion_trains_and_reads_all_modalities(name: str) -> None:
    images = {"front": views()["wrist"], "wrist": views()["wrist"].flip(1)}
    extra = {} if name == "gated" else {"state": felt()["state"]}
    vlm = composed(fusion=FUSIONS[name], modalities=FEATURES).train()
    found = vlm.prefix(images, TEXTS, extra)
    found.hidden[:, -1].square().sum().backward()
    assert vlm.fusion is not None
    silent = [n for n, p in vlm.fusion.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert silent == []
    vlm.eval()
    with torch.no_grad():
        before = vlm.prefix(images, TEXTS, extra).hidden[:, -1]
        for camera in images:
            changed = vlm.prefix({**images, camera: 255 - images[camera]}, TEXTS, extra).hidden[:, -1]
            assert not torch.allclose(before, changed, atol=1e-5)


def test_a_hidden_modality_does_not_reach_a_fusion() -> None:
    torch.manual_seed(0)
    for name, build in FUSIONS.items():
        fusion = build(width=8).eval()
        values = {n: torch.randn(1, 4, 8) for n in NAMES if name != "gated" or n != "state"}
        masks = {n: torch.full((1, 4), n != "wrist") for n in values}
        with torch.no_grad():
            a = fusion({n: Tokens(values[n], masks[n]) for n in values})
            values["wrist"] = values["wrist"] + 5
            b = fusion({n: Tokens(values[n], masks[n]) for n in values})
        assert torch.equal(a.mask, b.mask) and a.mask.any()
        torch.testing.assert_close(a.values[a.mask], b.values[b.mask], msg=name)


def test_a_gated_fusion_of_one_is_that_one() -> None:
    fusion, x = GatedFusion(width=8, names=("a", "b")), torch.randn(1, 4, 8)
    there, gone = torch.ones(1, 4, dtype=torch.bool), torch.zeros(1, 4, dtype=torch.bool)
    found = fusion({"a": Tokens(x, there), "b": Tokens(torch.randn(1, 4, 8), gone)})
    torch.testing.assert_close(found.values, x)


def test_modalities_that_do_not_fit_a_fusion_are_named() -> None:
    part = Tokens(torch.zeros(1, 2, 8), torch.ones(1, 2, dtype=torch.bool))
    with pytest.raises(SpecError, match="'b' is missing"):
        GatedFusion(width=8, names=("a", "b"))({"a": part})
    with pytest.raises(SpecError, match="'c' is unknown"):
        ConcatFusion(width=8, names=("a", "b"))({"c": part})
    longer = Tokens(torch.zeros(1, 3, 8), torch.ones(1, 3, dtype=torch.bool))
    with pytest.raises(SpecError, match="equally many"):
        GatedFusion(width=8, names=("a", "b"))({"a": part, "b": longer})
