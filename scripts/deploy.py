"""`wayhand deploy`: drive a robot, in real time or in virtual time, through the safe loop."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ..vla.bridge.client import RemotePolicy
from ..vla.bridge.keyboard import KeyboardStop
from ..vla.bridge.memory import keep_freed_memory
from ..vla.bridge.planner import Chunking, Planner
from ..vla.bridge.process import LoopSettings, Status
from ..vla.bridge.realtime import stolen_seconds
from ..vla.bridge.recorder import EpisodeRecorder
from ..vla.bridge.replay import NullPolicy
from ..vla.bridge.robots.simulated import SimulatedBody
from ..vla.bridge.session import Episode, Outcome, Session
from ..vla.bridge.tokens import read_token
from ..vla.bridge.virtual import run_virtual
from ..vla.config import Config, instantiate
from ..vla.contract import EnvSpec, EpisodeSink
from ..vla.contract import Episode as Recorded
from ..vla.errors import ConfigError, WayhandError
from ..vla.evaluation.protocols import TABLETOP_V1 as PROTOCOL
from ..vla.evaluation.records import RESULTS, read_results
from ..vla.evaluation.statistics import paired_difference, wilson
from .compose import load
from .recording import DatasetSink
from .simulated import SimulatedBodyFactory, joint_targets

HELP = """\
Usage: wayhand deploy checkpoint=RUN [robot=ROBOT] [env=ENV] [key=value …]

Drives the robot with a policy: chunks are timestamped, interpolated on absolute deadlines in a process of their own,
and pass a safety gate that stops and holds with a reason. Ends with a table and deploy.json. Space, Escape or q is the
emergency stop; Ctrl-C stops the robot before it leaves.

Examples:
  wayhand deploy robot=simulated checkpoint=runs/pick-policy env=tabletop/pick seconds=60
  wayhand deploy checkpoint=none env=tabletop/pick seconds=10 rate_hz=500   # the loop alone, standing still
  wayhand deploy checkpoint=ws://127.0.0.1:8000 env=tabletop/pick           # the policy of `wayhand serve`
  wayhand deploy checkpoint=runs/pick-policy env=tabletop/pick virtual=true episodes=200 baseline=runs/pick-eval
  wayhand deploy checkpoint=runs/pick-policy env=tabletop/pick virtual=true latency_ms=100
  wayhand deploy checkpoint=runs/pick-policy env=tabletop/pick record=runs/pick-runs    # then: wayhand replay
