"""Behaviour cloning: one loop on accelerate, from one CPU process to many GPUs.

All randomness is a function of (seed, step, rank), so a run that was stopped and resumed is the run that was not.
"""

from __future__ import annotations

import shutil
import signal
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, Literal, Protocol

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from .. import checkpoint
from ..backbones import PureModule
from ..errors import TrainingError
from .augment import augment
from .batch import Batch, to_tensors
from .monitor import Monitor
from .policy import TorchPolicy
from .schedule import cosine, ema_decay, ema_update


class Sampler(Protocol):
    """What the loop needs of a dataset: batch `k` as a pure function, and where a sample came from."""

    def __len__(self) -> int: ...

    def batch(self, k: int) -> dict[str, Any]: ...

    def locate(self, index: int) -> tuple[Path, int, int]: ...


@dataclass(frozen=True)
class Settings:
    """Hyper-parameters of the loop.

    Args:
        steps: optimiser steps of the whole run.
        max_minutes: stop (and anneal) by this much training time where it comes first; not reproducible, so off.
        accumulate: batches per optimiser step.
        precision: bf16 is autocast; weights stay fp32.
        compile: torch.compile the vision parts: True, False, or "auto": where a C++ compiler (CPU) or a GPU is there.
        shift, jitter: image augmentation, pixels and relative change; 0 turns them off.
        save_every: steps between checkpoints; keep: how many stay.
    """

    steps: int = 5000
    max_minutes: float | None = None
    lr: float = 5e-4
    weight_decay: float = 1e-4
    warmup: int = 200
    clip: float = 1.0
    ema: float = 0.999
    accumulate: int = 1
    precision: Literal["fp32", "bf16"] = "fp32"
    compile: bool | str = "auto"
    shift: int = 4
    jitter: float = 0.1
    seed: int = 0
    log_every: int = 20
    save_every: int = 1000
    keep: int = 2


@dataclass
class Progress:
    """Where a run stands; travels in checkpoints."""

    step: int = 0
    seconds: float = 0.0
    stopped: bool = field(default=False, compare=False)
    loss: float = float("nan")


class LossModule(nn.Module):
    """`forward` is the loss under autocast, so that data-parallel wrappers see one call."""

    def __init__(self, policy: TorchPolicy, precision: str) -> None:
        super().__init__()
        self.policy = policy
        self.reduced = precision == "bf16"

    def forward(self, batch: Batch) -> tuple[Tensor, dict[str, Any]]:
        with torch.autocast(self.policy.device.type, torch.bfloat16, enabled=self.reduced):
            return self.policy.loss(batch)


def train(
    policy: TorchPolicy,
    make_sampler: Callable[[int, int], Sampler],
    settings: Settings,
    out: str | Path,
    *,
    recipe: Mapping[str, Any],
    config: Mapping[str, Any],
    resume: checkpoint.Checkpoint | None = None,
    wandb: bool = False,
    on_step: Callable[[int], None] | None = None,
) -> Progress:
    """Train `policy` in place and leave checkpoints, metrics and TensorBoard events in `out`.

    Args:
        make_sampler: called with this process's rank and the number of processes.
        recipe: the node the policy was built from, stored so that the checkpoint can rebuild it.
        config: the whole configuration, stored with it.
        resume: where to go on from.
        on_step: called after every step.

    Raises `TrainingError` naming the samples where a loss or gradient is not finite; the checkpoints stay intact.
    """
    # Precision and accumulation are the loop's own: accelerate keeps them in process-wide state, which would
    # forbid two runs of different settings in one process, and batches are addressed by number here.
    accelerator = Accelerator(mixed_precision="no")
    run = _Run(accelerator, policy, settings, Path(out), recipe, config)
    if resume is not None:
        run.restore(resume)
    sampler = make_sampler(accelerator.process_index, accelerator.num_processes)
    with Monitor(run.out, settings.steps, wandb=wandb, config=config, enabled=accelerator.is_main_process) as monitor:
        with _Interrupts() as interrupts:
            _loop(run, sampler, monitor, interrupts, on_step)
            run.progress.stopped = interrupts.seen
    run.save()
    accelerator.wait_for_everyone()
    return run.progress


