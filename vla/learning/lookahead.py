"""Batches made ahead of the loop that consumes them."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any


class Lookahead:
    """Calls `make(k)`, `make(k + 1)`, … in one thread, two ahead of the reader."""

    def __init__(self, make: Callable[[int], dict[str, Any]], first: int, depth: int = 2) -> None:
        self._make, self._next = make, first
        self._pool = ThreadPoolExecutor(1, "batch")
        self._futures: list[Future[dict[str, Any]]] = []
        for _ in range(depth):
            self._submit()

    def _submit(self) -> None:
        self._futures.append(self._pool.submit(self._make, self._next))
        self._next += 1

    def next(self) -> dict[str, Any]:
        arrays = self._futures.pop(0).result()
        self._submit()
        return arrays

    def __enter__(self) -> Lookahead:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)
