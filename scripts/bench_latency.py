"""`wayhand bench latency`: what a policy loses by the time its answers take, by the way chunks are joined."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from rich.console import Console
from rich.table import Table

from ..vla.bridge.planner import Chunking, Planner
from ..vla.bridge.process import LoopSettings
from ..vla.bridge.session import Episode
from ..vla.bridge.virtual import run_virtual
from ..vla.config import Config
from ..vla.errors import ConfigError
from ..vla.evaluation.protocols import TABLETOP_V1 as PROTOCOL
from ..vla.evaluation.records import RESULTS, read_results
from ..vla.evaluation.statistics import bootstrap_mean, paired_difference, wilson
from .compose import load
from .latency_picture import picture
from .robots import FileRobot, Simulated, oracle_of, robot_of

HELP = """\
Usage: wayhand bench latency checkpoint=RUN env=ENV out=DIR [key=value …]

Drives the simulated arm or base in virtual time with answers that are late by 0 … 400 ms, in every way of joining
chunks, on the same seeds: success with 95 % intervals, and the paired difference to the same mode without latency. The
result does not depend on the machine or its load. The same command continues after an interruption.

Examples:
  wayhand train policy=flow policy.longest_delay=8 data=runs/pick out=runs/pick-flow
  wayhand bench latency checkpoint=runs/pick-flow env=tabletop/pick episodes=200 out=runs/pick-latency
  wayhand bench latency checkpoint=runs/pick-flow 'modes=[latest,rtc_trained]' 'latencies_ms=[0,200]' out=runs/quick
  wayhand bench latency checkpoint=oracle robot=simulated_base env=house/drive 'modes=[latest,ensemble]' out=runs/base
  wayhand bench latency checkpoint=runs/drive-flow robot=simulated_base env=house/drive execute=2 rate_hz=50 \\
      out=runs/drive-latency
