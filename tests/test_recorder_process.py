"""The recorder of a run in real time: what it commits, and what its death costs."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import pytest
from bridge_body import CARTESIAN, STARVED, Plane, Steady, StickBody, unstarved

from wayhand.datasets.check import validate
from wayhand.datasets.store import Dataset, open_for_append
from wayhand.scripts.recording import DatasetSink
from wayhand.vla.bridge.chunking import JointTargets
from wayhand.vla.bridge.loop_link import Status
from wayhand.vla.bridge.planner import Planner
from wayhand.vla.bridge.process import LoopSettings
from wayhand.vla.bridge.recorder import LATCHED, Trace
from wayhand.vla.bridge.session import Episode, Session
from wayhand.vla.errors import RobotError


def make_session(path: Path, rate_hz: float = 100.0) -> Session:
    settings = LoopSettings(rate_hz=rate_hz)
    return Session(factory=StickBody, settings=settings, sink=DatasetSink(path), provenance={"run": "a test"})


def make_planner(session: Session) -> Planner:
    targets = JointTargets(policy=CARTESIAN, robot=session.spec, kinematics=Plane())
    return Planner(policy=Steady(0.05), spec=CARTESIAN, targets=targets)


def test_a_killed_recorder_costs_its_episode_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "runs"
    with make_session(path) as session:
        planner = make_planner(session)
        assert unstarved(lambda: session.run(Episode(0, {}, 4, 0.0), planner)).success
        recorder, safe = session._recorder, session.recorded
        assert recorder is not None and recorder.pid is not None and not session.recording_warning and safe

        def kill(status: Status, seconds: float) -> None:
            if status.chunks > 0 and not session.recording_warning:
                os.kill(recorder.pid or 0, signal.SIGKILL)

        outcome = unstarved(lambda: session.run(Episode(1, {}, 4, 0.0), planner, kill))
        assert outcome.success and not outcome.reason, "the run goes on"
        warning = session.recording_warning
        assert "exit code -9" in warning and f"{safe} episodes before are safe" in warning
        assert unstarved(lambda: session.run(Episode(2, {}, 4, 0.0), planner)).success
        assert all(reason.startswith(STARVED) for reason in session.finish()["latches"])
    assert validate(path).ok
    dataset = Dataset(path)
    assert len(dataset) == safe and dataset.hash() == dataset.hash(verify=True)
    with open_for_append(path) as writer:
        assert writer.append(dataset.episode(0)) == safe


def test_a_run_in_real_time_is_an_episode(tmp_path: Path) -> None:
    with make_session(tmp_path / "runs", 200.0) as session:
        planner = make_planner(session)

        def press(status: Status, seconds: float) -> None:
            if seconds > 0.4:
                session.estop.press("the wall")

        outcome = unstarved(lambda: session.run(Episode(4, {}, 4, 0.0), planner, press))
        assert outcome.reason == "emergency stop: the wall" and not session.recording_warning
        stopped_in = session.recorded - 1
    with make_session(tmp_path / "runs", 200.0) as session:
        planner = make_planner(session)
        assert unstarved(lambda: session.run(Episode(5, {"a": 1}, 4, 0.0), planner)).success
    dataset = Dataset(tmp_path / "runs")
    first, second = dataset.episode(stopped_in), dataset.episode(len(dataset) - 1)
    assert first.provenance["run"] == "a test" and first.provenance["outcome"]["reason"] == outcome.reason
    assert second.provenance["episode"] == {"seed": 5, "options": {"a": 1}, "execute": 4, "latency": 0.0}
    assert second.success and second.instruction == "push"
    stopped, trace = first.provenance["stopped_at"], Trace.of(first)
    assert stopped > 0.3 and (trace.flags[trace.times > stopped + 0.01] & LATCHED).all()
    # The recording holds the whole stop: its last commands stand still.
    assert (np.diff(trace.commands[-2:], axis=0) == 0).all()
    assert (np.diff(Trace.of(second).times) > 0).all()


def test_where_nothing_can_be_recorded_nothing_starts(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "else").write_text("")
    with pytest.raises(RobotError, match="recorder cannot start"):
        make_session(tmp_path / "runs")
