"""Linux's own interface to input devices, `/dev/input/event*`: records, ranges of axes, and which one is a gamepad.

The kernel's drivers give every gamepad the same codes (Documentation/input/gamepad.rst), without X and without a
library; the records and requests are those of `linux/input.h`, a stable interface.
"""

from __future__ import annotations

import fcntl
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ...errors import RobotError

EVENT = struct.Struct("@llHHi")
"""`struct input_event`: seconds, microseconds, type, code, value."""
EV_SYN, EV_KEY, EV_ABS = 0x00, 0x01, 0x03
SYN_DROPPED = 3
BTN_SOUTH = 0x130
_ABSINFO = struct.Struct("@6i")  # value, minimum, maximum, fuzz, flat, resolution
_FOLDER = Path("/dev/input")
_READ = 2


@dataclass(frozen=True)
class Axis:
    """The values an axis can take, and how far around its middle it counts as at rest."""

    minimum: int
    maximum: int
    flat: int = 0

    def share(self, value: int) -> float:
        """−1 … 1, 0 while at rest."""
        middle, half = (self.maximum + self.minimum) / 2, max((self.maximum - self.minimum) / 2, 1e-9)
        rest = max(self.flat / half, 0.1) if half > 1 else 0.0  # a worn stick rests beside its middle
        x = min(max((value - middle) / half, -1.0), 1.0)
        return 0.0 if abs(x) <= rest else (x - rest if x > 0 else x + rest) / (1.0 - rest)


def parse(data: bytes) -> Iterator[tuple[int, int, int]]:
    """(type, code, value) of every whole record in `data`."""
    for _, _, kind, code, value in EVENT.iter_unpack(data[: len(data) // EVENT.size * EVENT.size]):
        yield kind, code, value


def axes(fd: int, codes: tuple[int, ...]) -> dict[int, Axis]:
    """The ranges of those of `codes` that the device has (EVIOCGABS)."""
    found: dict[int, Axis] = {}
    for code in codes:
        try:
            raw = fcntl.ioctl(fd, _request(0x40 + code, _ABSINFO.size), bytes(_ABSINFO.size))
        except OSError:
            continue
        _, minimum, maximum, _, flat, _ = _ABSINFO.unpack(raw)
        if minimum < maximum:
            found[code] = Axis(minimum, maximum, flat)
    return found


def _is_gamepad(fd: int) -> bool:
    size = BTN_SOUTH // 8 + 1
    try:
        keys = fcntl.ioctl(fd, _request(0x20 + EV_KEY, size), bytes(size))  # EVIOCGBIT
    except OSError:
        return False
    return bool(keys[BTN_SOUTH // 8] >> (BTN_SOUTH % 8) & 1)


def _request(number: int, size: int) -> int:
    """`_IOR('E', number, size)`."""
    return _READ << 30 | size << 16 | ord("E") << 8 | number


def open_gamepad(path: Path | None = None) -> int:
    """A file descriptor of the gamepad at `path`, or of the first one there is; raises `RobotError` without one."""
    paths = [path] if path is not None else sorted(_FOLDER.glob("event*"))
    denied: list[str] = []
    for one in paths:
        try:
            fd = os.open(one, os.O_RDONLY | os.O_NONBLOCK)
        except PermissionError:
            denied.append(str(one))
            continue
        except OSError:
            continue
        if _is_gamepad(fd):
            return fd
        os.close(fd)
    if denied:
        raise RobotError("No right to read the gamepad", got=", ".join(denied), run="sudo usermod -aG input $USER")
    raise RobotError(
        "There is no gamepad", expected=f"one that Linux knows, in {_FOLDER}", exists=[str(p) for p in paths]
    )
