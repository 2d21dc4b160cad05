"""A console for tests: a token, pages without a browser, and a run to watch."""

from __future__ import annotations

import http.client
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import bridge_body
import pytest
from bridge_body import CARTESIAN, Plane, Steady, StickBody
from websockets.sync.client import connect
from websockets.sync.connection import Connection

from wayhand.vla.bridge.chunking import JointTargets
from wayhand.vla.bridge.console.access import ConsoleSettings
from wayhand.vla.bridge.console.link import Console, Told
from wayhand.vla.bridge.console.model3d import Model3D
from wayhand.vla.bridge.console.monitor import About
from wayhand.vla.bridge.console.panel import SILENT
from wayhand.vla.bridge.planner import Planner
from wayhand.vla.bridge.process import LoopSettings
from wayhand.vla.bridge.sensors import Plausibility
from wayhand.vla.bridge.session import Episode, Session
from wayhand.vla.errors import RobotError

TOKEN = "a-token-of-enough-length"
WAIT = 60.0
"""Seconds after which a test gives up waiting; nothing takes that long on a machine that has time."""
PATIENT = LoopSettings(
    rate_hz=100.0, traced=True, stale=5.0, oldest=5.0, longest=9.0,
    plausibility=Plausibility(late=20.0, old_image=20.0, lag=20.0),
)  # fmt: skip
"""Of a loop whose test is not about time."""


STARVED = (*bridge_body.STARVED, SILENT)
"""What a run says where the machine had no processor for it."""


class Disturbed(Exception):
    """The machine was too busy for a robot."""


class LongBody(StickBody):
    """An arm that reaches nothing for a minute."""

    time_limit = 60.0

    def __init__(self) -> None:
        super().__init__(goal=9.0)


def until(true: Callable[[], Any], what: str = "it") -> None:
    deadline = time.monotonic() + WAIT
    while not true():
        assert time.monotonic() < deadline, f"{what} did not happen"
        time.sleep(0.01)


def get(port: int, path: str, headers: dict[str, str] | None = None) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of a GET."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT)) as connection:
        connection.request("GET", path, headers=headers or {})
        response = connection.getresponse()
        return response.status, {k.lower(): v for k, v in response.getheaders()}, response.read()


def entered(port: int, token: str = TOKEN) -> str:
    """The cookie of one who knows the token."""
    status, headers, _ = get(port, f"/?token={token}")
    assert status == 303 and headers["location"] == "/", "the token leaves the address bar"
    return headers["set-cookie"].partition(";")[0]


def opened(port: int, path: str, cookie: str | None, origin: str | None = None, **more: Any) -> Connection:
    headers = {} if cookie is None else {"Cookie": cookie}
    return connect(
        f"ws://127.0.0.1:{port}{path}", additional_headers=headers, origin=origin or f"http://127.0.0.1:{port}",
        proxy=None, compression=None, **more,
    ).__enter__()  # fmt: skip


class Page:
    """A page without a browser."""

    def __init__(self, console: Console) -> None:
        address, _, token = console.url.partition("/?token=")
        port = int(address.rpartition(":")[2])
        self.socket = opened(port, "/panel", entered(port, token))
        self.pictures: dict[int, bytes] = {}
        self.refused = ""
        self.hello: dict[str, Any] = json.loads(self.socket.recv(WAIT))["hello"]

    def news(self) -> dict[str, Any]:
        """The next state of the run."""
        while True:
            message = self.socket.recv(WAIT)
            if isinstance(message, bytes):
                self.pictures[message[0]] = message[1:]
            elif "refused" in (told := json.loads(message)):
                self.refused = told["refused"]
            else:
                return told

    def tell(self, **what: Any) -> None:
        self.socket.send(json.dumps(what))

    def until(self, true: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
        """Read news until they are so."""
        deadline = time.monotonic() + WAIT
        while not true(news := self.news()):
            if news["reason"].startswith(STARVED):
                raise Disturbed(news["reason"])
            assert time.monotonic() < deadline, f"the page still says {news}"
        return news

    def close(self) -> None:
        self.socket.close()


def undisturbed(session: Session, act: Callable[[Console, Run, Page], None], model: Any = None) -> None:
    """Do `act` with a run that waits for Start; again where the machine was too busy for a robot, and not for ever."""
    for _ in range(4):
        with console_of(session, model) as console, Run(session, console) as run, closing(Page(console)) as page:
            try:
                act(console, run, page)
                return
            except (Disturbed, AssertionError):
                starved = any(o.reason.startswith(STARVED) for o in run.outcomes)
                if not (starved or isinstance(sys.exception(), Disturbed)):
                    raise
    pytest.skip("this machine has no time for a robot in real time")


def make_planner(session: Session, console: Console | None = None, delta: float = 0.0005) -> Planner:
    targets = JointTargets(policy=CARTESIAN, robot=session.spec, kinematics=Plane())
    policy: Any = Steady(delta)
    return Planner(policy=Told(policy, console) if console else policy, spec=CARTESIAN, targets=targets)


@contextmanager
def console_of(session: Session, model: Callable[[], Model3D] | None = None) -> Iterator[Console]:
    """A console of a run that nobody has touched yet."""
    session.estop.release()
    with Console(session=session, settings=ConsoleSettings(port=0), about=About(100.0), model=model) as console:
        yield console


@contextmanager
def session_of(settings: LoopSettings = PATIENT) -> Iterator[Session]:
    with Session(factory=LongBody, settings=settings) as session:
        yield session


class Run:
    """Context manager: episodes in a thread of their own, as `wayhand deploy` runs them."""

    def __init__(self, session: Session, console: Console) -> None:
        self.outcomes: list[Any] = []
        self.error: Exception | None = None
        self._session, self._console = session, console
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        try:
            while self._console.wait():
                try:
                    outcome = self._session.run(Episode(0, {}, 4, 0.0), make_planner(self._session, self._console))
                except RobotError:
                    if not self._console.forestalled:
                        raise
                    continue
                self.outcomes.append(outcome)
                self._console.ended(outcome.reason)
        except Exception as error:
            self.error = error

    @property
    def over(self) -> bool:
        return not self._thread.is_alive()

    def __enter__(self) -> Run:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._session.estop.press("the end of the test")
        if self._console.alive and self._console.pid is not None:
            os.kill(self._console.pid, signal.SIGKILL)
        self._thread.join(WAIT)
        assert self.over and self.error is None, self.error
