"""The client's end of shared memory: see `local`."""

from __future__ import annotations

import itertools
import select
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..contract import ActionChunk, Observation
from ..errors import RobotError, SpecError
from . import wire
from .local_memory import ANSWER, DONE, HELLO, INFER, LONGEST, REFUSED, REQUEST, RESET, Memory
from .messages import Terms, checked_chunk
from .shared import LONGEST_CHUNK

AWAKE = 200e-6
"""How long an answer is looked for before the client goes to sleep [s]: being woken up takes longer than most of the
rest of the way."""


class LocalDial:
    """Connects to the socket at `path`."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __call__(self, deadline: float) -> LocalLink:
        link = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            link.settimeout(_rest(deadline))
            link.connect(str(self._path))
            link.setblocking(False)
            return LocalLink(link, deadline)
        except (OSError, wire.WireError) as error:
            link.close()
            got = f"{self._path}: {type(error).__name__}"
            raise RobotError("No policy server answers on this host", got=got, run="wayhand serve local=true") from None
        except BaseException:
            link.close()
            raise


class LocalLink:
    """`client.Link` over shared memory. A request without an answer makes it useless: the server may still be reading
    the memory that the next request would change."""

    def __init__(self, link: socket.socket, deadline: float) -> None:
        self._link, self.usable = link, True
        self._numbers = itertools.count(1)
        self._look = select.poll()
        self._look.register(link, select.POLLIN)
        hello = self._receive(deadline)
        if not hello.startswith(HELLO):
            raise RobotError("What answers is no policy server of this version", got=repr(hello[:8]))
        self.terms = Terms.from_metadata(wire.unpack(hello[len(HELLO) :]))
        spec = self.terms.spec
        if spec is None:
            raise RobotError("The server does not tell what its policy is for")
        self._width = spec.action_dim
        self._memory = Memory(spec)
        try:
            socket.send_fds(link, [HELLO], [self._memory.handle])
            self._expect(0, deadline)
        except BaseException:
            self._memory.close()
            raise

    def reset(self, session: int, told: Mapping[str, Any], deadline: float) -> None:
        self._exchange(RESET, 0, session, 0, wire.pack(told), deadline)

    def infer(
        self, session: int, observation: Observation, prefix: ActionChunk | None, delay: int, deadline: float
    ) -> ActionChunk:
        columns = observation.columns()
        for path, view in self._memory.columns.items():
            array = columns.get(path)
            if array is None or array.shape != view.shape or array.dtype != view.dtype:
                got = "nothing" if array is None else f"{array.dtype} {array.shape}"
                raise SpecError(f"'{path}' does not fit the policy", expected=f"{view.dtype} {view.shape}", got=got)
            view[...] = array
        rows = self._put(prefix)
        told = observation.instruction.encode()
        count = self._exchange(INFER, rows, session, delay, told, deadline)
        times = np.array(self._memory.answer["times"][:count])
        actions = np.array(self._memory.answer["actions"][:count])
        return checked_chunk(actions, times, observation.time, self._width)

    def close(self) -> None:
        if self.usable:
            self._end()
        self._memory.close()

    @property
    def alive(self) -> bool:
        """The server says nothing unasked, so all there is to read between two requests is its end."""
        return not self._look.poll(0)

    def _put(self, prefix: ActionChunk | None) -> int:
        if prefix is None or not len(prefix):
            return 0
        rows, record = len(prefix), self._memory.request
        if rows > LONGEST_CHUNK or prefix.actions.shape[1] != self._width:
            raise SpecError("The prefix is no chunk of this policy", got=str(prefix.actions.shape))
        record["prefix.actions"][:rows], record["prefix.times"][:rows] = prefix.actions, prefix.times
        record["prefix.observed_at"][...] = prefix.observed_at
        return rows

    def _exchange(self, kind: int, rows: int, session: int, delay: int, told: bytes, deadline: float) -> int:
        number = next(self._numbers)
        message = REQUEST.pack(kind, rows, number, session, delay) + told
        if len(message) > LONGEST:
            raise SpecError("The request is too long", expected=f"{LONGEST} bytes", got=str(len(message)))
        try:
            self._link.send(message)  # there is room: the last answer has come
        except OSError as error:
            self._end()
            raise RobotError("The policy server is gone", got=type(error).__name__) from None
        return self._expect(number, deadline)

    def _expect(self, number: int, deadline: float) -> int:
        message = self._receive(deadline)
        if len(message) < ANSWER.size:
            self._end()
            raise RobotError("The policy server answers nonsense", got=f"{len(message)} bytes")
        kind, rows, answered, _ = ANSWER.unpack_from(message)
        text = message[ANSWER.size :].decode(errors="replace")
        if kind == REFUSED:
            raise SpecError(f"The policy server refused: {text}")
        if kind != DONE:
            raise RobotError("The policy server failed", got=text)
        if answered != number or rows > LONGEST_CHUNK:
            self._end()
            raise RobotError("The policy server answers another request", expected=str(number), got=str(answered))
        return rows

    def _receive(self, deadline: float) -> bytes:
        try:
            message = self._awaited(deadline)
        except TimeoutError:
            self._end()
            raise
        except OSError as error:
            self._end()
            raise RobotError("The policy server is gone", got=type(error).__name__) from None
        if not message:
            self._end()
            raise RobotError("The policy server is gone", got="end of stream")
        return message

    def _awaited(self, deadline: float) -> bytes:
        sleeps = time.monotonic() + AWAKE
        while True:
            try:
                return self._link.recv(LONGEST)
            except BlockingIOError:
                if time.monotonic() > sleeps:
                    self._look.poll(1000 * _rest(deadline))

    def _end(self) -> None:
        self.usable = False
        self._link.close()


def _rest(deadline: float) -> float:
    """Seconds left, more than 0."""
    rest = deadline - time.monotonic()
    if rest <= 0:
        raise TimeoutError
    return rest
