"""Language-conditioned manipulation on a table as a Gymnasium environment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from ...vla.contract import INSTRUCTION_BYTES, EnvSpec
from ...vla.errors import ConfigError, SpecError
from .body import POSITION_STEP, ROTATION_STEP
from .increments import follow
from .layout import Candidate
from .oracles import ORACLES, ee_delta
from .rendering import Renderer
from .sim import DOWN, TabletopSim
from .tasks import TASKS

_STEP = np.array([POSITION_STEP] * 3 + [ROTATION_STEP] * 3)
_RESET_OPTIONS = ("task", "split", "swap")
_SECONDS, _FAR = 1e6, 100.0
_BOUNDS = {"rad": 2 * np.pi, "m": 4.0, "1": 1.01}


class TabletopEnv(gym.Env[dict[str, Any], np.ndarray]):
    """A Panda-like arm, coloured things on a table and a sentence that says which one is meant.

    The observation is `Observation.to_nested()`; `body` is the `EnvSpec`. Reward is 1 on the step that succeeds.
    An episode terminates when one candidate's outcome has held long enough, right or wrong (`info["chosen"]`), and is
    truncated at the time limit.

    Action `ee_delta` [7]: increments of the commanded pose of the tool centre point in the world frame (dx dy dz [m],
    rotation vector [rad]) and the absolute gripper width [m]. The commanded pose is kept inside the workspace and close
    to the measured one (`increments.follow`), solved for joints by damped least squares, and interpolated linearly over
    the control period.
    Action `joint_position` [8]: absolute joint angles [rad] and gripper width [m].

    `reset(seed=s, options={"task": …, "split": "seen" | "unseen_phrasing" | "unseen_pair" | "distractors",
    "swap": bool})`. The seed alone fixes the scene; `swap` asks for another compatible thing of the same scene.

    Args:
        tasks: see `TASKS`; the default task of an episode is `tasks[seed % len(tasks)]`.
        action: `ee_delta` or `joint_position`.
        max_seconds: time limit instead of the task's own [s].
        image_size, cameras, control_hz, physics_hz, randomize, robot, distractors, depth, semantics: see `TabletopSim`.
        render_mode: `rgb_array` for `render()`, a 480 px picture for people.

    Raises:
        ConfigError: an unknown name, or rates that do not divide.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 20}

    def __init__(
        self,
        *,
        tasks: Sequence[str] = ("pick",),
        action: str = "ee_delta",
        image_size: int = 96,
        cameras: Sequence[str] = ("front", "wrist"),
        control_hz: float = 20,
        physics_hz: float = 500,
        max_seconds: float | None = None,
        randomize: Sequence[str] = (),
        robot: str = "embedded",
        distractors: int | None = None,
        depth: bool = False,
        semantics: bool = False,
        render_mode: str | None = None,
    ) -> None:
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise ConfigError("Unknown render_mode", got=repr(render_mode), exists=self.metadata["render_modes"])
        self.sim = TabletopSim(
            tasks=tasks,
            image_size=image_size,
            cameras=cameras,
            control_hz=control_hz,
            physics_hz=physics_hz,
            randomize=randomize,
            robot=robot,
            distractors=distractors,
            depth=depth,
            semantics=semantics,
        )
        self.render_mode = render_mode
        self.metadata = {**self.metadata, "render_fps": round(control_hz)}
        self.action_kind = action
        self._body = self.sim.body_for(action)
        self._max_seconds = max_seconds
        self.observation_space = _observation_space(self._body)
        self.action_space = spaces.Box(
            self._body.action_lower.astype(np.float32), self._body.action_upper.astype(np.float32), dtype=np.float32
        )
        self._steps = self._held = 0
        self._holding: Candidate | None = None
        self._over = True
        self._picture: Renderer | None = None

    @property
    def body(self) -> EnvSpec:
        """The spec of this environment's body and senses."""
        return self._body

    @property
    def oracle_name(self) -> str:
        """Name of the scripted expert of the current task."""
        return f"tabletop-{self.sim.task}"

    # -- Gymnasium ---------------------------------------------------------------------------------------------------

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """See the class; without a seed the next scene is drawn from the environment's generator."""
        super().reset(seed=seed)
        chosen = dict(options or {})
        unknown = [k for k in chosen if k not in _RESET_OPTIONS]
        if unknown:
            raise ConfigError("Unknown reset options", got=", ".join(unknown), exists=_RESET_OPTIONS)
        scene = int(self.np_random.integers(2**31)) if seed is None else int(seed)
        self.sim.reset(
            scene, task=chosen.get("task"), split=chosen.get("split") or "seen", swap=bool(chosen.get("swap", False))
        )
        self._steps = self._held = 0
        self._holding, self._over = None, False
        layout = self.sim.layout
        info = {
            "task": self.sim.task,
            "instruction": self.sim.instruction,
            "target": self.sim.target.name,
            "alternatives": dict(self.sim.alternatives),
            "compatible": len(layout.candidates) if layout else 0,
            "split": self.sim.split,
            "seed": scene,
        }
        return self.sim.observe().to_nested(), info

    def step(self, action: np.ndarray) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """One control step; the action [A] is clipped to the spec's limits.

        Raises:
            SpecError: the action has the wrong shape or is not finite, or the episode is over.
        """
        reward, terminated, truncated, info = self._step(action)
        return self.sim.observe().to_nested(), reward, terminated, truncated, info

    def step_chunk(self, actions: np.ndarray) -> tuple[dict[str, Any], list[float], bool, bool, dict[str, Any]]:
        """Up to n control steps with actions [n A]; stops at an end and renders only the last observation.

        The physics are the bits of n calls of `step`.

        Returns:
            The last observation, one reward per step made, terminated, truncated and info of the last step.
        """
        rewards: list[float] = []
        terminated = truncated = False
        info: dict[str, Any] = {}
        for action in np.asarray(actions):
            reward, terminated, truncated, info = self._step(action)
            rewards.append(reward)
            if terminated or truncated:
                break
        return self.sim.observe().to_nested(), rewards, terminated, truncated, info

    def _step(self, action: np.ndarray) -> tuple[float, bool, bool, dict[str, Any]]:
        if self._over:
            raise SpecError("The episode is over", run="reset() before the next step")
        self.sim.command(self._joint_target(self._checked(action)))
        self.sim.advance(self.sim.substeps)
        self._steps += 1
        task = TASKS[self.sim.task]
        holding = self.sim.holding()
        self._held = self._held + 1 if holding is not None and holding is self._holding else int(holding is not None)
        self._holding = holding
        terminated = self._held * self.sim.control_dt >= task.hold - 1e-9
        success = bool(terminated and holding is self.sim.target)
        limit = task.seconds if self._max_seconds is None else self._max_seconds
        truncated = not terminated and self._steps * self.sim.control_dt >= limit - 1e-9
        self._over = terminated or truncated
        info = {
            "success": success,
            "measures": self._measures(),
            "chosen": holding.name if terminated and holding is not None else None,
        }
        return float(success), terminated, truncated, info

    def render(self) -> np.ndarray:
        """uint8 [480 480 3]: the whole arm and the table, for people to look at."""
        if self._picture is None:
            self._picture = Renderer(self.sim.model, ("overview",), 480)
        return self._picture.render(self.sim.data).images["overview"]

    def close(self) -> None:
        """Free the renderers; safe to call twice."""
        self.sim.close()
        if self._picture is not None:
            self._picture.close()
            self._picture = None

    # -- the expert --------------------------------------------------------------------------------------------------

    def oracle(self, rng: np.random.Generator, noise: float = 0.0) -> np.ndarray:
        """The scripted expert's action [A] float32 for the present state of the simulator.

        Args:
            rng: source of the noise.
            noise: amplitude of uniform noise on the arm's increments as a share of their limits, for demonstrations
                that show how to recover (DART, Laskey et al. 2017): execute the noisy action, store the clean one.
        """
        world = self.sim.world()
        aim = ORACLES[self.sim.task](world, self.sim.target)
        action = ee_delta(world, aim, DOWN, self.sim.control_dt)
        delta = np.clip(action[:6], -_STEP, _STEP)
        if noise > 0:
            delta = np.clip(delta + rng.uniform(-noise, noise, 6) * _STEP, -_STEP, _STEP)
        action[:6] = delta
        if self.action_kind == "joint_position":
            action = np.append(self._joints_after(action[:6]), action[6])
        return action.astype(np.float32)

    # -- actions -----------------------------------------------------------------------------------------------------

    def _checked(self, action: np.ndarray) -> np.ndarray:
        values = np.asarray(action, np.float64)
        if values.shape != (self._body.action_dim,) or not np.isfinite(values).all():
            names = ", ".join(e.name for e in self._body.action_elements)
            raise SpecError(
                "The action does not fit the tabletop",
                expected=f"{self._body.action_dim} finite numbers: {names}",
                got=f"shape {values.shape}: {np.array2string(values, precision=4)}",
            )
        return np.clip(values, self._body.action_lower, self._body.action_upper)

    def _joint_target(self, action: np.ndarray) -> np.ndarray:
        if self.action_kind == "joint_position":
            return action
        return np.append(self._joints_after(action[:6]), action[6])

    def _joints_after(self, delta: np.ndarray) -> np.ndarray:
        """Joint target [7] rad of the commanded pose moved by `delta` [6]."""
        position, quaternion = follow(self.sim.goal_pose, delta, self.sim.pose)
        return self.sim.solve_ik(position, quaternion, self.sim.joints)

    def _measures(self) -> dict[str, float]:
        here, _ = self.sim.pose
        goal, _ = self.sim.goal_pose
        return {"tracking_error": float(np.linalg.norm(here - goal)), "seconds": self._steps * self.sim.control_dt}


