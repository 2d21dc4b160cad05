"""Curricula: shares that sum to one and move as they say, batches that add up, competence that grows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wayhand.vla.config import instantiate
from wayhand.vla.errors import ConfigError
from wayhand.vla.learning.curriculum import Competence, Curriculum, Gradual, Mixture, Staged

EASY, HARD = {"colour": 3.0, "count": 1.0}, {"count": 1.0, "relation": 1.0}
STAGED = Staged(until=[0.25, 1.0], weights=[EASY, HARD])
GRADUAL = Gradual(first=EASY, last=HARD, begin=0.2, end=0.6)
ALL: list[Curriculum] = [Mixture(weights=EASY), STAGED, GRADUAL]


@given(st.floats(0, 1), st.integers(0, 64), st.sampled_from(ALL))
def test_shares_sum_to_one_and_batches_add_up(progress: float, size: int, curriculum: Curriculum) -> None:
    shares, counts = curriculum.shares(progress), curriculum.counts(progress, size)
    assert sum(shares.values()) == pytest.approx(1)
    assert sum(counts.values()) == size
    assert all(abs(counts[name] - share * size) < 1 for name, share in shares.items())


def test_stages_follow_one_another() -> None:
    assert STAGED.shares(0.24) == {"colour": 0.75, "count": 0.25, "relation": 0.0}
    assert STAGED.shares(0.25) == STAGED.shares(1.0) == {"colour": 0.0, "count": 0.5, "relation": 0.5}


def test_a_gradual_curriculum_moves_in_a_straight_line() -> None:
    assert GRADUAL.shares(0.1)["colour"] == 0.75
    assert GRADUAL.shares(0.4)["colour"] == pytest.approx(0.375)
    assert GRADUAL.shares(0.7)["colour"] == 0.0


def test_draws_follow_the_shares() -> None:
    rng = np.random.default_rng(0)
    drawn = [STAGED.draw(0.0, rng) for _ in range(2000)]
    assert drawn.count("colour") / 2000 == pytest.approx(0.75, abs=0.03)
    assert "relation" not in drawn


def test_competence_grows_as_a_root() -> None:
    competence = Competence(start=0.1, full=0.5)
    assert competence.competence(0.0) == pytest.approx(0.1)
    assert competence.competence(0.25) ** 2 == pytest.approx((0.01 + 1) / 2)
    assert competence.competence(0.5) == competence.competence(1.0) == 1.0


def test_the_easiest_are_eligible_first() -> None:
    difficulty = np.array([5.0, 1.0, 4.0, 2.0, 3.0])
    competence = Competence(start=0.4, full=1.0)
    assert competence.eligible(0.0, difficulty).tolist() == [1, 3]
    assert competence.eligible(1.0, difficulty).tolist() == [0, 1, 2, 3, 4]


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(ConfigError, match="stages"):
        Staged(until=[0.5, 0.4], weights=[EASY, HARD])
    with pytest.raises(ConfigError, match="mixture"):
        Mixture(weights={"a": 0.0})
    with pytest.raises(ConfigError, match="two shares"):
        Gradual(first=EASY, last=HARD, begin=0.6, end=0.2)
    with pytest.raises(ConfigError, match="competence"):
        Competence(start=0.0)


def test_a_curriculum_is_built_from_its_recipe() -> None:
    node = {"_target_": "wayhand.vla.learning.curriculum.Staged", "until": [0.25, 1], "weights": [EASY, HARD]}
    assert instantiate(node).shares(0.3) == STAGED.shares(0.3)
