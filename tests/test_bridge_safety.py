"""The gate's laws: no stream of actions leaves the limits, and what may pass passes unchanged."""

from __future__ import annotations

import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wayhand.vla.bridge.jerk import Axis, stop_acceleration, stop_displacement, stop_peak
from wayhand.vla.bridge.limits import Limits, joint_indices
from wayhand.vla.bridge.motion import Limiter, Motion
from wayhand.vla.bridge.safety import SafetyGate
from wayhand.vla.errors import RobotError

STREAMS = int(os.environ.get("WAYHAND_STREAMS", "150"))
"""Adversarial streams per law; `WAYHAND_STREAMS=100000 pytest tests/test_bridge_safety.py -k stream`: all."""
RATES = np.array([2.0, 1.0, 0.2]), np.array([10.0, 7.5, 4.0])
JERK = np.array([200.0, 90.0, 40.0])
NAMES = ("shoulder", "elbow", "gripper")
LIMITS = Limits(NAMES, np.array([-2.0, -0.1, 0.0]), np.array([2.0, 3.0, 0.08]), *RATES, JERK)
LOOSE = Limits(NAMES, LIMITS.lower, LIMITS.upper, *RATES)
STIFF = Limits(NAMES, LIMITS.lower, LIMITS.upper, *RATES, JERK * 40)
HOME = np.array([0.0, 1.0, 0.04])
NUMBER = st.one_of(
    st.floats(-4, 4),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([0.0, -0.0, 5e-324, 2e-308, 1e308, -1e308]),
)
ACTION = st.lists(NUMBER, min_size=3, max_size=3).map(np.array)
STREAM = st.lists(st.one_of(ACTION, st.none()), min_size=1, max_size=60)
ANY = st.one_of(STREAM, st.lists(st.lists(st.floats(), min_size=3, max_size=3).map(np.array), min_size=1, max_size=60))
TICKS = st.sampled_from([50.0, 100.0, 500.0, 1000.0])
ALL_LIMITS = st.sampled_from([LIMITS, LOOSE, STIFF])


def make_gate(rate: float = 100.0, limits: Limits = LIMITS, **options: float) -> SafetyGate:
    gate = SafetyGate(limits=limits, dt=1.0 / rate, **options)
    gate.reset(HOME)
    return gate


def assert_inside(path: np.ndarray, dt: float, limits: Limits = LIMITS) -> None:
    """`path` [T A] starts at rest and keeps every limit, up to rounding."""
    still = np.zeros_like(path[:1])
    speed = np.diff(path, axis=0) / dt
    change = np.diff(np.vstack([still, speed]), axis=0) / dt
    jerk = np.diff(np.vstack([still, change]), axis=0) / dt
    assert (path >= limits.lower).all() and (path <= limits.upper).all()
    assert (np.abs(speed) <= limits.velocity * (1 + 1e-6)).all()
    assert (np.abs(change) <= limits.acceleration * (1 + 1e-6)).all()
    assert (np.abs(jerk) <= limits.jerk_at(dt) * (1 + 1e-5)).all()


@settings(max_examples=STREAMS)
@given(stream=ANY, rate=TICKS, limits=ALL_LIMITS)
def test_no_stream_leaves_the_limits(stream: list[np.ndarray | None], rate: float, limits: Limits) -> None:
    gate = make_gate(rate, limits)
    path = np.array([HOME, *(gate.step(action, k / rate) for k, action in enumerate(stream))])
    assert np.isfinite(path).all()
    assert_inside(path, 1.0 / rate, limits)


def long_stream(seed: int, rate: float, limits: Limits, ticks: int = 300) -> np.ndarray:
    """Random steps, square waves into the walls, fast sines and stops: [T 3] what the limiter makes of them."""
    rng = np.random.default_rng(seed)
    limiter, motion, path, action = Limiter(limits, 1.0 / rate), Motion.at_rest(HOME), [HOME], HOME
    kind, scale = rng.integers(4), 10.0 ** rng.choice([-3, -1, 0, 1, 300])
    for k in range(ticks):
        if kind == 0 and rng.random() < 0.3:
            action = HOME + rng.uniform(-scale, scale, 3)
        elif kind == 1:
            action = HOME + np.sign(np.sin(k / rate * rng.choice([1.0, 3.0, 30.0]))) * scale
        elif kind == 2 and rng.random() < 0.05:
            action = np.where(rng.random(3) < 0.5, limits.lower, limits.upper)
        elif kind == 3:
            action = HOME + np.sin(k / rate * 3.0) * np.array([1.5, 1.5, 0.06])
        motion = limiter.stop(motion) if rng.random() < 0.02 else limiter.follow(motion, action)[0]
        path.append(motion.position)
    while motion.moving:
        motion = limiter.stop(motion)
        path.append(motion.position)
    return np.array(path)


