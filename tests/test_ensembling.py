"""Temporal ensembling: ACT's weights in closed form, agreement by time, and what the loop makes of it."""

from __future__ import annotations

import numpy as np
import pytest
from bridge_body import CARTESIAN, ROBOT, START, Plane, Steady, StickBody

from wayhand.vla.bridge.chunking import JointTargets
from wayhand.vla.bridge.ensembling import TemporalEnsemble
from wayhand.vla.bridge.planner import Chunking, Planner
from wayhand.vla.bridge.process import LoopSettings
from wayhand.vla.bridge.session import Episode
from wayhand.vla.bridge.virtual import run_virtual
from wayhand.vla.contract import ActionChunk, Observation
from wayhand.vla.errors import ConfigError

DT, H = 0.05, 6


def chunk_at(k: int, actions: np.ndarray) -> ActionChunk:
    """Planned at period k."""
    return ActionChunk(actions, DT * (k + np.arange(1, len(actions) + 1)), DT * k)


def test_weights_are_acts_with_the_oldest_first() -> None:
    rng = np.random.default_rng(0)
    ensemble = TemporalEnsemble()
    made = [chunk_at(k, rng.normal(size=(H, 2))) for k in range(4)]
    out = [ensemble(c) for c in made][-1]
    for k in range(H):  # the newest chunk's action k is for period 4 + k, of which chunk j says its action 3 + k − j
        said = [made[j].actions[3 + k - j] for j in range(4) if 3 + k - j < H]
        weights = np.exp(-0.01 * np.arange(len(said)))
        np.testing.assert_allclose(out.actions[k], weights @ np.array(said) / weights.sum(), atol=1e-12)
    np.testing.assert_array_equal(out.actions[-1], made[-1].actions[-1])  # of the last moment only the newest speaks
    assert out.times is made[-1].times and out.observed_at == made[-1].observed_at


def test_one_chunk_passes_and_equal_predictions_stay() -> None:
    ensemble = TemporalEnsemble()
    line = np.arange(1.0, 20.0)[:, None] * [1.0, -2.0]
    for k in (0, 1, 3, 4):
        chunk = chunk_at(k, line[k : k + H])
        np.testing.assert_allclose(ensemble(chunk).actions, chunk.actions, atol=1e-12)


def test_predictions_are_matched_by_time_not_by_index() -> None:
    """An observation between two periods: the old chunk is read between its actions."""
    ensemble = TemporalEnsemble(decay=0.0)
    ensemble(chunk_at(0, np.arange(1.0, H + 1)[:, None]))
    later = ActionChunk(np.zeros((H, 1)), DT * (0.5 + np.arange(1, H + 1)), DT * 0.5)
    np.testing.assert_allclose(ensemble(later).actions[:, 0], [0.75, 1.25, 1.75, 2.25, 2.75, 0.0], atol=1e-9)


def test_what_is_past_and_what_is_broken_is_not_merged() -> None:
    ensemble = TemporalEnsemble()
    ensemble(chunk_at(0, np.full((H, 1), 9.0)))
    far = chunk_at(H, np.ones((H, 1)))
    np.testing.assert_array_equal(ensemble(far).actions, far.actions)
    broken = chunk_at(H + 1, np.full((H, 1), np.nan))
    assert ensemble(broken) is broken
    narrow = chunk_at(H + 1, np.zeros((H, 0)))
    assert ensemble(narrow) is narrow
    after = chunk_at(H + 2, np.ones((H, 1)))
    np.testing.assert_allclose(ensemble(after).actions, 1.0)
    ensemble.reset()
    np.testing.assert_array_equal(ensemble(chunk_at(H + 3, np.zeros((H, 1)))).actions, 0.0)


class Quarrelling(Steady):
    """Absolute targets that every other chunk puts to the other side, a little."""

    def chunk_for(self, observation: Observation, call: int) -> ActionChunk:
        times = observation.time + self.spec.control_dt * np.arange(1, self.chunk + 1)
        target = START + np.array([0.0, 0.01 * (-1) ** call, 0.0])
        return ActionChunk(np.tile(target, (self.chunk, 1)), times, observation.time)


def wander(chunking: Chunking, latency: float = 0.0) -> tuple[float, int]:
    """How far the joint swings that the chunks quarrel about [rad], and the actions dropped as late."""
    policy, body = Quarrelling(0.0, ROBOT), StickBody()
    planner = Planner(policy=policy, spec=ROBOT, targets=JointTargets(policy=ROBOT, robot=ROBOT), chunking=chunking)
    _, loop = run_virtual(Episode(0, {}, 2, latency), body, planner, LoopSettings())
    assert loop.report()["latches"] == []
    return float(np.ptp(np.array(body.trace)[len(body.trace) // 2 :, 1])), loop.report()["late_actions"]


def test_the_robot_swings_less_where_chunks_are_averaged() -> None:
    latest, ensemble = wander("latest"), wander("ensemble")
    assert ensemble[0] < 0.5 * latest[0]


def test_late_actions_are_dropped_by_their_time_in_an_ensemble_too() -> None:
    assert wander("ensemble", 0.1)[1] == wander("latest", 0.1)[1] > 0


def test_an_unknown_chunking_is_said() -> None:
    targets = JointTargets(policy=CARTESIAN, robot=ROBOT, kinematics=Plane())
    with pytest.raises(ConfigError, match="chunking"):
        Planner(policy=Steady(0.01), spec=CARTESIAN, targets=targets, chunking="mean")  # type: ignore[arg-type]
