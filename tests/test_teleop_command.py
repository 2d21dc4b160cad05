"""`wayhand teleop` and `wayhand deploy takeover=` in a terminal, from what is typed to the datasets."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import pytest
from bridge_body import CARTESIAN, STARVED
from terminals import Terminal

from wayhand.datasets.store import Dataset
from wayhand.scripts import teleop
from wayhand.scripts.cli import main as cli
from wayhand.vla.bridge.teleop.labels import human_rows

PROGRAM = [sys.executable, str(Path(__file__).with_name("stick_robot.py"))]
ENTER, BACKSPACE, LEAVE, TAKE, FORWARD = b"\r", b"\x7f", b"x", b"t", b"w"
READY = r"kept · ready"
DRIVING = r"(?P<driving>scene \d+ · +(0\.[3-9]|[1-9][\d.]*) s)"
ENDED = r"scene \d+: (?P<end>kept|discarded|not recorded) after [\d.]+ s: (?P<why>[^\n]*)"
OVER = "new demonstrations"


class Operator:
    """Somebody who reads the screen, and types when it is time."""

    def __init__(self, terminal: Terminal) -> None:
        self._terminal, self._seen = terminal, 0

    def sees(self, pattern: str) -> dict[str, str | None]:
        found = self._terminal.until(pattern, self._seen)
        self._seen = found.end()
        return found.groupdict()

    def drives(self, keys: bytes, end: bytes) -> str:
        """One episode with `keys` held, ended by a key: what became of it, or nothing where the run ended too.

        It is driven again where the machine had no processor for a robot.
        """
        for _ in range(5):
            self.sees(READY)
            self._terminal.type(ENTER)
            told = self.sees(f"{DRIVING}|{ENDED}")
            if told["driving"] is not None:
                for _ in range(5):  # as a terminal repeats
                    self._terminal.type(keys)
                    time.sleep(0.05)
                self._terminal.type(end)
                told = self.sees(f"{ENDED}|{OVER}")
            if told["why"] is None or told["why"].startswith("you said so"):
                return told["end"] or ""
            assert told["why"].startswith(STARVED)
        pytest.skip("this machine has no time for a robot in real time")


def test_what_is_kept_is_in_the_dataset_and_what_is_discarded_is_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "hand"
    command = [*PROGRAM, "teleop", f"out={out}", "episodes=3", "linear=0.2", "env=tabletop/reach"]
    with Terminal(command, tmp_path) as terminal:
        operator = Operator(terminal)
        assert operator.drives(FORWARD, ENTER) == "kept"
        assert operator.drives(FORWARD, BACKSPACE) == "discarded"
        operator.drives(FORWARD, LEAVE)
        assert terminal.wait() == 0
        kept = terminal.shown.count("kept after")  # the one, but for a key that came after a stop
        assert f"{kept} {OVER}" in terminal.shown
    assert cli(["data", "validate", str(out)]) == 0
    assert f"{kept} episodes" in capsys.readouterr().out
    dataset = Dataset(out)
    assert len(dataset) == kept >= 1 and dataset.spec.diff(CARTESIAN) == []
    assert dataset.provenance(0)["demonstrator"] == "human, keyboard"
    # Forwards, and in all no further than the hand goes in that time.
    columns = dataset.episode(0).columns
    steps, seconds = columns["action"][:, 0], np.ptp(columns["observation.times.state"]) + CARTESIAN.control_dt
    assert 0.2 * seconds + 4e-3 >= steps.sum() > 0
    assert teleop.resume_point(out, 0) == (kept, kept)


def test_taking_over_from_a_policy_becomes_corrections(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs, out = tmp_path / "runs", tmp_path / "corrections"
    command = [*PROGRAM, "deploy", "checkpoint=none", "takeover=keyboard", f"record={runs}", f"out={tmp_path}"]
    command += ["env=tabletop/reach", "stale_ms=5000", "execute=2", "seconds=600"]
    with Terminal(command, tmp_path) as terminal:
        operator = Operator(terminal)
        for _ in range(2):
            operator.sees(r"episode \d+ at +[1-9]")
            terminal.type(TAKE)
            for _ in range(8):
                terminal.type(FORWARD)
                time.sleep(0.05)
            terminal.type(TAKE)
        operator.sees(r"episode \d+ at +[1-9]")
        terminal.type(b" ")
        assert terminal.wait() == 0 and "emergency stop: keyboard" in terminal.shown
        starved = any(reason in terminal.shown for reason in STARVED)
    assert cli(["data", "validate", str(runs)]) == 0
    if cli(["data", "corrections", str(runs), f"out={out}"]) != 0 and starved:
        pytest.skip("this machine has no time for a robot in real time")
    assert cli(["data", "validate", str(out)]) == 0
    capsys.readouterr()
    source, made = Dataset(runs), Dataset(out)
    assert made.spec.diff(CARTESIAN) == [] and len(made) >= 1
    assert made.frames == sum(int(human_rows(source.episode(i)).sum()) for i in range(len(source)))
    forwards = np.concatenate([made.episode(i).columns["action"][:, 0] for i in range(len(made))])
    assert forwards.sum() > 0, "the policy stands still, so whoever moved was the human"


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
