"""Recording a robot that nobody of ours commands."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bridge_body import LIMITS, ROBOT, StickBody

from wayhand.datasets.check import validate
from wayhand.datasets.store import Dataset
from wayhand.scripts import record
from wayhand.scripts.cli import main as cli
from wayhand.vla.bridge.clock import VirtualClock
from wayhand.vla.bridge.passive import PassiveRobot, watch
from wayhand.vla.bridge.robots.driver import PositionDriver
from wayhand.vla.bridge.teleop.hand import Request
from wayhand.vla.contract import Observation
from wayhand.vla.errors import RobotError


class Guided(PositionDriver):
    """Somebody leads its first joint along a line; after `until` it says nothing new. It takes no commands."""

    def __init__(self, clock: VirtualClock, until: float = 1e9) -> None:
        super().__init__(spec=ROBOT, limits=LIMITS, clock=clock)
        self._until = until

    def connect(self) -> None: ...

    def read(self) -> Observation:
        now = min(self.clock.now(), self._until)
        body = StickBody()
        body.reset(0, {})
        seen = body.observe()
        state = np.array([0.04, 0.1 * now, 0.0], np.float32)
        return Observation(dict.fromkeys(seen.times, now), seen.images, state, "", extras=seen.extras)

    def send(self, positions: np.ndarray) -> None:
        raise AssertionError("nobody commands this robot")

    def close(self) -> None: ...


def recorded(driver: Guided, clock: VirtualClock, seconds: float, until: float = 1e9) -> Any:
    robot = PassiveRobot(driver, clock)
    robot.begin(0, "follow my hand")
    about: Mapping[str, Any] = {"who": "a test"}
    return watch(robot, clock, seconds, lambda t: t < until - 1e-9, about)


def test_the_action_is_where_the_hand_led_the_robot_next() -> None:
    clock = VirtualClock(5.0)
    episode = recorded(Guided(clock), clock, 1.0)
    assert len(episode) == 20 and episode.instruction == "follow my hand" and episode.success is None
    episode.check()
    led = np.append(episode.columns["observation.state"][1:, 1], episode.final.state[1])
    np.testing.assert_array_equal(episode.columns["action"][:, 0], led)
    np.testing.assert_allclose(np.diff(episode.columns["action"][:, 0]), 0.1 * ROBOT.control_dt, atol=1e-6)
    assert episode.provenance == {"who": "a test", "missed": 0}


def test_an_episode_ends_when_the_human_says_and_needs_two_observations() -> None:
    clock = VirtualClock()
    assert len(recorded(Guided(clock), clock, 9.0, until=0.5)) == 10
    assert recorded(Guided(clock), clock, 9.0, until=0.0) is None


def test_a_silent_robot_is_an_error_and_a_late_one_is_counted() -> None:
    clock = VirtualClock()
    episode = recorded(Guided(clock, until=0.5), clock, 1.0)
    assert len(episode) == 10 and episode.provenance["missed"] == 10
    with pytest.raises(RobotError, match="silent"):
        recorded(Guided(clock, until=clock.now() + 0.1), clock, 5.0)


def test_the_command_records_what_stands_idle(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "idle"
    arguments = ["env=tabletop/reach", "env.cameras=[]", "seconds=0.3", "episodes=2", f"out={out}"]
    assert cli(["record", *arguments]) == 0
    assert "2 new episodes, 2 in" in capsys.readouterr().out
    dataset = Dataset(out)
    assert validate(out).ok and len(dataset) == 2 and dataset.provenance(1)["episode"]["seed"] == 1
    for k in range(2):
        joints = dataset.episode(k).columns["observation.state"][:, :7]
        assert np.abs(joints - joints[:1]).max() < 0.02, "nobody moved it"
    assert cli(["record", "env=tabletop/reach", "seconds=0.3", f"out={out}"]) == 2  # with cameras it is another robot
    assert "another out=" in capsys.readouterr().err
    assert cli(["record", "episodes=0", f"out={out}"]) == 2 and "'episodes'" in capsys.readouterr().err


class Typed:
    """A keyboard on which somebody discards an episode, keeps one, and leaves."""

    listening = True

    def __init__(self, **_: object) -> None:
        go, discard, leave = [Request.GO], [Request.DISCARD], [Request.LEAVE]
        self._typed = iter([go, [], [], [], discard, go, [], [], [], go, leave])

    def requests(self) -> list[Request]:
        return next(self._typed)

    def __enter__(self) -> Typed:
        return self

    def __exit__(self, *_: object) -> None: ...


def test_keys_start_keep_discard_and_leave(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(record, "KeyboardHand", Typed)
    arguments = ["env=tabletop/reach", "env.cameras=[]", "seconds=30", "episodes=5", f"out={tmp_path / 'keys'}"]
    assert cli(["record", *arguments]) == 0
    assert len(Dataset(tmp_path / "keys")) == 1 and "discarded after" in capsys.readouterr().out
