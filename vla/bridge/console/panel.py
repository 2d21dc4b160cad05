"""A console's buttons in shared memory: what the control loop looks at every tick, and what the run is asked to do."""

from __future__ import annotations

from ..cells import Cells

_FIELDS = ("hold", "required", "lease", "start", "reset", "phase", "after")
LEASE = 0.5
"""How long one sign of a pressed enable button counts [s]; a console gives one at least three times as often."""
WAITING, DRIVING, FAULT = range(3)
"""Phases of a run: for Start, at work, for Reset after something went wrong."""
HELD = "held from the console"
LET_GO = "the enable button was let go"
SILENT = "the console fell silent while it held the enable"


class Panel:
    """Cells between the loop, the run and the console.

    `hold` stops the robot while it is set. With `required` the robot moves only while the enable button is held
    (IEC 60204-1, hold-to-run control): a `lease` [s] that the console must renew, so that a console which dies with
    the button pressed stops the robot. Without `required` a console may die and nothing happens. `start` and `reset`
    count presses, of which the run takes the ones it has not seen. `phase` is the run's, for the console to show, and
    `after` the number of the episode before: what stopped that one is over.

    Args:
        name: of an existing panel, from `name` of the one who made it; None makes one.
    """

    def __init__(self, name: str | None = None) -> None:
        self._cells = Cells(_FIELDS, name)

    @property
    def name(self) -> str:
        return self._cells.name

    def fault(self, now: float) -> str:
        """Why the robot must stand still at `now` [s], as far as the console has a say; empty where it may move."""
        if self._cells["hold"] != 0.0:
            return HELD
        if self._cells["required"] != 0.0:
            lease = self._cells["lease"]
            if now > lease:
                return SILENT if lease > 0.0 else LET_GO
        return ""

    # --- the console's side ------------------------------------------------------------------------------------

    def hold(self) -> None:
        self._cells["hold"] = 1.0

    def start(self) -> None:
        """Ask the run to go on; what held it from here does not any more."""
        self._cells["hold"] = 0.0
        self._cells["start"] += 1.0

    def reset(self) -> None:
        """Ask the run to release the emergency stop and to forget the fault; nothing moves before the next start."""
        self._cells["hold"] = 1.0
        self._cells["reset"] += 1.0

    def require(self, enable: bool) -> None:
        """Whether the robot moves only while the enable button is held. Either way it stops now."""
        self._cells["hold"] = 1.0
        self._cells["lease"] = 0.0
        self._cells["required"] = float(enable)

    def renew(self, now: float) -> None:
        """The enable button is held at `now` [s]."""
        self._cells["lease"] = now + LEASE

    def let_go(self) -> None:
        self._cells["lease"] = 0.0

    @property
    def required(self) -> bool:
        return self._cells["required"] != 0.0

    # --- the run's side ----------------------------------------------------------------------------------------

    def clear(self) -> None:
        """As nobody had touched it, but for the counts of presses."""
        for field in ("hold", "required", "lease", "phase"):
            self._cells[field] = 0.0

    @property
    def starts(self) -> int:
        """How often Start was pressed."""
        return int(self._cells["start"])

    @property
    def resets(self) -> int:
        return int(self._cells["reset"])

    @property
    def phase(self) -> int:
        return int(self._cells["phase"])

    @phase.setter
    def phase(self, value: int) -> None:
        self._cells["phase"] = float(value)

    @property
    def after(self) -> int:
        return int(self._cells["after"])

    @after.setter
    def after(self, epoch: int) -> None:
        self._cells["after"] = float(epoch)

    def close(self) -> None:
        self._cells.close()
