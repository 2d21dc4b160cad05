"""`wayhand bench nav`: the benchmark from seeds, its leakage checks, and what agents without eyes or ears get on it."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.table import Table

from ..datasets.formats import connectivity, r2r
from ..envs.house.follower import Follower
from ..envs.house.house import House
from ..envs.house.scene_graph import SceneGraph
from ..vla.errors import ConfigError, DataError
from ..vla.evaluation.nav_baselines import forward, matched_random, run, shortest_path, stop
from ..vla.evaluation.nav_protocols import nav_protocol
from ..vla.evaluation.nav_score import Score, World, items, score
from ..vla.navigation import NavEpisode, NavResult, ViewpointGraph
from .compose import load
from .navigation.checks import Check, checks, hidden, read_houses, sane
from .navigation.data import shown
from .navigation.plan import SPLITS, UNFINISHED, Plan
from .navigation.probe import Probe, giveaways, probes
from .navigation.registers import REGISTERS
from .navigation.release import build

HELP = """\
Usage: wayhand bench nav out=DIR [key=value …]

Makes the vision-and-language navigation benchmark `wayhand-r2r` from seeds: houses, viewpoint graphs and verified
instructions in nine splits, as R2R and VLN-CE files. Then it checks the splits for leaks and scores, by the frozen
protocol wayhand-nav-v1, agents that see and hear nothing, one that knows the way, and one that only reads.

Examples:
  wayhand bench nav out=runs/nav
  wayhand bench nav out=runs/nav-full size=full
  wayhand bench nav out=runs/nav-mine houses=100 unseen=20 seed=7 registers=[r2r,rxr,reverie]

Splits:
{splits}

What lies in DIR afterwards:
  R2R_<split>.json         three instructions per path; R2R_test.json tells the starts only
  R2R_VLNCE/<split>/       the same paths on the floor, with reference runs
  rxr_<split>_guide.jsonl.gz   long instructions, word by word in time           (registers=[r2r,rxr])
  REVERIE_<split>.json BBox/   goals alone, and the objects that viewpoints see  (registers=[r2r,reverie])
  connectivity/ houses/    viewpoint graphs and house descriptions (`wayhand house export` writes meshes of them)
  private/                 the key and the goals of the test split: do not publish these
  manifest.json scores.json

A release that was interrupted is begun anew by the same command; of one that is complete the checks and scores are
made again. The same seed gives the same files, but for the test split, which also depends on private/key.

Your own results of a split: wayhand score protocol=wayhand-nav-v1 annotations=DIR/R2R_val_unseen_house.json \\
  connectivity=DIR/connectivity results=FILE; as films: wayhand bench nav-video release=DIR results=FILE out=FOLDER
