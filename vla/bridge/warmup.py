"""What a policy is asked before it counts: the first answers of a process compile, allocate and load."""

from __future__ import annotations

import time

import numpy as np

from ..contract import ActionChunk, EnvSpec, Observation, Policy

TIMES = 2


def blank(spec: EnvSpec) -> Observation:
    """An observation of nothing: black images, zeros, no words, time 0."""
    columns = {k: np.zeros(v.shape, v.dtype) for k, v in spec.columns().items() if k.startswith("observation.")}
    return Observation.from_columns(columns, "")


def warm_up(policy: Policy, spec: EnvSpec, *, continues: bool = False) -> float:
    """Ask for chunks about nothing; the seconds that the last answer took.

    Args:
        continues: also ask for chunks that continue one, as real-time chunking does: guidance has code of its own.
    """
    memory, rng = policy.init(spec, [0]), [np.random.default_rng(0)]
    observation, before = blank(spec), None
    seconds = 0.0
    for _ in range(2 * TIMES if continues else TIMES):
        start = time.monotonic()
        chunks, memory, _ = policy.act([observation], memory, rng=rng, prefix=[before], delay=1 if before else 0)
        seconds = time.monotonic() - start
        before = _rest(chunks[0]) if continues else None
    return seconds


def _rest(chunk: ActionChunk) -> ActionChunk | None:
    """The chunk where it may be handed in as a prefix."""
    return chunk if len(chunk) and np.isfinite(chunk.actions).all() else None
