"""Rendered pairs in a cache, made by worker processes and reused when they are there."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..datasets.pairs import part_path, rewrite_texts, write_part
from ..envs.pairs.generate import HELD_OUT_SPLIT, UNSEEN_SPLIT, VALIDATION_SPLIT, WORDING, retell, stream
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
    "validation": Split(VALIDATION_SPLIT),
    "test": Split(HELD_OUT_SPLIT),
    "phrasing": Split(HELD_OUT_SPLIT, held_out_phrasing=True),
    "combination": Split(UNSEEN_SPLIT, unseen=True),
}
"""Training scenes; unseen scenes to choose settings by, and to report; those in held-out phrasings; scenes with unseen
combinations."""


@dataclass(frozen=True)
class _Job:
    root: str
    index: int
    split: Split
    size: int
    part: int

    @property
    def there(self) -> bool:
        return part_path(self.root, self.index).exists()


def render(root: Path, counts: Mapping[str, int], *, size: int, part: int, workers: int) -> Iterator[int]:
    """Make what is missing of `counts` {split: pairs} in `root`; yields how many pairs came with each part.

    Where the texts are of an older wording they are told anew first.

    Args:
        size: height and width in pixels; part: pairs in a part, the unit that is made and kept.
        workers: processes; one works here.

    Raises `DataError` where `root` holds pictures of another size.
    """
    root.mkdir(parents=True, exist_ok=True)
    jobs = [
        _Job(str(root / name), index, SPLITS[name], size, part)
        for name, count in counts.items()
        for index in range(-(-count // part))
    ]
    if not _agree(root / DESCRIPTION, _description(size, part)):
        # The pictures stay; of a part that is told anew twice nothing changes, so this may break off anywhere.
        old = [
            _Job(str(root / name), int(path.name.rpartition("-")[2]), split, size, part)
            for name, split in SPLITS.items()
            for path in sorted((root / name).glob("part-[0-9]*"))
        ]
        for _ in _all(_retell, old, workers):
            pass
        _describe(root / DESCRIPTION, _description(size, part))
    missing = [job for job in jobs if not job.there]
    yield part * (len(jobs) - len(missing))
    yield from _all(_make, missing, workers)


def _all(work: Callable[[_Job], int], jobs: Sequence[_Job], workers: int) -> Iterator[int]:
    if workers == 1 or len(jobs) < 2:
        yield from map(work, jobs)
        return
    # Fresh processes: a fork would inherit the parent's threads and OpenGL context.
    with multiprocessing.get_context("spawn").Pool(min(workers, len(jobs))) as pool:
        yield from pool.imap_unordered(work, jobs)


def _description(size: int, part: int) -> dict[str, Any]:
    splits = {name: asdict(split) for name, split in SPLITS.items()}
    return {"size": size, "part": part, "splits": splits, "wording": WORDING}


def _agree(path: Path, description: Mapping[str, Any]) -> bool:
    """Whether a folder's texts are today's; raises where its pictures are others."""
    if not path.exists():
        _describe(path, description)
        return True
    found: dict[str, Any] = json.loads(path.read_text())
    splits = found.get("splits", {})
    shared = {name: split for name, split in description["splits"].items() if name in splits}
    same = shared == splits and all(found.get(key) == description[key] for key in ("size", "part"))
    if not same:
        raise DataError(
            f"{path.parent} holds other pictures", expected=str(description), got=str(found), run="another folder"
        )
    return found == description


def _describe(path: Path, description: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(description, indent=1))


def _make(job: _Job) -> int:
    split, first = job.split, job.split.first + job.index * job.part
    pairs = stream(first, job.part, size=job.size, unseen=split.unseen, held_out_phrasing=split.held_out_phrasing)
    write_part(job.root, job.index, pairs, job.part)
    return job.part


def _retell(job: _Job) -> int:
    split = job.split
    rewrite_texts(
        job.root, job.index, lambda t: retell(t, unseen=split.unseen, held_out_phrasing=split.held_out_phrasing)
    )
    return job.part


def counts_from(train: int, held_out: int, measured: Sequence[str]) -> dict[str, int]:
    """Pairs of each split that a run needs."""
    return {"train": train} | {name: held_out for name in measured if name != "train"}


def whole_parts(counts: Mapping[str, int], part: int) -> dict[str, int]:
    """Pairs of each split, rounded up to whole parts: what `render` makes."""
    return {name: -(-count // part) * part for name, count in counts.items()}
