"""Behaviour cloning: one loop on accelerate, from one CPU process to many GPUs.

All randomness is a function of (seed, step, rank), so a run that was stopped and resumed is the run that was not.
"""

from __future__ import annotations

import shutil
import sysconfig
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import parse_flag_from_env
from torch import Tensor, nn

from .. import checkpoint
from ..backbones import PureModule
from ..errors import TrainingError
from .augment import augment
from .batch import Batch, to_tensors
from .interrupts import Interrupts
from .lookahead import Lookahead
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
        precision: bf16 is autocast, weights stay fp32. "auto" takes bf16 on a GPU, and on a CPU that computes in it
            where the vision parts are compiled: uncompiled, its conversions cost more than they save.
        compile: torch.compile the vision parts: True, False, or "auto": where a C++ compiler (CPU) or a GPU is there.
        shift, jitter: image augmentation, pixels and relative change; 0 turns them off.
        save_every: steps between checkpoints; keep: how many stay.
    """

    steps: int = 5000
    max_minutes: float | None = None
    lr: float = 1e-3
    weight_decay: float = 1e-4
    warmup: int = 200
    clip: float = 1.0
    ema: float = 0.999
    accumulate: int = 1
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    compile: bool | str = "auto"
    shift: int = 2
    jitter: float = 0.1
    seed: int = 0
    log_every: int = 20
    save_every: int = 1000
    keep: int = 2


@dataclass
class Progress:
    """Where a run stands, over all its sessions; `seconds` of training, `waited` of them for data."""

    step: int = 0
    seconds: float = 0.0
    waited: float = 0.0
    stopped: bool = field(default=False, compare=False)
    loss: float = float("nan")


class LossModule(nn.Module):
    """`forward` is the loss under autocast, so that data-parallel wrappers see one call."""

    def __init__(self, policy: TorchPolicy, *, reduced: bool) -> None:
        super().__init__()
        self.policy = policy
        self.reduced = reduced

    def forward(self, batch: Batch) -> tuple[Tensor, dict[str, Any]]:
        with torch.autocast(self.policy.device.type, torch.bfloat16, enabled=self.reduced):
            return self.policy.loss(batch)


def processes() -> PartialState:
    """This process's place among those that train together (torchrun, accelerate launch), joined at the first call."""
    # accelerate takes several processes without an accelerator for independent ones unless it is told.
    return PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.accelerator.is_available())


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
    processes()
    # Precision and accumulation are the loop's own: accelerate keeps them in process-wide state, which would
    # forbid two runs of different settings in one process, and batches are addressed by number here.
    accelerator = Accelerator(mixed_precision="no")
    run = _Run(accelerator, policy, settings, Path(out), recipe, config)
    if resume is not None:
        run.restore(resume)
    sampler = make_sampler(accelerator.process_index, accelerator.num_processes)
    monitor = Monitor(
        run.out,
        settings.steps,
        first=run.progress.step,
        wandb=wandb,
        config=config,
        enabled=accelerator.is_main_process,
    )
    with monitor, Interrupts() as interrupts:
        _loop(run, sampler, monitor, interrupts, on_step)
        run.save()
    accelerator.wait_for_everyone()
    return run.progress


