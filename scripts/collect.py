"""`wayhand collect`: demonstrations of an environment's scripted expert, into a dataset."""

from __future__ import annotations

import itertools
import os
import platform
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from ..datasets.store import Dataset, Writer, create, open_for_append
from ..vla.config import Config, bind, instantiate
from ..vla.demonstrations import Attempt, attempts
from ..vla.errors import ConfigError, WayhandError
from ..vla.evaluation.statistics import wilson
from .compose import load
from .trained import load_trained

HELP = """\
Usage: wayhand collect env=ENV out=PATH [key=value …]

Runs the environment's scripted expert in parallel processes and writes what succeeds. Run the same command again
to continue after an interruption, or with more episodes to add to the dataset.

Examples:
  wayhand collect env=tabletop/pick episodes=200 out=runs/pick
  wayhand collect env=tabletop/demo episodes=600 workers=8 noise=0.1 out=runs/demo
  wayhand collect env=tabletop/pick env.image_size=224 out=runs/pick-224
  wayhand collect env=house/drive student=runs/drive-flow episodes=300 seed=100000 out=runs/drive-dagger
"""
GIVE_UP = 100
"""Failures in a row after which the expert counts as broken."""


@dataclass(frozen=True, kw_only=True)
class CollectConfig:
    env: Config
    out: Path
    episodes: int
    seed: int
    workers: int
    noise: float
    keep: Literal["successes", "all"]
    student: Path | None
    codec: str

    def __post_init__(self) -> None:
        for name, least in (("episodes", 1), ("seed", 0), ("workers", 1), ("noise", 0)):
            if getattr(self, name) < least:
                raise ConfigError(f"'{name}' is too small", expected=f"at least {least}", got=str(getattr(self, name)))

    @property
    def who(self) -> str:
        """Who acts, for what is shown."""
        return "expert" if self.student is None else "expert and student"


@dataclass
class Tally:
    """What one run saw, per task."""

    tried: Counter[str] = field(default_factory=Counter)
    succeeded: Counter[str] = field(default_factory=Counter)
    kept: Counter[str] = field(default_factory=Counter)
    steps: int = 0
    worker_seconds: float = 0.0

    def add(self, attempt: Attempt) -> None:
        self.tried[attempt.task] += 1
        self.succeeded[attempt.task] += attempt.success
        self.kept[attempt.task] += attempt.episode is not None
        self.steps += attempt.steps
        self.worker_seconds += attempt.seconds


def main(overrides: list[str]) -> int:
    cfg, _ = load("collect", overrides, CollectConfig)
    bind(cfg.env)  # a wrong option of the environment is said here, not by a worker
    console = Console()
    recipe = {"env": cfg.env.to_dict(), "noise": cfg.noise, "keep": cfg.keep, "first_seed": cfg.seed}
    recipe["student"] = None if cfg.student is None else str(cfg.student)
    if cfg.student is not None:
        load_trained(cfg.student)  # a wrong path is said here, not by a worker
    have, next_seed = resume_point(cfg.out, recipe)
    tally, began = Tally(), time.perf_counter()
    if have < cfg.episodes:
        if have:
            console.print(f"Continuing {cfg.out} with {have} episodes, at seed {next_seed}.")
        try:
            record(cfg, console, tally, {**recipe, "versions": versions()}, have, next_seed)
        except KeyboardInterrupt:
            console.print(f"Stopped. Every episode written to {cfg.out} is whole; the same command continues.")
            raise
    summarise(cfg, console, tally, time.perf_counter() - began)
    return 0


def versions() -> dict[str, str]:
    """What the bytes of an episode depend on."""
    return {"python": platform.python_version(), **{name: version(name) for name in ("wayhand", "mujoco", "numpy")}}


def resume_point(out: Path, recipe: Mapping[str, Any]) -> tuple[int, int]:
    """Episodes that `out` holds and the seed to go on with.

    Raises `ConfigError` where they were collected in another way, because a mixture would depend on its history.
    """
    if not out.exists():
        return 0, int(recipe["first_seed"])
    dataset = Dataset(out)
    have = len(dataset)
    if not have:
        return 0, int(recipe["first_seed"])
    last = dataset.provenance(have - 1)
    for key, value in recipe.items():
        if last.get(key) != value:
            raise ConfigError(
                f"{out} was collected with another '{key}'",
                expected=str(last.get(key)),
                got=str(value),
                run="choose another out=PATH; `wayhand data merge` joins datasets",
            )
    return have, int(last["seed"]) + 1


