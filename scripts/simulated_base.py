"""A mobile base in generated houses as a body the bridge can drive: what `robot=simulated_base` builds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ..envs.house.free_space import clear_ahead
from ..envs.house.navigation import HouseNavigation
from ..envs.house.simulator import HouseSimulator
from ..envs.navigation_state import NavState
from ..vla.bridge.base import BASE_SPEED, BASE_TARGET, FAR, STOOD, BaseTargets, base_group
from ..vla.bridge.base_space import PLACE, PLACE_FROM, SCAN, SCAN_FROM, ClearanceGuard, PlacedZones, Whereabouts
from ..vla.bridge.limits import Limits
from ..vla.bridge.robots.simulated import SimulatedBody
from ..vla.bridge.safety import Guard
from ..vla.bridge.sensors import Plausibility
from ..vla.bridge.zones import Box, ZoneGuard
from ..vla.config import Config, instantiate
from ..vla.contract import ArraySpec, Element, EnvSpec, Observation
from ..vla.errors import ConfigError
from .follower_policy import FollowerPolicy

PHYSICS_DT, PERIOD = 0.02, 0.2
"""Of the simulated base and of its sensors [s]."""
REST = (0.005, 0.01)
"""Below these speeds [m/s, rad/s] the base stands: the limiter comes to rest in ever smaller steps."""
HEADROOM = 1.5
"""How much faster the base is than its task asks, so that it makes up for what inertia and a busy machine cost it."""
RAYS, REACH = 180, 1.5
"""Of the sensed free space; its range [m]."""


class SimulatedBaseFactory:
    """Builds a `NavigationBody`; small enough to travel to the simulator's process.

    Args:
        env: the environment's configuration, the same as in evaluation.
        speed, spin: limits [m/s, rad/s]; where None those of the environment's body and `HEADROOM`.
        acceleration, jerk: of the travel [m/s², m/s³].
        turn_acceleration, turn_jerk: of the turning [rad/s², rad/s³].
        braking: the base slows down in front of obstacles as if it stopped with this deceleration [m/s²]; None leaves
            that to the policy.
        collision: whether the gate keeps the base from what is around it.
        keep_out, workspace: boxes `{name, lower, upper}` [m], world frame, that the base stays out of and in.
    """

    def __init__(
        self,
        *,
        env: Config,
        speed: float | None = None,
        spin: float | None = None,
        acceleration: float = 1.5,
        jerk: float = 20.0,
        turn_acceleration: float = 3.5,
        turn_jerk: float = 40.0,
        braking: float | None = 0.8,
        collision: bool = True,
        keep_out: Sequence[Mapping[str, Any]] = (),
        workspace: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        rates = {"acceleration": acceleration, "jerk": jerk, "turn_acceleration": turn_acceleration,
                 "turn_jerk": turn_jerk, "speed": speed, "spin": spin, "braking": braking}  # fmt: skip
        for name, value in rates.items():
            if value is not None and not value > 0:
                raise ConfigError(f"'robot.{name}' must be positive", got=str(value))
        self.env, self.speed, self.spin, self.braking, self.collision = env, speed, spin, braking, collision
        self.acceleration, self.jerk = (acceleration, turn_acceleration), (jerk, turn_jerk)
        self.keep_out, self.workspace = [_box(b) for b in keep_out], [_box(b) for b in workspace]

    def __call__(self) -> SimulatedBody:
        return NavigationBody(self.build(), self)

    def build(self) -> HouseNavigation:
        """The environment whose simulator moves the base."""
        env = instantiate(self.env)
        if not isinstance(env, HouseNavigation):
            raise ConfigError("robot=simulated_base drives in houses", got=type(env).__name__, run="env=house/pointnav")
        return env

    def guards(self) -> list[Guard]:
        """What the gate asks before every motion; built in the loop's process."""
        guards: list[Guard] = []
        if self.collision:
            guards.append(ClearanceGuard())
        if self.keep_out or self.workspace:
            env = self.build()
            where = Whereabouts(env.motion.radius)
            env.close()
            zones = ZoneGuard(where.points, workspace=self.workspace, keep_out=self.keep_out)
            guards.append(PlacedZones(where, zones))
        return guards

    @property
    def plausibility(self) -> Plausibility:
        """When a sensor is taken to be broken."""
        return Plausibility(late=PERIOD + 0.1)

    def oracle(self, split: str) -> FollowerPolicy:
        """The expert of the houses as a policy."""
        return FollowerPolicy(env=self.build(), split=split)

    def policy_spec(self) -> EnvSpec:
        """What a policy for this environment observes and commands."""
        env = self.build()
        try:
            return env.body
        finally:
            env.close()

    def targets(self, policy: EnvSpec, robot: EnvSpec) -> BaseTargets:
        """From a policy's velocities or moves to the odometers."""
        env = self.build()
        env.close()
        return BaseTargets(
            policy=policy,
            robot=robot,
            limits=self.limits(env),
            step=env.motion.forward,
            turn=math.radians(env.motion.turn),
            stand=env.task.stand,
            braking=self.braking,
        )

    def limits(self, env: HouseNavigation) -> Limits:
        """Of the odometers."""
        speed = HEADROOM * env.motion.speed if self.speed is None else self.speed
        spin = HEADROOM * env.motion.spin if self.spin is None else self.spin
        names = tuple(e.name for e in base_group(arrives=True).elements)
        # To arrive is a word, not a motion: it is passed on at once.
        return Limits(
            names, np.array([-FAR, -FAR, 0.0]), np.array([FAR, FAR, 1.0]), np.array([speed, spin, 1e2]),
            np.array([*self.acceleration, 1e4]), np.array([*self.jerk, 1e6]), np.array([0.0, 0.0, 1.0]),
        )  # fmt: skip