""".format(splits="\n".join(f"  {name:<20} {tests}" for name, (_, tests) in SPLITS.items()))
SIZES: dict[str, dict[str, int]] = {
    "small": {"houses": 40, "unseen": 20, "paths": 10, "unseen_paths": 6},
    "full": {"houses": 600, "unseen": 80, "paths": 12, "unseen_paths": 6},
}
TOLD = {"small": ("r2r",), "full": ("r2r", *REGISTERS)}
METRICS = ("sr", "osr", "spl", "ndtw", "ne", "tl")
FRACTIONS = ("sr", "osr", "spl", "ndtw")


@dataclass(frozen=True, kw_only=True)
class NavConfig:
    out: Path
    size: str
    houses: int | None
    unseen: int | None
    paths: int | None
    unseen_paths: int | None
    rooms: tuple[int, int]
    continuous: bool
    registers: tuple[str, ...] | None
    baselines: bool
    seed: int
    workers: int

    def __post_init__(self) -> None:
        if self.size not in SIZES:
            raise ConfigError("Unknown size", got=self.size, exists=SIZES)
        for name in (*SIZES["small"], "seed", "workers"):
            value, least = getattr(self, name), 0 if name in ("seed", "workers") else 1
            if value is not None and value < least:
                raise ConfigError(f"'{name}' is too small", expected=f"at least {least}", got=str(value))
        if not 2 <= self.rooms[0] <= self.rooms[1] <= 10:
            raise ConfigError("No house has so many rooms", expected="rooms=[2,10] or narrower", got=str(self.rooms))
        told = self.told
        if "r2r" not in told or set(told) - {"r2r", *REGISTERS} or len(set(told)) < len(told):
            raise ConfigError(
                "The release cannot be told so",
                expected="r2r and any others",
                got=str(list(told)),
                exists=["r2r", *REGISTERS],
            )

    @property
    def told(self) -> tuple[str, ...]:
        """The registers that are written."""
        return TOLD[self.size] if self.registers is None else self.registers

    @property
    def plan(self) -> Plan:
        numbers = {n: v if getattr(self, n) is None else getattr(self, n) for n, v in SIZES[self.size].items()}
        others = tuple(r for r in REGISTERS if r in self.told)
        return Plan(rooms=self.rooms, seed=self.seed, continuous=self.continuous, registers=others, **numbers)


def main(overrides: list[str]) -> int:
    cfg, _ = load("bench_nav", overrides, NavConfig)
    console = Console()
    began = time.perf_counter()
    splits = _release(cfg, console)
    houses = read_houses(cfg.out)
    graphs = connectivity.load(cfg.out / "connectivity")
    told = probes(splits["train"], splits["val_unseen_house"], houses, graphs)
    found = [*checks(splits, houses, graphs), hidden(cfg.out, splits["test"]), *giveaways(told, splits, graphs)]
    report: dict[str, Any] = {"words_alone": [vars(p) for p in told]}
    if cfg.baselines:
        scored = sanity(splits, houses, graphs, cfg.seed)
        report["protocol"] = nav_protocol("wayhand-nav-v1").name
        report["scores"] = {s: {agent: _row(score) for agent, score in rows.items()} for s, rows in scored.items()}
        console.print(_scores_table(scored))
        found += sane({s: {a: {"n": len(o.rows), **o.metrics} for a, o in r.items()} for s, r in scored.items()})
    console.print(_probes_table(told))
    console.print(_checks_table(found))
    report["checks"] = [vars(c) for c in found]
    report["seconds"] = round(time.perf_counter() - began, 1)
    (cfg.out / "scores.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    console.print(f"{cfg.out}/scores.json  ({report['seconds']:.0f} s in all)", highlight=False)
    broken = [c.name for c in found if not c.holds]
    if broken:
        console.print(f"[red]These checks do not hold: {', '.join(broken)}[/red]")
    return 1 if broken else 0


def _release(cfg: NavConfig, console: Console) -> dict[str, list[NavEpisode]]:
    """The release in `out`: read where it is complete and of the same plan, else made."""
    manifest = cfg.out / "manifest.json"
    if manifest.exists():
        made = json.loads(manifest.read_text(encoding="utf-8"))["plan"]
        wanted = json.loads(json.dumps(vars(cfg.plan)))
        if made != wanted:
            raise DataError(
                f"{cfg.out} holds another release", expected=str(wanted), got=str(made), run="another out=DIR"
            )
        console.print(f"{cfg.out} is complete; only checks and scores are made again.", highlight=False)
        return {n: r2r.load(cfg.out / ("private" if n == "test" else "") / f"R2R_{n}.json") for n in SPLITS}
    if (cfg.out / UNFINISHED).exists():
        console.print(f"{cfg.out} is not complete: it is made anew.", highlight=False)
    splits = build(cfg.out, cfg.plan, workers=cfg.workers)
    table = _plain("wayhand-r2r", split="left", houses="right", paths="right", instructions="right")
    for name, episodes in splits.items():
        told = sum(len(e.instructions) for e in episodes)
        table.add_row(name, str(len({e.scan for e in episodes})), str(len(episodes)), str(told))
    console.print(table)
    return splits


def sanity(
    splits: Mapping[str, Sequence[NavEpisode]],
    houses: Mapping[str, House],
    graphs: Mapping[str, ViewpointGraph],
    seed: int,
) -> dict[str, dict[str, Score]]:
    """Split → agent → its score, for every split but training."""
    protocol = nav_protocol("wayhand-nav-v1")
    world = World(graphs=graphs)
    agents = {
        "stop": stop,
        "random": matched_random(splits["train"]),
        "forward": forward,
        "shortest path": shortest_path,
    }
    out: dict[str, dict[str, Score]] = {}
    names = [n for n in splits if n != "train"]
    for name in shown(names, len(names), "baselines", "splits"):
        episodes = splits[name]
        wanted = items(protocol, episodes)
        rows = {agent: run(act, graphs, wanted, seed=seed) for agent, act in agents.items()}
        rows["parser-follower"] = read_and_walk(episodes, houses, graphs)
        out[name] = {agent: score(protocol, episodes, results, world) for agent, results in rows.items()}
    return out


def read_and_walk(
    episodes: Sequence[NavEpisode], houses: Mapping[str, House], graphs: Mapping[str, ViewpointGraph]
) -> list[NavResult]:
    """The results of an agent that knows the house and follows the words alone."""
    followers: dict[str, Follower] = {}
    results: list[NavResult] = []
    for e in episodes:
        if e.scan not in followers:
            followers = {e.scan: Follower(SceneGraph(houses[e.scan], graphs[e.scan]))}
        for told in e.instructions:
            path = followers[e.scan].follow(e.path[0], e.heading, told.text).path
            results.append(NavResult(told.id, path, (0.0,) * len(path), (0.0,) * len(path)))
    return results


def _row(scored: Score) -> dict[str, Any]:
    return {
        "n": len(scored.rows),
        "id": scored.id,
        "metrics": {k: round(v, 4) for k, v in scored.metrics.items()},
        "intervals": {k: [round(x, 4) for x in v] for k, v in scored.intervals().items()},
    }


def _plain(title: str, **columns: Literal["left", "right"]) -> Table:
    """A table that fits 80 columns."""
    table = Table(title=f"\n{title}", box=None, title_justify="left", padding=(0, 2, 0, 0), pad_edge=False)
    for name, side in columns.items():
        table.add_column(name.replace("_", " "), justify=side, no_wrap=True)
    return table


def _probes_table(found: Sequence[Probe]) -> Table:
    table = _plain(
        "What words alone tell of val_unseen_house [%]", linear_probe_of="left", right="right", commonest="right"
    )
    for p in found:
        table.add_row(p.target, f"{100 * p.right:.1f}", f"{100 * p.prior:.1f}")
    return table


def _checks_table(found: Sequence[Check]) -> Table:
    table = _plain("Leaks and giveaways", check="left", found="left", wanted="left")
    for c in found:
        table.add_row(c.name, c.found, c.wanted if c.holds else f"[red]{c.wanted}: broken[/red]")
    return table


def _scores_table(scored: Mapping[str, Mapping[str, Score]]) -> Table:
    table = _plain("wayhand-nav-v1 [%, m], SR with its 95 % bootstrap interval", split="left", n="right", SR="right")
    for name in ("", *METRICS[1:]):
        table.add_column({"ndtw": "nDTW"}.get(name, name.upper()), justify="right", no_wrap=True)
    for split, rows in scored.items():
        table.add_row(f"[bold]{split}[/bold]", str(len(next(iter(rows.values())).rows)))
        for agent, one in rows.items():
            low, high = one.intervals()["sr"]
            values = [f"{one.metrics[m]:.1%}"[:-1] if m in FRACTIONS else f"{one.metrics[m]:.2f}" for m in METRICS]
            table.add_row(f"  {agent}", "", values[0], f"{100 * low:.1f}–{100 * high:.1f}", *values[1:])
    return table
