"""Splits of the benchmark as they lie on disk, and work on houses spread over processes."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from pathlib import Path
from threading import Thread
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ...datasets.formats import connectivity, r2r
from ...envs.house.house import House
from ...vla.errors import ConfigError
from ...vla.navigation import NavEpisode, ViewpointGraph

EVERY = 15.0
"""Seconds between lines where there is no terminal to draw a bar on."""
A = TypeVar("A")
B = TypeVar("B")


@dataclass(frozen=True)
class World:
    """The buildings and episodes of one split."""

    houses: dict[str, House]
    graphs: dict[str, ViewpointGraph]
    episodes: list[NavEpisode]


def world(folder: Path, split: str) -> World:
    """One split of a release of `wayhand bench nav`; raises `ConfigError` where it is not there."""
    path = folder / f"R2R_{split}.json"
    if not path.exists():
        raise ConfigError(
            f"{folder} does not hold the split '{split}'",
            expected=str(path),
            exists=[p.name for p in sorted(folder.glob("R2R_*.json"))],
            run=f"wayhand bench nav size=full baselines=false out={folder}",
        )
    episodes = r2r.load(path)
    scans = dict.fromkeys(e.scan for e in episodes)
    graphs = connectivity.load(folder / "connectivity")
    houses = {s: House.from_json((folder / "houses" / f"{s}.json").read_text(encoding="utf-8")) for s in scans}
    return World(houses, {s: graphs[s] for s in scans}, episodes)


Mapper = Callable[[Callable[[A], B], Iterable[A]], Iterator[B]]


@contextmanager
def pool(workers: int, start: Callable[..., None] | None = None, *given: Any) -> Iterator[Mapper[Any, Any]]:
    """A `map` over fresh processes (neither OpenGL nor torch survives a fork), one thread each; 0: in this process."""
    if not workers:
        if start is not None:
            start(*given)
        yield map
        return
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("LP_NUM_THREADS", "1")
    with ProcessPoolExecutor(workers, get_context("spawn"), _begin, (start, given)) as executor:
        try:
            yield executor.map
        except BaseException:
            executor.shutdown(wait=False, cancel_futures=True)
            raise


def _begin(start: Callable[..., None] | None, given: tuple[Any, ...]) -> None:
    """Prepare a worker, which ends with its parent, however that ends."""
    Thread(target=_follow, daemon=True).start()
    if start is not None:
        start(*given)


def _follow() -> None:
    parent = parent_process()
    assert parent is not None
    parent.join()
    # Nothing is left to report to, and an ordinary exit would wait for work in progress.
    os._exit(1)


def shown(items: Iterable[A], total: int, what: str, unit: str) -> Iterator[A]:
    """`items` as they come, with a bar that tells rate and time left."""
    console = Console()
    columns = (
        TextColumn(what),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=total, rate="")
        began = said = time.monotonic()
        for done, item in enumerate(items, 1):
            yield item
            now = time.monotonic()
            speed = done / max(now - began, 1e-9)
            bar.update(task, completed=done, rate=f"{speed:.1f} {unit}/s")
            if not console.is_terminal and (done == total or now - said >= EVERY):
                left = f"{(total - done) / speed:.0f} s left"
                console.print(f"{what}: {done}/{total} {unit}  {speed:.2f}/s  {left}", highlight=False)
                said = now
