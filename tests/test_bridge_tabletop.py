"""The tabletop through the bridge: at zero latency, deployment is the trajectory of the environment."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wayhand.envs.tabletop.increments import follow
from wayhand.scripts import deploy
from wayhand.scripts.simulated import SimulatedBodyFactory, TabletopBody, joint_targets
from wayhand.vla.bridge.planner import Planner
from wayhand.vla.bridge.process import LoopSettings
from wayhand.vla.bridge.session import Episode
from wayhand.vla.bridge.virtual import run_virtual
from wayhand.vla.config import Config
from wayhand.vla.contract import ActionChunk, EnvSpec, Memory, Observation
from wayhand.vla.errors import ConfigError, WayhandError

ENV = {"_target_": "wayhand.envs.tabletop.env.TabletopEnv", "tasks": ["pick"], "cameras": []}
H = 8


class Scripted:
    """A chunk policy over a function of the observation's time: actions [A] at every control period."""

    def __init__(self, spec: EnvSpec, action_at: Callable[[float], np.ndarray]) -> None:
        self.spec, self._action_at = spec, action_at

    def init(self, spec: EnvSpec, seeds: Sequence[int]) -> Memory:
        self.spec.require_same(spec, "policy, robot")
        return ()

    def act(
        self,
        observations: Sequence[Observation],
        memory: Memory,
        *,
        rng: Sequence[np.random.Generator],
        prefix: Sequence[ActionChunk | None] | None = None,
        delay: int = 0,
    ) -> tuple[list[ActionChunk], Memory, dict[str, Any]]:
        chunks = []
        for o in observations:
            times = o.time + self.spec.control_dt * np.arange(1, H + 1)
            chunks.append(ActionChunk(np.array([self._action_at(t) for t in times]), times, o.time))
        return chunks, memory, {}


@pytest.fixture
def factory() -> SimulatedBodyFactory:
    return SimulatedBodyFactory(env=Config(ENV))


@pytest.fixture
def body(factory: SimulatedBodyFactory) -> Iterator[TabletopBody]:
    body = factory()
    yield body
    body.close()


def slow_circle(t: float) -> np.ndarray:
    """Under every limit of the arm but for its first instant."""
    return np.array([0.004 * np.sin(t), 0.004 * np.cos(t), -0.001, 0.005, 0.0, 0.01, 0.08], np.float32)


def test_without_delay_deployment_is_the_environments_trajectory(
    factory: SimulatedBodyFactory, body: TabletopBody
) -> None:
    env = factory._build()
    try:
        first, _ = env.reset(seed=5, options={})
        theirs = [first["state"]]
        for k in range(24):
            theirs.append(env.step(slow_circle((k + 1) * 0.05))[0]["state"])
        spec = env.body
    finally:
        env.close()
    body.limits = dataclasses.replace(body.limits, acceleration=body.limits.acceleration * 1e3)
    ours: list[np.ndarray] = []
    outcome_of = body.outcome

    def watch() -> bool | None:
        ours.append(body.observe_state().state)
        return outcome_of() if len(ours) < 24 else False

    body.outcome = watch  # type: ignore[method-assign]
    planner = Planner(policy=Scripted(spec, slow_circle), spec=spec, targets=joint_targets(spec, body.spec))
    run_virtual(Episode(5, {}, 8, 0.0), body, planner, LoopSettings())
    joints = np.abs(np.array(ours)[:, :7] - np.array(theirs)[1:, :7]).max(axis=1)
    place = np.abs(np.array(ours)[:, 8:11] - np.array(theirs)[1:, 8:11]).max(axis=1)
    # The first increment starts from the same bits; later ones search their joints from another posture.
    assert joints[0] < 1e-5 and joints.max() < 2e-3
    assert place[:8].max() < 5e-5 and place.max() < 2e-4


@pytest.mark.parametrize("task", ["reach", "pick"])
def test_the_expert_succeeds_through_the_bridge(task: str) -> None:
    factory = SimulatedBodyFactory(env=Config({**ENV, "tasks": [task]}))
    spec, body = factory.policy_spec(), factory()
    try:
        expert = Scripted(spec, lambda t: body._env.oracle(np.random.default_rng(0)))
        planner = Planner(policy=expert, spec=spec, targets=joint_targets(spec, body.spec))
        for seed in range(3):
            outcome, loop = run_virtual(Episode(seed, {}, 1, 0.0), body, planner, LoopSettings())
            assert outcome.success, outcome
            assert outcome.seconds < body.time_limit and loop.report()["held_ticks"] == 0
    finally:
        body.close()


