"""`wayhand report`: one self-contained page of what an output folder holds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from ..vla.evaluation.report import write_report
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
    console.print(f"report  {path.resolve()}", soft_wrap=True)
    if (cfg.out / "summary.png").exists():
        console.print(f"picture {(cfg.out / 'summary.png').resolve()}", soft_wrap=True)
    return 0
