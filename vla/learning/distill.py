"""Distillation: a student learns from the distributions and features of one or several teachers, or of its peers.

Shape legend: … any leading axes, V classes, D width of the student's features, G of a teacher's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from ..errors import ConfigError


def soft_targets(teachers: Sequence[Tensor], temperature: float, weights: Sequence[float] | None = None) -> Tensor:
    """[… V]: the weighted mean of what the teachers' logits [… V] say at a temperature; no gradient."""
    if weights is not None and len(weights) != len(teachers):
        raise ConfigError("Each teacher needs a weight", expected=f"{len(teachers)} weights", got=str(len(weights)))
    shares = torch.tensor([1.0] * len(teachers) if weights is None else list(weights))
    shares = (shares / shares.sum()).tolist()
    each = [w * (t.detach().float() / temperature).softmax(-1) for w, t in zip(shares, teachers, strict=True)]
    return torch.stack(each).sum(0)


def distillation(student: Tensor, targets: Tensor, temperature: float, mask: Tensor | None = None) -> Tensor:
    """T² KL(targets ‖ softmax(student / T)), the mean over all rows or those that are real (Hinton et al. 2015).

    T² keeps the size of the gradient independent of the temperature.

    Args:
        student: logits [… V]; targets: probabilities [… V]; mask: bool […], True where a row counts.
    """
    log_student = (student.float() / temperature).log_softmax(-1)
    rows = (torch.special.xlogy(targets, targets) - targets * log_student).sum(-1)
    return temperature**2 * _mean(rows, mask)


def mutual(students: Sequence[Tensor], temperature: float = 1.0, mask: Tensor | None = None) -> list[Tensor]:
    """Deep mutual learning (Zhang et al. 2018): for each of several students, the mean divergence from its peers.

    Args:
        students: logits [… V] of each; a student's loss has no gradient into the others.
    """
    if len(students) < 2:
        raise ConfigError("Mutual learning needs peers", expected="at least 2 students", got=str(len(students)))
    losses: list[Tensor] = []
    for i, student in enumerate(students):
        peers = [soft_targets([p], temperature) for j, p in enumerate(students) if j != i]
        losses.append(torch.stack([distillation(student, peer, temperature, mask) for peer in peers]).mean())
    return losses


class FeatureMatching(nn.Module):
    """The student's features, mapped to the teacher's width, resemble the teacher's (FitNets, Romero et al. 2015).

    Args:
        width: D; teacher: G; equal widths are compared as they are, others through a learned linear map.
        kind: `mse`: mean squared difference; `cosine`: 1 − cosine; `relation`: mean squared difference of the
            matrices of cosines between the rows of a batch (Park et al. 2019), which needs no map.
    """

    def __init__(self, *, width: int, teacher: int, kind: Literal["mse", "cosine", "relation"] = "mse") -> None:
        super().__init__()
        self.kind = kind
        same = width == teacher or kind == "relation"
        self.map = nn.Identity() if same else nn.Linear(width, teacher, bias=False)

    def forward(self, student: Tensor, teacher: Tensor, mask: Tensor | None = None) -> Tensor:
        """student: [… D]; teacher: [… G]; mask: bool […], True where a row counts → scalar."""
        mapped, teacher = self.map(student).float(), teacher.detach().float()
        if self.kind == "relation":
            if mask is not None:
                mapped, teacher = mapped[mask], teacher[mask]
            return (_cosines(mapped) - _cosines(teacher)).square().mean()
        if self.kind == "cosine":
            return _mean(1 - nn.functional.cosine_similarity(mapped, teacher, dim=-1), mask)
        return _mean((mapped - teacher).square().mean(-1), mask)


class Distillation(nn.Module):
    """What a training run asks of its student beside its own objectives.

    Args:
        temperature: T.
        logits, features: weights of the two losses.
        teachers: weight of each teacher; by default all count the same.
        kind: how features are compared; see `FeatureMatching`.
        width: of the student's features; teacher_widths: of each teacher's. Only needed where features are compared.
    """

    def __init__(
        self,
        *,
        temperature: float = 2.0,
        logits: float = 1.0,
        features: float = 0.0,
        teachers: Sequence[float] | None = None,
        kind: Literal["mse", "cosine", "relation"] = "mse",
        width: int | None = None,
        teacher_widths: Sequence[int] = (),
    ) -> None:
        super().__init__()
        if temperature <= 0:
            raise ConfigError("A temperature must be positive", got=str(temperature))
        if features and (width is None or not teacher_widths):
            raise ConfigError("Comparing features needs `width` and `teacher_widths`", got=f"features={features}")
        self.temperature, self.logits, self.features = temperature, logits, features
        self.teachers = None if teachers is None else tuple(teachers)
        widths = teacher_widths if features else ()
        self.matching = nn.ModuleList([FeatureMatching(width=width or 0, teacher=w, kind=kind) for w in widths])

    def forward(
        self,
        student: Tensor,
        teachers: Sequence[Tensor],
        *,
        features: tuple[Tensor, Sequence[Tensor]] | None = None,
        mask: Tensor | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The weighted loss and its named terms.

        Args:
            student, teachers: logits [… V] over the same classes; mask: bool […], True where a row counts.
            features: the student's [… D] and each teacher's [… G], of the same rows.
        """
        divergence, kl = self.words(student, teachers, mask)
        terms = {"distill_kl": kl}
        if not self.features:
            return divergence, terms
        if features is None:
            raise ConfigError("This distillation also compares features", expected="`features`", got="None")
        apart = self.sights(*features, mask)
        return divergence + apart, {**terms, "distill_features": apart.detach() / self.features}

    def words(self, student: Tensor, teachers: Sequence[Tensor], mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The weighted divergence of logits [… V], and the divergence itself without gradient."""
        targets = soft_targets(teachers, self.temperature, self.teachers)
        kl = distillation(student, targets, self.temperature, mask)
        return self.logits * kl, kl.detach()

    def sights(self, student: Tensor, teachers: Sequence[Tensor], mask: Tensor | None = None) -> Tensor:
        """The weighted difference of features [… D] and [… G], the mean over the teachers; 0 if not asked for."""
        if not self.features:
            return student.new_zeros(())
        each = [match(student, other, mask) for match, other in zip(self.matching, teachers, strict=True)]
        return self.features * torch.stack(each).mean()


def _mean(rows: Tensor, mask: Tensor | None) -> Tensor:
    return rows.mean() if mask is None else (rows * mask).sum() / mask.sum().clamp_min(1)


def _cosines(rows: Tensor) -> Tensor:
    unit = nn.functional.normalize(rows.flatten(0, -2), dim=-1)
    return unit @ unit.T