class NavigationBody:
    """`SimulatedBody` over a navigation task: wheels that go where they are told, on a base that walls may hold.

    The episode ends where the target `arrived` is set.
    """

    def __init__(self, env: HouseNavigation, settings: SimulatedBaseFactory) -> None:
        assert isinstance(env.simulator, HouseSimulator)
        self._env, self._house = env, env.simulator
        self.spec = robot_spec(env.body)
        self.limits = settings.limits(env)
        self.physics_dt = PHYSICS_DT
        self.time_limit = env.task.max_steps * env.body.control_dt
        self._target, self._speed, self._time, self._stood = np.zeros(3), np.zeros(2), 0.0, 0.0
        self._state: NavState | None = None
        self._around: dict[str, np.ndarray] = {}
        self._measured = np.zeros(0)
        self.measures: Mapping[str, float] = {}

    def reset(self, seed: int, options: Mapping[str, Any]) -> None:
        _, info = self._env.reset(seed=seed, options={k: v for k, v in options.items() if k != "task"})
        self._state, self.measures = self._env.state, info["measures"]
        self._target, self._speed, self._time, self._stood = np.zeros(3), np.zeros(2), 0.0, 0.0
        self._measured = self._env.measure(self._state)
        self._look_around()

    def step(self, target: np.ndarray) -> None:
        travel, turned = (target[:2] - self._target[:2]) / PHYSICS_DT
        self._state = self._house.drive(float(travel), float(turned), PHYSICS_DT, render=False)
        self._target, self._speed = np.array(target), np.array([travel, turned])
        self._time += PHYSICS_DT
        rests = abs(travel) < REST[0] and abs(turned) < REST[1]
        self._stood = self._stood + PHYSICS_DT if rests else 0.0

    def observe(self) -> Observation:
        state = self._house.step("stop")
        self._measured = self._env.measure(state)
        return self._observation(state)

    def observe_state(self) -> Observation:
        return self._observation(self._now)

    @property
    def _now(self) -> NavState:
        assert self._state is not None, "reset comes first"
        return self._state

    def _observation(self, state: NavState) -> Observation:
        seen = Observation.from_nested(self._env.observation(state, self._time, self._measured))
        state_of_robot = np.append(seen.state, self._target).astype(np.float32)
        extras = {
            **seen.extras,
            **self._around,
            BASE_TARGET: self._target[:2].copy(),
            BASE_SPEED: self._speed,
            STOOD: np.asarray(self._stood),
        }
        return replace(seen, state=state_of_robot, extras=extras)

    def outcome(self) -> bool | None:
        stop = bool(self._target[2] > 0.5)
        over = stop or self._time > self.time_limit - PERIOD
        self.measures = self._env.count(self._now, stop=stop, final=over)
        self._look_around()
        return bool(self.measures["success"]) if stop else None

    def _look_around(self) -> None:
        state, odometers = self._now, self._target[:2].copy()
        mesh = self._house.mesh(self._env.episode.scan)
        ranges = clear_ahead(mesh, state.position, state.heading, rays=RAYS, reach=REACH)
        place = np.array([state.position[0], state.position[1], math.pi / 2 - state.heading])
        self._around = {SCAN: ranges.astype(np.float32), SCAN_FROM: odometers, PLACE: place, PLACE_FROM: odometers}

    def close(self) -> None:
        self._env.close()


def robot_spec(body: EnvSpec) -> EnvSpec:
    """The base under a navigating body: its odometers among the state, commanded like joints."""
    group = base_group(arrives=True)
    extras = {
        **body.extras,
        BASE_TARGET: ArraySpec((2,), "float64", "m, rad"),
        BASE_SPEED: ArraySpec((2,), "float64", "m/s, rad/s"),
        STOOD: ArraySpec((), "float64", "s"),
        SCAN: ArraySpec((RAYS,), "float32", "m"),
        SCAN_FROM: ArraySpec((2,), "float64", "m, rad"),
        PLACE: ArraySpec((3,), "float64", "m, m, rad"),
        PLACE_FROM: ArraySpec((2,), "float64", "m, rad"),
    }
    state: tuple[Element, ...] = (*body.state, *group.elements)
    return replace(body, control_dt=PERIOD, state=state, action=(group,), extras=extras)


def _box(values: Mapping[str, Any]) -> Box:
    return Box(str(values["name"]), tuple(values["lower"]), tuple(values["upper"]))
