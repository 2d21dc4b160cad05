"""The client's end of a websocket, towards our server or openpi's."""

from __future__ import annotations

import itertools
import logging
import socket
import ssl
import struct
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, WebSocketException
from websockets.protocol import State
from websockets.sync.client import connect
from websockets.sync.connection import Connection

from ..contract import ActionChunk, EnvSpec, Observation
from ..errors import ConfigError, RobotError, SpecError
from . import messages, wire
from .client import Counters
from .messages import Terms, checked_chunk
from .request_keys import Target, request_of
from .tls import client_context
from .tokens import VARIABLE, challenge_in, is_loopback, proof

_QUIET = logging.getLogger("wayhand.client.websockets")
_QUIET.setLevel(logging.CRITICAL)


class WebsocketDial:
    """Connects to `address`; the other arguments are `RemotePolicy`'s."""

    def __init__(
        self,
        address: str,
        keys: Mapping[str, Target] | None,
        spec: EnvSpec | None,
        token: str | None,
        authority: Path | None,
        patience: float,
        counters: Counters,
    ) -> None:
        self._address = address if "://" in address else f"ws://{address}"
        parts = urlsplit(self._address)
        try:
            host, scheme, _ = parts.hostname, parts.scheme, parts.port
        except ValueError:
            host, scheme = None, ""
        if scheme not in ("ws", "wss") or not host:
            raise ConfigError("This is no policy server's address", expected="host:port, ws://, wss://", got=address)
        self._secure = scheme == "wss"
        self._private = self._secure or is_loopback(host)
        self._tls = client_context(authority) if self._secure else None
        self._keys, self._spec, self._token, self._patience, self._counters = keys, spec, token, patience, counters

    def __call__(self, deadline: float) -> WebsocketLink:
        try:
            connection = self._open(None, deadline)
        except InvalidStatus as refused:
            if refused.response.status_code != 401:
                raise _unanswered(self._address, f"HTTP {refused.response.status_code}") from None
            try:
                connection = self._open(self._credential(refused), deadline)
            except InvalidStatus as again:
                status = again.response.status_code
                raise ConfigError("The policy server does not accept the token", got=f"HTTP {status}") from None
        try:
            return WebsocketLink(connection, self._keys, self._spec, self._patience, self._counters, deadline)
        except TimeoutError:
            connection.close_socket()
            raise _unanswered(self._address, "no metadata in time: it may still be warming up") from None
        except BaseException:
            connection.close_socket()
            raise

    def _open(self, credential: str | None, deadline: float) -> Connection:
        rest = max(deadline - time.monotonic(), 0.001)
        try:
            return connect(
                self._address,
                ssl=self._tls,
                compression=None,
                max_size=wire.DEFAULT.size,
                proxy=None,
                additional_headers={} if credential is None else {"Authorization": credential},
                open_timeout=rest,
                close_timeout=0.2,
                logger=_QUIET,
            ).__enter__()
        except InvalidStatus:
            raise
        except ssl.SSLError as error:
            why = getattr(error, "verify_message", "") or type(error).__name__
            raise ConfigError("The server's certificate is not trusted", got=why, run="authority=CA.pem") from None
        except (OSError, InvalidHandshake, WebSocketException) as error:
            raise _unanswered(self._address, type(error).__name__) from None

    def _credential(self, refused: InvalidStatus) -> str:
        if self._token is None:
            raise ConfigError(f"{self._address} wants a token", run=f"export {VARIABLE}=…")
        nonce = challenge_in(refused.response.headers.get("WWW-Authenticate"))
        if nonce is not None:
            return proof(self._token, nonce)
        if not self._private:
            raise ConfigError(f"{self._address} would see the token in the clear", run="use wss://")
        return f"Api-Key {self._token}"


