"""A training loop in one process for modules that learn from batches they help to make; the plainest of the loops.

All randomness is a function of (seed, step), so a run that was stopped and resumed is the run that was not.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from .. import checkpoint
from ..contract import EnvSpec
from ..errors import TrainingError
from ..normalize import NormStats
from .batch import Batch
from .interrupts import Interrupts
from .monitor import Monitor
from .schedule import cosine, ema_decay, ema_update

Draw = Callable[[int, float], Batch]
"""(step, share of the run that is done) → the batch of that step; `"task"` or `"index"` has one entry per sample."""


@dataclass(frozen=True)
class Settings:
    """Hyper-parameters.

    Args:
        steps: optimiser steps of the whole run.
        max_minutes: stop (and anneal) by this much training time where it comes first; not reproducible, so off.
        ema: limit of the weight average's decay.
        precision: "bf16" computes losses under autocast; weights and averages stay fp32.
        save_every: steps between checkpoints; keep: how many stay.
    """

    steps: int = 2000
    max_minutes: float | None = None
    lr: float = 5e-4
    weight_decay: float = 0.01
    warmup: int = 100
    clip: float = 1.0
    ema: float = 0.998
    seed: int = 0
    precision: Literal["fp32", "bf16"] = "fp32"
    log_every: int = 20
    save_every: int = 500
    keep: int = 1


@dataclass
class Progress:
    """Where a run is; `stopped` says that it was interrupted before its end."""

    step: int = 0
    seconds: float = 0.0
    loss: float = float("nan")
    stopped: bool = False


def fit(
    module: Any,
    draw: Draw,
    settings: Settings,
    out: str | Path,
    *,
    recipe: Mapping[str, Any],
    config: Mapping[str, Any],
    specs: Mapping[str, EnvSpec] | None = None,
    statistics: Mapping[str, NormStats] | None = None,
    resume: checkpoint.Checkpoint | None = None,
) -> Progress:
    """Train `module` (a `Learner`) in place and leave checkpoints, metrics and TensorBoard events in `out`.

    Args:
        draw: the batch of a step, a pure function of the step, the share and the weights.
        recipe: the node the module was built from, stored so that the checkpoint can rebuild it.
        config: the whole configuration, stored with it.
        specs, statistics: stored with it, by embodiment.
        resume: where to go on from.

    Raises `TrainingError` where a loss is not finite; the checkpoints stay intact.
    """
    kept = {"policy": recipe, "config": config, "specs": specs or {}, "statistics": statistics or {}}
    run = _Run(module, settings, Path(out), kept)
    if resume is not None:
        run.restore(resume)
    progress = run.progress
    begun = time.monotonic() - progress.seconds
    monitor = Monitor(run.out, settings.steps, first=progress.step, wandb=False, config=config, enabled=True)
    with monitor, Interrupts() as interrupts:
        while True:
            share = run.share()
            if interrupts.seen or share >= 1:
                progress.stopped = interrupts.seen and share < 1
                break
            figures = run.step(draw, share)
            progress.seconds = time.monotonic() - begun
            monitor.step(progress.step, **figures)
            if progress.step % settings.log_every == 0:
                monitor.flush(run.share())
            if progress.step % settings.save_every == 0 and progress.step < settings.steps:
                run.save()
        run.save()
    return progress


class _Run:
    """The mutable state of one training run."""

    def __init__(self, module: Any, settings: Settings, out: Path, kept: Mapping[str, Any]) -> None:
        self.module, self.settings, self.out, self.kept = module, settings, out, kept
        self.progress = Progress()
        self.saved = -1
        found = [(n, p) for n, p in module.named_parameters() if p.requires_grad]
        self.names, self.parameters = [n for n, _ in found], [p for _, p in found]
        self.average = [p.detach().clone() for p in self.parameters]
        decayed = [p for p in self.parameters if p.ndim > 1]
        plain = [p for p in self.parameters if p.ndim <= 1]
        self.optimizer = torch.optim.AdamW(
            [{"params": decayed, "weight_decay": settings.weight_decay}, {"params": plain, "weight_decay": 0.0}],
            lr=settings.lr,
            betas=(0.9, 0.98),
        )

    def share(self) -> float:
        """How much of the run is done: of its steps or of its time, whichever is further."""
        settings, progress = self.settings, self.progress
        steps = progress.step / settings.steps
        return steps if settings.max_minutes is None else max(steps, progress.seconds / (60 * settings.max_minutes))

    def step(self, draw: Draw, share: float) -> dict[str, Any]:
        """One optimiser step; the figures to show."""
        settings, k = self.settings, self.progress.step
        before = time.perf_counter()
        batch = draw(k, share)
        waited = time.perf_counter() - before
        self.module.train()
        torch.manual_seed(int(np.random.SeedSequence([settings.seed, k]).generate_state(1)[0]))
        lr = settings.lr * cosine(share, k, warmup=settings.warmup)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        with torch.autocast(self.parameters[0].device.type, torch.bfloat16, enabled=settings.precision == "bf16"):
            loss, terms = self.module.loss(batch)
        if not torch.isfinite(loss):
            raise TrainingError(
                f"The loss of step {k + 1} is not finite; nothing of it was kept",
                expected="a finite number",
                got=str(loss.item()),
                run="a smaller lr",
            )
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.parameters, settings.clip)
        self.optimizer.step()
        ema_update(self.average, self.parameters, ema_decay(k, settings.ema))
        self.progress.step += 1
        self.progress.loss = loss.item()
        samples = len(batch["task"] if "task" in batch else batch["index"])
        shown = {name: float(value) for name, value in terms.items()}
        figures = {"loss": loss.item(), "terms": shown, "lr": lr, "norm": float(norm)}
        return {**figures, "waited": waited, "samples": samples}

    def save(self) -> None:
        """Write a checkpoint of this step, once."""
        if self.saved == self.progress.step or not self.progress.step:
            return
        moments = {
            f"{name}/{key}": value
            for name, parameter in zip(self.names, self.parameters, strict=True)
            for key, value in self.optimizer.state[parameter].items()
        }
        weights = self.module.state_dict()
        averaged = {**weights, **dict(zip(self.names, self.average, strict=True))}
        checkpoint.save(
            self.out,
            self.progress.step,
            parts={"model": weights, "ema": averaged, "optimizer": moments},
            trainer={"seconds": self.progress.seconds},
            keep=self.settings.keep,
            **self.kept,
        )
        self.saved = self.progress.step

    def restore(self, loaded: checkpoint.Checkpoint) -> None:
        """Continue from a checkpoint: weights, averages, optimiser moments and the step."""
        self.module.load_state_dict(loaded.weights("model"), strict=True)
        averages, moments = loaded.weights("ema"), loaded.weights("optimizer")
        for name, parameter, average in zip(self.names, self.parameters, self.average, strict=True):
            average.copy_(averages[name])
            prefix = f"{name}/"
            self.optimizer.state[parameter] = {
                key.removeprefix(prefix): value for key, value in moments.items() if key.startswith(prefix)
            }
        self.progress.step = self.saved = loaded.step
        self.progress.seconds = float(loaded.trainer["seconds"])
