"""What a simulator in another Python and its client say to each other. Imports on Python 3.9 with numpy alone.

A message is a fixed header (magic, version, kind, number, length) and a payload: numbers in fixed layouts, JSON where
the length varies. Pictures go through memory that both sides map; a message only says where they lie. Everything that
arrives is checked against its layout before it is used; nothing that arrives is executed.
"""

from __future__ import annotations

import json
import math
import socket
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..vla.errors import WayhandError
from .navigation_state import ACTIONS, NavState

VERSION = 1
MAGIC = b"WYNS"
LONGEST = 4 << 20
"""Bytes of the longest payload."""
IMAGES = {"rgb": ("uint8", 3), "depth": ("float32", 2), "semantics": ("int32", 2)}
"""Type and number of axes of each picture."""

HELLO, BEGIN, STEP, DRIVE, PATH, CLOSE = range(1, 7)
READY, STATE, CORNERS, FAILED, BYE = range(65, 70)

_HEADER = struct.Struct("<4sHHII")
_STEP = struct.Struct("<BB")
_DRIVE = struct.Struct("<3dB")
_POINT = struct.Struct("<3d")
_STATE = struct.Struct("<6d?")
_ALIGN = 64
_NOTHING = b"[]"


class WireError(WayhandError):
    """A message that is not what the protocol allows."""


def send(link: socket.socket, kind: int, number: int, payload: bytes) -> None:
    """Send one message; raises `OSError` where the other side is gone."""
    link.sendall(_HEADER.pack(MAGIC, VERSION, kind, number, len(payload)) + payload)


def receive(link: socket.socket) -> tuple[int, int, bytes]:
    """Kind, number and payload of the next message.

    Raises:
        EOFError: the other side has closed.
        WireError: the bytes are no message.
    """
    magic, version, kind, number, length = _HEADER.unpack(_exactly(link, _HEADER.size))
    if magic != MAGIC or version != VERSION or length > LONGEST:
        raise WireError(
            "A simulator's message cannot be read",
            expected=f"{MAGIC!r}, version {VERSION}, at most {LONGEST} bytes",
            got=f"{magic!r}, version {version}, {length} bytes",
        )
    return kind, number, _exactly(link, length) if length else b""


def _exactly(link: socket.socket, length: int) -> bytes:
    data = link.recv(length)
    if len(data) == length:
        return data
    parts = [data]
    left = length - len(data)
    while data and left:
        data = link.recv(left)
        parts.append(data)
        left -= len(data)
    if left:
        raise EOFError
    return b"".join(parts)


# --- JSON ---------------------------------------------------------------------------------------------------------


def pack_json(value: Mapping[str, Any]) -> bytes:
    """UTF-8 JSON without infinities."""
    return json.dumps(value, allow_nan=False, separators=(",", ":")).encode()


def unpack_json(payload: bytes, fields: Mapping[str, type | tuple[type, ...]]) -> dict[str, Any]:
    """A JSON object with exactly these fields of these types; raises `WireError` for anything else."""
    try:
        value = json.loads(payload.decode())
    except (UnicodeDecodeError, ValueError, RecursionError) as error:
        raise WireError("A simulator's message is no JSON", got=str(error)) from error
    if not isinstance(value, dict) or set(value) != set(fields):
        got = sorted(value) if isinstance(value, dict) else type(value).__name__
        raise WireError("A simulator's message has other fields", expected=str(sorted(fields)), got=str(got))
    for name, kind in fields.items():
        if not isinstance(value[name], kind) or isinstance(value[name], bool):
            raise WireError(f"'{name}' of a simulator's message has another type", got=repr(value[name])[:200])
    return value


def unpack_points(value: Any) -> list[tuple[float, float, float]]:
    """Points [n 3] of a JSON list; raises `WireError` for anything else."""
    if not isinstance(value, list) or not all(isinstance(p, list) and len(p) == 3 for p in value):
        raise WireError("A simulator's message holds no list of points", got=repr(value)[:200])
    try:
        points = [(float(x), float(y), float(z)) for x, y, z in value]
    except (TypeError, ValueError) as error:
        raise WireError("A simulator's message holds no list of points", got=str(error)) from error
    if not all(math.isfinite(c) for p in points for c in p):
        raise WireError("A simulator's message holds a point that is not finite", got=repr(value)[:200])
    return points


# --- fixed layouts ------------------------------------------------------------------------------------------------


def pack_step(action: str, render: bool) -> bytes:
    return _STEP.pack(ACTIONS.index(action), render)


def unpack_step(payload: bytes) -> tuple[str, bool]:
    index, render = _fixed(_STEP, payload)
    if index >= len(ACTIONS):
        raise WireError("Unknown move", expected=f"0 … {len(ACTIONS) - 1}", got=str(index))
    return ACTIONS[index], bool(render)


def pack_drive(forward: float, turn: float, seconds: float, render: bool) -> bytes:
    return _DRIVE.pack(forward, turn, seconds, render)


