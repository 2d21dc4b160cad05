"""A hand by gamepad. The hand moves only while the right bumper is held: the human has control for as long."""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

import numpy as np

from .hand import Hand, Request, Stop
from .linux_input import EV_ABS, EV_KEY, EV_SYN, EVENT, SYN_DROPPED, Axis, axes, open_gamepad, parse

HELP = (
    "hold RB to move: left stick forward/left · right stick up/turn · D-pad tilt · LB slow · south gripper · "
    "east stop · Start start/keep · Select discard · Guide leave"
)
SLOW = 0.25
_SOUTH, _EAST, _TL, _TR, _SELECT, _START, _MODE = 0x130, 0x131, 0x136, 0x137, 0x13A, 0x13B, 0x13C
_X, _Y, _RX, _RY, _HAT_X, _HAT_Y = 0x00, 0x01, 0x03, 0x04, 0x10, 0x11
STICKS = {_Y: (0, -1.0), _X: (1, -1.0), _RY: (2, -1.0), _HAT_X: (3, 1.0), _HAT_Y: (4, -1.0), _RX: (5, -1.0)}
"""Code of an axis → axis of `Hand.direction` and sign: sticks give down and right as positive."""
_REQUESTS = {_START: Request.GO, _SELECT: Request.DISCARD, _MODE: Request.LEAVE}


class PadState:
    """What a stream of the kernel's records says of a gamepad.

    Args:
        stop: the emergency button: the east button.
        ranges: of the axes.
    """

    def __init__(self, stop: Stop, ranges: Mapping[int, Axis]) -> None:
        self._stop, self._ranges = stop, dict(ranges)
        self._direction = np.zeros(6)
        self._enabled = self._slow = False
        self._toggles = 0
        self._asked: list[Request] = []

    def feed(self, data: bytes) -> None:
        """Take over whole records."""
        for kind, code, value in parse(data):
            if kind == EV_ABS and code in STICKS and code in self._ranges:
                axis, sign = STICKS[code]
                self._direction[axis] = sign * self._ranges[code].share(value)
            elif kind == EV_KEY and value in (0, 1):  # 2 is a repetition
                self._button(code, bool(value))
            elif kind == EV_SYN and code == SYN_DROPPED:
                self.release()  # records were lost; nobody knows what is still held

    def _button(self, code: int, down: bool) -> None:
        if code == _TR:
            self._enabled = down
        elif code == _TL:
            self._slow = down
        elif down and code == _EAST:
            self._stop("gamepad")
        elif down and code == _SOUTH:
            self._toggles += 1
        elif down and code in _REQUESTS:
            self._asked.append(_REQUESTS[code])

    def release(self) -> None:
        """As if nothing were held."""
        self._direction[:] = 0.0
        self._enabled = self._slow = False

    @property
    def hand(self) -> Hand:
        return Hand(self._enabled, self._direction * (SLOW if self._slow else 1.0), toggles=self._toggles)

    def take(self) -> list[Request]:
        asked, self._asked = self._asked, []
        return asked


class GamepadHand:
    """`Device` of a gamepad. One that is unplugged while the human has control presses the emergency button.

    Args:
        stop: the emergency button.
        path: of the device in `/dev/input`; the first gamepad where None.
        fd: of records instead, with `ranges` of its axes; the object closes it.
    """

    help = HELP

    def __init__(
        self, *, stop: Stop, path: Path | None = None, fd: int | None = None, ranges: Mapping[int, Axis] | None = None
    ) -> None:
        self._stop = stop
        self._fd = open_gamepad(path) if fd is None else fd
        self._state = PadState(stop, axes(self._fd, tuple(STICKS)) if ranges is None else ranges)

    def __enter__(self) -> GamepadHand:
        self._wake, self._end = os.pipe()
        self._thread = threading.Thread(target=self._listen, name="gamepad", daemon=True)
        self._thread.start()
        return self

    def _listen(self) -> None:
        while True:
            ready, _, _ = select.select([self._fd, self._wake], [], [])
            if self._wake in ready:
                return
            try:
                data = os.read(self._fd, 64 * EVENT.size)
            except OSError:  # unplugged
                data = b""
            if not data:
                if self._state.hand.engaged:
                    self._stop("the gamepad is gone")
                self._state.release()
                return
            self._state.feed(data)

    @property
    def engaged(self) -> bool:
        return self._state.hand.engaged

    def read(self, now: float) -> Hand:
        return self._state.hand

    def requests(self) -> list[Request]:
        return self._state.take()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._end)
        self._thread.join()
        os.close(self._wake)
        os.close(self._fd)
