"""The tabletop as a body the bridge can drive: what `robot=simulated` builds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..envs.tabletop.env import TabletopEnv
from ..envs.tabletop.increments import follow
from ..envs.tabletop.kinematics import Kinematics
from ..envs.tabletop.layout import Candidate
from ..envs.tabletop.tasks import TASKS
from ..vla.bridge.chunking import JointTargets
from ..vla.bridge.safety import Limits
from ..vla.config import Config, instantiate
from ..vla.contract import EnvSpec, Observation
from ..vla.errors import ConfigError


class SimulatedBodyFactory:
    """Builds a `TabletopBody`; small enough to travel to the simulator's process.

    Args:
        env: the environment's configuration, the same as in evaluation.
        velocity, acceleration: share of the arm's own limits that the gate allows.
    """

    def __init__(self, *, env: Config, velocity: float = 1.0, acceleration: float = 1.0) -> None:
        for name, share in (("velocity", velocity), ("acceleration", acceleration)):
            if not 0 < share <= 1:
                raise ConfigError(f"'robot.{name}' is a share of the arm's limit", expected="0 < x ≤ 1", got=str(share))
        self.env, self.velocity, self.acceleration = env, velocity, acceleration

    def __call__(self) -> TabletopBody:
        return TabletopBody(self._build(), self)

    def policy_spec(self) -> EnvSpec:
        """What a policy for this environment observes and commands."""
        env = self._build()
        try:
            return env.body
        finally:
            env.close()

    def _build(self) -> TabletopEnv:
        env = instantiate(self.env)
        if not isinstance(env, TabletopEnv):
            raise ConfigError("robot=simulated drives a tabletop", got=type(env).__name__, run="env=tabletop/…")
        return env


class TabletopBody:
    """`SimulatedBody` over a `TabletopSim`; tasks, time limits and the holding of outcomes are the environment's."""

    def __init__(self, env: TabletopEnv, settings: SimulatedBodyFactory) -> None:
        self._env, self._sim = env, env.sim
        self.spec = self._sim.body_for("joint_position")
        lower, upper, velocity, acceleration = self._sim.joint_limits
        names = tuple(e.name for e in self.spec.action_elements)
        self.limits = Limits(names, lower, upper, velocity * settings.velocity, acceleration * settings.acceleration)
        self.physics_dt = float(self._sim.model.opt.timestep)
        self._max_seconds: float | None = settings.env.get("max_seconds")
        self._held, self._holding = 0, None

    @property
    def time_limit(self) -> float:
        return TASKS[self._sim.task].seconds if self._max_seconds is None else self._max_seconds

    @property
    def task(self) -> str:
        return self._sim.task

    def reset(self, seed: int, options: Mapping[str, Any]) -> None:
        self._sim.reset(seed, **options)
        self._held, self._holding = 0, None

    def step(self, target: np.ndarray) -> None:
        self._sim.command(target)
        self._sim.advance(1)

    def observe(self) -> Observation:
        return self._sim.observe()

    def observe_state(self) -> Observation:
        return self._sim.observe_state()

    def outcome(self) -> bool | None:
        holding: Candidate | None = self._sim.holding()
        same = holding is not None and holding is self._holding
        self._held = self._held + 1 if same else int(holding is not None)
        self._holding = holding
        if self._held * self.spec.control_dt < TASKS[self._sim.task].hold - 1e-9:
            return None
        return holding is self._sim.target

    def close(self) -> None:
        self._env.close()


def joint_targets(policy: EnvSpec, robot: EnvSpec) -> JointTargets:
    """From a policy's actions to the arm's joints, as the environment does it."""
    return JointTargets(policy=policy, robot=robot, kinematics=Kinematics(), integrate=follow)
