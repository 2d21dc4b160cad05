"""Laws of the kernels: whole layers as one function give the plain path's numbers, whatever the sizes."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import pytest
import torch
from test_expert import KINDS, make, make_inputs, plain
from test_policies import make_batch
from test_smolvla import RECIPES
from test_smolvla import make as make_policy
from torch import nn

from wayhand.vla.backbones.inference import FastFlow
from wayhand.vla.backbones.kernels import build
from wayhand.vla.backbones.kernels.flow import KernelFlow, KernelTower
from wayhand.vla.backbones.kernels.packing import KernelLinear, padded
from wayhand.vla.backbones.siglip import SiglipTower
from wayhand.vla.errors import ConfigError, SpecError

pytestmark = pytest.mark.skipif(build.compiler() is None, reason="the kernels need a C++ compiler")
TOLERANCE: dict[str, Any] = {"atol": 1e-4, "rtol": 0.0}


@pytest.mark.parametrize(
    ("rows", "inputs", "outputs"), [(1, 1, 1), (7, 5, 3), (50, 33, 49), (70, 16, 130), (129, 64, 48)]
)
@pytest.mark.parametrize("biased", [True, False])
def test_a_product_is_a_linear_layer_padded_by_zeros(rows: int, inputs: int, outputs: int, biased: bool) -> None:
    g = torch.Generator().manual_seed(0)
    weight, bias = torch.randn(outputs, inputs, generator=g), torch.randn(outputs, generator=g)
    x = torch.randn(rows, inputs, generator=g)
    found = KernelLinear(weight, bias if biased else None)(x)
    assert found.shape == (rows, padded(outputs)) and not found[:, outputs:].any()
    expected = nn.functional.linear(x.double(), weight.double(), bias.double() if biased else None)
    torch.testing.assert_close(found[:, :outputs], expected.float(), atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("width", [8, 24, 32])
@torch.no_grad()
def test_the_tower_is_the_plain_tower(width: int) -> None:
    torch.manual_seed(0)
    tower = SiglipTower(size=24, patch=8, width=width, depth=2, heads=2, inner=20).eval()
    for parameter in tower.parameters():
        nn.init.normal_(parameter, std=0.2)
    images = torch.randint(0, 256, (3, 24, 24, 3), dtype=torch.uint8)
    torch.testing.assert_close(KernelTower(tower)(images), tower(images), **TOLERANCE)


@pytest.mark.parametrize("kind", KINDS)
def test_the_kernels_are_the_plain_path(kind: str) -> None:
    inputs = make_inputs()
    found = FastFlow(*make(kind), steps=4, count=5, kernels=True)(**inputs)
    torch.testing.assert_close(found, plain(*make(kind), inputs), **TOLERANCE)


@pytest.mark.parametrize("kind", KINDS)
def test_steps_one_by_one_are_all_at_once(kind: str) -> None:
    inputs = make_inputs()
    flow = KernelFlow(*make(kind), steps=4, count=5)
    x = inputs["noise"]
    with torch.no_grad():
        prefix = flow.embedding(*(inputs[name] for name in ("images", "ids", "mask", "state")))
        context = flow.read(prefix)
        for k in range(4):
            x = flow.step(prefix, context, inputs["state"], x, range(k, k + 1))
        torch.testing.assert_close(x, flow(**inputs), atol=1e-6, rtol=0)


@pytest.mark.parametrize("recipe", RECIPES)
@torch.no_grad()
def test_an_accelerated_policy_acts_alike(recipe: str) -> None:
    policy = make_policy(recipe).eval()
    batch, noise = make_batch(policy), torch.randn(4, policy.chunk, policy.room)
    expected = policy.denoise(batch, noise)
    policy.accelerate(kernels=True)
    torch.testing.assert_close(policy.denoise(batch, noise), expected, **TOLERANCE)


def test_calls_leave_nothing_behind() -> None:
    """Neither another shape nor a call with infinities in between changes a result, nor is the noise changed."""
    quick = FastFlow(*make("smolvla"), steps=2, count=5, kernels=True)
    inputs, longer = make_inputs(), make_inputs(3, words=40)
    noise = inputs["noise"].clone()
    first = quick(**inputs)
    quick(**{**longer, "state": torch.full((3, 6), torch.inf)})
    assert torch.equal(quick(**inputs), first) and torch.equal(inputs["noise"], noise)


def test_a_longer_prefix_than_a_block_of_rows_is_read_whole() -> None:
    inputs = make_inputs(words=150)
    for kind in KINDS:
        found = FastFlow(*make(kind), steps=2, count=5, kernels=True)(**inputs)
        torch.testing.assert_close(found, plain(*make(kind), inputs, steps=2), **TOLERANCE)


def test_noise_of_another_shape_is_refused() -> None:
    quick = FastFlow(*make("pi0"), steps=2, count=5, kernels=True)
    for shape in ((2, 4, 6), (1, 5, 6), (2, 5, 7)):
        with pytest.raises(SpecError, match="noise"):
            quick(**{**make_inputs(), "noise": torch.zeros(shape)})


@pytest.mark.parametrize("options", [{"dtype": torch.bfloat16}, {"compiled": True}, {"graph": True}])
def test_the_kernels_stand_for_themselves(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="single precision"):
        FastFlow(*make("pi0"), steps=2, count=5, kernels=True, **options)


@pytest.fixture
def anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of compiled kernels."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "wayhand"


def test_a_machine_without_a_compiler_is_told_so(anew: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(ConfigError, match=r"C\+\+ compiler"):
        build.library.__wrapped__()


def test_a_compiler_that_fails_is_quoted_and_leaves_nothing(anew: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "FLAGS", ("-Dlong=short long long",))
    with pytest.raises(ConfigError, match="error"):
        build.library.__wrapped__()
    assert not list(anew.iterdir())


def test_code_that_others_may_write_is_not_loaded(anew: Path) -> None:
    anew.mkdir()
    anew.chmod(anew.stat().st_mode | stat.S_IWOTH)
    with pytest.raises(ConfigError, match="written by others"):
        build.library.__wrapped__()
