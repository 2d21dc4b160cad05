"""What lies between the control loop and everybody else on its host: what it is told, and what it says of itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ..contract import decode_text, encode_text
from .cells import BEAT, Cells, EmergencyStop
from .console.panel import Panel
from .recorder import TICK_SLOTS, tick_layout
from .shared import Layout, Ring, chunk_layout

HOLD, RUN, EXIT, FAULT, LOST = range(5)
HALTED = "stopped by the operator"
"""Why the gate holds after a HOLD or an EXIT."""
_REASON = 256  # bytes
CONTROL = Layout.of(mode=((), "int64"), epoch=((), "int64"), reason=((_REASON,), "uint8"))
"""What the operator asks of the loop. A RUN with a new epoch is the explicit reset of the gate; a FAULT latches it for
the reason given; LOST says that the policy is gone, which its next chunk revokes."""
STATUS = Layout.of(
    epoch=((), "int64"),
    ticks=((), "int64"),
    missed=((), "int64"),
    chunks=((), "int64"),
    limited=((), "int64"),
    lateness_max=((), "float64"),
    moving=((), "uint8"),
    latched=((), "uint8"),
    reason=((_REASON,), "uint8"),
)


class LoopLink:
    """What lies between the loop and its operator: chunks and control in, status out, the emergency button, the
    console's panel, the beat; and the ticks, for a recorder and a console.

    Args:
        width: A, of a command.
        names: of existing rings, from `names` of the link that made them; None makes new ones.
    """

    def __init__(self, width: int, names: Mapping[str, str] | None = None) -> None:
        layouts = {"chunks": chunk_layout(width), "control": CONTROL, "status": STATUS}
        self._rings = {k: Ring(layout, 4, names[k] if names else None) for k, layout in layouts.items()}
        self.chunks, self.control, self.status = self._rings.values()
        self.ticks = Ring(tick_layout(width), TICK_SLOTS, names["ticks"] if names else None)
        self._rings["ticks"] = self.ticks
        self.estop = EmergencyStop(names["estop"] if names else None)
        self.panel = Panel(names["panel"] if names else None)
        self.beat = Cells(BEAT, names["beat"] if names else None)

    @property
    def names(self) -> dict[str, str]:
        rings = {k: ring.name for k, ring in self._rings.items()}
        return {**rings, "estop": self.estop.name, "panel": self.panel.name, "beat": self.beat.name}

    def close(self) -> None:
        self.estop.close()
        self.panel.close()
        self.beat.close()
        for ring in self._rings.values():
            ring.close()


def encode_reason(text: str) -> np.ndarray:
    """uint8 [256]: UTF-8, cut where it is longer."""
    return encode_text(text.encode()[:_REASON].decode(errors="ignore"), _REASON)


@dataclass(frozen=True)
class Status:
    """What the loop last said of itself; `lateness_max` in seconds, `reason` empty unless latched."""

    epoch: int
    ticks: int
    missed: int
    chunks: int
    limited: int
    lateness_max: float
    moving: bool
    latched: bool
    reason: str


def read_status(ring: Ring) -> Status | None:
    record = ring.latest()
    if record is None:
        return None
    return Status(
        epoch=int(record["epoch"]),
        ticks=int(record["ticks"]),
        missed=int(record["missed"]),
        chunks=int(record["chunks"]),
        limited=int(record["limited"]),
        lateness_max=float(record["lateness_max"]),
        moving=bool(record["moving"]),
        latched=bool(record["latched"]),
        reason=decode_text(record["reason"]),
    )
