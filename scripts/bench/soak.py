"""Memory and lateness of the whole bridge over a long run: robot, loop, watchdog, recorder, and the caller.

    python scripts/bench/soak.py [minutes=60] [rate_hz=500] [parts=12] [record=DIR] [out=soak.json]

The simulated arm stands still under a null policy, one scene after another; with record= every one is committed to a
data set. The run is cut into `parts`, and each has a row: quantiles of the loop's lateness [µs] over all its ticks,
missed periods, and the private memory [MiB] of every process at its end, between two scenes (what a leak makes grow:
proportional set size without the pages of files). What is left of a leak is the slope over the second half.

Beside it runs the floor: a process in the loop's scheduling class that does nothing but wake up at the loop's rate.
What makes it late is the machine; how often it was silent for so long that the watchdog would have stopped a driver is
told beside the stops, which are counted by reason.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from floor import floor, told
from rich.console import Console
from rich.table import Table

from wayhand.scripts.compose import load
from wayhand.scripts.deploy_config import DeployConfig, load_policy
from wayhand.scripts.robots import robot_of
from wayhand.vla.bridge.loop_link import Status
from wayhand.vla.bridge.planner import Planner
from wayhand.vla.bridge.process import LoopSettings
from wayhand.vla.bridge.realtime import stolen_seconds
from wayhand.vla.bridge.recorder import TICK_SLOTS, tick_layout
from wayhand.vla.bridge.session import Session
from wayhand.vla.bridge.shared import Ring


def private_mib(pid: int) -> float:
    """Memory of process `pid` that no file backs: private, dirty or swapped [MiB]."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    fields = dict(re.findall(r"^(\w+):\s+(\d+) kB", text, re.MULTILINE))
    return (int(fields["Private_Dirty"]) + int(fields.get("Swap", 0))) / 1024


def processes() -> dict[str, int]:
    """Names and pids of this process and its children, as `multiprocessing` named them."""
    mine = {p.name: p.pid for p in multiprocessing.active_children() if p.pid is not None}
    return {"caller": os.getpid(), **mine}


class Watcher:
    """Reads the loop's ticks while the episodes go by, and keeps one row for each part of the run."""

    def __init__(self, session: Session, seconds: float, parts: int, console: Console) -> None:
        self._ticks = Ring(tick_layout(session.spec.action_dim), TICK_SLOTS, session.names[1]["ticks"])
        self._count, self._lost = self._ticks.count, 0
        self._lateness: list[float] = []
        self._console, self._part = console, seconds / parts
        self._start = time.monotonic()
        self._missed = 0
        self._stolen = stolen_seconds() or 0.0
        self.rows: list[dict[str, Any]] = []

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self._start

    def look(self, _status: Status, _seconds: float) -> None:
        """Called between inferences, more often than the ring of ticks runs over."""
        records, count = self._ticks.since(self._count)
        self._lost += count - self._count - len(records)
        self._count = count
        self._lateness.extend(float(r["lateness"]) for r in records)

    def between(self, status: Status) -> None:
        """Called between two scenes, when no episode is in the recorder: a row where a part is over."""
        if self.elapsed < self._part * (len(self.rows) + 1) or not self._lateness:
            return
        quantiles = np.quantile(self._lateness, [0.5, 0.99, 0.999, 1.0]) * 1e6
        stolen = stolen_seconds() or 0.0
        row = {
            "minutes": round(self.elapsed / 60, 2),
            "ticks": len(self._lateness),
            **{name: round(float(q), 1) for name, q in zip(("p50", "p99", "p99.9", "max"), quantiles, strict=True)},
            "missed": status.missed - self._missed,
            "stolen_s": round(stolen - self._stolen, 2),
            "private_mib": {name: round(private_mib(pid), 2) for name, pid in processes().items()},
        }
        self._missed, self._stolen = status.missed, stolen
        self._lateness = []
        self.rows.append(row)
        self._console.print(json.dumps(row), soft_wrap=True)

    def report(self) -> dict[str, Any]:
        self._ticks.close()
        half = self.rows[len(self.rows) // 2 :]
        hours = [r["minutes"] / 60 for r in half]
        names = half[0]["private_mib"] if half else {}
        growth = {
            name: round(float(np.polyfit(hours, [r["private_mib"][name] for r in half], 1)[0]), 2)
            for name in names
            if len(half) > 1
        }
        return {"parts": self.rows, "ticks_not_seen": self._lost, "growth_mib_per_hour_in_second_half": growth}


def main(options: dict[str, str]) -> None:
    minutes, parts = float(options.get("minutes", 60)), int(options.get("parts", 12))
    console = Console(width=140)  # fourteen columns
    overrides = ["checkpoint=none", "env=tabletop/reach", f"rate_hz={options.get('rate_hz', '500')}"]
    overrides += [f"record={options['record']}"] if "record" in options else []
    cfg, _ = load("deploy", overrides, DeployConfig)
    factory = robot_of(cfg.robot, cfg.env)
    spec = factory.policy_spec()
    settings: LoopSettings = cfg.settings(factory)
    with (
        floor(settings.rate_hz, settings.priority) as idle,
        Session(factory=factory, settings=settings, sink=cfg.sink, provenance={"run": "soak"}) as session,
    ):
        if session.warning:
            console.print(session.warning)
        policy = load_policy(cfg, spec, factory)
        planner = Planner(policy=policy, spec=spec, targets=factory.targets(policy.spec, session.spec))
        watcher = Watcher(session, minutes * 60, parts, console)
        outcomes = []
        for episode in cfg.planned(100_000):
            outcomes.append(session.run(episode, planner, watcher.look))
            watcher.between(session.status)
            if len(watcher.rows) >= parts:
                break
        report = {**watcher.report(), "loop": session.finish(), "episodes": len(outcomes)}
        report["stops"] = Counter(re.sub(r"[\d.]+", "…", o.reason) for o in outcomes if o.reason)
        report |= {"recorded": session.recorded, "recording_warning": session.recording_warning}
    report["floor"] = idle
    show(console, report)
    if "out" in options:
        Path(options["out"]).write_text(json.dumps(report, indent=1), encoding="utf-8")


def show(console: Console, report: dict[str, Any]) -> None:
    table = Table(title="lateness in µs, private memory in MiB")
    names = list(report["parts"][0]["private_mib"]) if report["parts"] else []
    columns = ["minutes", "ticks", "p50", "p99", "p99.9", "max", "missed", "stolen_s"]
    for name in [*columns, *names]:
        table.add_column(name, justify="right")
    for row in report["parts"]:
        table.add_row(*(str(row[c]) for c in columns), *(f"{row['private_mib'].get(n, 0):.1f}" for n in names))
    console.print(table)
    console.print(f"growth [MiB/h], second half: {report['growth_mib_per_hour_in_second_half']}")
    console.print(f"{report['episodes']} episodes, {report['recorded']} recorded; {report['recording_warning']}")
    for reason, count in report["stops"].most_common():
        console.print(f"{count:5d} stopped: {reason}")
    console.print(told(report["floor"]), soft_wrap=True)


if __name__ == "__main__":
    main(dict(a.split("=", 1) for a in sys.argv[1:]))
