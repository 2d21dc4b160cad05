"""Rendered pairs in a cache, made by worker processes and reused when they are there."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from ..datasets.pairs import part_path, write_part
from ..envs.pairs.generate import HELD_OUT_SPLIT, UNSEEN_SPLIT, stream
from ..vla.errors import DataError

DESCRIPTION = "render.json"


@dataclass(frozen=True)
class Split:
    """Seeds from `first`; see `stream`."""

    first: int
    unseen: bool = False
    held_out_phrasing: bool = False


SPLITS: Mapping[str, Split] = {
    "train": Split(0),
    "test": Split(HELD_OUT_SPLIT),
    "phrasing": Split(HELD_OUT_SPLIT, held_out_phrasing=True),
    "combination": Split(UNSEEN_SPLIT, unseen=True),
}
"""Training scenes; unseen scenes; the same scenes in held-out phrasings; scenes with unseen combinations."""


@dataclass(frozen=True)
class _Job:
    root: str
    index: int
    split: Split
    size: int
    part: int


def render(root: Path, counts: Mapping[str, int], *, size: int, part: int, workers: int) -> Iterator[int]:
    """Make what is missing of `counts` {split: pairs} in `root`; yields how many pairs came with each part.

    Args:
        size: height and width in pixels; part: pairs in a part, the unit that is made and kept.
        workers: processes; one works here.

    Raises `DataError` where `root` holds pictures of another size.
    """
    root.mkdir(parents=True, exist_ok=True)
    description = {"size": size, "part": part, "splits": {name: asdict(split) for name, split in SPLITS.items()}}
    _agree(root / DESCRIPTION, description)
    jobs = [
        _Job(str(root / name), index, SPLITS[name], size, part)
        for name, count in counts.items()
        for index in range(-(-count // part))
    ]
    missing = [job for job in jobs if not part_path(job.root, job.index).exists()]
    yield part * (len(jobs) - len(missing))
    if workers == 1 or len(missing) < 2:
        yield from map(_make, missing)
        return
    # Fresh processes: a fork would inherit the parent's threads and OpenGL context.
    with multiprocessing.get_context("spawn").Pool(min(workers, len(missing))) as pool:
        yield from pool.imap_unordered(_make, missing)


def _agree(path: Path, description: Mapping[str, object]) -> None:
    if path.exists():
        found = json.loads(path.read_text())
        if found != description:
            raise DataError(
                f"{path.parent} holds other pictures", expected=str(description), got=str(found), run="another folder"
            )
        return
    path.write_text(json.dumps(description, indent=1))


def _make(job: _Job) -> int:
    split, first = job.split, job.split.first + job.index * job.part
    pairs = stream(first, job.part, size=job.size, unseen=split.unseen, held_out_phrasing=split.held_out_phrasing)
    write_part(job.root, job.index, pairs, job.part)
    return job.part


def counts_from(train: int, held_out: int) -> dict[str, int]:
    """Pairs of each split."""
    return {name: train if name == "train" else held_out for name in SPLITS}
