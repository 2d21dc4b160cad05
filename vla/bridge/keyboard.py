"""Keys of the terminal that started us, without Enter; and the emergency button among them."""

from __future__ import annotations

import os
import select
import sys
import termios
import threading
import tty
from collections.abc import Callable
from types import TracebackType

from .cells import EmergencyStop

KEYS = b" \x1bq"
"""Space, Escape and q stop the robot."""


class KeyListener:
    """Context manager: while it is open, what is typed goes to `on_keys`. Without a terminal it does nothing.

    Args:
        on_keys: called with the bytes of one read, in a thread of this object's.
        fd: of the terminal; the standard input where None.

    The terminal is in cbreak mode meanwhile, so Ctrl-C still interrupts.
    """

    def __init__(self, on_keys: Callable[[bytes], None], fd: int | None = None) -> None:
        self._on_keys = on_keys
        self._fd = sys.stdin.fileno() if fd is None and sys.stdin is not None and sys.stdin.isatty() else fd
        self._thread: threading.Thread | None = None

    def __enter__(self) -> KeyListener:
        if self._fd is not None:
            self._before = termios.tcgetattr(self._fd)
            tty.setcbreak(self._fd)
            self._wake, self._end = os.pipe()
            self._thread = threading.Thread(target=self._listen, args=(self._fd,), name="keyboard", daemon=True)
            self._thread.start()
        return self

    @property
    def listening(self) -> bool:
        """Whether there is a terminal."""
        return self._fd is not None

    def _listen(self, fd: int) -> None:
        while True:
            ready, _, _ = select.select([fd, self._wake], [], [])
            if self._wake in ready:
                return
            pressed = os.read(fd, 64)
            if not pressed:
                return
            self._on_keys(pressed)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._thread is None or self._fd is None:
            return
        os.close(self._end)
        self._thread.join()
        os.close(self._wake)
        termios.tcsetattr(self._fd, termios.TCSADRAIN, self._before)


class KeyboardStop:
    """Context manager: while it is open, a key of `KEYS` presses the button. Without a terminal it does nothing.

    Args:
        button: what is pressed.
        fd: of the terminal; the standard input where None.
    """

    def __init__(self, button: EmergencyStop, fd: int | None = None) -> None:
        self._button = button
        self._listener = KeyListener(self._press, fd)

    def _press(self, pressed: bytes) -> None:
        if any(key in KEYS for key in pressed):
            self._button.press("keyboard")

    def __enter__(self) -> KeyboardStop:
        self._listener.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.__exit__(kind, error, trace)
