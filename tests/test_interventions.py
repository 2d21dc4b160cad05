"""A human takes over from a policy: what is recorded, how the policy goes on, and what is learnt from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pytest
from bridge_body import CARTESIAN, ROBOT, Plane, Steady, StickBody
from recorded_runs import record_stick

from wayhand.datasets.store import Dataset
from wayhand.datasets.window import WindowSampler
from wayhand.scripts.cli import main as cli
from wayhand.scripts.recording import DatasetSink
from wayhand.vla.bridge.chunking import JointTargets
from wayhand.vla.bridge.planner import Planner
from wayhand.vla.bridge.process import LoopSettings
from wayhand.vla.bridge.recorder import HUMAN, EpisodeRecorder, Trace
from wayhand.vla.bridge.session import Episode
from wayhand.vla.bridge.teleop.hand import Device, Hand, Request
from wayhand.vla.bridge.teleop.human import HumanPolicy, Speed
from wayhand.vla.bridge.teleop.keys import KeyboardHand
from wayhand.vla.bridge.teleop.labels import corrections, human_rows
from wayhand.vla.bridge.teleop.pilots import Takeover
from wayhand.vla.bridge.virtual import run_virtual
from wayhand.vla.contract import ActionChunk, EnvSpec, Memory, Observation
from wayhand.vla.contract import Episode as Recorded

TAKE, GIVE = 0.5, 0.9
SPEED = Speed(0.2, 1.0)


class Scheduled:
    """`Device` of a human who takes over at `TAKE`, steers with one key until `GIVE`, and gives back."""

    help = "a test"

    def __init__(self, body: StickBody, key: bytes = b"s") -> None:
        self._keyboard = KeyboardHand(stop=lambda who: None, takeover=True)
        self._body, self._key, self._typed = body, key, 0

    @property
    def engaged(self) -> bool:
        now = self._body.observe_state().time
        for moment in (TAKE, GIVE)[self._typed :]:
            if now >= moment - 1e-6:
                self._keyboard.feed(b"t", now)
                self._typed += 1
        return self._keyboard.engaged

    def read(self, now: float) -> Hand:
        if self.engaged:
            self._keyboard.feed(self._key, now)
        return self._keyboard.read(now)

    def requests(self) -> list[Request]:
        return []

    def __enter__(self) -> Scheduled:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None


class Remembering(Steady):
    """Counts its beginnings, and remembers what it planned from."""

    def __init__(self) -> None:
        super().__init__(0.02)
        self.begun: list[int] = []
        self.planned: list[float] = []

    def init(self, spec: EnvSpec, seeds: Sequence[int]) -> Memory:
        self.begun.append(len(self.planned))
        return super().init(spec, seeds)

    def chunk_for(self, observation: Observation, call: int) -> ActionChunk:
        self.planned.append(observation.time)
        return super().chunk_for(observation, call)


def idle() -> KeyboardHand:
    """Never takes over."""
    return KeyboardHand(stop=lambda who: None, takeover=True)


def intervene(
    policy: Steady, key: bytes = b"s", execute: int = 4, device: Device | None = None
) -> tuple[Recorded, Takeover]:
    """A run of 2 s with an intervention of 0.4 s."""
    body = StickBody(goal=9.0)
    device = device or Scheduled(body, key)
    targets = JointTargets(policy=CARTESIAN, robot=ROBOT, kinematics=Plane())
    human = HumanPolicy(device=device, robot=ROBOT, speed=SPEED)
    by_hand = JointTargets(policy=human.spec, robot=ROBOT, kinematics=Plane())
    planner = Planner(policy=policy, spec=CARTESIAN, targets=targets)
    pilot = Takeover(policy=planner, human=human, targets=by_hand, robot=ROBOT, device=device)
    recorder = EpisodeRecorder(ROBOT, 100.0)
    episode = Episode(3, {}, execute, 0.0)
    outcome, loop = run_virtual(episode, body, pilot, LoopSettings(), recorder)
    assert loop.report()["latches"] == []
    about = {"episode": asdict(episode), "outcome": asdict(outcome), "policy_spec": CARTESIAN.to_dict()}
    recorded = recorder.finish(outcome.success, about)
    assert recorded is not None
    return recorded, pilot


def test_the_ticks_of_an_intervention_are_flagged_and_no_others() -> None:
    recorded, pilot = intervene(Remembering())
    assert pilot.interventions == 1
    trace = Trace.of(recorded)
    by_human = (trace.flags & HUMAN) > 0
    # A tick is for the end of its period; the human's first chunk is planned at the observation at `TAKE`.
    np.testing.assert_array_equal(by_human, (trace.times > TAKE + 1e-6) & (trace.times < GIVE + 1e-6))
    rows = human_rows(recorded)
    times = recorded.columns["observation.times.state"]
    np.testing.assert_array_equal(rows, (times > TAKE - 1e-6) & (times < GIVE - 1e-6))
    moved = np.diff(trace.commands[:, 0])
    assert moved[by_human[1:]].min() < -1e-3 and moved[~by_human[1:]].max() > 1e-3
    assert not human_rows(record_stick()).any()


def test_the_policy_goes_on_at_once_without_history() -> None:
    policy = Remembering()
    intervene(policy)
    # Plans every 0.2 s until the human takes over, none meanwhile, and then from the first observation after.
    np.testing.assert_allclose(policy.planned[:5], [0.0, 0.2, 0.4, GIVE, GIVE + 0.2], atol=1e-9)
    assert policy.begun == [0, 3], "its memory begins again where the human lets go"


def test_the_human_takes_the_gripper_over_as_it_was_commanded() -> None:
    class Squeezing(Remembering):
        def chunk_for(self, observation: Observation, call: int) -> ActionChunk:
            chunk = super().chunk_for(observation, call)
            chunk.actions[:, -1] = 0.01
            return chunk

    recorded, _ = intervene(Squeezing())
    trace = Trace.of(recorded)
    by_human = (trace.flags & HUMAN) > 0
    np.testing.assert_allclose(trace.references[by_human][:, 2], 0.01, atol=1e-6)


def test_what_the_policy_did_is_not_the_humans() -> None:
    recorded, pilot = intervene(Remembering(), device=idle())
    assert pilot.interventions == 0 and not human_rows(recorded).any()
    assert list(corrections(recorded, CARTESIAN)) == []


# --- learning from it ------------------------------------------------------------------------------------------


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Two runs with one intervention each and one without."""
    path = tmp_path / "runs"
    recorded = [intervene(Remembering())[0], intervene(Remembering(), b"w")[0]]
    recorded.append(intervene(Remembering(), device=idle())[0])
    with DatasetSink(path)(recorded[0].spec) as writer:
        for episode in recorded:
            writer.append(episode)
    return path


