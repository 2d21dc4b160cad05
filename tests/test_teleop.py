"""A human's hand: what keyboard, gamepad and console say, and what the robot is asked for."""

from __future__ import annotations

import os
import pty
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from types import TracebackType

import numpy as np
import pytest
from bridge_body import ROBOT, Plane, StickBody
from hypothesis import given
from hypothesis import strategies as st
from scripted_hands import RANGES, RIGHT_BUMPER, SOUTH, STICK, record

from wayhand.vla.bridge.chunking import JointTargets, integrate_pose
from wayhand.vla.bridge.planner import Planner
from wayhand.vla.bridge.teleop.cell import SILENT, ConsoleHand, HandCell
from wayhand.vla.bridge.teleop.gamepad import GamepadHand, PadState
from wayhand.vla.bridge.teleop.hand import Hand, Request
from wayhand.vla.bridge.teleop.human import CHUNK, FULL_STROKE, MOVING, HumanPolicy, Speed
from wayhand.vla.bridge.teleop.keys import LINGER, KeyboardHand, split_keys
from wayhand.vla.bridge.teleop.linux_input import EV_ABS, EV_KEY, EV_SYN, EVENT, SYN_DROPPED, open_gamepad
from wayhand.vla.bridge.teleop.pilots import HumanPilot
from wayhand.vla.bridge.teleop.poses import pose_difference
from wayhand.vla.contract import Observation
from wayhand.vla.errors import ConfigError, RobotError


class Presses:
    """An emergency button that remembers who pressed it."""

    def __init__(self) -> None:
        self.by: list[str] = []

    def __call__(self, who: str) -> None:
        self.by.append(who)


@pytest.fixture
def stop() -> Presses:
    return Presses()


def wait_for(happened: Callable[[], bool], seconds: float = 5.0) -> bool:
    deadline = time.monotonic() + seconds
    while not happened():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


# --- keyboard --------------------------------------------------------------------------------------------------


def test_a_tap_is_a_small_step_and_a_held_key_goes_on_until_it_stops_repeating(stop: Presses) -> None:
    keys = KeyboardHand(stop=stop)
    keys.feed(b"w", 1.0)
    assert keys.read(1.0).direction[0] == 1.0 and keys.read(1.0 + LINGER).direction[0] == 0.0
    for k in range(30):  # as a terminal repeats
        now = 2.0 + k / 30
        keys.feed(b"w", now)
        assert keys.read(now + 1 / 30).direction[0] == 1.0
    assert not keys.read(now + LINGER).direction.any() and keys.read(9.0).engaged


def test_keys_of_two_axes_move_both_and_opposite_ones_cancel(stop: Presses) -> None:
    keys = KeyboardHand(stop=stop)
    keys.feed(b"wd\x1b[A", 0.0)
    np.testing.assert_array_equal(keys.read(0.05).direction, [1, -1, 0, 0, 0, 0])
    keys.feed(b"s", 0.05)
    assert keys.read(0.06).direction[0] == 0.0
    keys.feed(b"-a", 1.0)
    assert keys.read(1.0).direction[1] == 0.5
    keys.feed(b"g", 1.0)
    assert keys.read(1.0).toggles == 1


def test_requests_come_once_and_in_order(stop: Presses) -> None:
    keys = KeyboardHand(stop=stop)
    keys.feed(b"\r\x7fx", 0.0)
    assert keys.requests() == [Request.GO, Request.DISCARD, Request.LEAVE] and keys.requests() == []
    assert not stop.by


@pytest.mark.parametrize("typed", [b" ", b"q", b"\x1b", b"w\x1b"])
def test_the_emergency_keys_stop_and_arrows_do_not(stop: Presses, typed: bytes) -> None:
    keys = KeyboardHand(stop=stop)
    keys.feed(b"\x1b[A\x1b[1;5C\x1bOP", 0.0)
    assert not stop.by
    keys.feed(typed, 0.0)
    assert stop.by == ["keyboard"]


@given(st.binary(max_size=40))
def test_no_key_is_lost_and_none_made_up(typed: bytes) -> None:
    assert b"".join(split_keys(typed)) == typed


def test_a_takeover_is_given_back_by_the_same_key(stop: Presses) -> None:
    keys = KeyboardHand(stop=stop, takeover=True)
    keys.feed(b"w", 0.0)
    assert not keys.engaged and not keys.read(0.0).engaged
    keys.feed(b"t", 0.0)
    assert keys.engaged and not keys.read(0.0).direction.any(), "what was pressed before does not move it"
    keys.feed(b"t", 0.0)
    assert not keys.engaged


