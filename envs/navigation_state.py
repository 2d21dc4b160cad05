"""What a simulator of navigation offers: apart from the task, so that it imports on Python 3.9 with numpy alone.

World frame: z up, metres; headings clockwise from +y, as in `vla.navigation`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

Vector = tuple[float, float, float]
ACTIONS = ("stop", "forward", "left", "right", "up", "down")
"""The discrete moves."""


@dataclass(frozen=True)
class NavState:
    """Where an agent is after a move, and what it sees from there.

    Args:
        position: floor point below the agent's centre [m].
        heading, elevation: of the camera [rad].
        collided: whether the last move was cut short.
        distance: geodesic distance to the nearest goal [m], inf where none is reachable.
        images: `"rgb"` uint8 [h w 3], `"depth"` float32 [h w] planar metres (0: nothing), `"semantics"` int32 [h w].
    """

    position: Vector
    heading: float
    elevation: float
    collided: bool
    distance: float
    images: Mapping[str, np.ndarray] = field(default_factory=dict)


class RangeFinder(Protocol):
    """Measures from where a body is, as part of its state."""

    @property
    def elements(self) -> Sequence[tuple[str, str]]:
        """Name and unit of every number."""
        ...

    def __call__(self, scan: str, state: NavState) -> np.ndarray:
        """[K] numbers in a building."""
        ...


class NavSimulator(Protocol):
    """A body that moves on the floor of buildings. One call per step, so that it may live in another process."""

    def begin(self, scan: str, position: Sequence[float], heading: float, goals: Sequence[Sequence[float]]) -> NavState:
        """Put the agent into a building; distances are to `goals` from now on."""
        ...

    def step(self, action: str, *, render: bool = True) -> NavState:
        """Make one discrete move, one of `ACTIONS`."""
        ...

    def drive(self, forward: float, turn: float, seconds: float, *, render: bool = True) -> NavState:
        """Move with `forward` [m/s] and `turn` [rad/s, counter-clockwise positive] for `seconds`."""
        ...

    def path(self, goal: Sequence[float]) -> np.ndarray:
        """float64 [n 3]: corners of the shortest path to `goal`, both ends included; empty without one."""
        ...

    def close(self) -> None:
        """Release what it holds; a second call does nothing."""
        ...
