"""The shortest-path follower of a house as a policy: `checkpoint=oracle` of a simulated base."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..envs.house.navigation import HouseNavigation
from ..envs.house.navmesh import DistanceField, NavMesh
from ..envs.house.roomy import RoomyWay, wider
from ..envs.house.simulator import HouseSimulator
from ..envs.navigation_play import goal_points
from ..envs.shortest_follower import Follower, blocked
from ..vla.contract import ActionChunk, EnvSpec, Memory, Observation
from ..vla.errors import SpecError

CLEARANCE = 0.05
"""How much wider than the body the way is kept where there is room [m]: a real base does not slide along walls."""


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
        self._env, self._simulator, self._split = env, env.simulator, split
        self._moves = env.motion.moves if env.body.action[0].kind == "discrete" else ()
        self._chunk = 1 if self._moves else chunk
        body = env.motion
        self._wide = wider(env.simulator.house, radius=body.radius + CLEARANCE, tall=body.tall)

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
        return _Walk(self._env, self._simulator.mesh(scan), None if self._moves else self._wide(scan))

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
        start, goals = env.state, goal_points(env.episode)
        self._start, self._heading_at_start = start.position, start.heading
        self._field: DistanceField = mesh.distance_field(goals)
        self._way = RoomyWay(mesh, roomy, goals)
        self._follower = Follower(env.motion, min(0.9 * env.task.radius, 0.2))
        self._here, self._heading = start.position, start.heading
        self._before: tuple[float, float, float] | None = None

    def see(self, observation: Observation) -> None:
        """Take over the pose that GPS and compass tell; the height is that of the floor there."""
        forward, right, turned = (float(v) for v in observation.state[:3])
        s, c = math.sin(self._heading_at_start), math.cos(self._heading_at_start)
        x, y = self._start[0] + forward * s + right * c, self._start[1] + forward * c - right * s
        self._here, self._heading = (x, y, self._here[2]), self._heading_at_start - turned

    def _ahead(self) -> tuple[np.ndarray, float]:
        """The way to the goal and its length."""
        path = self._way(self._here)
        if len(path):
            self._here = (self._here[0], self._here[1], float(path[0, 2]))
        return path, self._field.distance(self._here)

    def move(self) -> str:
        """The next of the discrete moves."""
        path, distance = self._ahead()
        stuck = self._before is not None and blocked(self._before, self._here)
        move = self._follower.move(path, self._heading, distance, stuck)
        self._before = self._here if move == "forward" else None
        return move

    def drive(self, dt: float) -> tuple[float, float]:
        """The next velocities [m/s, rad/s], after which the pose is taken to be what they lead to."""
        path, distance = self._ahead()
        forward, turn = self._follower.drive(path, self._heading, distance)
        middle, z = self._heading - turn * dt / 2, self._here[2]
        step = forward * dt
        self._here = (self._here[0] + step * math.sin(middle), self._here[1] + step * math.cos(middle), z)
        self._heading -= turn * dt
        return forward, turn