def test_a_terminal_is_read_and_left_as_it_was(stop: Presses) -> None:
    import termios

    master, slave = pty.openpty()
    try:
        before = termios.tcgetattr(slave)
        with KeyboardHand(stop=stop, fd=slave) as keys:
            assert keys.listening

            def typed_and_seen() -> bool:  # a tap lasts a moment, which a busy machine may miss
                os.write(master, b"r")
                return keys.read(time.monotonic()).direction[2] == 1.0

            assert wait_for(typed_and_seen)
            assert wait_for(lambda: not keys.read(time.monotonic()).direction.any())
            os.write(master, b" ")
            assert wait_for(lambda: stop.by == ["keyboard"])
        assert termios.tcgetattr(slave) == before
    finally:
        os.close(master)
        os.close(slave)


# --- gamepad ---------------------------------------------------------------------------------------------------


def test_a_pad_moves_while_its_bumper_is_held(stop: Presses) -> None:
    pad = PadState(stop, RANGES)
    pad.feed(record(EV_ABS, 1, -32768) + record(EV_ABS, 0, 32767) + record(EV_SYN, 0, 0))
    np.testing.assert_allclose(pad.hand.direction, [1, -1, 0, 0, 0, 0])
    assert not pad.hand.engaged
    pad.feed(record(EV_KEY, RIGHT_BUMPER, 1) + record(EV_KEY, RIGHT_BUMPER, 2))
    assert pad.hand.engaged
    pad.feed(record(EV_KEY, SOUTH, 1) + record(EV_KEY, SOUTH, 0) + record(EV_KEY, 0x136, 1))
    assert pad.hand.toggles == 1 and pad.hand.direction[0] == 0.25
    pad.feed(record(EV_KEY, RIGHT_BUMPER, 0))
    assert not pad.hand.engaged
    pad.feed(record(EV_KEY, 0x13B, 1) + record(EV_KEY, 0x13A, 1) + record(EV_KEY, 0x13C, 1))
    assert pad.take() == [Request.GO, Request.DISCARD, Request.LEAVE]
    pad.feed(record(EV_KEY, 0x131, 1))
    assert stop.by == ["gamepad"]


def test_lost_records_let_everything_go(stop: Presses) -> None:
    pad = PadState(stop, RANGES)
    pad.feed(record(EV_KEY, RIGHT_BUMPER, 1) + record(EV_ABS, 1, -32768))
    pad.feed(record(EV_SYN, SYN_DROPPED, 0))
    assert not pad.hand.engaged and not pad.hand.direction.any()


@given(st.integers(-40000, 40000))
def test_a_stick_is_odd_monotone_and_at_rest_in_the_middle(value: int) -> None:
    share = STICK.share(value)
    assert -1.0 <= share <= 1.0 and STICK.share(value + 500) >= share
    assert abs(value) > 3300 or share == 0.0
    assert STICK.share(32767) == 1.0 and STICK.share(-32768) == -1.0


@given(st.binary(max_size=400))
def test_any_bytes_leave_a_hand_within_its_range(data: bytes) -> None:
    pad = PadState(lambda who: None, RANGES)
    pad.feed(data)
    assert np.isfinite(pad.hand.direction).all() and (np.abs(pad.hand.direction) <= 1.0).all()


def test_an_unplugged_pad_stops_the_robot_only_while_it_drives(stop: Presses) -> None:
    for engaged in (False, True):
        end, start = os.pipe()
        with GamepadHand(stop=stop, fd=end, ranges=RANGES) as pad:
            os.write(start, record(EV_KEY, RIGHT_BUMPER, int(engaged)) + record(EV_ABS, 1, -32768))
            assert wait_for(lambda: bool(pad.read(0.0).direction.any())) and pad.engaged is engaged
            os.close(start)
            assert wait_for(lambda: not pad.read(0.0).direction.any()) and not pad.engaged
    assert stop.by == ["the gamepad is gone"]


def test_without_a_gamepad_the_error_says_where_one_was_looked_for(tmp_path: os.PathLike[str]) -> None:
    from pathlib import Path

    nothing = Path(tmp_path) / "event0"
    nothing.write_bytes(b"")  # a file that is no input device
    with pytest.raises(RobotError, match="no gamepad"):
        open_gamepad(nothing)
    assert EVENT.size == 24, "struct input_event of a 64-bit kernel"


