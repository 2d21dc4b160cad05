"""A mobile base in the terms of joints: how far it has travelled and turned, as its wheels count it.

Two numbers say where the wheels of a differential drive stand, and their rates are its speeds. So a base passes the
same chunks, limits, gate and loop as an arm: velocities are integrated against the observation they were computed
from, discrete moves become smooth profiles, and a stop holds the place.
"""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np

from ..contract import ActionChunk, ActionGroup, Element, EnvSpec, Observation
from ..errors import SpecError
from .base_moves import COARSE, MOVES, DiscreteMoves
from .base_space import FreeSpace
from .base_way import Follower, Way, moved
from .chunking import Going
from .limits import Limits, joint_indices
from .shared import LONGEST_CHUNK
from .units import bounded

TRAVEL, TURNED, ARRIVED = Element("travel", "m"), Element("turned", "rad"), Element("arrived", "")
"""Forward along the way, counter-clockwise, and 1 once the agent declares that it has arrived (navigation's STOP)."""
FAR = 1e4
"""Where the odometers end [m, rad]."""
BASE_TARGET = "base_target"
"""Extra [2]: what `travel` and `turned` were commanded to be at the observation."""
VELOCITIES = ("forward", "turn")
BASE_SPEED = "base_speed"
"""Extra [2]: the speeds that were commanded then [m/s, rad/s]."""
STOOD = "stood"
"""Extra []: for how long the base had stood still then [s]."""
FINE = 0.02
"""Seconds between two waypoints, so few that what is interpolated between them keeps to the limits of jerk as well."""
STAND, STILL = 0.5, 0.1
"""How long [s] and how slow, as a share of the policy's bounds, a base stands that has arrived."""
CATCH_UP = 0.15
"""In how long a base makes up for most of what it is behind its targets [s]."""
SETTLE = 0.6
"""What a base needs to come to rest at the end of its way, of which it is behind [s]."""
EASY = 0.6
"""Share of the limits of acceleration and jerk by which velocities change: who follows needs the rest to catch up."""
FAST = 0.8
"""Share of the limits of speed, and of all limits in a smooth move; the rest is the gate's, to catch up."""


def base_group(*, arrives: bool) -> ActionGroup:
    """The action group of a base; `arrives` where its task ends by the agent's word."""
    elements = (TRAVEL, TURNED, ARRIVED) if arrives else (TRAVEL, TURNED)
    lower, upper = (-FAR, -FAR, 0.0), (FAR, FAR, 1.0)
    return ActionGroup("base", "joint_position", elements, lower[: len(elements)], upper[: len(elements)])


