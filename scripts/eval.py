"""`wayhand eval`: success of a policy with intervals, ablations and films, as numbers and as a page."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from rich.console import Console

from ..vla.config import Config, bind, instantiate
from ..vla.contract import EnvSpec, Policy
from ..vla.errors import ConfigError, WayhandError
from ..vla.evaluation.baselines import Baseline
from ..vla.evaluation.lanes import PolicyFactory
from ..vla.evaluation.progress import Progress
from ..vla.evaluation.protocols import TABLETOP_V1 as PROTOCOL
from ..vla.evaluation.records import RESULTS, EpisodeRequest, EpisodeResult, ResultsLog
from ..vla.evaluation.report import write_report
from ..vla.evaluation.rollout import rollout
from ..vla.evaluation.summary import rows, summarise
from ..vla.evaluation.video import VideoSink
from .compose import load
from .report import success_table
from .trained import Fast, load_trained

HELP = """\
Usage: wayhand eval checkpoint=RUN env=ENV out=DIR [key=value …]

Runs a policy on scenes it was never shown and writes DIR/results.jsonl, summary.json, videos/ and report.html.
The numbers are the same for any number of workers. Ctrl-C is safe; the same command continues.

Examples:
  wayhand eval checkpoint=runs/reach-policy env=tabletop/reach episodes=50 out=runs/reach-eval
  wayhand eval checkpoint=runs/demo-policy 'splits=[seen,unseen_phrasing]' 'ablations=[grounding,no_language]' \\
      episodes=200 workers=8 out=runs/demo-eval
  wayhand eval checkpoint=oracle env=tabletop/pick out=runs/pick-ceiling   # the scripted expert
  wayhand eval checkpoint=random env=tabletop/pick out=runs/pick-floor     # or zero: policies that know nothing
"""
BASELINES: Mapping[str, Literal["random", "zero"]] = {"random": "random", "zero": "zero"}
PRETENDERS = ("oracle", *BASELINES)


@dataclass(frozen=True, kw_only=True)
class EvalConfig:
    env: Config
    checkpoint: str
    out: Path
    episodes: int
    splits: list[str]
    ablations: list[str]
    videos: int
    seed: int
    workers: int
    envs_per_worker: int
    execute: int
    device: str
    fast: Fast

    def __post_init__(self) -> None:
        for name, least in (("episodes", 1), ("workers", 1), ("envs_per_worker", 1), ("execute", 1), ("videos", 0)):
            if getattr(self, name) < least:
                raise ConfigError(f"'{name}' is too small", expected=f"at least {least}", got=str(getattr(self, name)))
        if not self.splits:
            raise ConfigError("At least one split is needed", exists=PROTOCOL.splits)


def main(overrides: list[str]) -> int:
    cfg, _ = load("eval", overrides, EvalConfig)
    bind(cfg.env)  # a wrong option of the environment is said here, not by a worker
    requests = requested(cfg)
    factory, policy = chosen_policy(cfg)
    console = Console()
    head = {
        "protocol": PROTOCOL.name,
        "hash": PROTOCOL.hash,
        "policy": policy,
        "environment": cfg.env.to_dict(),
        "execute": cfg.execute,
    }
    # One thread per process: with more, the processes' libraries compete for the same cores.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    run = partial(
        rollout,
        partial(instantiate, cfg.env),
        factory,
        workers=cfg.workers,
        envs_per_worker=cfg.envs_per_worker,
        execute=cfg.execute,
    )
    began = time.perf_counter()
    try:
        with ResultsLog(cfg.out / RESULTS, head) as log, Progress(console, requests, log.results) as show:
            results = run(requests, log=log, on_result=show.update)
            fresh = show.fresh
        seconds = time.perf_counter() - began
        sink = VideoSink(cfg.out / "videos")
        replays = replay(run, sink, worth_seeing(results, cfg.videos), console)
    except KeyboardInterrupt:
        console.print(f"Stopped. {cfg.out / 'results.jsonl'} keeps every finished episode; the same command continues.")
        raise
    summary = {
        "protocol": {k: getattr(PROTOCOL, k) for k in ("name", "hash", "success", "chance")}
        | {"splits": dict(PROTOCOL.splits)},
        "policy": policy,
        "environment_name": environment_name(cfg.env),
        "environment": cfg.env.to_dict(),
        "settings": {
            k: getattr(cfg, k) for k in ("episodes", "seed", "execute", "workers", "envs_per_worker", "device", "fast")
        },
        **summarise(results),
        "videos": sink.entries,
        "replays": replays,
        "versions": versions(learned=cfg.checkpoint not in PRETENDERS),
        "command": shlex.join(["wayhand", "eval", *overrides]),
    }
    write_json(cfg.out / "summary.json", summary)
    page = write_report(cfg.out)
    console.print(success_table(rows(results)))
    if fresh:
        console.print(f"speed   {fresh / seconds:.2f} episodes/s, {fresh} episodes in {seconds:.0f} s")
    errors = [r for r in results if r.error]
    if errors:
        console.print(
            f"errors  {len(errors)} episodes failed with an error; the first: {errors[0].error}", markup=False
        )
    console.print(f"report  {page.resolve()}", soft_wrap=True)
    return 0


def requested(cfg: EvalConfig) -> list[EpisodeRequest]:
    """Every split, then every ablation on the first split; each split's ablations share its seeds."""
    tasks = cfg.env.get("tasks", ())
    ask = partial(PROTOCOL.requests, episodes=cfg.episodes, base=cfg.seed, tasks=tasks)
    plain = [request for split in dict.fromkeys(cfg.splits) for request in ask(split)]
    return plain + [r for name in dict.fromkeys(cfg.ablations) for r in ask(cfg.splits[0], ablated=name)]


