"""The shortest-path follower of a house as a policy: `checkpoint=oracle` of a simulated base."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..envs.house.navigation import HouseNavigation
from ..envs.house.navmesh import DistanceField, NavMesh
from ..envs.house.simulator import HouseSimulator
from ..envs.navigation_play import goal_points
from ..envs.shortest_follower import Follower, blocked
from ..vla.contract import ActionChunk, EnvSpec, Memory, Observation
from ..vla.errors import SpecError
from ..vla.navigation import NavigationError

CLEARANCE = 0.05
"""How much wider than the body the way is kept where there is room [m]: a real base does not slide along walls."""
FINAL, DETOUR = 0.5, 1.3
"""Metres before the goal at which the shortest way is taken; and how much longer the wide one may be."""


class FollowerPolicy:
    """Knows the map and the goal, and where it is only from the observed GPS and compass.

    With velocities it plans `chunk` periods ahead, as if nothing stopped the base; with moves one at a time.

    Args:
        env: of the episodes; played here only up to their starts.
        split: of the episodes.
        chunk: H, velocities per chunk.
    """

    def __init__(self, *, env: HouseNavigation, split: str, chunk: int = 16) -> None:
        assert isinstance(env.simulator, HouseSimulator)
        self._wide: tuple[str, NavMesh | None] = ("", None)
        self._env, self._simulator, self._split = env, env.simulator, split
        self._moves = env.motion.moves if env.body.action[0].kind == "discrete" else ()
        self._chunk = 1 if self._moves else chunk

    @property
    def spec(self) -> EnvSpec:
        return self._env.body

    def init(self, spec: EnvSpec, seeds: Sequence[int]) -> Memory:
        """The walk of one episode; raises `SpecError` for several, or another body."""
        self.spec.require_same(spec, "the follower (left) meets the robot (right)")
        if len(seeds) != 1:
            raise SpecError("The follower plays one episode at a time", got=f"{len(seeds)} seeds")
        self._env.reset(seed=seeds[0], options={"split": self._split})
        scan = self._env.episode.scan
        return _Walk(self._env, self._simulator.mesh(scan), None if self._moves else self._roomy(scan))

    def _roomy(self, scan: str) -> NavMesh | None:
        """The free space of a scan for a wider body; None where that has none."""
        if self._wide[0] != scan:
            body = self._env.motion
            try:
                mesh = NavMesh(self._simulator.house(scan), radius=body.radius + CLEARANCE, height=body.tall)
            except NavigationError:
                mesh = None
            self._wide = (scan, mesh)
        return self._wide[1]

    def act(
        self,
        observations: Sequence[Observation],
        memory: Memory,
        *,
        rng: Sequence[np.random.Generator],
        prefix: Sequence[ActionChunk | None] | None = None,
        delay: int = 0,
    ) -> tuple[list[ActionChunk], Memory, dict[str, Any]]:
        """What the follower would do now and next."""
        [observation] = observations
        assert isinstance(memory, _Walk)
        memory.see(observation)
        if self._moves:
            actions = np.array([[self._moves.index(memory.move())]], np.float32)
        else:
            actions = np.array([memory.drive(self.spec.control_dt) for _ in range(self._chunk)], np.float32)
        times = observation.time + self.spec.control_dt * np.arange(1, len(actions) + 1)
        return [ActionChunk(actions, times, observation.time)], memory, {}


class _Walk:
    """One episode: its goal, and the pose as it is told or expected."""

    def __init__(self, env: HouseNavigation, mesh: NavMesh, roomy: NavMesh | None) -> None:
        start = env.state
        self._mesh = mesh
        self._start, self._heading_at_start = start.position, start.heading
        self._field: DistanceField = mesh.distance_field(goal_points(env.episode))
        wide = None if roomy is None else roomy.distance_field(goal_points(env.episode))
        longest = DETOUR * self._field.distance(start.position) + FINAL
        self._wide = wide if wide is not None and wide.distance(start.position) < longest else None
        self._follower = Follower(env.motion, min(0.9 * env.task.radius, 0.2))
        self._here, self._heading = start.position, start.heading
        self._before: tuple[float, float, float] | None = None

    def see(self, observation: Observation) -> None:
        """Take over the pose that GPS and compass tell; the height is that of the floor there."""
        forward, right, turned = (float(v) for v in observation.state[:3])
        s, c = math.sin(self._heading_at_start), math.cos(self._heading_at_start)
        x, y = self._start[0] + forward * s + right * c, self._start[1] + forward * c - right * s
        self._here, self._heading = (x, y, self._here[2]), self._heading_at_start - turned

    def _way(self) -> tuple[np.ndarray, float]:
        path = self._field.path(self._here)
        if len(path):
            self._here = (self._here[0], self._here[1], float(path[0, 2]))
        return path, self._field.distance(self._here)

    def _wide_way(self) -> tuple[np.ndarray, float]:
        """With room to the walls where there is some, and from a wall away from it."""
        path, distance = self._way()
        if self._wide is None or distance < FINAL:
            return path, distance
        wide = self._wide.path(self._here)
        if len(wide) < 2:
            return path, distance
        if self._mesh.straight(self._here, wide[1]):
            return np.vstack([self._here, wide[1:]]), distance
        return np.vstack([self._here, wide[:1]]), distance

    def move(self) -> str:
        """The next of the discrete moves."""
        path, distance = self._way()
        stuck = self._before is not None and blocked(self._before, self._here)
        move = self._follower.move(path, self._heading, distance, stuck)
        self._before = self._here if move == "forward" else None
        return move

    def drive(self, dt: float) -> tuple[float, float]:
        """The next velocities [m/s, rad/s], after which the pose is taken to be what they lead to."""
        path, distance = self._wide_way()
        forward, turn = self._follower.drive(path, self._heading, distance)
        middle, z = self._heading - turn * dt / 2, self._here[2]
        step = forward * dt
        self._here = (self._here[0] + step * math.sin(middle), self._here[1] + step * math.cos(middle), z)
        self._heading -= turn * dt
        return forward, turn
