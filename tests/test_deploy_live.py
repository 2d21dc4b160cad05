"""`wayhand deploy` in real time while its policy is out of reach: the same episode is tried again until it begins."""

from __future__ import annotations

import io
import json
import os
import signal
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from robot_files import write_robot

from wayhand.scripts import deploy, deploy_live
from wayhand.scripts.deploy_live import AGAIN, performed
from wayhand.vla.bridge.clock import VirtualClock
from wayhand.vla.bridge.replay import NullPolicy
from wayhand.vla.bridge.session import Outcome, PolicyUnreachable
from wayhand.vla.contract import EnvSpec, Memory
from wayhand.vla.errors import RobotError

DONE = Outcome(7, None, 1.0)
PATIENT = "\n[plausibility]\nlate = 5.0\nold_image = 5.0\nlag = 5.0\n"


class Turns:
    """So many turns; `forestalled` as a console says it."""

    def __init__(self, left: int, *, forestalled: bool = False) -> None:
        self.left, self.forestalled = left, forestalled

    def next(self) -> bool:
        self.left -= 1
        return self.left >= 0


def tried(faults: list[Exception], turns: Any) -> tuple[Outcome | None, str, float]:
    """An episode that begins after some faults: its outcome, what was said, and the seconds waited."""
    terminal, clock = Console(file=io.StringIO(), width=200), VirtualClock()

    def run() -> Outcome:
        if faults:
            raise faults.pop(0)
        return DONE

    outcome = performed(run, turns, "Waiting for ws://there", terminal, clock)
    assert isinstance(terminal.file, io.StringIO)
    return outcome, terminal.file.getvalue(), clock.now()


def test_an_episode_whose_policy_is_out_of_reach_is_tried_again() -> None:
    outcome, said, waited = tried([PolicyUnreachable("no answer") for _ in range(3)], Turns(9))
    assert outcome is DONE and waited == 3 * AGAIN
    assert said.count("Waiting for ws://there: no answer") == 1 and "every 1 s" in said


def test_trying_ends_with_the_run() -> None:
    outcome, _, waited = tried([PolicyUnreachable("no answer") for _ in range(9)], Turns(2))
    assert outcome is None and waited == 2 * AGAIN


def test_what_no_waiting_mends_is_raised() -> None:
    with pytest.raises(RobotError, match="the arm is broken"):
        tried([RobotError("the arm is broken")], Turns(9))
    outcome, said, _ = tried([RobotError("the robot is held")], Turns(9, forestalled=True))
    assert outcome is DONE and said == "", "a button that was pressed too early to begin costs no scene"


class Away(NullPolicy):
    """A policy that is out of reach some times, after it was there once to warm up."""

    def __init__(self, spec: EnvSpec, times: int, at_last: Callable[[], None] = lambda: None) -> None:
        super().__init__(spec=spec)
        self._left, self._at_last = [0, *range(times, 0, -1)], at_last

    def init(self, spec: EnvSpec, seeds: Sequence[int]) -> Memory:
        left = self._left.pop(0) if self._left else 0
        if left == 1:
            self._at_last()
        if left:
            raise RobotError("The policy server does not answer")
        return super().init(spec, seeds)


def deployed(
    folder: Path, monkeypatch: pytest.MonkeyPatch, policy: Callable[[EnvSpec], Away], seconds: float = 3
) -> tuple[int, Any]:
    """The exit code and the report of a real robot without a console, which has one episode."""
    monkeypatch.setattr(deploy_live, "load_policy", lambda cfg, spec, robot: policy(spec))
    path = write_robot(folder, driver="wayhand.vla.bridge.robots.template.TemplateDriver", more=PATIENT)
    say = [f"robot={path}", "checkpoint=ws://there", f"seconds={seconds}", "stale_ms=5000", f"out={folder}"]
    code = deploy.main(say)
    return code, json.loads((folder / "deploy.json").read_text())


def test_the_one_episode_of_a_real_robot_waits_for_its_policy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(deploy_live, "AGAIN", 0.2)
    code, report = deployed(tmp_path, monkeypatch, lambda spec: Away(spec, 2))
    assert code == 0 and report["episodes"] == 1 and report["outcomes"][0]["inferences"] >= 1
    assert capsys.readouterr().out.count("Waiting for ws://there: The policy server does not answer") == 1


def test_a_run_in_which_no_episode_begins_has_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(deploy_live, "AGAIN", 0.1)
    code, report = deployed(tmp_path, monkeypatch, lambda spec: Away(spec, 1000), 0.5)
    assert code == 1 and report["episodes"] == 0
    assert "No episode began in 0.5 s" in capsys.readouterr().out


def test_an_interruption_ends_the_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt() -> None:
        threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()

    # A shell without job control starts what runs in the background with Ctrl-C ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        code, report = deployed(tmp_path, monkeypatch, lambda spec: Away(spec, 1, interrupt))
    finally:
        signal.signal(signal.SIGINT, before)
    assert code == 130 and report["episodes"] == 0
    assert "the robot is at rest" in capsys.readouterr().out