def unpack_drive(payload: bytes) -> tuple[float, float, float, bool]:
    forward, turn, seconds, render = _fixed(_DRIVE, payload)
    return forward, turn, seconds, bool(render)


def pack_point(point: Sequence[float]) -> bytes:
    return _POINT.pack(*map(float, point))


def unpack_point(payload: bytes) -> tuple[float, float, float]:
    x, y, z = _fixed(_POINT, payload)
    return x, y, z


def pack_corners(path: np.ndarray) -> bytes:
    return np.ascontiguousarray(path, "<f8").tobytes()


def unpack_corners(payload: bytes) -> np.ndarray:
    """float64 [n 3]."""
    if len(payload) % 24:
        raise WireError("A simulator's path has a broken length", expected="a multiple of 24", got=str(len(payload)))
    corners = np.frombuffer(payload, "<f8").astype(np.float64).reshape(-1, 3)
    if not np.isfinite(corners).all():
        raise WireError("A simulator's path is not finite")
    return corners


def _fixed(layout: struct.Struct, payload: bytes) -> tuple[Any, ...]:
    if len(payload) != layout.size:
        raise WireError("A message has a wrong length", expected=str(layout.size), got=str(len(payload)))
    values = layout.unpack(payload)
    if not all(math.isfinite(v) for v in values):
        raise WireError("A message holds a number that is not finite", got=str(values))
    return values


class Pictures:
    """Pictures in memory that both sides map: the server writes, the client copies out.

    Args:
        memory: bytes both sides see.
    """

    def __init__(self, memory: Any) -> None:
        self._memory, self._size = memory, len(memory)
        self._layout: tuple[Any, ...] = ()
        self._views: dict[bytes, dict[str, np.ndarray]] = {}
        self._told = b""

    def put(self, images: Mapping[str, np.ndarray]) -> bytes:
        """Write pictures and say where they lie: JSON `[[name, shape, offset], …]`.

        Raises `WireError` where one is none of `IMAGES` or they do not fit.
        """
        if not images:
            return _NOTHING
        layout = tuple((name, image.shape) for name, image in images.items())
        if layout != self._layout:
            told = self._place(images)
            self._views, self._told, self._layout = {told: self._map(told)}, told, layout
        views = self._views[self._told]
        for name, view in views.items():
            np.copyto(view, images[name], casting="no")
        return self._told

    def take(self, told: bytes) -> dict[str, np.ndarray]:
        """Copies of the pictures that the other side wrote; raises `WireError` where they cannot lie there."""
        views = self._views.get(told)
        if views is None:
            views = self._map(told)
            self._views = {told: views, _NOTHING: {}}
        return {name: view.copy() for name, view in views.items()}

    def _place(self, images: Mapping[str, np.ndarray]) -> bytes:
        rows: list[list[Any]] = []
        offset = 0
        for name, image in images.items():
            rows.append([name, list(image.shape), offset])
            offset += -(-image.nbytes // _ALIGN) * _ALIGN
        return json.dumps(rows).encode()

    def _map(self, told: bytes) -> dict[str, np.ndarray]:
        views: dict[str, np.ndarray] = {}
        try:
            for name, shape, offset in json.loads(told.decode()):
                dtype, axes = IMAGES[name]
                whole = all(type(n) is int and n >= 0 for n in (*shape, offset))
                size = math.prod(shape) * np.dtype(dtype).itemsize
                if not whole or len(shape) != axes or offset % _ALIGN or offset + size > self._size:
                    raise WireError(
                        "A simulator's picture does not fit",
                        expected=f"{axes} axes within {self._size} bytes",
                        got=f"'{name}', {shape} at {offset}",
                    )
                views[name] = np.ndarray(shape, dtype, self._memory, offset)
        except (UnicodeDecodeError, ValueError, TypeError, KeyError, RecursionError) as error:
            raise WireError(
                "A simulator says badly where its pictures are", exists=IMAGES, got=f"{type(error).__name__}: {error}"
            ) from error
        return views


def pack_state(state: NavState, pictures: Pictures) -> bytes:
    x, y, z = state.position
    numbers = _STATE.pack(x, y, z, state.heading, state.elevation, state.distance, bool(state.collided))
    return numbers + pictures.put(state.images)


def unpack_state(payload: bytes, pictures: Pictures) -> NavState:
    """The state; raises `WireError` where a number is not one."""
    if len(payload) < _STATE.size:
        raise WireError("A simulator's state is too short", expected=str(_STATE.size), got=str(len(payload)))
    x, y, z, heading, elevation, distance, collided = _STATE.unpack_from(payload)
    if not math.isfinite(x + y + z + heading + elevation) or not distance >= 0:
        raise WireError("A simulator's state is not finite", got=str((x, y, z, heading, elevation, distance)))
    return NavState((x, y, z), heading, elevation, collided, distance, pictures.take(payload[_STATE.size :]))
