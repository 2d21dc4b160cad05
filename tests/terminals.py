"""A terminal for tests: a command that believes somebody sits there, and what it shows and is typed."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import threading
import time
from collections.abc import Sequence
from types import TracebackType

WAIT = 120.0
"""Seconds after which a test gives up waiting; nothing takes that long on a machine that has time."""
_CONTROL = re.compile(rb"\x1b\[[0-9;?]*([A-Za-z]|$)|\r")


class Terminal:
    """Context manager: `command` on a terminal of its own.

    `shown` is everything it wrote so far, without colours and movements of the cursor.
    """

    def __init__(self, command: Sequence[str], cwd: str | os.PathLike[str] | None = None) -> None:
        self._command, self._cwd = list(command), cwd
        self._written = b""

    def __enter__(self) -> Terminal:
        self._fd, inside = pty.openpty()
        environment = {**os.environ, "TERM": "xterm", "COLUMNS": "160", "LINES": "40", "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            self._command, stdin=inside, stdout=inside, stderr=inside, cwd=self._cwd, env=environment,
            start_new_session=True,
        )  # fmt: skip
        os.close(inside)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        return self

    def _read(self) -> None:
        while True:
            try:
                came = os.read(self._fd, 4096)
            except OSError:  # nobody writes any more
                return
            if not came:
                return
            self._written += came

    @property
    def shown(self) -> str:
        return _CONTROL.sub(b"", self._written).decode(errors="replace")

    @property
    def over(self) -> bool:
        return self.process.poll() is not None

    def until(self, pattern: str, after: int = 0) -> re.Match[str]:
        """Wait until a pattern is shown beyond the first `after` characters; the first match there."""
        deadline = time.monotonic() + WAIT
        while (found := re.compile(pattern).search(self.shown, after)) is None:
            assert time.monotonic() < deadline and not self.over, f"no '{pattern}' after {after}:\n{self.shown}"
            time.sleep(0.02)
        return found

    def type(self, keys: bytes) -> None:
        os.write(self._fd, keys)

    def wait(self) -> int:
        """Its exit code, once everything it wrote is in `shown`."""
        code = self.process.wait(WAIT)
        self._reader.join(WAIT)
        return code

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self.over:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        self._reader.join(WAIT)
        os.close(self._fd)
