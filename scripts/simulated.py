"""The tabletop as a body the bridge can drive: what `robot=simulated` builds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import mujoco
import numpy as np

from ..envs.tabletop.arm import GRIPPER_WIDTH, JOINTS, REST
from ..envs.tabletop.env import TabletopEnv
from ..envs.tabletop.increments import follow
from ..envs.tabletop.kinematics import Kinematics
from ..envs.tabletop.layout import Candidate
from ..envs.tabletop.robots import load_robot
from ..envs.tabletop.scene import ROBOT, compile_scene
from ..envs.tabletop.tasks import TASKS
from ..vla.bridge.chunking import JointTargets
from ..vla.bridge.collision import CollisionGuard, Posture
from ..vla.bridge.console.model3d import Model3D
from ..vla.bridge.limit_files import combine, from_toml, table_of
from ..vla.bridge.limits import Limits
from ..vla.bridge.robots.faults import Fault, FaultyBody
from ..vla.bridge.robots.simulated import SimulatedBody
from ..vla.bridge.safety import Guard
from ..vla.bridge.sensors import Plausibility
from ..vla.bridge.zones import Box, Points, ZoneGuard
from ..vla.config import Config, instantiate
from ..vla.contract import EnvSpec, Observation
from ..vla.errors import ConfigError

JERK_PER_ACCELERATION = 1000.0
"""1/s: Franka's jerk limits of the Panda are its acceleration limits times this (FCI documentation, robot limits)."""
HALF_PALM = 0.1
"""Half the width of the hand [m]."""
COLLISION_MARGIN = 0.004
"""[m]: the palm comes to within 8 mm of the table where fingers pick something flat."""


class SimulatedBodyFactory:
    """Builds a `TabletopBody`; small enough to travel to the simulator's process.

    Args:
        env: the environment's configuration, the same as in evaluation.
        velocity, acceleration, jerk: share of the arm's own limits that the gate allows.
        limits: a robot's file (TOML); the tighter limits hold.
        collision: whether the gate keeps the arm from itself and from the table.
        workspace, keep_out: boxes `{name, lower, upper}` [m] that the hand stays in and out of.
        faults: of the sensors, as `Fault` takes them: `[{kind: frozen, target: front, at: 2.0}]`.
    """

    def __init__(
        self,
        *,
        env: Config,
        velocity: float = 1.0,
        acceleration: float = 1.0,
        jerk: float = 1.0,
        limits: str | None = None,
        collision: bool = True,
        workspace: Sequence[Mapping[str, Any]] = (),
        keep_out: Sequence[Mapping[str, Any]] = (),
        faults: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        for name, share in (("velocity", velocity), ("acceleration", acceleration), ("jerk", jerk)):
            if not 0 < share <= 1:
                raise ConfigError(f"'robot.{name}' is a share of the arm's limit", expected="0 < x ≤ 1", got=str(share))
        self.env, self.velocity, self.acceleration, self.jerk = env, velocity, acceleration, jerk
        self.collision = collision
        self.file = None if limits is None else from_toml(limits)
        self.workspace, self.keep_out = [_box(b) for b in workspace], [_box(b) for b in keep_out]
        self.faults = [Fault(**f) for f in faults]

    def __call__(self) -> SimulatedBody:
        body = TabletopBody(self._build(), self)
        return FaultyBody(body, self.faults) if self.faults else body

    def guards(self) -> list[Guard]:
        """What the gate asks before every motion; built in the loop's process."""
        guards: list[Guard] = []
        if self.workspace or self.keep_out:
            guards.append(ZoneGuard(hand_points(Kinematics()), workspace=self.workspace, keep_out=self.keep_out))
        if self.collision:
            guards.append(collision_guard(str(self.env.get("robot", "embedded"))))
        return guards

    @property
    def plausibility(self) -> Plausibility:
        return Plausibility()

    def model(self) -> Model3D:
        """The arm and the table, for a console to draw."""
        model = compile_scene(load_robot(str(self.env.get("robot", "embedded"))), 500.0)
        _hide(model)
        return Model3D(model, arm_posture(model), centre=(0.3, 0.0, 0.25))

    def policy_spec(self) -> EnvSpec:
        """What a policy for this environment observes and commands."""
        env = self._build()
        try:
            return env.body
        finally:
            env.close()

    def targets(self, policy: EnvSpec, robot: EnvSpec) -> JointTargets:
        """From a policy's actions to the joints."""
        return joint_targets(policy, robot)

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
        # A gripper is told to close further than it can: a whole width beyond is still how it holds.
        squeeze = np.append(np.zeros(7), upper[7] - lower[7])
        own = Limits(names, lower, upper, velocity, acceleration, JERK_PER_ACCELERATION * acceleration, squeeze)
        own = own.scaled(settings.velocity, settings.acceleration, settings.jerk)
        self.limits = own if settings.file is None else combine(names, table_of(own), settings.file)
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


def hand_points(kinematics: Kinematics) -> Points:
    """The tool centre point and the ends of the palm, [3 3], of joints and gripper width [8]."""

    def points(q: np.ndarray) -> np.ndarray:
        position, quaternion = kinematics.forward(q[:7])
        across = np.zeros(3)
        mujoco.mju_rotVecQuat(across, np.array([0.0, HALF_PALM, 0.0]), quaternion)
        return np.stack([position, position + across, position - across])

    return points


def collision_guard(robot: str) -> CollisionGuard:
    """The arm against itself and the table. What lies on the table is there to be touched; fingers reach its top."""
    model = compile_scene(load_robot(robot), 500.0)
    others = _loose(model)
    model.geom_contype[others] = 0
    model.geom_conaffinity[others] = 0
    left, right = (f"{ROBOT}finger_{side}" for side in ("left", "right"))
    allowed = [(left, right), (left, "world"), (right, "world")]
    home = np.append(REST, GRIPPER_WIDTH)
    return CollisionGuard(
        model, robot=f"{ROBOT}base", posture=arm_posture(model), home=home, allowed=allowed, margin=COLLISION_MARGIN
    )


def arm_posture(model: mujoco.MjModel) -> Posture:
    """Joints and gripper width [8] → `qpos` of a tabletop's model."""
    arm = [model.joint(ROBOT + name).qposadr[0] for name in JOINTS]
    fingers = [model.joint(f"{ROBOT}finger_{side}_slide").qposadr[0] for side in ("left", "right")]
    rest = model.qpos0.copy()

    def posture(q: np.ndarray) -> np.ndarray:
        rest[arm], rest[fingers] = q[:7], q[7] / 2
        return rest

    return posture


def _loose(model: mujoco.MjModel) -> np.ndarray:
    """[ngeom] bool: neither the arm nor the table."""
    loose = np.array([not model.body(b).name.startswith(ROBOT) for b in model.geom_bodyid])
    loose[model.geom("table").id] = False
    return loose


def _hide(model: mujoco.MjModel) -> None:
    """Make invisible what is neither the arm nor the table: nobody measures where it is."""
    loose = _loose(model)
    model.geom_matid[loose] = -1
    model.geom_rgba[loose] = 0.0


def _box(values: Mapping[str, Any]) -> Box:
    return Box(str(values["name"]), tuple(values["lower"]), tuple(values["upper"]))


def joint_targets(policy: EnvSpec, robot: EnvSpec) -> JointTargets:
    """From a policy's actions to the arm's joints, as the environment does it."""
    return JointTargets(policy=policy, robot=robot, kinematics=Kinematics(), integrate=follow)
