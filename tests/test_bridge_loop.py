"""Chunking, the loop and the simulated robot, all on a virtual clock."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
from bridge_body import CARTESIAN, LIMITS, ROBOT, START, Plane, Steady, StickBody, spec_of

from wayhand.vla.bridge.chunking import ChunkBuffer, JointTargets, integrate_pose
from wayhand.vla.bridge.clock import MonotonicClock, VirtualClock
from wayhand.vla.bridge.loop import ControlLoop, Histogram
from wayhand.vla.bridge.planner import Planner
from wayhand.vla.bridge.process import LoopSettings
from wayhand.vla.bridge.replay import NullPolicy
from wayhand.vla.bridge.robots.simulated import SimulatedRobot
from wayhand.vla.bridge.safety import SafetyGate
from wayhand.vla.bridge.session import Episode
from wayhand.vla.bridge.virtual import run_virtual
from wayhand.vla.contract import ActionChunk, ActionGroup, Element, Observation, Robot
from wayhand.vla.errors import ConfigError, RobotError, SpecError


@pytest.fixture(autouse=True)
def no_wall_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> float:
        raise AssertionError("the bridge read the wall clock")

    monkeypatch.setattr(time, "time", refuse)
    monkeypatch.setattr(time, "time_ns", refuse)


def make_planner(policy: Any) -> Planner:
    targets = JointTargets(policy=policy.spec, robot=ROBOT, kinematics=Plane())
    return Planner(policy=policy, spec=policy.spec, targets=targets)


def drive(
    policy: Any, body: StickBody | None = None, *, execute: int = 8, latency: float = 0.0, rate: float = 100.0
) -> Any:
    body = body or StickBody()
    outcome, loop = run_virtual(
        Episode(0, {}, execute, latency), body, make_planner(policy), LoopSettings(rate_hz=rate)
    )
    return outcome, loop, np.array(body.trace)


# --- integration and conversion --------------------------------------------------------------------------------


def test_integration_is_the_exponential_map() -> None:
    rng = np.random.default_rng(0)
    identity = np.array([1.0, 0, 0, 0])
    axis = rng.normal(size=3)
    pose = (rng.normal(size=3), identity)
    once = integrate_pose(pose, np.concatenate([[0.1, 0.2, 0.3], axis]), pose)
    many = pose
    for _ in range(10):
        many = integrate_pose(many, np.concatenate([[0.01, 0.02, 0.03], axis / 10]), pose)
    np.testing.assert_allclose(once[0], many[0], atol=1e-12)
    np.testing.assert_allclose(once[1], many[1], atol=1e-12)
    still = integrate_pose(pose, np.zeros(6), pose)
    assert (still[0] == pose[0]).all() and (still[1] == identity).all()
    quarter = integrate_pose(pose, np.array([0, 0, 0, 0, 0, np.pi / 2]), pose)[1]
    np.testing.assert_allclose(quarter, [np.sqrt(0.5), 0, 0, np.sqrt(0.5)], atol=1e-12)


def test_world_frame_increments_turn_from_the_left() -> None:
    x = integrate_pose(
        (np.zeros(3), np.array([1.0, 0, 0, 0])), np.array([0, 0, 0, np.pi / 2, 0, 0]), (np.zeros(3),) * 2
    )
    z_after_x = integrate_pose(x, np.array([0, 0, 0, 0, 0, np.pi / 2]), x)[1]
    np.testing.assert_allclose(z_after_x, [0.5, 0.5, 0.5, 0.5], atol=1e-12)


def observe(**extras: np.ndarray) -> Observation:
    return Observation({"state": 0.0}, {}, np.array([0.04, 0.3, -0.2], np.float32), extras=extras)


def test_increments_are_integrated_from_the_commanded_pose() -> None:
    convert = JointTargets(policy=CARTESIAN, robot=ROBOT, kinematics=Plane())
    chunk = Steady(0.01).chunk_for(observe(), 0)
    commanded = convert(chunk, observe(ee_target=np.array([0.5, 0.1, 0, 1, 0, 0, 0], np.float32)))
    np.testing.assert_allclose(commanded.actions[:, 0], 0.5 + 0.01 * np.arange(1, 17), atol=1e-6)
    np.testing.assert_allclose(commanded.actions[:, 1:], np.tile([0.1, 0.04], (16, 1)), atol=1e-6)
    measured = convert(chunk, observe())
    np.testing.assert_allclose(measured.actions[:, 0], 0.3 + 0.01 * np.arange(1, 17), atol=1e-6)


def test_increments_are_clipped_to_the_policys_limits() -> None:
    convert = JointTargets(policy=CARTESIAN, robot=ROBOT, kinematics=Plane())
    out = convert(Steady(0.1).chunk_for(observe(), 0), observe())
    np.testing.assert_allclose(np.diff(out.actions[:, 0]), 0.04, atol=1e-9)


def test_broken_chunks_stay_broken() -> None:
    convert = JointTargets(policy=CARTESIAN, robot=ROBOT, kinematics=Plane())
    assert np.isnan(convert(Steady(np.nan).chunk_for(observe(), 0), observe()).actions).all()
    narrow = ActionChunk(np.zeros((4, 3), np.float32), np.arange(1.0, 5.0), 0.0)
    assert convert(narrow, observe()).actions.shape == (4, 0)


def test_joints_are_matched_by_name() -> None:
    swapped = spec_of(
        ActionGroup("gripper", "joint_position", (Element("gripper_width", "m"),), (0.0,), (0.08,)),
        ActionGroup("arm", "joint_position", (Element("q2", "rad"), Element("q1", "rad")), (-2.0, -2.0), (2.0, 2.0)),
    )
    convert = JointTargets(policy=swapped, robot=ROBOT)
    out = convert(ActionChunk(np.array([[0.05, 1.0, 2.0]]), np.array([0.05]), 0.0), observe())
    assert out.actions.tolist() == [[2.0, 1.0, 0.05]]


def test_conversion_refuses_what_it_cannot_do() -> None:
    gripper = CARTESIAN.action[1]
    with pytest.raises(SpecError, match="kinematics"):
        JointTargets(policy=CARTESIAN, robot=ROBOT)
    with pytest.raises(SpecError, match="joint positions"):
        JointTargets(policy=CARTESIAN, robot=CARTESIAN, kinematics=Plane())
    with pytest.raises(SpecError, match="moves a joint"):
        JointTargets(policy=spec_of(gripper), robot=ROBOT)
    base = ActionGroup("base", "base_velocity", (Element("v", "m/s"),), (-1.0,), (1.0,))
    with pytest.raises(SpecError, match="'base'"):
        JointTargets(policy=spec_of(base), robot=ROBOT)


# --- the trajectory --------------------------------------------------------------------------------------------


def test_waypoints_are_reached_at_their_times_and_joined_linearly() -> None:
    buffer = ChunkBuffer()
    assert buffer.sample(0.0) is None
    buffer.replace(np.array([1.0]), 10.0, np.array([[2.0], [0.0]]), np.array([10.1, 10.3]), 10.0)
    for t, want in [(10.0, 1.0), (10.05, 1.5), (10.1, 2.0), (10.2, 1.0), (10.3, 0.0)]:
        sample = buffer.sample(t)
        assert sample is not None and sample[0] == pytest.approx(want, abs=1e-9)
    assert buffer.sample(10.31) is None


def test_a_newer_chunk_replaces_and_is_never_averaged() -> None:
    buffer = ChunkBuffer()
    buffer.replace(np.zeros(1), 0.0, np.full((4, 1), 1.0), np.arange(1.0, 5.0), 0.0)
    buffer.replace(np.array([0.5]), 0.5, np.full((1, 1), -1.0), np.array([2.0]), 0.4)
    assert buffer.sample(2.0) == pytest.approx(-1.0) and buffer.sample(3.0) is None and buffer.observed_at == 0.4


# --- the loop --------------------------------------------------------------------------------------------------


class Recorder:
    spec = ROBOT

    def __init__(self) -> None:
        self.commands: list[np.ndarray] = []

    def read(self) -> Observation:
        return observe()

    def command(self, action: np.ndarray, t: float) -> None:
        self.commands.append(action)

    def stop(self) -> None:
        pass


def make_loop(chunks: dict[int, ActionChunk], rate: float = 100.0) -> tuple[ControlLoop, Recorder]:
    robot, tick = Recorder(), iter(range(10**6))
    gate = SafetyGate(limits=LIMITS, dt=1 / rate)
    loop = ControlLoop(
        robot=robot, gate=gate, source=lambda: chunks.get(next(tick)), clock=VirtualClock(), rate_hz=rate
    )
    loop.start(START)
    return loop, robot


def joint_chunk(at: float, velocity: float, length: int = 10) -> ActionChunk:
    steps = np.arange(1, length + 1)[:, None] * 0.05
    return ActionChunk(START + steps * [velocity, 0, 0], at + steps[:, 0], at)


def test_a_dead_policy_means_the_remainder_then_a_stop_with_a_reason() -> None:
    loop, robot = make_loop({0: joint_chunk(0.0, 0.1)})
    for k in range(100):
        loop.tick(k * 0.01)
    path = np.array(robot.commands)
    np.testing.assert_allclose(path[49], START + np.array([0.05, 0, 0]), atol=1e-9)
    assert (np.ptp(path[52:], axis=0) == 0).all()
    assert loop.gate.reason == "no valid action for 100 ms"
    loop.tick(1.0)
    assert loop.gate.latched, "only a reset releases it"
    loop.start(robot.commands[-1])
    assert not loop.gate.latched


def test_a_chunk_that_comes_too_late_changes_nothing() -> None:
    on_time = {0: joint_chunk(0.0, 0.1)}
    late = {**on_time, 40: ActionChunk(np.tile(START, (3, 1)), np.array([0.1, 0.2, 0.3]), 0.0)}
    (first, a), (second, b) = make_loop(on_time), make_loop(late)
    for k in range(60):
        first.tick(k * 0.01)
        second.tick(k * 0.01)
    assert (np.array(a.commands) == np.array(b.commands)).all()
    assert second.report()["late_chunks"] == 1 and second.report()["late_actions"] == 3


def test_a_partly_late_chunk_is_joined_at_its_next_waypoint() -> None:
    loop, robot = make_loop({0: joint_chunk(0.0, 0.1), 20: joint_chunk(0.1, 0.2)})
    for k in range(50):
        loop.tick(k * 0.01)
    path = np.array(robot.commands)[:, 0]
    assert path[24] == pytest.approx(START[0] + 0.2 * 0.15, abs=2e-3)  # waypoint at 0.25 s of the chunk seen at 0.1 s
    assert np.abs(np.diff(path)).max() < 0.01
    report = loop.report()
    assert report["late_actions"] == 2 and report["chunks"] == 2 and 0.002 < report["seam"]["max"] < 0.01


def test_a_non_finite_chunk_stops_the_robot() -> None:
    broken = joint_chunk(0.2, 0.1)
    broken.actions[5, 1] = np.nan
    loop, robot = make_loop({0: joint_chunk(0.0, 0.5), 20: broken})
    for k in range(60):
        loop.tick(k * 0.01)
    assert "not finite in 'q2'" in loop.gate.reason and np.isfinite(robot.commands).all()
    assert (robot.commands[-1] == robot.commands[-2]).all()


def test_run_ticks_on_absolute_deadlines_and_counts_overruns() -> None:
    clock = VirtualClock(5.0)

    class Slow(Recorder):
        def command(self, action: np.ndarray, t: float) -> None:
            super().command(action, t)
            if len(self.commands) == 4:
                clock.sleep_until(clock.now() + 0.025)

    robot = Slow()
    gate = SafetyGate(limits=LIMITS, dt=0.01)
    loop = ControlLoop(robot=robot, gate=gate, source=lambda: None, clock=clock, rate_hz=100)
    loop.start(START)
    loop.run(lambda deadline: deadline < 5.105)
    report = loop.report()
    assert (report["ticks"], report["missed_deadlines"]) == (8, 2)
    assert report["lateness_us"]["max"] == pytest.approx(0, abs=1e-3)
    assert report["work_us"]["max"] == pytest.approx(25_000, rel=1e-6)


def test_rate_is_bounded() -> None:
    for rate in (10.0, 2000.0):
        with pytest.raises(ConfigError, match="rate"):
            make_loop({}, rate)


def test_histogram_quantiles() -> None:
    histogram = Histogram(0.001, 100)
    assert histogram.summary()["p50"] == 0.0
    for k in range(1000):
        histogram.add(k * 1e-5)
    histogram.add(7.0)
    summary = histogram.summary()
    assert summary["p50"] == pytest.approx(0.005, abs=1e-3) and summary["max"] == 7.0
    assert summary["p99"] == pytest.approx(0.01, abs=1e-3)


# --- the robot -------------------------------------------------------------------------------------------------


def test_the_simulated_robot_is_a_robot_and_interpolates_between_commands() -> None:
    body = StickBody(goal=9.0)
    robot = SimulatedRobot(body=body)
    assert isinstance(robot, Robot)
    robot.reset(0, {})
    robot.start_at(50.0)
    robot.command(START + np.array([0.01, 0, 0]), 50.01)
    robot.command(START + np.array([0.01, 0, 0]), 50.02)
    robot.advance_to(50.004)
    np.testing.assert_allclose(body.trace[-1][0], START[0] + 0.004, atol=1e-7)
    robot.advance_to(50.02)
    np.testing.assert_allclose(body.trace[-1][0], START[0] + 0.01, atol=1e-7)
    robot.command(START, 50.03)
    robot.command(START + 1, 50.02)
    robot.advance_to(50.025)
    np.testing.assert_allclose(body.trace[-1][0], START[0] + 0.006, atol=1.1e-3)
    robot.stop()
    here = body.trace[-1][0]
    robot.command(START, 50.06)
    robot.advance_to(50.1)
    # It stops from 1 rad/s at 20 rad/s², and hears nobody any more.
    assert body.trace[-1][0] == pytest.approx(here - 1.0 / 40.0, abs=2.1e-3)
    assert body.trace[-1][0] == body.trace[-2][0]
    assert robot.read().time == pytest.approx(50.1)
    assert set(robot.read_state().times) == {"state"}


# --- whole episodes --------------------------------------------------------------------------------------------


def test_an_episode_is_deterministic_and_reaches_its_goal() -> None:
    (first, _, a), (second, _, b) = (drive(Steady(0.03)) for _ in range(2))
    assert first == second and first.success and first.reason == ""
    assert (a == b).all()


@pytest.mark.parametrize("rate", [100.0, 250.0, 500.0])
def test_the_policys_increments_arrive_at_their_times(rate: float) -> None:
    """Slow enough for every limit but the first corner, the path is the sum of the increments at each period."""
    _, _, path = drive(Steady(0.001), StickBody(goal=9.0), rate=rate)
    at_periods = path[24::25, 0]
    np.testing.assert_allclose(np.diff(at_periods)[2:], 0.001, atol=1e-5)
    assert at_periods[0] == pytest.approx(START[0] + 0.001, abs=1e-4)


@pytest.mark.parametrize("latency", [0.0, 0.05, 0.1, 0.2])
def test_latency_delays_but_integrates_from_the_source_observation(latency: float) -> None:
    outcome, loop, path = drive(Steady(0.02), latency=latency)
    assert outcome.success and not loop.gate.latched
    assert loop.report()["late_actions"] == pytest.approx(round(latency / 0.05) * outcome.inferences, abs=4)
    assert (np.abs(np.diff(path[:, 0])) <= LIMITS.velocity[0] * 0.002 + 1e-9).all()


def test_a_policy_that_falls_silent_ends_the_episode_with_a_reason() -> None:
    class Dying(Steady):
        def chunk_for(self, observation: Observation, call: int) -> ActionChunk:
            chunk = super().chunk_for(observation, call)
            stale = ActionChunk(chunk.actions, chunk.times - 10, chunk.observed_at - 10)
            return chunk if call == 0 else stale

    outcome, loop, _ = drive(Dying(0.01))
    assert not outcome.success and outcome.reason == "no valid action for 100 ms"
    assert outcome.seconds == pytest.approx(0.8 + 0.1, abs=0.02)
    assert loop.report()["late_chunks"] >= 1


def test_a_policy_that_emits_nan_ends_the_episode() -> None:
    outcome, _, path = drive(Steady(np.nan))
    assert "not finite" in outcome.reason and np.isfinite(path).all()


def test_a_wrong_spec_is_refused_before_anything_moves() -> None:
    planner = Planner(
        policy=Steady(0.0), spec=ROBOT, targets=JointTargets(policy=CARTESIAN, robot=ROBOT, kinematics=Plane())
    )
    with pytest.raises(SpecError, match="Specs disagree"):
        run_virtual(Episode(0, {}, 8, 0.0), StickBody(), planner, LoopSettings())


@pytest.mark.parametrize("spec", [CARTESIAN, ROBOT])
def test_the_policy_that_stands_still_does(spec: Any) -> None:
    outcome, loop, path = drive(NullPolicy(spec=spec))
    assert outcome.reason == "" and not outcome.success
    assert np.ptp(path, axis=0).max() < 1e-6 and loop.report()["limited_ticks"] < 5


def test_the_policys_randomness_follows_the_seed() -> None:
    class Noisy(Steady):
        def act(self, observations: Any, memory: Any, *, rng: Any, prefix: Any = None, delay: int = 0) -> Any:
            self.delta = float(rng[0].uniform(0, 0.03))
            return super().act(observations, memory, rng=rng)

    policy = Noisy(0.0)
    (_, _, a), (_, _, b) = drive(policy), drive(policy)
    assert a.shape == b.shape and (a == b).all()


# --- clocks ----------------------------------------------------------------------------------------------------


def test_clocks_never_go_back() -> None:
    virtual, real = VirtualClock(1.0), MonotonicClock()
    moved: list[float] = []
    virtual.on_advance.append(moved.append)
    virtual.sleep_until(0.5)
    virtual.sleep_until(2.0)
    assert virtual.now() == 2.0 and moved == [2.0]
    deadline = real.now() + 0.003
    real.sleep_until(deadline)
    assert real.now() >= deadline
    real.sleep_until(deadline := real.now() + 0.003, awake=0.002)
    assert real.now() >= deadline
    real.sleep_until(deadline - 1.0)
    real.sleep_until(-1.0)


class LateTimer:
    """Time that passes by looking at it; its timer wakes up 0.3 ms too late."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, clock: MonotonicClock) -> None:
        self.now = 10.0
        monkeypatch.setattr(time, "monotonic", self.monotonic)
        monkeypatch.setattr(clock, "_nanosleep", self.nanosleep)

    def monotonic(self) -> float:
        self.now += 1e-7
        return self.now

    def nanosleep(self, _clock: int, _flags: int, request: Any, _left: None) -> int:
        self.now = max(self.now, request._obj.seconds + 1e-9 * request._obj.nanoseconds) + 0.0003
        return 0


