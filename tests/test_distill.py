"""Distillation against closed forms: divergences, their gradients, what teachers may not receive."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import kl_div

from wayhand.vla.errors import ConfigError
from wayhand.vla.learning.distill import Distillation, FeatureMatching, distillation, mutual, soft_targets

STUDENT = torch.tensor([[1.0, -0.5, 0.2], [0.0, 2.0, -1.0]])
TEACHER = torch.tensor([[0.3, 0.8, -0.2], [1.0, 1.5, 0.0]])
OTHER = torch.tensor([[2.0, 0.0, 0.0], [0.0, 0.0, 1.0]])


def test_the_divergence_is_torchs_own() -> None:
    expected = 4.0 * kl_div((STUDENT / 2).log_softmax(-1), (TEACHER / 2).softmax(-1), reduction="batchmean")
    assert distillation(STUDENT, soft_targets([TEACHER], 2.0), 2.0).item() == pytest.approx(expected.item(), rel=1e-5)


def test_it_is_zero_for_a_student_that_is_its_teacher() -> None:
    assert distillation(TEACHER, soft_targets([TEACHER], 3.0), 3.0).item() == pytest.approx(0, abs=1e-6)
    sure = torch.tensor([[0.0, 1.0, 0.0]])
    assert distillation(torch.tensor([[0.0, 200.0, 0.0]]), sure, 1.0).item() == pytest.approx(0, abs=1e-6)


def test_its_gradient_is_temperature_times_the_difference() -> None:
    student = STUDENT.clone().requires_grad_()
    distillation(student, soft_targets([TEACHER], 5.0), 5.0).backward()
    expected = 5.0 * ((STUDENT / 5).softmax(-1) - (TEACHER / 5).softmax(-1)) / len(STUDENT)
    assert student.grad is not None
    assert torch.allclose(student.grad, expected, atol=1e-6)


def test_several_teachers_are_a_mixture() -> None:
    both = soft_targets([TEACHER, OTHER], 1.0, [3.0, 1.0])
    assert torch.allclose(both, 0.75 * TEACHER.softmax(-1) + 0.25 * OTHER.softmax(-1))
    assert torch.allclose(soft_targets([TEACHER, OTHER], 1.0).sum(-1), torch.ones(2))
    with pytest.raises(ConfigError, match="weight"):
        soft_targets([TEACHER], 1.0, [1.0, 1.0])


def test_masked_rows_do_not_count() -> None:
    targets = soft_targets([TEACHER], 2.0)
    first = distillation(STUDENT[:1], targets[:1], 2.0)
    assert torch.allclose(distillation(STUDENT, targets, 2.0, torch.tensor([True, False])), first)
    assert distillation(STUDENT, targets, 2.0, torch.tensor([False, False])).item() == 0.0


def test_peers_learn_from_each_other_without_pushing_back() -> None:
    students = [t.clone().requires_grad_() for t in (STUDENT, TEACHER, OTHER)]
    losses = mutual(students)
    expected = (distillation(STUDENT, TEACHER.softmax(-1), 1.0) + distillation(STUDENT, OTHER.softmax(-1), 1.0)) / 2
    assert losses[0].item() == pytest.approx(expected.item(), rel=1e-5)
    losses[0].backward()
    assert students[0].grad is not None
    assert students[1].grad is None
    assert all(loss.item() == pytest.approx(0, abs=1e-6) for loss in mutual([STUDENT, STUDENT.clone()]))
    with pytest.raises(ConfigError, match="peers"):
        mutual([STUDENT])


def test_features_that_agree_cost_nothing() -> None:
    features = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    assert FeatureMatching(width=6, teacher=6)(features, features).item() == 0.0
    assert FeatureMatching(width=6, teacher=6, kind="cosine")(features, 3 * features).item() == pytest.approx(
        0, abs=1e-6
    )
    rotation = torch.linalg.qr(torch.randn(6, 6, generator=torch.Generator().manual_seed(1)))[0]
    relation = FeatureMatching(width=6, teacher=6, kind="relation")
    assert relation(features, 2 * features @ rotation).item() == pytest.approx(0, abs=1e-6)
    assert relation(features, features[:, [0, 1, 2, 3, 4, 4]]).item() > 1e-4


def test_features_of_another_width_are_mapped_and_the_map_learns() -> None:
    torch.manual_seed(0)
    match = FeatureMatching(width=3, teacher=5)
    student, teacher = torch.randn(16, 3), torch.randn(16, 5).requires_grad_()
    loss = match(student, teacher)
    loss.backward()
    assert teacher.grad is None
    assert isinstance(match.map, nn.Linear)
    assert match.map.weight.grad is not None
    mask = torch.arange(16) < 8
    assert torch.allclose(match(student, teacher, mask), match(student[:8], teacher[:8]))


def test_a_recipe_adds_up_its_terms() -> None:
    torch.manual_seed(0)
    distil = Distillation(temperature=2.0, logits=0.5, features=0.1, width=3, teacher_widths=[4, 3])
    own: Tensor = torch.randn(2, 3)
    others = [torch.randn(2, 4), torch.randn(2, 3)]
    total, terms = distil(STUDENT, [TEACHER, OTHER], features=(own, others))
    expected = 0.5 * terms["distill_kl"] + 0.1 * terms["distill_features"]
    assert total.item() == pytest.approx(expected.item())
    with pytest.raises(ConfigError, match="features"):
        distil(STUDENT, [TEACHER, OTHER])
    with pytest.raises(ConfigError, match="teacher_widths"):
        Distillation(features=1.0)
    with pytest.raises(ConfigError, match="temperature"):
        Distillation(temperature=0.0)


def test_students_become_their_teacher() -> None:
    generator = torch.Generator().manual_seed(0)
    x, truth = torch.randn(64, 4, generator=generator), torch.randn(4, 3, generator=generator)
    weight = torch.zeros(4, 3, requires_grad=True)
    for _ in range(200):
        loss = distillation(x @ weight, soft_targets([x @ truth], 2.0), 2.0)
        (slope,) = torch.autograd.grad(loss, weight)
        weight.data -= 0.5 * slope
    assert float(((x @ weight).argmax(-1) == (x @ truth).argmax(-1)).float().mean()) > 0.95
