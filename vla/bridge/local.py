"""A policy on the same host: observations and chunks lie in memory that both processes map, a socket is the doorbell.

The socket is a Unix socket that only its owner can reach; it carries who wants what, in fixed headers. The memory comes
from the client, sealed so that it cannot shrink under the server, with one place for a request and one for an answer: a
conversation is in lockstep, and the socket orders what is written before what is read. Linux only.
"""

from __future__ import annotations

import os
import socket
import struct
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from ..contract import ActionChunk, Observation
from ..errors import ConfigError, RobotError, SpecError
from . import wire
from .local_memory import ANSWER, DONE, FAILED, HELLO, INFER, LONGEST, REFUSED, REQUEST, RESET, Memory
from .messages import checked_chunk
from .request_keys import require_finite
from .service import Failure, Peer, PolicyService
from .shared import LONGEST_CHUNK


def default_path(port: int) -> Path:
    """Where the server of `port` leaves its socket, in a folder of this user's."""
    base = os.environ.get("XDG_RUNTIME_DIR")
    folder = Path(base) / "wayhand" if base else Path(tempfile.gettempdir()) / f"wayhand-{os.getuid()}"
    return folder / f"serve-{port}.sock"


class LocalServer:
    """Context manager: serves through shared memory, on the policy's own thread.

    Args:
        service: what answers; running.
        path: of the socket. Its folder is made if need be and must belong to this user alone.
        clients: connections at a time.
    """

    def __init__(self, service: PolicyService, path: Path, clients: int = 16) -> None:
        self._service, self._path, self._clients = service, path, clients
        self._open: set[_Conversation] = set()
        service.metrics.gauge("wayhand_local_connections", "Open connections on this host.", lambda: len(self._open))

    def __enter__(self) -> LocalServer:
        if not hasattr(os, "memfd_create"):
            raise ConfigError("Shared memory between processes needs Linux", run="local=false")
        folder = self._path.parent
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        told = folder.stat()
        if told.st_uid != os.getuid() or told.st_mode & 0o077:
            raise ConfigError("Others can reach the local socket's folder", got=str(folder), run=f"chmod 700 {folder}")
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            _clear(self._path)
            self._listener.bind(str(self._path))
            self._listener.listen()
        except OSError as error:
            self._listener.close()
            raise RobotError("The server cannot listen there", got=f"{self._path}: {error}") from None
        self._listener.setblocking(False)
        self._service.worker.submit(lambda: self._service.worker.watch(self._listener, self._accept))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """The socket goes; open conversations end with the service's thread, or now where that has ended."""
        self._path.unlink(missing_ok=True)
        if self._service.worker.alive:
            self._service.worker.submit(self._end)
        else:
            self._end()

    def _end(self) -> None:
        if self._service.worker.alive:
            self._service.worker.forget(self._listener)
        self._listener.close()
        for conversation in list(self._open):
            self._drop(conversation)

    def _accept(self) -> None:
        link, _ = self._listener.accept()
        _, uid, _ = struct.unpack("3i", link.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        ready = self._service.ready
        if uid not in (os.getuid(), 0) or len(self._open) >= self._clients or not ready.done() or ready.exception():
            link.close()
            return
        link.setblocking(False)
        conversation = _Conversation(self._service, link)
        self._open.add(conversation)
        self._service.worker.watch(link, lambda: self._hear(conversation))
        if not conversation.say(HELLO + wire.pack(self._service.metadata())):
            self._drop(conversation)

    def _hear(self, conversation: _Conversation) -> None:
        if not conversation.hear():
            self._drop(conversation)

    def _drop(self, conversation: _Conversation) -> None:
        if conversation not in self._open:
            return
        self._open.discard(conversation)
        if self._service.worker.alive:
            self._service.worker.forget(conversation.link)
        conversation.close()


class _Conversation:
    def __init__(self, service: PolicyService, link: socket.socket) -> None:
        self.link = link
        self._service = service
        self._peer = Peer()
        self._memory: Memory | None = None

    def close(self) -> None:
        self.link.close()
        if self._memory is not None:
            self._memory.close()

    def say(self, message: bytes) -> bool:
        """False where the client does not take it: one that does not listen must not hold up others."""
        try:
            return len(message) <= LONGEST and self.link.send(message) == len(message)
        except OSError:
            return False

    def hear(self) -> bool:
        """Answer the next message; False where the conversation is over."""
        try:
            message, handles, _, _ = socket.recv_fds(self.link, LONGEST + 1, 1)
        except OSError:
            return False
        try:
            if self._memory is None and len(handles) == 1:
                self._memory = Memory(self._service.spec, handles.pop())
                return self.say(ANSWER.pack(DONE, 0, 0, 0.0))
            if not message or handles or self._memory is None or not REQUEST.size <= len(message) <= LONGEST:
                return False
            return self._answer(message, self._memory)
        except SpecError as error:
            self.say(ANSWER.pack(REFUSED, 0, 0, 0.0) + str(error).encode())
            return False
        finally:
            for handle in handles:
                os.close(handle)

    def _answer(self, message: bytes, memory: Memory) -> bool:
        kind, rows, number, session, delay = REQUEST.unpack_from(message)
        name, told = str(session) if session else "", message[REQUEST.size :]
        try:
            if kind == RESET:
                self._reset(name, told)
                return self.say(ANSWER.pack(DONE, 0, number, 0.0))
            if kind != INFER:
                raise wire.WireError("There is no such request", got=str(kind))
            observation = _observation(memory.columns, told)
            prefix = _prefix(memory, rows, self._service.spec.action_dim)
            chunk, seconds = self._service.act(self._peer, name, observation, prefix, delay)
        except Exception as error:
            return self.say(_told(self._service.failure(error), number))
        count = len(chunk)
        memory.answer["times"][:count] = chunk.times
        memory.answer["actions"][:count] = chunk.actions
        self._service.metrics.answered(0, 0, 0.0, seconds)
        return self.say(ANSWER.pack(DONE, count, number, seconds))

    def _reset(self, name: str, told: bytes) -> None:
        request = wire.unpack(told)
        if not isinstance(request, dict):
            raise wire.WireError("A reset is a map", got=type(request).__name__)
        self._service.reset(self._peer, name, request)
        self._service.metrics.answered(0, 0, 0.0, 0.0)


def _told(failure: Failure, number: int) -> bytes:
    kind = FAILED if failure.ours else REFUSED
    return ANSWER.pack(kind, 0, number, 0.0) + failure.text.encode()[: LONGEST // 2]


def _observation(columns: Mapping[str, np.ndarray], instruction: bytes) -> Observation:
    """A copy, so that the client cannot change what the policy has seen and remembers."""
    copied = {path: np.array(view) for path, view in columns.items()}
    for path, array in copied.items():
        if path == "observation.state" or path.startswith("observation.extras."):
            require_finite(path, array)
    try:
        text = instruction.decode("utf-8")
    except UnicodeDecodeError:
        raise SpecError("The prompt is no instruction", expected="UTF-8") from None
    return Observation.from_columns(copied, text)


def _prefix(memory: Memory, rows: int, width: int) -> ActionChunk | None:
    if not rows:
        return None
    if rows > LONGEST_CHUNK:
        raise SpecError("The prefix is no chunk", expected=f"at most {LONGEST_CHUNK} rows", got=str(rows))
    fields: dict[str, Any] = {k: np.array(memory.request[f"prefix.{k}"][:rows]) for k in ("actions", "times")}
    try:
        return checked_chunk(fields["actions"], fields["times"], float(memory.request["prefix.observed_at"]), width)
    except RobotError as error:
        raise SpecError("The prefix is no chunk", got=str(error)) from None


def _clear(path: Path) -> None:
    """Remove a socket that a dead server has left; one that still answers is in the way of `bind`."""
    probe = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    probe.settimeout(1.0)
    try:
        probe.connect(str(path))
    except ConnectionRefusedError:
        path.unlink(missing_ok=True)
    except OSError:
        pass
    finally:
        probe.close()
