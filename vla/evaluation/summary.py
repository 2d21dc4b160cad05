"""From episodes to numbers: success with intervals per task, split and ablation, and what ablations cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from .records import EpisodeResult
from .statistics import bootstrap_mean, paired_difference, wilson

ALL = "all"


@dataclass(frozen=True)
class Row:
    """Success of one task, or of all (`ALL`), in one split under one ablation (`""` for none).

    Args:
        low, high: 95 % Wilson interval of `rate`.
        chance: of a policy that ignores the words.
        errors: failures that were errors of environment or policy.
        steps, steps_low, steps_high: mean episode length with its 95 % bootstrap interval.
        first_seed, last_seed: smallest and largest.
    """

    split: str
    ablation: str
    task: str
    n: int
    successes: int
    rate: float
    low: float
    high: float
    chance: float
    errors: int
    steps: float
    steps_low: float
    steps_high: float
    first_seed: int
    last_seed: int

    @property
    def label(self) -> str:
        return self.ablation or self.split


@dataclass(frozen=True)
class Cost:
    """Success without minus success with an ablation, over the same seeds; 95 % paired interval (Newcombe 1998)."""

    ablation: str
    n: int
    estimate: float
    low: float
    high: float


def row(results: Sequence[EpisodeResult], split: str, ablated: str, task: str) -> Row:
    n, successes = len(results), sum(r.success for r in results)
    low, high = wilson(successes, n)
    steps = [r.steps for r in results]
    steps_low, steps_high = bootstrap_mean(steps)
    seeds = [r.seed for r in results]
    return Row(
        split=split,
        ablation=ablated,
        task=task,
        n=n,
        successes=successes,
        rate=successes / n,
        low=low,
        high=high,
        chance=float(np.mean([1 / max(r.compatible, 1) for r in results])),
        errors=sum(bool(r.error) for r in results),
        steps=float(np.mean(steps)),
        steps_low=steps_low,
        steps_high=steps_high,
        first_seed=min(seeds),
        last_seed=max(seeds),
    )


def rows(results: Sequence[EpisodeResult]) -> list[Row]:
    """For every split and ablation, in order of appearance: one row per task, then the one over all tasks."""
    table: list[Row] = []
    for split, ablated in dict.fromkeys((r.split, r.ablation) for r in results):
        group = [r for r in results if (r.split, r.ablation) == (split, ablated)]
        tasks = sorted({r.task for r in group})
        for task in tasks if len(tasks) > 1 else []:
            table.append(row([r for r in group if r.task == task], split, ablated, task))
        table.append(row(group, split, ablated, ALL if len(tasks) > 1 else tasks[0]))
    return table


def costs(results: Sequence[EpisodeResult]) -> list[Cost]:
    """What each ablation costs, paired with the same split's episodes of the same seeds without it."""
    plain = {(r.split, r.seed): r.success for r in results if not r.ablation}
    found: list[Cost] = []
    for name in dict.fromkeys(r.ablation for r in results if r.ablation):
        group = [r for r in results if r.ablation == name and (r.split, r.seed) in plain]
        if group:
            gap = paired_difference([plain[r.split, r.seed] for r in group], [r.success for r in group])
            found.append(Cost(name, len(group), gap.estimate, gap.low, gap.high))
    return found


def summarise(results: Sequence[EpisodeResult]) -> dict[str, Any]:
    """JSON types: `rows`, `costs`, and wall seconds of all episodes together."""
    return {
        "rows": [asdict(r) for r in rows(results)],
        "costs": [asdict(c) for c in costs(results)],
        "episode_seconds": sum(r.seconds for r in results),
        "episodes": len(results),
        "steps": sum(r.steps for r in results),
    }
