"""A run in virtual time as an episode: every tick is in it, in the row of the next observation."""

from __future__ import annotations

import gc
import json
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bridge_body import LIMITS, ROBOT, Steady, StickBody
from recorded_runs import make_planner, record_stick

from wayhand.datasets.store import Dataset, create
from wayhand.scripts import deploy
from wayhand.scripts.recording import DatasetSink
from wayhand.vla.bridge.process import LoopSettings
from wayhand.vla.bridge.recorder import EXTRAS, LATCHED, REFERENCED, EpisodeRecorder, Tick, Trace, recorded_spec
from wayhand.vla.bridge.session import Episode
from wayhand.vla.bridge.virtual import run_virtual
from wayhand.vla.contract import ActionChunk, Observation
from wayhand.vla.contract import Episode as Recorded
from wayhand.vla.errors import ConfigError, SpecError


class Breaking(Steady):
    """Asks for what is no number after a while."""

    def chunk_for(self, observation: Observation, call: int) -> ActionChunk:
        chunk = super().chunk_for(observation, call)
        if call == 2:
            chunk.actions[:] = np.nan
        return chunk


@pytest.mark.parametrize("rate_hz", [50.0, 130.0, 1000.0])
def test_every_tick_is_recorded_once(rate_hz: float) -> None:
    body = StickBody(goal=0.6)
    episode = record_stick(body=body, rate_hz=rate_hz)
    episode.check()
    trace = Trace.of(episode)
    assert episode.success and episode.provenance["ticks_without_room"] == 0
    np.testing.assert_allclose(np.diff(trace.times), 1 / rate_hz, atol=1e-9)
    assert trace.times[0] == pytest.approx(1 / rate_hz)
    # What the arm was told between two waypoints lies on the line between them.
    moments = body.physics_dt * np.arange(1, len(body.trace) + 1)
    inside = (moments >= trace.times[0]) & (moments <= trace.times[-1])
    for k in range(len(LIMITS.names)):
        line = np.interp(moments[inside], trace.times, trace.commands[:, k])
        np.testing.assert_allclose(np.array(body.trace)[inside, k], line, atol=1e-9)


def test_a_row_holds_nothing_from_after_its_time() -> None:
    episode = record_stick()
    times, counts = (episode.columns[f"observation.extras.{n}"] for n in ("tick_times", "ticks"))
    seen = episode.columns["observation.times.state"]
    for i, count in enumerate(counts):
        assert (times[i, :count] <= seen[i] + 1e-9).all() and not times[i, count:].any()
        assert i == 0 or (times[i, :count] > seen[i - 1]).all()
    assert counts[0] == 0 and (counts[1:] == 5).all()
    planned = episode.columns["observation.extras.planned_at"]
    assert (planned <= seen).all() and (np.diff(planned) >= 0).all()
    # The action of a row is the command that holds at the next observation: where this arm is then.
    joints = [episode.spec.state.index(e) for e in episode.spec.action_elements]
    following = np.concatenate([episode.columns["observation.state"], episode.final.state[None]])[1:, joints]
    np.testing.assert_allclose(episode.columns["action"], following, atol=1e-6)


