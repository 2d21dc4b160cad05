"""Recorded runs of the arm without physics, in virtual time."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from bridge_body import ROBOT, Plane, Steady, StickBody

from wayhand.vla.bridge.chunking import JointTargets
from wayhand.vla.bridge.planner import Planner
from wayhand.vla.bridge.process import LoopSettings
from wayhand.vla.bridge.recorder import EpisodeRecorder
from wayhand.vla.bridge.session import Episode
from wayhand.vla.bridge.virtual import run_virtual
from wayhand.vla.contract import Episode as Recorded


def make_planner(policy: Any) -> Planner:
    targets = JointTargets(policy=policy.spec, robot=ROBOT, kinematics=Plane())
    return Planner(policy=policy, spec=policy.spec, targets=targets)


def record_stick(policy: Any = None, body: StickBody | None = None, rate_hz: float = 100.0) -> Recorded:
    """One run; its provenance holds the episode and the outcome."""
    body = body or StickBody()
    episode, recorder = Episode(3, {}, 8, 0.0), EpisodeRecorder(body.spec, rate_hz)
    planner = make_planner(policy or Steady(0.05))
    outcome, _ = run_virtual(episode, body, planner, LoopSettings(rate_hz=rate_hz), recorder)
    recorded = recorder.finish(outcome.success, {"episode": asdict(episode), "outcome": asdict(outcome)})
    assert recorded is not None
    return recorded
