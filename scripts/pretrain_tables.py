"""Figures of understanding as one table: a row for each figure, a column for each split or run."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

WIDE = 240
"""Columns of the table in a file, more than it takes."""
_BOTH = (("image_to_text", "image → text"), ("text_to_image", "text → image"))


def show(figures: Mapping[str, Any], console: Console) -> None:
    """The figures of the splits of one run."""
    console.print(table(figures, "Pictures not trained on"))


def compare(runs: Mapping[str, Any], minutes: Mapping[str, float], out: Path, console: Console) -> None:
    """The main figures of several runs on one split; all of them kept in `out` as text and as a page.

    Args:
        runs: name → figures; minutes: name → time it was trained.
    """
    whole = table(runs, "Ablation")
    whole.add_section()
    whole.add_row("minutes", "", *(f"{minutes[name]:.1f}" for name in runs))
    page = Console(file=io.StringIO(), width=WIDE, record=True)
    page.print(whole)
    (out / "ablation.txt").write_text(page.export_text(clear=False), encoding="utf-8")
    page.save_html(str(out / "ablation.html"))
    main = _empty("Ablation", ("R@1 i→t", "R@1 t→i", "captions", "pointing", "answers", "minutes"))
    for name, found in runs.items():
        cells = [_recall(found, "contrast", direction) for direction, _ in _BOTH]
        cells += [found["captions"]["f1"], _pointed(found), found["answers"].get("mean")]
        main.add_row(name, *map(percent, cells), f"{minutes[name]:.1f}")
    console.print(main)
    console.print(f"all figures  {out / 'ablation.txt'}, {out / 'ablation.html'}", soft_wrap=True, markup=False)


def table(figures: Mapping[str, Any], title: str) -> Table:
    """Per cent, of answers with their 95 % intervals; the best guess that sees no picture beside them."""
    found = list(figures.values())
    made = _empty(title, ("best guess", *figures))
    chance = percent(1 / found[0]["pictures"])
    for direction, said in _BOTH:
        for ordering, how in _ORDERINGS.items():
            cells = [_recall(f, ordering, direction) for f in found]
            if any(cell is not None for cell in cells):
                made.add_row(how or f"R@1 {said}", chance, *map(percent, cells))
    made.add_row("captions, F1", "", *(percent(f["captions"]["f1"]) for f in found))
    made.add_row("pointing, within 0.1", "", *(percent(_pointed(f)) for f in found))
    made.add_section()
    for topic in sorted({topic for f in found for topic in f["intervals"]}):
        made.add_row(topic, percent(found[0]["prior"].get(topic)), *(_answered(f, topic) for f in found))
    means = (percent(f["answers"].get("mean")) for f in found)
    made.add_row("all topics", percent(found[0]["prior"].get("mean")), *means)
    return made


def percent(share: float | None) -> str:
    """ "95.4"; a dash where there is no figure."""
    return "–" if share is None else f"{100 * share:.1f}"


_ORDERINGS = {"contrast": "", "matching": "  by matching", "likelihood": "  by likelihood"}
"""What orders the candidates → how a row below says so."""


def _empty(title: str, columns: Iterable[str]) -> Table:
    made = Table(title=f"{title} [%]", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    made.add_column("", no_wrap=True)
    for name in columns:
        made.add_column(name, justify="right")
    return made


def _recall(found: Mapping[str, Any], ordering: str, direction: str) -> float | None:
    return found.get("retrieval", {}).get(ordering, {}).get(direction, {}).get("r1")


def _pointed(found: Mapping[str, Any]) -> float | None:
    return found.get("pointing", {}).get("within 0.1")


def _answered(found: Mapping[str, Any], topic: str) -> str:
    if topic not in found["intervals"]:
        return "–"
    _, low, high = found["intervals"][topic]
    return f"{percent(found['answers'][topic])} ({100 * low:.0f}–{100 * high:.0f})"
