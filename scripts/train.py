"""`wayhand train`: behaviour cloning of a dataset into a checkpoint."""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from ..datasets.store import Dataset
from ..datasets.window import WindowSampler
from ..vla import checkpoint
from ..vla.config import Config, instantiate
from ..vla.contract import EnvSpec
from ..vla.errors import CheckpointError, ConfigError
from ..vla.learning import behavior_cloning
from ..vla.learning.monitor import METRICS
from ..vla.learning.policy import ACTION, STATE, TorchPolicy
from ..vla.normalize import FIELDS, NormStats
from .compose import load

HELP = """\
Usage: wayhand train policy=POLICY data=PATH out=RUN [key=value …]

Learns a policy from demonstrations. Ctrl-C saves; the same command continues, bit for bit on a CPU.

Examples:
  wayhand train policy=regression data=runs/pick out=runs/pick-policy steps=5000
  wayhand train policy=flow data=[runs/pick,runs/push] out=runs/flow batch_size=128 lr=0.001
  wayhand train data=[runs/pick,runs/corrections] weights=[3,1] init_from=runs/pick-policy out=runs/corrected
  wayhand train data=runs/new init_from=runs/pick-policy out=runs/tuned steps=1000 lr=0.0001
  torchrun --nproc-per-node 2 --no-python wayhand train data=runs/pick out=runs/two batch_size=32
"""
FREE_TO_CHANGE = ("steps", "log_every", "save_every", "keep", "threads", "wandb", "overwrite", "out", "max_minutes")
"""What a run that is continued may change without becoming another run; a new length moves the schedule's end."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    policy: Config
    data: str | list[str]
    weights: list[float] | None
    out: Path
    init_from: Path | None
    overwrite: bool
    steps: int
    max_minutes: float | None
    batch_size: int
    accumulate: int
    lr: float
    weight_decay: float
    warmup: int
    clip: float
    ema: float
    precision: Literal["auto", "fp32", "bf16"]
    compile: bool | str
    shift: int
    jitter: float
    normalize: Config
    seed: int
    log_every: int
    save_every: int
    keep: int
    threads: int | None
    wandb: bool

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "accumulate", "log_every", "save_every", "keep"):
            if getattr(self, name) < 1:
                raise ConfigError(f"'{name}' is too small", expected="at least 1", got=str(getattr(self, name)))
        if not self.lr > 0:
            raise ConfigError("'lr' must be positive", got=str(self.lr))
        if not 0 <= self.ema < 1:
            raise ConfigError("'ema' is out of range", expected="0 ≤ ema < 1", got=str(self.ema))

    @property
    def settings(self) -> behavior_cloning.Settings:
        names = {f.name for f in fields(behavior_cloning.Settings)}
        return behavior_cloning.Settings(**{k: v for k, v in asdict(self).items() if k in names})


def main(overrides: list[str]) -> int:
    cfg, whole = load("train", overrides, TrainConfig)
    processes = behavior_cloning.processes()
    console = Console(quiet=not processes.is_main_process)
    torch.set_num_threads(cfg.threads or max(1, cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))))
    datasets = [Dataset(path) for path in ([cfg.data] if isinstance(cfg.data, str) else cfg.data)]
    if cfg.overwrite and processes.is_main_process:
        discard(cfg.out)
    processes.wait_for_everyone()
    resume = resume_point(cfg.out, whole)
    spec, stats = (resume.spec, resume.stats) if resume else describe(datasets, cfg)
    torch.manual_seed(cfg.seed)
    policy: TorchPolicy = instantiate(cfg.policy, spec=spec, stats=stats)
    if resume is None and cfg.init_from is not None:
        start_from(policy, cfg.init_from, spec)
    parameters = sum(p.numel() for p in policy.parameters() if p.requires_grad)
    frames = sum(d.frames for d in datasets)
    per_step = cfg.batch_size * cfg.accumulate * processes.num_processes
    if resume:
        console.print(f"Continuing {cfg.out} at step {resume.step} of {cfg.steps}.", soft_wrap=True)
    console.print(
        f"{sum(len(d) for d in datasets)} episodes, {frames} frames; {parameters / 1e6:.2f} M parameters; "
        f"{per_step} samples a step, {cfg.steps * per_step / frames:.1f} epochs"
    )
    sampler = partial(make_sampler, datasets, policy.chunk, cfg)
    done = behavior_cloning.train(
        policy,
        sampler,
        cfg.settings,
        cfg.out,
        recipe=cfg.policy.to_dict(),
        config=whole.to_dict(),
        resume=resume,
        wandb=cfg.wandb,
    )
    processes.destroy_process_group()
    if done.stopped:
        again = shlex.join(["wayhand", "train", *(o for o in overrides if not o.startswith("overwrite="))])
        console.print(f"Stopped and saved at step {done.step}. Continue with:\n  {again}", soft_wrap=True)
        return 130
    summarise(cfg, console, done, parameters, done.step * per_step)
    return 0


def cores() -> int:
    """Processors this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def make_sampler(datasets: Sequence[Dataset], chunk: int, cfg: TrainConfig, rank: int, world: int) -> WindowSampler:
    return WindowSampler(
        datasets,
        chunk=chunk,
        batch_size=cfg.batch_size,
        seed=cfg.seed,
        weights=cfg.weights,
        rank=rank,
        world=world,
        prefetch=0,
    )


