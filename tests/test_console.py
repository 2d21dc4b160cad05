"""A run with a console: its buttons, its instructions, its enable, its death."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import numpy as np
import pytest
from bridge_body import CARTESIAN, LIMITS, ROBOT, START, Steady
from console_pages import Page, Run, console_of, session_of, undisturbed, until
from websockets.exceptions import ConnectionClosed

from wayhand.vla.bridge.console.access import ConsoleSettings
from wayhand.vla.bridge.console.link import Console, Told
from wayhand.vla.bridge.console.monitor import About
from wayhand.vla.bridge.console.panel import HELD, LET_GO, SILENT, WAITING
from wayhand.vla.bridge.recorder import EpisodeRecorder, Tick
from wayhand.vla.bridge.session import Session
from wayhand.vla.contract import Observation
from wayhand.vla.errors import RobotError


@pytest.fixture(scope="module")
def session() -> Iterator[Session]:
    with session_of() as running:
        yield running


def test_the_buttons_start_hold_stop_and_reset(session: Session) -> None:
    def act(console: Console, run: Run, page: Page) -> None:
        assert page.hello["robot"] == "stick" and [j["name"] for j in page.hello["joints"]] == list(LIMITS.names)
        assert page.news()["state"] == "waiting"
        page.tell(do="start")
        driving = page.until(lambda n: n["state"] == "driving" and n.get("command", [None])[0] is not None and n["age"])
        assert len(driving["measured"]) == 3 and driving["loop"]["loop"] == "100 Hz"
        page.until(lambda n: page.pictures.get(0, b"")[:2] == b"\xff\xd8")
        page.tell(do="hold")
        assert page.until(lambda n: n["state"] == "waiting" and run.outcomes)["reason"] == HELD
        epoch = session.status.epoch
        page.tell(do="start")
        page.until(lambda n: n["state"] == "driving" and session.status.epoch > epoch and not session.status.latched)
        page.tell(do="estop")
        page.until(lambda n: n["estop"] and len(run.outcomes) == 2)
        assert session.estop.pressed and session.status.latched
        assert run.outcomes[1].reason == "emergency stop: web console"
        page.tell(do="start")
        page.tell(do="reset")
        page.until(lambda n: n["state"] == "waiting" and not n["estop"])
        time.sleep(0.2)
        assert len(run.outcomes) == 2 and session.status.latched, "a reset starts nothing, nor a start before it"
        page.tell(do="start")
        page.until(lambda n: n["state"] == "driving")

    undisturbed(session, act)


def test_instructions_reach_the_policy(session: Session) -> None:
    with console_of(session) as console:
        told = Told(Steady(0.0), console)
        heard: list[str] = []
        told._policy.chunk_for = lambda o, call: heard.append(o.instruction)  # type: ignore[method-assign]
        seen = Observation({"state": 0.0}, {}, np.zeros(3, np.float32), "push")
        told.act([seen], 0, rng=[])
        page = Page(console)
        with closing(page):
            for text in ("", " ", None, 3, "x" * 5000, "a\0b", "\ud800"):
                page.refused = ""
                page.tell(do="instruction", text=text)
                page.until(lambda n: page.refused)
            assert console.instruction is None
            page.tell(do="instruction", text="  stack   the cubes ")
            assert page.until(lambda n: n["instruction"] == "stack the cubes")
        told.act([seen], 0, rng=[])
        assert heard == ["push", "stack the cubes"]


class Noted:
    """A console that says what it is told to say, and remembers what is to be recorded."""

    def __init__(self) -> None:
        self.instruction: str | None = None
        self.told: list[tuple[float, str]] = []

    def note(self, *, told: list[tuple[float, str]]) -> None:
        self.told = list(told)


def test_what_was_told_when_is_recorded() -> None:
    console: Any = Noted()
    told = Told(Steady(0.0), console)

    def act(t: float) -> None:
        told.act([Observation({"state": t}, {}, np.zeros(3, np.float32), "push")], 0, rng=[])

    told.init(CARTESIAN, [0])
    act(10.0)
    assert console.told == []
    console.instruction = "stack"
    act(12.5)
    act(13.0)
    assert console.told == [(2.5, "stack")]
    told.init(CARTESIAN, [0])
    act(20.0)
    assert console.told == [(0.0, "stack")], "the next episode has it from its beginning"


@pytest.mark.parametrize(
    ("told", "instruction"), [([], "push"), ([(1.5, "stack")], "push"), ([(0.0, "stack")], "stack")]
)
def test_an_instruction_told_from_the_beginning_is_the_episodes(
    told: list[tuple[float, str]], instruction: str
) -> None:
    recorder = EpisodeRecorder(ROBOT, 100.0)
    for k in range(3):
        seen = Observation({"state": 0.05 * k, "front": 0.05 * k}, {"front": np.zeros((4, 4, 3), np.uint8)},
                           np.zeros(3, np.float32), "push", extras={"ee_target": np.zeros(7, np.float32)})  # fmt: skip
        recorder.tick(Tick(0.05 * k, 0.0, None, START, False, 0.0))
        recorder.observe(seen)
    episode = recorder.finish(None, {"told": told})
    assert episode is not None and episode.instruction == instruction and episode.provenance["told"] == told


def test_what_is_no_message_harms_nobody(session: Session) -> None:
    with console_of(session) as console:
        page = Page(console)
        with closing(page):
            starts = session.panel.starts
            for raw in ("", "{", "[]", "null", '{"do": []}', "[" * 9000, '{"do": "fly"}', b"\x00\xff"):
                page.socket.send(raw)
            page.until(lambda n: page.refused)
            assert page.news()["state"] == "waiting" and console.alive
            assert not session.estop.pressed and session.panel.starts == starts


def test_a_killed_console_stops_nothing_where_it_holds_no_enable(session: Session) -> None:
    def act(console: Console, run: Run, page: Page) -> None:
        page.tell(do="start")
        page.until(lambda n: n["state"] == "driving")
        kill(console)
        ticks = session.status.ticks
        until(lambda: session.status.ticks > ticks + 100)
        assert not session.status.latched and not run.outcomes, "the run goes on"

    undisturbed(session, act)


def test_a_killed_console_that_holds_the_enable_stops_the_robot(session: Session) -> None:
    def act(console: Console, run: Run, page: Page) -> None:
        with gripped(page):
            page.until(lambda n: n["state"] == "driving")
            kill(console)
            until(lambda: run.outcomes, "the stop")
        assert run.outcomes[0].reason == SILENT and session.status.latched
        until(lambda: run.over, "the end: nobody can start the robot any more")

    undisturbed(session, act)


def test_letting_go_holds_and_gripping_goes_on(session: Session) -> None:
    def act(console: Console, run: Run, page: Page) -> None:
        for count in (1, 2):
            with gripped(page), closing(Page(console)) as other:
                page.until(lambda n: n["state"] == "driving")
                other.tell(do="release")  # of what it does not hold
            page.until(lambda n, count=count: n["state"] == "waiting" and len(run.outcomes) == count)
            assert run.outcomes[-1].reason == LET_GO
        assert session.panel.phase == WAITING

    undisturbed(session, act)


def kill(console: Console) -> None:
    assert console.pid is not None
    os.kill(console.pid, signal.SIGKILL)
    until(lambda: not console.alive)


@contextmanager
def gripped(page: Page) -> Iterator[None]:
    """The enable button is held meanwhile."""
    page.tell(do="require", on=True)
    page.tell(do="start")  # of no avail
    page.tell(do="enable")
    ended = threading.Event()

    def beat() -> None:
        try:
            while not ended.wait(0.05):
                page.tell(do="beat")
        except ConnectionClosed:
            pass

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        try:
            page.tell(do="release")
        except ConnectionClosed:
            pass


def test_a_console_cannot_take_an_address_that_is_taken(session: Session) -> None:
    with console_of(session) as console:
        port = int(console.url.partition("/?token=")[0].rpartition(":")[2])
        with pytest.raises(RobotError, match="cannot start"):
            Console(session=session, settings=ConsoleSettings(port=port), about=About(100.0))
