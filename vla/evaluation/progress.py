"""What an evaluation shows while it runs: a bar per split and ablation with running success, speed and time left."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

from rich import progress
from rich.console import Console

from .records import EpisodeRequest, EpisodeResult

EVERY = 10.0
"""Without a terminal: seconds between lines."""


class Progress:
    """A context manager; call `update` with every new result.

    Args:
        requests: of the whole evaluation.
        done: results of an earlier run that are not computed again.

    Attributes:
        fresh: how many results came in this run.
    """

    def __init__(self, console: Console, requests: Sequence[EpisodeRequest], done: Iterable[EpisodeResult]) -> None:
        self._console = console
        self._bars = progress.Progress(
            progress.TextColumn("{task.description}"),
            progress.BarColumn(bar_width=24),
            progress.MofNCompleteColumn(),
            progress.TextColumn("{task.fields[note]}"),
            progress.TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._total = self._bars.add_task("evaluate", total=len(requests), note="")
        self._groups: dict[tuple[str, str], progress.TaskID] = {}
        self._seen: dict[tuple[str, str], list[int]] = {}
        for request in requests:
            group = _group(request)
            self._seen.setdefault(group, [0, 0, 0])[2] += 1
        for group, (_, _, total) in self._seen.items():
            self._groups[group] = self._bars.add_task("  " + " · ".join(filter(None, group)), total=total, note="")
        self._began = self._said = time.monotonic()
        self.fresh = self._old = 0
        wanted = {r.key for r in requests}
        for result in done:
            if result.request.key in wanted:
                self._old += 1
                self._count(result)

    def __enter__(self) -> Progress:
        self._bars.start()
        if self._old:
            self._console.print(f"Continuing: {self._old} episodes are done already.")
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def update(self, result: EpisodeResult) -> None:
        self.fresh += 1
        self._count(result)
        now = time.monotonic()
        speed = self.fresh / max(now - self._began, 1e-9)
        self._bars.update(self._total, note=f"{speed:.2f} episodes/s")
        if not self._console.is_terminal and now - self._said >= EVERY:
            total = sum(n for _, _, n in self._seen.values())
            left = (total - self._old - self.fresh) / speed
            good = ", ".join(f"{' '.join(filter(None, g))} {s}/{n}" for g, (s, n, _) in self._seen.items() if n)
            self._console.print(
                f"{self._old + self.fresh}/{total} episodes · {speed:.2f} episodes/s · {left:.0f} s left · {good}"
            )
            self._said = now

    def _count(self, result: EpisodeResult) -> None:
        group = _group(result)
        tally = self._seen[group]
        tally[0] += result.success
        tally[1] += 1
        self._bars.update(self._groups[group], completed=tally[1], note=f"success {tally[0] / tally[1]:.1%}")
        self._bars.advance(self._total)


def _group(episode: EpisodeRequest | EpisodeResult) -> tuple[str, str]:
    return str(episode.options.get("split", "")), episode.ablation
