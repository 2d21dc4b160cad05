"""Intervals for success rates, for paired comparisons and for means; numpy and the standard library only.

All intervals are two-sided; `confidence` is their nominal coverage.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist

import numpy as np


@dataclass(frozen=True)
class Difference:
    """A difference of two success rates over the same episodes: `estimate`, with `low` ≤ estimate ≤ `high`."""

    estimate: float
    low: float
    high: float


def normal_quantile(confidence: float) -> float:
    """z with P(|Z| ≤ z) = `confidence` for a standard normal Z; 1.95996… for 0.95."""
    if not 0 < confidence < 1:
        raise ValueError(f"confidence lies in (0, 1), got {confidence}")
    return NormalDist().inv_cdf(0.5 + confidence / 2)


def wilson(successes: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """The score interval of a binomial proportion (Wilson 1927); (0, 1) for no trials.

    Unlike the textbook interval it stays inside [0, 1] and keeps a width at 0 and at all successes.
    """
    if not 0 <= successes <= trials:
        raise ValueError(f"0 ≤ successes ≤ trials, got {successes} of {trials}")
    if trials == 0:
        return 0.0, 1.0
    z = normal_quantile(confidence)
    p = successes / trials
    centre = p + z * z / (2 * trials)
    half = z * sqrt(p * (1 - p) / trials + z * z / (4 * trials * trials))
    scale = 1 + z * z / trials
    # At the ends the score interval touches 0 and 1 exactly; rounding must not say otherwise.
    low = 0.0 if successes == 0 else (centre - half) / scale
    high = 1.0 if successes == trials else (centre + half) / scale
    return low, high


def paired_difference(first: Sequence[bool], second: Sequence[bool], confidence: float = 0.95) -> Difference:
    """Rate of `first` minus rate of `second` where item i of both is the same episode (same seed).

    Newcombe's square-and-add interval for paired proportions (Newcombe 1998, Statistics in Medicine 17, 2635–2650,
    method 10): Wilson limits of both rates, joined through their correlation.
    """
    if len(first) != len(second) or not len(first):
        raise ValueError(f"needs two equally long, non-empty sequences, got {len(first)} and {len(second)}")
    a = np.asarray(first, bool)
    b = np.asarray(second, bool)
    n = len(a)
    both, only_a = int((a & b).sum()), int((a & ~b).sum())
    only_b, neither = int((~a & b).sum()), int((~a & ~b).sum())
    p, q = (both + only_a) / n, (both + only_b) / n
    p_low, p_high = wilson(both + only_a, n, confidence)
    q_low, q_high = wilson(both + only_b, n, confidence)
    phi = _correlation(both, only_a, only_b, neither)
    estimate = p - q

    def half(x: float, y: float) -> float:
        return sqrt(max(x * x - 2 * phi * x * y + y * y, 0.0))

    return Difference(
        estimate,
        max(-1.0, estimate - half(p - p_low, q_high - q)),
        min(1.0, estimate + half(p_high - p, q - q_low)),
    )


def _correlation(both: int, only_a: int, only_b: int, neither: int) -> float:
    """Newcombe's φ: Pearson's, with a continuity correction of the numerator where it is positive."""
    n = both + only_a + only_b + neither
    margins = (both + only_a) * (only_b + neither) * (both + only_b) * (only_a + neither)
    if margins == 0:
        return 0.0
    numerator = both * neither - only_a * only_b
    if numerator > 0:
        numerator = max(numerator - n / 2, 0)
    return numerator / sqrt(margins)


def bootstrap_mean(
    values: Sequence[float], *, confidence: float = 0.95, resamples: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap interval of a mean (Efron 1979), the same for the same `seed`."""
    x = np.asarray(values, np.float64)
    if x.ndim != 1 or not x.size:
        raise ValueError(f"needs a non-empty sequence of numbers, got shape {x.shape}")
    rng = np.random.default_rng(seed)
    means = np.array([x[rng.integers(x.size, size=x.size)].mean() for _ in range(resamples)])
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def cluster_bootstrap(
    values: np.ndarray,
    clusters: Sequence[Hashable],
    *,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Percentile bootstrap intervals of column means where rows come in clusters, the same for the same `seed`.

    Whole clusters are drawn with replacement (Field & Welsh 2007): rows of one cluster are no independent draws.

    Args:
        values: float64 [n k].
        clusters: what each row belongs to; neither their order nor their names matter beyond who is with whom.

    Returns:
        low and high, float64 [k] each.
    """
    x = np.asarray(values, np.float64)
    if x.ndim != 2 or not x.size or len(clusters) != len(x):
        raise ValueError(f"needs a matrix and one cluster per row, got shape {x.shape} and {len(clusters)} clusters")
    numbers: dict[Hashable, int] = {}
    row = [numbers.setdefault(c, len(numbers)) for c in clusters]
    m = len(numbers)
    sums = np.zeros((m, x.shape[1]))
    np.add.at(sums, row, x)
    sizes = np.bincount(row, minlength=m)
    rng = np.random.default_rng(seed)
    means = np.empty((resamples, x.shape[1]))
    for i in range(resamples):
        drawn = np.bincount(rng.integers(m, size=m), minlength=m)
        means[i] = drawn @ sums / (drawn @ sizes)
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2], axis=0)
    return low, high