class BaseTargets:
    """Turns a navigation policy's chunks into odometer targets of a base, elements matched by name.

    Args:
        policy: the spec the chunks are in: one group, `base_velocity` with `forward` [m/s] and `turn` [rad/s,
            counter-clockwise], each held until its action's time, where standing still, nearly, means to have arrived;
            or `discrete` with choices among `MOVES`, each executed in one control period, or in as long as the limits
            ask for.
        robot: the spec the targets are for, with the group of `base_group`.
        limits: of the robot.
        step, turn: of the discrete moves [m, rad].
        stand: for how long standing still means to have arrived [s].
        braking: where given, the base slows down in front of what its observations' `FreeSpace` shows, so as to stop
            with this deceleration [m/s²]; turning goes on. Without, only the gate keeps it from obstacles.

    Targets are chained from those that were commanded at the observation where it reports them (`BASE_TARGET`,
    `BASE_SPEED`), else from the measured odometers, at rest. Velocities are the way that they lead from there
    (`base_way`): one that is out of reach, or a chunk that comes late, makes the base later and loses nothing of its
    way, as long as the chunk lasts. Until the chunk comes, its targets are those that are executed.
    """

    def __init__(
        self,
        *,
        policy: EnvSpec,
        robot: EnvSpec,
        limits: Limits,
        step: float = 0.25,
        turn: float = np.pi / 12,
        stand: float = STAND,
        braking: float | None = None,
    ) -> None:
        self.policy = policy
        self._stand = math.ceil(stand / policy.control_dt - 1e-9)
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
        self._slow = STILL * policy.action_upper[self._order]
        targets = [e.name for e in robot.action_elements]
        self._odometers = joint_indices(targets, (TRAVEL.name, TURNED.name), "The robot has no such odometer")
        self._arrived = targets.index(ARRIVED.name) if ARRIVED.name in targets else None
        self._width = len(targets)
        state = [e.name for e in robot.state]
        self._measured = joint_indices(state, (TRAVEL.name, TURNED.name))
        self._seen = joint_indices(state, [e.name for e in policy.state], "The robot does not measure what is observed")
        own = limits.select((TRAVEL.name, TURNED.name))
        self._speeds = FAST * own.velocity
        self._follower = Follower(
            speeds=_two(self._speeds), rates=_two(EASY * own.acceleration), jerks=_two(EASY * own.jerk_at(FINE)),
            braking=braking,
        )  # fmt: skip
        self._discrete = DiscreteMoves(
            self._moves, step=step, turn=turn, limits=own.scaled(FAST, FAST, FAST), dt=policy.control_dt, rows=self.rows
        )
        self._braking = braking

    @property
    def rows(self) -> int:
        """Targets that one action becomes."""
        return max(1, round(self.policy.control_dt / (COARSE if self._moves else FINE)))

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
        actions = bounded(actions, self.policy)
        times = np.asarray(chunk.times, np.float64)
        start = observation.extras.get(BASE_TARGET)
        here = np.asarray(observation.state[self._measured] if start is None else start, np.float64)
        space = None if self._braking is None else FreeSpace.of(observation)
        if self._moves:
            pause = None if going is None else going.pause
            path, times, arrived = self._discrete(actions[:pause, 0], times[:pause], here, space)
        else:
            path, times, arrived = self._velocities(actions[:, self._order], times, here, observation, going, space)
        out = np.zeros((len(path), self._width))
        out[:, self._odometers] = path
        if self._arrived is not None:
            out[:, self._arrived] = arrived
        # What lies seconds ahead is planned anew long before.
        return ActionChunk(out[:LONGEST_CHUNK], times[:LONGEST_CHUNK], chunk.observed_at)

    def _velocities(
        self,
        wanted: np.ndarray,
        times: np.ndarray,
        here: np.ndarray,
        observation: Observation,
        going: Going | None,
        space: FreeSpace | None,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Odometers [N 2], their times and whether the agent has arrived [N], of velocities [H 2]."""
        dt, begin = self.policy.control_dt, times[0] - self.policy.control_dt
        speed = np.asarray(observation.extras.get(BASE_SPEED, np.zeros(2)), np.float64)
        # Who learned to stand still does so nearly.
        wanted = np.where((np.abs(wanted) < self._slow).all(1, keepdims=True), 0.0, wanted)
        if going is None or going.pause is None:
            stands = self._stands(wanted, float(observation.extras.get(STOOD, 0.0)))
        else:  # it rests before and afterwards, which is not the policy's word; but what it wants to do next is
            n, more, needed = going.pause, math.ceil(SETTLE / dt), self._stand
            stays = float(not np.any(wanted[: max(n, needed)]))
            wanted = np.vstack([wanted[:n], np.zeros((more, 2))])
            times = np.append(times[:n], times[:n][-1] + dt * np.arange(1, more + 1))
            stands, speed = np.full(len(wanted), stays), np.zeros(2)
        times = self._spread(times)
        path, phases = self._driven(wanted, times, begin, (here, speed), observation.time, going, space)
        # Where the base has come on its way, not where it should be by now.
        periods = np.ceil(phases / dt - 1e-6).astype(np.int64) - 1
        return path, times, np.where(phases > 0, stands[np.maximum(periods, 0)], 0.0)

    @property
    def _shares(self) -> np.ndarray:
        """[rows] of a period, at the ends of its parts."""
        return np.arange(1, self.rows + 1) / self.rows

    def _spread(self, times: np.ndarray) -> np.ndarray:
        """[H·rows] when the parts of the periods end that end at `times` [H]."""
        return np.repeat(times, self.rows) - self.policy.control_dt * np.tile(1 - self._shares, len(times))

    def _stands(self, wanted: np.ndarray, stood: float) -> np.ndarray:
        """[H] 1 from where nothing was wanted for `stand`, or for all of a shorter chunk, of velocities [H 2].

        Args:
            stood: how long the base has stood still already [s].
        """
        still = ~np.any(wanted, axis=1)
        needed = min(self._stand, len(still))
        run, out = int(stood / self.policy.control_dt + 1e-9), np.zeros(len(still))
        for k in range(len(still)):
            run = run + 1 if still[k] else 0
            out[k] = run >= needed
        return out

    def _driven(
        self,
        wanted: np.ndarray,
        times: np.ndarray,
        begin: float,
        start: tuple[np.ndarray, np.ndarray],
        observed: float,
        going: Going | None,
        space: FreeSpace | None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Odometers [N 2] at `times` [N] on the way of the velocities `wanted` [H 2], and how far along it they are.

        Args:
            begin: when the way begins [s].
            start: odometers and speeds at the observation, [2] each.
            observed: when that was [s].
        """
        here, speed = start
        way = Way(wanted, self.policy.control_dt, self._follower.rates)
        path, phases = np.tile(here, (len(times), 1)), np.zeros(len(times))
        pose, phase, coming, rate = (0.0, 0.0, 0.0), 0.0, np.zeros(len(times), bool), np.zeros(2)
        if going is not None and going.until > begin + 1e-9:
            coming = times <= going.until + 1e-9
            gone, speed, rate = self._gone(going.targets, here, observed, np.append(times[coming], going.until))
            path[coming] += gone[:-1]
            for before, after in pairwise(np.vstack([np.zeros(2), gone])):
                pose = moved(pose, *(after - before).tolist())
            here, until = here + gone[-1], min(going.until - begin, len(wanted) * self.policy.control_dt)
            phase = way.nearest(pose, until, self._follower.speeds, FINE)
            begin = going.until
        if not coming.all():
            seconds = np.diff(times[~coming], prepend=begin)
            path[~coming], phases[~coming] = self._follower(
                way, pose=pose, speed=_two(speed), rate=_two(rate), phase=phase,
                odometers=here, seconds=seconds, space=space,
            )  # fmt: skip
        return path, phases

    def _gone(
        self, targets: ActionChunk | None, here: np.ndarray, start: float, ends: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """How far [N 2] `targets` lead from `here` until some times [s], and the base's speed and acceleration then.

        What the base was off them at the `start` [s] is taken to be made up for by and by.
        """
        if targets is None or targets.actions.shape[1] != self._width or not np.isfinite(targets.actions).all():
            return np.zeros((len(ends), 2)), np.zeros(2), np.zeros(2)
        at = np.concatenate([[start], ends[-1] - FINE * np.array([2, 1, 0]), ends])
        path = np.stack([np.interp(at, targets.times, targets.actions[:, i]) for i in self._odometers], 1)
        before, speed = np.diff(path[1:4], axis=0) / FINE
        off = (here - path[0]) * np.exp(-np.maximum(ends - start, 0.0) / CATCH_UP)[:, None]
        return path[4:] + off - here, speed, (speed - before) / FINE


def _two(values: np.ndarray) -> tuple[float, float]:
    return float(values[0]), float(values[1])
