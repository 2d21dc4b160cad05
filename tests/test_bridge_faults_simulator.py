"""A simulation that diverges: told at once, without a word to its neighbours, and as new after a reset."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from wayhand.envs.tabletop.env import TabletopEnv
from wayhand.scripts.simulated import SimulatedBodyFactory, TabletopBody
from wayhand.vla.bridge.planner import Planner
from wayhand.vla.bridge.process import LoopSettings
from wayhand.vla.bridge.replay import NullPolicy
from wayhand.vla.bridge.session import Episode
from wayhand.vla.bridge.virtual import run_virtual
from wayhand.vla.config import Config
from wayhand.vla.errors import WayhandError

MOVE = np.array([0.01, 0.0, -0.005, 0.0, 0.0, 0.02, 0.08], np.float32)
HUGE = [1e12, np.nan, np.inf]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # MuJoCo writes its log where it is


@pytest.fixture
def envs() -> Iterator[list[TabletopEnv]]:
    envs = [TabletopEnv(tasks=["pick"], cameras=[]) for _ in range(2)]
    yield envs
    for env in envs:
        env.close()


def walk(env: TabletopEnv, steps: int) -> np.ndarray:
    return np.array([env.step(MOVE)[0]["state"] for _ in range(steps)])


@pytest.mark.parametrize("number", HUGE)
@pytest.mark.parametrize("of", ["qvel", "qpos", "qfrc_applied"])
def test_a_world_that_diverges_is_told_at_once_and_is_as_new_after_a_reset(
    envs: list[TabletopEnv], of: str, number: float
) -> None:
    sick, healthy = envs
    for env in envs:
        env.reset(seed=3)
    alone = walk(sick, 8)
    sick.reset(seed=3)
    ours = [walk(healthy, 2)]
    walk(sick, 2)
    getattr(sick.sim.data, of)[2] = number
    with pytest.raises(WayhandError, match="diverged"):
        sick.step(MOVE)
    ours.append(walk(healthy, 6))
    assert (np.concatenate(ours) == alone).all(), "its neighbour has noticed nothing, to the bit"
    sick.sim.data.qfrc_applied[:] = 0.0
    sick.reset(seed=3)
    assert (walk(sick, 8) == alone).all()


def test_a_robot_whose_simulation_diverges_is_not_driven_on() -> None:
    factory = SimulatedBodyFactory(
        env=Config({"_target_": "wayhand.envs.tabletop.env.TabletopEnv", "tasks": ["pick"], "cameras": []})
    )
    spec, body = factory.policy_spec(), factory()
    assert isinstance(body, TabletopBody)
    step, steps = body.step, list[int]()

    def diverging(target: np.ndarray) -> None:
        steps.append(1)
        if len(steps) == 200:
            body._sim.data.qvel[1] = 1e12
        step(target)

    body.step = diverging  # type: ignore[method-assign]
    planner = Planner(policy=NullPolicy(spec=spec), spec=spec, targets=factory.targets(spec, body.spec))
    try:
        with pytest.raises(WayhandError, match="diverged"):
            run_virtual(Episode(0, {}, 8, 0.0), body, planner, LoopSettings())
        assert len(steps) == 200
    finally:
        body.close()
