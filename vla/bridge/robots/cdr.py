"""Plain CDR (OMG XCDR version 1), the bytes in which ROS 2 messages travel, from and to plain Python values.

A message is a dict of its fields; sequences and arrays of numbers are numpy arrays, those of bytes without a copy.
What arrives is not trusted: every length is checked against the bytes that are there.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from ...errors import RobotError

SIZES = {"bool": 1, "uint8": 1, "int8": 1, "uint16": 2, "int16": 2, "uint32": 4, "int32": 4, "uint64": 8, "int64": 8,
         "float32": 4, "float64": 8}  # fmt: skip
"""Bytes of a number; it is aligned to as many."""
_FORMATS = dict(zip(SIZES, "?BbHhIiQqfd", strict=True))
_HEADER: dict[bytes, Literal["<", ">"]] = {b"\x00\x00": ">", b"\x00\x01": "<"}  # representation identifier → byte order


@dataclass(frozen=True)
class Sequence:
    """Of any length."""

    of: Type


@dataclass(frozen=True)
class Array:
    of: Type
    length: int


@dataclass(frozen=True)
class Message:
    """A message definition.

    Args:
        name: `package/Name`.
        fields: name and type, in their order.
    """

    name: str
    fields: tuple[tuple[str, Type], ...]


Type = str | Sequence | Array | Message
"""A key of `SIZES`, `"string"`, or one of the three above."""


def encode(message: Message, value: Mapping[str, Any]) -> bytes:
    """Little-endian, with the encapsulation header. Raises `RobotError` where `value` does not fit `message`."""
    out = bytearray()
    try:
        _write(out, message, value)
    except (KeyError, TypeError, ValueError, struct.error, AttributeError) as error:
        what = f"This is no {message.name}"
        fields = [name for name, _ in message.fields]
        raise RobotError(what, got=f"{type(error).__name__}: {error}", exists=fields) from error
    return b"\x00\x01\x00\x00" + bytes(out)


def decode(message: Message, data: bytes) -> dict[str, Any]:
    """Inverse of `encode`, of either byte order. Raises `RobotError` for anything else."""
    order = _HEADER.get(bytes(data[:2]))
    if order is None or len(data) < 4:
        raise RobotError(f"A {message.name} must be plain CDR", expected="00 00 or 00 01", got=bytes(data[:4]).hex(" "))
    return _Reader(message.name, data, order).read(message)


def _write(out: bytearray, kind: Type, value: Any) -> None:
    if isinstance(kind, Message):
        for name, field in kind.fields:
            _write(out, field, value[name])
    elif isinstance(kind, Sequence):
        _write(out, "uint32", len(value))
        _write_all(out, kind.of, value)
    elif isinstance(kind, Array):
        if len(value) != kind.length:
            raise ValueError(f"{len(value)} elements instead of {kind.length}")
        _write_all(out, kind.of, value)
    elif kind == "string":
        raw = value.encode() + b"\0"
        _write(out, "uint32", len(raw))
        out += raw
    else:
        _align(out, SIZES[kind])
        out += struct.pack("<" + _FORMATS[kind], value)


def _write_all(out: bytearray, kind: Type, values: Any) -> None:
    if not isinstance(kind, str) or kind == "string":
        for value in values:
            _write(out, kind, value)
    elif len(values):  # nothing is aligned for the elements of an empty sequence
        _align(out, SIZES[kind])
        out += values if isinstance(values, bytes) else np.asarray(values, np.dtype(kind).newbyteorder("<")).tobytes()


def _align(out: bytearray, size: int) -> None:
    out += bytes(-len(out) % size)


class _Reader:
    def __init__(self, name: str, data: bytes, order: Literal["<", ">"]) -> None:
        self._order: Literal["<", ">"] = order
        self._name, self._data, self._at = name, memoryview(data)[4:], 0

    def read(self, kind: Type) -> Any:
        if isinstance(kind, Message):
            return {name: self.read(field) for name, field in kind.fields}
        if isinstance(kind, Sequence):
            return self._read_all(kind.of, self.read("uint32"))
        if isinstance(kind, Array):
            return self._read_all(kind.of, kind.length)
        if kind == "string":
            raw = bytes(self._take(self.read("uint32"))).rstrip(b"\0")
            try:
                return raw.decode()
            except UnicodeDecodeError:
                raise RobotError(f"A string in a {self._name} is not UTF-8", got=repr(raw[:40])) from None
        self._at += -self._at % SIZES[kind]
        return struct.unpack(self._order + _FORMATS[kind], self._take(SIZES[kind]))[0]

    def _read_all(self, kind: Type, count: int) -> Any:
        if not isinstance(kind, str) or kind == "string":
            self._require(count)  # no element is shorter than a byte
            return [self.read(kind) for _ in range(count)]
        dtype = np.dtype(kind).newbyteorder(self._order)
        if not count:
            return np.zeros(0, kind)
        self._at += -self._at % SIZES[kind]
        return np.frombuffer(self._take(count * SIZES[kind]), dtype)

    def _take(self, size: int) -> memoryview:
        self._require(size)
        self._at += size
        return self._data[self._at - size : self._at]

    def _require(self, size: int) -> None:
        left = len(self._data) - self._at
        if size > left:
            raise RobotError(f"A {self._name} ends too early", expected=f"{size} bytes", got=str(max(left, 0)))