def _observation_space(body: EnvSpec) -> spaces.Dict:
    """The space of `Observation.to_nested()` for this spec."""
    columns = body.columns()

    def group(name: str) -> dict[str, Any]:
        prefix = f"observation.{name}."
        return {path[len(prefix) :]: array for path, array in columns.items() if path.startswith(prefix)}

    def box(shape: tuple[int, ...], dtype: Any, low: float, high: float) -> spaces.Box:
        return spaces.Box(low, high, shape, dtype)

    bound = np.array([_BOUNDS[e.unit] for e in body.state], np.float32)

    entries: dict[str, spaces.Space[Any]] = {
        "times": spaces.Dict({k: box((), np.float64, 0.0, _SECONDS) for k in group("times")}),
        "state": spaces.Box(-bound, bound, dtype=np.float32),
        "instruction": box((INSTRUCTION_BYTES,), np.uint8, 0, 255),
        "extras": spaces.Dict(
            {k: box(a.shape, np.float32, -_BOUNDS["m"], _BOUNDS["m"]) for k, a in group("extras").items()}
        ),
    }
    if body.cameras:
        entries["images"] = spaces.Dict({k: box(a.shape, np.uint8, 0, 255) for k, a in group("images").items()})
    if group("depth"):
        entries["depth"] = spaces.Dict({k: box(a.shape, np.float32, 0.0, _FAR) for k, a in group("depth").items()})
    if group("semantics"):
        entries["semantics"] = spaces.Dict(
            {k: box(a.shape, np.int32, -1, np.iinfo(np.int16).max) for k, a in group("semantics").items()}
        )
    return spaces.Dict(entries)
