"""Interactive imitation: the learner acts, the expert says what it would have done, the learner learns from that.

DAgger (Ross et al. 2011) in its online form, which navigation calls student forcing (Anderson et al. 2018) and DUET's
pseudo-interactive demonstrator (Chen et al. 2022): each step rolls out fresh episodes with the present weights and
learns from exactly those, so that memory stays fixed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from .. import checkpoint
from ..contract import EnvSpec
from ..normalize import NormStats
from .batch import Batch, to_tensors
from .loop import Progress, Settings, fit


class Practice(Protocol):
    """B episodes at a time, with an expert beside them. Observations are columns [B …] and `task`."""

    @property
    def max_steps(self) -> int:
        """Actions an episode may take."""
        ...

    def begin(self, k: int) -> dict[str, Any]:
        """Start batch k, a pure function of k; its observations."""
        ...

    def expert(self) -> np.ndarray:
        """int64 [B]: what the expert would do now; 0 ends an episode."""
        ...

    def left(self) -> np.ndarray:
        """float32 [B]: the share of the way that is left."""
        ...

    def step(self, action: np.ndarray) -> dict[str, Any]:
        """Act [B] and observe."""
        ...


class Recollection(Protocol):
    """The memory of B episodes."""

    def rows(self, index: Tensor) -> Any:
        """The memory of some of them."""
        ...


class Student(Protocol):
    """A policy (a torch module) that chooses among candidates with an explicit memory, a `Recollection`."""

    spec: EnvSpec
    stats: NormStats

    def begin(self, batch: Batch) -> Recollection: ...
    def decide(self, batch: Batch, memory: Any) -> Tensor: ...
    def remember(self, batch: Batch, memory: Any, action: Tensor) -> Recollection: ...
    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Any]]: ...


def rollout(policy: Student, practice: Practice, k: int, teacher: float, seed: int) -> Batch:
    """Episodes of batch k as one flat batch of decisions [M …], sorted by episode and step.

    A share `teacher` of the episodes follows the expert; the others sample the learner's choice, which may stop only
    where the expert would: one that would stop too early goes on, and one that misses the end has to come back.
    """
    rng = np.random.default_rng([seed, k])
    observed = practice.begin(k)
    count = len(observed["task"])
    led = rng.random(count) < teacher
    alive, pupils = np.arange(count), np.flatnonzero(~led)
    rows: list[dict[str, Any]] = []
    with torch.no_grad():
        seen = _rows(observed, pupils)
        memory = policy.begin(seen) if len(pupils) else None
        for step in range(practice.max_steps):
            expert, uniform = practice.expert(), rng.random(count)
            action = np.zeros(count, np.int64)
            action[alive] = expert[alive]
            if len(pupils):
                scores = policy.decide(seen, memory).double()
                scores[torch.from_numpy(expert[pupils] != 0), 0] = float("-inf")
                action[pupils] = _sample(scores, uniform[pupils])
            kept = {path: values[alive] for path, values in observed.items() if path != "task"}
            kept |= {"owner": alive, "step": np.full(len(alive), step), "left": practice.left()[alive]}
            rows.append({**kept, "action": action[alive], "expert": expert[alive]})
            going = np.flatnonzero(action[pupils] != 0)
            alive = alive[action[alive] != 0]
            if not len(alive) or step == practice.max_steps - 1:
                break
            if len(pupils):
                memory = policy.remember(seen, memory, torch.from_numpy(action[pupils])).rows(torch.from_numpy(going))
                pupils = pupils[going]
            observed = practice.step(action)
            seen = _rows(observed, pupils)
    return {**_sorted(rows), "task": observed["task"]}


def _rows(observed: Mapping[str, Any], index: np.ndarray) -> Batch:
    return to_tensors({k: [v[i] for i in index] if k == "task" else v[index] for k, v in observed.items()})


def _sample(scores: Tensor, uniform: np.ndarray) -> np.ndarray:
    """int64 [B]: one draw per row from softmax(scores)."""
    edges = scores.softmax(-1).numpy().cumsum(-1)
    drawn = (edges <= uniform[:, None] * edges[:, -1:]).sum(-1)
    return np.minimum(drawn, (edges < edges[:, -1:]).sum(-1))


def _sorted(rows: Sequence[Mapping[str, np.ndarray]]) -> Batch:
    """The decisions of all steps, by episode and step."""
    whole = {path: np.concatenate([r[path] for r in rows]) for path in rows[0]}
    order = np.lexsort((whole["step"], whole["owner"]))
    return to_tensors({path: values[order] for path, values in whole.items()})


def train(
    policy: Any,
    practice: Practice,
    settings: Settings,
    out: str | Path,
    *,
    teacher: tuple[float, float] = (1.0, 0.25),
    recipe: Mapping[str, Any],
    config: Mapping[str, Any],
    resume: checkpoint.Checkpoint | None = None,
) -> Progress:
    """Train `policy` (a module and a `Student`) in place; see `fit` for what goes to `out` and for errors.

    Args:
        teacher: share of episodes that follow the expert, at the start and from half of the run on.
    """

    def draw(k: int, share: float) -> Batch:
        high, low = teacher
        policy.eval()
        batch = rollout(policy, practice, k, high + (low - high) * min(2 * share, 1.0), settings.seed)
        policy.train()
        return batch

    embodiment = policy.spec.embodiment
    return fit(
        policy,
        draw,
        settings,
        out,
        recipe=recipe,
        config=config,
        specs={embodiment: policy.spec},
        statistics={embodiment: policy.stats},
        resume=resume,
    )
