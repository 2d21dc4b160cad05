"""`wayhand deploy` in virtual time: the same bridge on an injected clock, in as many processes as one likes."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, replace
from multiprocessing import get_context
from typing import Any

from rich.console import Console

from ..vla.bridge.planner import Planner
from ..vla.bridge.process import LoopSettings
from ..vla.bridge.recorder import EpisodeRecorder
from ..vla.bridge.robots.simulated import SimulatedBody
from ..vla.bridge.session import Episode, Outcome
from ..vla.bridge.virtual import run_virtual
from ..vla.config import Config
from ..vla.contract import Episode as Recorded
from ..vla.contract import EpisodeSink
from ..vla.errors import ConfigError, WayhandError
from ..vla.evaluation.records import RESULTS, read_results
from ..vla.evaluation.statistics import paired_difference
from .deploy_config import DeployConfig, load_policy
from .deploy_report import save, show, summary
from .robots import Simulated

_worker: tuple[LoopSettings, SimulatedBody, Planner, bool] | WayhandError


def _start_worker(cfg: DeployConfig, factory: Simulated) -> None:
    global _worker
    try:
        _worker = _build(cfg, factory)
    except WayhandError as error:  # an exception here would only say that the pool is broken
        _worker = error


def _build(cfg: DeployConfig, factory: Simulated) -> tuple[LoopSettings, SimulatedBody, Planner, bool]:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    spec = factory.policy_spec()
    body = factory()
    policy = load_policy(cfg, spec, factory)
    targets = factory.targets(policy.spec, body.spec)
    planner = Planner(policy=policy, spec=spec, targets=targets, chunking=cfg.chunking)
    return cfg.settings(factory), body, planner, cfg.record is not None


def _run(episode: Episode) -> tuple[Outcome, dict[str, Any], Recorded | None]:
    if isinstance(_worker, WayhandError):
        raise _worker
    settings, body, planner, recorded = _worker
    recorder = EpisodeRecorder(body.spec, settings.rate_hz) if recorded else None
    outcome, loop = run_virtual(episode, body, planner, settings, recorder)
    about = {"episode": asdict(episode), "outcome": asdict(outcome)}
    return outcome, loop.report(), None if recorder is None else recorder.finish(outcome.success, about)


def in_virtual_time(cfg: DeployConfig, config: Config, factory: Simulated, console: Console) -> int:
    episodes, theirs = compared(cfg)
    console.print(f"{len(episodes)} episodes in virtual time, {cfg.workers} processes")
    outcomes: list[Outcome] = []
    reports: list[dict[str, Any]] = []
    context = get_context("spawn")
    with ExitStack() as stack:
        pool = stack.enter_context(ProcessPoolExecutor(cfg.workers, context, _start_worker, (cfg, factory)))
        writer: EpisodeSink | None = None
        began = time.monotonic()
        for outcome, report, episode in pool.map(_run, episodes):
            outcomes.append(outcome)
            reports.append(report)
            if episode is not None and cfg.sink is not None:
                writer = writer or stack.enter_context(cfg.sink(episode.spec))
                writer.append(replace(episode, provenance={**episode.provenance, "config": config.to_dict()}))
            if len(outcomes) % 25 == 0:
                left = (time.monotonic() - began) * (len(episodes) / len(outcomes) - 1)
                wins = sum(bool(o.success) for o in outcomes)
                console.print(f"{len(outcomes)}/{len(episodes)} · {wins} succeeded · {left:.0f} s left")
    result: dict[str, Any] = {
        "mode": "virtual time, the robot not moved" if cfg.shadow else "virtual time",
        "loop": total(reports),
        **summary(outcomes),
    }
    if theirs:
        difference = paired_difference([bool(o.success) for o in outcomes], theirs)
        result["paired"] = {"baseline": str(cfg.baseline), "baseline_success": sum(theirs), **asdict(difference)}
    show(cfg, console, result)
    save(cfg, config, result, console)
    return 0


def compared(cfg: DeployConfig) -> tuple[list[Episode], list[bool]]:
    """What to run: the first episodes of the baseline, with its successes, or those the configuration plans."""
    if cfg.baseline is None:
        return cfg.planned(cfg.episodes), []
    path = cfg.baseline / RESULTS
    if not path.exists():
        raise ConfigError("The baseline holds no results", expected=str(path), run=f"wayhand eval … out={cfg.baseline}")
    head, results = read_results(path)
    for name, ours in (("execute", cfg.execute), ("environment", cfg.env.to_dict())):
        if head.get(name) != ours:
            raise ConfigError(f"The baseline has another {name}", expected=str(head.get(name)), got=str(ours))
    same = [r for r in results if not r.ablation and r.split == cfg.split][: cfg.episodes]
    if len(same) < cfg.episodes:
        raise WayhandError(
            "The baseline has too few episodes",
            expected=f"{cfg.episodes} of split '{cfg.split}'",
            got=str(len(same)),
            run=f"wayhand eval … episodes={cfg.episodes} out={cfg.baseline}",
        )
    return [cfg.episode(r.seed, r.options) for r in same], [r.success for r in same]


def total(reports: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Counters of all episodes together."""
    counters = ("ticks", "chunks", "late_chunks", "late_actions", "rejected_chunks", "limited_ticks")
    counters += ("waiting_ticks", "held_ticks")
    return {
        "rate_hz": reports[0]["rate_hz"],
        **{name: sum(r[name] for r in reports) for name in counters},
        "limited_by_joint": dict(sum((Counter(r["limited_by_joint"]) for r in reports), Counter())),
        "latches": [reason for r in reports for reason in r["latches"]],
    }
