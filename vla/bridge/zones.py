"""Where the robot's body may be: workspace boxes to stay in and keep-out boxes to stay out of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import ConfigError

Points = Callable[[np.ndarray], np.ndarray]
"""Forward kinematics: joints [A] → points on the robot [N 3], metres, world frame."""


@dataclass(frozen=True)
class Box:
    """An axis-aligned box, metres, world frame.

    Args:
        name: for messages.
        lower, upper: its corners, [3] each.

    Raises `ConfigError` where they are not finite and ordered.
    """

    name: str
    lower: tuple[float, float, float]
    upper: tuple[float, float, float]

    def __post_init__(self) -> None:
        lower, upper = np.array(self.lower, np.float64), np.array(self.upper, np.float64)
        if lower.shape != (3,) or upper.shape != (3,) or not (lower < upper).all() or not np.isfinite(upper).all():
            raise ConfigError(f"Box '{self.name}' needs lower < upper, 3 numbers [m] each", got=repr(self))

    def clearance(self, points: np.ndarray) -> np.ndarray:
        """[N] how deep points [N 3] are inside [m]; negative outside."""
        return np.minimum(points - np.array(self.lower), np.array(self.upper) - points).min(axis=-1)


class ZoneGuard:
    """`Guard` over boxes: every point of the robot is in one of `workspace` and in none of `keep_out`.

    Args:
        points: of the robot that are looked at; a tool centre point, the corners of a gripper, the elbow.
        workspace: none means everywhere.
        keep_out: enter none of these.
        margin: kept from every border [m].
        period: how often it is asked [s].
    """

    def __init__(
        self,
        points: Points,
        *,
        workspace: Sequence[Box] = (),
        keep_out: Sequence[Box] = (),
        margin: float = 0.0,
        period: float = 0.0,
    ) -> None:
        self._points, self._margin = points, margin
        self._workspace, self._keep_out = tuple(workspace), tuple(keep_out)
        self._period = period

    @property
    def period(self) -> float:
        return self._period

    def fault(self, path: np.ndarray) -> str:
        points = np.concatenate([self._points(q) for q in path])
        for box in self._keep_out:
            if (box.clearance(points) > -self._margin).any():
                return f"keep-out zone '{box.name}'"
        if self._workspace:
            inside = np.stack([box.clearance(points) for box in self._workspace]).max(axis=0)
            if (inside < self._margin).any():
                return f"outside the workspace {' and '.join(repr(box.name) for box in self._workspace)}"
        return ""
