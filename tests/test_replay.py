"""A recorded run, again: equal commands and equal joints in virtual time."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from bridge_body import Steady, StickBody
from recorded_runs import record_stick
from test_bridge_tabletop import Scripted, slow_circle

from wayhand.datasets.store import Dataset
from wayhand.scripts import replay
from wayhand.scripts.recording import DatasetSink
from wayhand.scripts.simulated import SimulatedBodyFactory, joint_targets
from wayhand.vla.bridge.planner import Planner
from wayhand.vla.bridge.process import LoopSettings
from wayhand.vla.bridge.recorder import EpisodeRecorder, Trace
from wayhand.vla.bridge.session import Episode
from wayhand.vla.bridge.virtual import run_virtual
from wayhand.vla.config import Config
from wayhand.vla.contract import Episode as Recorded
from wayhand.vla.errors import ConfigError, DataError

SECONDS = 1.0
ARGUMENTS = ["env=tabletop/pick", "env.cameras=[]", f"+env.max_seconds={SECONDS}"]


@pytest.mark.parametrize("delta", [0.004, 0.09])
def test_a_virtual_run_replays_exactly(tmp_path: Path, delta: float) -> None:
    recorded = record_stick(Steady(delta))
    sink = DatasetSink(tmp_path / "run")
    outcome, replayed = replay.in_virtual_time(recorded, StickBody, LoopSettings(), sink)
    result = replay.differences(recorded, replayed)
    assert outcome.success == recorded.success and not outcome.reason
    assert result["commands"]["max"] < 1e-9 and result["joints"]["max"] < 1e-6
    assert result["compared_commands"] == len(Trace.of(recorded).times)
    assert result["compared_observations"] == len(recorded) + 1
    assert len(Dataset(sink.path)) == 1


def test_differences_are_those_of_the_joints() -> None:
    recorded = record_stick(Steady(0.004))
    states = recorded.columns["observation.state"].copy()
    states[3, recorded.spec.state.index(recorded.spec.action_elements[1])] += 0.5
    other = replace(recorded, columns={**recorded.columns, "observation.state": states})
    result = replay.differences(recorded, other)
    assert result["joint_difference"]["q2"]["max"] == pytest.approx(0.5, abs=1e-6)
    assert result["joint_difference"]["q1"] == {"max": 0.0, "rms": 0.0} == result["commands"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset with one run of the tabletop's arm along a circle, as `deploy` records it."""
    path = tmp_path_factory.mktemp("recorded") / "runs"
    # The environment as the command composes it.
    cfg, config = replay.load("replay", [*ARGUMENTS, f"data={path}"], replay.ReplayConfig)
    factory = SimulatedBodyFactory(env=Config(cfg.env))
    spec, body = factory.policy_spec(), factory()
    try:
        planner = Planner(policy=Scripted(spec, slow_circle), spec=spec, targets=joint_targets(spec, body.spec))
        recorder, episode = EpisodeRecorder(body.spec, 100.0), Episode(7, {}, 4, 0.0)
        outcome, _ = run_virtual(episode, body, planner, LoopSettings(guards=factory.guards), recorder)
    finally:
        body.close()
    about = {"episode": asdict(episode), "outcome": asdict(outcome)}
    about["config"] = {**config.to_dict(), "rate_hz": 100.0}
    recorded = recorder.finish(outcome.success, about)
    assert recorded is not None
    with DatasetSink(path)(recorded.spec) as writer:
        writer.append(recorded)
        writer.append(replace(recorded, provenance={"outcome": {}}))
    return path


def test_the_command_replays_a_tabletop_run(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert replay.main([*ARGUMENTS, f"data={runs}", "virtual=true", f"out={tmp_path / 'again'}"]) == 0
    result = json.loads((tmp_path / "again" / "replay.json").read_text())
    assert result["commands"]["max"] < 1e-9 and result["joints"]["max"] < 1e-6
    assert result["compared_observations"] == round(SECONDS / 0.05) + 1
    assert "gripper_width" in capsys.readouterr().out
    moved = Dataset(runs).read("observation.state")
    assert np.ptp(moved, axis=0).max() > 0.01, "the recorded arm moves"
    with pytest.raises(ConfigError, match="choose another out"):
        replay.main([*ARGUMENTS, f"data={runs}", "virtual=true", f"out={tmp_path / 'again'}"])


def test_a_run_replays_in_real_time(runs: Path) -> None:
    recorded: Recorded = Dataset(runs).episode(0)
    assert replay.main([*ARGUMENTS, f"data={runs}"]) == 0
    assert recorded.provenance["outcome"]["reason"] == ""


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda a: [*a, "env.gravity=1"], ConfigError, "gravity"),
        (lambda a: [*a[:-1], "+env.max_seconds=9.0"], ConfigError, "another environment"),
        (lambda a: [*a, "episode=1"], DataError, "no recorded run"),
        (lambda a: [*a, "episode=2"], DataError, "no such episode"),
    ],
)
def test_what_cannot_be_replayed_is_said(
    runs: Path, change: Callable[[list[str]], list[str]], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        replay.main([*change(ARGUMENTS), f"data={runs}", "virtual=true"])
