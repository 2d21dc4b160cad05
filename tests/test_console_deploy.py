"""`wayhand deploy console=true shadow=true`: what is refused before anything moves, and who may begin when."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from rich.console import Console as Terminal

from wayhand.scripts.deploy import main
from wayhand.scripts.deploy_console import Turns
from wayhand.scripts.simulated import SimulatedBodyFactory
from wayhand.vla.bridge.cells import EmergencyStop
from wayhand.vla.config import Config
from wayhand.vla.errors import ConfigError

NOTHING = ["checkpoint=none", "env=tabletop/pick"]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["console=true", "console_host=0.0.0.0"], "could drive the robot"),
        (["console=true", "console_host=192.168.1.7"], "could drive the robot"),
        (["console=true", "console_port=99999"], "out of range"),
        (["console=true", "console_certificate=cert.pem"], "certificate and its key"),
        (["console=true", "virtual=true"], "console=true is for real time"),
    ],
)
def test_mistakes_are_told_before_anything_starts(
    overrides: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WAYHAND_TOKEN", raising=False)
    with pytest.raises(ConfigError, match=message):
        main([*NOTHING, *overrides])


class Watched:
    """A console whose operator takes some time to press Start, until it is gone."""

    def __init__(self, answers: list[bool], alive: list[bool]) -> None:
        self._answers, self._alive = answers, alive
        self.reasons: list[str] = []

    def wait(self) -> bool:
        time.sleep(0.05)
        return self._answers.pop(0)

    @property
    def alive(self) -> bool:
        return self._alive.pop(0)

    def ended(self, reason: str) -> None:
        self.reasons.append(reason)


class Stoppable:
    def __init__(self, estop: EmergencyStop) -> None:
        self.estop = estop


@pytest.fixture
def session() -> Iterator[Any]:
    with closing(EmergencyStop()) as button:
        yield Stoppable(button)


def test_without_a_console_a_run_ends_by_its_seconds_or_its_button(session: Any) -> None:
    terminal = Terminal(file=io.StringIO())
    assert not Turns(None, session, 0.0, terminal).next()
    turns = Turns(None, session, 60.0, terminal)
    assert turns.next()
    session.estop.press("somebody")
    assert not turns.next()


def test_with_a_console_waiting_does_not_count(session: Any) -> None:
    said = io.StringIO()
    console: Any = Watched([True, True, False], [True, False, False])
    turns = Turns(console, session, 60.0, Terminal(file=said, width=200))
    before = turns.end
    assert turns.next() and turns.end >= before + 0.05
    turns.ended("a fault")
    assert console.reasons == ["a fault"] and said.getvalue() == ""
    assert turns.next() and "goes on without it" in said.getvalue()
    assert not turns.next() and said.getvalue().count("The console is gone") == 1


def test_the_simulated_arm_is_drawn_without_what_nobody_measures() -> None:
    pytest.importorskip("trimesh", reason="primitives are drawn with trimesh, which comes with viser")
    model = SimulatedBodyFactory(env=Config({"_target_": "wayhand.envs.tabletop.env.TabletopEnv"})).model()
    drawn = {model.model.body(part.body).name for part in model.parts()}
    assert "world" in drawn and any(name.startswith("robot/") for name in drawn)
    assert not any(name.startswith(("slot", "bin", "chest", "drawer")) for name in drawn)
