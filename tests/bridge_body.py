"""A simulator without physics, for the bridge's tests: one arm that is always where it was commanded to be."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from wayhand.vla.bridge.limits import Limits
from wayhand.vla.bridge.session import Outcome
from wayhand.vla.contract import ActionChunk, ActionGroup, ArraySpec, Camera, Element, EnvSpec, Memory, Observation

JOINTS = (Element("q1", "rad"), Element("q2", "rad"))
WIDTH = Element("gripper_width", "m")
POSE = tuple(Element(n, "") for n in ("ee_x", "ee_y", "ee_z", "ee_qw", "ee_qx", "ee_qy", "ee_qz"))
START = np.array([0.3, -0.2, 0.04])
STARVED = ("the watchdog", "the loop was blocked", "joint state is", "no valid action")
"""How the reasons begin that a run ends for where the machine had no processor for a robot."""


def unstarved(run: Callable[[], Outcome]) -> Outcome:
    """How a run in real time ended; it is run again where the machine had no processor for a robot."""
    for _ in range(5):
        outcome = run()
        if not outcome.reason.startswith(STARVED):
            return outcome
    pytest.skip("this machine has no time for a robot in real time")


def spec_of(*groups: ActionGroup) -> EnvSpec:
    return EnvSpec(
        embodiment="stick",
        control_dt=0.05,
        cameras=(Camera("front", 4, 4, 1.0, 1.0, 2.0, 2.0),),
        state=(WIDTH, *JOINTS),  # another order than the action's, so that mapping by name is needed
        action=groups,
        extras={"ee_target": ArraySpec((7,), "float32")},
    )


ROBOT = spec_of(
    ActionGroup("arm", "joint_position", JOINTS, (-2.0, -2.0), (2.0, 2.0)),
    ActionGroup("gripper", "joint_position", (WIDTH,), (0.0,), (0.08,)),
)
DELTAS = tuple(Element(n, "m" if n in ("dx", "dy", "dz") else "rad") for n in ("dx", "dy", "dz", "drx", "dry", "drz"))
CARTESIAN = spec_of(
    ActionGroup("arm", "ee_delta", DELTAS, (-0.04,) * 6, (0.04,) * 6, frame="world", rotation="rotvec"),
    ActionGroup("gripper", "joint_position", (WIDTH,), (0.0,), (0.08,)),
)
LIMITS = Limits(
    ("q1", "q2", "gripper_width"),
    np.array([-2.0, -2.0, 0.0]),
    np.array([2.0, 2.0, 0.08]),
    np.array([2.0, 2.0, 0.2]),
    np.array([20.0, 20.0, 4.0]),
)


class Plane:
    """Kinematics whose pose is (q1, q2, 0) with no rotation."""

    def forward(self, q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.array([q[0], q[1], 0.0]), np.array([1.0, 0.0, 0.0, 0.0])

    def solve(self, position: np.ndarray, quaternion: np.ndarray, seed: np.ndarray) -> np.ndarray:
        return np.array(position[:2])


class StickBody:
    """`SimulatedBody`: succeeds once q1 exceeds `goal`; `trace` holds every physics step's target."""

    spec, limits, physics_dt, time_limit = ROBOT, LIMITS, 0.002, 2.0

    def __init__(self, goal: float = 1.0) -> None:
        self.goal = goal
        self.trace: list[np.ndarray] = []
        self._q, self._time = START, 0.0

    def reset(self, seed: int, options: Mapping[str, Any]) -> None:
        self._q, self._time = START + np.array([0.001 * (seed % 10), 0.0, 0.0]), 0.0
        self.trace = []

    def step(self, target: np.ndarray) -> None:
        self._q = np.array(target)
        self._time += self.physics_dt
        self.trace.append(self._q)

    def observe_state(self) -> Observation:
        state = self._q[[2, 0, 1]].astype(np.float32)
        pose = np.array([self._q[0], self._q[1], 0, 1, 0, 0, 0], np.float32)
        return Observation({"state": self._time}, {}, state, "push", extras={"ee_target": pose})

    def observe(self) -> Observation:
        state = self.observe_state()
        image = np.full((4, 4, 3), 50 + round(self._time / 0.05) % 200, np.uint8)
        return Observation(
            {"state": self._time, "front": self._time}, {"front": image}, state.state, "push", extras=state.extras
        )

    def outcome(self) -> bool | None:
        return True if self._q[0] > self.goal else None

    def close(self) -> None:
        pass


class Steady:
    """A policy that always moves `delta` along x per control period."""

    def __init__(self, delta: float, spec: EnvSpec = CARTESIAN, chunk: int = 16) -> None:
        self.spec, self.chunk, self.delta = spec, chunk, delta

    def init(self, spec: EnvSpec, seeds: Sequence[int]) -> Memory:
        self.spec.require_same(spec, "policy, robot")
        return 0

    def act(
        self,
        observations: Sequence[Observation],
        memory: Memory,
        *,
        rng: Sequence[np.random.Generator],
        prefix: Sequence[ActionChunk | None] | None = None,
        delay: int = 0,
    ) -> tuple[list[ActionChunk], Memory, dict[str, Any]]:
        return [self.chunk_for(o, int(memory)) for o in observations], memory + 1, {}

    def chunk_for(self, observation: Observation, call: int) -> ActionChunk:
        actions = np.zeros((self.chunk, self.spec.action_dim), np.float32)
        actions[:, 0], actions[:, -1] = self.delta, 0.04
        times = observation.time + self.spec.control_dt * np.arange(1, self.chunk + 1)
        return ActionChunk(actions, times, observation.time)
