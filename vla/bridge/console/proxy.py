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
import logging
import ssl
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import msgpack
from websockets.asyncio.client import connect
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed, InvalidHandshake
from websockets.frames import CloseCode
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from ...errors import RobotError
from .access import Access, ConsoleSettings, same_origin
from .gizmo import is_drag
from .pages import LOGIN, Page

_QUIET = logging.getLogger("wayhand.console.websockets")
_QUIET.setLevel(logging.CRITICAL)  # a port scanner must not fill the log with tracebacks
START_TIMEOUT = 10.0
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


class Proxy:
    """Context manager: listens from its start to its end, on an event loop of its own.

    `port` is the one it listens on. Raises `RobotError` where the address cannot be had.
    """

    def __init__(self, settings: ConsoleSettings, access: Access, backend: Backend, tls: ssl.SSLContext | None) -> None:
        self._settings, self._access, self._backend, self._tls = settings, access, backend, tls
        self._listening: Future[int] = Future()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._open = 0
        self._thread = threading.Thread(target=self._run, name="console", daemon=True)
        self.port = 0

    def __enter__(self) -> Proxy:
        self._thread.start()
        try:
            self.port = self._listening.result(START_TIMEOUT)
        except OSError as error:
            self._thread.join()
            where = f"{self._settings.host}:{self._settings.port}"
            raise RobotError("The console cannot listen there", got=f"{where}: {error.strerror}") from None
        return self

    def __exit__(self, *_: object) -> None:
        if self._loop is not None and self._stop is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def soon(self, call: Callable[..., Any], *args: Any) -> None:
        """Call it on the event loop's thread."""
        assert self._loop is not None
        self._loop.call_soon_threadsafe(call, *args)

    # --- on the event loop's thread ----------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            asyncio.run(self._main())
        except Exception as error:
            if not self._listening.done():
                self._listening.set_exception(error)
            else:
                _QUIET.exception("the console failed")

    async def _main(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        server: Server = await serve(
            self._serve,
            self._settings.host,
            self._settings.port,
            ssl=self._tls,
            compression=None,
            max_size=INWARDS,
            max_queue=8,
            process_request=self._admit,
            select_subprotocol=_first,
            server_header=None,
            ping_interval=_IDLE,
            ping_timeout=_IDLE,
            close_timeout=1.0,
            logger=_QUIET,
        )
        async with server:
            self._listening.set_result(next(iter(server.sockets)).getsockname()[1])
            await self._stop.wait()
            server.close()

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
                max_queue=4, proxy=None, close_timeout=1.0, logger=_QUIET,
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