def _loop(
    run: _Run, sampler: Sampler, monitor: Monitor, interrupts: Interrupts, on_step: Callable[[int], None] | None
) -> None:
    settings, progress = run.settings, run.progress
    begun = time.monotonic() - progress.seconds
    first = progress.step * settings.accumulate
    with Lookahead(lambda k: run.fetch(sampler, k), first) as lookahead:
        while True:
            asked, share = run.agree(interrupts.seen, run.share())
            if asked or share >= 1:
                progress.stopped = asked and share < 1
                break
            loss, norm, waited, samples = run.step(lookahead, sampler, share)
            progress.step += 1
            progress.seconds = time.monotonic() - begun
            progress.loss = loss
            progress.waited += waited
            monitor.step(
                progress.step, loss=loss, terms=run.terms, lr=run.lr, norm=norm, waited=waited, samples=samples
            )
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
            fused=accelerator.device.type in ("cpu", "cuda"),
        )
        compiled = _compiles(settings.compile, accelerator.device)
        if compiled:
            for module in policy.modules():
                if isinstance(module, PureModule):
                    module.compile()
        self.optimizer = optimizer
        self.module = LossModule(policy, reduced=_reduces(settings.precision, accelerator.device, compiled))
        self.model: Any = accelerator.prepare_model(self.module)

    def share(self) -> float:
        """How much of the run is done: of its steps or of its time, whichever is further."""
        settings, progress = self.settings, self.progress
        steps = progress.step / settings.steps
        return steps if settings.max_minutes is None else max(steps, progress.seconds / (60 * settings.max_minutes))

    def agree(self, asked: bool, share: float) -> tuple[bool, float]:
        """The same on every process: whether any was asked to stop, and the furthest share.

        Processes that stop after different steps would wait for each other's gradients for ever.
        """
        if self.accelerator.num_processes == 1:
            return asked, share
        both = torch.tensor([float(asked), share], dtype=torch.float64, device=self.accelerator.device)
        torch.distributed.all_reduce(both, torch.distributed.ReduceOp.MAX)
        asked_any, furthest = both.tolist()
        return bool(asked_any), furthest

    def fetch(self, sampler: Sampler, k: int) -> dict[str, Any]:
        """Batch `k`, augmented; runs in the loader thread."""
        arrays = sampler.batch(k)
        if self.settings.shift or self.settings.jitter:
            seed = _mix(self.settings.seed, k, self.accelerator.process_index)
            jitter = self.settings.jitter
            arrays = augment(arrays, seed, shift=self.settings.shift, brightness=jitter, contrast=jitter)
        return arrays

    def step(self, lookahead: Lookahead, sampler: Sampler, share: float) -> tuple[float, float, float, int]:
        """One optimiser step: (loss, gradient norm, seconds waited for data, samples)."""
        settings, step = self.settings, self.progress.step
        self.lr = settings.lr * cosine(share, step, warmup=settings.warmup)
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr
        torch.manual_seed(_mix(settings.seed, step, self.accelerator.process_index))
        total, waited, samples = 0.0, 0.0, 0
        batches: list[dict[str, Any]] = []
        for part in range(settings.accumulate):
            before = time.perf_counter()
            arrays = lookahead.next()
            waited += time.perf_counter() - before
            batches.append(arrays)
            batch = to_tensors(arrays, self.accelerator.device)
            synchronise = part == settings.accumulate - 1
            with self._no_sync(synchronise):
                loss, terms = self.model(batch)
                self._require_finite(loss, "loss", [arrays], sampler)
                self.accelerator.backward(loss / settings.accumulate)
            total += loss.item() / settings.accumulate
            self.terms = {k: float(v) for k, v in terms.items()}
            samples += len(batch["task"]) * self.accelerator.num_processes
        norm = nn.utils.clip_grad_norm_(self.parameters, settings.clip)
        self._require_finite(norm, "gradient", batches, sampler)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        ema_update(self.average, self.parameters, ema_decay(step, settings.ema))
        return total, float(norm), waited, samples

    def _no_sync(self, synchronise: bool) -> Any:
        return nullcontext() if synchronise else self.accelerator.no_sync(self.model)

    def _require_finite(self, value: Tensor, what: str, batches: Sequence[Mapping[str, Any]], sampler: Sampler) -> None:
        if torch.isfinite(value).all():
            return
        guilty = [i for arrays in batches for i in self._guilty(arrays)]
        guilty = guilty or [int(i) for arrays in batches for i in arrays["index"]]
        places = [sampler.locate(int(i)) for i in guilty[:8]]
        raise TrainingError(
            f"The {what} of step {self.progress.step + 1} is not finite; nothing of it was kept",
            expected="a finite number",
            got=str(value.item()),
            exists=[f"{path} episode {episode} frame {frame}" for path, episode, frame in places],
            run=f"wayhand data validate {places[0][0]}, or a smaller lr",
        )

    def _guilty(self, arrays: Mapping[str, Any]) -> list[int]:
        """The samples whose own loss or gradient is not finite; none where only their sum is not."""
        guilty = []
        for row, sample in enumerate(arrays["index"]):
            one = {k: v[row : row + 1] for k, v in arrays.items()}
            loss, _ = self.module(to_tensors(one, self.accelerator.device))
            gradients = torch.autograd.grad(loss, self.parameters, allow_unused=True)
            if not all(torch.isfinite(v).all() for v in (loss, *gradients) if v is not None):
                guilty.append(int(sample))
        return guilty

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
            trainer={"seconds": self.progress.seconds, "waited": self.progress.waited},
            keep=self.settings.keep,
        )
        self.saved = self.progress.step

    def restore(self, loaded: checkpoint.Checkpoint) -> None:
        """Continue from a checkpoint: weights, averages, optimiser moments and the step."""
        self.policy.load_state_dict(loaded.weights("model"), strict=True)
        averages, moments = loaded.weights("ema"), loaded.weights("optimizer")
        for name, parameter, average in zip(self.names, self.parameters, self.average, strict=True):
            average.copy_(averages[name])
            self.optimizer.state[parameter] = {
                # Moments take the parameter's memory layout, so that the update stays one pass over both.
                key: value if key == "step" else torch.empty_like(parameter).copy_(value)
                for key, value in _below(moments, f"{name}/").items()
            }
        self.progress.step = self.saved = loaded.step
        self.progress.seconds = float(loaded.trainer["seconds"])
        self.progress.waited = float(loaded.trainer.get("waited", 0.0))


def _trainable(policy: TorchPolicy) -> list[tuple[str, nn.Parameter]]:
    return [(n, p) for n, p in policy.named_parameters() if p.requires_grad]


def _below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def _compiles(choice: bool | str, device: torch.device) -> bool:
    if choice == "auto":
        headers = Path(sysconfig.get_path("include")) / "Python.h"
        return device.type == "cuda" or (shutil.which("g++") is not None and headers.exists())
    return bool(choice)


def _reduces(choice: str, device: torch.device, compiled: bool) -> bool:
    if choice == "auto":
        cpu = torch.cpu
        native = cpu._is_avx512_bf16_supported() or cpu._is_amx_tile_supported()  # pyright: ignore[reportPrivateUsage]
        return device.type == "cuda" or (device.type == "cpu" and compiled and native)
    return choice == "bf16"


def _mix(*numbers: int) -> int:
    """A 63-bit seed from a tuple of small numbers."""
    return int(np.random.SeedSequence([abs(n) for n in numbers]).generate_state(1, np.uint64)[0] >> np.uint64(1))
