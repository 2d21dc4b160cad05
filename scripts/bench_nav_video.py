"""`wayhand bench nav-video`: what an agent did in a release, as films."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console

from ..datasets.formats import connectivity, r2r, rxr, vlnce
from ..datasets.formats.detect import detect
from ..envs.house.house import House
from ..envs.house.renderer import HouseRenderer
from ..vla.errors import ConfigError, DataError, did_you_mean
from ..vla.evaluation.nav_baselines import run, shortest_path
from ..vla.evaluation.nav_protocols import nav_protocol
from ..vla.evaluation.nav_score import World, goal_points, items, track
from ..vla.evaluation.nav_tracks import measures
from ..vla.evaluation.video import write_video
from ..vla.navigation import NavEpisode, NavResult
from .compose import load
from .navigation.checks import read_houses
from .navigation.data import shown
from .navigation.film import HFOV, VIEW, Take, film, on_floor, on_graph
from .navigation.floor import BODY
from .navigation.plan import SPLITS
from .navigation.score_files import along_floors

HELP = """\
Usage: wayhand bench nav-video release=DIR out=FOLDER [split=val_unseen_house results=FILE key=value …]

Films of navigation episodes: the instruction, the view, and the map with the way, the reference and the goal; the last
picture says how the episode ended by the frozen protocol. Results are R2R trajectories, RxR paths or VLN-CE runs, as
`wayhand score` takes them. Without results one sees the reference: the shortest path, or VLN-CE's reference run.

Examples:
  wayhand bench nav-video release=runs/nav out=runs/films
  wayhand bench nav-video release=runs/nav out=runs/films results=submit.json episodes=5
  wayhand bench nav-video release=runs/nav out=runs/films task=vlnce split=val_seen ids=[470,471]

Options, with their defaults:
  split=val_unseen_house task=r2r|rxr|vlnce results=FILE ids=[…] episodes=3
