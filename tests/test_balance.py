"""Balancing tasks: gradients and weights against what the papers' formulas give by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from wayhand.vla.config import instantiate
from wayhand.vla.errors import ConfigError
from wayhand.vla.learning.balance import Balance, FixedWeights, GradNorm, PCGrad, UncertaintyWeighting, surgery

TASKS = ("a", "b")


def two_losses(shared: Tensor, own: Tensor, first: Tensor, second: Tensor) -> dict[str, Tensor]:
    """Losses whose gradients over `shared` are `first` and `second`; the second also has 3 · own."""
    return {"a": first @ shared + 5, "b": second @ shared + 3 * own.sum() + 5}


def gradients(balance: Balance, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Of the balanced loss over a shared parameter and one of the second task alone."""
    shared, own = nn.Parameter(torch.ones(len(first))), nn.Parameter(torch.ones(1))
    total, _ = balance(two_losses(shared, own, first, second), [shared])
    total.backward()
    assert shared.grad is not None
    assert own.grad is not None
    return shared.grad, own.grad


FIRST, SECOND = torch.tensor([1.0, 0.0]), torch.tensor([-1.0, 2.0])


def test_fixed_weights_weigh() -> None:
    shared, own = gradients(FixedWeights(tasks=TASKS, weights={"b": 0.5}), FIRST, SECOND)
    assert shared.tolist() == [0.5, 1.0]
    assert own.tolist() == [1.5]


def test_uncertainty_weighting_is_kendalls_formula() -> None:
    balance = UncertaintyWeighting(tasks=TASKS, regression=["a"])
    balance.log_variances.data = torch.tensor([0.4, -0.2])
    losses = {"a": torch.tensor(3.0), "b": torch.tensor(7.0)}
    total, weights = balance(losses, [])
    expected = 0.5 * math.exp(-0.4) * 3 + 0.2 + math.exp(0.2) * 7 - 0.1
    assert total.item() == pytest.approx(expected, rel=1e-6)
    assert weights["a"].item() == pytest.approx(0.5 * math.exp(-0.4))


def test_uncertainties_settle_where_the_gradient_is_zero() -> None:
    balance = UncertaintyWeighting(tasks=TASKS, regression=["a"])
    losses = {"a": torch.tensor(0.3), "b": torch.tensor(4.0)}
    for _ in range(200):
        (slope,) = torch.autograd.grad(balance(losses, [])[0], balance.log_variances)
        balance.log_variances.data -= 0.5 * slope
    assert balance.log_variances.exp().tolist() == pytest.approx([0.3, 8.0], rel=1e-3)


def test_gradnorm_takes_the_step_of_the_paper() -> None:
    balance = GradNorm(tasks=TASKS, alpha=1.0, lr=0.1)
    gradients(balance, FIRST, SECOND)
    norms = [1.0, math.sqrt(5.0)]
    mean = sum(norms) / 2
    raw = [1 + 0.1 * norms[0], 1 - 0.1 * norms[1]]
    assert norms[0] < mean < norms[1]
    expected = [w * 2 / sum(raw) for w in raw]
    assert balance.get_buffer("weights").tolist() == pytest.approx(expected, rel=1e-6)
    assert balance.get_buffer("weights").sum().item() == pytest.approx(2.0)


def test_gradnorm_makes_norms_equal_where_alpha_is_zero() -> None:
    balance = GradNorm(tasks=TASKS, alpha=0.0, lr=0.01)
    for _ in range(300):
        gradients(balance, FIRST, 3 * FIRST)
    small, large = balance.get_buffer("weights").tolist()
    assert small == pytest.approx(1.5, abs=0.05)
    assert large == pytest.approx(0.5, abs=0.05)


def test_gradnorm_gives_slow_tasks_more() -> None:
    balance = GradNorm(tasks=TASKS, alpha=1.5, lr=0.01)
    shared = nn.Parameter(torch.ones(2))
    for step in range(100):
        left = 1.0 if step == 0 else 0.1
        losses = {"a": FIRST @ shared, "b": FIRST @ shared * 1.0}
        losses["a"] = losses["a"] - losses["a"].detach() + left
        balance(losses, [shared])
    fast, slow = balance.get_buffer("weights").tolist()
    assert slow > fast


def test_gradnorm_rests_in_evaluation() -> None:
    balance = GradNorm(tasks=TASKS).eval()
    gradients(balance, FIRST, SECOND)
    assert balance.get_buffer("weights").tolist() == [1.0, 1.0]


def test_its_state_is_saved() -> None:
    balance, other = GradNorm(tasks=TASKS), GradNorm(tasks=TASKS)
    gradients(balance, FIRST, SECOND)
    other.load_state_dict(balance.state_dict())
    assert torch.equal(other.get_buffer("weights"), balance.get_buffer("weights"))
    assert torch.equal(other.get_buffer("first"), balance.get_buffer("first"))


def test_conflicting_gradients_are_projected_as_by_hand() -> None:
    # FIRST · SECOND = −1: FIRST loses its part along SECOND and the other way round.
    expected = (FIRST + SECOND / 5) + (SECOND + FIRST)
    shared, own = gradients(PCGrad(tasks=TASKS), FIRST, SECOND)
    assert torch.allclose(shared, expected)
    assert own.tolist() == [3.0]
    assert torch.allclose(surgery([FIRST, SECOND]), expected)


def test_what_is_left_of_a_gradient_conflicts_with_none() -> None:
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        a, b = torch.randn(2, 5, generator=generator)
        freed = surgery([a, b])
        assert torch.dot(freed, a) >= -1e-5
        assert torch.dot(freed, b) >= -1e-5


def test_gradients_in_harmony_are_summed() -> None:
    shared, _ = gradients(PCGrad(tasks=TASKS), FIRST, FIRST + torch.tensor([0.0, 1.0]))
    assert shared.tolist() == [2.0, 1.0]


def test_the_value_of_a_projected_loss_is_the_sum() -> None:
    shared = nn.Parameter(torch.ones(2))
    losses = two_losses(shared, nn.Parameter(torch.ones(1)), FIRST, SECOND)
    total, _ = PCGrad(tasks=TASKS)(losses, [shared])
    assert total.item() == pytest.approx(sum(v.item() for v in losses.values()))


def test_parameters_that_a_task_does_not_touch_are_no_obstacle() -> None:
    a, b = nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(1))
    for balance in (PCGrad(tasks=TASKS), GradNorm(tasks=TASKS)):
        a.grad = b.grad = None
        losses = {"a": 2 * a.sum(), "b": torch.tensor(3.0)}
        balance(losses, [a, b])[0].backward()
        assert a.grad is not None
        assert a.grad.item() == 2.0


@pytest.mark.parametrize("name", ["FixedWeights", "UncertaintyWeighting", "GradNorm", "PCGrad"])
def test_every_method_is_built_from_its_recipe_and_takes_some_of_its_tasks(name: str) -> None:
    node = {"_target_": f"wayhand.vla.learning.balance.{name}", "_partial_": True}
    balance = instantiate(node)(tasks=TASKS)
    shared = nn.Parameter(torch.ones(1))
    total, weights = balance({"b": (shared**2).sum()}, [shared])
    assert list(weights) == ["b"]
    total.backward()
    assert shared.grad is not None
    with pytest.raises(ConfigError, match="not balanced"):
        balance({"c": (shared**2).sum()}, [shared])
