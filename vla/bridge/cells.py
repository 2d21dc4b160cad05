"""Single numbers in shared memory that a loop may look at every tick: a heartbeat, a stop, an emergency button."""

from __future__ import annotations

from multiprocessing.shared_memory import SharedMemory

import numpy as np

BEAT = ("beat", "armed", "leave")
"""Between loop and watchdog: when the loop last beat [s], whether it is to be watched, whether the watchdog may end."""
_TEXT = 256  # bytes


class Cells:
    """float64 cells by name and one short text.

    An aligned cell is written and read whole; several together are not one transaction, so a reader takes each for
    itself. Any process may write.

    Args:
        fields: names of the cells.
        name: of existing cells to attach to; None makes new ones, all zero, which their maker `close` removes.
    """

    def __init__(self, fields: tuple[str, ...], name: str | None = None) -> None:
        size = 8 * len(fields) + _TEXT
        self._memory = SharedMemory(name=name, create=name is None, size=size)
        self._maker = name is None
        buffer = self._memory.buf
        assert buffer is not None
        self._cells = np.ndarray((len(fields),), np.float64, buffer)
        self._text = np.ndarray((_TEXT,), np.uint8, buffer, 8 * len(fields))
        self._index = {field: i for i, field in enumerate(fields)}
        if self._maker:
            self._cells[:] = 0.0
            self._text[:] = 0

    @property
    def name(self) -> str:
        return self._memory.name

    def __getitem__(self, field: str) -> float:
        return float(self._cells[self._index[field]])

    def __setitem__(self, field: str, value: float) -> None:
        self._cells[self._index[field]] = value

    @property
    def text(self) -> str:
        return self._text.tobytes().split(b"\0", 1)[0].decode("utf-8", errors="ignore")

    @text.setter
    def text(self, value: str) -> None:
        raw = value.encode("utf-8")[: _TEXT - 1]
        self._text[: len(raw)] = np.frombuffer(raw, np.uint8)
        self._text[len(raw) :] = 0

    def close(self) -> None:
        """Let go of the memory; its maker also removes it."""
        del self._cells, self._text
        self._memory.close()
        if self._maker:
            self._memory.unlink()


class EmergencyStop:
    """A latching button that any process of this host can press.

    The control loop looks at it every tick, so its stop begins within a period. It stays pressed until `release`,
    which is the operator's to call: a new episode does not.

    Args:
        name: of an existing button, from `name` of the one who made it; None makes one.
    """

    def __init__(self, name: str | None = None) -> None:
        self._cells = Cells(("pressed",), name)

    @property
    def name(self) -> str:
        return self._cells.name

    @property
    def pressed(self) -> bool:
        return self._cells["pressed"] != 0.0

    @property
    def reason(self) -> str:
        return f"emergency stop: {self._cells.text}"

    def press(self, who: str) -> None:
        """Stop the robot; `who` says where the button is, for the report. The first press names the reason."""
        if not self.pressed:
            self._cells.text = who
        self._cells["pressed"] = 1.0

    def release(self) -> None:
        self._cells["pressed"] = 0.0

    def close(self) -> None:
        self._cells.close()
