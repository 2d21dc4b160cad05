"""One episode of continuous navigation while it is played: where it went and what it has earned so far."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ..vla.contract import encode_text
from ..vla.errors import DataError
from ..vla.evaluation.nav_metrics import dtw, euclidean, ndtw, soft_spl, spl
from ..vla.navigation import NavEpisode
from .navigation_spec import NavBody, NavTask
from .navigation_state import NavSimulator, NavState
from .shortest_follower import Follower, blocked

STILL = 0.1
"""A continuous base stands still below this share of both of its speeds, as in habitat-lab's velocity control."""
_DENSE = 0.25
_CLOSEST = 8


def goal_points(episode: NavEpisode) -> list[tuple[float, float, float]]:
    """The floor points at which an episode ends: view points where its goals have them, else their positions.

    Raises `DataError` where the episode names no place.
    """
    points = [p for goal in episode.goals for p in (goal.viewpoints or ((goal.position,) if goal.position else ()))]
    if not points and episode.reference:
        points = [episode.reference[-1]]
    if not points:
        raise DataError(f"Episode '{episode.id}' names no place to go", expected="goals with positions, or a reference")
    return points


class Play:
    """The running account of an episode.

    Args:
        words: the instruction.
        goals: floor points [m].
        state: at the start.
    """

    def __init__(
        self,
        episode: NavEpisode,
        words: str,
        goals: Sequence[tuple[float, float, float]],
        state: NavState,
        body: NavBody,
        task: NavTask,
    ) -> None:
        self.episode, self.goals, self.start, self.state = episode, goals, state, state
        self.words = encode_text(words)
        self.follower = Follower(body, min(0.9 * task.radius, 0.2))
        self.steps = self.collisions = 0
        self.stuck = False
        self._body, self._task = body, task
        self._stopped, self._still = False, 0.0
        self._length = 0.0
        self._passed = state.distance < task.radius
        self._track = [state.position]
        self._goal: tuple[float, float, float] | None = None

    def stands_still(self, forward: float, turn: float) -> bool:
        """Whether a continuous base has now stood still long enough to mean STOP."""
        still = abs(forward) < STILL * self._body.speed and abs(turn) < STILL * self._body.spin
        self._still = self._still + self._body.control_dt if still else 0.0
        return self._still >= self._task.stand - 1e-9

    def moved(self, state: NavState, stop: bool) -> None:
        """Count a move that led to `state`."""
        before, self.state = self.state, state
        self.steps += 1
        self._stopped = stop
        self.collisions += state.collided
        self.stuck = state.collided and blocked(before.position, state.position)
        if state.position != before.position:
            self._length += math.dist(before.position, state.position)
            self._track.append(state.position)
        self._passed = self._passed or state.distance < self._task.radius

    def measures(self, *, final: bool = False) -> dict[str, float]:
        """See `NavigationEnv`."""
        distance, first = self.state.distance, self.start.distance
        success = float(self._stopped and distance < self._task.radius)
        reachable = math.isfinite(first) and math.isfinite(distance)
        found = {
            "distance_to_goal": distance,
            "success": success,
            "oracle_success": float(self._passed),
            "path_length": self._length,
            "spl": spl(success, first, self._length) if reachable else 0.0,
            "soft_spl": soft_spl(first, distance, self._length) if reachable else 0.0,
            "collisions": float(self.collisions),
            "steps": float(self.steps),
        }
        if final and len(self.episode.reference) > 1:
            reference = _dense(np.array(self.episode.reference))
            cost = dtw(euclidean(np.array(self._track), reference))
            found["ndtw"] = ndtw(cost, len(reference), self._task.radius)
        return found

    def aim_goal(self, simulator: NavSimulator) -> tuple[float, float, float] | None:
        """The goal the expert walks to: the nearest one along the floor; None where none is reachable."""
        if self._goal is None:
            # The nearest in the air may be behind a wall, so some of all the others are asked for as well.
            near = sorted(self.goals, key=lambda g: math.dist(g, self.state.position))
            paths = {g: simulator.path(g) for g in (*near[:_CLOSEST], *near[_CLOSEST :: max(1, len(near) // _CLOSEST)])}
            lengths = {g: float(np.linalg.norm(np.diff(p, axis=0), axis=1).sum()) for g, p in paths.items() if len(p)}
            self._goal = min(lengths, key=lambda g: lengths[g], default=None)
        return self._goal


def _dense(reference: np.ndarray) -> np.ndarray:
    """The reference path with a point at least every 0.25 m: float64 [m 3]."""
    out = [reference[:1]]
    for a, b in zip(reference[:-1], reference[1:], strict=True):
        n = max(1, math.ceil(float(np.linalg.norm(b - a)) / _DENSE))
        out.append(a + (b - a) * (np.arange(1, n + 1) / n)[:, None])
    return np.concatenate(out)