def describe(datasets: Sequence[Dataset], cfg: TrainConfig) -> tuple[EnvSpec, NormStats]:
    """The spec all datasets share, and their joint statistics of state and action."""
    spec = datasets[0].spec
    for other in datasets[1:]:
        spec.require_same(other.spec, f"dataset {datasets[0].path} → dataset {other.path}")
    columns = {path: merged([d.stats[path] for d in datasets]) for path in (STATE, ACTION)}
    return spec, NormStats(columns, cfg.normalize.to_dict())


def merged(parts: Sequence[Any]) -> dict[str, Any]:
    """Statistics of several datasets as one: exact moments and extremes; quantiles are the outermost ones."""
    share = np.array([p.count for p in parts], np.float64)
    share /= share.sum()
    stacked = {name: np.stack([getattr(p, name) for p in parts]) for name in FIELDS}
    mean = np.tensordot(share, stacked["mean"], 1)
    variance = np.tensordot(share, stacked["std"] ** 2 + (stacked["mean"] - mean) ** 2, 1)
    low = {name: stacked[name].min(0) for name in ("min", "q01")}
    high = {name: stacked[name].max(0) for name in ("max", "q99")}
    return {"mean": mean, "std": np.sqrt(variance), **low, **high}


def resume_point(out: Path, whole: Config, free: Collection[str] = FREE_TO_CHANGE) -> checkpoint.Checkpoint | None:
    """The newest checkpoint in `out` if it is of this run; raises `ConfigError` listing what differs and may not."""
    if not checkpoint.steps(out):
        return None
    found = checkpoint.load(out)
    ours, theirs = flat(whole.to_dict()), flat(found.config)
    changed = [
        f"{key}: {theirs.get(key)} → {ours.get(key)}"
        for key in sorted(ours.keys() | theirs.keys())
        if ours.get(key) != theirs.get(key) and key not in free
    ]
    if changed:
        raise ConfigError(
            f"{out} holds a run with other settings: " + "; ".join(changed),
            expected="the same settings to continue, another `out`, or overwrite=true to start again",
        )
    return found


def discard(out: Path) -> None:
    """Remove what an earlier run left in `out`, and nothing else."""
    for step in checkpoint.steps(out):
        shutil.rmtree(step)
    shutil.rmtree(out / "tensorboard", ignore_errors=True)
    (out / METRICS).unlink(missing_ok=True)


def flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as dotted keys."""
    out: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            out.update(flat(value, f"{prefix}{key}."))
        else:
            out[prefix + str(key)] = list(value) if isinstance(value, tuple) else value
    return out


def start_from(policy: TorchPolicy, path: Path, spec: EnvSpec) -> None:
    """Copy the averaged weights of another run whose body is the same; statistics stay those of the new data."""
    source = checkpoint.load(path)
    source.spec.require_same(spec, f"checkpoint {source.path} → the data")
    try:
        policy.load_state_dict(source.weights("ema" if source.has("ema") else "model"), strict=True)
    except RuntimeError as error:
        raise CheckpointError(
            f"The weights of {source.path} do not fit this policy",
            got=str(error),
            run="use the recipe it was trained with",
        ) from error


def summarise(
    cfg: TrainConfig, console: Console, done: behavior_cloning.Progress, parameters: int, samples: int
) -> None:
    table = Table(title="Trained", show_header=False)
    seconds = max(done.seconds, 1e-9)
    table.add_row("steps", str(done.step))
    table.add_row("last loss", f"{done.loss:.4f}")
    table.add_row("time", f"{done.seconds / 60:.1f} min, {samples / seconds:.0f} samples/s")
    table.add_row("data wait", f"{done.waited / seconds:.1%}")
    table.add_row("parameters", f"{parameters / 1e6:.2f} M")
    console.print(table)
    console.print(f"checkpoint  {checkpoint.steps(cfg.out)[-1]}", soft_wrap=True)
    console.print(f"next        wayhand eval checkpoint={cfg.out} env=… out={cfg.out}-eval", soft_wrap=True)
