"""A small body and policies to serve, for the tests of the policy server and its clients."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from wayhand.vla.bridge.local import LocalServer
from wayhand.vla.bridge.server import PolicyServer, ServerSettings
from wayhand.vla.bridge.service import PolicyService
from wayhand.vla.contract import ActionChunk, ActionGroup, Camera, Element, EnvSpec, Memory, Observation

JOINTS = (Element("q1", "rad"), Element("q2", "rad"))
CAMERAS = (Camera("front", 6, 4, 4.0, 4.0, 2.0, 3.0), Camera("wrist", 4, 4, 4.0, 4.0, 2.0, 2.0))
ARM = ActionGroup("arm", "joint_position", JOINTS, (-2.0, -2.0), (2.0, 2.0))
SPEC = EnvSpec("stick", 0.05, CAMERAS, (*JOINTS, Element("width", "m")), (ARM,))
OTHER = EnvSpec("stick", 0.05, CAMERAS, (*JOINTS[::-1], Element("width", "m")), (ARM,))
TOKEN = "a-token-of-enough-length"
WAIT = 20.0
"""Seconds after which a test gives up waiting; nothing takes that long."""


def observation(seed: int = 0, instruction: str = "push", time: float = 12.5) -> Observation:
    rng = np.random.default_rng(seed)
    images = {c.name: rng.integers(0, 256, (c.height, c.width, 3), dtype=np.uint8) for c in CAMERAS}
    times = {"front": time + 0.01, "wrist": time + 0.02, "state": time}
    return Observation(times, images, rng.normal(size=3).astype(np.float32), instruction)


def openpi_request(seed: int = 0) -> dict[str, Any]:
    seen = observation(seed)
    images = {f"observation/{name}": image for name, image in seen.images.items()}
    return {**images, "observation/state": seen.state, "prompt": "push"}


class Echo:
    """Its actions tell what it was given: state, pictures, instruction, calls so far, a draw, prefix and delay."""

    spec = SPEC
    chunk = 4

    def init(self, spec: EnvSpec, seeds: Sequence[int]) -> Memory:
        self.spec.require_same(spec, "policy, robot")
        return [0 for _ in seeds]

    def act(
        self,
        observations: Sequence[Observation],
        memory: Memory,
        *,
        rng: Sequence[np.random.Generator],
        prefix: Sequence[ActionChunk | None] | None = None,
        delay: int = 0,
    ) -> tuple[list[ActionChunk], Memory, dict[str, Any]]:
        out = []
        for k, seen in enumerate(observations):
            before = prefix[k] if prefix is not None else None
            given = (
                0.0
                if before is None
                else float(before.actions.sum(dtype=np.float64) + before.times.sum() + before.observed_at)
            )
            told = sum(int(i.sum()) for i in seen.images.values()) + 7 * len(seen.instruction)
            actions = np.zeros((self.chunk, 2), np.float32)
            actions[0] = seen.state[:2]
            actions[1] = told, memory[k]
            actions[2] = rng[k].random(), delay
            actions[3] = given, seen.times.get("wrist", 0) - seen.time
            times = seen.time + self.spec.control_dt * np.arange(1, self.chunk + 1)
            out.append(ActionChunk(actions, times, seen.time))
        return out, [m + 1 for m in memory], {}


class Blocked(Echo):
    """Waits for `go` when the instruction is `wait`; `waiting` tells that it does."""

    def __init__(self, instruction: str = "wait") -> None:
        self.go, self.waiting, self._instruction = threading.Event(), threading.Event(), instruction

    def act(self, observations: Sequence[Observation], memory: Memory, **options: Any) -> Any:
        if observations[0].instruction == self._instruction:
            self.waiting.set()
            assert self.go.wait(WAIT)
        return super().act(observations, memory, **options)


class Broken(Echo):
    """Fails as told by the instruction, with a secret in its error."""

    def act(self, observations: Sequence[Observation], memory: Memory, **options: Any) -> Any:
        if observations[0].instruction == "fail":
            raise ValueError("the secret is in /home/me")
        chunks, memory, aux = super().act(observations, memory, **options)
        if observations[0].instruction == "nan":
            chunks[0].actions[2, 1] = np.nan
        if observations[0].instruction == "wide":
            chunks[0] = ActionChunk(np.zeros((4, 3)), chunks[0].times, chunks[0].observed_at)
        return chunks, memory, aux


@dataclass(frozen=True)
class Served:
    service: PolicyService
    server: PolicyServer
    local: Path | None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server.port}"

    def url(self, path: str) -> str:
        return f"http://{self.address}{path}"

    def until(self, true: Any) -> None:
        """Wait until `true()`; fails after `WAIT`."""
        end = time.monotonic() + WAIT
        while not true():
            assert time.monotonic() < end
            time.sleep(0.002)


@contextmanager
def served(
    policy: Any = None, *, local: Path | None = None, service: dict[str, Any] | None = None, **settings: Any
) -> Iterator[Served]:
    """A policy on a free port of the loopback; with `local`, also through shared memory."""
    with PolicyService(policy=policy or Echo(), **(service or {})) as running:
        with PolicyServer(running, ServerSettings(port=0, **settings)) as server:
            if local is None:
                yield Served(running, server, None)
            else:
                with LocalServer(running, local):
                    yield Served(running, server, local)
