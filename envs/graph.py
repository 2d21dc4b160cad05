"""Discrete navigation on viewpoint graphs as a Gymnasium environment: the task of R2R (Anderson et al. 2018)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from ..vla.contract import INSTRUCTION_BYTES, ActionGroup, ArraySpec, Element, EnvSpec, Observation
from ..vla.errors import ConfigError, SpecError
from ..vla.evaluation.nav_metrics import dtw, ndtw, spl
from ..vla.navigation import Instruction, NavEpisode, ViewpointGraph
from .atlas import STEP, VIEWS, Atlas, Candidates, goal_rows, view_index

LOOKS = ("keep", "left", "right", "up", "down")
_TURN = {"keep": (0, 0), "left": (-1, 0), "right": (1, 0), "up": (0, 1), "down": (0, -1)}
_RESET_OPTIONS = ("episode", "split")
_STATE = (("x", "m"), ("y", "m"), ("z", "m"), ("heading", "rad"), ("elevation", "rad"))
_FAR = 1e4


class Features(Protocol):
    """What the 36 views of a viewpoint look like; a call gives float32 [36 D], not to be written to."""

    @property
    def width(self) -> int:
        """D."""
        ...

    def __call__(self, scan: str, viewpoint: str) -> np.ndarray: ...


class Blind:
    """Features of an agent that sees nothing: zeros [36 1]."""

    width = 1

    def __call__(self, scan: str, viewpoint: str) -> np.ndarray:
        return np.zeros((VIEWS, 1), np.float32)


def graph_body(*, features: int, candidates: int, restricted: bool = False) -> EnvSpec:
    """The spec of an agent on a graph.

    Extras, with K candidates and D features a view: `panorama` [36 D]; `candidate_mask` bool [K]; `candidate_id` int32
    [K], the viewpoint's position in its graph, −1 for padding; `candidate_view` int32 [K]; `candidate_angles` [K 4],
    sine and cosine of relative heading and elevation; `candidate_distance` [K]. State: position of the camera,
    heading and elevation. Candidate 0 is the viewpoint itself.
    """
    index = Element("candidate", "index")
    action = [ActionGroup("candidate", "candidate", (index,), (0.0,), (candidates - 1.0,), candidates=candidates)]
    if restricted:
        look = Element("look", "index")
        action.append(ActionGroup("look", "discrete", (look,), (0.0,), (len(LOOKS) - 1.0,), choices=LOOKS))
    extras = {
        "panorama": ArraySpec((VIEWS, features), "float32"),
        "candidate_mask": ArraySpec((candidates,), "bool"),
        "candidate_id": ArraySpec((candidates,), "int32", "index"),
        "candidate_view": ArraySpec((candidates,), "int32", "index"),
        "candidate_angles": ArraySpec((candidates, 4), "float32"),
        "candidate_distance": ArraySpec((candidates,), "float32", "m"),
    }
    return EnvSpec("graph", 1.0, (), tuple(Element(*e) for e in _STATE), tuple(action), extras)


def goals_of(episode: NavEpisode) -> tuple[str, ...]:
    """The viewpoints at which an episode ends well: those of its goals, else the end of its path."""
    named = tuple(v for goal in episode.goals for v in goal.viewpoint_ids)
    return named or episode.path[-1:]


class GraphNavigation(gym.Env[dict[str, Any], np.ndarray]):
    """An agent steps between panoramas, told where to go; one action is one hop.

    The observation is `Observation.to_nested()`; `body` is the `EnvSpec` (see `graph_body`). Action `candidate` [1]:
    the index of a candidate; 0 stops, a padded one wastes the step. After a hop the agent looks where it went, level.
    Candidates are ordered as MatterSim's navigable locations: by angular distance from where the agent looks.

    With `hfov_deg` candidates are limited to that field of view (MatterSim's restricted navigation), a hop keeps
    the direction of gaze, and the action has a second element `look` that turns it by 30°; candidate 0 with
    `look` = 0 stops.

    An episode is one instruction of one `NavEpisode`. `reset(seed=s, options={"episode": i})` takes the i-th of them
    (default: s modulo their number). It terminates with stop and is truncated after `max_steps` actions. Success is
    R2R's: less than `radius` from the goal along the graph at the last viewpoint, stopped or not, unless
    `stop_required`. The reward is 1 on the last step of a success. Measures: `ne`, `tl` [m], `osr` at every step, and
    `sr`, `spl`, `ndtw` with the last.

    Args:
        graphs: by scan.
        episodes: with paths in these graphs.
        features: what the views look like; zeros where None.
        candidates: K, padding included.
        max_steps: actions per episode.
        radius: [m].
        discretized: snap the gaze to multiples of 30°, as agents on precomputed features do.

    Raises `ConfigError` without episodes, `NavigationError` where an episode names an unknown viewpoint.
    """

    metadata = {"render_modes": []}

    def __init__(
        self,
        *,
        graphs: Mapping[str, ViewpointGraph],
        episodes: Sequence[NavEpisode],
        features: Features | None = None,
        candidates: int = 24,
        max_steps: int = 15,
        radius: float = 3.0,
        stop_required: bool = False,
        discretized: bool = False,
        hfov_deg: float | None = None,
        split: str = "",
    ) -> None:
        self._atlas = Atlas(graphs, candidates)
        self._features = features or Blind()
        self._max_steps, self._radius, self._stop_required = max_steps, radius, stop_required
        self._discretized, self._hfov = discretized, None if hfov_deg is None else np.radians(hfov_deg)
        self._split = split
        self.items = [(e, i) for e in episodes for i in (e.instructions or (Instruction(e.id, ""),))]
        if not self.items:
            raise ConfigError("A navigation environment needs at least one episode", got="none")
        for episode in episodes:
            goal_rows(self._atlas, episode.scan, (*episode.path, *goals_of(episode)))
        self._body = graph_body(features=self._features.width, candidates=candidates, restricted=hfov_deg is not None)
        self.observation_space = _observation_space(self._body)
        self._limits = self._body.action_lower.astype(np.float32), self._body.action_upper.astype(np.float32)
        self.action_space = spaces.Box(*self._limits, dtype=np.float32)
        self._over = True

    @property
    def body(self) -> EnvSpec:
        """The spec of this environment's agent."""
        return self._body

    @property
    def atlas(self) -> Atlas:
        return self._atlas

    @property
    def trajectory(self) -> tuple[tuple[str, float, float], ...]:
        """(viewpoint, heading, elevation) of every hop so far, as result files of R2R list them."""
        return tuple(self._trail)

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """See the class; without a seed the next episode is drawn from the environment's generator."""
        super().reset(seed=seed)
        chosen = dict(options or {})
        unknown = [k for k in chosen if k not in _RESET_OPTIONS]
        if unknown:
            raise ConfigError("Unknown reset options", got=", ".join(unknown), exists=_RESET_OPTIONS)
        drawn = int(self.np_random.integers(2**31)) if seed is None else int(seed)
        self._episode, self._instruction = self.items[int(chosen.get("episode", drawn)) % len(self.items)]
        scan = self._episode.scan
        self._row = self._start = self._atlas.row(scan, self._episode.path[0])
        self._goals = goal_rows(self._atlas, scan, goals_of(self._episode))[None]
        self._look(self._episode.heading, 0.0)
        self._rows, self._trail, self._steps, self._over = [self._row], [], 0, False
        self._length, self._closest = 0.0, np.inf
        self._arrive(0.0)
        info = {
            "task": "graph",
            "split": self._split,
            "instruction": self._instruction.text,
            "instruction_id": self._instruction.id,
            "scan": scan,
            "target": self._atlas.viewpoint(int(self._goals[0, 0])),
        }
        return self._observe().to_nested(), info

    def step(self, action: np.ndarray) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """One hop, turn or stop. Raises `SpecError` for a malformed action or after the end."""
        if self._over:
            raise SpecError("The episode is over", run="reset() before the next step")
        index, look = self._checked(action)
        self._steps += 1
        terminated = index == 0 and look == "keep"
        if index > 0 and self._seen.mask[0, index]:
            self._hop(index)
        if look != "keep":
            turn, tilt = _TURN[look]
            self._look(self._heading + turn * STEP, self._elevation + tilt * STEP)
        truncated = not terminated and self._steps >= self._max_steps
        self._over = terminated or truncated
        measures = self._measures(terminated)
        success = bool(measures.get("sr", 0.0))
        info = {"success": success, "measures": measures}
        return self._observe().to_nested(), float(success), terminated, truncated, info

    def oracle(self, rng: np.random.Generator, noise: float = 0.0) -> np.ndarray:
        """float32 [A]: the next hop of a shortest path, stop at the goal; with probability `noise` any candidate."""
        action = np.zeros(1 if self._hfov is None else 2, np.float32)
        real = np.flatnonzero(self._seen.mask[0])
        if noise > 0 and rng.random() < noise:
            action[0] = real[int(rng.integers(len(real)))]
            return action
        follow = int(self._atlas.next_row(np.array([self._row]), self._goals)[0])
        if follow == self._row:
            return action
        found = np.flatnonzero(self._seen.row[0] == follow)
        if len(found):
            action[0] = found[0]
            return action
        everywhere = self._atlas.look(np.array([self._row]), np.array([self._heading]), np.array([self._elevation]))
        aside = everywhere.heading[0][everywhere.row[0] == follow][0]
        action[1] = LOOKS.index("right" if aside > 0 else "left")
        return action

    def _checked(self, action: np.ndarray) -> tuple[int, str]:
        values = np.asarray(action, np.float64)
        if values.shape != self.action_space.shape or not np.isfinite(values).all():
            raise SpecError(
                "The action does not fit the graph",
                expected=f"{self._body.action_dim} finite numbers",
                got=f"shape {values.shape}: {values}",
            )
        index = np.rint(np.clip(values, *self._limits)).astype(int)
        return int(index[0]), LOOKS[index[1]] if len(index) > 1 else "keep"

    def _look(self, heading: float, elevation: float) -> None:
        """Set the gaze and what can be reached from it."""
        heading, elevation = heading % (2 * np.pi), float(np.clip(elevation, -STEP, STEP))
        if self._discretized:
            view = int(view_index(np.array(heading), np.array(elevation)))
            heading, elevation = view % 12 * STEP, (view // 12 - 1) * STEP
        self._heading, self._elevation = float(heading), elevation
        self._seen: Candidates = self._atlas.look(
            np.array([self._row]), np.array([self._heading]), np.array([self._elevation]), hfov=self._hfov
        )

    def _hop(self, index: int) -> None:
        heading = self._heading if self._hfov is not None else self._heading + float(self._seen.heading[0, index])
        elevation = self._elevation if self._hfov is not None else 0.0
        before, self._row = self._row, int(self._seen.row[0, index])
        length = float(self._atlas.distance(np.array([before]), np.array([[self._row]]))[0])
        self._rows.append(self._row)
        self._look(heading, elevation)
        self._arrive(length)

    def _arrive(self, length: float) -> None:
        self._length += length
        self._left = float(self._atlas.distance(np.array([self._row]), self._goals)[0])
        self._closest = min(self._closest, self._left)
        self._trail.append((self._atlas.viewpoint(self._row), self._heading, self._elevation))

    def _measures(self, stopped: bool) -> dict[str, float]:
        measures = {"ne": self._left, "tl": self._length, "osr": float(self._closest < self._radius)}
        if self._over:
            shortest = float(self._atlas.distance(np.array([self._start]), self._goals)[0])
            sr = float(self._left < self._radius and (stopped or not self._stop_required))
            measures |= {"sr": sr, "spl": spl(sr, shortest, self._length), "ndtw": self._fidelity()}
        return measures

    def _fidelity(self) -> float:
        graph = self._atlas.graphs[self._episode.scan]
        reference = [graph.index(v) for v in self._episode.path]
        costs = graph.distances[self._atlas.local(np.array(self._rows))][:, reference]
        return ndtw(dtw(costs), len(reference), self._radius)

    def _observe(self) -> Observation:
        seen = self._seen
        state = np.array([*self._atlas.positions[self._row], self._heading, self._elevation], np.float32)
        return Observation(
            times={"state": float(self._steps)},
            images={},
            state=state,
            instruction=self._instruction.text,
            extras={
                "panorama": np.array(self._features(*self._atlas.names[self._row]), np.float32),
                "candidate_mask": seen.mask[0].copy(),
                "candidate_id": np.where(seen.mask[0], self._atlas.local(seen.row[0]), -1).astype(np.int32),
                "candidate_view": seen.view[0].copy(),
                "candidate_angles": seen.angles[0].astype(np.float32),
                "candidate_distance": seen.distance[0].copy(),
            },
        )


def _observation_space(body: EnvSpec) -> spaces.Dict:
    """The space of `Observation.to_nested()` for this spec."""

    def box(array: ArraySpec) -> spaces.Space[Any]:
        dtype: Any = np.dtype(array.dtype).type
        low, high = (0, 1) if array.dtype == "bool" else (-1 if array.unit == "index" else -_FAR, _FAR)
        return spaces.Box(low, high, array.shape, dtype)

    return spaces.Dict(
        {
            "times": spaces.Dict({"state": spaces.Box(0.0, 1e6, (), np.float64)}),
            "state": spaces.Box(-_FAR, _FAR, (body.state_dim,), np.float32),
            "instruction": spaces.Box(0, 255, (INSTRUCTION_BYTES,), np.uint8),
            "extras": spaces.Dict({k: box(a) for k, a in body.extras.items()}),
        }
    )