def test_who_is_awake_before_the_deadline_does_not_suffer_from_a_late_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = MonotonicClock()
    timer = LateTimer(monkeypatch, clock)
    for awake, late in ((0.0, 0.0003), (0.0002, 0.0001), (0.0004, 0.0)):
        deadline = timer.now + 0.002
        clock.sleep_until(deadline, awake)
        assert timer.now - deadline == pytest.approx(late, abs=2e-6) and timer.now >= deadline


@pytest.mark.parametrize(("rate_hz", "most"), [(50.0, 0.0004), (500.0, 0.0004), (1000.0, 0.0002)])
def test_the_loop_is_awake_for_a_fifth_of_the_period_at_most(rate_hz: float, most: float) -> None:
    asked: list[float] = []

    class Asked(VirtualClock):
        def sleep_until(self, deadline: float, awake: float = 0.0) -> None:
            asked.append(awake)
            super().sleep_until(deadline)

    gate = SafetyGate(limits=LIMITS, dt=1 / rate_hz)
    loop = ControlLoop(robot=Silent(), gate=gate, source=lambda: None, clock=Asked(), rate_hz=rate_hz, awake=0.0004)
    loop.start(START)
    loop.run(lambda deadline: deadline < 0.1)
    assert asked == pytest.approx([most] * len(asked)) and asked


class Silent:
    """A robot that takes every command."""

    spec = ROBOT

    def read(self) -> Observation:
        raise AssertionError

    def command(self, action: np.ndarray, t: float) -> None: ...

    def stop(self) -> None: ...


def test_a_gate_without_a_position_refuses_to_command() -> None:
    gate = SafetyGate(limits=LIMITS, dt=0.01)
    assert gate.latched
    with pytest.raises(RobotError, match="position"):
        gate.step(START, 0.0)