"""

Guidance = Literal["exact", "identity", "trained"]
MODES: Mapping[str, tuple[Chunking, Guidance | None]] = {
    "synchronous": ("synchronous", None),
    "latest": ("latest", None),
    "ensemble": ("ensemble", None),
    "rtc_exact": ("rtc", "exact"),
    "rtc_identity": ("rtc", "identity"),
    "rtc_trained": ("rtc", "trained"),
}
EPISODES = "episodes.jsonl"


@dataclass(frozen=True, kw_only=True)
class LatencyConfig:
    env: Config
    robot: Config
    checkpoint: str
    out: Path
    modes: list[str]
    latencies_ms: list[float]
    episodes: int
    baseline: Path | None
    seed: int
    split: str
    rate_hz: float
    execute: int
    guidance_limit: float | None

    def __post_init__(self) -> None:
        unknown = [m for m in self.modes if m not in MODES]
        if unknown or not self.modes:
            raise ConfigError("Unknown mode", got=", ".join(unknown) or "none", exists=MODES)
        if not self.latencies_ms or min(self.latencies_ms) < 0:
            raise ConfigError("'latencies_ms' needs numbers from 0 on", got=str(self.latencies_ms))
        for name in ("episodes", "execute"):
            if getattr(self, name) < 1:
                raise ConfigError(f"'{name}' is too small", expected="at least 1", got=str(getattr(self, name)))

    @property
    def cells(self) -> list[tuple[str, float]]:
        return [(mode, latency) for mode in self.modes for latency in self.latencies_ms]

    def identity(self) -> dict[str, Any]:
        """What all rows of one file share; JSON types."""
        return {
            "checkpoint": self.checkpoint,
            "env": self.env.to_dict(),
            "robot": self.robot.to_dict(),
            "rate_hz": self.rate_hz,
            "execute": self.execute,
            "split": self.split,
        } | ({} if self.guidance_limit is None else {"guidance_limit": self.guidance_limit})


def main(overrides: list[str]) -> int:
    cfg, config = load("bench_latency", overrides, LatencyConfig)
    console = Console()
    cfg.out.mkdir(parents=True, exist_ok=True)
    rows = recorded(cfg)
    bench = Bench(cfg)
    with closing(bench), (cfg.out / EPISODES).open("a", encoding="utf-8") as file:
        for row in bench.run(rows):
            file.write(json.dumps(row) + "\n")
            file.flush()
            rows.append(row)
            if len(rows) % 50 == 0:
                console.print(f"{len(rows)}/{len(cfg.cells) * cfg.episodes} episodes")
    cells = [figures(cfg, rows, *cell) for cell in cfg.cells]
    result = {"config": config.to_dict(), "cells": cells}
    if cfg.baseline is not None:
        result["baseline"] = compared(cfg, rows)
    (cfg.out / "latency.json").write_text(json.dumps(result, indent=1), encoding="utf-8")
    picture(cells, f"{Path(cfg.checkpoint).name}, {cfg.episodes} paired seeds a cell").save(cfg.out / "latency.png")
    show(console, cfg, result)
    return 0


class Bench:
    """One robot and one policy in virtual time, which every cell shares."""

    def __init__(self, cfg: LatencyConfig) -> None:
        factory = robot_of(cfg.robot, cfg.env)
        if isinstance(factory, FileRobot):
            raise ConfigError("The benchmark runs in virtual time, where no real robot is", run="robot=simulated")
        self._cfg, self._factory, self._body = cfg, factory, factory()
        self._spec = factory.policy_spec()
        self._policy, self._flow = _policy(cfg, factory)
        self._settings = LoopSettings(rate_hz=cfg.rate_hz, guards=factory.guards, plausibility=factory.plausibility)

    def run(self, done: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
        """The episodes that are not `done`: every cell on a seed before the next seed, so that what there is, pairs."""
        cfg = self._cfg
        have = {(r["mode"], r["latency_ms"], r["seed"]) for r in done}
        for request in PROTOCOL.requests(cfg.split, cfg.episodes, base=cfg.seed, tasks=cfg.env.get("tasks", ())):
            for mode, latency in cfg.cells:
                if (mode, latency, request.seed) not in have:
                    yield self._episode(
                        mode, latency, Episode(request.seed, request.options, cfg.execute, latency / 1e3)
                    )

    def _episode(self, mode: str, latency: float, episode: Episode) -> dict[str, Any]:
        chunking, guidance = MODES[mode]
        if guidance is not None and self._flow is not None:
            self._flow.continue_by(guidance, self._cfg.guidance_limit)
        targets = self._factory.targets(self._policy.spec, self._body.spec)
        planner = Planner(policy=self._policy, spec=self._spec, targets=targets, chunking=chunking)
        outcome, loop = run_virtual(episode, self._body, planner, self._settings)
        report = loop.report()
        return {
            "mode": mode,
            "latency_ms": latency,
            "seed": episode.seed,
            "success": bool(outcome.success),
            "seconds": outcome.seconds,
            "reason": outcome.reason,
            "seam": report["seam"]["max"],
            "limited_ticks": report["limited_ticks"],
            "starved_ticks": max(report["held_ticks"] - report["waiting_ticks"], 0),
        }

    def close(self) -> None:
        self._body.close()


class _Guided(Protocol):
    """A policy whose way of continuing a chunk can be chosen."""

    def continue_by(self, guidance: Guidance, limit: float | None) -> None: ...


def _policy(cfg: LatencyConfig, factory: Simulated) -> tuple[Any, _Guided | None]:
    """What `checkpoint` names, and the same where real-time chunking can be told how."""
    if cfg.checkpoint == "oracle":
        policy, guided = oracle_of(factory, cfg.split), None
    else:
        import torch

        from ..policies.expert_flow import ExpertFlowPolicy
        from ..policies.flow import FlowPolicy
        from ..vla.learning.policy import TorchPolicy

        torch.set_num_threads(1)
        policy = TorchPolicy.from_checkpoint(cfg.checkpoint)
        guided = policy if isinstance(policy, FlowPolicy | ExpertFlowPolicy) else None
    if guided is None and any(MODES[m][0] == "rtc" for m in cfg.modes):
        raise ConfigError(
            "Real-time chunking is compared on a policy that denoises its chunks",
            expected="one such as policy=flow",
            got=type(policy).__name__,
            run="modes=[synchronous,latest,ensemble]",
        )
    return policy, guided


def recorded(cfg: LatencyConfig) -> list[dict[str, Any]]:
    """The episodes that an earlier run left; its file begins with what they share."""
    path = cfg.out / EPISODES
    if not path.exists():
        path.write_text(json.dumps(cfg.identity()) + "\n", encoding="utf-8")
    lines = path.read_text(encoding="utf-8").splitlines()
    head = json.loads(lines[0])
    identity = cfg.identity()
    if changed := sorted(k for k in identity.keys() | head.keys() if head.get(k) != identity.get(k)):
        raise ConfigError(
            f"{path} holds episodes with another {', '.join(changed)}", run="choose another out=DIR, or remove the file"
        )
    whole = lines[1:] if not lines[1:] or lines[-1].endswith("}") else lines[1:-1]
    if len(whole) < len(lines) - 1:  # an interruption in the middle of a line
        path.write_text("\n".join([lines[0], *whole]) + "\n", encoding="utf-8")
    return [json.loads(line) for line in whole]


def picked(cfg: LatencyConfig, rows: Sequence[Mapping[str, Any]], mode: str, latency: float) -> list[Mapping[str, Any]]:
    """The rows of one cell, by seed."""
    first = PROTOCOL.first_seed(cfg.split, cfg.seed)
    seeds = range(first, first + cfg.episodes)
    of_cell = {r["seed"]: r for r in rows if (r["mode"], r["latency_ms"]) == (mode, latency)}
    return [of_cell[s] for s in seeds]


def figures(cfg: LatencyConfig, rows: Sequence[Mapping[str, Any]], mode: str, latency: float) -> dict[str, Any]:
    """What one cell comes to; JSON types."""
    cell = picked(cfg, rows, mode, latency)
    wins = sum(r["success"] for r in cell)
    best = picked(cfg, rows, mode, min(cfg.latencies_ms))
    lost = paired_difference([r["success"] for r in cell], [r["success"] for r in best])
    seconds = [r["seconds"] for r in cell if r["success"]]
    return {
        "mode": mode,
        "latency_ms": latency,
        "episodes": len(cell),
        "success": wins,
        "rate": wins / len(cell),
        "interval": wilson(wins, len(cell)),
        "minus_least_latency": asdict(lost),
        "seconds_to_success": [sum(seconds) / len(seconds), *bootstrap_mean(seconds)] if seconds else None,
        "seam": sum(r["seam"] for r in cell) / len(cell),
        "limited_ticks": sum(r["limited_ticks"] for r in cell) / len(cell),
        "starved_ticks": sum(r["starved_ticks"] for r in cell) / len(cell),
        "stops": sum(bool(r["reason"]) for r in cell),
    }


def compared(cfg: LatencyConfig, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The cells of least latency against an evaluation of the same seeds, paired."""
    assert cfg.baseline is not None
    _, results = read_results(cfg.baseline / RESULTS)
    theirs = {r.seed: r.success for r in results if not r.ablation and r.split == cfg.split}
    out: dict[str, Any] = {"folder": str(cfg.baseline)}
    for mode in cfg.modes:
        cell = [r for r in picked(cfg, rows, mode, min(cfg.latencies_ms)) if r["seed"] in theirs]
        if not cell:
            raise ConfigError("The baseline holds none of these seeds", got=str(cfg.baseline))
        ours, reference = [r["success"] for r in cell], [theirs[r["seed"]] for r in cell]
        out[mode] = {"episodes": len(cell), "baseline_success": sum(reference), "success": sum(ours)} | asdict(
            paired_difference(ours, reference)
        )
    return out


def show(console: Console, cfg: LatencyConfig, result: Mapping[str, Any]) -> None:
    table = Table(title=f"success by latency, {cfg.episodes} paired seeds a cell, 95 % intervals")
    table.add_column("mode")
    for latency in cfg.latencies_ms:
        table.add_column(f"{latency:g} ms", justify="right")
    cells = {(c["mode"], c["latency_ms"]): c for c in result["cells"]}
    for mode in cfg.modes:
        row = [cells[mode, latency] for latency in cfg.latencies_ms]
        table.add_row(mode, *(f"{c['rate']:.1%}\n{c['interval'][0]:.0%}–{c['interval'][1]:.0%}" for c in row))
        seconds = [f"{c['seconds_to_success'][0]:.2f} s" if c["seconds_to_success"] else "–" for c in row]
        table.add_row("", *seconds, style="dim")
    console.print(table)
    for mode, d in result.get("baseline", {}).items():
        if mode != "folder":
            console.print(f"{mode}: {d['estimate']:+.1%} ({d['low']:+.1%} … {d['high']:+.1%}) against the evaluation")
    console.print(f"report {cfg.out / 'latency.json'}", soft_wrap=True)
