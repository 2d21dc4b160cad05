"""Making datasets out of datasets: merge and split. The result appears complete or not at all."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from ..vla.errors import DataError
from .layout import Layout
from .store import Dataset
from .writer import create

Progress = Callable[[], object]


def merge(
    sources: Sequence[Dataset],
    out: str | Path,
    *,
    layout: Layout | None = None,
    skip: Sequence[Iterable[int]] | None = None,
    progress: Progress = lambda: None,
) -> int:
    """Write all episodes of `sources`, in order, to a new dataset; returns how many.

    Args:
        layout: of the result; that of the first source where None. So this also re-codes a dataset.
        skip: per source, episodes to leave out (damaged ones).
        progress: called after each episode.

    Raises:
        SpecError: the specs disagree, listed by name.
        DataError: `out` exists.
    """
    if not sources:
        raise DataError("There is nothing to merge", expected="at least one dataset")
    for source in sources[1:]:
        sources[0].spec.require_same(source.spec, f"dataset {sources[0].path} → dataset {source.path}")
    left_out = [set(s) for s in skip] if skip is not None else [set[int]() for _ in sources]
    episodes = [(s, i) for s, no in zip(sources, left_out, strict=True) for i in range(len(s)) if i not in no]
    with whole(Path(out)) as folder:
        _copy(episodes, folder, layout or sources[0].layout, progress)
    return len(episodes)


def split(
    source: Dataset, out: str | Path, parts: Mapping[str, Sequence[int]], *, progress: Progress = lambda: None
) -> None:
    """Write `out/<name>` with the given episodes, in the given order, for every part."""
    for name in parts:
        if not re.fullmatch(r"[\w][\w.\-]*", name):
            raise DataError("A part's name must be a plain folder name", got=repr(name))
    with whole(Path(out)) as folder:
        folder.mkdir()
        for name, episodes in parts.items():
            _copy([(source, i) for i in episodes], folder / name, source.layout, progress)


def by_fraction(episodes: int, fraction: float, seed: int | None) -> dict[str, list[int]]:
    """`train` with a fraction of the episodes, rounded, and `held_out` with the rest; at random where a seed is given.

    Both keep the order of the source.
    """
    if not 0 < fraction < 1:
        raise DataError("The fraction is out of range", expected="between 0 and 1", got=str(fraction))
    order = np.arange(episodes) if seed is None else np.random.default_rng(seed).permutation(episodes)
    cut = min(max(round(fraction * episodes), 1), episodes - 1)
    return {"train": sorted(order[:cut].tolist()), "held_out": sorted(order[cut:].tolist())}


def by_task(source: Dataset) -> dict[str, list[int]]:
    """One part per `task` of the episodes' provenance, or per instruction where there is none."""
    parts: dict[str, list[int]] = {}
    for i in range(len(source)):
        task = str(source.provenance(i).get("task") or source.instructions[i])
        parts.setdefault(re.sub(r"[^\w.\-]+", "_", task).strip("._") or "task", []).append(i)
    return parts


@contextmanager
def whole(out: Path) -> Iterator[Path]:
    """A path to write to that takes the name `out` at the end, so that what has the name is complete.

    What an interrupted run left is removed first.
    """
    if out.exists():
        raise DataError(f"{out} exists already", expected="a new path")
    partial = out.with_name(f".{out.name}.partial")
    out.parent.mkdir(parents=True, exist_ok=True)
    if partial.exists():
        shutil.rmtree(partial)
    yield partial
    partial.rename(out)


def _copy(episodes: Iterable[tuple[Dataset, int]], folder: Path, layout: Layout, progress: Progress) -> None:
    chosen = list(episodes)
    if not chosen:
        raise DataError("A dataset of no episodes would be made", got=str(folder.name))
    options = layout.to_dict()
    with create(folder, chosen[0][0].spec, **options, durable=False) as writer:
        for source, i in chosen:
            writer.append(source.episode(i))
            progress()