def _loop(
    run: _Run, sampler: Sampler, monitor: Monitor, interrupts: _Interrupts, on_step: Callable[[int], None] | None
) -> None:
    settings, progress = run.settings, run.progress
    begun = time.monotonic() - progress.seconds
    first = progress.step * settings.accumulate
    with _Lookahead(lambda k: run.fetch(sampler, k), first) as lookahead:
        while progress.step < settings.steps and not interrupts.seen:
            share = progress.step / settings.steps
            if settings.max_minutes is not None:
                share = max(share, progress.seconds / (60 * settings.max_minutes))
                if share >= 1:
                    break
            loss, norm, waited, samples = run.step(lookahead, sampler, share)
            progress.step += 1
            progress.seconds = time.monotonic() - begun
            progress.loss = loss
            monitor.step(progress.step, loss=loss, terms=run.terms, lr=run.lr, norm=norm, waited=waited, samples=samples)
            if progress.step % settings.log_every == 0:
                monitor.flush(share)
            if progress.step % settings.save_every == 0 and progress.step < settings.steps:
                run.save()
            if on_step is not None:
                on_step(progress.step)


class _Run:
    """The mutable state of one training run and what may be done to it."""

    def __init__(
        self,
        accelerator: Accelerator,
        policy: TorchPolicy,
        settings: Settings,
        out: Path,
        recipe: Mapping[str, Any],
        config: Mapping[str, Any],
    ) -> None:
        self.accelerator, self.policy, self.settings, self.out = accelerator, policy, settings, out
        self.recipe, self.config = recipe, config
        self.progress = Progress()
        self.terms: dict[str, float] = {}
        self.lr = 0.0
        self.saved = -1
        policy.to(accelerator.device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
        self.names, self.parameters = map(list, zip(*_trainable(policy), strict=True))
        self.average = [p.detach().clone() for p in self.parameters]
        decayed = [p for p in self.parameters if p.ndim > 1]
        plain = [p for p in self.parameters if p.ndim <= 1]
        optimizer = torch.optim.AdamW(
            [{"params": decayed, "weight_decay": settings.weight_decay}, {"params": plain, "weight_decay": 0.0}],
            lr=settings.lr,
            betas=(0.9, 0.95),
            fused=accelerator.device.type == "cuda" or None,
        )
        if _compiles(settings.compile, accelerator.device):
            for module in policy.modules():
                if isinstance(module, PureModule):
                    module.compile()
        self.optimizer = optimizer
        self.model: Any = accelerator.prepare_model(LossModule(policy, settings.precision))

    def fetch(self, sampler: Sampler, k: int) -> dict[str, Any]:
        """Batch `k`, augmented; runs in the loader thread."""
        arrays = sampler.batch(k)
        if self.settings.shift or self.settings.jitter:
            seed = _mix(self.settings.seed, k, self.accelerator.process_index)
            jitter = self.settings.jitter
            arrays = augment(arrays, seed, shift=self.settings.shift, brightness=jitter, contrast=jitter)
        return arrays

    def step(self, lookahead: _Lookahead, sampler: Sampler, share: float) -> tuple[float, float, float, int]:
        """One optimiser step: (loss, gradient norm, seconds waited for data, samples)."""
        settings, step = self.settings, self.progress.step
        self.lr = settings.lr * cosine(share, step, warmup=settings.warmup)
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr
        torch.manual_seed(_mix(settings.seed, step, self.accelerator.process_index))
        total, waited, samples = 0.0, 0.0, 0
        for part in range(settings.accumulate):
            before = time.perf_counter()
            arrays = lookahead.next()
            waited += time.perf_counter() - before
            batch = to_tensors(arrays, self.accelerator.device)
            synchronise = part == settings.accumulate - 1
            with self._no_sync(synchronise):
                loss, terms = self.model(batch)
                self._require_finite(loss, "loss", arrays, sampler)
                self.accelerator.backward(loss / settings.accumulate)
            total += loss.item() / settings.accumulate
            self.terms = {k: float(v) for k, v in terms.items()}
            samples += len(batch["task"]) * self.accelerator.num_processes
        norm = nn.utils.clip_grad_norm_(self.parameters, settings.clip)
        self._require_finite(norm, "gradient", arrays, sampler)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        ema_update(self.average, self.parameters, ema_decay(step, settings.ema))
        return total, float(norm), waited, samples

    def _no_sync(self, synchronise: bool) -> Any:
        return nullcontext() if synchronise else self.accelerator.no_sync(self.model)

    def _require_finite(self, value: Tensor, what: str, arrays: Mapping[str, Any], sampler: Sampler) -> None:
        if torch.isfinite(value).all():
            return
        guilty = self._guilty(arrays)
        places = [sampler.locate(int(i)) for i in guilty[:8]]
        raise TrainingError(
            f"The {what} of step {self.progress.step + 1} is not finite; nothing of it was kept",
            expected="a finite number",
            got=str(value.item()),
            exists=[f"{path} episode {episode} frame {frame}" for path, episode, frame in places],
            run=f"wayhand data validate {places[0][0]}, or a smaller lr",
        )

    def _guilty(self, arrays: Mapping[str, Any]) -> list[int]:
        """The samples whose own loss is not finite; the whole batch where none is alone to blame."""
        index = [int(i) for i in arrays["index"]]
        guilty = []
        for row, sample in enumerate(index):
            one = {k: v[row : row + 1] for k, v in arrays.items()}
            with torch.no_grad():
                loss, _ = self.policy.loss(to_tensors(one, self.accelerator.device))
            if not torch.isfinite(loss):
                guilty.append(sample)
        return guilty or index

    def save(self) -> None:
        """Write a checkpoint of this step, once."""
        if not self.accelerator.is_main_process or self.saved == self.progress.step or not self.progress.step:
            return
        state = self.optimizer.state
        embodiment = self.policy.spec.embodiment
        moments = {
            f"{name}/{key}": value
            for name, parameter in zip(self.names, self.parameters, strict=True)
            for key, value in state[parameter].items()
        }
        weights = self.policy.state_dict()
        checkpoint.save(
            self.out,
            self.progress.step,
            parts={
                "model": weights,
                "ema": {**weights, **dict(zip(self.names, self.average, strict=True))},
                "optimizer": moments,
            },
            policy=self.recipe,
            specs={embodiment: self.policy.spec},
            statistics={embodiment: self.policy.stats},
            config=self.config,
            trainer={"step": self.progress.step, "seconds": self.progress.seconds},
            keep=self.settings.keep,
        )
        self.saved = self.progress.step

    def restore(self, loaded: checkpoint.Checkpoint) -> None:
        """Continue from a checkpoint: weights, averages, optimiser moments and the step."""
        self.policy.load_state_dict(loaded.weights("model"), strict=True)
        averages, moments = loaded.weights("ema"), loaded.weights("optimizer")
        for name, parameter, average in zip(self.names, self.parameters, self.average, strict=True):
            average.copy_(averages[name])
            prefix = f"{name}/"
            self.optimizer.state[parameter] = {
                key.removeprefix(prefix): value.to("cpu" if key.endswith("/step") else parameter.device)
                for key, value in moments.items()
                if key.startswith(prefix)
            }
        self.progress.step = self.saved = loaded.step
        self.progress.seconds = float(loaded.trainer["seconds"])


class _Lookahead:
    """Calls `make(k)`, `make(k + 1)`, … in one thread, two ahead of the reader."""

    def __init__(self, make: Callable[[int], dict[str, Any]], first: int, depth: int = 2) -> None:
        self._make, self._next = make, first
        self._pool = ThreadPoolExecutor(1, "batch")
        self._futures: list[Future[dict[str, Any]]] = []
        for _ in range(depth):
            self._submit()

    def _submit(self) -> None:
        self._futures.append(self._pool.submit(self._make, self._next))
        self._next += 1

    def next(self) -> dict[str, Any]:
        arrays = self._futures.pop(0).result()
        self._submit()
        return arrays

    def __enter__(self) -> _Lookahead:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)


class _Interrupts:
    """The first Ctrl-C or SIGTERM asks the loop to stop after the step; the second one acts at once."""

    def __init__(self) -> None:
        self.seen = False
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> _Interrupts:
        for number in (signal.SIGINT, signal.SIGTERM):
            try:
                self._previous[number] = signal.signal(number, self._handle)
            except ValueError:  # not the main thread: the caller owns the signals
                break
        return self

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.seen:
            raise KeyboardInterrupt
        self.seen = True

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)


def _trainable(policy: TorchPolicy) -> list[tuple[str, nn.Parameter]]:
    return [(n, p) for n, p in policy.named_parameters() if p.requires_grad]


def _compiles(choice: bool | str, device: torch.device) -> bool:
    if choice == "auto":
        return device.type == "cuda" or shutil.which("g++") is not None
    return bool(choice)


def _mix(*numbers: int) -> int:
    """A 63-bit seed from a tuple of small numbers."""
    return int(np.random.SeedSequence([abs(n) for n in numbers]).generate_state(1, np.uint64)[0] >> np.uint64(1))