@settings(max_examples=max(STREAMS // 10, 1))
@given(seed=st.integers(0, 2**32 - 1), rate=TICKS, limits=ALL_LIMITS)
def test_long_streams_keep_the_limits_and_pass_a_second_time_unchanged(seed: int, rate: float, limits: Limits) -> None:
    path = long_stream(seed, rate, limits)
    assert_inside(path, 1.0 / rate, limits)
    limiter, motion = Limiter(limits, 1.0 / rate), Motion.at_rest(HOME)
    for command in path[1:]:
        motion, clipped = limiter.follow(motion, command)
        assert (motion.position == command).all() and not clipped.any()


@settings(max_examples=max(STREAMS // 2, 1))
@given(stream=st.lists(ACTION, min_size=1, max_size=60), limits=ALL_LIMITS)
def test_limiter_is_idempotent_on_streams(stream: list[np.ndarray], limits: Limits) -> None:
    limiter, motion, out = Limiter(limits, 0.01), Motion.at_rest(HOME), []
    for action in stream:
        motion, _ = limiter.follow(motion, action)
        out.append(motion.position)
    again = Motion.at_rest(HOME)
    for command in out:
        again, clipped = limiter.follow(again, command)
        assert (again.position == command).all() and not clipped.any()


@given(
    v=st.one_of(st.floats(-50, 50), st.integers(-50, 50).map(float)),
    a=st.one_of(st.floats(-1, 1), st.sampled_from([-1.0, 0.0, 1.0])),
    most=st.sampled_from([0.1, 0.5, 1.0, 1.7, 5.0, 20.0]),
)
def test_the_closed_form_of_a_stop_is_the_stop(v: float, a: float, most: float) -> None:
    speed, acceleration, here, peak = v, a * most, 0.0, 0.0
    for _ in range(2000):
        following = stop_acceleration(speed, acceleration, most)
        assert abs(following - acceleration) <= 1 + 1e-9 and abs(following) <= most + 1e-9
        acceleration = following
        speed += acceleration
        here += speed
        peak = max(peak, here)
    assert (speed, acceleration) == (0.0, 0.0), "a stop ends exactly at rest"
    assert here == pytest.approx(stop_displacement(v, a * most, most), abs=1e-6)
    assert peak <= stop_peak(v, a * most, most) + 1e-6


def test_without_a_jerk_limit_a_step_is_met_in_the_shortest_time_without_overshoot() -> None:
    limiter, motion, goal, path = Limiter(LOOSE, 0.01), Motion.at_rest(HOME), HOME + np.array([0.5, 0.0, 0.0]), []
    for _ in range(200):
        motion, _ = limiter.follow(motion, goal)
        path.append(motion.position[0])
    assert max(path) == path[-1] == goal[0]
    needed = 2 * np.sqrt(0.5 / 10.0)  # bang-bang: accelerate half the way, brake the other half
    assert np.argmax(np.array(path) == goal[0]) * 0.01 == pytest.approx(needed, abs=0.03)


@pytest.mark.parametrize("rate", [100.0, 1000.0])
def test_a_step_under_a_jerk_limit_takes_the_time_of_the_double_s(rate: float) -> None:
    limiter, motion, goal, path = Limiter(LIMITS, 1 / rate), Motion.at_rest(HOME), HOME + np.array([1.5, 0, 0]), []
    for _ in range(round(2 * rate)):
        motion, _ = limiter.follow(motion, goal)
        path.append(motion.position[0])
    assert max(path) == path[-1] == goal[0]
    # All seven phases: h/V + V/A + A/J.
    needed = 1.5 / 2.0 + 2.0 / 10.0 + 10.0 / 200.0
    assert np.argmax(np.array(path) == goal[0]) / rate == pytest.approx(needed, abs=4 / rate)


def test_a_moving_reference_is_met_without_overshoot_and_then_followed_exactly() -> None:
    limiter, motion, behind = Limiter(LIMITS, 0.002), Motion.at_rest(HOME), []
    for k in range(1000):
        reference = HOME + np.array([0.4 + 0.5 * k * 0.002, 0.0, 0.0])
        motion, _ = limiter.follow(motion, reference)
        behind.append(reference[0] - motion.position[0])
    assert min(behind) == 0.0 and (np.array(behind[600:]) == 0.0).all()


def test_the_stop_of_a_latch_is_the_fastest_under_the_jerk_limit() -> None:
    axis, v, a, ticks = Axis(1e3, 5.0), 60.0, 0.0, 0
    while v != 0.0 or a != 0.0:
        a = axis.stop(v, a)
        v += a
        ticks += 1
    assert ticks == pytest.approx(60 / 5 + 5, abs=2)  # V/A + A/J in ticks


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_never_passes_and_latches(bad: float) -> None:
    gate = make_gate()
    gate.step(HOME + np.array([0.001, 0, 0]), 0.0)
    action = HOME.copy()
    action[1] = bad
    path = [gate.step(action, 0.01), *(gate.step(HOME + 0.01, 0.02 + k * 0.01) for k in range(50))]
    assert np.isfinite(path).all() and gate.reason == "action is not finite"
    assert (path[-1] == path[-2]).all() and not gate.moving


def test_wrong_shape_latches() -> None:
    gate = make_gate()
    gate.step(np.zeros(2), 0.0)
    assert "shape (2,)" in gate.reason


@pytest.mark.parametrize("row", [0, 7, 15])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_one_bad_number_rejects_the_whole_chunk(row: int, bad: float) -> None:
    gate = make_gate()
    actions, times = np.tile(HOME, (16, 1)), np.arange(1, 17) * 0.05
    actions[row, 2] = bad
    assert gate.admit(actions, times, 0.0, 0.0) is None
    assert gate.report.rejected_chunks == 1
    assert gate.reason == f"action {row} of a chunk is not finite in 'gripper'"


@pytest.mark.parametrize(
    ("actions", "times"),
    [
        (np.zeros((4, 2)), np.arange(1.0, 5.0)),
        (np.zeros((0, 3)), np.zeros(0)),
        (np.zeros(3), np.arange(3.0)),
        (np.zeros((4, 3)), np.arange(3.0)),
        (np.zeros((4, 3), np.float32), np.arange(1.0, 5.0)),
        (np.zeros((2, 3)), np.array([2.0, 1.0])),
        (np.zeros((2, 3)), np.array([1.0, np.nan])),
    ],
)
def test_malformed_chunks_latch(actions: np.ndarray, times: np.ndarray) -> None:
    gate = make_gate()
    assert gate.admit(actions, times, 0.0, 0.0) is None
    assert gate.latched and gate.report.latches == [gate.reason]


def test_late_actions_are_dropped_by_their_time() -> None:
    gate = make_gate()
    actions, times = np.tile(HOME, (4, 1)), np.array([0.05, 0.10, 0.15, 0.20])
    assert gate.admit(actions, times, 0.0, 0.0) == 0
    assert gate.admit(actions, times, 0.0, 0.10) == 2
    assert gate.admit(actions, times, 0.0, 0.20) is None
    assert (gate.report.late_actions, gate.report.late_chunks) == (6, 1)
    assert not gate.latched


def test_a_chunk_from_an_old_observation_is_dropped() -> None:
    gate = make_gate(oldest=0.5)
    assert gate.admit(np.tile(HOME, (2, 1)), np.array([1.0, 2.0]), 0.0, 0.6) is None
    assert gate.report.late_chunks == 1 and not gate.latched


def test_starvation_stops_holds_and_latches_with_a_reason_until_reset() -> None:
    gate = make_gate()
    path = [gate.step(HOME + np.array([0.004 * k, 0, 0]), k * 0.01) for k in range(10)]
    for k in range(10, 20):
        path.append(gate.step(None, k * 0.01))
        assert gate.latched == (k * 0.01 - 0.09 > 0.1 - 1e-9)
    assert gate.reason == "no valid action for 100 ms"
    path += [gate.step(HOME, 0.2 + k * 0.01) for k in range(20)]
    assert_inside(np.array([HOME, *path]), 0.01)
    assert (path[-1] == path[-10]).all() and gate.latched
    gate.reset(path[-1])
    assert not gate.latched and (gate.step(path[-1], 1.0) == path[-1]).all()


def test_before_the_first_action_nothing_is_stale() -> None:
    gate = make_gate()
    assert all((gate.step(None, k * 1.0) == HOME).all() for k in range(5)) and not gate.latched


def test_lasting_excess_latches_and_names_the_joint() -> None:
    gate = make_gate(patience=0.3)
    for k in range(40):
        gate.step(np.array([0.0, 9.0, 0.04]), k * 0.01)
    assert gate.reason == "actions beyond the limits of 'elbow' for 0.30 s"
    assert gate.report.limited_ticks == 30


def test_rounding_corners_is_counted_but_is_no_fault() -> None:
    gate = make_gate(patience=0.1)
    for k in range(400):
        corner = 0.02 * np.abs((k * 0.01 / 0.1) % 2 - 1)
        gate.step(HOME + np.array([corner, 0, 0]), k * 0.01)
    assert gate.report.limited_ticks > 100 and not gate.latched


def test_an_operators_halt_is_no_fault() -> None:
    gate = make_gate()
    gate.halt("stopped by the operator")
    assert gate.latched and gate.report.latches == []


def test_reset_refuses_a_joint_far_outside_and_forgives_a_little() -> None:
    gate = make_gate()
    with pytest.raises(RobotError, match="'gripper' starts outside"):
        gate.reset(np.array([0.0, 1.0, 0.2]))
    gate.reset(np.array([0.0, 1.0, 0.085]))
    assert gate.position[2] == 0.08
    with pytest.raises(RobotError, match="finite"):
        gate.reset(np.array([0.0, np.nan, 0.0]))


def test_limits_refuse_nonsense_and_are_not_shared() -> None:
    lower = np.zeros(1)
    limits = Limits(("a",), lower, np.ones(1), np.ones(1), np.ones(1))
    lower[0] = -9
    assert limits.lower[0] == 0
    for bad in (np.array([np.nan]), np.array([-1.0]), np.zeros(2)):
        with pytest.raises(RobotError):
            Limits(("a",), np.zeros(1), np.ones(1), bad, np.ones(1))


def test_joints_are_found_by_name() -> None:
    assert joint_indices(["b", "a", "c"], ["a", "b"]).tolist() == [1, 0]
    with pytest.raises(RobotError, match="no d"):
        joint_indices(["a"], ["d"])
