"""Laws of the fast path: folding, packing, capture and batched serving give the plain path's numbers."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from test_expert import KINDS, make, make_inputs, plain
from torch import Tensor, nn

from wayhand.vla.backbones import packed
from wayhand.vla.backbones.capture import CapturedGraph
from wayhand.vla.backbones.folding import FoldedLayer, FoldedTower
from wayhand.vla.backbones.inference import FastFlow, fitted
from wayhand.vla.backbones.packed import PackedLinear, activated
from wayhand.vla.backbones.serving import BatchedServer
from wayhand.vla.backbones.siglip import letterbox
from wayhand.vla.errors import ConfigError

TOLERANCE = {"atol": 1e-4, "rtol": 0.0}


def fast(kind: str, inputs: dict[str, Tensor], **options: Any) -> Tensor:
    vlm, flow = make(kind)
    return FastFlow(vlm, flow, steps=4, count=5, **options)(**inputs)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pack", [True, False])
def test_the_fast_path_is_the_plain_path(kind: str, pack: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed, "SMALL", 1 if pack else 1 << 40)
    inputs = make_inputs()
    torch.testing.assert_close(fast(kind, inputs), plain(*make(kind), inputs), **TOLERANCE)


@pytest.mark.parametrize("kind", KINDS)
def test_bfloat16_stays_near(kind: str) -> None:
    inputs = make_inputs()
    expected, found = plain(*make(kind), inputs), fast(kind, inputs, dtype=torch.bfloat16)
    assert found.dtype == torch.float32
    assert nn.functional.cosine_similarity(found.flatten(), expected.flatten(), dim=0) > 0.995


def test_a_fast_path_does_not_follow_later_training() -> None:
    vlm, flow = make("smolvla")
    inputs = make_inputs()
    quick = FastFlow(vlm, flow, steps=2, count=5)
    before = quick(**inputs)
    with torch.no_grad():
        flow.leave.weight.mul_(2)
    assert torch.equal(quick(**inputs), before)


def test_cameras_of_another_shape_are_letterboxed_as_on_the_plain_path() -> None:
    wide = torch.randint(0, 256, (1, 8, 12, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    vlm, _ = make("pi0")
    with torch.no_grad():
        torch.testing.assert_close(
            FoldedTower(vlm.vision)(fitted(wide, 16)), vlm.vision.read(letterbox(wide, 16)), **TOLERANCE
        )


@pytest.mark.parametrize("activation", ["none", "silu", "gelu_tanh"])
@pytest.mark.parametrize("pack", [True, False])
@torch.no_grad()
def test_packed_layers_are_linear_layers(activation: Any, pack: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed, "SMALL", 1 if pack else 1 << 40)
    g = torch.Generator().manual_seed(0)
    weight, bias = torch.randn(7, 5, generator=g), torch.randn(7, generator=g)
    x, other = torch.randn(2, 3, 5, generator=g), torch.randn(2, 3, 7, generator=g)
    product = nn.functional.linear(x.double(), weight.double(), bias.double())
    plain_layer = PackedLinear(weight, bias, rows=3)
    torch.testing.assert_close(plain_layer.plus(x, other), (product + other).float(), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(plain_layer.times(x, other), (product * other).float(), atol=1e-5, rtol=1e-5)
    layer = PackedLinear(weight, bias, rows=3, activation=activation)
    torch.testing.assert_close(layer(x), activated(product, activation).float(), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_a_folded_norm_makes_the_same_queries() -> None:
    vlm, flow = make("pi0")
    layer = flow.expert.layers[0]
    folded = FoldedLayer(layer, 4, apart=True)  # type: ignore[arg-type]
    x = torch.randn(1, 4, 24)
    by = (torch.ones(1, 1, 4, 4), torch.zeros(1, 1, 4, 4))
    queries, keys, values = folded.project(folded.norm(x), by)
    normed = layer.get_submodule("enter")(x)
    attention: Any = layer.get_submodule("attention")
    expected = attention.queries(normed, by) * attention.shape.head_width**-0.5
    torch.testing.assert_close(queries, expected.unflatten(1, (2, 2)).flatten(2, 3), atol=1e-5, rtol=0)
    for found, wanted in zip((keys, values), attention.keys_values(normed, by), strict=True):
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=0)
    assert vlm.language.width == 32


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on a CPU")
@pytest.mark.filterwarnings("ignore")
def test_the_compiled_path_is_the_plain_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed, "SMALL", 1)
    inputs = make_inputs()
    torch.testing.assert_close(fast("smolvla", inputs, compiled=True), plain(*make("smolvla"), inputs), **TOLERANCE)


def test_a_graph_without_cuda_is_refused() -> None:
    with pytest.raises(ConfigError, match="CUDA"):
        CapturedGraph(lambda x: x, torch.device("cpu"))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize("kind", KINDS)
def test_the_captured_graph_is_the_plain_path(kind: str) -> None:
    vlm, flow = (module.cuda() for module in make(kind))
    quick = FastFlow(vlm, flow, steps=4, count=5, dtype=torch.float32, graph=True)
    for seed in (1, 2):
        inputs = {**make_inputs(), "noise": torch.randn(2, 5, 6, generator=torch.Generator().manual_seed(seed))}
        found = quick(**{name: value.cuda() for name, value in inputs.items()})
        torch.testing.assert_close(found.cpu(), plain(*make(kind), inputs), **TOLERANCE)


def test_requests_that_wait_are_answered_together_and_in_order() -> None:
    sizes: list[int] = []
    started, go = threading.Event(), threading.Event()

    def answer(requests: Sequence[int]) -> list[int]:
        sizes.append(len(requests))
        started.set()
        go.wait(10)
        return [10 * r for r in requests]

    with BatchedServer(answer, largest=3) as server:
        first = server.submit(0)
        assert started.wait(10)
        rest = [server.submit(i) for i in range(1, 6)]
        go.set()
        assert [f.result(10) for f in (first, *rest)] == [0, 10, 20, 30, 40, 50]
    assert sizes == [1, 3, 2]


def test_a_failure_reaches_its_batch_and_the_server_lives_on() -> None:
    def answer(requests: Sequence[int]) -> list[float]:
        return [1 / r for r in requests]

    with BatchedServer(answer, largest=1) as server:
        bad, good = server.submit(0), server.submit(2)
        with pytest.raises(ZeroDivisionError):
            bad.result(10)
        assert good.result(10) == 0.5
    with pytest.raises(ConfigError, match="closed"):
        server.submit(1)
    with pytest.raises(ConfigError, match="largest"):
        BatchedServer(answer, largest=0)


def test_a_served_batch_gives_each_row_its_own_actions() -> None:
    vlm, flow = make("smolvla")
    quick, inputs = FastFlow(vlm, flow, steps=2, count=5), make_inputs()

    def answer(rows: Sequence[dict[str, Tensor]]) -> list[Tensor]:
        return list(quick(**{name: torch.stack([row[name] for row in rows]) for name in rows[0]}))

    rows = [{name: value[i] for name, value in inputs.items()} for i in range(2)]
    with BatchedServer(answer, largest=2) as server:
        replies = [server.submit(row) for row in rows]
        found = torch.stack([reply.result(30) for reply in replies])
    torch.testing.assert_close(found, plain(vlm, flow, inputs, steps=2), **TOLERANCE)