def test_the_body_ends_as_the_environment_does(factory: SimulatedBodyFactory, body: TabletopBody) -> None:
    body.reset(3, {"split": "seen"})
    assert body.time_limit > 0 and body.outcome() is None
    assert tuple(e.name for e in body.spec.action_elements) == body.limits.names
    assert {g.kind for g in body.spec.action} == {"joint_position"}
    assert {g.kind for g in factory.policy_spec().action} == {"ee_delta", "joint_position"}
    short = SimulatedBodyFactory(env=Config({**ENV, "max_seconds": 1.5}))()
    short.reset(3, {})
    assert short.time_limit == 1.5
    short.close()


def test_the_target_stays_in_the_workspace_and_near_the_hand() -> None:
    identity = np.array([1.0, 0, 0, 0])
    low = follow(
        (np.array([0.5, 0, 0.02]), identity), np.array([0, 0, -0.03, 0, 0, 0]), (np.array([0.5, 0, 0.02]), identity)
    )
    assert 0 <= low[0][2] < 0.02
    ahead = follow(
        (np.array([0.5, 0, 0.2]), identity), np.array([0.03, 0, 0, 0, 0, 0]), (np.array([0.4, 0, 0.2]), identity)
    )
    assert 0.4 < ahead[0][0] < 0.5


def test_wrong_settings_are_said(factory: SimulatedBodyFactory) -> None:
    with pytest.raises(ConfigError, match="share"):
        SimulatedBodyFactory(env=Config(ENV), velocity=2.0)
    with pytest.raises(ConfigError, match="execute"):
        deploy.main(["checkpoint=none", "execute=0"])
    with pytest.raises(ConfigError, match="virtual"):
        deploy.main(["checkpoint=none", "baseline=somewhere"])
    with pytest.raises(ConfigError, match="no results"):
        deploy.main(["checkpoint=none", "virtual=true", "baseline=/nowhere"])


def test_deploy_in_virtual_time_writes_its_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    common = [
        "checkpoint=none",
        "env=tabletop/pick",
        "env.cameras=[]",
        "+env.max_seconds=0.5",
        "virtual=true",
        "workers=1",
    ]
    assert deploy.main([*common, "episodes=2", f"out={tmp_path}"]) == 0
    report = json.loads((tmp_path / "deploy.json").read_text())
    assert report["episodes"] == 2 and report["success"] == 0 and report["loop"]["ticks"] == 100
    assert report["outcomes"][1]["seed"] == report["outcomes"][0]["seed"] + 1
    assert str(tmp_path / "deploy.json") in capsys.readouterr().out.replace("\n", "")
    with pytest.raises(WayhandError):
        deploy.main([*common, "episodes=1", f"out={tmp_path}", "checkpoint=/nowhere"])


def test_deploy_pairs_with_an_evaluation(tmp_path: Path) -> None:
    from wayhand.vla.evaluation.records import RESULTS, EpisodeResult, ResultsLog

    env = {**ENV, "max_seconds": 0.3}
    head = {"execute": 8, "environment": env}
    with ResultsLog(tmp_path / RESULTS, head) as log:
        log.append(
            [EpisodeResult(1_000_000 + k, {"split": "seen"}, "", split="seen", success=k == 0) for k in range(3)]
        )
    common = [
        "checkpoint=none",
        "env=tabletop/pick",
        "env.cameras=[]",
        "+env.max_seconds=0.3",
        "virtual=true",
        "workers=1",
    ]
    assert deploy.main([*common, "episodes=3", f"baseline={tmp_path}", f"out={tmp_path}"]) == 0
    paired = json.loads((tmp_path / "deploy.json").read_text())["paired"]
    assert paired["baseline_success"] == 1 and paired["estimate"] == pytest.approx(-1 / 3)
    with pytest.raises(ConfigError, match="another execute"):
        deploy.main([*common, "episodes=3", f"baseline={tmp_path}", "execute=4"])
    with pytest.raises(WayhandError, match="too few"):
        deploy.main([*common, "episodes=4", f"baseline={tmp_path}"])