"""
TASKS = ("r2r", "rxr", "vlnce")
LOADERS: dict[str, Callable[[Path], list[NavEpisode]]] = {"r2r": r2r.load, "rxr": rxr.load, "vlnce": vlnce.load}
RESULTS: dict[str, Callable[[Path], list[NavResult]]] = {
    "r2r": r2r.load_results,
    "rxr": rxr.load_results,
    "vlnce": vlnce.load_results,
}


@dataclass(frozen=True, kw_only=True)
class VideoConfig:
    release: Path
    out: Path
    split: str
    task: str
    results: Path | None
    ids: tuple[str | int, ...] | None
    episodes: int

    def __post_init__(self) -> None:
        for what, got, exists in (("split", self.split, list(SPLITS)), ("task", self.task, TASKS)):
            if got not in exists:
                close = did_you_mean(got, exists)
                hint = f"; did you mean '{close}'?" if close else ""
                raise ConfigError(f"Unknown {what}{hint}", got=got, exists=exists)
        if self.episodes < 1:
            raise ConfigError("'episodes' is too small", expected="at least 1", got=str(self.episodes))
        if not (self.release / "manifest.json").exists():
            raise ConfigError(
                f"There is no release in {self.release}",
                expected="a folder with a manifest.json",
                run=f"wayhand bench nav out={self.release}",
            )


def main(overrides: list[str]) -> int:
    cfg, _ = load("bench_nav_video", overrides, VideoConfig)
    console = Console()
    task = cfg.task
    if cfg.results is not None:
        task = detect(cfg.results)
        if task not in TASKS:
            raise DataError(f"{cfg.results} holds no results that can be shown", got=task, expected=" or ".join(TASKS))
    takes = list(_takes(cfg, task))
    cfg.out.mkdir(parents=True, exist_ok=True)
    with HouseRenderer(*VIEW, HFOV, ("rgb",)) as renderer:
        for name, take in shown(takes, len(takes), "films", "films"):
            file = cfg.out / f"{task}-{cfg.split}-{name}.mp4"
            write_video(file, list(film(take, renderer)), take.fps)
            ended = "success" if take.metrics["sr"] else "failure"
            console.print(f"{file}  {ended}, NE {take.metrics['ne']:.2f} m", highlight=False, soft_wrap=True)
        console.print(f"drawn by {renderer.gl_renderer}", highlight=False, markup=False)
    return 0


def _takes(cfg: VideoConfig, task: str) -> Iterator[tuple[str, Take]]:
    """The chosen episodes with what was done in them."""
    file = _annotations(cfg.release, cfg.split, task)
    if not file.exists():
        raise DataError(
            f"The release holds no such files: {file}",
            expected="private/ for the test split; continuous=true for vlnce, registers=[r2r,rxr] for rxr",
        )
    episodes = LOADERS[task](file)
    protocol = nav_protocol("wayhand-nav-ce-v1" if task == "vlnce" else "wayhand-nav-v1")
    wanted = dict(items(protocol, episodes))
    graphs = connectivity.load(cfg.release / "connectivity") if task != "vlnce" else {}
    results: dict[str, NavResult] = {}
    if cfg.results is not None:
        results = {r.id: r for r in RESULTS[task](cfg.results) if r.id in wanted}
        if not results:
            raise DataError(f"{cfg.results} holds no result of '{cfg.split}'", exists=[*list(wanted)[:3], "…"])
    names = _chosen(cfg, list(results or wanted))
    houses = read_houses(cfg.release)
    if task == "vlnce":
        runs = vlnce.load_ground_truth(vlnce.ground_truth_path(file)) if not results else {}
        for name in names:
            episode = wanted[name]
            result = results.get(name) or replayed(episode, runs[episode.id])
            yield name, _floor_take(cfg.release, houses[episode.scan], episode, result)
        return
    if not results:
        results = {r.id: r for r in run(shortest_path, graphs, [(n, wanted[n]) for n in names])}
    for name in names:
        episode = wanted[name]
        metrics = measures(protocol, track(protocol, World(graphs=graphs), episode, results[name]))
        told = next(i for i in episode.instructions if i.id == name)
        yield name, on_graph(houses[episode.scan], graphs[episode.scan], episode, told, results[name], metrics)


def _annotations(release: Path, split: str, task: str) -> Path:
    place = release / "private" if split == "test" else release
    if task == "vlnce":
        return place / "R2R_VLNCE" / split / f"{split}.json.gz"
    return place / (f"R2R_{split}.json" if task == "r2r" else f"rxr_{split}_guide.jsonl.gz")


def _chosen(cfg: VideoConfig, names: list[str]) -> list[str]:
    """The ids that are asked for, or some that are spread evenly."""
    if cfg.ids is None:
        rows = np.linspace(0, len(names) - 1, cfg.episodes).round().astype(int)
        return [names[int(i)] for i in np.unique(rows)]
    asked = [str(i) for i in cfg.ids]
    for name in asked:
        if name not in names:
            raise ConfigError(f"'{name}' is no id of '{cfg.split}' here", exists=[*names[:5], "…"])
    return asked


def _floor_take(release: Path, house: House, episode: NavEpisode, result: NavResult) -> Take:
    protocol = nav_protocol("wayhand-nav-ce-v1")
    place = release / "private" if (release / "private" / "houses" / f"{house.scan}.json").exists() else release
    distances = along_floors(place / "houses", protocol)
    metrics = measures(protocol, track(protocol, World(distances=distances), episode, result))
    points = np.asarray(result.positions, np.float64)
    to_goal = distances(house.scan, points, goal_points(protocol, episode))
    return on_floor(house, episode, result, to_goal.tolist(), metrics, eye=BODY.camera_height)


def replayed(episode: NavEpisode, truth: vlnce.GroundTruth) -> NavResult:
    """A reference run as a result: where the body was and looked after each of its moves."""
    turn = np.radians(BODY.turn)
    at, heading = 0, episode.heading
    positions, headings = [truth.locations[0]], [heading]
    for move in truth.actions[:-1]:
        at += move == 1
        heading += {2: -turn, 3: turn}.get(move, 0.0)
        positions.append(truth.locations[at])
        headings.append(heading)
    return NavResult(episode.instructions[0].id, positions=tuple(positions), headings=tuple(headings), stopped=True)
