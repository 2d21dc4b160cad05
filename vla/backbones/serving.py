"""Batched serving: requests that arrive while the model computes are answered together."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Generic, TypeVar

from ..errors import ConfigError

Request = TypeVar("Request")
Reply = TypeVar("Reply")


class BatchedServer(Generic[Request, Reply]):
    """One thread that answers what waits in its queue, up to `largest` requests in one call.

    It never waits for a batch to fill: a lone request is answered at once, and a batch is what came during the call
    before it. An exception of a call reaches every request of that batch.

    Args:
        answer: B requests → B replies; that a reply does not depend on its batch is its promise.
        largest: requests in one call.
    """

    def __init__(self, answer: Callable[[Sequence[Request]], Sequence[Reply]], *, largest: int) -> None:
        if largest < 1:
            raise ConfigError("A batch holds at least one request", expected="largest ≥ 1", got=str(largest))
        self._answer, self._largest = answer, largest
        self._waiting: queue.SimpleQueue[tuple[Request, Future[Reply]] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="batched-server", daemon=True)
        self._lock, self._closed = threading.Lock(), False
        self._thread.start()

    def submit(self, request: Request) -> Future[Reply]:
        """The reply to come; raises `ConfigError` after `close`."""
        reply: Future[Reply] = Future()
        with self._lock:
            if self._closed:
                raise ConfigError("The server is closed", run="submit before leaving its `with` block")
            self._waiting.put((request, reply))
        return reply

    def close(self) -> None:
        """Answer what waits, then end the thread."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._waiting.put(None)
        self._thread.join()

    def __enter__(self) -> BatchedServer[Request, Reply]:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self) -> None:
        going = True
        while going:
            batch, going = self._next()
            live = [(request, reply) for request, reply in batch if reply.set_running_or_notify_cancel()]
            if live:
                self._serve(live)

    def _next(self) -> tuple[list[tuple[Request, Future[Reply]]], bool]:
        """The first request, waited for, and what else is there; False with the last batch."""
        batch: list[tuple[Request, Future[Reply]]] = []
        item = self._waiting.get()
        while item is not None:
            batch.append(item)
            if len(batch) == self._largest:
                return batch, True
            try:
                item = self._waiting.get_nowait()
            except queue.Empty:
                return batch, True
        return batch, False

    def _serve(self, batch: list[tuple[Request, Future[Reply]]]) -> None:
        try:
            replies = self._answer([request for request, _ in batch])
            for (_, reply), value in zip(batch, replies, strict=True):
                reply.set_result(value)
        except Exception as error:
            for _, reply in batch:
                if not reply.done():
                    reply.set_exception(error)
