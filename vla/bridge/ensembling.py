"""Temporal ensembling of absolute targets or velocities (ACT, Zhao et al. 2023)."""

from __future__ import annotations

import numpy as np

from ..contract import ActionChunk

DECAY = 0.01
"""ACT's m: prediction i weighs exp(−m·i)."""
FRESH = -1.0
"""The same for velocities of a base. Those of an older chunk were chosen for where the base was meant to be by now, and
unlike targets do not lead there: the newest counts most."""


class TemporalEnsemble:
    """Averages what several chunks say about the same moment.

    The weight of prediction i is exp(−decay·i), i = 0 the oldest that speaks of the moment, normalised. Chunks are
    compared by the times of their actions, between which targets move linearly; a chunk says nothing about moments
    before its first or after its last action. Absolute targets may be averaged, and velocities, before they are
    integrated; increments that go on from different poses may not. Nothing here is executed late: what has passed when
    a chunk arrives is dropped by its time, as ever.

    Args:
        decay: m; 0 weighs all alike, more trusts the oldest more, less than 0 the newest.
    """

    def __init__(self, decay: float = DECAY) -> None:
        self._decay = decay
        self._chunks: list[ActionChunk] = []

    def reset(self) -> None:
        self._chunks.clear()

    def __call__(self, chunk: ActionChunk) -> ActionChunk:
        """`chunk` of absolute targets or velocities [H A] with its actions averaged with those of the chunks before it.

        A chunk that is not finite, of another width or with times that do not increase is passed on as it is and
        forgotten: judging is the gate's work.
        """
        if not _sound(chunk) or (self._chunks and self._chunks[-1].actions.shape[1] != chunk.actions.shape[1]):
            return chunk
        begins = chunk.times[0]
        self._chunks = [c for c in self._chunks if c.times[-1] >= begins - 1e-9]
        self._chunks.append(chunk)
        speaks = np.stack([(c.times[0] - 1e-9 <= chunk.times) & (chunk.times <= c.times[-1] + 1e-9)
                           for c in self._chunks])  # fmt: skip
        targets = np.stack([_at(c, chunk.times) for c in self._chunks])
        rank = np.cumsum(speaks, 0) - 1
        weights = np.where(speaks, np.exp(-self._decay * rank), 0.0)
        averaged = (weights[..., None] * targets).sum(0) / weights.sum(0)[:, None]
        return ActionChunk(averaged, chunk.times, chunk.observed_at)


def _sound(chunk: ActionChunk) -> bool:
    finite = np.isfinite(chunk.actions).all() and np.isfinite(chunk.times).all()
    return bool(len(chunk) and finite and (np.diff(chunk.times) > 0).all())


def _at(chunk: ActionChunk, times: np.ndarray) -> np.ndarray:
    """Targets [N A] at `times` [N], linear between the chunk's own."""
    return np.stack([np.interp(times, chunk.times, column) for column in chunk.actions.T], 1)