"""


EPISODES_AT_MOST = 10_000
"""Of a run in real time; it ends by its seconds."""


@dataclass(frozen=True, kw_only=True)
class DeployConfig:
    env: Config
    robot: Config
    checkpoint: str
    out: Path | None
    record: Path | None
    seconds: float
    virtual: bool
    episodes: int
    workers: int
    baseline: Path | None
    seed: int
    split: str
    rate_hz: float
    execute: int
    chunking: Chunking
    guidance: Literal["exact", "identity", "trained"] | None
    latency_ms: float
    stale_ms: float
    threads: int
    priority: int
    token_file: Path | None
    timeout_ms: float

    def __post_init__(self) -> None:
        for name, least in (("seconds", 0), ("episodes", 1), ("workers", 1), ("execute", 1), ("latency_ms", 0),
                            ("stale_ms", 1), ("threads", 1), ("timeout_ms", 1)):  # fmt: skip
            if getattr(self, name) < least:
                raise ConfigError(f"'{name}' is too small", expected=f"at least {least}", got=str(getattr(self, name)))
        if self.guidance is not None and (self.chunking != "rtc" or self.remote):
            raise ConfigError("'guidance' is for chunking=rtc with a checkpoint of our own", got=self.guidance)
        if self.remote and self.virtual:
            raise ConfigError("A served policy answers in real time", run="leave virtual=true away")
        if self.baseline is not None and not self.virtual:
            raise ConfigError("Only a run in virtual time compares with a baseline", run="add virtual=true")

    @property
    def folder(self) -> Path:
        if self.out is not None:
            return self.out
        return Path("runs/deploy") if self.checkpoint == "none" or self.remote else Path(self.checkpoint) / "deploy"

    @property
    def remote(self) -> bool:
        """Whether the policy lives in a server of `wayhand serve`, or of openpi."""
        return "://" in self.checkpoint or self.checkpoint.startswith("local:")

    def settings(self, factory: SimulatedBodyFactory) -> LoopSettings:
        return LoopSettings(
            rate_hz=self.rate_hz, stale=self.stale_ms / 1000, priority=self.priority, guards=factory.guards
        )

    @property
    def sink(self) -> DatasetSink | None:
        return None if self.record is None else DatasetSink(self.record)

    def episode(self, seed: int, options: Mapping[str, Any]) -> Episode:
        return Episode(seed, dict(options), self.execute, self.latency_ms / 1000)

    def planned(self, count: int) -> list[Episode]:
        """The first episodes of an evaluation of this split, in its order."""
        tasks = self.env.get("tasks", ())
        requests = PROTOCOL.requests(self.split, count, base=self.seed, tasks=tasks)
        return [self.episode(r.seed, r.options) for r in requests]


def main(overrides: list[str]) -> int:
    cfg, config = load("deploy", overrides, DeployConfig)
    factory = instantiate(cfg.robot, env=cfg.env)
    assert isinstance(factory, SimulatedBodyFactory)
    return (in_virtual_time if cfg.virtual else in_real_time)(cfg, config, factory, Console())


def load_policy(cfg: DeployConfig, spec: EnvSpec) -> Any:
    """The checkpoint's policy, that of a server, or the one that stands still.

    A server's policy that cannot continue a chunk is not found out: the protocol does not say.
    """
    if cfg.checkpoint == "none":
        if cfg.chunking == "rtc":
            raise ConfigError("chunking=rtc continues the chunks of a policy", got="checkpoint=none")
        return NullPolicy(spec=spec)
    if cfg.remote:
        keep_freed_memory()
        token = read_token(cfg.token_file)
        return RemotePolicy(address=cfg.checkpoint, spec=spec, token=token, timeout=cfg.timeout_ms / 1000)
    import torch

    from ..policies.flow import FlowPolicy
    from ..vla.learning.policy import TorchPolicy

    torch.set_num_threads(cfg.threads)
    policy = TorchPolicy.from_checkpoint(cfg.checkpoint)
    if cfg.chunking == "rtc" and not policy.supports_prefix:
        raise ConfigError(
            "This policy cannot continue a chunk",
            expected="one that denoises its chunks, such as policy=flow",
            got=type(policy).__name__,
            run="chunking=ensemble or chunking=latest",
        )
    if cfg.guidance is not None:
        if not isinstance(policy, FlowPolicy):
            raise ConfigError("Only FlowPolicy lets its guidance be chosen", got=type(policy).__name__)
        policy.continue_by(cfg.guidance)
    return policy


def save(cfg: DeployConfig, config: Config, result: Mapping[str, Any], console: Console) -> None:
    cfg.folder.mkdir(parents=True, exist_ok=True)
    path = cfg.folder / "deploy.json"
    temporary = path.with_suffix(".json.partial")
    temporary.write_text(json.dumps({"config": config.to_dict(), **result}, indent=1), encoding="utf-8")
    os.replace(temporary, path)
    console.print(f"report {path}", soft_wrap=True)


# --- real time -------------------------------------------------------------------------------------------------


def in_real_time(cfg: DeployConfig, config: Config, factory: SimulatedBodyFactory, console: Console) -> int:
    spec = factory.policy_spec()
    policy = load_policy(cfg, spec)
    outcomes: list[Outcome] = []
    interrupted = False
    about = {"config": config.to_dict()}
    with Session(factory=factory, settings=cfg.settings(factory), sink=cfg.sink, provenance=about) as session:
        if session.warning:
            console.print(f"[yellow]{session.warning}[/yellow]", soft_wrap=True)
        targets = joint_targets(policy.spec, session.spec)
        planner = Planner(policy=policy, spec=spec, targets=targets, chunking=cfg.chunking)
        stolen, unrecorded = stolen_seconds(), ""
        end = time.monotonic() + cfg.seconds
        try:
            with _StatusLine(console, cfg, outcomes, end) as line, KeyboardStop(session.estop):
                for episode in cfg.planned(EPISODES_AT_MOST):
                    if time.monotonic() >= end or session.estop.pressed:
                        break
                    outcomes.append(session.run(episode, planner, line.show))
                    unrecorded = warn_once(console, session.recording_warning, unrecorded)
        except KeyboardInterrupt:
            interrupted = True
            console.print("Interrupted: the robot is at rest.")
        if session.estop.pressed:
            console.print(f"Stopped: {session.estop.reason}. The robot is at rest.")
        report = session.finish()
        now = stolen_seconds()
        report["stolen_s"] = None if stolen is None or now is None else round(now - stolen, 3)
    result = {"mode": "real time", "loop": report, **summary(outcomes)}
    show(cfg, console, result)
    save(cfg, config, result, console)
    return 130 if interrupted else 0


def warn_once(console: Console, warning: str, said: str) -> str:
    """Say a warning that has not been said; returns the one said last."""
    if warning and warning != said:
        console.print(Text(warning, "yellow"), soft_wrap=True)
    return warning


class _StatusLine:
    """One line that lives on a terminal; elsewhere a line now and then."""

    def __init__(self, console: Console, cfg: DeployConfig, outcomes: Sequence[Outcome], end: float) -> None:
        self._console, self._cfg, self._outcomes, self._end = console, cfg, outcomes, end
        self._live = Live(console=console, auto_refresh=False, transient=True)
        self._every = 0.2 if console.is_terminal else 15.0
        self._due = 0.0

    def __enter__(self) -> _StatusLine:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._console.is_terminal:
            self._live.stop()

    def show(self, status: Status, seconds: float) -> None:
        now = time.monotonic()
        if now < self._due:
            return
        self._due = now + self._every
        wins = sum(o.success for o in self._outcomes)
        text = (
            f"{max(self._end - now, 0):5.1f} s left · episode {len(self._outcomes) + 1} at {seconds:4.1f} s · "
            f"{wins}/{len(self._outcomes)} succeeded · {self._cfg.rate_hz:g} Hz, {status.missed} missed, "
            f"worst {status.lateness_max * 1e6:.0f} µs · {status.reason or 'driving'}"
        )
        if self._console.is_terminal:
            self._live.update(Text(text), refresh=True)
        else:
            self._console.print(text, soft_wrap=True)


# --- virtual time ----------------------------------------------------------------------------------------------

_worker: tuple[LoopSettings, SimulatedBody, Planner, bool] | WayhandError


def _start_worker(cfg: DeployConfig, factory: SimulatedBodyFactory) -> None:
    global _worker
    try:
        _worker = _build(cfg, factory)
    except WayhandError as error:  # an exception here would only say that the pool is broken
        _worker = error


def _build(cfg: DeployConfig, factory: SimulatedBodyFactory) -> tuple[LoopSettings, SimulatedBody, Planner, bool]:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    spec = factory.policy_spec()
    body = factory()
    policy = load_policy(cfg, spec)
    targets = joint_targets(policy.spec, body.spec)
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


def in_virtual_time(cfg: DeployConfig, config: Config, factory: SimulatedBodyFactory, console: Console) -> int:
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
                wins = sum(o.success for o in outcomes)
                console.print(f"{len(outcomes)}/{len(episodes)} · {wins} succeeded · {left:.0f} s left")
    result: dict[str, Any] = {"mode": "virtual time", "loop": total(reports), **summary(outcomes)}
    if theirs:
        difference = paired_difference([o.success for o in outcomes], theirs)
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


# --- both ------------------------------------------------------------------------------------------------------


def summary(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    wins = sum(o.success for o in outcomes)
    low, high = wilson(wins, len(outcomes))
    return {
        "episodes": len(outcomes),
        "success": wins,
        "success_rate": wins / max(len(outcomes), 1),
        "interval": [low, high],
        "outcomes": [asdict(o) for o in outcomes],
    }


def show(cfg: DeployConfig, console: Console, result: Mapping[str, Any]) -> None:
    loop = result["loop"]
    low, high = result["interval"]
    starved = max(loop["held_ticks"] - loop["waiting_ticks"], 0)
    table = Table(title=f"deploy · {cfg.checkpoint} · {result['mode']}", show_header=False)
    rows = [
        ("success", f"{result['success']}/{result['episodes']}, 95 % interval {low:.1%} – {high:.1%}"),
        ("loop", f"{loop['rate_hz']:g} Hz, {loop['ticks']} ticks"),
        ("chunks", f"{loop['chunks']} executed, {loop['late_chunks']} late, {loop['rejected_chunks']} rejected"),
        ("limited", f"{loop['limited_ticks']} ticks"),
        ("without an action", f"{loop['waiting_ticks']} ticks before first chunks, {starved} between chunks"),
        ("stops", "; ".join(f"{loop['latches'].count(r)} × {r}" for r in dict.fromkeys(loop["latches"])) or "none"),
    ]
    if "paired" in result:
        d = result["paired"]
        rows.insert(
            1, ("minus evaluation", f"{d['estimate']:+.1%}, paired 95 % interval {d['low']:+.1%} … {d['high']:+.1%}")
        )
    if "lateness_us" in loop:
        steal = "" if loop["stolen_s"] is None else f" (the hypervisor kept {loop['stolen_s']:.2f} CPU s)"
        rows.insert(2, ("missed deadlines", f"{loop['missed_deadlines']}{steal}"))
        for key, name in (
            ("lateness_us", "lateness [µs]"),
            ("work_us", "work [µs]"),
            ("action_age_ms", "action age [ms]"),
        ):
            rows.append((name, " · ".join(f"{k} {v:.0f}" for k, v in loop[key].items())))
        rows.append(("seams [rad, m]", " · ".join(f"{k} {v:.3f}" for k, v in loop["seam"].items())))
    for name, value in rows:
        table.add_row(Text(name), Text(value))
    console.print(table)
    if starved > 0.05 * loop["ticks"]:
        console.print(
            "The robot often had no action: chunks end before the next one comes. "
            f"Plan more often, with execute below {cfg.execute}.",
            soft_wrap=True,
        )