# --- console ---------------------------------------------------------------------------------------------------


@pytest.fixture
def cells() -> Iterator[tuple[HandCell, HandCell]]:
    ours = HandCell()
    theirs = HandCell(ours.name)
    yield ours, theirs
    theirs.close()
    ours.close()


POSE = (np.array([0.4, 0.1, 0.2]), np.array([0.0, 1.0, 0.0, 0.0]))


def test_a_console_that_falls_silent_while_it_drives_stops_the_robot(
    stop: Presses, cells: tuple[HandCell, HandCell]
) -> None:
    ours, theirs = cells
    hand = ConsoleHand(stop=stop, cell=ours)
    assert not hand.read(0.0).engaged and hand.requests() == []
    theirs.write(POSE, enabled=False, opening=1.0, now=10.0)
    assert not hand.read(99.0).engaged and not stop.by, "silence without control is no fault"
    theirs.write((POSE[0], 2 * POSE[1]), enabled=True, opening=0.5, now=100.0)
    read = hand.read(100.0 + SILENT / 2)
    assert read.engaged and read.pose is not None and read.opening == 0.5
    np.testing.assert_allclose(read.pose[1], POSE[1])
    assert not hand.read(100.0 + 2 * SILENT).engaged and stop.by == ["the console fell silent"]


def test_a_console_asks_for_episodes(stop: Presses, cells: tuple[HandCell, HandCell]) -> None:
    ours, theirs = cells
    theirs.ask(Request.GO, 1.0)
    hand = ConsoleHand(stop=stop, cell=ours)
    assert hand.requests() == [], "what was asked before counts no more"
    theirs.ask(Request.DISCARD, 2.0)
    theirs.ask(Request.GO, 2.0)
    assert hand.requests() == [Request.GO, Request.DISCARD] and hand.requests() == []


@pytest.mark.parametrize("pose", [(np.array([np.nan, 0, 0]), POSE[1]), (POSE[0], np.zeros(4))])
def test_a_pose_that_is_none_stops_the_robot(
    stop: Presses, cells: tuple[HandCell, HandCell], pose: tuple[np.ndarray, np.ndarray]
) -> None:
    cells[1].write(pose, enabled=True, opening=1.0, now=0.0)
    assert not ConsoleHand(stop=stop, cell=cells[0]).read(0.0).engaged and len(stop.by) == 1


# --- the human as a policy -------------------------------------------------------------------------------------


class Says:
    """A device that says what it is told to."""

    help = "a test"

    def __init__(self, hand: Hand) -> None:
        self.hand = hand

    @property
    def engaged(self) -> bool:
        return self.hand.engaged

    def read(self, now: float) -> Hand:
        return self.hand

    def requests(self) -> list[Request]:
        return []

    def __enter__(self) -> Says:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None


def observed() -> Observation:
    body = StickBody()
    body.reset(0, {})
    return body.observe()


def chunk_of(policy: HumanPolicy, observation: Observation) -> np.ndarray:
    (chunk,), _, _ = policy.act([observation], (), rng=[])
    assert (np.diff(chunk.times) > 0).all() and chunk.observed_at == observation.time
    return chunk.actions


def make(hand: Hand) -> tuple[HumanPolicy, Says]:
    device = Says(hand)
    policy = HumanPolicy(device=device, robot=ROBOT, speed=Speed(0.2, 1.0))
    policy.init(ROBOT, [0])
    return policy, device


def test_a_direction_is_a_step_per_period_that_ends_without_a_word() -> None:
    policy, _ = make(Hand(True, np.array([1.0, 0, 0, 0, 0, -0.5])))
    actions = chunk_of(policy, observed())
    np.testing.assert_allclose(actions[:MOVING, :6], [[0.01, 0, 0, 0, 0, -0.025]] * MOVING)
    assert not actions[MOVING:, :6].any() and len(actions) == CHUNK
    assert (actions[:, 6] == observed().state[0]).all(), "the gripper stays as it is"


def test_nobody_moves_the_robot_without_being_engaged() -> None:
    policy, device = make(Hand(False, np.ones(6), pose=POSE, toggles=0, opening=0.0))
    assert not chunk_of(policy, observed())[:, :6].any()
    device.hand = replace(device.hand, toggles=1)
    assert (chunk_of(policy, observed())[:, 6] == observed().state[0]).all()


