"""Learning rate and weight averaging, both pure functions of the step."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor


def cosine(progress: float, step: int, *, warmup: int, floor: float = 0.02) -> float:
    """Factor on the base learning rate: linear over `warmup` steps, then half a cosine down to `floor`.

    Args:
        progress: share of the whole run that is done, in [0, 1].
    """
    ramp = min(1.0, (step + 1) / warmup) if warmup else 1.0
    return ramp * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(max(progress, 0.0), 1.0))))


def ema_decay(step: int, limit: float) -> float:
    """min(limit, (1 + n) / (10 + n)): early averages must forget the initialisation."""
    return min(limit, (1 + step) / (10 + step))


@torch.no_grad()
def ema_update(average: Iterable[Tensor], current: Iterable[Tensor], decay: float) -> None:
    """average ← decay·average + (1 − decay)·current, in place."""
    averages, values = list(average), list(current)
    torch._foreach_mul_(averages, decay)  # pyright: ignore[reportPrivateUsage]
    torch._foreach_add_(averages, values, alpha=1 - decay)  # pyright: ignore[reportPrivateUsage]
