"""What a human wants of the robot's hand, whatever device reads it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

import numpy as np

from ..chunking import Pose

Stop = Callable[[str], None]
"""The emergency button, as a device presses it: with its own name. `EmergencyStop.press` is one."""


class Request(Enum):
    """What a human asks of the run besides motion."""

    GO = "start the episode; end it and keep it"
    DISCARD = "end the episode and throw it away"
    LEAVE = "end the run"


@dataclass(frozen=True)
class Hand:
    """One reading of a device.

    Args:
        engaged: whether the human has control; without it nothing else counts.
        direction: [6] in −1 … 1, share of the fastest motion along and about the world's axes x y z.
        pose: where the hand is to go instead, world frame; None where the device steers by `direction`.
        toggles: how often the human has asked for the other state of the gripper, since the device was opened.
        opening: of the gripper, 0 closed … 1 open, for a device that says it; None leaves it as it is.
    """

    engaged: bool
    direction: np.ndarray = field(default_factory=lambda: np.zeros(6))
    pose: Pose | None = None
    toggles: int = 0
    opening: float | None = None


class Device(AbstractContextManager["Device"], Protocol):
    """A keyboard, a gamepad, a console: read while it is open. A device that is lost while the human has control
    presses the emergency button."""

    @property
    def help(self) -> str:
        """One line that says what to press."""
        ...

    @property
    def engaged(self) -> bool:
        """Whether the human has control."""
        ...

    def read(self, now: float) -> Hand:
        """The hand as of `now` [s] on the monotonic clock; never waits."""
        ...

    def requests(self) -> list[Request]:
        """What was asked since the last call, oldest first."""
        ...
