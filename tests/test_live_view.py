"""The live view of a run: a recording is written beside the loop and reads back."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bridge_body import CARTESIAN, Plane, Steady, StickBody, unstarved

from wayhand.scripts.cli import main as cli
from wayhand.vla.bridge.chunking import JointTargets
from wayhand.vla.bridge.live_view import LiveView
from wayhand.vla.bridge.loop_link import Status
from wayhand.vla.bridge.planner import Planner
from wayhand.vla.bridge.process import LoopSettings
from wayhand.vla.bridge.sensors import Plausibility
from wayhand.vla.bridge.session import Episode, Session
from wayhand.vla.errors import ConfigError

PATIENT = Plausibility(late=5.0, lag=5.0, old_image=5.0)
"""On a loaded machine the simulator may come late; that is not what is tested here."""


def scalars(chunks: list[Any], entity: str) -> np.ndarray:
    """The values of a series, by their times [s]: [n 2]."""
    rows: list[tuple[float, float]] = []
    for chunk in chunks:
        if chunk.entity_path == entity:
            batch = chunk.to_record_batch()
            (name,) = [n for n in batch.schema.names if n.endswith(":scalars")]
            times = batch.column("time").cast("int64").to_pylist()
            rows += [(t / 1e9, v[0]) for t, v in zip(times, batch.column(name).to_pylist(), strict=True)]
    return np.array(sorted(rows))


def test_a_run_is_seen_and_the_views_death_costs_nothing(tmp_path: Path) -> None:
    chunk = pytest.importorskip("rerun.chunk", reason="rerun-sdk is not installed")
    path = tmp_path / "views" / "run.rrd"
    with Session(factory=StickBody, settings=LoopSettings(traced=True, plausibility=PATIENT, stale=5.0)) as session:
        targets = JointTargets(policy=CARTESIAN, robot=session.spec, kinematics=Plane())
        planner = Planner(policy=Steady(0.02), spec=CARTESIAN, targets=targets)
        with LiveView(session.spec, session.names, path):
            assert not unstarved(lambda: session.run(Episode(0, {}, 4, 0.0), planner)).reason
        with LiveView(session.spec, session.names, tmp_path / "other.rrd") as view:

            def kill(status: Status, seconds: float) -> None:
                if not killed:
                    killed.append(seconds)
                    os.kill(view.pid or 0, signal.SIGKILL)

            killed: list[float] = []
            outcome = unstarved(lambda: session.run(Episode(1, {}, 4, 0.0), planner, kill))
            assert outcome.seconds > 1.5 and not outcome.reason, "the run goes on to its end"
    chunks = list(chunk.RrdReader(path).stream())
    entities = {c.entity_path for c in chunks}
    assert {"/cameras/front", "/state/q1", "/command/q1", "/reference/q1", "/loop/lateness_us"} <= entities
    state, command = scalars(chunks, "/state/q1"), scalars(chunks, "/command/q1")
    assert len(state) > 1 and state[0, 0] == 0.0 and state[-1, 1] > state[0, 1]
    # This arm is where it was commanded to be, so the two lines are one.
    inside = (state[:, 0] > command[0, 0]) & (state[:, 0] < command[-1, 0])
    np.testing.assert_allclose(np.interp(state[inside, 0], command[:, 0], command[:, 1]), state[inside, 1], atol=0.1)


def test_without_rerun_the_error_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    arguments = ["deploy", "checkpoint=none", "env=tabletop/pick"]
    assert cli([*arguments, "rerun=run.rrd"]) == 2 and "wayhand[rerun]" in capsys.readouterr().err
    assert cli([*arguments, "rerun=run.mp4"]) == 2 and "FILE.rrd" in capsys.readouterr().err
    assert cli([*arguments, "rerun=true", "virtual=true"]) == 2
    with pytest.raises(ConfigError, match="rerun"):
        LiveView(StickBody.spec, ({}, {}))
