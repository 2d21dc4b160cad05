"""What a training run shows: a progress bar, metrics.jsonl, TensorBoard, and Weights & Biases if asked."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from torch.utils.tensorboard import SummaryWriter

from ..errors import ConfigError

METRICS = "metrics.jsonl"


class Monitor:
    """Collects per-step figures; `flush` writes their means over the window since the last flush.

    Args:
        out: folder of `metrics.jsonl` and `tensorboard/`.
        steps: of the whole run, for the bar.
        first: steps already taken; what an interrupted run wrote beyond them is forgotten.
        enabled: False on all but the main process.
    """

    EVERY = 15.0  # seconds between lines where there is no terminal to draw a bar on

    def __init__(
        self, out: Path, steps: int, *, first: int, wandb: bool, config: Mapping[str, Any], enabled: bool
    ) -> None:
        self.out, self.steps, self.first, self.enabled = out, steps, first, enabled
        self._wandb_config = config if wandb and enabled else None
        self._window: list[dict[str, float]] = []
        self._since = time.perf_counter()
        self._terms: dict[str, float] = {}
        self._begun = time.monotonic()
        self._first_share: float | None = None
        self._said = float("-inf")

    def __enter__(self) -> Monitor:
        if not self.enabled:
            return self
        self.out.mkdir(parents=True, exist_ok=True)
        _keep_rows(self.out / METRICS, self.first)
        self._file = (self.out / METRICS).open("a", buffering=1)
        self._board = SummaryWriter(str(self.out / "tensorboard"), purge_step=self.first + 1)
        self._wandb = _start_wandb(self._wandb_config)
        self._console = Console()
        self._bar = Progress(
            TextColumn("train"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[eta]}"),
            refresh_per_second=2,
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._bar.start()
        self._task = self._bar.add_task("train", total=self.steps, completed=self.first, note="starting", eta="")
        return self

    def __exit__(self, *_: object) -> None:
        if not self.enabled:
            return
        self.flush(None)
        self._bar.stop()
        self._board.close()
        self._file.close()
        if self._wandb is not None:
            self._wandb.finish()

    def step(
        self,
        step: int,
        *,
        loss: float,
        terms: Mapping[str, float],
        lr: float,
        norm: float,
        waited: float,
        samples: int,
    ) -> None:
        """Record one optimiser step; `waited` in seconds."""
        if self.enabled:
            row = {"step": step, "loss": loss, "lr": lr, "norm": norm, "waited": waited, "samples": samples}
            self._window.append(row)
            self._terms = dict(terms)

    def flush(self, share: float | None) -> None:
        """Write the window; `share` of the run that is done gives the time left."""
        if not self.enabled or not self._window:
            return
        now = time.perf_counter()
        seconds, rows = max(now - self._since, 1e-9), self._window
        row = {
            "step": int(rows[-1]["step"]),
            "loss": sum(r["loss"] for r in rows) / len(rows),
            **self._terms,
            "lr": rows[-1]["lr"],
            "gradient_norm": sum(r["norm"] for r in rows) / len(rows),
            "samples_per_second": sum(r["samples"] for r in rows) / seconds,
            "data_wait": sum(r["waited"] for r in rows) / seconds,
        }
        self._file.write(json.dumps(row) + "\n")
        for name, value in row.items():
            if name != "step":
                self._board.add_scalar(name, value, row["step"])
        if self._wandb is not None:
            self._wandb.log(row, step=row["step"])
        note = (
            f"loss {row['loss']:.4f}  lr {row['lr']:.1e}  {row['samples_per_second']:.0f} samples/s  "
            f"data wait {row['data_wait']:.1%}"
        )
        left = self._left(share)
        self._bar.update(self._task, completed=row["step"], note=note, eta=left)
        if not self._console.is_terminal and (share is None or now - self._said >= self.EVERY):
            self._console.print(f"{row['step']}/{self.steps}  {note}  {left}", soft_wrap=True, highlight=False)
            self._said = now
        self._window, self._since = [], now

    def _left(self, share: float | None) -> str:
        if share is None:
            return ""
        if self._first_share is None:
            self._first_share, self._begun = share, time.monotonic()
        done = share - self._first_share
        if done <= 0:
            return ""
        seconds = int((time.monotonic() - self._begun) / done * (1 - share))
        return f"{seconds // 60}:{seconds % 60:02d} left"


def _keep_rows(path: Path, last: int) -> None:
    """Drop the rows of `path` after step `last`, and a last one that was cut off."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text().splitlines():
        try:
            if json.loads(line)["step"] <= last:
                kept.append(line + "\n")
        except (ValueError, KeyError):
            continue
    aside = path.with_name(f".{path.name}-{os.getpid()}")
    aside.write_text("".join(kept))
    aside.replace(path)


def _start_wandb(config: Mapping[str, Any] | None) -> Any:
    if config is None:
        return None
    try:
        import wandb
    except ModuleNotFoundError as error:
        raise ConfigError("wandb=true needs Weights & Biases", run="pip install 'wayhand[wandb]'") from error
    return wandb.init(project="wayhand", config=dict(config))