def test_corrections_are_exactly_the_flagged_steps(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "corrections"
    assert cli(["data", "corrections", str(runs), f"out={out}"]) == 0
    assert "2 corrections, 16 steps, from 2 of 3 runs" in capsys.readouterr().out
    source, made = Dataset(runs), Dataset(out)
    assert made.spec.diff(CARTESIAN) == []
    for k in range(2):
        flagged = np.flatnonzero(human_rows(source.episode(k)))
        first, stop = made.provenance(k)["rows"]
        np.testing.assert_array_equal(np.arange(first, stop), flagged)
        times = source.episode(k).columns["observation.times.state"][flagged]
        np.testing.assert_array_equal(made.episode(k).columns["observation.times.state"], times)
        assert made.provenance(k)["source"] == {"path": str(runs), "episode": k}
    # The label is what the robot was told to do: the human's own direction, at the speed the gate allowed.
    backwards, forwards = made.episode(0).columns["action"][4:, 0], made.episode(1).columns["action"][4:, 0]
    np.testing.assert_allclose(backwards, -SPEED.linear * ROBOT.control_dt, atol=2e-3)
    np.testing.assert_allclose(forwards, SPEED.linear * ROBOT.control_dt, atol=2e-3)


def test_training_uses_exactly_the_flagged_steps(runs: Path, tmp_path: Path) -> None:
    """Every target that counts in a batch is a step the human drove, and every such step is a target."""
    out = tmp_path / "corrections"
    assert cli(["data", "corrections", str(runs), f"out={out}"]) == 0
    source, made = Dataset(runs), Dataset(out)
    sampler = WindowSampler(made, chunk=8, batch_size=5, columns=["observation.state"])
    flagged: set[tuple[int, float]] = set()
    for k in range(len(source)):
        episode = source.episode(k)
        times = episode.columns["observation.times.state"]
        flagged |= {(k, float(times[i])) for i in np.flatnonzero(human_rows(episode))}
    assert sampler.samples == len(flagged)
    times = made.read("observation.times.state")
    episodes = np.searchsorted(made.episode_ends, np.arange(made.frames), "right")
    used: set[tuple[int, float]] = set()
    for k in range(len(sampler)):
        batch = sampler.batch(k)
        for index, padded in zip(batch["index"].tolist(), batch["action.is_pad"], strict=True):
            for ahead in np.flatnonzero(~padded).tolist():
                used.add((int(episodes[index + ahead]), float(times[index + ahead])))
    assert used == flagged


def test_runs_without_a_human_have_nothing_to_correct(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    episode = record_stick()
    with DatasetSink(tmp_path / "runs")(episode.spec) as writer:
        writer.append(episode)
    assert cli(["data", "corrections", str(tmp_path / "runs"), f"out={tmp_path / 'none'}"]) == 1
    said = capsys.readouterr().err
    assert "Nobody intervened" in said and "takeover=keyboard" in said and not (tmp_path / "none").exists()


def test_a_release_while_the_policy_waits_for_its_next_turn_is_planned_at_once() -> None:
    policy: Any = Remembering()
    intervene(policy, execute=16)
    np.testing.assert_allclose(policy.planned[:2], [0.0, GIVE], atol=1e-9)


def test_corrections_are_drawn_as_often_as_asked(runs: Path, tmp_path: Path) -> None:
    from wayhand.scripts.compose import load
    from wayhand.scripts.train import TrainConfig, make_sampler

    out = tmp_path / "corrections"
    assert cli(["data", "corrections", str(runs), f"out={out}"]) == 0
    made = Dataset(out)
    words = [f"data=[{out},{out}]", f"out={tmp_path / 'run'}", "weights=[1,0]", "batch_size=16"]
    cfg, _ = load("train", words, TrainConfig)
    sampler = make_sampler([made, made], 4, cfg, 0, 1)
    assert max(int(sampler.indices(k).max()) for k in range(8)) < made.frames, "the second is never drawn"
