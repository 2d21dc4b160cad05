"""The console's process: reads the run's shared memory, shows it, and writes nothing but buttons."""

from __future__ import annotations

import json
import os
import secrets
import signal
from collections.abc import Callable, Mapping
from contextlib import ExitStack, redirect_stdout
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection

from ...contract import INSTRUCTION_BYTES, EnvSpec, decode_text, encode_text
from ..child import reporting
from ..clock import MonotonicClock
from ..limits import Limits
from ..loop_link import LoopLink
from ..robots.link import RobotLink, tell
from ..shared import Layout, Ring
from ..teleop.cell import HandCell
from ..tls import server_context
from .access import Access, ConsoleSettings
from .gizmo import Gizmo
from .model3d import Model3D
from .monitor import About, Monitor
from .pages import pages
from .proxy import Backend, Proxy
from .talk import Talk
from .view import View

INSTRUCTION = Layout.of(text=((INSTRUCTION_BYTES,), "uint8"))
"""What the console tells the policy to do; its only writer is the console."""
PERIOD = 0.05
"""Seconds between two looks at the rings."""
PICTURES = 2
"""Looks between two pictures of every camera."""
_QUALITY = 85


@dataclass(frozen=True)
class ConsoleNames:
    """Shared memory by name: the rings of a `RobotLink` and of a `LoopLink`, the ring of `INSTRUCTION`, and the cell of
    the hand, empty where the run does not let the robot be moved by hand."""

    robot: Mapping[str, str]
    loop: Mapping[str, str]
    instruction: str
    hand: str = ""


def serve(
    settings: ConsoleSettings,
    spec: EnvSpec,
    limits: Limits,
    about: About,
    names: ConsoleNames,
    model: Callable[[], Model3D] | None,
    pipe: Connection,
) -> None:
    """Tells `{"port", "token"}` once it listens, then serves until its parent closes the pipe."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with reporting(pipe), ExitStack() as stack:
        os.nice(5)  # the robot goes first
        quiet = stack.enter_context(open(os.devnull, "w", encoding="utf-8"))
        stack.enter_context(redirect_stdout(quiet))  # viser announces itself
        _Served(stack, settings, spec, limits, about, names, model, pipe).run()


class _Served:
    def __init__(
        self,
        stack: ExitStack,
        settings: ConsoleSettings,
        spec: EnvSpec,
        limits: Limits,
        about: About,
        names: ConsoleNames,
        model: Callable[[], Model3D] | None,
        pipe: Connection,
    ) -> None:
        self._pipe = pipe
        robot, loop = RobotLink(spec, names.robot), LoopLink(spec.action_dim, names.loop)
        self._instruction = Ring(INSTRUCTION, 4, names.instruction)
        self._told: str | None = None
        self._estop = loop.estop
        for link in (robot, loop, self._instruction):
            stack.callback(link.close)
        self._monitor = Monitor(robot, loop, loop.panel, limits, about)
        self._view = None if model is None else View(model())
        if self._view is not None:
            stack.callback(self._view.close)
        token = settings.token or secrets.token_urlsafe(24)
        access = Access(token, secure=settings.tls is not None)
        self._gizmo = None
        if names.hand:
            cell = HandCell(names.hand)
            stack.callback(cell.close)
            self._gizmo = Gizmo(cell, robot)
            if self._view is not None:
                self._gizmo.attach(self._view.scene)
        hello = self._monitor.hello("" if self._view is None else f"{access.view}/?hideViserLogo&darkMode")
        self._talk = Talk(loop.panel, loop.estop, hello, self._instruct, self._gizmo)
        backend = Backend(
            self._talk,
            pages(None if self._view is None else self._view.page),
            None if self._view is None else self._view.port,
        )
        tls = None if settings.tls is None else server_context(*settings.tls)
        self._proxy = stack.enter_context(Proxy(replace(settings, token=token), access, backend, tls))
        tell(pipe, {"port": self._proxy.port, "token": "" if settings.token else token})

    def _instruct(self, text: str) -> None:
        self._told = text
        self._instruction.write(text=encode_text(text))

    def run(self) -> None:
        clock = MonotonicClock()
        looks = 0
        while not self._pipe.poll(PERIOD):  # nothing is ever sent: what arrives is the end
            if not self._talk.pages:
                continue
            looks += 1
            if self._gizmo is not None:
                self._gizmo.look()
            news = json.dumps(self._monitor.look(clock.now(), self._told, self._estop))
            self._proxy.soon(self._talk.publish, news)
            if looks % PICTURES == 0:
                self._send_pictures()
            if self._view is not None and self._view.watched and (q := self._monitor.measured()) is not None:
                self._view.move(q)

    def _send_pictures(self) -> None:
        import simplejpeg

        for camera, image in enumerate(self._monitor.images()):
            self._proxy.soon(self._talk.picture, camera, simplejpeg.encode_jpeg(image, quality=_QUALITY))


def read_instruction(ring: Ring) -> str | None:
    """What the console said last; None where it said nothing."""
    record = ring.latest()
    return None if record is None else decode_text(record["text"])
