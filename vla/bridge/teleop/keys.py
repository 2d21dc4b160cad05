"""A hand by keys of the terminal.

A terminal tells of keys that go down or repeat, never of keys that go up. So every key moves the hand for `LINGER`
seconds: a tap is a small step of known size, a held key goes on for as long as it repeats, and the hand stops when the
repetition does.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import MappingProxyType, TracebackType

import numpy as np

from ..keyboard import KEYS, KeyListener
from .hand import Hand, Request, Stop

LINGER = 0.12
"""Seconds of motion per key; terminals repeat 20 to 40 times a second."""
SLOWEST = 1 / 8
_MOVE = "w/s a/d r/f move · i/k j/l u/o turn · g gripper · -/= slower/faster"
HELP = f"{_MOVE} · Enter start/keep · Backspace discard · x leave · space stop"
HELP_TAKEOVER = f"t take over/give back · {_MOVE} · space stop"

MOTIONS: Mapping[bytes, tuple[int, float]] = MappingProxyType(
    {
        b"w": (0, 1.0),
        b"s": (0, -1.0),
        b"a": (1, 1.0),
        b"d": (1, -1.0),
        b"r": (2, 1.0),
        b"f": (2, -1.0),
        b"u": (3, 1.0),
        b"o": (3, -1.0),
        b"i": (4, 1.0),
        b"k": (4, -1.0),
        b"j": (5, 1.0),
        b"l": (5, -1.0),
        b"\x1b[A": (0, 1.0),
        b"\x1b[B": (0, -1.0),
        b"\x1b[D": (1, 1.0),
        b"\x1b[C": (1, -1.0),  # arrows
    }
)
"""Key → axis of `Hand.direction` and sign: forward is x, left is y, up is z."""
REQUESTS = {b"\r": Request.GO, b"\n": Request.GO, b"\x7f": Request.DISCARD, b"\b": Request.DISCARD, b"x": Request.LEAVE}


def split_keys(typed: bytes) -> list[bytes]:
    """The keys in what one read of a terminal gave: an escape sequence is one key, a lone Escape as well."""
    keys: list[bytes] = []
    i = 0
    while i < len(typed):
        end = i + 1
        if typed[i] == 0x1B and typed[end : end + 1] in (b"[", b"O"):
            end += 1
            while end < len(typed) and not 0x40 <= typed[end] <= 0x7E:  # parameters before the final byte
                end += 1
            end += 1
        keys.append(typed[i:end])
        i = end
    return keys


class KeyboardHand:
    """`Device` of a terminal.

    Args:
        stop: the emergency button: space, Escape or q.
        takeover: whether `t` takes and gives back control; otherwise the human has it throughout.
        moves: whether keys move the hand; without, only requests and the emergency button are heard.
        fd: of the terminal; the standard input where None. Without a terminal nothing is ever read.
    """

    def __init__(self, *, stop: Stop, takeover: bool = False, moves: bool = True, fd: int | None = None) -> None:
        self._stop, self._takeover, self._moves = stop, takeover, moves
        self._engaged = not takeover and moves
        self._until = np.zeros((6, 2))  # per axis and sign, the end of its motion [s]
        self._level, self._toggles = 1.0, 0
        self._asked: list[Request] = []
        self._listener = KeyListener(lambda typed: self.feed(typed, time.monotonic()), fd)

    @property
    def help(self) -> str:
        return HELP_TAKEOVER if self._takeover else HELP

    @property
    def listening(self) -> bool:
        """Whether there is a terminal."""
        return self._listener.listening

    def feed(self, typed: bytes, now: float) -> None:
        """Take over what was typed at `now` [s]."""
        for key in split_keys(typed):
            if key in (bytes([k]) for k in KEYS):
                self._stop("keyboard")
            elif key in REQUESTS:
                self._asked.append(REQUESTS[key])
            elif self._moves:
                self._move(key, now)

    def _move(self, key: bytes, now: float) -> None:
        if key in MOTIONS:
            axis, sign = MOTIONS[key]
            self._until[axis, int(sign < 0)] = now + LINGER
        elif key == b"g":
            self._toggles += 1
        elif key == b"-":
            self._level = max(self._level / 2, SLOWEST)
        elif key in (b"=", b"+"):
            self._level = min(self._level * 2, 1.0)
        elif key == b"t" and self._takeover:
            self._engaged = not self._engaged
            self._until[:] = 0.0

    @property
    def engaged(self) -> bool:
        return self._engaged

    def read(self, now: float) -> Hand:
        down = now < self._until
        direction = self._level * (down[:, 0].astype(np.float64) - down[:, 1])
        return Hand(self._engaged, direction, toggles=self._toggles)

    def requests(self) -> list[Request]:
        asked, self._asked = self._asked, []
        return asked

    def __enter__(self) -> KeyboardHand:
        self._listener.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.__exit__(kind, error, trace)
