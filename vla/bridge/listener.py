"""A websocket server in a thread of its own, so that nobody waits for a slow page or client."""

from __future__ import annotations

import asyncio
import logging
import threading
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from typing import Any, Self

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.http11 import Request, Response

from ..errors import RobotError

QUIET = logging.getLogger("wayhand.websockets")
QUIET.setLevel(logging.CRITICAL)  # a port scanner must not fill the log with tracebacks
LOG = logging.getLogger("wayhand.listener")
START_TIMEOUT = 10.0


class Listener(ABC):
    """Context manager: listens from its start to its end, on an event loop of its own.

    Args:
        name: for messages and of the thread.
        host, port: address to listen on; port 0 takes a free one.
        idle: seconds without a sign of life after which a connection is given up.
        options: more for `websockets.asyncio.server.serve`.

    `port` is the one it listens on. Raises `RobotError` where the address cannot be had.
    """

    def __init__(self, name: str, host: str, port: int, *, idle: float, **options: Any) -> None:
        self._name, self._host, self.port = name, host, port
        self._options = {**options, "ping_interval": idle, "ping_timeout": idle}
        self._listening: Future[int] = Future()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    @abstractmethod
    async def _serve(self, connection: ServerConnection) -> None:
        """Talk over one connection, until that ends; on the event loop's thread."""

    @abstractmethod
    def _admit(self, connection: ServerConnection, request: Request) -> Response | Awaitable[Response | None] | None:
        """Answer plain HTTP; None lets a websocket begin; on the event loop's thread."""

    def __enter__(self) -> Self:
        self._thread.start()
        try:
            self.port = self._listening.result(START_TIMEOUT)
        except OSError as error:
            self._thread.join()
            where = f"{self._host}:{self.port}"
            raise RobotError(f"The {self._name} cannot listen there", got=f"{where}: {error.strerror}") from None
        return self

    def __exit__(self, *_: object) -> None:
        if self._stop is not None:
            self.soon(self._stop.set)
        self._thread.join()

    def soon(self, call: Callable[..., Any], *args: Any) -> None:
        """Call it on the event loop's thread."""
        assert self._loop is not None
        self._loop.call_soon_threadsafe(call, *args)

    def _run(self) -> None:
        try:
            asyncio.run(self._main())
        except Exception as error:
            if not self._listening.done():
                self._listening.set_exception(error)
            else:
                LOG.exception("the %s failed", self._name)

    async def _main(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        server: Server = await serve(
            self._serve,
            self._host,
            self.port,
            process_request=self._admit,
            compression=None,
            server_header=None,
            close_timeout=1.0,
            logger=QUIET,
            **self._options,
        )
        async with server:
            self._listening.set_result(next(iter(server.sockets)).getsockname()[1])
            await self._stop.wait()
            server.close()
