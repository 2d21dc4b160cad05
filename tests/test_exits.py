"""Early exits: the answers of a whole run, fewer layers, and a budget that is kept."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from decoders import tiny_images, tiny_vlm
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from wayhand.vla.backbones.decoding import last_hidden
from wayhand.vla.backbones.exits import Disagreement, ExitRule, MultiExit, Uncertainty, thresholds
from wayhand.vla.errors import ConfigError

VLM = tiny_vlm(depth=4)
TOKENS = VLM.embed(tiny_images(3), ["put it down", "go", "turn left"])


class Actions(nn.Module):
    def __init__(self, *, width: int, actions: int) -> None:
        super().__init__()
        self.out = nn.Linear(width, actions)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(x)


def exits(layers: tuple[int, ...] = (1, 2, 4), rule: ExitRule | None = None) -> MultiExit:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return MultiExit(width=32, layers=layers, head=partial(Actions, actions=3), rule=rule)


def test_exits_read_the_states_between_layers() -> None:
    outputs = exits()(VLM, TOKENS)
    found = VLM.read(TOKENS, layers=True)
    heads = exits().heads
    last = TOKENS.mask.sum(1) - 1
    for output, layer, head in zip(outputs[:2], (1, 2), heads, strict=False):
        assert torch.allclose(output, head(found.layers[layer][torch.arange(3), last]), atol=1e-6)
    norm, out = heads[2]  # type: ignore[misc]
    raw = last_hidden(found)
    # What lies before the last norm differs from what lies behind it by a scale, which the head's own norm undoes.
    centred = (raw - raw.mean(-1, keepdim=True)) / raw.var(-1, unbiased=False, keepdim=True).sqrt()
    assert torch.allclose(outputs[2], out(centred * norm.weight + norm.bias), atol=1e-3)


def test_every_exit_learns() -> None:
    multi = exits()
    sum(output.square().sum() for output in multi(VLM, TOKENS)).backward()  # type: ignore[union-attr]
    assert all(p.grad is not None and bool(p.grad.any()) for p in multi.heads.parameters())


def test_rows_leave_where_the_rule_says_with_the_output_of_that_exit() -> None:
    multi = exits()
    outputs = multi(VLM, TOKENS)
    doubts = multi.doubts(outputs)
    second = doubts[:, 1].sort().values
    multi.thresholds[1] = (second[0] + second[1]) / 2
    found = multi.act(VLM, TOKENS)
    assert found.exit.tolist() == [1 if d <= multi.thresholds[1] else 2 for d in doubts[:, 1]]
    expected = torch.stack([outputs[e][row] for row, e in enumerate(found.exit.tolist())])
    assert torch.allclose(found.output, expected, atol=1e-6)
    assert found.layers == 4


def test_layers_behind_the_last_exit_needed_do_not_run() -> None:
    multi, ran = exits(), []
    handles = [
        layer.register_forward_hook(lambda *_, i=i: ran.append(i))  # type: ignore[misc]
        for i, layer in enumerate(VLM.language.layers)  # type: ignore[arg-type]
    ]
    multi.thresholds[1] = torch.inf
    assert multi.act(VLM, TOKENS).layers == 2
    assert ran == [0, 1]
    for handle in handles:
        handle.remove()
    assert len(multi(VLM, TOKENS)) == 3


def test_before_calibration_everything_runs() -> None:
    found = exits().act(VLM, TOKENS)
    assert found.exit.tolist() == [2, 2, 2]
    assert found.layers == 4


def test_doubt_is_difference_or_want_of_confidence() -> None:
    a, b = torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, 4.0]])
    assert Disagreement().doubt(a, None).item() == float("inf")
    assert Disagreement().doubt(b, a).item() == pytest.approx(2**0.5)
    logits = torch.log(torch.tensor([[[0.5, 0.5], [0.9, 0.1]]]))
    assert Uncertainty().doubt(logits, None).item() == pytest.approx((0.5 + 0.1) / 2)
    assert Uncertainty().doubt(logits[:, 0], None).item() == pytest.approx(0.5)


def cost(doubts: Tensor, limits: Tensor, costs: Tensor) -> float:
    """Mean cost of the first exit each sample may take."""
    return costs[(doubts <= limits).int().argmax(1)].double().mean().item()


@given(st.integers(0, 1000), st.floats(1.0, 8.0), st.booleans())
def test_a_budget_is_kept_and_used(seed: int, budget: float, first: bool) -> None:
    doubts = torch.rand(200, 4, generator=torch.Generator().manual_seed(seed))
    costs = torch.tensor([1.0, 3.0, 5.0, 8.0])
    if not first:
        doubts[:, 0] = torch.inf
    if not first and budget < 3:
        with pytest.raises(ConfigError, match="cheap"):
            thresholds(doubts, costs, budget)
        return
    spent = cost(doubts, thresholds(doubts, costs, budget), costs)
    assert spent <= budget + 1e-6
    assert spent >= budget - 0.2


def test_a_calibration_travels_in_the_checkpoint() -> None:
    multi, other = exits(rule=Disagreement()), exits()
    multi.calibrate(multi.doubts(multi(VLM, TOKENS)).detach(), budget=3.0)
    other.load_state_dict(multi.state_dict())
    assert torch.equal(other.thresholds, multi.thresholds)
    assert float(multi.thresholds[1]) >= 0


def test_exits_that_cannot_be_are_refused() -> None:
    with pytest.raises(ConfigError, match="rising"):
        exits((2, 1))
    with pytest.raises(ConfigError, match="beyond"):
        exits((2, 5))(VLM, TOKENS)