class WebsocketLink:
    """`client.Link` over a websocket."""

    def __init__(
        self,
        connection: Connection,
        keys: Mapping[str, Target] | None,
        spec: EnvSpec | None,
        patience: float,
        counters: Counters,
        deadline: float,
    ) -> None:
        self._connection, self._counters, self._patience = connection, counters, patience
        self._numbers = itertools.count(1)
        self._owed: tuple[int, float] | None = None
        self.usable = True
        wait = struct.pack("ll", int(patience), int(patience % 1 * 1e6))
        connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, wait)
        self.terms = Terms.from_metadata(self._receive(deadline))
        known = self.terms.spec or spec
        if known is None:
            raise SpecError("The server does not tell what its policy is for", run="RemotePolicy(…, spec=…, names=…)")
        self._spec = known
        # A server of ours knows its own names; only a foreign one needs others.
        self._keys = None if self.terms.spec is not None else keys
        self._numbered = messages.SEQUENCE in self.terms.extensions

    def reset(self, session: int, told: Mapping[str, Any], deadline: float) -> None:
        if messages.RESET not in self.terms.extensions:
            return  # openpi's policies have nothing to forget
        self._exchange({messages.SESSION: str(session), messages.RESET: dict(told)}, deadline)

    def infer(
        self, session: int, observation: Observation, prefix: ActionChunk | None, delay: int, deadline: float
    ) -> ActionChunk:
        request = request_of(observation, self._keys)
        extensions = self.terms.extensions
        if messages.SESSION in extensions:
            request[messages.SESSION] = str(session)
        if delay and messages.DELAY in extensions:
            request[messages.DELAY] = delay
        if prefix is not None and len(prefix) and messages.PREFIX in extensions:
            request[messages.PREFIX], request[messages.PREFIX_TIMES] = prefix.actions, prefix.times
            request[messages.PREFIX_FROM] = prefix.observed_at
        answer = self._exchange(request, deadline)
        try:
            actions = np.asarray(answer["actions"])
            ours = answer.get(messages.OURS)
            if ours is not None:
                if ours["observed_at"] != observation.time:
                    raise RobotError("The chunk is for another observation", got=f"{ours['observed_at']!r}")
                times = ours["times"]
            else:
                times = observation.time + self._spec.control_dt * np.arange(1, len(actions) + 1)
            return checked_chunk(actions, times, observation.time, self._spec.action_dim)
        except (KeyError, TypeError, ValueError) as error:
            raise self._broken(f"an answer without what it needs: {type(error).__name__}") from None

    @property
    def alive(self) -> bool:
        """As the thread that reads the connection found it."""
        return self._connection.state is State.OPEN

    def close(self) -> None:
        if self.usable:
            self.usable = False
            self._connection.close()

    def _exchange(self, request: dict[str, Any], deadline: float) -> dict[str, Any]:
        if self._owed is not None:
            self._settle(deadline)
        number = next(self._numbers)
        if self._numbered:
            request[messages.SEQUENCE] = number
        frame = wire.pack(request)
        if self.terms.size and len(frame) > self.terms.size:
            raise SpecError("The request is too large", expected=f"{self.terms.size} bytes", got=str(len(frame)))
        try:
            self._connection.send(frame)
        except (ConnectionClosed, OSError) as error:
            raise self._broken(type(error).__name__) from None
        self._owed = (number, time.monotonic() + self._patience)
        return self._answer_to(number, deadline)

    def _settle(self, deadline: float) -> None:
        """Wait for the answer to a request that was given up, and throw it away: a server is asked one thing at a time,
        so that a slow one does not compute what nobody waits for any more."""
        assert self._owed is not None
        number, until = self._owed
        try:
            self._answer_to(number, min(deadline, until))
        except TimeoutError:
            if time.monotonic() >= until:
                raise self._broken(f"no answer for {self._patience:g} s") from None
            raise
        self._counters.stale += 1

    def _answer_to(self, number: int, deadline: float) -> dict[str, Any]:
        while True:
            try:
                answer = self._receive(deadline)
            except TimeoutError:
                if not self._numbered:
                    self._broken("no answer in time")  # a later one could not be told from the next
                raise
            if not isinstance(answer, dict):
                raise self._broken("an answer that is no map")
            ours = answer.get(messages.OURS)
            if self._numbered and (not isinstance(ours, dict) or ours.get("sequence") != number):
                self._counters.stale += 1
                continue
            self._owed = None
            return answer

    def _receive(self, deadline: float) -> Any:
        try:
            frame = self._connection.recv(timeout=max(deadline - time.monotonic(), 0.0))
        except TimeoutError:
            raise
        except (ConnectionClosed, OSError) as error:
            raise self._broken(type(error).__name__) from None
        if isinstance(frame, str):
            self._broken("an error")
            kind = SpecError if frame.startswith(("SpecError", "WireError")) else RobotError
            raise kind("The policy server refused the request", got=frame[:2000])
        try:
            return wire.unpack(frame)
        except wire.WireError as error:
            raise self._broken(error.what) from None

    def _broken(self, why: str) -> RobotError:
        """Ends the connection at once, without waiting for a server that may be stopped."""
        self.usable = False
        self._connection.close_socket()
        return RobotError("The connection to the policy server is lost", got=why)


def _unanswered(address: str, got: str) -> RobotError:
    return RobotError(f"No policy server answers at {address}", got=got, run="wayhand serve …")
