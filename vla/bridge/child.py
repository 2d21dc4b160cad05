"""One of the processes of a run, and how its end becomes an error."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Callable, Mapping
from typing import Any

from ..errors import RobotError
from .robots.link import tell

STOP_TIMEOUT = 10.0
"""Seconds that a process may take to end."""


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

    def tell(self, message: Mapping[str, Any]) -> None:
        tell(self._pipe, message)

    def hear(self, timeout: float) -> dict[str, Any]:
        """Its next message; raises `RobotError` where the process failed, died or is silent."""
        try:
            if not self._pipe.poll(timeout):
                raise RobotError(
                    f"The process of the {self._name} does not answer", expected=f"an answer in {timeout:g} s"
                )
            message = json.loads(self._pipe.recv_bytes())
        except (EOFError, ConnectionResetError):
            self._process.join(STOP_TIMEOUT)
            raise RobotError(
                f"The process of the {self._name} died", got=f"exit code {self._process.exitcode}"
            ) from None
        if "error" in message:
            raise RobotError(
                f"The process of the {self._name} failed", got=f"{message['error']}\n{message['traceback']}"
            )
        return message

    def check(self) -> None:
        """Raise what it has to say if it is no longer running."""
        if not self._process.is_alive():
            self.hear(0.0)

    def close(self) -> None:
        self._pipe.close()  # ends a process that waits for a word from us
        self._process.join(STOP_TIMEOUT)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._process.close()
