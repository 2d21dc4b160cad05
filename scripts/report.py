"""`wayhand report`: one self-contained page of what an output folder holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from ..vla.evaluation.report import find, write_report
from ..vla.evaluation.summary import ALL, Row
from .compose import load

HELP = """\
Usage: wayhand report out=DIR

Writes DIR/report.html, one page without outside parts: success with intervals, ablations, films, training curves
and deployment, from whatever DIR and its folders hold; and DIR/summary.png.

Examples:
  wayhand report out=runs/reach-eval
  wayhand report out=runs/demo        # evaluation, training and deployment side by side
"""


@dataclass(frozen=True, kw_only=True)
class ReportConfig:
    out: Path


def main(overrides: list[str]) -> int:
    cfg, _ = load("report", overrides, ReportConfig)
    path = write_report(cfg.out)
    console = Console()
    for evaluation in find(cfg.out).evaluations:
        console.print(success_table(evaluation.rows))
    console.print(f"report  {path.resolve()}", soft_wrap=True)
    if (cfg.out / "summary.png").exists():
        console.print(f"picture {(cfg.out / 'summary.png').resolve()}", soft_wrap=True)
    return 0


def success_table(table_rows: Sequence[Row]) -> Table:
    table = Table(title="Success, 95 % Wilson intervals", title_justify="left", box=SIMPLE)
    table.add_column("split · ablation", no_wrap=True)
    table.add_column("task", no_wrap=True)
    for name in ("success", "interval", "n", "chance"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in table_rows:
        numbers = (f"{row.rate:.1%}", f"{row.low:.1%} – {row.high:.1%}", str(row.n), f"{row.chance:.0%}")
        what = " · ".join(filter(None, (row.split, row.ablation)))
        table.add_row(what, row.task, *numbers, end_section=row.task == ALL)
    return table
