"""One of the processes of a run, and how its end becomes an error."""

from __future__ import annotations

import json
import multiprocessing
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from typing import Any

from ..errors import RobotError
from .robots.link import tell

START_TIMEOUT, STOP_TIMEOUT = 120.0, 10.0
"""Seconds that a process may take to be ready, and to end."""


class ChildError(RobotError):
    """A process of the run is silent, dead or failed.

    Args:
        name: of the process.
        happened: what became of it.
        why: without the traceback.
        trace: of what it raised.
    """

    def __init__(self, name: str, happened: str, why: str, trace: str = "") -> None:
        super().__init__(f"The process of the {name} {happened}", got=f"{why}\n{trace}" if trace else why)
        self.why = why


class Child:
    """A process and the JSON pipe to it; what it says of its death becomes our error.

    Args:
        name: for messages.
        target: what it runs, importable there; called with `args` and its end of the pipe.
    """

    def __init__(self, name: str, target: Callable[..., None], *args: object) -> None:
        context = multiprocessing.get_context("spawn")
        self._name = name
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=target, args=(*args, theirs), name=name, daemon=True)
        self._process.start()
        theirs.close()

    @property
    def pid(self) -> int | None:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.is_alive()

    def started(self) -> dict[str, Any]:
        """Its first message, once it is ready. Raises `RobotError` where it cannot start; it is ended then."""
        try:
            return self.hear(START_TIMEOUT)
        except BaseException as error:
            self.close()
            if isinstance(error, ChildError):
                raise RobotError(f"The {self._name} cannot start", got=error.why) from None
            raise

    def tell(self, message: Mapping[str, Any]) -> None:
        """Raises `ChildError` where it is gone."""
        try:
            tell(self._pipe, message)
        except OSError:
            self.hear(0.0)  # what it said before it went
            raise self._died() from None

    def hear(self, timeout: float) -> dict[str, Any]:
        """Its next message; raises `ChildError` where the process failed, died or is silent for `timeout` [s]."""
        try:
            if not self._pipe.poll(timeout):
                raise ChildError(self._name, "does not answer", f"no answer in {timeout:g} s")
            message = json.loads(self._pipe.recv_bytes())
        except (EOFError, OSError):
            raise self._died() from None
        if "error" in message:
            raise ChildError(self._name, "failed", message["error"], message["traceback"])
        return message

    def _died(self) -> ChildError:
        self._process.join(STOP_TIMEOUT)
        return ChildError(self._name, "died", f"exit code {self._process.exitcode}")

    def check(self) -> None:
        """Raise what it has to say if it is no longer running."""
        if not self.alive:
            self.hear(0.0)

    def close(self, timeout: float = STOP_TIMEOUT) -> None:
        """End it, by force where it takes longer than `timeout` [s]."""
        self._pipe.close()  # ends a process that waits for a word from us
        self._process.join(timeout)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._process.close()


@contextmanager
def reporting(pipe: Connection) -> Iterator[None]:
    """Around all that a child does: its parent hears what it failed of, unless that is gone."""
    try:
        yield
    except Exception as error:
        with suppress(OSError):
            tell(pipe, {"error": f"{type(error).__name__}: {error}", "traceback": traceback.format_exc()})
