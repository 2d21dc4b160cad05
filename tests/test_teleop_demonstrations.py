"""Scripted humans record demonstrations: through the loop and the gate, in the terms of the policy that learns them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from recorded_runs import record_stick
from scripted_hands import RANGES, Player, ScriptedHand, Typist

from wayhand.datasets.store import Dataset
from wayhand.datasets.window import WindowSampler
from wayhand.envs.tabletop.env import TabletopEnv
from wayhand.envs.tabletop.sim import TabletopSim
from wayhand.scripts.recording import DemonstrationSink
from wayhand.scripts.simulated import SimulatedBodyFactory, joint_targets
from wayhand.vla.bridge.planner import Planner
from wayhand.vla.bridge.process import LoopSettings
from wayhand.vla.bridge.recorder import EpisodeRecorder
from wayhand.vla.bridge.session import Episode
from wayhand.vla.bridge.teleop.gamepad import PadState
from wayhand.vla.bridge.teleop.human import HumanPolicy
from wayhand.vla.bridge.teleop.keys import KeyboardHand
from wayhand.vla.bridge.teleop.labels import demonstration, human_rows, require_learnable
from wayhand.vla.bridge.teleop.pilots import HumanPilot
from wayhand.vla.bridge.virtual import run_virtual
from wayhand.vla.config import Config
from wayhand.vla.contract import Episode as Recorded
from wayhand.vla.contract import Observation
from wayhand.vla.errors import SpecError


def env_config(**changes: Any) -> Config:
    target = "wayhand.envs.tabletop.env.TabletopEnv"
    return Config({"_target_": target, "tasks": ["pick"], "cameras": [], "max_seconds": 30, **changes})


def never(who: str) -> None:
    raise AssertionError(f"{who} stopped the robot")


def typist(sim: TabletopSim) -> ScriptedHand:
    return Typist(sim, KeyboardHand(stop=never))


def player(sim: TabletopSim) -> ScriptedHand:
    return Player(sim, PadState(never, RANGES))


def demonstrate(
    factory: SimulatedBodyFactory, hand: Callable[[TabletopSim], ScriptedHand], seed: int
) -> tuple[Recorded, dict[str, Any]]:
    """One episode by hand in virtual time, and the loop's report."""
    body = factory()
    try:
        device = hand(body._sim)  # type: ignore[attr-defined]
        human = HumanPolicy(device=device, robot=body.spec)
        planner = Planner(policy=human, spec=body.spec, targets=joint_targets(human.spec, body.spec))
        recorder = EpisodeRecorder(body.spec, 100.0)
        episode = Episode(seed, {}, 1, 0.0)
        settings = LoopSettings(guards=factory.guards)
        outcome, loop = run_virtual(episode, body, HumanPilot(planner, device), settings, recorder)
        recorded = recorder.finish(outcome.success, {"episode": asdict(episode), "outcome": asdict(outcome)})
    finally:
        body.close()
    assert recorded is not None
    return recorded, loop.report()


@pytest.mark.parametrize(("hand", "episodes"), [(typist, 3), (player, 1)])
def test_a_scripted_human_records_demonstrations_that_train_and_replay(
    tmp_path: Path, hand: Callable[[TabletopSim], ScriptedHand], episodes: int
) -> None:
    factory = SimulatedBodyFactory(env=env_config())
    sink = DemonstrationSink(tmp_path / "hand", factory.policy_spec())
    for seed in range(episodes):
        recorded, report = demonstrate(factory, hand, seed)
        assert recorded.success and human_rows(recorded).all() and report["latches"] == []
        with sink(recorded.spec) as writer:
            writer.append(recorded)
    dataset = Dataset(tmp_path / "hand")
    assert dataset.successes == [True] * episodes and dataset.provenance(0)["clipped_rows"] == 0
    env = TabletopEnv(tasks=["pick"], cameras=[], max_seconds=30)
    try:
        assert dataset.spec.diff(env.body) == [], "a policy that learns from this fits the environment"
        batch = WindowSampler(dataset, chunk=8, batch_size=4).batch(0)
        assert batch["action"].shape == (4, 8, 7)
        replay(env, dataset.episode(0), 0)
    finally:
        env.close()


def replay(env: TabletopEnv, episode: Recorded, seed: int) -> None:
    """Executing the increments one after the other commands the poses the robot was commanded to."""
    env.reset(seed=seed)
    for k, action in enumerate(episode.columns["action"]):
        nested, _, terminated, _, info = env.step(action)
        after = episode.row(k + 1) if k + 1 < len(episode) else episode.final
        reached = Observation.from_nested(nested).extras["ee_target"]
        np.testing.assert_allclose(reached[:3], after.extras["ee_target"][:3], atol=2e-3)
        if terminated:
            break
    assert info["success"] and k >= len(episode) - 3
    assert episode.columns["reward"][-1] == 1.0 and not episode.columns["reward"][:-1].any()


def test_joint_policies_learn_the_commands_themselves() -> None:
    factory = SimulatedBodyFactory(env=env_config(action="joint_position", tasks=["reach"]))
    recorded, _ = demonstrate(factory, player, 4)
    made = demonstration(recorded, factory.policy_spec())
    made.check()
    np.testing.assert_allclose(made.columns["action"], recorded.columns["action"], atol=1e-6)
    part = demonstration(recorded, factory.policy_spec(), slice(3, 9))
    assert len(part) == 6 and part.success is None
    np.testing.assert_array_equal(part.final.state, recorded.row(9).state)


def test_what_a_run_does_not_say_is_not_learnt() -> None:
    recorded = record_stick()
    tabletop = SimulatedBodyFactory(env=env_config()).policy_spec()
    with pytest.raises(SpecError, match="meets the policy"):
        require_learnable(recorded.spec, tabletop)
    with pytest.raises(SpecError, match="consecutive rows"):
        demonstration(recorded, tabletop, slice(5, 5))
    plain = {k: v for k, v in recorded.columns.items() if "ticks" not in k}
    with pytest.raises(SpecError, match="no recorded run"):
        human_rows(type(recorded)(recorded.spec, "", plain, recorded.final))
