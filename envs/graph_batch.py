"""Many agents on graphs at once, for imitation, with the observations of `GraphNavigation`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..vla.contract import EnvSpec
from ..vla.errors import ConfigError
from ..vla.navigation import Instruction, NavEpisode, ViewpointGraph
from .atlas import VIEWS, Atlas
from .graph import Blind, Features, goals_of, graph_body

MIRRORED = np.arange(VIEWS) // 12 * 12 + -np.arange(VIEWS) % 12
"""The view that shows, in a building mirrored from east to west, what each view shows in the original."""


class GraphBatch:
    """B episodes in step; batch k holds the same episodes whatever was asked before.

    Args:
        graphs, features, candidates: as for `GraphNavigation`.
        episodes: every instruction of them is an episode.
        batch_size: B.
        max_steps: hops per episode, the expert's stop not counted.
        seed: of the order of the episodes, which is another one in each epoch.
        mirror: int [D], which feature of the mirrored view each feature is; with it, half of the episodes happen in
            the mirrored building, told in mirrored words. None: none do.
        reword: exchanges left and right in an instruction.
        numbers: what the features are kept as in memory.

    Raises `ConfigError` without episodes.
    """

    def __init__(
        self,
        *,
        graphs: Mapping[str, ViewpointGraph],
        episodes: Sequence[NavEpisode],
        features: Features | None = None,
        batch_size: int = 64,
        candidates: int = 24,
        max_steps: int = 12,
        seed: int = 0,
        mirror: np.ndarray | None = None,
        reword: Callable[[str], str] = lambda text: text,
        numbers: str = "float16",
    ) -> None:
        items = [(e, i) for e in episodes for i in (e.instructions or (Instruction(e.id, ""),))]
        if not items:
            raise ConfigError("A batch of agents needs at least one episode", got="none")
        features = features or Blind()
        scans = {e.scan for e, _ in items}
        self.atlas = Atlas({scan: graph for scan, graph in graphs.items() if scan in scans}, candidates)
        self.spec: EnvSpec = graph_body(features=features.width, candidates=candidates)
        self.batch_size, self.max_steps, self._seed = batch_size, max_steps, seed
        self._mirror, self._reword = mirror, reword
        self._views = np.empty((len(self.atlas), 36, features.width), np.dtype(numbers))
        for row, name in enumerate(self.atlas.names):
            self._views[row] = features(*name)
        self._texts = [i.text for _, i in items]
        self._starts = np.array([self.atlas.row(e.scan, e.path[0]) for e, _ in items], np.int32)
        self._first_headings = np.array([e.heading for e, _ in items])
        goals = [[self.atlas.row(e.scan, v) for v in goals_of(e)] for e, _ in items]
        self._all_goals = np.full((len(items), max(map(len, goals))), -1, np.int32)
        for row, found in zip(self._all_goals, goals, strict=True):
            row[: len(found)] = found

    def __len__(self) -> int:
        """Episodes, one per instruction."""
        return len(self._texts)

    def statistics(self) -> dict[str, np.ndarray]:
        """Mean, deviation and extremes [D] of the features over all views, as `NormStats` wants them."""
        flat = self._views.reshape(-1, self._views.shape[-1]).astype(np.float32)
        low, high = np.quantile(flat[:: max(len(flat) // 20000, 1)], [0.01, 0.99], axis=0)
        extremes = {"min": flat.min(0), "max": flat.max(0), "q01": low, "q99": high}
        return {"mean": flat.mean(0), "std": flat.std(0), **extremes}

    def begin(self, k: int) -> dict[str, Any]:
        """Start batch k; returns its observations, columns [B …] and `task`."""
        chosen = self._episodes(k)
        self._rows, self._headings = self._starts[chosen].copy(), self._first_headings[chosen].copy()
        self._goals = self._all_goals[chosen]
        fair = np.random.default_rng([self._seed, k, 1]).random(len(chosen)) < 0.5
        self._flipped = fair & (self._mirror is not None)
        pairs = zip(chosen.tolist(), self._flipped.tolist(), strict=True)
        self._told = [self._reword(self._texts[i]) if flipped else self._texts[i] for i, flipped in pairs]
        self._whole = np.maximum(self.atlas.distance(self._rows, self._goals), 1e-6)
        return self._observe()

    def _episodes(self, k: int) -> np.ndarray:
        """Which episodes batch k holds: permutations, one an epoch, cut into batches."""
        n, first = len(self), k * self.batch_size
        places = np.arange(first, first + self.batch_size)
        orders = {e: np.random.default_rng([self._seed, e]).permutation(n) for e in np.unique(places // n).tolist()}
        return np.array([orders[p // n][p % n] for p in places.tolist()])

    def expert(self) -> np.ndarray:
        """int64 [B]: the candidate on a shortest path to the goal; 0, stop, at the goal."""
        follow = self.atlas.next_row(self._rows, self._goals)
        return (self._seen.row == follow[:, None]).argmax(1)

    def left(self) -> np.ndarray:
        """float32 [B]: remaining distance as a share of the first."""
        return (self.atlas.distance(self._rows, self._goals) / self._whole).astype(np.float32)

    def step(self, action: np.ndarray) -> dict[str, Any]:
        """Hop to candidates [B]; 0 stays. Returns the observations."""
        agent = np.arange(len(action))
        self._headings = (self._headings + self._seen.heading[agent, action]) % (2 * np.pi)
        self._rows = self._seen.row[agent, action]
        return self._observe()

    def _observe(self) -> dict[str, Any]:
        b = len(self._rows)
        seen = self._seen = self.atlas.look(self._rows, self._headings, np.zeros(b))
        gaze = np.stack([self._headings, np.zeros(b)], -1)
        state = np.concatenate([self.atlas.positions[self._rows], gaze], -1).astype(np.float32)
        views, angles, shown = self._views[self._rows].astype(np.float32), seen.angles.astype(np.float32), seen.view
        if self._mirror is not None:
            flip = self._flipped
            views[flip] = views[flip][:, MIRRORED][:, :, self._mirror]
            shown = np.where(flip[:, None] & seen.mask & (np.arange(seen.mask.shape[1]) > 0), MIRRORED[shown], shown)
            angles[flip, :, 0] *= -1
            state[flip, 0] *= -1
            state[flip, 3] = -state[flip, 3] % np.float32(2 * np.pi)
        return {
            "observation.state": state,
            "observation.extras.panorama": views,
            "observation.extras.candidate_mask": seen.mask,
            "observation.extras.candidate_id": np.where(seen.mask, self.atlas.local(seen.row), -1).astype(np.int32),
            "observation.extras.candidate_view": shown.astype(np.int32),
            "observation.extras.candidate_angles": angles,
            "observation.extras.candidate_distance": seen.distance,
            "task": self._told,
        }
