"""Injected faults on a virtual clock: sensors, poisoned chunks, lost policies, jumps of time."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from bridge_body import CARTESIAN, LIMITS, ROBOT, START, Plane, Steady, StickBody

from wayhand.vla.bridge.cells import Cells
from wayhand.vla.bridge.chunking import JointTargets
from wayhand.vla.bridge.clock import VirtualClock
from wayhand.vla.bridge.limits import joint_indices
from wayhand.vla.bridge.loop import ControlLoop
from wayhand.vla.bridge.motion import Motion
from wayhand.vla.bridge.planner import Planner
from wayhand.vla.bridge.process import LoopSettings
from wayhand.vla.bridge.robots.faults import CAMERA_FAULTS, JOINT_FAULTS, Fault, FaultyBody
from wayhand.vla.bridge.robots.simulated import SimulatedRobot
from wayhand.vla.bridge.safety import SafetyGate
from wayhand.vla.bridge.sensors import CameraWatch, JointWatch, Plausibility
from wayhand.vla.bridge.session import Episode
from wayhand.vla.bridge.virtual import run_virtual
from wayhand.vla.bridge.watchdog import BEAT, Watchdog, silence_limit
from wayhand.vla.contract import ActionChunk, EnvSpec, Observation
from wayhand.vla.errors import ConfigError


def drive(*faults: Fault, delta: float = 0.02, goal: float = 9.0) -> tuple[Any, ControlLoop, np.ndarray]:
    """Two seconds of a steadily moving stick with these faults: outcome, loop and what the driver was told."""
    stick = StickBody(goal=goal)
    planner = Planner(
        policy=Steady(delta), spec=CARTESIAN, targets=JointTargets(policy=CARTESIAN, robot=ROBOT, kinematics=Plane())
    )
    outcome, loop = run_virtual(Episode(0, {}, 1, 0.0), FaultyBody(stick, faults), planner, LoopSettings())
    return outcome, loop, np.array(stick.trace)


def assert_safe(path: np.ndarray) -> None:
    """The driver saw finite numbers and no step faster than the limits."""
    assert np.isfinite(path).all()
    assert (np.abs(np.diff(path, axis=0)) <= LIMITS.velocity * 0.002 + 1e-9).all()


# --- sensors ---------------------------------------------------------------------------------------------------


def test_healthy_noisy_sensors_stop_nothing() -> None:
    outcome, loop, _ = drive(Fault(kind="jitter", amount=1e-3), Fault(kind="noisy", amount=3.0), goal=0.6)
    assert outcome.success and not loop.gate.report.latches


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (Fault(kind="frozen", at=0.5), "camera 'front' is frozen for 3 images"),
        (Fault(kind="black", at=0.5), "camera 'front' is black for 3 images"),
        (Fault(kind="resized", at=0.5), "camera 'front' gives uint8 (3, 4, 3), not uint8 (4, 4, 3)"),
        (Fault(kind="nan", target="q2", at=0.5), "joint sensor 'q2' is not finite"),
        (Fault(kind="leap", target="q1", at=0.5, amount=1.0), "joint sensor 'q1' leapt by 1.0"),
        (Fault(kind="stuck", target="q1", at=0.5), "joint sensor 'q1' is stuck"),
        (Fault(kind="swapped", at=0.5), "joint sensor"),
    ],
)
def test_a_broken_sensor_latches_within_three_frames_or_two_ticks(fault: Fault, reason: str) -> None:
    outcome, loop, path = drive(fault)
    assert outcome.reason.startswith(reason) and not outcome.success
    # The first bad frame or state is that of 0.5 s; the outcome is told one tick after the latch.
    last = 2 * 0.05 if fault.kind in CAMERA_FAULTS else loop.dt
    assert 0.5 - 1e-9 <= outcome.seconds - loop.dt <= 0.5 + last + 1e-9
    assert_safe(path)


def test_a_late_camera_is_not_planned_from_and_starves_the_robot() -> None:
    outcome, _, path = drive(Fault(kind="late", at=0.5, amount=0.4))
    assert outcome.reason == "no valid action for 100 ms"
    # The last chunk was planned at 0.45 s and holds 16 actions of 50 ms.
    assert outcome.seconds == pytest.approx(0.45 + 0.8 + 0.1, abs=0.02)
    assert_safe(path)


def test_images_out_of_order_are_skipped_and_dropped_ones_are_no_fault() -> None:
    _, loop, _ = drive(Fault(kind="reordered", at=0.3, until=0.6), goal=0.6)
    assert not loop.gate.report.latches
    outcome, _, _ = drive(Fault(kind="dropped", amount=0.3), goal=0.6)
    assert outcome.success


class Slow(StickBody):
    """Its camera takes 5 pictures a second; between two the last one is shown, with its time."""

    def observe(self) -> Observation:
        observation = super().observe()
        if round(observation.time / 0.05) % 4 == 0:
            self._shown = observation
        times = {**observation.times, "front": self._shown.times["front"]}
        return replace(observation, images=self._shown.images, times=times)


@pytest.mark.parametrize(("old", "planned"), [(0.15, {0.0, 0.05, 0.1, 0.15}), (0.04, {0.0})])
def test_a_camera_at_5_fps_is_planned_from_while_its_picture_is_fresh(old: float, planned: set[float]) -> None:
    ages: list[float] = []

    class Noting(Steady):
        def chunk_for(self, observation: Observation, call: int) -> ActionChunk:
            ages.append(round(observation.times["state"] - observation.times["front"], 6))
            return super().chunk_for(observation, call)

    targets = JointTargets(policy=CARTESIAN, robot=ROBOT, kinematics=Plane())
    planner = Planner(policy=Noting(0.02), spec=CARTESIAN, targets=targets)
    settings = LoopSettings(plausibility=Plausibility(old_image=old))
    _, loop = run_virtual(Episode(0, {}, 1, 0.0), Slow(goal=9.0), planner, settings)
    assert set(ages) == planned, "nothing older is inferred from"
    assert not loop.gate.report.latches, "slow is not frozen"


@pytest.mark.parametrize("wrong", [(3, 4, 4), (4, 4, 4), (4, 4, 1)])
def test_pictures_with_their_channels_elsewhere_are_named(wrong: tuple[int, ...]) -> None:
    seen = StickBody().observe()
    seen.images["front"] = np.zeros(wrong, np.uint8)
    usable, fault = CameraWatch(ROBOT).judge(seen, 0.0)
    assert not usable and fault == f"camera 'front' gives uint8 {wrong}, not uint8 (4, 4, 3)"


def test_a_camera_that_freezes_while_the_arm_creeps_is_found_too() -> None:
    """Slower than what counts as motion from one picture to the next."""
    watch, faults = CameraWatch(ROBOT), []
    for k in range(40):
        seen = StickBody().observe()
        at = {"state": 0.05 * k, "front": 0.05 * k}
        faults.append(watch.judge(replace(seen, times=at, state=seen.state + np.float32(0.0011 * k)), 0.05 * k)[1])
    assert faults[-1] == "camera 'front' is frozen for 3 images"


def test_a_camera_at_5_fps_is_late_by_its_age() -> None:
    body = StickBody()
    watch = CameraWatch(ROBOT, Plausibility(old_image=0.15))
    seen = body.observe()
    assert [watch.judge(seen, age)[0] for age in (0.0, 0.1, 0.15, 0.2)] == [True, True, True, False]
    assert watch.skipped == 1


def test_a_camera_that_looks_at_a_still_scene_is_not_frozen() -> None:
    watch, image = CameraWatch(ROBOT), np.full((4, 4, 3), 90, np.uint8)
    state = np.zeros(3, np.float32)
    for k in range(20):
        times = {"state": k * 0.05, "front": k * 0.05}
        assert watch.judge(Observation(times, {"front": image}, state), k * 0.05) == (True, "")


def test_a_gripper_that_holds_something_is_neither_stuck_nor_behind() -> None:
    squeezing = type(LIMITS)(
        LIMITS.names, LIMITS.lower, LIMITS.upper, LIMITS.velocity, LIMITS.acceleration, squeeze=np.array([0, 0, 0.08])
    )
    for limits, stops in ((squeezing, False), (LIMITS, True)):
        watch, faults = JointWatch(limits), []
        for k in range(60):
            q = START - np.array([0, 0, min(0.001 * k, 0.04)])
            motion = Motion(q, np.array([0, 0, -0.1]), np.zeros(3), q, np.ones(3, bool))
            faults.append(watch.fault(np.array([0.3, -0.2, 0.03]), k * 0.01, k * 0.01, motion))
        assert any(faults) is stops


def test_late_joint_states_and_states_from_the_past_are_faults() -> None:
    watch, motion = JointWatch(LIMITS), Motion.at_rest(START)
    assert watch.fault(START, 1.0, 1.0, motion) == ""
    assert watch.fault(START, 1.0, 1.05, motion) == ""
    assert watch.fault(START, 1.0, 1.2, motion) == "joint state is 200 ms old"
    assert watch.fault(START, 0.99, 1.05, motion) == "joint state went back in time by 10 ms"


def test_joints_in_another_order_are_mapped_by_name() -> None:
    reported = ["gripper_width", "q2", "q1"]
    values = np.array([0.04, -0.2, 0.3])
    assert values[joint_indices(reported, LIMITS.names)].tolist() == START.tolist()


def test_unknown_faults_are_refused() -> None:
    with pytest.raises(ConfigError, match="did you mean 'frozen'"):
        Fault(kind="frozn")
    assert len(set(CAMERA_FAULTS + JOINT_FAULTS)) == len(CAMERA_FAULTS) + len(JOINT_FAULTS)


# --- poisoned chunks -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", [0, 8, 15])
@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf, 5e-324, -2e-308])
@pytest.mark.parametrize("spec", [CARTESIAN, ROBOT], ids=["increments", "joints"])
@pytest.mark.parametrize("clean", [False, True], ids=["for good", "once"])
def test_one_poisoned_number_anywhere_in_a_chunk_never_reaches_the_driver(
    row: int, number: float, spec: EnvSpec, clean: bool
) -> None:
    """The eleventh chunk is poisoned, and so are all after it or none."""

    class Poisoned(Steady):
        def chunk_for(self, observation: Observation, call: int) -> ActionChunk:
            chunk = super().chunk_for(observation, call)
            chunk = ActionChunk(chunk.actions.astype(np.float64), chunk.times, chunk.observed_at)
            if spec is ROBOT:
                chunk.actions[:] = observation.state[[1, 2, 0]]
                chunk.actions[:, 0] += 0.01 * np.arange(1, self.chunk + 1)
            if call == 10 or (call > 10 and not clean):
                chunk.actions[row, 1] = number
            return chunk

    body = StickBody(goal=9.0)
    targets = JointTargets(policy=spec, robot=ROBOT, kinematics=Plane())
    planner = Planner(policy=Poisoned(0.02, spec), spec=spec, targets=targets)
    outcome, loop = run_virtual(Episode(0, {}, 1, 0.0), body, planner, LoopSettings())
    path, rejected = np.array(body.trace), loop.gate.report.rejected_chunks
    assert_safe(path)
    assert not ((path != 0) & (np.abs(path) < np.finfo(np.float64).tiny)).any(), "nor a denormal one"
    if not np.isfinite(number):
        assert rejected == 1 and "not finite" in outcome.reason
    elif spec is CARTESIAN:  # it is nothing beside the pose that it is added to
        assert rejected == 0 and outcome.reason == ""
    elif clean:  # the chunk before it goes on until the next one
        assert rejected == 1 and outcome.reason == ""
    else:
        assert rejected > 10 and outcome.reason == "no valid action for 100 ms"


# --- time and life ---------------------------------------------------------------------------------------------


class Driver:
    spec = ROBOT

    def __init__(self) -> None:
        self.commands: list[np.ndarray] = []
        self.halts: list[tuple[float, str]] = []

    def read(self) -> Observation:
        raise AssertionError("the loop reads no image")

    def command(self, action: np.ndarray, t: float) -> None:
        self.commands.append(action)

    def stop(self) -> None:
        pass

    def halt(self, t: float, reason: str) -> None:
        self.halts.append((t, reason))


def moving_loop(clock: VirtualClock, **options: Any) -> tuple[ControlLoop, Driver]:
    """One chunk of two seconds at 0.2 rad/s, observed at time 0."""
    steps = np.arange(1, 41)[:, None] * 0.05
    chunks = [ActionChunk(START + steps * [0.2, 0, 0], steps[:, 0], 0.0)]
    driver = Driver()
    loop = ControlLoop(
        robot=driver,
        gate=SafetyGate(limits=LIMITS, dt=0.01),
        source=lambda: chunks.pop() if chunks else None,
        clock=clock,
        rate_hz=100,
        **options,
    )
    loop.start(START)
    return loop, driver


def test_the_wall_clock_may_jump(monkeypatch: pytest.MonkeyPatch) -> None:
    paths = []
    for jump in (0.0, 3600.0, -3600.0):
        clock = VirtualClock()
        loop, driver = moving_loop(clock)
        wall = time.time() + jump
        monkeypatch.setattr(time, "time", lambda wall=wall: wall)
        loop.run(lambda deadline: deadline < 1.0)
        assert not loop.gate.latched
        paths.append(np.array(driver.commands))
    assert (paths[0] == paths[1]).all() and (paths[0] == paths[2]).all()


def test_a_suspended_machine_wakes_up_held() -> None:
    clock = VirtualClock()
    loop, driver = moving_loop(clock)
    loop.run(lambda deadline: deadline < 0.5)
    clock.suspend(2.0)
    loop.run(lambda deadline: deadline < 1.0)
    assert loop.gate.reason == "the machine was suspended for 2.0 s"
    assert (driver.commands[-1] == driver.commands[-2]).all()
    loop.start(driver.commands[-1])
    assert not loop.gate.latched, "a reset is for the world as it is now"


def test_a_blocked_loop_latches_and_sends_no_burst_of_commands() -> None:
    clock = VirtualClock()
    loop, driver = moving_loop(clock)
    loop.run(lambda deadline: deadline < 0.5)
    told = len(driver.commands)

    def blocked_once(deadline: float) -> bool:
        if len(driver.commands) == told:
            clock.sleep_until(clock.now() + 0.2)
        return deadline < 0.9

    loop.run(blocked_once)
    assert loop.gate.reason.startswith("the loop was blocked for 190 ms")
    assert loop.timing.missed >= 18 and (np.abs(np.diff(driver.commands, axis=0)) <= 0.02).all()


def test_a_lost_policy_leaves_a_tenth_of_a_second() -> None:
    clock = VirtualClock()
    loop, driver = moving_loop(clock)
    loop.run(lambda deadline: deadline < 0.5)
    loop.policy_lost(clock.now())
    lost = len(driver.commands)
    loop.run(lambda deadline: deadline < 1.5)
    path = np.array(driver.commands)[:, 0]
    assert loop.gate.reason == "the policy is gone"
    np.testing.assert_allclose(np.diff(path[lost - 1 : lost + 9]), 0.002, atol=1e-9)
    assert path[-1] - path[lost + 9] < 0.2**2 / 20 + 0.004


def test_a_chunk_revokes_the_loss() -> None:
    clock = VirtualClock()
    loop, _ = moving_loop(clock)
    loop.policy_lost(0.0)
    loop.run(lambda deadline: deadline < 0.5)
    assert not loop.gate.latched


def test_an_action_from_a_too_old_observation_is_not_executed() -> None:
    clock = VirtualClock()
    loop, _ = moving_loop(clock, longest=0.5)
    loop.run(lambda deadline: deadline < 1.5)
    assert loop.gate.reason == "no valid action for 100 ms" and loop.timing.age.max <= 0.65


def test_a_reason_to_stop_from_outside_latches() -> None:
    clock = VirtualClock()
    loop, driver = moving_loop(clock, check=lambda now, motion: "emergency stop: console" if now > 0.3 else "")
    loop.run(lambda deadline: deadline < 1.0)
    assert loop.gate.report.latches == ["emergency stop: console"]
    assert (driver.commands[-1] == driver.commands[-2]).all()


# --- the watchdog ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [50.0, 100.0, 500.0, 1000.0])
@pytest.mark.parametrize("block", [0.0, 0.010, 0.050, 0.200, 0.600])
def test_the_driver_is_stopped_within_three_periods_or_20_ms_of_silence(rate: float, block: float) -> None:
    """The loop beats every period or 5 ms; then it is silent for `block` and beats on."""
    cells, driver = Cells(BEAT), Driver()
    watchdog = Watchdog(cells, driver, rate)
    every, stops_at, time_of_block = min(1 / rate, 0.005), None, 0.5
    try:
        cells["armed"] = 1.0
        beats = np.concatenate([np.arange(0, time_of_block, every), np.arange(time_of_block + block, 1.0, every)])
        last = float(beats[beats < time_of_block].max())
        for now in np.arange(0.0, 1.0, watchdog.period):
            cells["beat"] = float(beats[beats <= now].max())
            if watchdog.look(now):
                stops_at = stops_at or now
        limit = silence_limit(rate)
        assert limit == min(3 / rate, 0.02)
        if block + every < limit - 2.5 * watchdog.period:
            assert stops_at is None
        elif block >= limit:
            assert stops_at is not None and stops_at - last <= limit and len(driver.halts) == 1
            assert "silent for" in driver.halts[0][1]
    finally:
        cells.close()


def test_an_unarmed_loop_is_not_watched() -> None:
    cells, driver = Cells(BEAT), Driver()
    try:
        assert not Watchdog(cells, driver, 500.0).look(100.0) and driver.halts == []
    finally:
        cells.close()


def test_a_driver_without_a_loop_brakes_by_itself() -> None:
    """Nothing but the last command: the driver does not need us to stop."""
    body = StickBody(goal=9.0)
    robot = SimulatedRobot(body=body)
    robot.reset(0, {})
    for k in range(1, 51):
        robot.command(START + np.array([0.005 * k, 0, 0]), k * 0.01)
    robot.advance_to(1.0)
    path = np.array(body.trace)[:, 0]
    assert path[-1] == path[-2] and path[-1] == pytest.approx(START[0] + 0.25 + 0.5**2 / 40, abs=2e-3)
    assert (np.abs(np.diff(path, n=2)[250:]) <= 20 * 0.002**2 + 1e-12).all()
