"""The gate's laws: no stream of actions leaves the limits, and what may pass passes unchanged."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wayhand.vla.bridge.safety import Limits, Motion, SafetyGate, brake, joint_indices, limit, stoppable_speed
from wayhand.vla.errors import RobotError

LIMITS = Limits(
    ("shoulder", "elbow", "gripper"),
    np.array([-2.0, -0.1, 0.0]),
    np.array([2.0, 3.0, 0.08]),
    np.array([2.0, 1.0, 0.2]),
    np.array([10.0, 7.5, 4.0]),
)
HOME = np.array([0.0, 1.0, 0.04])
NUMBER = st.one_of(
    st.floats(-4, 4),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([0.0, -0.0, 5e-324, 1e308, -1e308]),
)
ACTION = st.lists(NUMBER, min_size=3, max_size=3).map(np.array)
STREAM = st.lists(st.one_of(ACTION, st.none()), min_size=1, max_size=60)
ANY = st.one_of(STREAM, st.lists(st.lists(st.floats(), min_size=3, max_size=3).map(np.array), min_size=1, max_size=60))


def make_gate(rate: float = 100.0, **options: float) -> SafetyGate:
    gate = SafetyGate(limits=LIMITS, dt=1.0 / rate, **options)
    gate.reset(HOME)
    return gate


def assert_inside(path: np.ndarray, dt: float) -> None:
    """`path` [T A] starts at rest and keeps every limit, up to rounding."""
    speed = np.diff(path, axis=0) / dt
    change = np.diff(np.vstack([np.zeros_like(path[:1]), speed]), axis=0) / dt
    assert (path >= LIMITS.lower).all() and (path <= LIMITS.upper).all()
    assert (np.abs(speed) <= LIMITS.velocity + 1e-8).all()
    assert (np.abs(change) <= LIMITS.acceleration + 1e-5).all()


@settings(max_examples=200, deadline=None)
@given(stream=ANY, rate=st.sampled_from([50.0, 100.0, 500.0, 1000.0]))
def test_no_stream_leaves_the_limits(stream: list[np.ndarray | None], rate: float) -> None:
    gate = make_gate(rate)
    path = np.array([HOME, *(gate.step(action, k / rate) for k, action in enumerate(stream))])
    assert np.isfinite(path).all()
    assert_inside(path, 1.0 / rate)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), scale=st.sampled_from([1e-3, 0.1, 1.0, 10.0, 1e300]))
def test_no_long_random_stream_leaves_the_limits(seed: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    motion, path, action = Motion(HOME, np.zeros(3), HOME), [HOME], HOME
    for _ in range(400):
        if rng.random() < 0.3:
            action = HOME + rng.uniform(-scale, scale, 3)
        motion = brake(motion, LIMITS, 0.01) if rng.random() < 0.05 else limit(motion, action, LIMITS, 0.01)[0]
        path.append(motion.position)
    assert_inside(np.array(path), 0.01)


@settings(max_examples=100, deadline=None)
@given(stream=st.lists(ACTION, min_size=1, max_size=60))
def test_limiter_is_idempotent(stream: list[np.ndarray]) -> None:
    motion, out = Motion(HOME, np.zeros(3), HOME), []
    for action in stream:
        motion, _ = limit(motion, action, LIMITS, 0.01)
        out.append(motion.position)
    again = Motion(HOME, np.zeros(3), HOME)
    for command in out:
        again, clipped = limit(again, command, LIMITS, 0.01)
        assert (again.position == command).all() and not clipped.any()


@given(room=st.floats(0, 10), acceleration=st.floats(0.1, 100), dt=st.sampled_from([0.001, 0.01, 0.02]))
def test_stoppable_speed_uses_the_room_exactly(room: float, acceleration: float, dt: float) -> None:
    speed = float(stoppable_speed(np.array([room]), np.array([acceleration]), dt)[0])
    travelled = 0.0
    while speed > 1e-12:
        travelled += speed * dt
        speed = max(speed - acceleration * dt, 0.0)
    assert travelled == pytest.approx(room, rel=1e-6, abs=1e-9)


def test_a_step_is_met_in_the_shortest_time_without_overshoot() -> None:
    motion, goal, path = Motion(HOME, np.zeros(3), HOME), HOME + np.array([0.5, 0.0, 0.0]), []
    for _ in range(200):
        motion, _ = limit(motion, goal, LIMITS, 0.01)
        path.append(motion.position[0])
    assert max(path) == path[-1] == goal[0]
    needed = 2 * np.sqrt(0.5 / 10.0)  # bang-bang: accelerate half the way, brake the other half
    assert np.argmax(np.array(path) == goal[0]) * 0.01 == pytest.approx(needed, abs=0.03)


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
