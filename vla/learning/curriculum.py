"""Curricula: what is trained on at each point of a run.

A curriculum is a pure function of the share of the run that is done, so that a resumed run follows it unchanged.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError


class Curriculum(ABC):
    """How much of each source (task, dataset, difficulty) to train on."""

    @abstractmethod
    def shares(self, progress: float) -> dict[str, float]:
        """Source → its share of the samples, summing to 1, at `progress` in [0, 1] of the run."""

    def counts(self, progress: float, size: int) -> dict[str, int]:
        """Source → its part of a batch of `size`: the shares rounded by largest remainders, so that they add up."""
        shares = self.shares(progress)
        exact = {name: share * size for name, share in shares.items()}
        counts = {name: math.floor(value + 1e-9) for name, value in exact.items()}
        by_rest = sorted(shares, key=lambda name: (counts[name] - exact[name], list(shares).index(name)))
        for name in by_rest[: size - sum(counts.values())]:
            counts[name] += 1
        return counts

    def draw(self, progress: float, rng: np.random.Generator) -> str:
        """One source, drawn by the shares."""
        shares = self.shares(progress)
        return str(rng.choice(list(shares), p=list(shares.values())))


class Mixture(Curriculum):
    """The same shares from first to last.

    Args:
        weights: source → weight, at least 0; need not sum to 1.
    """

    def __init__(self, *, weights: Mapping[str, float]) -> None:
        self._shares = normalised(weights)

    def shares(self, progress: float) -> dict[str, float]:
        return dict(self._shares)


class Staged(Curriculum):
    """One mixture after another (Bengio et al. 2009), each until a share of the run.

    Args:
        until: rising; the last is 1.
        weights: of each stage, source → weight; a source that a stage does not name has none.
    """

    def __init__(self, *, until: Sequence[float], weights: Sequence[Mapping[str, float]]) -> None:
        if list(until) != sorted(set(until)) or not until or until[-1] != 1 or len(until) != len(weights):
            raise ConfigError(
                "The stages of a curriculum do not fit together",
                expected="one rising `until` for each of `weights`, the last of them 1",
                got=f"until {list(until)} for {len(weights)} weights",
            )
        names = {name: 0.0 for stage in weights for name in stage}
        self._until = tuple(until)
        self._stages = [normalised({**names, **stage}) for stage in weights]

    def shares(self, progress: float) -> dict[str, float]:
        stage = next((i for i, end in enumerate(self._until) if progress < end), len(self._until) - 1)
        return dict(self._stages[stage])


class Gradual(Curriculum):
    """Shares that move in a straight line from one mixture to another.

    Args:
        first, last: source → weight at the start and the end of the move.
        begin, end: shares of the run between which they move.
    """

    def __init__(
        self, *, first: Mapping[str, float], last: Mapping[str, float], begin: float = 0.0, end: float = 1.0
    ) -> None:
        if not 0 <= begin < end <= 1:
            raise ConfigError("A curriculum moves between two shares of the run", got=f"from {begin} to {end}")
        names = dict.fromkeys((*first, *last), 0.0)
        self._first, self._last = normalised({**names, **first}), normalised({**names, **last})
        self._begin, self._end = begin, end

    def shares(self, progress: float) -> dict[str, float]:
        moved = min(max((progress - self._begin) / (self._end - self._begin), 0.0), 1.0)
        return {name: (1 - moved) * share + moved * self._last[name] for name, share in self._first.items()}


class Competence:
    """Samples of a difficulty that grows as the root of the run's share (Platanios et al. 2019).

    c(p) = min(1, √(p (1 − c₀²) / full + c₀²)): of the samples sorted by difficulty, the easiest c(p) are in play.

    Args:
        start: c₀, in (0, 1].
        full: the share of the run from which on everything is in play, in (0, 1].
    """

    def __init__(self, *, start: float = 0.1, full: float = 0.5) -> None:
        if not (0 < start <= 1 and 0 < full <= 1):
            raise ConfigError("`start` and `full` of a competence lie in (0, 1]", got=f"{start} and {full}")
        self.start, self.full = start, full

    def competence(self, progress: float) -> float:
        """c(p)."""
        return min(1.0, math.sqrt(progress * (1 - self.start**2) / self.full + self.start**2))

    def eligible(self, progress: float, difficulty: NDArray[np.floating]) -> NDArray[np.int64]:
        """Indices of the easiest c(p) of `difficulty` [n], at least one; ties in their order."""
        count = max(1, math.ceil(self.competence(progress) * len(difficulty) - 1e-9))
        return np.sort(np.argsort(difficulty, kind="stable")[:count])


def normalised(weights: Mapping[str, float]) -> dict[str, float]:
    """Weights as shares that sum to 1; raises `ConfigError` where one is negative or all are 0."""
    total = sum(weights.values())
    if any(not w >= 0 for w in weights.values()) or not 0 < total < math.inf:
        raise ConfigError(
            "Weights of a mixture are wrong", expected="none negative and not all zero", got=str(dict(weights))
        )
    return {name: weight / total for name, weight in weights.items()}
