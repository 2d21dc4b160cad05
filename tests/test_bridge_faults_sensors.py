"""Cameras and joints that go wrong, and those that only look like it: a plain view, a late picture, a creeping arm."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from bridge_body import CARTESIAN, ROBOT, Plane, Steady, StickBody, unstarved
from test_safety_faults import assert_safe, drive

from wayhand.vla.bridge.chunking import JointTargets
from wayhand.vla.bridge.planner import Planner
from wayhand.vla.bridge.process import LoopSettings
from wayhand.vla.bridge.robots.faults import Fault, FaultyBody, FaultyFactory
from wayhand.vla.bridge.robots.ros2_sensors import unpack
from wayhand.vla.bridge.sensors import CameraWatch, Plausibility
from wayhand.vla.bridge.session import Episode, Session
from wayhand.vla.contract import EnvSpec, Observation
from wayhand.vla.errors import ConfigError

FROZEN = "camera 'front' is frozen for 3 images"
SIDE = 64
# A picture of a usual size, in which 20 mrad of a joint are two pixels at arm's length.
CAMERA = replace(ROBOT.cameras[0], height=SIDE, width=SIDE, fx=100.0, fy=100.0, cx=32.0, cy=32.0)
SPEC = EnvSpec("stick", 0.05, (CAMERA,), ROBOT.state, ROBOT.action, ROBOT.extras)
Picture = Callable[[int], np.ndarray]


def scene(k: int, changed: int = SIDE * SIDE) -> np.ndarray:
    """The k-th of a row of pictures, each other than the one before in its first `changed` pixels."""
    image = np.full((SIDE * SIDE, 3), 90, np.uint8)
    image[:changed] = 100 + k % 100
    return image.reshape(SIDE, SIDE, 3)


def judged(picture: Picture, q: Callable[[int], float], count: int = 60, lag: int = 0) -> list[str]:
    """What is said of `count` pictures at 20 Hz of a camera that is `lag` pictures late, while q1 is at q(k) [rad]."""
    watch, said = CameraWatch(SPEC, Plausibility(old_image=9.0)), []
    for k in range(count):
        taken = max(k - lag, 0)
        times, state = {"state": 0.05 * k, "front": 0.05 * taken}, np.array([0.04, q(k), 0.0], np.float32)
        said.append(watch.judge(Observation(times, {"front": picture(taken)}, state), 0.05 * k)[1])
    return said


# --- frozen, and not -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("speed", [2.0, 0.5, 0.14, 0.06, 0.011])
@pytest.mark.parametrize("at", [1, 10])
def test_a_freeze_is_found_in_three_images_or_as_soon_as_what_is_seen_has_moved_by_two_pixels(
    speed: float, at: int
) -> None:
    said = judged(lambda k: scene(min(k, at - 1)), lambda k: 0.05 * speed * k, count=90)
    found = said.index(FROZEN) - at + 1  # the first frozen picture is the first
    moved_by_two_pixels = int(0.02 / (0.05 * speed)) + 1
    assert found == max(3, moved_by_two_pixels)


def test_a_noisy_camera_that_freezes_is_found_however_little_its_scene_changes() -> None:
    noise = [np.random.default_rng(k).integers(80, 84, (SIDE, SIDE, 3), np.uint8) for k in range(20)]
    said = judged(lambda k: noise[min(k, 19)], lambda k: 0.01 * k)
    assert said[:20] == [""] * 20 and said.index(FROZEN) <= 22


def test_an_arm_that_creeps_by_less_than_a_pixel_shows_the_same_picture() -> None:
    assert not any(judged(lambda k: scene(0), lambda k: 0.019 * k / 59))


def test_a_camera_that_sees_nothing_but_a_plain_table_is_not_frozen() -> None:
    """What it saw left the picture pixel by pixel, as from a hand's camera that comes by."""
    assert not any(judged(lambda k: scene(k, max(40 - 2 * k, 0)), lambda k: 0.02 * k, count=40))
    said = judged(lambda k: scene(min(k, 10), 400), lambda k: 0.02 * k, count=40)
    assert said.index(FROZEN) <= 13, "in the middle of what it sees it is"


def test_a_robot_that_has_come_back_sees_again_what_it_saw() -> None:
    assert not any(judged(lambda k: scene(k % 2), lambda k: 0.5 * (k % 2)))
    assert not any(judged(lambda k: scene(0), lambda k: 0.015 * np.sin(0.3 * k), count=200))


def test_a_late_picture_of_a_robot_at_rest_is_late_and_not_frozen() -> None:
    """Before it moves all its pictures are the same, and they arrive while it moves."""
    said = judged(lambda k: scene(max(k - 10, 0)), lambda k: 0.05 * max(k - 10, 0), lag=8)
    assert not any(said)


# --- what can be injected --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("amount", "stops"), [(0.2, False), (1.6, True)])
def test_a_slow_camera_is_planned_from_while_it_is_fresh_and_starves_the_robot_otherwise(
    amount: float, stops: bool
) -> None:
    outcome, loop, path = drive(Fault(kind="slow", at=0.3, amount=amount))
    assert outcome.reason == ("no valid action for 100 ms" if stops else "")
    assert loop.gate.report.latches == ([outcome.reason] if stops else [])
    assert_safe(path)


def test_channels_in_another_order_are_put_right_where_the_message_says_so() -> None:
    pixels = np.arange(4 * 4 * 3, dtype=np.uint8).reshape(4, 4, 3)
    message = {"height": 4, "width": 4, "step": 12, "data": np.frombuffer(pixels.tobytes(), np.uint8)}
    rgb, bgr = (unpack({**message, "encoding": name}, ROBOT.cameras[0]) for name in ("rgb8", "bgr8"))
    assert (rgb == pixels).all() and (bgr == pixels[:, :, ::-1]).all()


def test_what_is_mistyped_injects_no_silence() -> None:
    assert Fault(kind=float("nan")).kind == "nan", "which is what YAML makes of it"  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="did you mean 'q1'"):
        FaultyBody(StickBody(), [Fault(kind="stuck", target="q_1")])
    with pytest.raises(ConfigError, match="front"):
        FaultyBody(StickBody(), [Fault(kind="frozen", target="q1")])
    with pytest.raises(ConfigError, match="exists"):
        Fault(kind=3)  # type: ignore[arg-type]


# --- once for real ---------------------------------------------------------------------------------------------

REAL = [
    (Fault(kind="frozen", target="front", at=0.3), FROZEN),
    (Fault(kind="resized", target="front", at=0.3), "got: uint8 (3, 4, 3)"),
    (Fault(kind="nan", target="q2", at=0.3), "joint sensor 'q2' is not finite"),
    (Fault(kind="leap", target="q1", at=0.3, amount=1.0), "joint sensor 'q1' leapt by 1.0"),
]


@pytest.mark.parametrize(("fault", "reason"), REAL, ids=[f.kind for f, _ in REAL])
def test_a_broken_sensor_of_a_running_robot_latches_it_and_its_process_lives_on(fault: Fault, reason: str) -> None:
    factory = FaultyFactory(partial(StickBody, 9.0), [fault])
    with Session(factory=factory, settings=LoopSettings(rate_hz=50.0)) as session:
        targets = JointTargets(policy=CARTESIAN, robot=session.spec, kinematics=Plane())
        planner = Planner(policy=Steady(0.02), spec=CARTESIAN, targets=targets)
        for _ in range(2):  # a new episode is the reset
            outcome = unstarved(lambda: session.run(Episode(0, {}, 4, 0.0), planner))
            assert reason in outcome.reason and outcome.seconds >= 0.3
            assert session.status.latched and not session.status.moving