def chosen_policy(cfg: EvalConfig) -> tuple[PolicyFactory | None, dict[str, Any]]:
    """How a process builds the policy (None: the oracle acts), and what identifies it; JSON types."""
    if cfg.checkpoint == "oracle":
        return None, {"name": "oracle"}
    if cfg.checkpoint in BASELINES:
        return partial(Baseline, kind=BASELINES[cfg.checkpoint]), {"name": cfg.checkpoint}
    from ..vla import checkpoint

    found = checkpoint.load(cfg.checkpoint)
    # A run that is still training must not change its policy under an evaluation: workers load this very step.
    identity = {
        "name": str(found.policy["_target_"]).rpartition(".")[2],
        "run": str(found.path.parent),
        "step": found.step,
        "device": cfg.device,
        "fast": cfg.fast,
        "sha256": hashlib.sha256((found.path / checkpoint.MANIFEST).read_bytes()).hexdigest(),
    }
    return partial(learned, str(found.path), cfg.device, cfg.fast), identity


def learned(path: str, device: str, fast: Fast, spec: EnvSpec) -> Policy:
    """The policy of a checkpoint on one thread; runs inside a worker."""
    import torch

    torch.set_num_threads(1)
    return load_trained(path, device, fast)


def worth_seeing(results: Sequence[EpisodeResult], count: int) -> list[EpisodeResult]:
    """Per split and ablation up to `count` episodes: the first failures for up to half of them, then successes."""
    chosen: list[EpisodeResult] = []
    for group in dict.fromkeys((r.split, r.ablation) for r in results):
        members = [r for r in results if (r.split, r.ablation) == group and not r.error]
        bad, good = [r for r in members if not r.success], [r for r in members if r.success]
        bad = bad[: max(count // 2, count - len(good))]
        chosen += [*spread(good, count - len(bad)), *bad]
    return chosen


def spread(results: Sequence[EpisodeResult], count: int) -> list[EpisodeResult]:
    """The first `count`, taking turns between tasks."""
    tasks = list(dict.fromkeys(r.task for r in results))
    by_task = [[r for r in results if r.task == task] for task in tasks]
    turns = [group[i] for i in range(count) for group in by_task if i < len(group)]
    return turns[:count]


def replay(run: Any, sink: VideoSink, films: Sequence[EpisodeResult], console: Console) -> str:
    """Run the chosen episodes again, this time watched, and say whether they were the same bits."""
    if not films:
        return ""
    with console.status(f"Filming {len(films)} episodes"):
        again: list[EpisodeResult] = run([r.request for r in films], sink=sink)
    same = sum(a == b for a, b in zip(films, again, strict=True))
    return f"{same} of {len(films)} films show bit-equal repetitions of the counted episodes"


def environment_name(env: Mapping[str, Any]) -> str:
    name = str(env["_target_"]).rpartition(".")[2]
    return f"{name} ({', '.join(env['tasks'])})" if "tasks" in env else name


def versions(*, learned: bool) -> dict[str, str]:
    """What the bits of an episode depend on."""
    from ..envs.tabletop.gl import renderer_info

    packages = ("wayhand", "numpy", "mujoco", "gymnasium") + (("torch", "transformers") if learned else ())
    found = {"python": platform.python_version(), **{name: version(name) for name in packages}}
    try:
        return {**found, "GL_RENDERER": renderer_info()["renderer"], "machine": platform.machine()}
    except WayhandError:
        return {**found, "GL_RENDERER": "none", "machine": platform.machine()}


def write_json(path: Path, data: Mapping[str, Any]) -> None:
    aside = path.with_suffix(".writing")
    aside.write_text(json.dumps(data, indent=1), encoding="utf-8")
    aside.replace(path)
