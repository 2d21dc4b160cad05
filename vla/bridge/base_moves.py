"""Discrete moves of a mobile base, a step or a turn each, as smooth ways from rest to rest."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .base_space import FreeSpace
from .limits import Limits

MOVES = ("stop", "forward", "left", "right")
COARSE = 0.05
"""Seconds between two waypoints of a move."""


class DiscreteMoves:
    """Odometers of chosen moves.

    Args:
        moves: the choices, of `MOVES`.
        step, turn: of one [m, rad].
        limits: of travel and turn; a move that they do not allow in a period takes longer.
        dt: period [s].
        rows: waypoints of a move.
    """

    def __init__(self, moves: Sequence[str], *, step: float, turn: float, limits: Limits, dt: float, rows: int) -> None:
        self._moves, self._step, self._turn, self._dt = tuple(moves), step, turn, dt
        self._rates = limits.velocity, limits.acceleration, limits.jerk_at(COARSE)
        self._shares = np.arange(1, rows + 1) / rows

    def __call__(
        self, actions: np.ndarray, times: np.ndarray, here: np.ndarray, space: FreeSpace | None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Odometers [H·rows 2] from `here`, their times and whether the agent has arrived [H·rows], of indices [H]."""
        path: list[np.ndarray] = []
        when: list[np.ndarray] = []
        arrived: list[np.ndarray] = []
        stopped, begin = 0.0, float(times[0]) - self._dt
        for action in actions:
            move = self._moves[round(float(action))]
            ahead = self._step if move == "forward" else 0.0
            if space is not None and ahead:
                ahead = min(ahead, space.ahead(here))
            way = np.array([ahead, {"left": self._turn, "right": -self._turn}.get(move, 0.0)])
            stopped = max(stopped, float(move == "stop"))
            seconds = max(self._dt, self._seconds(way))
            path.append(here + way * smooth(self._shares)[:, None])
            when.append(begin + seconds * self._shares)
            arrived.append(np.full(len(self._shares), stopped))
            here, begin = here + way, begin + seconds
        return np.concatenate(path), np.concatenate(when), np.concatenate(arrived)

    def _seconds(self, way: np.ndarray) -> float:
        """How long a smooth move [2] takes at least."""
        speed, rate, jerk = (np.abs(way) * k / limit for k, limit in zip((1.875, 5.774, 60), self._rates, strict=True))
        return float(np.max([speed, rate ** (1 / 2), jerk ** (1 / 3)]))


def smooth(share: np.ndarray) -> np.ndarray:
    """The way of least jerk from rest to rest (Flash and Hogan 1985), 0 … 1 for a share of the time 0 … 1.

    Over a distance d in T seconds its fastest is 1.875 d/T, its largest acceleration 5.77 d/T², its jerk 60 d/T³.
    """
    return share**3 * (10 - 15 * share + 6 * share**2)
