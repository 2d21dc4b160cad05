"""Velocities as a way: a late chunk of a base ends where a prompt one does, and nothing leaves the limits."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wayhand.vla.bridge.base import BASE_SPEED, BASE_TARGET, FAR, BaseTargets, base_group
from wayhand.vla.bridge.base_way import Way, moved
from wayhand.vla.bridge.chunking import Going
from wayhand.vla.bridge.limits import Limits
from wayhand.vla.contract import ActionChunk, ActionGroup, Element, EnvSpec, Observation

DT = 0.2
WHEELS = ActionGroup(
    "base", "base_velocity", (Element("forward", "m/s"), Element("turn", "rad/s")), (-0.5, -1.0), (0.5, 1.0)
)
POLICY = EnvSpec("walker", DT, (), (Element("compass", "rad"),), (WHEELS,))
ROBOT = EnvSpec(
    "walker", DT, (), (Element("compass", "rad"), *base_group(arrives=True).elements), (base_group(arrives=True),)
)
LIMITS = Limits(
    ("travel", "turned", "arrived"), np.array([-FAR, -FAR, 0.0]), np.array([FAR, FAR, 1.0]),
    np.array([0.6, 1.2, 100.0]), np.array([1.5, 3.5, 1e4]), np.array([20.0, 40.0, 1e6]), np.array([0.0, 0.0, 1.0]),
)  # fmt: skip
STAND = [[0.0, 0.0]] * 17
PLANS = {
    "turn, then go": [[0.0, 1.0]] * 4 + [[0.5, 0.0]] * 4 + STAND,
    "go, then turn": [[0.5, 0.0]] * 4 + [[0.0, -1.0]] * 4 + STAND,
    "curve": [[0.4, 0.5]] * 8 + STAND,
    "back": [[-0.4, 0.3]] * 8 + STAND,
}
BEFORE = {"rest": (0.0, 0.0), "straight": (0.5, 0.0), "turning": (0.0, 1.0), "turning away": (0.0, -1.0)}


def late(wanted: Any, before: tuple[float, float], latency: float) -> ActionChunk:
    """Targets of the velocities `wanted`, which come `latency` [s] late to a base that was told `before`."""
    plan = np.array(wanted, np.float32)
    chunk = ActionChunk(plan, DT * np.arange(1, len(plan) + 1), 0.0)
    extras = {BASE_TARGET: np.zeros(2), BASE_SPEED: np.array(before)}
    observation = Observation({"state": 0.0}, {}, np.zeros(4, np.float32), extras=extras)
    going = ActionChunk(np.array([[0.0, 0.0, 0.0], [9 * before[0], 9 * before[1], 0.0]]), np.array([0.0, 9.0]), 0.0)
    return BaseTargets(policy=POLICY, robot=ROBOT, limits=LIMITS)(chunk, observation, Going(going, latency))


def pose(odometers: np.ndarray) -> np.ndarray:
    """Where odometers [N 2] lead from the origin: forward, left [m], turned [rad]."""
    out = (0.0, 0.0, 0.0)
    for a, b in pairwise(np.vstack([np.zeros(2), odometers])):
        out = moved(out, *(b - a).tolist())
    return np.array(out)


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("before", BEFORE)
def test_a_late_chunk_ends_where_its_velocities_lead(plan: str, before: str) -> None:
    """Within 3 cm and 0.01 rad; and a base that was driven the wrong way meanwhile, within half of what it was off."""
    for latency in (0.0, 0.2, 0.4):
        out = late(PLANS[plan], BEFORE[before], latency)
        wanted = Way(np.array(PLANS[plan]), DT, (1.0, 2.0)).at(DT * len(PLANS[plan]))[0]
        off = pose(out.actions[:, :2]) - wanted
        astray = 0.5 * BEFORE[before][0] * latency
        assert math.hypot(*off[:2]) < 0.03 + astray and abs(off[2]) < 0.01, (latency, off)
        assert out.actions[-1, 2] == 1.0  # it has arrived


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.floats(-1.5, 1.5), st.floats(-3, 3)), min_size=1, max_size=12),
    st.sampled_from(sorted(BEFORE)),
    st.floats(0, 0.6),
)
def test_targets_stay_inside_the_limits(wanted: list[tuple[float, float]], before: str, latency: float) -> None:
    out = late(wanted, BEFORE[before], latency)
    after = out.times > latency + 0.06
    speed = np.diff(out.actions[:, :2], axis=0, prepend=0.0) / 0.02
    rate = np.diff(speed, axis=0, prepend=speed[:1]) / 0.02
    assert (np.abs(speed) <= LIMITS.velocity[:2] + 1e-9).all()
    assert (np.abs(rate[after]) <= LIMITS.acceleration[:2] + 1e-9).all()


def test_until_a_chunk_comes_its_targets_are_those_that_are_executed() -> None:
    """An answer that comes sooner than it was expected to finds the base where it says."""
    out = late(PLANS["turn, then go"], (0.3, -0.2), 0.4)
    coming = out.times <= 0.4 + 1e-9
    np.testing.assert_allclose(out.actions[coming, :2], out.times[coming, None] * [0.3, -0.2], atol=1e-9)


def test_a_way_is_the_arc_of_its_velocities() -> None:
    way = Way(np.array([[0.5, 1.0]] * 10), DT, (1.0, 2.0))
    (x, y, heading), speeds = way.at(1.37)
    assert heading == pytest.approx(1.37) and speeds == (0.5, 1.0)
    np.testing.assert_allclose([x, y], [0.5 * math.sin(1.37), 0.5 * (1 - math.cos(1.37))], atol=1e-12)
    for phase in (0.0, 0.4, 1.2):
        assert way.nearest(way.at(phase)[0], 2.0, (0.5, 1.0), 0.05) == pytest.approx(phase, abs=0.026)
    assert way.nearest((0.0, 0.0, 0.0), 0.0, (0.5, 1.0), 0.05) == 0.0
    standing = Way(np.zeros((5, 2)), DT, (1.0, 2.0))
    assert standing.nearest((0.0, 0.0, 0.0), 0.6, (0.5, 1.0), 0.05) == 0.6  # to have waited is to have done it


def test_a_way_slows_down_before_it_stops() -> None:
    way = Way(np.array([[0.5, 0.0]] * 5 + [[0.0, 0.0]] * 2), DT, (1.0, 2.0))
    assert way.pace(0.0) == 1.0 and way.pace(1.2) == 1.0
    # 0.025 m before the stop: v² = 2 · 1 m/s² · 0.025 m
    assert way.pace(0.95) * 0.5 == pytest.approx(math.sqrt(0.05))


def test_a_base_that_waits_goes_from_rest_to_rest() -> None:
    """Half a metre a second for four periods, however fast it was, and then it stands; that is not to arrive."""
    chunk = ActionChunk(np.tile(np.float32([0.5, 0.2]), (10, 1)), DT * np.arange(1, 11), 0.0)
    extras = {BASE_TARGET: np.zeros(2), BASE_SPEED: np.array([0.5, 0.0])}
    observation = Observation({"state": 0.0}, {}, np.zeros(4, np.float32), extras=extras)
    out = BaseTargets(policy=POLICY, robot=ROBOT, limits=LIMITS)(chunk, observation, Going(None, 0.0, pause=4))
    speed = np.diff(out.actions[:, :2], axis=0, prepend=0.0) / 0.02
    assert np.abs(speed[0]).max() < 0.05 and np.abs(speed[-1]).max() < 0.05
    np.testing.assert_allclose(out.actions[-1], [0.4, 0.16, 0.0], atol=0.02)
    still = ActionChunk(np.zeros((10, 2), np.float32), chunk.times, 0.0)
    out = BaseTargets(policy=POLICY, robot=ROBOT, limits=LIMITS)(still, observation, Going(None, 0.0, pause=2))
    assert out.actions[-1].tolist() == [0.0, 0.0, 1.0]
