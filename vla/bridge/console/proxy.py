"""The only way in: pages and websockets for browsers that proved the token, and nothing else.

Two websockets go through. `/panel` is ours: what the robot does, outwards; what the operator presses, inwards.
`/view/…` leads to viser, which listens on the loopback only; inwards nothing passes but where the viewer's camera is,
and where the hand was dragged to, which counts only while our own page has taken it.
viser's page lives in a sandbox, where it can neither press what is on ours nor, in browsers that give a sandbox a
process of its own, keep ours waiting while it draws.
"""

from __future__ import annotations

import asyncio
import http
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import msgpack
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed, InvalidHandshake
from websockets.frames import CloseCode
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from ..listener import QUIET, Listener
from .access import Access, ConsoleSettings, same_origin
from .gizmo import is_drag
from .pages import LOGIN, Page

INWARDS = 64 * 2**10
"""Bytes of a message from a browser."""
OUTWARDS = 64 * 2**20
"""Bytes of a message from viser."""
GUESSING = 0.5
"""Seconds that a wrong token costs."""
_IDLE = 10.0
_VIEWERS_SAY = "ViewerCameraMessage"


@dataclass(frozen=True)
class Backend:
    """What lies behind the proxy.

    Args:
        panel: talks with one page, until its connection ends.
        pages: what is shown at which path; viser's page at `/view`.
        view_port: viser's, on the loopback; None where there is no 3D view.
    """

    panel: Callable[[ServerConnection], Awaitable[None]]
    pages: dict[str, Page]
    view_port: int | None


class Proxy(Listener):
    """Context manager: listens from its start to its end, in a thread of its own.

    `port` is the one it listens on. Raises `RobotError` where the address cannot be had.
    """

    def __init__(self, settings: ConsoleSettings, access: Access, backend: Backend, tls: ssl.SSLContext | None) -> None:
        super().__init__(
            "console", settings.host, settings.port, idle=_IDLE, ssl=tls, max_queue=8, max_size=INWARDS,
            select_subprotocol=_first,
        )  # fmt: skip
        self._settings, self._access, self._backend = settings, access, backend
        self._open = 0

    async def _admit(self, connection: ServerConnection, request: Request) -> Response | None:
        """Answers plain HTTP; None lets a websocket begin."""
        path = urlsplit(request.path).path
        if path == "/healthz":
            return connection.respond(http.HTTPStatus.OK, "OK\n")
        given = self._access.token_in(request.path)
        if given:
            headers = [("Location", path), ("Set-Cookie", self._access.cookie())]
            return _respond(http.HTTPStatus.SEE_OTHER, Page(b"", "text/plain"), headers)
        if given is False:
            await asyncio.sleep(GUESSING)
        if self._access.admits_view(path):
            if request.headers.get("Upgrade") is not None:
                return self._room(connection)
            path = "/view"
        elif not self._access.admits(request.headers.get_all("Cookie")):
            return _respond(http.HTTPStatus.UNAUTHORIZED, LOGIN)
        elif path == "/panel":
            return self._panel(connection, request)
        page = self._backend.pages.get(path)
        if page is None:
            return connection.respond(http.HTTPStatus.NOT_FOUND, "not found\n")
        return _respond(http.HTTPStatus.OK, page)

    def _panel(self, connection: ServerConnection, request: Request) -> Response | None:
        if not same_origin(request.headers.get_all("Origin"), request.headers.get_all("Host")):
            return connection.respond(http.HTTPStatus.FORBIDDEN, "another page's websocket\n")
        return self._room(connection)

    def _room(self, connection: ServerConnection) -> Response | None:
        if self._open >= 2 * self._settings.clients:  # every page opens two
            return connection.respond(http.HTTPStatus.SERVICE_UNAVAILABLE, "too many pages\n")
        return None

    async def _serve(self, connection: ServerConnection) -> None:
        request = connection.request
        assert request is not None
        self._open += 1
        try:
            if urlsplit(request.path).path == "/panel":
                await self._backend.panel(connection)
            elif self._backend.view_port is not None:
                await self._view(connection, self._backend.view_port)
        except ConnectionClosed:
            pass
        finally:
            self._open -= 1

    async def _view(self, browser: ServerConnection, port: int) -> None:
        """Between a browser and viser; the end of either is the end of both."""
        spoken = [Subprotocol(browser.subprotocol)] if browser.subprotocol else None
        try:
            opened = connect(
                f"ws://127.0.0.1:{port}", subprotocols=spoken, compression=None, max_size=OUTWARDS,
                max_queue=4, proxy=None, close_timeout=1.0, logger=QUIET,
            )  # fmt: skip
            async with opened as viser:
                tasks = {asyncio.create_task(_outwards(viser, browser)), asyncio.create_task(_inwards(browser, viser))}
                _, left = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                for task in left:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
        except (OSError, InvalidHandshake):
            await browser.close(CloseCode.TRY_AGAIN_LATER, "no view")


async def _outwards(viser: Any, browser: ServerConnection) -> None:
    async for message in viser:
        await browser.send(message)


async def _inwards(browser: ServerConnection, viser: Any) -> None:
    async for message in browser:
        if isinstance(message, bytes) and _harmless(message):
            await viser.send(message)


def _harmless(message: bytes) -> bool:
    """Whether a viewer says where its camera is, or where the hand was dragged to: all that viser needs to hear."""
    try:
        told = msgpack.unpackb(message, strict_map_key=True)
    except (ValueError, msgpack.UnpackException):
        return False
    return isinstance(told, dict) and (told.get("type") == _VIEWERS_SAY or is_drag(told))


def _first(connection: ServerConnection, offered: Any) -> Subprotocol | None:
    """viser names its version as a subprotocol and judges it itself."""
    return offered[0] if offered and len(offered[0]) <= 32 else None


def _respond(status: http.HTTPStatus, page: Page, more: list[tuple[str, str]] | None = None) -> Response:
    headers = Headers(page.headers())
    for name, value in more or ():
        headers[name] = value
    return Response(status.value, status.phrase, headers, page.body)
