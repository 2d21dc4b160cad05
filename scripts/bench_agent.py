"""`wayhand bench agent`: a navigation agent and its blind twin trained on the benchmark, and measured on new houses."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from rich.console import Console
from rich.table import Table

from ..datasets.features import FeatureCache
from ..envs.graph_batch import GraphBatch
from ..vla.backbones.views import ViewTower
from ..vla.config import Config
from ..vla.errors import ConfigError
from ..vla.evaluation.nav_baselines import matched_random, run, shortest_path, stop
from ..vla.evaluation.nav_protocols import nav_protocol
from ..vla.evaluation.nav_score import Score, items, score
from ..vla.evaluation.nav_score import World as Distances
from ..vla.learning.loop import Settings
from .compose import load
from .navigation.agents import AGENTS, MEASURES, chosen, figures, retold, shuffled, swapped, train_agent, trained, walk
from .navigation.data import World, world
from .navigation.features import Lens, features, tower

HELP = """\
Usage: wayhand bench agent data=DIR out=DIR [key=value …]

Takes a release of `wayhand bench nav`, teaches a vision tower on the simulator's own labels, trains an agent on
viewpoint graphs with interactive imitation, and scores it by wayhand-nav-v1 on houses it was never in, beside a blind
agent and one that is told nothing, trained the same way. The same command continues where an interrupted one stopped.

Examples:
  wayhand bench nav size=full continuous=false out=runs/nav
  wayhand bench agent data=runs/nav out=runs/nav-agent
  wayhand bench agent data=runs/nav out=runs/quick steps=200 tower_steps=300 train_baselines=false
"""


@dataclass(frozen=True, kw_only=True)
class AgentConfig:
    agent: Config
    tower: Config
    data: Path
    out: Path
    splits: list[str]
    workers: int
    image_size: int
    hfov_deg: float
    tower_views: int
    tower_steps: int
    tower_batch: int
    tower_lr: float
    tower_precision: Literal["fp32", "bf16"]
    steps: int
    batch_size: int
    lr: float
    teacher: tuple[float, float]
    max_steps: int
    mirror: bool
    train_baselines: bool
    episodes: int | None
    seed: int
    threads: int | None

    def __post_init__(self) -> None:
        least = {"steps": 1, "tower_steps": 1, "batch_size": 1, "max_steps": 1, "workers": 0}
        for name, smallest in least.items():
            if getattr(self, name) < smallest:
                raise ConfigError(
                    f"'{name}' is too small", expected=f"at least {smallest}", got=str(getattr(self, name))
                )


def main(overrides: list[str]) -> int:
    cfg, whole = load("bench_agent", overrides, AgentConfig)
    console = Console()
    torch.set_num_threads(cfg.threads or os.cpu_count() or 1)
    train, others = world(cfg.data, "train"), {name: world(cfg.data, name) for name in cfg.splits}
    seconds: dict[str, float] = {}
    cache = seen(cfg, [train, *others.values()], seconds)
    practice = GraphBatch(
        graphs=train.graphs,
        episodes=train.episodes,
        features=cache,
        batch_size=cfg.batch_size,
        max_steps=cfg.max_steps,
        seed=cfg.seed,
        mirror=ViewTower.from_checkpoint(cfg.out / "tower").mirror if cfg.mirror else None,
        reword=swapped,
    )
    texts = [i.text for e in train.episodes for i in e.instructions]
    texts += [swapped(text) for text in texts] if cfg.mirror else []
    console.print(f"{len(train.houses)} houses, {len(practice.atlas)} viewpoints, {len(texts)} instructions")
    settings = Settings(steps=cfg.steps, lr=cfg.lr, seed=cfg.seed)
    names = list(AGENTS) if cfg.train_baselines else ["full"]
    for name in names:
        with timed(seconds, f"train {name}"):
            console.print(f"agent: {name}")
            done = train_agent(
                cfg.out / "agents" / name, cfg.agent, AGENTS[name], practice, texts, settings, cfg.teacher
            )
        if done.stopped:
            console.print(f"Stopped and saved at step {done.step}; the same command continues.")
            return 130
    tables: dict[str, dict[str, Any]] = {}
    with timed(seconds, "evaluation"):
        for split, one in others.items():
            tables[split] = {k: figures(v) for k, v in evaluated(cfg, split, one, train, cache, names).items()}
            console.print(pretty(split, tables[split]))
    summary = {"config": whole.to_dict(), "seconds": seconds, "splits": tables}
    (cfg.out / "summary.json").write_text(json.dumps(summary, indent=1), encoding="utf-8")
    console.print("seconds  " + ", ".join(f"{k} {v:.0f}" for k, v in seconds.items()))
    return 0


def seen(cfg: AgentConfig, worlds: list[World], seconds: dict[str, float]) -> FeatureCache:
    """The features of all splits, from a tower taught on views of the first."""
    lens = Lens(cfg.image_size, cfg.hfov_deg)
    with timed(seconds, "tower"):
        seer = tower(
            cfg.out / "tower",
            cfg.tower,
            worlds[0],
            lens,
            Settings(steps=cfg.tower_steps, lr=cfg.tower_lr, seed=cfg.seed, ema=0.99, precision=cfg.tower_precision),
            views=cfg.tower_views,
            batch_size=cfg.tower_batch,
            workers=cfg.workers,
        )
    with timed(seconds, "features"):
        caches = [features(cfg.out / "features", seer, lens, one, cfg.workers) for one in worlds]
    return caches[0]


def evaluated(
    cfg: AgentConfig, split: str, one: World, train: World, cache: FeatureCache, names: list[str]
) -> dict[str, Score]:
    """The rows of the table: agents, the full one told other things, and what knows nothing or everything."""
    protocol = nav_protocol("wayhand-nav-v1")
    episodes = chosen(one.episodes, cfg.episodes, cfg.seed)
    scored = partial(score, protocol, episodes, world=Distances(graphs=one.graphs))
    agents = {name: (name, episodes) for name in names}
    agents["full, words of another path"] = "full", shuffled(episodes, cfg.seed)
    agents["full, left and right swapped"] = "full", retold(episodes, swapped)
    rows: dict[str, Score] = {}
    for label, (name, told) in agents.items():
        file = label.replace("full, ", "").replace(" ", "_")
        agent = partial(trained, cfg.out / "agents" / name)
        rows[label] = scored(results=walk(cfg.out / "results" / f"{split}_{file}.json", agent, one.graphs, told, cache))
    for label, act in {"stop": stop, "random": matched_random(train.episodes), "shortest path": shortest_path}.items():
        rows[label] = scored(results=run(act, one.graphs, items(protocol, episodes), seed=cfg.seed))
    return rows


@contextmanager
def timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    before = time.perf_counter()
    yield
    seconds[name] = time.perf_counter() - before


def pretty(split: str, rows: dict[str, Any]) -> Table:
    """Means, and for the success rate its 95 % bootstrap interval by path."""
    table = Table(title=f"{split}, wayhand-nav-v1")
    for column in ("agent", "n", "SR", "95 %", *(name.upper() for name in MEASURES[1:])):
        table.add_column(column, justify="left" if column == "agent" else "right")
    for label, found in rows.items():
        low, high = found["intervals"]["sr"]
        rate = [f"{found['metrics']['sr']:.1%}", f"{low:.1%} – {high:.1%}"]
        table.add_row(label, str(found["n"]), *rate, *(f"{found['metrics'][m]:.2f}" for m in MEASURES[1:]))
    return table
