"""Intervals against closed forms and published values."""

from __future__ import annotations

from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wayhand.vla.evaluation.statistics import bootstrap_mean, normal_quantile, paired_difference, wilson


def pairs(both: int, first: int, second: int, neither: int) -> tuple[list[bool], list[bool]]:
    a = [True] * (both + first) + [False] * (second + neither)
    b = [True] * both + [False] * first + [True] * second + [False] * neither
    return a, b


def test_normal_quantile() -> None:
    assert normal_quantile(0.95) == pytest.approx(1.959963984540054, abs=1e-12)


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    # Newcombe 1998, Statistics in Medicine 17, 857-872 (score method).
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_agrees_with_published_values(successes: int, trials: int, low: float, high: float) -> None:
    assert wilson(successes, trials) == pytest.approx((low, high), abs=5e-5)


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_solves_the_score_equation(case: tuple[int, int]) -> None:
    successes, trials = case
    p, z = successes / trials, normal_quantile(0.95)
    low, high = wilson(successes, trials)
    assert 0 <= low <= p <= high <= 1
    for limit in (low, high):
        assert (p - limit) ** 2 == pytest.approx(z * z * limit * (1 - limit) / trials, abs=1e-12)


@given(st.integers(1, 300).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_mirrors(case: tuple[int, int]) -> None:
    successes, trials = case
    low, high = wilson(successes, trials)
    assert wilson(trials - successes, trials) == pytest.approx((1 - high, 1 - low), abs=1e-12)


def test_wilson_covers_about_as_often_as_it_says() -> None:
    p, trials = 0.8, 100
    covered = sum(
        comb(trials, k) * p**k * (1 - p) ** (trials - k)
        for k in range(trials + 1)
        if wilson(k, trials)[0] <= p <= wilson(k, trials)[1]
    )
    assert covered == pytest.approx(0.95, abs=0.015)


def test_nothing_tried_says_nothing() -> None:
    assert wilson(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize("case", [(-1, 3), (4, 3)])
def test_impossible_counts_are_refused(case: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="successes"):
        wilson(*case)


@pytest.mark.parametrize(
    ("table", "low", "high"),
    # Newcombe 1998, Statistics in Medicine 17, 2635-2650 (method 10); the last is Bentur et al. 2009.
    [((20, 12, 2, 16), 0.0562, 0.3292), ((36, 12, 2, 0), 0.0569, 0.3404), ((1, 1, 7, 12), -0.5069, -0.0256)],
)
def test_paired_difference_agrees_with_published_values(table: tuple[int, ...], low: float, high: float) -> None:
    found = paired_difference(*pairs(*table))
    assert (found.low, found.high) == pytest.approx((low, high), abs=5e-5)


tables = st.tuples(*[st.integers(0, 60)] * 4).filter(sum)


@given(tables)
def test_paired_difference_is_antisymmetric_and_holds_its_estimate(table: tuple[int, int, int, int]) -> None:
    a, b = pairs(*table)
    forth, back = paired_difference(a, b), paired_difference(b, a)
    assert -1 <= forth.low <= forth.estimate <= forth.high <= 1
    assert (back.estimate, back.low, back.high) == pytest.approx((-forth.estimate, -forth.high, -forth.low), abs=1e-12)


def test_pairing_narrows_the_interval_of_agreeing_policies() -> None:
    agreeing, opposed = (paired_difference(*pairs(*t)) for t in [(40, 10, 5, 45), (5, 45, 40, 10)])
    assert agreeing.estimate == pytest.approx(opposed.estimate)
    assert agreeing.high - agreeing.low < opposed.high - opposed.low


def test_paired_difference_needs_pairs() -> None:
    with pytest.raises(ValueError, match="equally long"):
        paired_difference([True], [True, False])


def test_bootstrap_is_repeatable_and_near_the_normal_interval() -> None:
    x = np.random.default_rng(0).normal(3.0, 2.0, 400)
    low, high = bootstrap_mean(x.tolist())
    assert (low, high) == bootstrap_mean(x.tolist())
    half = normal_quantile(0.95) * x.std() / np.sqrt(len(x))
    assert (low, high) == pytest.approx((x.mean() - half, x.mean() + half), abs=0.03)
    assert bootstrap_mean([2.0, 2.0]) == (2.0, 2.0)
