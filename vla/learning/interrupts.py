"""Ctrl-C and SIGTERM as a wish to stop, not as an accident."""

from __future__ import annotations

import signal
import time
from types import FrameType
from typing import Any


class Interrupts:
    """The first Ctrl-C or SIGTERM asks the loop to stop after the step; a person's second Ctrl-C acts at once.

    Launchers such as torchrun pass one Ctrl-C on as several signals within moments, which count as one.
    """

    ONE = 1.0  # seconds within which signals belong together

    def __init__(self) -> None:
        self.seen = False
        self._first = 0.0
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Interrupts:
        for number in (signal.SIGINT, signal.SIGTERM):
            try:
                self._previous[number] = signal.signal(number, self._handle)
            except ValueError:  # not the main thread: the caller owns the signals
                break
        return self

    def _handle(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if not self.seen:
            self.seen, self._first = True, now
        elif number == signal.SIGINT and now - self._first > self.ONE:
            raise KeyboardInterrupt

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
