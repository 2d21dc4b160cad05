"""Faults on demand: what a simulated robot's sensors can be made to do wrong."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ...contract import EnvSpec, Observation
from ...errors import ConfigError, did_you_mean
from ..limits import Limits
from .simulated import BodyFactory, SimulatedBody

CAMERA_FAULTS = ("frozen", "black", "late", "slow", "reordered", "resized", "dropped", "noisy")
JOINT_FAULTS = ("stuck", "leap", "nan", "swapped", "jitter")


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What goes wrong, where and when.

    Args:
        kind: of a camera: `frozen` (the same picture with new times), `black`, `late` (by `amount` s), `slow` (a
            new one every `amount` s), `reordered` (every second picture is older than the one before), `resized`,
            `dropped` (a share `amount` of the pictures does not come), `noisy` (standard deviation `amount`). Of the
            joints: `stuck`, `leap` (by `amount` rad), `nan`, `swapped` (the numbers in reversed order), `jitter`
            (standard deviation `amount`).
        target: a camera's or a joint's name; of all where it is empty.
        at, until: from when to when [s] in the episode.

    Raises `ConfigError` for an unknown kind, and a `FaultyBody` for a target that it does not have.
    """

    kind: str
    target: str = ""
    at: float = 0.0
    until: float = float("inf")
    amount: float = 0.0

    def __post_init__(self) -> None:
        kind: object = self.kind
        if isinstance(kind, float) and kind != kind:  # what a command line and a YAML file make of nan
            object.__setattr__(self, "kind", "nan")
        _require(str(self.kind), CAMERA_FAULTS + JOINT_FAULTS, "Unknown fault")

    def of(self, name: str, t: float) -> bool:
        return self.at <= t < self.until and self.target in ("", name)


def _require(got: str, exists: Sequence[str], what: str) -> None:
    if got not in exists:
        close = did_you_mean(got, exists)
        raise ConfigError(f"{what}; did you mean '{close}'?" if close else what, got=got, exists=exists)


@dataclass(frozen=True)
class FaultyFactory:
    """Builds a body whose sensors have `faults`; small enough to travel to the simulator's process."""

    factory: BodyFactory
    faults: Sequence[Fault]

    def __call__(self) -> FaultyBody:
        return FaultyBody(self.factory(), self.faults)


class FaultyBody:
    """A `SimulatedBody` in front of another one; what it simulates stays right, what it reports does not.

    The same seed gives the same noise.
    """

    def __init__(self, body: SimulatedBody, faults: Sequence[Fault]) -> None:
        self._body, self._faults = body, tuple(faults)
        self._joints = [e.name for e in body.spec.state]
        cameras = [camera.name for camera in body.spec.cameras]
        for fault in self._faults:
            exists = cameras if fault.kind in CAMERA_FAULTS else self._joints
            if fault.target:
                _require(fault.target, exists, f"There is nothing that could be '{fault.kind}' of this name")
        self._history: deque[Observation] = deque(maxlen=64)
        self._held: dict[str, Any] = {}
        self._rng = np.random.default_rng(0)

    @property
    def spec(self) -> EnvSpec:
        return self._body.spec

    @property
    def limits(self) -> Limits:
        return self._body.limits

    @property
    def physics_dt(self) -> float:
        return self._body.physics_dt

    @property
    def time_limit(self) -> float:
        return self._body.time_limit

    def reset(self, seed: int, options: Mapping[str, Any]) -> None:
        self._body.reset(seed, options)
        self._history.clear()
        self._held.clear()
        self._rng = np.random.default_rng([seed, 5])

    def step(self, target: np.ndarray) -> None:
        self._body.step(target)

    def outcome(self) -> bool | None:
        return self._body.outcome()

    def close(self) -> None:
        self._body.close()

    def observe_state(self) -> Observation:
        observation = self._body.observe_state()
        return replace(observation, state=self._state(observation))

    def observe(self) -> Observation:
        observation = self._body.observe()
        self._history.append(observation)
        images, times = dict(observation.images), dict(observation.times)
        for camera in images:
            for fault in self._faults:
                if fault.kind in CAMERA_FAULTS and fault.of(camera, observation.times["state"]):
                    images[camera], times[camera] = self._picture(fault, camera, images[camera], times[camera])
            self._held[camera] = (images[camera], times[camera])
        return replace(observation, images=images, times=times, state=self._state(observation))

    def _picture(self, fault: Fault, camera: str, image: np.ndarray, t: float) -> tuple[np.ndarray, float]:
        match fault.kind:
            case "frozen":
                return self._held.get(camera, (image, t))[0], t
            case "black":
                return np.zeros_like(image), t
            case "resized":
                return image[:-1], t
            case "slow":
                shown = self._held.get(camera, (image, t))
                return shown if t - shown[1] < fault.amount - 1e-9 else (image, t)
            case "noisy":
                noise = self._rng.normal(0.0, fault.amount, image.shape)
                return np.clip(image + noise, 0, 255).astype(np.uint8), t
            case "dropped":
                return self._held.get(camera, (image, t)) if self._rng.random() < fault.amount else (image, t)
            case "reordered":
                return self._past(camera, 0.12) if len(self._history) % 2 else (image, t)
            case _:
                return self._past(camera, fault.amount)

    def _past(self, camera: str, ago: float) -> tuple[np.ndarray, float]:
        newest = self._history[-1].times[camera]
        old = next((o for o in reversed(self._history) if o.times[camera] <= newest - ago + 1e-9), self._history[0])
        return old.images[camera], old.times[camera]

    def _state(self, observation: Observation) -> np.ndarray:
        state, t = np.array(observation.state), observation.times["state"]
        for fault in self._faults:
            if fault.kind not in JOINT_FAULTS:
                continue
            for i, name in enumerate(self._joints):
                key = f"{fault.kind} {name}"
                if not fault.of(name, t):
                    self._held[key] = state[i]
                elif fault.kind == "stuck":
                    state[i] = self._held.setdefault(key, state[i])
                elif fault.kind == "leap":
                    state[i] += fault.amount
                elif fault.kind == "nan":
                    state[i] = np.nan
                elif fault.kind == "jitter":
                    state[i] += self._rng.normal(0.0, fault.amount)
            if fault.kind == "swapped" and fault.at <= t < fault.until:
                state = state[::-1].copy()
        return state