def test_a_pose_is_gone_to_straight_and_no_further() -> None:
    seen = observed()
    target = seen.extras["ee_target"].astype(np.float64)
    goal = (target[:3] + np.array([0.012, -0.009, 0.0]), np.array([1.0, 0, 0, 0]))
    policy, _ = make(Hand(True, pose=goal, opening=1.0))
    steps = chunk_of(policy, seen)[:, :6]
    np.testing.assert_allclose(steps[0, :3], [0.008, -0.006, 0.0], atol=1e-6)  # 1 cm, its longest step
    np.testing.assert_allclose(steps[:, :3].sum(0), [0.012, -0.009, 0.0], atol=1e-6)


def test_a_gripper_goes_over_and_back_at_its_own_pace() -> None:
    policy, device = make(Hand(True))
    seen = replace(observed(), state=np.array([0.08, 0.3, -0.2], np.float32))
    chunk_of(policy, seen)
    device.hand = replace(device.hand, toggles=1)
    widths = chunk_of(policy, seen)[:, 6]
    np.testing.assert_allclose(-np.diff(widths), 0.08 / FULL_STROKE * ROBOT.control_dt)
    later = replace(seen, times={k: v + 1.0 for k, v in seen.times.items()})
    assert (chunk_of(policy, later)[:, 6] == 0.0).all()
    device.hand = replace(device.hand, toggles=2)
    assert chunk_of(policy, later)[-1, 6] > 0.0
    policy.begin(np.array([0.02]))
    assert (chunk_of(policy, later)[:, 6] == 0.02).all(), "a robot is taken over with its gripper as it was told"


def test_speeds_must_move() -> None:
    with pytest.raises(ConfigError, match="'angular'"):
        Speed(0.1, 0.0)


def test_a_human_and_a_robot_of_another_kind_do_not_meet() -> None:
    policy, _ = make(Hand(True))
    targets = JointTargets(policy=policy.spec, robot=ROBOT, kinematics=Plane())
    planner = Planner(policy=policy, spec=policy.spec, targets=targets)
    planner.reset(0)
    assert planner.plan(observed()).actions.shape == (CHUNK, 3)


quaternions = st.lists(st.floats(-1, 1), min_size=4, max_size=4).map(np.array).filter(lambda q: np.linalg.norm(q) > 0.1)
positions = st.lists(st.floats(-2, 2), min_size=3, max_size=3).map(np.array)


@given(positions, quaternions, positions, quaternions)
def test_a_difference_of_poses_leads_from_one_to_the_other(
    p: np.ndarray, q: np.ndarray, r: np.ndarray, s: np.ndarray
) -> None:
    before, after = (p, q / np.linalg.norm(q)), (r, s / np.linalg.norm(s))
    delta = pose_difference(before, after)
    position, quaternion = integrate_pose(before, delta, before)
    np.testing.assert_allclose(position, after[0], atol=1e-9)
    assert abs(abs(quaternion @ after[1]) - 1.0) < 1e-9 and np.linalg.norm(delta[3:]) <= np.pi + 1e-6


# --- episodes --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("request_", list(Request))
def test_nothing_is_kept_before_the_human_could_drive(stop: Presses, request_: Request) -> None:
    """The key that starts an episode, hit twice or while the scene is prepared, ends none; the others always count."""
    keys = KeyboardHand(stop=stop)
    key = {Request.GO: b"\r", Request.DISCARD: b"\x7f", Request.LEAVE: b"x"}[request_]
    human = HumanPolicy(device=keys, robot=ROBOT)
    targets = JointTargets(policy=human.spec, robot=ROBOT, kinematics=Plane())
    pilot = HumanPilot(Planner(policy=human, spec=ROBOT, targets=targets), keys)
    for typed_while_waiting in (b"", key):
        keys.feed(typed_while_waiting, 0.0)
        pilot.reset(0)
        assert not pilot.finished, "what was typed before the episode is forgotten"
    keys.feed(key, 0.1)
    assert pilot.finished is (request_ is not Request.GO)
    pilot.reset(0)
    keys.feed(b"\r", 0.2)
    pilot.plan(StickBody().observe())
    assert not pilot.finished
    keys.feed(key, 0.3)
    assert pilot.finished and pilot.request is request_
