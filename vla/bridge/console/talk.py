"""The conversation with one open page: news out, presses in. Runs on the proxy's event loop."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from ...contract import encode_text
from ...errors import SpecError
from ..cells import EmergencyStop
from ..clock import MonotonicClock
from .gizmo import Gizmo
from .panel import Panel

WHO = "web console"


class Talk:
    """All pages of one console.

    Args:
        panel, estop: what is pressed.
        hello: what a page is told first.
        instruct: takes a new instruction.
        gizmo: the hand, where the run lets the robot be moved by hand.

    `publish` and `picture` hand out news; a page that is slow misses some and gets the newest.
    """

    def __init__(
        self,
        panel: Panel,
        estop: EmergencyStop,
        hello: dict[str, Any],
        instruct: Callable[[str], None],
        gizmo: Gizmo | None = None,
    ) -> None:
        self._panel, self._estop, self._instruct, self._gizmo = panel, estop, instruct, gizmo
        self._hello = json.dumps({"hello": {**hello, "hand": gizmo is not None}})
        self._clock = MonotonicClock()
        self._pages: dict[ServerConnection, _Outbox] = {}
        self._holder: ServerConnection | None = None

    @property
    def pages(self) -> int:
        """How many are open."""
        return len(self._pages)

    def publish(self, news: str) -> None:
        for page in self._pages.values():
            page.put(-1, news)

    def picture(self, camera: int, jpeg: bytes) -> None:
        for page in self._pages.values():
            page.put(camera, bytes([camera]) + jpeg)

    async def __call__(self, connection: ServerConnection) -> None:
        """Serve one page until it closes."""
        outbox = self._pages[connection] = _Outbox()
        await connection.send(self._hello)
        sender = asyncio.create_task(outbox.deliver(connection))
        try:
            async for message in connection:
                refused = self._hear(connection, message)
                if refused:
                    await connection.send(json.dumps({"refused": refused}))
        finally:
            del self._pages[connection]
            self._let_go(connection)
            if self._gizmo is not None:
                self._gizmo.gone(connection)
            sender.cancel()
            await asyncio.gather(sender, return_exceptions=True)

    def _hear(self, page: ServerConnection, message: str | bytes) -> str:
        """Obey; why not, where not."""
        try:
            told = json.loads(message)
            what = told["do"]
        except (ValueError, TypeError, KeyError, RecursionError):
            return "This message is not one"
        if what == "estop":
            self._estop.press(WHO)
        elif what == "hold":
            self._panel.hold()
        elif what == "start" and not self._panel.required:
            self._panel.start()
        elif what == "reset":
            self._panel.reset()
        elif what == "require":
            self._holder = None
            self._panel.require(told.get("on") is True)
        elif what == "enable" and self._panel.required:
            self._holder = page
            self._panel.renew(self._clock.now())
            self._panel.start()
        elif what == "beat" and self._holder is page:
            self._panel.renew(self._clock.now())
        elif what == "release":
            self._let_go(page)
        elif what == "hand" and self._gizmo is not None:
            return self._gizmo.hear(page, told, self._clock.now())
        elif what == "instruction":
            return self._take(told.get("text"))
        return ""

    def _let_go(self, page: ServerConnection) -> None:
        if self._holder is page:
            self._holder = None
            self._panel.let_go()

    def _take(self, text: Any) -> str:
        try:
            if not isinstance(text, str) or not text.strip():
                return "An instruction is some words"
            encode_text(" ".join(text.split()))
        except (SpecError, UnicodeEncodeError):
            return "This instruction is too long"
        self._instruct(" ".join(text.split()))
        return ""


class _Outbox:
    """The newest message of every kind that a page has not been sent."""

    def __init__(self) -> None:
        self._waiting: dict[int, str | bytes] = {}
        self._news = asyncio.Event()

    def put(self, kind: int, message: str | bytes) -> None:
        self._waiting[kind] = message
        self._news.set()

    async def deliver(self, connection: ServerConnection) -> None:
        try:
            while True:
                await self._news.wait()
                self._news.clear()
                while self._waiting:
                    await connection.send(self._waiting.pop(next(iter(self._waiting))))
        except ConnectionClosed:
            pass
