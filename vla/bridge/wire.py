"""The codec of the openpi policy protocol: msgpack in which numpy arrays are maps with binary keys.

The wire form is that of openpi-client 0.1 (https://github.com/Physical-Intelligence/openpi). What arrives is measured
before anything is built from it: a frame cannot cost more memory than its size allows, and only plain numbers, texts
and arrays of a few dtypes come out. Imports on Python 3.9 with numpy and msgpack alone.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgpack
import numpy as np

from ..errors import WayhandError

DTYPES = ("b1", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8")
"""Kind and size of every dtype that may travel, in either byte order."""

_ALLOWED = {order + code for order in "<>|=" for code in DTYPES}
_VIEWED = 1 << 14
"""Bytes from which on an array is cheaper to view than to copy."""
_ARRAY, _SCALAR = "__ndarray__", "__npgeneric__"
_MARKED = {_ARRAY: {_ARRAY, "data", "dtype", "shape"}, _SCALAR: {_SCALAR, "data", "dtype"}}


class WireError(WayhandError):
    """A frame that is not what the protocol allows."""


@dataclass(frozen=True)
class Limits:
    """What one frame may hold.

    Args:
        size: bytes of the frame.
        nodes: values in it, map keys included; each becomes a Python object.
        depth: of nested maps and lists.
        rank: axes of an array.
    """

    size: int = 64 << 20
    nodes: int = 20_000
    depth: int = 16
    rank: int = 8


DEFAULT = Limits()


def pack(value: Any) -> bytes:
    """`value` (maps with text keys, lists, numbers, texts, bytes, None, arrays) as one frame.

    An array's data are laid out in C order, its byte order kept. Raises `WireError` for anything else.
    """
    try:
        return bytes(msgpack.packb(value, default=_encode) or b"")
    except (TypeError, ValueError, OverflowError) as error:
        raise WireError("This cannot travel", expected="numbers, texts, lists, maps, arrays", got=str(error)) from None


def unpack(frame: bytes | bytearray | memoryview, limits: Limits = DEFAULT) -> Any:
    """Inverse of `pack`; tuples come back as lists. Arrays are read-only views into the decoded bytes.

    Raises `WireError` for a frame beyond `limits`, malformed, with a key given twice, or with an array whose dtype,
    shape and data do not fit each other.
    """
    _measure(frame, limits)
    try:
        return msgpack.unpackb(frame, object_pairs_hook=lambda pairs: _decode(pairs, limits), max_ext_len=0)
    except WireError:
        raise
    except (msgpack.UnpackException, ValueError, TypeError, OverflowError, RecursionError) as error:
        raise WireError("A frame cannot be decoded", got=type(error).__name__) from None


# --- encoding --------------------------------------------------------------------------------------------------


def _encode(value: Any) -> dict[bytes, Any]:
    if not isinstance(value, (np.ndarray, np.generic)):
        raise TypeError(type(value).__name__)
    code = value.dtype.str
    if code not in _ALLOWED:
        raise WireError("This dtype cannot travel", got=str(value.dtype), exists=DTYPES)
    if isinstance(value, np.generic):
        return {b"__npgeneric__": True, b"data": value.item(), b"dtype": code}
    data: Any
    if value.nbytes < _VIEWED:
        data = value.tobytes()
    else:
        data = np.ascontiguousarray(value).reshape(-1).view(np.uint8).data
    return {b"__ndarray__": True, b"data": data, b"dtype": code, b"shape": value.shape}


# --- measuring -------------------------------------------------------------------------------------------------

_SKIP, _COUNTED, _ITEMS, _PAIRS, _REFUSED = range(5)
_Header = tuple[int, int, int]


def _header(first: int) -> _Header:
    """What a first byte announces: kind, a count it holds itself, bytes of a count or number that follow."""
    if first <= 0x7F or first >= 0xE0 or first in (0xC0, 0xC2, 0xC3):
        return _SKIP, 0, 0
    if first <= 0x8F:
        return _PAIRS, first & 0x0F, 0
    if first <= 0x9F:
        return _ITEMS, first & 0x0F, 0
    if first <= 0xBF:
        return _COUNTED, first & 0x1F, 0
    if first in (0xC4, 0xC5, 0xC6):
        return _COUNTED, 0, 1 << (first - 0xC4)
    if first in (0xD9, 0xDA, 0xDB):
        return _COUNTED, 0, 1 << (first - 0xD9)
    if first in (0xCA, 0xCB):
        return _SKIP, 4 if first == 0xCA else 8, 0
    if 0xCC <= first <= 0xD3:
        return _SKIP, 1 << ((first - 0xCC) % 4), 0
    if first in (0xDC, 0xDD):
        return _ITEMS, 0, 2 if first == 0xDC else 4
    if first in (0xDE, 0xDF):
        return _PAIRS, 0, 2 if first == 0xDE else 4
    return _REFUSED, 0, 0  # extension types, and the one byte msgpack never uses


_HEADERS: Sequence[_Header] = [_header(first) for first in range(256)]
_COUNT = {1: struct.Struct(">B"), 2: struct.Struct(">H"), 4: struct.Struct(">I")}


def _measure(frame: bytes | bytearray | memoryview, limits: Limits) -> None:
    """Walk the headers, jumping over payloads: cheap for honest frames, bounded for all others."""
    size = len(frame)
    if size > limits.size:
        raise WireError("A frame is too large", expected=f"at most {limits.size} bytes", got=f"{size} bytes")
    position = nodes = 0
    left = 1
    outer: list[int] = []
    while left or outer:
        if not left:
            left = outer.pop()
            continue
        if position >= size:
            raise WireError("A frame is cut short")
        kind, count, width = _HEADERS[frame[position]]
        position += 1
        left -= 1
        nodes += 1
        if width:
            if position + width > size:
                raise WireError("A frame is cut short")
            count = _COUNT[width].unpack_from(frame, position)[0]
            position += width
        if kind in (_ITEMS, _PAIRS):
            count *= kind - 1
            # Every value takes a byte at least: a count beyond that is a lie that must not size a list.
            if nodes + count > limits.nodes or count > size - position:
                raise WireError("A frame holds too many values", expected=f"at most {limits.nodes}", got=str(count))
            if len(outer) >= limits.depth:
                raise WireError("A frame is nested too deeply", expected=f"at most {limits.depth} levels")
            outer.append(left)
            left = count
        elif kind == _REFUSED:
            raise WireError("A frame holds a type the protocol does not have", got=f"byte {frame[position - 1]:#04x}")
        else:
            position += count
    if position != size:
        fault = "cut short" if position > size else "followed by something else"
        raise WireError(f"A frame is {fault}", expected=f"{position} bytes", got=f"{size} bytes")


# --- decoding --------------------------------------------------------------------------------------------------


def _decode(pairs: list[tuple[Any, Any]], limits: Limits) -> Any:
    out: dict[str, Any] = {}
    for key, value in pairs:
        name = key if type(key) is str else str(key, "utf-8")
        if name in out:
            raise WireError("A key is given twice", got=_short(name))
        out[name] = value
    # Markers are binary keys in openpi's own encoders; others write text.
    for marker, names in _MARKED.items():
        if marker in out:
            if out.keys() != names or out[marker] is not True:
                raise WireError("A marked value is incomplete", expected=", ".join(sorted(names)))
            return _array(out, limits) if marker == _ARRAY else _scalar(out)
    return out


def _dtype(code: Any) -> np.dtype[Any]:
    if type(code) is bytes:
        code = code.decode("ascii")
    if type(code) is not str or code not in _ALLOWED:
        raise WireError("An array has a dtype that is not allowed", got=_short(code), exists=DTYPES)
    return np.dtype(code)


def _array(marked: dict[str, Any], limits: Limits) -> np.ndarray[Any, Any]:
    data, shape, dtype = marked["data"], marked["shape"], _dtype(marked["dtype"])
    if type(shape) is not list or len(shape) > limits.rank:
        raise WireError("An array has a shape that is not allowed", expected=f"a list of at most {limits.rank} sizes")
    size = dtype.itemsize
    for length in shape:
        if type(length) is not int or not 0 <= length <= limits.size:
            raise WireError("An array has a shape that is not allowed", got=_short(length))
        size *= length
    if type(data) is not bytes or len(data) != size:
        got = f"{len(data)} bytes" if type(data) is bytes else type(data).__name__
        raise WireError("An array's data do not fit its shape", expected=f"{size} bytes", got=got)
    return np.ndarray(tuple(shape), dtype, data)


def _scalar(marked: dict[str, Any]) -> Any:
    dtype, data = _dtype(marked["dtype"]), marked["data"]
    wanted = {"b": bool, "f": float}.get(dtype.kind, int)
    if type(data) is not wanted and not (wanted is float and type(data) is int):
        raise WireError("A scalar does not fit its dtype", expected=wanted.__name__, got=type(data).__name__)
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        if not info.min <= data <= info.max:
            raise WireError("A scalar does not fit its dtype", expected=str(dtype), got=_short(data))
    with np.errstate(over="ignore"):
        return dtype.type(data)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."
