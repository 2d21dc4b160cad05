"""Windows of episodes as training batches: pure index maths, then one copy into the batch.

A sample is one row (episode, t) of one dataset. Position p of the endless stream belongs to epoch p // N and takes
entry p % N of that epoch's permutation; batch k of rank r in a world of w covers the B positions from (k·w + r)·B.
So batch k is a pure function of the seed, every sample occurs once in every N positions, and ranks never overlap.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from ..vla.errors import DataError
from .frames import Frames, fill
from .layout import FRAME_BYTES
from .shards import Column
from .store import Dataset

Array = np.ndarray[Any, Any]
Batch = dict[str, Any]
_CACHE_SHARE = 0.25
_THREADED_BYTES = 64 << 10


class WindowSampler:
    """Batches of observation histories and action chunks from one or several datasets of one spec.

    A batch maps dotted paths to arrays:
        observation.images.<camera>  uint8 [B, h, w, 3], with `history` > 1 [B, n, h, w, 3], oldest first
        observation.state            float32 [B, S] or [B, n, S]; likewise depth, semantics, extras
        action                       float32 [B, H, A]: the actions at t, t+1, …; after the end the last one repeated
        action.is_pad                bool [B, H]: where it is such a repetition
        task                         list of B instructions
        index                        int64 [B], see `locate`
    History before an episode's first row repeats that row.

    Args:
        datasets: a dataset or several, whose specs must agree.
        chunk: H. history: n. batch_size: B.
        seed: of the permutations. shuffle: without it, rows come in order.
        images: whether cameras, depth and semantics are read at all.
        columns: the observation columns to read; all but the times where None.
        weights: how often each dataset is drawn; then draws are independent, with replacement, instead of epochs.
        rank, world: this process's share in data-parallel training.
        prefetch: batches made ahead by a thread while iterating; 0 makes them in the caller.
        threads: decoding threads per batch; None takes the machine's cores where frames are large enough to gain by it.
        cache: keep decoded frames in memory: True, False, or "auto": where all fit in a quarter of the memory.
    """

    def __init__(
        self,
        datasets: Dataset | Sequence[Dataset],
        *,
        chunk: int,
        batch_size: int,
        history: int = 1,
        seed: int = 0,
        shuffle: bool = True,
        images: bool = True,
        columns: Sequence[str] | None = None,
        weights: Sequence[float] | None = None,
        rank: int = 0,
        world: int = 1,
        prefetch: int = 2,
        threads: int | None = None,
        cache: bool | str = "auto",
    ) -> None:
        self.datasets = [datasets] if isinstance(datasets, Dataset) else list(datasets)
        _check(self.datasets, chunk=chunk, history=history, batch_size=batch_size, rank=rank, world=world)
        self.spec = self.datasets[0].spec
        self.chunk, self.history, self.batch_size = chunk, history, batch_size
        self.seed, self.shuffle, self.prefetch = seed, shuffle, prefetch
        self.rank, self.world = rank, world
        self.weights = _normalised(weights, len(self.datasets))
        self.columns = self._choose(columns, images)

        sizes = [d.frames for d in self.datasets]
        self._first_row = np.cumsum([0, *sizes])  # global index of each dataset's first row
        starts, ends, tasks = [], [], []
        for dataset, offset in zip(self.datasets, self._first_row, strict=False):
            bounds = np.concatenate([[0], dataset.episode_ends]) + offset
            starts.append(bounds[:-1])
            ends.append(bounds[1:])
            tasks += dataset.instructions
        self._starts, self._ends, self._tasks = np.concatenate(starts), np.concatenate(ends), tasks
        self._small = {
            path: np.concatenate([d.small(path) for d in self.datasets])
            for path in (*self.columns, "action")
            if not self._is_frames(path)
        }
        self._frames = {
            path: Frames([_column(d, path) for d in self.datasets]) for path in self.columns if self._is_frames(path)
        }
        if cache is True or (
            cache == "auto" and sum(f.nbytes for f in self._frames.values()) <= _memory() * _CACHE_SHARE
        ):
            for frames in self._frames.values():
                frames.keep()
        self.threads = _threads(self._frames.values()) if threads is None else threads
        self._pool = ThreadPoolExecutor(self.threads, "decode") if self.threads > 1 else None
        self._epoch: tuple[int, Array] = (-1, np.empty(0, np.int64))
        self._lock = threading.Lock()

    @property
    def samples(self) -> int:
        """N, the samples of an epoch."""
        return int(self._first_row[-1])

    def __len__(self) -> int:
        """Batches per rank that cover an epoch, rounded up; the last one reaches into the next epoch."""
        return -(-self.samples // (self.batch_size * self.world))

    def indices(self, k: int) -> Array:
        """int64 [B]: the global sample indices of batch `k`."""
        number = k * self.world + self.rank
        if self.weights is not None:
            rng = np.random.default_rng([self.seed, number])
            which = rng.choice(len(self.datasets), self.batch_size, p=self.weights)
            low, high = self._first_row[which], self._first_row[which + 1]
            return rng.integers(low, high)
        positions = np.arange(number * self.batch_size, (number + 1) * self.batch_size)
        epochs, places = np.divmod(positions, self.samples)
        if not self.shuffle:
            return places
        out = np.empty(self.batch_size, np.int64)
        for epoch in np.unique(epochs).tolist():
            mine = epochs == epoch
            out[mine] = self._permutation(epoch)[places[mine]]
        return out

    def batch(self, k: int) -> Batch:
        """Batch `k` of the stream."""
        return self.at(self.indices(k))

    def at(self, index: Array) -> Batch:
        """The batch of given global sample indices [B]."""
        episode = np.searchsorted(self._ends, index, "right")
        first, end = self._starts[episode], self._ends[episode]
        steps = index[:, None] + np.arange(self.chunk)
        last = (end - 1)[:, None]
        rows = np.maximum(index[:, None] + np.arange(1 - self.history, 1), first[:, None])
        batch: Batch = {}
        for path in self.columns:
            if path in self._frames:
                batch[path] = self._frames[path].buffer(rows.shape[:1] if self.history == 1 else rows.shape)
            else:
                batch[path] = self._small[path][rows[:, 0] if self.history == 1 else rows]
        wanted = [(frames, batch[path].reshape(-1, *frames.row_shape)) for path, frames in self._frames.items()]
        fill(wanted, rows.reshape(-1), self._pool, self.threads)
        batch["action"] = self._small["action"][np.minimum(steps, last)]
        batch["action.is_pad"] = steps > last
        batch["task"] = [self._tasks[e] for e in episode.tolist()]
        batch["index"] = index
        return batch

    def __iter__(self) -> Iterator[Batch]:
        return self.stream()

    def stream(self, start: int = 0, stop: int | None = None) -> Iterator[Batch]:
        """Batches `start`, `start + 1`, … without end, or up to `stop`; with `prefetch` made ahead in a thread."""
        if not self.prefetch:
            k = start
            while stop is None or k < stop:
                yield self.batch(k)
                k += 1
            return
        ready: queue.Queue[Batch | BaseException | None] = queue.Queue(self.prefetch)
        gone = threading.Event()

        def offer(item: Batch | BaseException | None) -> bool:
            while not gone.is_set():
                try:
                    ready.put(item, timeout=0.1)
                    return True
                except queue.Full:
                    continue
            return False

        def produce() -> None:
            k = start
            try:
                while stop is None or k < stop:
                    if not offer(self.batch(k)):
                        return
                    k += 1
                offer(None)
            except BaseException as error:
                offer(error)

        thread = threading.Thread(target=produce, name="window-prefetch", daemon=True)
        thread.start()
        try:
            while (item := ready.get()) is not None:
                if isinstance(item, BaseException):
                    raise item
                yield item
        finally:
            gone.set()
            thread.join()

    def locate(self, index: int) -> tuple[Path, int, int]:
        """The dataset, episode and row within it of a global sample index."""
        if not 0 <= index < self.samples:
            raise DataError("No such sample", expected=f"0 … {self.samples - 1}", got=str(index))
        which = int(np.searchsorted(self._first_row, index, "right")) - 1
        dataset = self.datasets[which]
        row = int(index - self._first_row[which])
        episode = int(np.searchsorted(dataset.episode_ends, row, "right"))
        return dataset.path, episode, row - dataset.span(episode)[0]

    def _permutation(self, epoch: int) -> Array:
        with self._lock:
            if self._epoch[0] != epoch:
                self._epoch = epoch, np.random.default_rng([self.seed, epoch]).permutation(self.samples)
            return self._epoch[1]

    def _choose(self, columns: Sequence[str] | None, images: bool) -> list[str]:
        exists = [
            p for p in self.spec.columns() if p.startswith("observation.") and not p.startswith("observation.times.")
        ]
        if columns is not None:
            for path in columns:
                if path not in exists:
                    raise DataError(f"There is no observation column '{path}'", exists=exists)
            return list(columns)
        pictures = ("observation.images.", "observation.depth.", "observation.semantics.")
        return [p for p in exists if images or not p.startswith(pictures)]

    def _is_frames(self, path: str) -> bool:
        column = self.datasets[0].columns[path]
        return column is not None and column.array.row_bytes >= FRAME_BYTES


def _threads(frames: Iterable[Frames]) -> int:
    """Decoding a large chunk leaves the interpreter free for so long that a second thread pays; copying does not."""
    layouts = [f.columns[0].array for f in frames]
    if not any(a.codec != "raw" and a.chunk_bytes >= _THREADED_BYTES for a in layouts):
        return 1
    return min(4, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


def _column(dataset: Dataset, path: str) -> Column:
    column = dataset.columns[path]
    assert column is not None
    return column


def _check(datasets: Sequence[Dataset], *, chunk: int, history: int, batch_size: int, rank: int, world: int) -> None:
    if not datasets:
        raise DataError("A sampler needs at least one dataset")
    for name, value in (("chunk", chunk), ("history", history), ("batch_size", batch_size), ("world", world)):
        if value < 1:
            raise DataError(f"{name} must be at least 1", got=str(value))
    if not 0 <= rank < world:
        raise DataError("rank is out of range", expected=f"0 … {world - 1}", got=str(rank))
    for dataset in datasets:
        datasets[0].spec.require_same(dataset.spec, f"dataset {datasets[0].path} → dataset {dataset.path}")
        if not len(dataset):
            raise DataError(f"{dataset.path} has no episodes", run="wayhand collect env=… out=PATH")


def _normalised(weights: Sequence[float] | None, n: int) -> Array | None:
    if weights is None:
        return None
    values = np.asarray(weights, np.float64)
    if values.shape != (n,) or not np.all(np.isfinite(values)) or np.any(values < 0) or not values.sum() > 0:
        raise DataError(
            "Mixture weights do not fit", expected=f"{n} non-negative numbers, not all zero", got=str(weights)
        )
    return values / values.sum()


def _memory() -> int:
    """Bytes of memory this process may count on: the machine's, or its container's limit."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
    except OSError:
        return total
    return min(total, int(limit)) if limit.isdigit() else total
