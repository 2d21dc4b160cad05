"""The one thread that uses a policy: it does jobs in the order they come and answers sockets that concern it directly.

Compiled graphs, thread pools and devices belong to the thread that made them, and one policy computes one thing at a
time. A thread that waits for both jobs and sockets saves a change of threads on the way in and on the way out.
"""

from __future__ import annotations

import logging
import selectors
import socket
import threading
from collections import deque
from collections.abc import Callable

Job = Callable[[], None]
LOG = logging.getLogger("wayhand.serve")


class Worker:
    """A thread with a queue.

    Jobs and callbacks must not raise; what they raise all the same is logged and the thread goes on.
    """

    def __init__(self, name: str) -> None:
        self._jobs: deque[Job] = deque()
        self._selector: selectors.BaseSelector | None = None
        self._open = True
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin with the jobs there are."""
        self._bell, self._button = socket.socketpair()
        self._bell.setblocking(False)
        self._button.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._bell, selectors.EVENT_READ, None)
        self._thread.start()
        self._ring()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    @property
    def backlog(self) -> int:
        """Jobs that wait."""
        return len(self._jobs)

    def submit(self, job: Job) -> None:
        """Do `job` after those before it; from any thread."""
        self._jobs.append(job)
        if self._selector is not None:
            self._ring()

    def _ring(self) -> None:
        try:
            self._button.send(b"\0")
        except BlockingIOError:
            pass  # the bell is ringing already

    def watch(self, link: socket.socket, ready: Job) -> None:
        """Call `ready` whenever `link` can be read; only from a job."""
        assert self._selector is not None
        self._selector.register(link, selectors.EVENT_READ, ready)

    def forget(self, link: socket.socket) -> None:
        """Undo `watch`; only from a job."""
        assert self._selector is not None
        self._selector.unregister(link)

    def close(self, timeout: float = 10.0) -> bool:
        """End the thread after the jobs it has; False where these do not end in time."""
        if self._selector is None:
            return True
        self.submit(self._leave)
        self._thread.join(timeout)
        if self._thread.is_alive():
            return False
        self._selector.close()
        self._bell.close()
        self._button.close()
        return True

    def _leave(self) -> None:
        self._open = False

    def _run(self) -> None:
        selector = self._selector
        assert selector is not None
        while self._open:
            for key, _ in selector.select():
                if key.data is not None:
                    self._do(key.data)
                    continue
                self._bell.recv(4096)
                for _ in range(len(self._jobs)):
                    self._do(self._jobs.popleft())
                    if not self._open:
                        return

    def _do(self, job: Job) -> None:
        try:
            job()
        except Exception:
            LOG.exception("A job of the policy's thread failed")
