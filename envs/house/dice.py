"""Random choices that are the same on every machine and every Python."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


class Dice:
    """Choices drawn from `random.Random(seed).random()` alone, the one stream that Python guarantees to keep."""

    def __init__(self, seed: str) -> None:
        self._random = random.Random(seed).random

    def chance(self, probability: float) -> bool:
        return self._random() < probability

    def below(self, n: int) -> int:
        """A whole number in 0 … n − 1."""
        return int(self._random() * n)

    def whole(self, low: int, high: int, step: int = 1) -> int:
        """A whole number in low … high, both included, in steps from `low`."""
        return low + step * self.below((high - low) // step + 1)

    def real(self, low: float, high: float) -> float:
        return low + (high - low) * self._random()

    def pick(self, options: Sequence[T]) -> T:
        return options[self.below(len(options))]

    def weighted(self, options: Sequence[T], weights: Sequence[float]) -> T:
        at = self._random() * sum(weights)
        for option, weight in zip(options, weights, strict=True):
            at -= weight
            if at < 0:
                return option
        return options[-1]

    def shuffled(self, options: Sequence[T]) -> list[T]:
        left, out = list(options), []
        while left:
            out.append(left.pop(self.below(len(left))))
        return out
