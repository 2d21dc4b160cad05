"""A mobile base in the terms of joints: how far it has travelled and turned, as its wheels count it.

Two numbers say where the wheels of a differential drive stand, and their rates are its speeds. So a base passes the
same chunks, limits, gate and loop as an arm: velocities are integrated against the observation they were computed
from, discrete moves become smooth profiles, and a stop holds the place.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from ..contract import ActionChunk, ActionGroup, Element, EnvSpec, Observation
from ..errors import SpecError
from .base_space import FreeSpace
from .chunking import Going
from .limits import Limits, joint_indices

TRAVEL, TURNED, ARRIVED = Element("travel", "m"), Element("turned", "rad"), Element("arrived", "")
"""Forward along the way, counter-clockwise, and 1 once the agent declares that it has arrived (navigation's STOP)."""
FAR = 1e4
"""Where the odometers end [m, rad]."""
BASE_TARGET = "base_target"
"""Extra [2]: what `travel` and `turned` were commanded to be at the observation."""
MOVES = ("stop", "forward", "left", "right")
VELOCITIES = ("forward", "turn")
BASE_SPEED = "base_speed"
"""Extra [2]: the speeds that were commanded then [m/s, rad/s]."""
STOOD = "stood"
"""Extra []: for how long the base had stood still then [s]."""
FINE = 0.05
"""Seconds between two waypoints; velocities change from one to the next within the acceleration limits."""
STAND, STILL = 0.5, 0.01
"""Velocities below this share of the limits for so long [s] mean that the agent has arrived."""
EASY = 0.6
"""Share of the limits of acceleration and jerk by which velocities change: who follows needs the rest to catch up."""
FAST = 0.9
"""Share of the limits of speed, and of all limits in a smooth move."""


def base_group(*, arrives: bool) -> ActionGroup:
    """The action group of a base; `arrives` where its task ends by the agent's word."""
    elements = (TRAVEL, TURNED, ARRIVED) if arrives else (TRAVEL, TURNED)
    lower, upper = (-FAR, -FAR, 0.0), (FAR, FAR, 1.0)
    return ActionGroup("base", "joint_position", elements, lower[: len(elements)], upper[: len(elements)])


class BaseTargets:
    """Turns a navigation policy's chunks into odometer targets of a base, elements matched by name.

    Args:
        policy: the spec the chunks are in: one group, `base_velocity` with `forward` [m/s] and `turn` [rad/s,
            counter-clockwise], each held until its action's time, where standing still means to have arrived; or
            `discrete` with choices among `MOVES`, each executed in one control period, or in as long as the limits ask
            for.
        robot: the spec the targets are for, with the group of `base_group`.
        limits: of the robot.
        step, turn: of the discrete moves [m, rad].
        braking: where given, the base slows down in front of what its observations' `FreeSpace` shows, so as to stop
            with this deceleration [m/s²]; turning goes on. Without, only the gate keeps it from obstacles.

    Targets are chained from those that were commanded at the observation where it reports them (`BASE_TARGET`,
    `BASE_SPEED`), else from the measured odometers, at rest; velocities from where the base will be once they come. A
    velocity that is out of reach is approached with the largest acceleration. As on a base that is told velocities,
    the way that is lost to that or to a late chunk is not made up for.
    """

    def __init__(
        self,
        *,
        policy: EnvSpec,
        robot: EnvSpec,
        limits: Limits,
        step: float = 0.25,
        turn: float = np.pi / 12,
        braking: float | None = None,
    ) -> None:
        if len(policy.action) != 1:
            raise SpecError("A base is moved by one action group", got=", ".join(g.name for g in policy.action))
        group = policy.action[0]
        self._moves = group.choices if group.kind == "discrete" else ()
        names = [e.name for e in group.elements]
        if group.kind not in ("base_velocity", "discrete") or set(self._moves) - set(MOVES):
            raise SpecError(
                f"The bridge cannot move a base by action group '{group.name}'",
                expected=f"base_velocity, or discrete with choices among {', '.join(MOVES)}",
                got=f"{group.kind} {', '.join(group.choices)}".strip(),
                run="looking up and down needs a camera that tilts: env.looks=false",
            )
        if not self._moves and set(names) != set(VELOCITIES):
            raise SpecError("A base has two velocities", expected=", ".join(VELOCITIES), got=", ".join(names))
        self._order = [] if self._moves else [names.index(n) for n in VELOCITIES]
        targets = [e.name for e in robot.action_elements]
        self._odometers = joint_indices(targets, (TRAVEL.name, TURNED.name), "The robot has no such odometer")
        self._arrived = targets.index(ARRIVED.name) if ARRIVED.name in targets else None
        self._width = len(targets)
        state = [e.name for e in robot.state]
        self._measured = joint_indices(state, (TRAVEL.name, TURNED.name))
        self._seen = joint_indices(state, [e.name for e in policy.state], "The robot does not measure what is observed")
        own = limits.select((TRAVEL.name, TURNED.name))
        self._speeds = FAST * own.velocity
        self._rates, self._jerks = EASY * own.acceleration, EASY * own.jerk_at(FINE)
        self._smooth = self._speeds, FAST * own.acceleration, FAST * own.jerk_at(FINE)
        self.policy, self._step, self._turn, self._braking = policy, step, turn, braking

    @property
    def rows(self) -> int:
        """Targets that one action becomes."""
        return max(1, round(self.policy.control_dt / FINE))

    def seen(self, observation: Observation) -> Observation:
        """What of the robot's observation is the policy's."""
        return replace(observation, state=observation.state[self._seen])

    def __call__(self, chunk: ActionChunk, observation: Observation, going: Going | None = None) -> ActionChunk:
        """Absolute targets float64 [H·rows A] from its source, the robot's `observation`.

        A chunk of another width becomes [H 0] and one that is not finite becomes NaN: judging is the gate's work.
        """
        actions = np.asarray(chunk.actions, np.float64)
        if actions.shape[1] != self.policy.action_dim:
            return ActionChunk(np.empty((len(chunk), 0)), chunk.times, chunk.observed_at)
        if not np.isfinite(actions).all():
            return ActionChunk(np.full((len(chunk), self._width), np.nan), chunk.times, chunk.observed_at)
        actions = np.minimum(np.maximum(actions, self.policy.action_lower), self.policy.action_upper)
        times = np.asarray(chunk.times, np.float64)
        start = observation.extras.get(BASE_TARGET)
        here = np.asarray(observation.state[self._measured] if start is None else start, np.float64)
        speed = np.asarray(observation.extras.get(BASE_SPEED, np.zeros(2)), np.float64)
        space = None if self._braking is None else FreeSpace.of(observation)
        out = np.zeros((len(chunk) * self.rows, self._width))
        if self._moves:
            path, times, arrived = self._profiles(actions[:, 0], times, here, space)
            if self._arrived is not None:
                out[:, self._arrived] = arrived
        else:
            times = np.repeat(times, self.rows) - self.policy.control_dt * np.tile(1 - self._shares, len(chunk))
            begin = times[0] - self.policy.control_dt / self.rows
            if going is not None and going.until > begin + 1e-9:
                begin, speed = going.until, np.zeros(2)
                if going.targets is not None:
                    ahead, speed = self._gone(going.targets, observation.time, going.until)
                    here = here + ahead
            wanted = actions[:, self._order]
            path = self._driven(wanted, times - begin, here, speed, space)
            if self._arrived is not None:
                out[:, self._arrived] = self._stands(wanted, float(observation.extras.get(STOOD, 0.0)))
        out[:, self._odometers] = path
        return ActionChunk(out, times, chunk.observed_at)

    @property
    def _shares(self) -> np.ndarray:
        """[rows] of a period, at the ends of its parts."""
        return np.arange(1, self.rows + 1) / self.rows

    def _stands(self, wanted: np.ndarray, stood: float) -> np.ndarray:
        """[H·rows] 1 from where nothing was wanted for `STAND`, or for all of a shorter chunk, of velocities [H 2].

        Args:
            stood: how long the base has stood still already [s].
        """
        still = np.all(np.abs(wanted) < STILL * self._speeds, axis=1)
        needed = min(math.ceil(STAND / self.policy.control_dt - 1e-9), len(still))
        run, out = int(stood / self.policy.control_dt + 1e-9), np.zeros(len(still))
        for k in range(len(still)):
            run = run + 1 if still[k] else 0
            out[k] = run >= needed
        return np.repeat(out, self.rows)

    def _gone(self, targets: ActionChunk, start: float, end: float) -> tuple[np.ndarray, np.ndarray]:
        """How far [2] `targets` lead from one time to another [s], and how fast the base is then [2]."""
        at = np.array([start, end - FINE / 10, end])
        if targets.actions.shape[1] != self._width or not np.isfinite(targets.actions).all():
            return np.zeros(2), np.zeros(2)
        path = np.stack([np.interp(at, targets.times, targets.actions[:, i]) for i in self._odometers], 1)
        return path[2] - path[0], (path[2] - path[1]) / (FINE / 10)

    def _driven(
        self, wanted: np.ndarray, ends: np.ndarray, here: np.ndarray, speed: np.ndarray, space: FreeSpace | None
    ) -> np.ndarray:
        """Odometers [H·rows 2] on the way with velocities [H 2], at the times `ends` from now; some may be over."""
        wanted = np.clip(np.repeat(wanted, self.rows, axis=0), -self._speeds, self._speeds)
        seconds = np.diff(np.maximum(ends, 0.0), prepend=0.0)
        speeds = np.zeros_like(wanted)
        rate, place = np.zeros(2), here
        for k, dt in enumerate(seconds):
            if dt > 0:
                gap = wanted[k] - speed
                # The acceleration that can be taken back, at the largest jerk, by the time the velocity is reached.
                most = np.minimum(np.minimum(self._rates, np.sqrt(2 * self._jerks * np.abs(gap))), np.abs(gap) / dt)
                rate = rate + np.clip(np.sign(gap) * most - rate, -self._jerks * dt, self._jerks * dt)
                speed = speed + rate * dt
                if space is not None and self._braking is not None:
                    speed = np.array([space.slowed(place, speed[0], speed[1], dt, self._braking), speed[1]])
                place = place + speed * dt
            speeds[k] = speed
        if space is not None and self._braking is not None:
            # A wall that comes into view in a turn is braked for before.
            for k in range(len(speeds) - 2, -1, -1):
                speeds[k, 0] = min(speeds[k, 0], speeds[k + 1, 0] + self._braking * seconds[k + 1])
        return here + np.cumsum(speeds * seconds[:, None], axis=0)

    def _profiles(
        self, actions: np.ndarray, times: np.ndarray, here: np.ndarray, space: FreeSpace | None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Odometers [H·rows 2], their times and whether the agent has arrived [H·rows], of discrete moves."""
        path: list[np.ndarray] = []
        when: list[np.ndarray] = []
        arrived: list[np.ndarray] = []
        stopped, begin = 0.0, float(times[0]) - self.policy.control_dt
        for action in actions:
            move = self._moves[round(float(action))]
            ahead = self._step if move == "forward" else 0.0
            if space is not None and ahead:
                ahead = min(ahead, space.ahead(here))
            way = np.array([ahead, {"left": self._turn, "right": -self._turn}.get(move, 0.0)])
            stopped = max(stopped, float(move == "stop"))
            seconds = max(self.policy.control_dt, self._seconds(way))
            path.append(here + way * smooth(self._shares)[:, None])
            when.append(begin + seconds * self._shares)
            arrived.append(np.full(self.rows, stopped))
            here, begin = here + way, begin + seconds
        return np.concatenate(path), np.concatenate(when), np.concatenate(arrived)

    def _seconds(self, way: np.ndarray) -> float:
        """How long a smooth move [2] takes at least."""
        speed, rate, jerk = (np.abs(way) * k / limit for k, limit in zip((1.875, 5.774, 60), self._smooth, strict=True))
        return float(np.max([speed, rate ** (1 / 2), jerk ** (1 / 3)]))


def smooth(share: np.ndarray) -> np.ndarray:
    """The way of least jerk from rest to rest (Flash and Hogan 1985), 0 … 1 for a share of the time 0 … 1.

    Over a distance d in T seconds its fastest is 1.875 d/T, its largest acceleration 5.77 d/T², its jerk 60 d/T³.
    """
    return share**3 * (10 - 15 * share + 6 * share**2)
