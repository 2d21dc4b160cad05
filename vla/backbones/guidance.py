"""Real-time chunking: a new chunk that continues the one in execution (Black, Galliker and Levine 2025).

A policy that thinks for d control periods hands its chunk over when d actions of it are already past. Its first d
actions therefore have to be those of the old chunk, and the rest of the overlap should stay near it. Guidance does
so at inference: at every denoising step the velocity is corrected by the gradient of the distance between the
predicted clean chunk and the old one. Direction as in `NoiseAtOne`: t = 1 is noise, t = 0 is data, so that the clean
chunk is x̂ = x − t·v, the papers' time is τ = 1 − t, and the correction is subtracted.

Shape legend: B batch, H actions of a chunk, A action elements.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ..errors import ConfigError

Schedule = Literal["exp", "linear", "ones", "zeros"]
Jacobian = Literal["exact", "identity"]
Velocity = Callable[[Tensor, Tensor], Tensor]
"""(x [B H A], t [B]) → dx/dt [B H A]."""

SCHEDULES: tuple[Schedule, ...] = ("exp", "linear", "ones", "zeros")
JACOBIANS: tuple[Jacobian, ...] = ("exact", "identity")


@dataclass(frozen=True)
class Prefix:
    """What is left of the chunks in execution, in the units of the sampler.

    Args:
        actions: [B H A], row b known up to `known[b]`; what follows is never read.
        known: actions known per row; 0 where nothing is in execution.
        delay: d, how many of them are executed before the new chunk arrives.
        elements: of an action that mean something; what follows is padding. None: all.
    """

    actions: Tensor
    known: Sequence[int]
    delay: int
    elements: int | None = None

    def weights(self, schedule: Schedule) -> Tensor:
        """[B H A]: how much action k of the new chunk is to equal the old one's; padding is left alone."""
        rows = [prefix_weights(self.delay, n, self.actions.shape[1], schedule) for n in self.known]
        weights = torch.stack(rows)[..., None].to(self.actions)
        real = torch.arange(self.actions.shape[2], device=weights.device) < (self.elements or self.actions.shape[2])
        return weights * real

    def committed(self, longest: int) -> Tensor:
        """bool [B H]: the actions that are executed whatever the new chunk says, at most the first `longest`."""
        steps = torch.arange(self.actions.shape[1], device=self.actions.device)
        counts = [min(self.delay, n, longest) for n in self.known]
        return steps < torch.tensor(counts, device=self.actions.device)[:, None]


def prefix_weights(start: int, end: int, total: int, schedule: Schedule) -> Tensor:
    """float64 [total]: 1 before `start` (at most `end`), 0 from `end` on, falling in between as the schedule says.

    `ones` stays at 1 until `end`; `zeros` is 0 from `start` on.
    """
    start = min(start, end)
    index = torch.arange(total, dtype=torch.float64)
    if schedule == "ones":
        return (index < end).double()
    if schedule == "zeros":
        return (index < start).double()
    linear = ((start - 1 - index) / (end - start + 1) + 1).clamp(0, 1)
    weights = linear * torch.expm1(linear) / (math.e - 1) if schedule == "exp" else linear
    return torch.where(index < end, weights, 0.0)


def guidance_weight(t: float, limit: float) -> float:
    """What the correction is multiplied with at noise level t (1 noise, 0 data), at most `limit`.

    (τ² + (1 − τ)²) / (τ (1 − τ)) with τ = 1 − t; both ends, where it has no value, give the limit.
    """
    if t <= 0 or t >= 1:
        return limit
    return min((t**2 + (1 - t) ** 2) / (t * (1 - t)), limit)


@dataclass(frozen=True)
class Guidance:
    """How a sampler is guided.

    Args:
        jacobian: "exact": the correction goes back through the denoiser, one backward pass a step; "identity": the
            velocity is taken not to depend on x, which needs none.
        schedule: of the prefix weights.
        limit: β, of the guidance weight. With N Euler steps, more than 2 N can overshoot ever further.
    """

    jacobian: Jacobian = "exact"
    schedule: Schedule = "exp"
    limit: float = 5.0

    def __post_init__(self) -> None:
        if self.jacobian not in JACOBIANS:
            raise ConfigError("Unknown Jacobian", got=str(self.jacobian), exists=JACOBIANS)
        if self.schedule not in SCHEDULES:
            raise ConfigError("Unknown schedule of prefix weights", got=str(self.schedule), exists=SCHEDULES)
        if not self.limit >= 0:
            raise ConfigError("A guidance limit is not negative", got=str(self.limit))

    def guide(self, velocity: Velocity, prefix: Prefix) -> Velocity:
        """`velocity`, corrected towards the prefix. Rows with nothing known stay as they are."""
        target, weights = plain(prefix.actions), prefix.weights(self.schedule)
        target = torch.where(weights > 0, target, 0.0)  # what follows the known actions may be anything, NaN included

        def corrected(x: Tensor, t: Tensor) -> Tensor:
            noise = t[:, None, None]
            if self.jacobian == "identity":
                v = velocity(x, t)
                correction = (target - (x - noise * v)) * weights
            else:
                v, correction = _pull_back(velocity, x, t, target, weights)
            scale = torch.tensor([guidance_weight(float(level), self.limit) for level in t], dtype=x.dtype)
            return v - scale.to(x.device)[:, None, None] * correction

        return corrected


def _pull_back(velocity: Velocity, x: Tensor, t: Tensor, target: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """The velocity and Jᵀe, e the weighted error of the clean chunk and J its derivative with respect to x."""
    with torch.inference_mode(False), torch.enable_grad():
        x, t = plain(x).requires_grad_(), plain(t)
        v = velocity(x, t)
        clean = x - t[:, None, None] * v
        error = (plain(target) - clean.detach()) * plain(weights)
        (correction,) = torch.autograd.grad(clean, x, error)
    return v.detach(), correction


def plain(x: Tensor) -> Tensor:
    """A copy that autograd may save, whatever mode `x` was made in."""
    with torch.inference_mode(False):
        return x.detach().clone()
