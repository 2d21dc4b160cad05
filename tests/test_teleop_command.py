"""`wayhand teleop` and `wayhand deploy takeover=` from their words to their datasets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from bridge_body import CARTESIAN, Plane, StickBody

from wayhand.datasets.check import validate
from wayhand.datasets.store import Dataset
from wayhand.scripts import teleop, teleop_devices
from wayhand.scripts.cli import main as cli
from wayhand.vla.bridge.chunking import JointTargets
from wayhand.vla.bridge.safety import Guard
from wayhand.vla.bridge.sensors import Plausibility
from wayhand.vla.bridge.teleop.hand import Hand, Request
from wayhand.vla.contract import EnvSpec


class StickRobot:
    """What `robot=` would build: the arm without physics."""

    plausibility = Plausibility(late=5.0, lag=5.0, old_image=5.0)

    def __call__(self) -> StickBody:
        return StickBody(goal=9.0)

    def guards(self) -> Sequence[Guard]:
        return ()

    def policy_spec(self) -> EnvSpec:
        return CARTESIAN

    def targets(self, policy: EnvSpec, robot: EnvSpec) -> JointTargets:
        return JointTargets(policy=policy, robot=robot, kinematics=Plane())


class Scripted:
    """A keyboard on which somebody keeps an episode, discards one, and leaves from the middle of a third.

    Between episodes a word comes at once, within one after six observations. The pilot hears what is said between them
    twice: when it waits for a start, and when it begins.
    """

    help, engaged = "a test", True

    def __init__(self, **_: object) -> None:
        go, discard, leave = Request.GO, Request.DISCARD, Request.LEAVE
        self._script = iter([go, None, go, go, None, discard, go, None, leave])
        self._reads, self._heard = 0, 0

    def read(self, now: float) -> Hand:
        self._reads += 1
        return Hand(True, np.array([1.0, 0, 0, 0, 0, 0]))

    def requests(self) -> list[Request]:
        within = self._heard % 3 == 2
        if within and self._reads < 6:
            return []
        word = next(self._script)
        self._heard, self._reads = self._heard + 1, 0
        return [] if word is None else [word]

    def __enter__(self) -> Scripted:
        return self

    def __exit__(self, *_: object) -> None: ...


def test_kept_episodes_are_demonstrations_and_discarded_ones_are_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(teleop, "robot_of", lambda robot, env: StickRobot())
    monkeypatch.setattr(teleop, "require_terminal", lambda name: None)
    monkeypatch.setattr(teleop_devices, "KeyboardHand", Scripted)
    out = tmp_path / "hand"
    assert cli(["teleop", f"out={out}", "episodes=3", "linear=0.2", "env=tabletop/reach"]) == 0
    said = capsys.readouterr().out
    assert said.count("kept after") == 1 and said.count("discarded after") == 2 and "1 new demonstrations" in said
    dataset = Dataset(out)
    assert validate(out).ok and len(dataset) == 1 and dataset.spec.diff(CARTESIAN) == []
    assert dataset.provenance(0)["demonstrator"] == "human, keyboard"
    # The gate lets the arm gather speed; then it moves as the hand says, 0.2 m/s.
    steps = dataset.episode(0).columns["action"][:, 0]
    assert len(steps) >= 4 and steps.max() == pytest.approx(0.01, abs=4e-3) and steps.min() > -1e-3
    assert teleop.resume_point(out, 0) == (1, 1)


def test_what_cannot_be_is_said_before_anything_starts(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for arguments, words in (
        (["teleop", f"out={tmp_path}/x", "device=keyboard"], "needs a terminal"),
        (["teleop", f"out={tmp_path}/x", "device=mouse"], "device"),
        (["teleop", f"out={tmp_path}/x", "episodes=0"], "'episodes'"),
        (["teleop"], "out"),
        (["deploy", "checkpoint=none", "takeover=keyboard"], "needs a terminal"),
        (["deploy", "checkpoint=none", "takeover=console"], "console=true"),
        (["deploy", "checkpoint=none", "takeover=gamepad", "virtual=true"], "real time"),
    ):
        assert cli([*arguments, "env=tabletop/reach"]) == 2, arguments
        assert words in capsys.readouterr().err, arguments
