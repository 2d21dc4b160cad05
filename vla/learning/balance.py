"""Balancing the losses of many tasks that share parameters.

Every method maps named losses to one scalar whose gradient is the balanced one, so that a training loop that calls
`backward` on a loss needs to know none of them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from ..errors import ConfigError


class Balance(nn.Module, ABC):
    """Combines the losses of tasks.

    Args:
        tasks: names of all tasks; a step may hold some of them only.
    """

    def __init__(self, *, tasks: Sequence[str]) -> None:
        super().__init__()
        if not tasks or len(set(tasks)) != len(tasks):
            raise ConfigError("Tasks to balance must be named, each once", got=str(list(tasks)))
        self.tasks = tuple(tasks)

    @abstractmethod
    def forward(self, losses: Mapping[str, Tensor], shared: Sequence[Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """The scalar to go backward from, and the weight of each task that is present.

        Args:
            losses: task → scalar loss.
            shared: the parameters that the tasks compete for; all that are trained, or those of one layer.

        Raises `ConfigError` for a task that was not named at construction.
        """

    def index(self, task: str) -> int:
        """Place of a task among `tasks`."""
        if task not in self.tasks:
            raise ConfigError("There is a loss of a task that is not balanced", got=task, exists=self.tasks)
        return self.tasks.index(task)


class FixedWeights(Balance):
    """Σ wᵢ Lᵢ.

    Args:
        weights: task → wᵢ; 1 where it is not named.
    """

    def __init__(self, *, tasks: Sequence[str], weights: Mapping[str, float] | None = None) -> None:
        super().__init__(tasks=tasks)
        self._weights = dict(weights or {})
        for task in self._weights:
            self.index(task)

    def forward(self, losses: Mapping[str, Tensor], shared: Sequence[Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        weights = {task: torch.tensor(self._weights.get(self.tasks[self.index(task)], 1.0)) for task in losses}
        return _weighted(losses, weights), weights


class UncertaintyWeighting(Balance):
    """Homoscedastic uncertainty as learned weights (Kendall et al. 2018).

    With sᵢ = log σᵢ², learned with everything else: Σ exp(−sᵢ) Lᵢ + sᵢ / 2 for a likelihood over classes, and half of
    the first term for a squared error. At the optimum exp(sᵢ) is 2 Lᵢ, respectively Lᵢ.

    Args:
        regression: the tasks whose loss is a squared error.
    """

    def __init__(self, *, tasks: Sequence[str], regression: Sequence[str] = ()) -> None:
        super().__init__(tasks=tasks)
        self.log_variances = nn.Parameter(torch.zeros(len(self.tasks)))
        factors = torch.ones(len(self.tasks))
        for task in regression:
            factors[self.index(task)] = 0.5
        self.register_buffer("factors", factors, persistent=False)

    def forward(self, losses: Mapping[str, Tensor], shared: Sequence[Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        places = [self.index(task) for task in losses]
        weights = self.get_buffer("factors")[places] * (-self.log_variances[places]).exp()
        penalty = self.log_variances[places].sum() / 2
        total = _weighted(losses, dict(zip(losses, weights, strict=True))) + penalty
        return total, dict(zip(losses, weights.detach(), strict=True))


class GradNorm(Balance):
    """Weights that let all tasks learn at one pace (Chen et al. 2018).

    The norm of wᵢ ∇Lᵢ over the shared parameters is drawn to mean(norms) · rᵢ^α, rᵢ being the share of its first loss
    that a task still has, relative to the others. The weights take one step of descent on the absolute difference in
    every training step and sum to the number of tasks.

    Args:
        alpha: α; 0 makes all norms equal, more holds back those that learn fast.
        lr: of the weights.
    """

    def __init__(self, *, tasks: Sequence[str], alpha: float = 1.5, lr: float = 0.025) -> None:
        super().__init__(tasks=tasks)
        self.alpha, self.lr = alpha, lr
        self.register_buffer("weights", torch.ones(len(self.tasks)))
        self.register_buffer("first", torch.full((len(self.tasks),), torch.nan))

    def forward(self, losses: Mapping[str, Tensor], shared: Sequence[Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        places = [self.index(task) for task in losses]
        weights, first = self.get_buffer("weights"), self.get_buffer("first")
        used = weights[places].clone()
        if self.training and len(places) > 1:
            values = torch.stack([loss.detach().float() for loss in losses.values()])
            first[places] = torch.where(first[places].isnan(), values, first[places])
            norms = torch.stack([_norm(_gradients(loss, shared)) for loss in losses.values()])
            pace = values / first[places].clamp_min(1e-12)
            target = (used * norms).mean() * (pace / pace.mean().clamp_min(1e-12)) ** self.alpha
            moved = (used - self.lr * (used * norms - target).sign() * norms).clamp_min(1e-3)
            # The sum is kept among those present, so that an absent task keeps its weight.
            weights[places] = moved * (used.sum() / moved.sum())
        shown = dict(zip(losses, used, strict=True))
        return _weighted(losses, shown), shown


class PCGrad(Balance):
    """Gradients that conflict are projected on each other's normal planes (gradient surgery, Yu et al. 2020).

    The task order of a step is drawn from torch's own generator, which a training loop seeds by the step.
    """

    def forward(self, losses: Mapping[str, Tensor], shared: Sequence[Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        for task in losses:
            self.index(task)
        ones = {task: torch.ones(()) for task in losses}
        total = _weighted(losses, ones)
        if not self.training or len(losses) < 2:
            return total, ones
        each = [_flat(_gradients(loss, shared), shared) for loss in losses.values()]
        summed = torch.stack(each).sum(0)
        change = surgery(each) - summed
        # Parameters outside `shared` keep their plain gradient; the shared ones get what surgery changes on top.
        parts = change.split([p.numel() for p in shared])
        extra = torch.stack([(c.view_as(p) * p).sum() for c, p in zip(parts, shared, strict=True)]).sum()
        return total + (extra - extra.detach()), ones


def surgery(gradients: Sequence[Tensor], orders: Sequence[Sequence[int]] | None = None) -> Tensor:
    """Sum of the gradients [n], each freed of its parts that run against another's (Yu et al. 2020, algorithm 1).

    Args:
        orders: for each gradient, in which order the others are projected on; by default drawn.
    """
    freed: list[Tensor] = []
    for i, gradient in enumerate(gradients):
        order = orders[i] if orders is not None else torch.randperm(len(gradients)).tolist()
        for j in order:
            if j != i:
                other = gradients[j]
                along = torch.dot(gradient, other)
                gradient = gradient - (along.clamp_max(0) / other.square().sum().clamp_min(1e-30)) * other
        freed.append(gradient)
    return torch.stack(freed).sum(0)


def _weighted(losses: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> Tensor:
    return torch.stack([weights[task].to(loss.device) * loss for task, loss in losses.items()]).sum()


def _gradients(loss: Tensor, shared: Sequence[Tensor]) -> tuple[Tensor | None, ...]:
    if not loss.requires_grad:
        return (None,) * len(shared)
    return torch.autograd.grad(loss, list(shared), retain_graph=True, allow_unused=True)


def _norm(gradients: Sequence[Tensor | None]) -> Tensor:
    found = [g.float().square().sum() for g in gradients if g is not None]
    return torch.stack(found).sum().sqrt() if found else torch.zeros(())


def _flat(gradients: Sequence[Tensor | None], shared: Sequence[Tensor]) -> Tensor:
    pairs = zip(gradients, shared, strict=True)
    return torch.cat([(torch.zeros_like(p) if g is None else g).flatten() for g, p in pairs])