def test_raw_and_filtered_differ_where_the_gate_limits() -> None:
    gentle, hasty = (Trace.of(record_stick(Steady(delta))) for delta in (0.002, 0.09))
    asked = hasty.flags & REFERENCED > 0
    assert np.abs(hasty.references - hasty.commands)[asked].max() > 0.01
    speed = np.abs(np.diff(hasty.commands, axis=0)) / 0.01
    assert (speed <= LIMITS.velocity + 1e-6).all()
    tail = slice(len(gentle.times) // 2, None)
    assert np.abs(gentle.references - gentle.commands)[tail].max() < 1e-3


def test_a_stop_is_in_the_flags_and_in_the_provenance() -> None:
    episode = record_stick(Breaking(0.01))
    trace = Trace.of(episode)
    assert "not finite" in episode.provenance["outcome"]["reason"] and not episode.success
    assert (trace.flags[:-6] & LATCHED == 0).all() and np.isfinite(trace.references).all()
    stopped = episode.provenance["stopped_at"]
    assert stopped is not None and trace.times[-1] - 0.06 < stopped
    assert record_stick().provenance["stopped_at"] is None


def test_ticks_without_room_are_counted_and_the_newest_kept() -> None:
    recorder = EpisodeRecorder(ROBOT, 50.0)
    room = recorder.spec.extras["tick_times"].shape[0]
    body = StickBody()
    body.reset(0, {})
    recorder.observe(body.observe())
    assert recorder.finish(None, {}) is None, "one observation is no row"
    ticks = [Tick(0.02 * k, 0.0, None, np.full(3, 0.01 * k), False, 0.0) for k in range(1, room + 4)]
    for tick in ticks:
        recorder.tick(tick)
        again = Tick.from_record({k: np.asarray(v) for k, v in tick.record(1).items()})
        assert again.time == tick.time and again.reference is None and not again.latched
    for _ in range(round(0.02 * (room + 3) / body.physics_dt)):
        body.step(ticks[-1].command)
    recorder.observe(body.observe())
    episode = recorder.finish(None, {})
    assert episode is not None and len(episode) == 1 and episode.provenance["ticks_without_room"] == 3
    np.testing.assert_allclose(Trace.of(episode).times, [t.time for t in ticks[3:]])


def test_an_episode_that_is_no_run_is_told_apart() -> None:
    episode = record_stick()
    columns = {k: v for k, v in episode.columns.items() if not k.endswith("commands")}
    with pytest.raises(SpecError, match="no recorded run"):
        Trace.of(type(episode)(episode.spec, "", columns, episode.final))


def test_recording_does_not_change_the_run() -> None:
    bodies = [StickBody(), StickBody()]
    record_stick(body=bodies[0])
    run_virtual(Episode(3, {}, 8, 0.0), bodies[1], make_planner(Steady(0.05)), LoopSettings())
    np.testing.assert_array_equal(bodies[0].trace, bodies[1].trace)


def test_the_sink_appends_only_what_belongs_there(tmp_path: Path) -> None:
    episode, sink = record_stick(), DatasetSink(tmp_path / "runs")
    for _ in range(2):
        with sink(episode.spec) as writer:
            writer.append(episode)
    dataset = Dataset(tmp_path / "runs")
    assert len(dataset) == 2 and dataset.provenance(1) == json.loads(json.dumps(episode.provenance))
    np.testing.assert_array_equal(Trace.of(dataset.episode(1)).commands, Trace.of(episode).commands)
    with pytest.raises(ConfigError, match="another record"):
        sink(recorded_spec(ROBOT, 500.0))
    with sink(episode.spec):
        pass


def test_memory_does_not_grow_with_the_episodes(tmp_path: Path) -> None:
    """However long a robot is recorded; an unfinished file here would be held for 13,000 rows."""

    def recorded() -> Recorded:
        return record_stick(body=StickBody(goal=0.5), rate_hz=1000.0)

    held = []
    with create(tmp_path / "runs", recorded().spec, durable=False) as writer:
        assert any(array.shard_chunks > 10_000 for array in writer.arrays.values())
        tracemalloc.start()
        try:
            for _ in range(2):
                for _ in range(8):
                    writer.append(recorded())
                gc.collect()
                held.append(tracemalloc.get_traced_memory()[0])
        finally:
            tracemalloc.stop()
    # NumPy puts small blocks by for later, a few KiB in all; the second half adds 500 KiB of rows.
    assert held[1] - held[0] < 16 * 1024


def test_deploy_records_in_virtual_time(tmp_path: Path) -> None:
    arguments = ["checkpoint=none", "env=tabletop/pick", "env.cameras=[]", "+env.max_seconds=0.3", "virtual=true"]
    arguments += ["workers=1", "episodes=2", f"out={tmp_path}", f"record={tmp_path / 'runs'}"]
    assert deploy.main(arguments) == 0
    dataset = Dataset(tmp_path / "runs")
    outcomes: list[dict[str, Any]] = json.loads((tmp_path / "deploy.json").read_text())["outcomes"]
    assert [dataset.provenance(i)["outcome"] for i in range(2)] == outcomes
    assert dataset.provenance(0)["config"]["rate_hz"] == 100 and set(EXTRAS) <= set(dataset.spec.extras)
