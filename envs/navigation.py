"""Continuous navigation: what a simulator offers, and the task that is the same on each of them.

World frame: z up, metres; headings clockwise from +y, as in `vla.navigation`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from ..vla.contract import ArraySpec, EnvSpec
from ..vla.errors import ConfigError, SpecError
from ..vla.navigation import NavEpisode
from .navigation_play import Play, goal_points
from .navigation_spec import CAMERA, GOAL, MOVES, NavBody, NavTask, episodic, observation_space, polar
from .navigation_state import NavSimulator as NavSimulator
from .navigation_state import NavState as NavState
from .navigation_state import RangeFinder
from .navigation_state import Vector as Vector

_RESET_OPTIONS = ("episode", "instruction", "split", "task")
_EXTRAS: dict[str, dict[str, ArraySpec]] = {
    "vln": {},
    "pointnav": {"pointgoal": ArraySpec((2,), "float32", "m, rad")},
    "objectnav": {"objectgoal": ArraySpec((1,), "int32", "index")},
}


EpisodeSource = Sequence[NavEpisode] | Callable[[int, str], NavEpisode]
"""Episodes in a row, or a function of a number and a split."""


class NavigationEnv(gym.Env[dict[str, Any], Any]):
    """Continuous navigation over a `NavSimulator`: the same task whatever simulates it.

    The observation is `Observation.to_nested()`; `body` is the `EnvSpec`. State: metres forward and right of the start,
    turn to the left since the start, elevation of the camera (GPS and compass in the episode's frame). Extras:
    `pointgoal` [2] distance and angle to the left (PointNav), `objectgoal` [1] index in `categories` (ObjectNav).

    Discrete action: an index of `body.action[0].choices`, as a number or an array [1]. Continuous: forward and turning
    speed [m/s, rad/s]; standing still for as long as the task says means STOP.

    `reset(seed=s)` plays episode s, counted round; `options={"episode": number or NavEpisode, "instruction": k,
    "split": name}` choose another. Episodes with several instructions are told the one numbered by how often s has gone
    round.

    `info["measures"]`, as VLN-CE and habitat-lab define them: distance_to_goal, success, oracle_success, path_length,
    spl, soft_spl, collisions, steps and, at the end of an episode with a reference path, ndtw.

    Args:
        simulator: moves and sees; closed with the environment.
        episodes: what to play.
        body, task: see there.
        continuous: a base with velocities instead of discrete moves.
        categories: of ObjectNav, in the order of their numbers.
        goal_in_state: PointNav's goal is also part of the state, metres ahead and to the left of the body: what a
            policy that reads no extras learns from.
        ranges: measures further elements of the state.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 5}

    def __init__(
        self,
        simulator: NavSimulator,
        episodes: EpisodeSource,
        *,
        body: NavBody | None = None,
        task: NavTask | None = None,
        continuous: bool = False,
        categories: Sequence[str] = (),
        goal_in_state: bool = False,
        ranges: RangeFinder | None = None,
        render_mode: str | None = None,
    ) -> None:
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise ConfigError("Unknown render_mode", got=repr(render_mode), exists=self.metadata["render_modes"])
        self.simulator, self.render_mode = simulator, render_mode
        self._episodes = episodes
        self.motion = body or NavBody()
        self.task = task or NavTask()
        self.categories = tuple(categories)
        if goal_in_state and self.task.name != "pointnav":
            raise ConfigError("Only PointNav tells where its goal is", got=f"goal_in_state with task={self.task.name}")
        self._continuous, self._goal_in_state, self._ranges = continuous, goal_in_state, ranges
        further = (*(GOAL if goal_in_state else ()), *(ranges.elements if ranges is not None else ()))
        self._body = self.motion.spec(continuous=continuous, extras=_EXTRAS[self.task.name], further=further)
        self.observation_space = observation_space(self._body)
        limits = self._body.action_lower.astype(np.float32), self._body.action_upper.astype(np.float32)
        self.action_space = (
            spaces.Box(*limits, dtype=np.float32) if continuous else spaces.Discrete(len(self.motion.moves))
        )
        self._over = True
        self._play: Play | None = None

    @property
    def body(self) -> EnvSpec:
        """The spec of this environment's body and senses."""
        return self._body

    @property
    def oracle_name(self) -> str:
        """Name of the expert: a follower of the shortest path."""
        return "shortest-path"

    @property
    def episode(self) -> NavEpisode:
        """The episode that is played; raises `SpecError` before the first reset."""
        return self._now.episode

    @property
    def state(self) -> NavState:
        """Where the agent is and what it sees."""
        return self._now.state

    @property
    def _now(self) -> Play:
        if self._play is None:
            raise SpecError("There is no episode yet", run="reset() before anything else")
        return self._play

    # --- Gymnasium ------------------------------------------------------------------------------------------------

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """See the class; without a seed the number is drawn from the environment's generator."""
        super().reset(seed=seed)
        chosen = dict(options or {})
        unknown = [k for k in chosen if k not in _RESET_OPTIONS]
        if unknown:
            raise ConfigError("Unknown reset options", got=", ".join(unknown), exists=_RESET_OPTIONS)
        number = int(self.np_random.integers(2**31)) if seed is None else int(seed)
        split = str(chosen.get("split") or "seen")
        episode, turn = self._choose(chosen.get("episode"), number, split)
        told = (
            episode.instructions[int(chosen.get("instruction", turn)) % len(episode.instructions)]
            if (episode.instructions)
            else None
        )
        goals = goal_points(episode)
        start = episode.start if episode.start is not None else episode.reference[0]
        state = self.simulator.begin(episode.scan, start, episode.heading, goals)
        words = told.text if told else _words(self.task.name, episode)
        self._play = Play(episode, words, goals, state, self.motion, self.task)
        self._over = False
        info = {
            "task": self.task.name,
            "split": split,
            "instruction": words,
            "instruction_id": told.id if told else episode.id,
            "episode": episode.id,
            "scan": episode.scan,
            "seed": number,
            "measures": self._play.measures(),
        }
        return self._observe(), info

    def _choose(self, wanted: Any, number: int, split: str) -> tuple[NavEpisode, int]:
        """The episode and how often the numbers have gone round."""
        if isinstance(wanted, NavEpisode):
            return wanted, 0
        number = number if wanted is None else int(wanted)
        if callable(self._episodes):
            return self._episodes(number, split), 0
        if not len(self._episodes):
            raise ConfigError("There are no episodes to play", expected="at least one NavEpisode")
        return self._episodes[number % len(self._episodes)], number // len(self._episodes)

    def step(self, action: Any) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """One move.

        Raises:
            SpecError: the action does not fit, or the episode is over.
        """
        reward, terminated, truncated, info = self._step(action, render=True)
        return self._observe(), reward, terminated, truncated, info

    def step_chunk(self, actions: np.ndarray) -> tuple[dict[str, Any], list[float], bool, bool, dict[str, Any]]:
        """Up to n moves with actions [n A], of which only the last is looked at; stops at an end.

        Returns:
            The last observation, one reward per move made, terminated, truncated and info of the last one.
        """
        rewards: list[float] = []
        terminated = truncated = False
        info: dict[str, Any] = {}
        rows = np.asarray(actions)
        for i, action in enumerate(rows):
            last = i + 1 == len(rows) or self._now.steps + 1 >= self.task.max_steps or self._means_stop(action)
            reward, terminated, truncated, info = self._step(action, render=last)
            rewards.append(reward)
            if terminated or truncated:
                break
        return self._observe(), rewards, terminated, truncated, info

    def _means_stop(self, action: Any) -> bool:
        return self._continuous or self.motion.moves[self._index(action)] == "stop"

    def _step(self, action: Any, *, render: bool) -> tuple[float, bool, bool, dict[str, Any]]:
        if self._over:
            raise SpecError("The episode is over", run="reset() before the next step")
        play = self._now
        before = play.state.distance
        if self._continuous:
            forward, turn = self._speeds(action)
            stop = play.stands_still(forward, turn)
            state = self.simulator.drive(forward, turn, self.motion.control_dt, render=render)
        else:
            move = self.motion.moves[self._index(action)]
            stop = move == "stop"
            state = self.simulator.step(move, render=render)
        play.moved(state, stop)
        truncated = not stop and play.steps >= self.task.max_steps
        self._over = stop or truncated
        measures = play.measures(final=self._over)
        success = bool(measures["success"])
        reward = float(success)
        if self.task.reward == "progress":
            gained = before - state.distance if math.isfinite(before) and math.isfinite(state.distance) else 0.0
            reward = gained - 0.01 + 2.5 * success
        return reward, stop, truncated, {"success": success, "measures": measures}

    def count(self, state: NavState, *, stop: bool, final: bool) -> dict[str, float]:
        """The measures after a move to `state` that somebody else made with `simulator`.

        Args:
            stop: whether the agent has called STOP there.
            final: whether the episode ends there.
        """
        self._now.moved(state, stop)
        return self._now.measures(final=final)

    def _index(self, action: Any) -> int:
        values = np.asarray(action, np.float64).reshape(-1)
        top = len(self.motion.moves) - 1
        if values.shape != (1,) or not -0.5 <= values[0] <= top + 0.5:
            raise SpecError(
                "The action is no move of this body",
                expected=f"an index 0 … {top}",
                got=str(action),
                exists=self.motion.moves,
            )
        return min(max(round(float(values[0])), 0), top)

    def _speeds(self, action: Any) -> tuple[float, float]:
        values = np.asarray(action, np.float64)
        if values.shape != (2,) or not np.isfinite(values).all():
            raise SpecError(
                "The action does not fit the base", expected="[2] finite: forward m/s, turn rad/s", got=str(action)
            )
        forward, turn = np.clip(values, self._body.action_lower, self._body.action_upper)
        return float(forward), float(turn)

    def render(self) -> np.ndarray:
        """uint8 [h w 3]: what the body sees; black for a blind one."""
        image = self._now.state.images.get("rgb")
        return np.zeros((self.motion.height, self.motion.width, 3), np.uint8) if image is None else np.array(image)

    def close(self) -> None:
        """Close the simulator; safe to call twice."""
        self.simulator.close()

    # --- the expert -----------------------------------------------------------------------------------------------

    def oracle(self, rng: np.random.Generator, noise: float = 0.0) -> np.ndarray:
        """The shortest-path follower's action [A] float32; with `noise` another move in that share of the steps."""
        play = self._now
        goal = play.aim_goal(self.simulator)
        path = self.simulator.path(goal) if goal is not None else np.zeros((0, 3))
        if self._continuous:
            return np.array(play.follower.drive(path, play.state.heading, play.state.distance, play.stuck), np.float32)
        move = play.follower.move(path, play.state.heading, play.state.distance, play.stuck)
        if noise > 0 and move != "stop" and rng.random() < noise:
            move = MOVES[1 + int(rng.integers(3))]
        return np.array([self.motion.moves.index(move)], np.float32)

    # --- observation ----------------------------------------------------------------------------------------------

    def _observe(self) -> dict[str, Any]:
        return self.observation(self._now.state, self._now.steps * self._body.control_dt)

    def measure(self, state: NavState) -> np.ndarray:
        """[K] what `ranges` measures in `state`; none without."""
        return np.zeros(0) if self._ranges is None else self._ranges(self._now.episode.scan, state)

    def observation(self, state: NavState, time: float, measured: np.ndarray | None = None) -> dict[str, Any]:
        """What the body senses in `state` at `time` [s] of the episode, for who moves the simulator himself.

        A state that was not rendered has no images; what was `measured` already is not measured again.
        """
        play = self._now
        where = episodic(state.position, state.heading, play.start.position, play.start.heading)
        further: list[float] = []
        if self._goal_in_state:
            distance, left = polar(state.position, state.heading, play.goals[0])
            further += [distance * math.cos(left), distance * math.sin(left)]
        further += (self.measure(state) if measured is None else measured).tolist()
        nested: dict[str, Any] = {
            "times": {"state": np.asarray(time, np.float64)},
            "state": np.array((*where, state.elevation, *further), np.float32),
            "instruction": play.words.copy(),
        }
        if state.images:
            nested["times"][CAMERA] = np.asarray(time, np.float64)
            nested["images"] = {CAMERA: state.images["rgb"]}
            for key in ("depth", "semantics"):
                if key in self.motion.sensors:
                    nested[key] = {CAMERA: state.images[key]}
        if self.task.name == "pointnav":
            nested["extras"] = {"pointgoal": np.array(polar(state.position, state.heading, play.goals[0]), np.float32)}
        elif self.task.name == "objectnav":
            nested["extras"] = {"objectgoal": np.array([self._category(play.episode)], np.int32)}
        return nested

    def _category(self, episode: NavEpisode) -> int:
        name = next((g.category for g in episode.goals if g.category), None)
        return self.categories.index(name) if name in self.categories else -1


def _words(task: str, episode: NavEpisode) -> str:
    """What an agent is told where the episode has no instruction."""
    if task == "objectnav":
        category = next((g.category for g in episode.goals if g.category), "object")
        return f"Find the {category}."
    return "Go to the point."
