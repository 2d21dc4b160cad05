"""What a deployment came to: deploy.json and the table on the terminal."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..vla.bridge.session import Outcome
from ..vla.config import Config
from ..vla.errors import WayhandError
from ..vla.evaluation.statistics import wilson
from .deploy_config import DeployConfig


def save(cfg: DeployConfig, config: Config, result: Mapping[str, Any], console: Console) -> None:
    """Raises `WayhandError` where the disk does not take it: the run is over by then, and its table shown."""
    path = cfg.folder / "deploy.json"
    temporary = path.with_suffix(".json.partial")
    try:
        cfg.folder.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps({"config": config.to_dict(), **result}, indent=1), encoding="utf-8")
        os.replace(temporary, path)
    except OSError as error:
        got = f"{error.strerror}: {path}"
        raise WayhandError("The report cannot be written", got=got, run="deploy … out=ELSEWHERE") from None
    console.print(f"report {path}", soft_wrap=True)


def summary(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    judged = [o.success for o in outcomes if o.success is not None]
    wins = sum(judged)
    return {
        "episodes": len(outcomes),
        "judged": len(judged),
        "success": wins,
        "success_rate": wins / len(judged) if judged else None,
        "interval": list(wilson(wins, len(judged))),
        "outcomes": [asdict(o) for o in outcomes],
    }


def show(cfg: DeployConfig, console: Console, result: Mapping[str, Any]) -> None:
    loop = result["loop"]
    low, high = result["interval"]
    success = f"{result['success']}/{result['judged']}, 95 % interval {low:.1%} – {high:.1%}"
    starved = max(loop["held_ticks"] - loop["waiting_ticks"], 0)
    table = Table(title=f"deploy · {cfg.checkpoint} · {result['mode']}", show_header=False)
    rows = [
        ("success", success if result["judged"] else "unknown: nobody judges what a real robot does"),
        ("loop", f"{loop['rate_hz']:g} Hz, {loop['ticks']} ticks"),
        ("chunks", f"{loop['chunks']} executed, {loop['late_chunks']} late, {loop['rejected_chunks']} rejected"),
        ("limited", f"{loop['limited_ticks']} ticks"),
        ("without an action", f"{loop['waiting_ticks']} ticks before first chunks, {starved} between chunks"),
        ("stops", "; ".join(f"{loop['latches'].count(r)} × {r}" for r in dict.fromkeys(loop["latches"])) or "none"),
    ]
    if "paired" in result:
        d = result["paired"]
        rows.insert(
            1, ("minus evaluation", f"{d['estimate']:+.1%}, paired 95 % interval {d['low']:+.1%} … {d['high']:+.1%}")
        )
    if "lateness_us" in loop:
        steal = "" if loop["stolen_s"] is None else f" (the hypervisor kept {loop['stolen_s']:.2f} CPU s)"
        rows.insert(2, ("missed deadlines", f"{loop['missed_deadlines']}{steal}"))
        for key, name in (
            ("lateness_us", "lateness [µs]"),
            ("work_us", "work [µs]"),
            ("action_age_ms", "action age [ms]"),
        ):
            rows.append((name, " · ".join(f"{k} {v:.0f}" for k, v in loop[key].items())))
        rows.append(("seams [rad, m]", " · ".join(f"{k} {v:.3f}" for k, v in loop["seam"].items())))
    for name, value in rows:
        table.add_row(Text(name), Text(value))
    console.print(table)
    if starved > 0.05 * loop["ticks"]:
        console.print(
            "The robot often had no action: chunks end before the next one comes. "
            f"Plan more often, with execute below {cfg.execute}.",
            soft_wrap=True,
        )
