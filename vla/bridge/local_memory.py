"""What two processes on one host share while one of them serves a policy: memory, and headers on a socket."""

from __future__ import annotations

import fcntl
import mmap
import os
import struct

import numpy as np

from ..contract import EnvSpec
from ..errors import SpecError
from .shared import LONGEST_CHUNK, Layout

HELLO = b"WYHL1"
"""Begins the server's first message, before the metadata; the number is the version."""
INFER, RESET, DONE, REFUSED, FAILED = range(1, 6)
REQUEST = struct.Struct("<BxxxIQQi")
"""Kind, prefix rows (0: none), number, session, delay; then the instruction, or what a reset tells (msgpack)."""
ANSWER = struct.Struct("<BxxxIQd")
"""Kind, rows, number, seconds in the policy; then what went wrong."""
LONGEST = 100_000
"""Bytes of a message on the socket."""


class Memory:
    """The two records of one conversation about a policy for `spec`.

    Args:
        handle: of the memory a client made; None makes some.
    """

    def __init__(self, spec: EnvSpec, handle: int | None = None) -> None:
        columns = {k: v for k, v in spec.columns().items() if k.startswith("observation.")}
        chunk = {"times": ((LONGEST_CHUNK,), "float64"), "actions": ((LONGEST_CHUNK, spec.action_dim), "float64")}
        prefix = {f"prefix.{k}": v for k, v in chunk.items()}
        senses = {k: (v.shape, v.dtype) for k, v in columns.items()}
        fields = {**senses, **prefix, "prefix.observed_at": ((), "float64")}
        request, answer = Layout.of(**fields).dtype(), Layout.of(**chunk).dtype()
        size = request.itemsize + answer.itemsize
        self.handle = _anonymous(size) if handle is None else _judged(handle, size)
        self._map = mmap.mmap(self.handle, size)
        self.request = _views(request, self._map, 0)
        self.answer = _views(answer, self._map, request.itemsize)
        self.columns = {path: self.request[path] for path in columns}

    def close(self) -> None:
        self.request, self.answer, self.columns = {}, {}, {}
        self._map.close()
        os.close(self.handle)


def _views(dtype: np.dtype, buffer: mmap.mmap, offset: int) -> dict[str, np.ndarray]:
    record = np.ndarray((1,), dtype, buffer, offset)
    return {name: record[name].reshape(record[name].shape[1:]) for name in dtype.names or ()}


def _seals() -> int:
    return fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW


def _anonymous(size: int) -> int:
    handle = os.memfd_create("wayhand", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(handle, size)
    fcntl.fcntl(handle, fcntl.F_ADD_SEALS, _seals())
    return handle


def _judged(handle: int, size: int) -> int:
    """A client's memory, once it is what it should be: mapping one that shrinks later would kill the server."""
    try:
        fits = os.fstat(handle).st_size == size and fcntl.fcntl(handle, fcntl.F_GET_SEALS) & _seals() == _seals()
    except OSError:
        fits = False
    if not fits:
        os.close(handle)
        raise SpecError("The client's memory is not what the policy's spec asks for", expected=f"{size} sealed bytes")
    return handle
