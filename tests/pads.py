"""A toy world for tests: a point on a line between a red and a blue pad; the image shows which is where."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np

from wayhand.vla.contract import ActionChunk, ActionGroup, Camera, Element, EnvSpec, Memory, Observation

BODY = EnvSpec(
    embodiment="point",
    control_dt=0.05,
    cameras=(Camera("front", 8, 8, 8.0, 8.0, 4.0, 4.0),),
    state=(Element("x", "m"),),
    action=(ActionGroup("arm", "ee_delta", (Element("dx", "m"),), (-0.1,), (0.1,), frame="world"),),
)
COLOURS = ("blue", "red")


class PadsEnv(gymnasium.Env):
    """Go to the named pad; the first pad reached ends the episode.

    Args:
        raises, dies: seeds on which `step` raises, or the process exits.
    """

    def __init__(self, *, raises: Sequence[int] = (), dies: Sequence[int] = (), alternatives: bool = True) -> None:
        self.raises, self.dies, self.alternatives = raises, dies, alternatives
        self.body = BODY
        self.oracle_name = "pads"
        self.pushes = np.zeros(0)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        assert seed is not None
        options = options or {}
        rng = np.random.default_rng(seed)
        self.seed_, self.t, self.x = seed, 0, float(rng.uniform(-0.2, 0.2))
        self.left = COLOURS[int(rng.integers(2))]
        target = int(rng.integers(2))
        self.target = COLOURS[1 - target if options.get("swap") else target]
        return self._see(), {
            "task": options.get("task") or ("go", "run")[seed % 2],
            "split": options.get("split", "seen"),
            "target": self.target,
            "compatible": 2,
            "instruction": f"go to {self.target}",
            **({"alternatives": {c: f"go to {c}" for c in COLOURS}} if self.alternatives else {}),
        }

    def step(self, action: np.ndarray) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        if self.seed_ in self.raises:
            raise RuntimeError("the simulator diverged")
        if self.seed_ in self.dies:
            os._exit(9)
        self.x += float(action[0])
        self.t += 1
        chosen = None
        if abs(self.x) >= 1:
            chosen = self.left if self.x < 0 else COLOURS[self.left == "blue"]
        info = {"success": chosen == self.target, "chosen": chosen, "measures": {"x": self.x}}
        return self._see(), -abs(self.x), chosen is not None, self.t >= 60, info

    def oracle(self, rng: np.random.Generator) -> np.ndarray:
        return np.array([-0.1 if self.left == self.target else 0.1])

    def _see(self) -> dict[str, Any]:
        image = np.zeros((8, 8, 3), np.uint8)
        image[:, 0, 0 if self.left == "red" else 2] = 255
        image[:, 7, 2 if self.left == "red" else 0] = 255
        image[:, int(np.clip((self.x + 1) * 3 + 1, 1, 6)), 1] = 255
        times = {"state": self.t * 0.05, "front": self.t * 0.05}
        return Observation(times, {"front": image}, np.array([self.x], np.float32), f"go to {self.target}").to_nested()


class ChunkedPadsEnv(PadsEnv):
    """The same world with `step_chunk`."""

    def step_chunk(self, actions: np.ndarray) -> tuple[Any, list[float], bool, bool, dict[str, Any]]:
        rewards: list[float] = []
        while True:
            nested, reward, terminated, truncated, info = self.step(actions[len(rewards)])
            rewards.append(reward)
            if terminated or truncated or len(rewards) == len(actions):
                return nested, rewards, terminated, truncated, info


class ReadingPolicy:
    """Goes to the colour it reads on the side where it sees it; without words or sight it guesses once and stays.

    Its memory is the side, its steps are noisy: memory and random numbers of episodes must not mix.
    """

    def __init__(self, spec: EnvSpec, *, fails_below: float = -9.0) -> None:
        self.spec = spec
        self.fails_below = fails_below

    def init(self, spec: EnvSpec, seeds: Sequence[int]) -> Memory:
        return [0] * len(seeds)

    def act(
        self,
        observations: Sequence[Observation],
        memory: Memory,
        *,
        rng: Sequence[np.random.Generator],
        prefix: Any = None,
        delay: int = 0,
    ) -> tuple[list[ActionChunk], Memory, dict[str, Any]]:
        chunks, sides = [], []
        for observation, side, own in zip(observations, memory, rng, strict=True):
            if observation.state[0] < self.fails_below:
                raise FloatingPointError("out of range")
            side = side or self._side(observation, own)
            actions = side * own.uniform(0.02, 0.12, (6, 1))
            times = observation.time + 0.05 * np.arange(1, 7)
            chunks.append(ActionChunk(actions, times, observation.time))
            sides.append(side)
        return chunks, sides, {}

    def _side(self, observation: Observation, rng: np.random.Generator) -> int:
        left = observation.images["front"][0, 0]
        word = observation.instruction.rpartition(" ")[2]
        if not left.any() or word not in COLOURS:
            return int(rng.choice([-1, 1]))
        return -1 if (left[0] > 0) == (word == "red") else 1
