"""What a robot's joints may do: position, velocity, acceleration and jerk limits, keyed by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from ..errors import RobotError

UNLIMITED_JERK_TICKS = 2.0
"""Where no jerk is given, the acceleration may turn from one limit to the other in a tick: 2 A / dt."""


@dataclass(frozen=True)
class Limits:
    """Per commanded element, in spec units (rad or m) and seconds; arrays [A].

    Args:
        names: of the elements, for messages.
        lower, upper: position.
        velocity, acceleration: magnitudes.
        jerk: magnitude; None does not limit it.
        squeeze: of a joint that is told a set-point rather than a trajectory, a gripper: how far outside its position
            limits the target may stay for good. 0, or None for all, where a lasting excess is a fault (see
            `SafetyGate`), as it is for every joint of an arm.
    """

    names: tuple[str, ...]
    lower: np.ndarray
    upper: np.ndarray
    velocity: np.ndarray
    acceleration: np.ndarray
    jerk: np.ndarray | None = None
    squeeze: np.ndarray | None = None

    def __post_init__(self) -> None:
        n = len(self.names)
        for field in fields(self)[1:]:
            if getattr(self, field.name) is None:
                continue
            value = np.array(getattr(self, field.name), np.float64)  # a copy: nobody else may move a limit
            value.flags.writeable = False
            object.__setattr__(self, field.name, value)
            if value.shape != (n,) or not np.isfinite(value).all():
                what = f"Limit '{field.name}' must be finite, one per joint"
                raise RobotError(what, expected=f"[{n}]", got=repr(value))
        positive = [self.velocity, self.acceleration, *([] if self.jerk is None else [self.jerk])]
        if not (self.lower < self.upper).all() or not all((x > 0).all() for x in positive):
            raise RobotError("Limits need lower < upper and velocity, acceleration and jerk > 0", got=repr(self))
        if (self.squeezed < 0).any():
            raise RobotError("Limit 'squeeze' must not be negative", got=repr(self.squeeze))

    @property
    def squeezed(self) -> np.ndarray:
        """[A] `squeeze`, 0 where it is None."""
        return np.zeros(len(self.names)) if self.squeeze is None else self.squeeze

    def jerk_at(self, dt: float) -> np.ndarray:
        """[A] the jerk limit of a loop with tick `dt` [s]."""
        return UNLIMITED_JERK_TICKS * self.acceleration / dt if self.jerk is None else self.jerk

    def scaled(self, velocity: float = 1.0, acceleration: float = 1.0, jerk: float = 1.0) -> Limits:
        """These limits with a share of the rates."""
        slower = None if self.jerk is None else self.jerk * jerk
        return Limits(
            self.names, self.lower, self.upper, self.velocity * velocity, self.acceleration * acceleration,
            slower, self.squeeze,
        )  # fmt: skip

    def select(self, names: Sequence[str]) -> Limits:
        """The limits of the joints `names`, in that order: joints are matched by name.

        Raises `RobotError` naming those without limits.
        """
        index = joint_indices(self.names, names, "A joint has no limits")
        rows: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)[1:]}
        chosen: dict[str, Any] = {k: None if v is None else v[index] for k, v in rows.items()}
        return Limits(tuple(names), **chosen)

    def to_json(self) -> dict[str, Any]:
        """JSON types; `Limits.from_json` inverts it."""
        rows = {f.name: getattr(self, f.name) for f in fields(self)[1:]}
        return {"names": list(self.names), **{k: None if v is None else v.tolist() for k, v in rows.items()}}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Limits:
        rows: dict[str, Any] = {k: v for k, v in data.items() if k != "names"}
        return Limits(tuple(data["names"]), **rows)


def joint_indices(have: Sequence[str], want: Sequence[str], what: str = "A joint is not measured") -> np.ndarray:
    """Where each name of `want` stands in `have`: joints are mapped by name, never by order."""
    missing = [name for name in want if name not in have]
    if missing:
        raise RobotError(what, expected=", ".join(want), got=f"no {', '.join(missing)}", exists=have)
    return np.array([list(have).index(name) for name in want], np.int64)
