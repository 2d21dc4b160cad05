"""A policy over websockets, as openpi's clients expect it, without what makes openpi's own server unsafe.

The protocol is that of openpi (https://github.com/Physical-Intelligence/openpi, `serve_policy.py`): one binary frame of
metadata, then one frame in, one frame out. Inference runs on the policy's thread, so `/healthz`, `/readyz`, `/metrics`
and keep-alives are answered meanwhile. Beyond the loopback a token is asked for.
"""

from __future__ import annotations

import asyncio
import http
import ssl
import time
from dataclasses import dataclass

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode
from websockets.http11 import Request, Response

from ..errors import ConfigError
from . import wire
from .clock import MonotonicClock
from .listener import Listener
from .metrics import CONTENT_TYPE
from .service import Failure, Peer, PolicyService
from .tokens import VARIABLE, Guard, is_loopback


@dataclass(frozen=True)
class ServerSettings:
    """Where a server listens and whom it lets in.

    Args:
        host, port: address to listen on; port 0 takes a free one.
        token: secret that clients must prove; needed on any address but the loopback.
        once: refuse the token itself and accept answers to challenges only (openpi's clients cannot give these).
        tls: certificate and key, or None for plain text.
        clients: connections at a time.
        idle: seconds without a sign of life after which a connection is given up.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    token: str | None = None
    once: bool = False
    tls: ssl.SSLContext | None = None
    clients: int = 16
    idle: float = 20.0

    def __post_init__(self) -> None:
        if self.token is None and not is_loopback(self.host):
            raise ConfigError(
                f"Whoever reaches {self.host} could drive the robot",
                expected="a token, or an address of the loopback",
                run=f"export {VARIABLE}=$(python -c 'import secrets; print(secrets.token_urlsafe(32))')",
            )
        if not 0 <= self.port <= 65535 or self.clients < 1 or self.idle <= 0:
            raise ConfigError("The server's settings are out of range", got=f"port {self.port}, clients {self.clients}")


class PolicyServer(Listener):
    """Context manager: listens from its start to its end, in a thread of its own.

    Args:
        service: what answers; entered before the server, left after it.
        settings: where and for whom.

    `port` is the one it listens on. Raises `RobotError` where the address cannot be had.
    """

    def __init__(self, service: PolicyService, settings: ServerSettings) -> None:
        super().__init__(
            "server", settings.host, settings.port, idle=settings.idle, ssl=settings.tls, max_queue=1,
            max_size=service.limits.size,
            origins=[None],  # a browser names its page's origin; no page has business here
        )  # fmt: skip
        self._service, self._settings = service, settings
        self._guard = Guard(settings.token, once=settings.once, clock=MonotonicClock())
        self._peers = 0
        metrics = service.metrics
        metrics.gauge("wayhand_connections", "Open connections.", lambda: self._peers)
        metrics.gauge("wayhand_ready", "Whether the policy has warmed up.", lambda: float(self.ready))
        metrics.gauge("wayhand_backlog", "Requests that wait for the policy.", lambda: service.worker.backlog)

    @property
    def ready(self) -> bool:
        """Whether the policy has warmed up and its thread is there."""
        done = self._service.ready
        return done.done() and done.exception() is None and self._service.worker.alive

    def _admit(self, connection: ServerConnection, request: Request) -> Response | None:
        """Answers plain HTTP; None lets a websocket begin."""
        path = request.path.partition("?")[0]
        if path == "/healthz":
            return connection.respond(http.HTTPStatus.OK, "OK\n")
        if path == "/readyz":
            if self.ready:
                return connection.respond(http.HTTPStatus.OK, "ready\n")
            return connection.respond(http.HTTPStatus.SERVICE_UNAVAILABLE, "not ready\n")
        # A header given twice is no credential.
        given = request.headers.get_all("Authorization")
        if len(given) > 1 or not self._guard.admits(given[0] if given else None):
            self._service.metrics.denied.add(1, "token")
            response = connection.respond(http.HTTPStatus.UNAUTHORIZED, "a token is needed\n")
            response.headers["WWW-Authenticate"] = self._guard.challenge()
            return response
        if path == "/metrics":
            response = connection.respond(http.HTTPStatus.OK, self._service.metrics.render())
            del response.headers["Content-Type"]
            response.headers["Content-Type"] = CONTENT_TYPE
            return response
        if self._peers >= self._settings.clients:
            self._service.metrics.denied.add(1, "full")
            return connection.respond(http.HTTPStatus.SERVICE_UNAVAILABLE, "too many clients\n")
        return None

    async def _serve(self, connection: ServerConnection) -> None:
        if self._peers >= self._settings.clients:  # several may have passed `_admit` at once
            await connection.close(CloseCode.TRY_AGAIN_LATER, "too many clients")
            return
        self._peers += 1
        try:
            await self._converse(connection, Peer())
        except ConnectionClosed:
            pass
        finally:
            self._peers -= 1

    async def _converse(self, connection: ServerConnection, peer: Peer) -> None:
        service = self._service
        try:
            await asyncio.shield(asyncio.wrap_future(service.ready))
            metadata = wire.pack(service.metadata())
        except Exception:
            await _refuse(connection, Failure("Unavailable: the policy cannot be served", ours=True))
            return
        await connection.send(metadata)
        while True:
            frame = await connection.recv()
            arrived = time.monotonic()
            if isinstance(frame, str):
                answer = service.failure(wire.WireError("A request is a binary frame", got="text"))
            else:
                answer = await self._ask(peer, frame, arrived)
            if isinstance(answer, Failure):
                await _refuse(connection, answer)
                return
            await connection.send(answer)
            peer.previous = time.monotonic() - arrived

    async def _ask(self, peer: Peer, frame: bytes, arrived: float) -> bytes | Failure:
        loop = asyncio.get_running_loop()
        waiting: asyncio.Future[bytes | Failure] = loop.create_future()

        def settle(answer: bytes | Failure) -> None:
            if not waiting.done():
                waiting.set_result(answer)

        def job() -> None:
            if waiting.cancelled():
                return
            answer = self._service.answer(peer, frame, arrived)
            if not loop.is_closed():
                loop.call_soon_threadsafe(settle, answer)

        self._service.worker.submit(job)
        return await waiting


async def _refuse(connection: ServerConnection, failure: Failure) -> None:
    """openpi's clients raise on a text frame and expect the connection to end after it."""
    await connection.send(failure.text)
    code = CloseCode.INTERNAL_ERROR if failure.ours else CloseCode.INVALID_DATA
    await connection.close(code, "see the frame before")
