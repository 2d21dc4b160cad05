"""The emergency button on the keyboard: space, Escape or q stops the robot, from the terminal that started it."""

from __future__ import annotations

import os
import select
import sys
import termios
import threading
import tty
from types import TracebackType

from .cells import EmergencyStop

KEYS = b" \x1bq"


class KeyboardStop:
    """Context manager: while it is open, a key of `KEYS` presses the button. Without a terminal it does nothing.

    Args:
        button: what is pressed.
        fd: of the terminal; the standard input where None.
    """

    def __init__(self, button: EmergencyStop, fd: int | None = None) -> None:
        self._button = button
        self._fd = sys.stdin.fileno() if fd is None and sys.stdin is not None and sys.stdin.isatty() else fd
        self._thread: threading.Thread | None = None

    def __enter__(self) -> KeyboardStop:
        if self._fd is not None:
            self._before = termios.tcgetattr(self._fd)
            tty.setcbreak(self._fd)  # keys without Enter; Ctrl-C still interrupts
            self._wake, self._end = os.pipe()
            self._thread = threading.Thread(target=self._listen, args=(self._fd,), name="keyboard", daemon=True)
            self._thread.start()
        return self

    def _listen(self, fd: int) -> None:
        while True:
            ready, _, _ = select.select([fd, self._wake], [], [])
            if self._wake in ready:
                return
            pressed = os.read(fd, 64)
            if not pressed:
                return
            if any(key in KEYS for key in pressed):
                self._button.press("keyboard")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._thread is None or self._fd is None:
            return
        os.close(self._end)
        self._thread.join()
        os.close(self._wake)
        termios.tcsetattr(self._fd, termios.TCSADRAIN, self._before)