def record(
    cfg: CollectConfig, console: Console, tally: Tally, provenance: Mapping[str, Any], have: int, next_seed: int
) -> None:
    # One thread per worker: with more, the workers' libraries compete for the same cores.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    stream = attempts(
        partial(instantiate, cfg.env),
        itertools.count(next_seed),
        workers=cfg.workers,
        noise=cfg.noise,
        keep_failures=cfg.keep == "all" or cfg.student is not None,
        make_student=None if cfg.student is None else partial(load_trained, cfg.student),
        provenance=provenance,
    )
    misses = 0
    with ExitStack() as stack:
        show = stack.enter_context(_Display(console, cfg, tally, have))
        stack.enter_context(closing(stream))
        writer: Writer | None = None
        for attempt in stream:
            tally.add(attempt)
            misses = 0 if attempt.success else misses + 1
            if misses >= GIVE_UP and cfg.student is None:
                raise WayhandError(f"The expert failed on {misses} seeds in a row", got=f"task '{attempt.task}'")
            if attempt.episode is not None:
                if writer is None:
                    writer = (
                        open_for_append(cfg.out)
                        if cfg.out.exists()
                        else create(cfg.out, attempt.episode.spec, codec=cfg.codec)
                    )
                    stack.enter_context(writer)
                writer.append(attempt.episode)
                have += 1
            show.update(have)
            if have >= cfg.episodes:
                return


class _Display:
    """A progress bar on a terminal, a line now and then elsewhere."""

    EVERY = 15.0  # seconds between lines

    def __init__(self, console: Console, cfg: CollectConfig, tally: Tally, have: int) -> None:
        self.console, self.total, self.tally, self.who = console, cfg.episodes, tally, cfg.who
        self.began = self.said = time.monotonic()
        self.start = have
        self.bar = Progress(
            TextColumn("collect"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]:.0f} steps/s · {task.fields[who]} {task.fields[success]:.1%} · left"),
            TimeRemainingColumn(elapsed_when_finished=True),
            console=console,
            disable=not console.is_terminal,
        )
        self.row = self.bar.add_task("collect", total=cfg.episodes, completed=have, rate=0.0, success=1.0, who=cfg.who)

    def __enter__(self) -> _Display:
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def update(self, have: int) -> None:
        now = time.monotonic()
        seconds = max(now - self.began, 1e-9)
        rate = self.tally.steps / seconds
        success = self.tally.succeeded.total() / self.tally.tried.total()
        self.bar.update(self.row, completed=have, rate=rate, success=success)
        if not self.console.is_terminal and now - self.said >= self.EVERY:
            left = seconds * (self.total - have) / max(have - self.start, 1)
            self.console.print(
                f"{have}/{self.total} episodes · {rate:.0f} steps/s · {self.who} {success:.1%} · {left:.0f} s left"
            )
            self.said = now


def summarise(cfg: CollectConfig, console: Console, tally: Tally, seconds: float) -> None:
    dataset = Dataset(cfg.out)
    table = Table(title=f"{cfg.out}: {len(dataset)} episodes")
    for name in ("task", "episodes", f"{cfg.who} success in this run", "95 % interval"):
        table.add_column(name, justify="left" if name == "task" else "right")
    kept = Counter(str(dataset.provenance(i)["task"]) for i in range(len(dataset)))
    for task in sorted(kept | tally.tried):
        tried, succeeded = tally.tried[task], tally.succeeded[task]
        shown = ("–", "–")
        if tried:
            low, high = wilson(succeeded, tried)
            shown = (f"{succeeded}/{tried}", f"{low:.1%} – {high:.1%}")
        table.add_row(task, str(kept[task]), *shown)
    console.print(table)
    size = sum(path.stat().st_size for path in cfg.out.rglob("*") if path.is_file())
    steps = int(dataset.episode_ends[-1])
    console.print(f"size   {size / 1e6:.1f} MB, {size / steps / 1e3:.2f} kB/step, {steps} steps")
    if tally.steps:
        per_worker = tally.steps / tally.worker_seconds
        console.print(
            f"speed  {tally.steps / seconds:.0f} steps/s, {per_worker:.0f} steps/s per worker, {seconds:.0f} s"
        )
    console.print(f"hash   {dataset.hash()}")
    console.print(f"next   wayhand train policy=regression data={cfg.out} out={cfg.out}-policy", soft_wrap=True)
