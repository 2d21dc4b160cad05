"""A hand in shared memory: how a console moves the robot from another process.

The console makes a `HandCell` or attaches to one by its name, and writes the whole hand again whenever it changes and
at least ten times a second: the last write is the sign of life. The robot's side reads it through `ConsoleHand`. A
console that has control and falls silent for `SILENT` seconds has pressed the emergency button.
"""

from __future__ import annotations

import threading
from types import TracebackType

import numpy as np

from ..chunking import Pose
from ..shared import Layout, Ring
from .hand import Hand, Request, Stop

SILENT = 0.3
"""Seconds."""
_ORDER = (Request.GO, Request.DISCARD, Request.LEAVE)
HAND = Layout.of(
    position=((3,), "float64"),
    quaternion=((4,), "float64"),
    enabled=((), "uint8"),
    opening=((), "float64"),
    beat=((), "float64"),
    requests=((len(_ORDER),), "int64"),
)
"""Target of the tool centre point: position [m] and quaternion w x y z in the world frame; whether it counts; the
gripper's opening, 0 closed … 1 open, NaN as it is; when this was written [s, monotonic]; how often each request was
made, in the order go, discard, leave."""


class HandCell:
    """One writer at a time, any number of readers.

    Args:
        name: of an existing cell; None makes one, which its maker's `close` removes.
    """

    def __init__(self, name: str | None = None) -> None:
        self._ring = Ring(HAND, 4, name)
        self._requests = np.zeros(len(_ORDER), np.int64)
        self._last: tuple[np.ndarray, np.ndarray, bool, float] = (np.zeros(3), np.array([1.0, 0, 0, 0]), False, 1.0)
        self._lock = threading.Lock()
        if (record := self._ring.latest()) is not None:
            self._requests[:] = record["requests"]

    @property
    def name(self) -> str:
        return self._ring.name

    def write(self, pose: Pose, *, enabled: bool, opening: float, now: float) -> None:
        """Say where the hand is to go, as of `now` [s, monotonic]."""
        with self._lock:
            self._last = (np.asarray(pose[0], np.float64), np.asarray(pose[1], np.float64), enabled, opening)
            self._publish(now)

    def ask(self, request: Request, now: float) -> None:
        """Make a request, with the hand as it was written last."""
        with self._lock:
            self._requests[_ORDER.index(request)] += 1
            self._publish(now)

    def _publish(self, now: float) -> None:
        position, quaternion, enabled, opening = self._last
        self._ring.write(
            position=position,
            quaternion=quaternion,
            enabled=enabled,
            opening=opening,
            beat=now,
            requests=self._requests,
        )

    def latest(self) -> dict[str, np.ndarray] | None:
        """The newest record of `HAND`, None before the first."""
        return self._ring.latest()

    def close(self) -> None:
        self._ring.close()


class ConsoleHand:
    """`Device` that reads a `HandCell`.

    Args:
        stop: the emergency button, pressed for a console that falls silent while it has control.
        cell: of the console; stays open.
    """

    help = "move the hand in the console, with its enable on · Start, Keep and Discard there"

    def __init__(self, *, stop: Stop, cell: HandCell) -> None:
        self._stop, self._cell = stop, cell
        record = cell.latest()
        self._asked = np.zeros(len(_ORDER), np.int64) if record is None else record["requests"]
        self._void = -np.inf

    @property
    def engaged(self) -> bool:
        record = self._cell.latest()
        return record is not None and bool(record["enabled"]) and float(record["beat"]) > self._void

    def read(self, now: float) -> Hand:
        record = self._cell.latest()
        if record is None or not record["enabled"] or float(record["beat"]) <= self._void:
            return Hand(False)
        numbers = np.concatenate([record["position"], record["quaternion"], [record["beat"]]])
        length = float(np.linalg.norm(record["quaternion"]))
        if not np.isfinite(numbers).all() or length < 1e-6:
            return self._refuse("the console asks for a pose that is none", now)
        if now - float(record["beat"]) > SILENT:
            return self._refuse("the console fell silent", now)
        opening = float(record["opening"])
        opening = None if np.isnan(opening) else min(max(opening, 0.0), 1.0)
        return Hand(True, pose=(record["position"], record["quaternion"] / length), opening=opening)

    def _refuse(self, why: str, now: float) -> Hand:
        """Stop once: what was written up to now counts no more, also after the button was released."""
        self._void = now
        self._stop(why)
        return Hand(False)

    def requests(self) -> list[Request]:
        record = self._cell.latest()
        if record is None:
            return []
        new, self._asked = record["requests"] - self._asked, record["requests"]
        return [request for request, count in zip(_ORDER, new, strict=True) for _ in range(int(count))]

    def __enter__(self) -> ConsoleHand:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None
