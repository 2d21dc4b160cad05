"""`wayhand bench habitat-parity`: the same houses, starts and moves in our simulator and in habitat-sim."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import Progress

from ..envs.habitat import settings, simulator
from ..envs.house import glb
from ..envs.house.generate import generate
from ..envs.house.house import House
from ..envs.house.renderer import HouseRenderer
from ..envs.house.simulator import HouseSimulator
from ..envs.navigation import NavigationEnv
from ..envs.navigation_spec import NavBody
from ..envs.navigation_state import NavSimulator, NavState, Vector
from ..envs.remote import clean_environment, invocation
from ..vla.errors import ConfigError, RobotError, did_you_mean
from ..vla.navigation import Goal, NavEpisode
from .habitat_parity import MOVES, PRIOR, Motion, compare_agents, compare_pictures, play, walk
from .habitat_speed import steps_per_second

HELP = """\
Usage: wayhand bench habitat-parity [key=value …]

Puts the same body into the same generated houses in our simulator and in habitat-sim, and prints as JSON how far they
agree: free motion, motion along walls and collision flags in plan view, the shortest-path agent's success and SPL,
geodesic distances, pictures, depth and semantics, and the speed of both in the same run: "habitat" is habitat-sim's
own step, "habitat_as_environment" ours around it. Speeds mean little where others compute; see "load_per_core".

  houses=5         generated houses            split=train, seed=0: which
  starts=2         random walks in each house  actions=200: moves of each
  episodes=10      shortest-path episodes in each house; views=20: pictures compared in each
  size=128         pictures of size × size pixels
  sliding=true     whether a blocked step slides along the wall
  python=          path of another Python that has habitat-sim; empty for this one
  out=             a folder for houses and report; empty for none

Exit code 1 where the two differ by more than: free 1 mm and 0.1°, at walls 5 cm, flags equal on 99 % of the steps,
success equal, SPL within 0.01; and where another process costs more than 30 % of the rate and 100 µs a step.
"""
_DEFAULTS = {
    "houses": "5",
    "actions": "200",
    "starts": "2",
    "episodes": "10",
    "views": "20",
    "seed": "0",
    "split": "train",
    "size": "128",
    "sliding": "true",
    "python": "",
    "out": "",
}
_LONGEST = 400
_BATCH = 36


def main(overrides: list[str]) -> int:
    options = _options(overrides)
    seed = int(options["seed"])
    with ExitStack() as stack:
        folder = Path(options["out"] or stack.enter_context(tempfile.TemporaryDirectory()))
        houses = [generate(seed + k, options["split"]) for k in range(int(options["houses"]))]
        for house in houses:
            glb.write(house, folder)
        report = compare(houses, folder, options)
        if options["out"]:
            (folder / "parity.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(report, indent=2))
    return 0 if all(report["holds"].values()) else 1


def compare(houses: Sequence[House], folder: Path, options: dict[str, str]) -> dict[str, Any]:
    """The report of all comparisons, plain JSON."""
    size, python = int(options["size"]), options["python"] or None
    blind = NavBody(sensors=(), sliding=options["sliding"] == "true")
    seeing = replace(blind, sensors=("rgb", "depth"), width=size, height=size)
    scans = {h.scan: h for h in houses}
    with ExitStack() as stack:

        def both(body: NavBody) -> tuple[HouseSimulator, NavSimulator]:
            pair = HouseSimulator(scans, body), simulator(folder, body, python=python)
            for one in pair:
                stack.callback(one.close)
            return pair

        ours, theirs = both(blind)
        motion, rows = Motion(), ([], [])
        with Progress(console=Console(stderr=True)) as progress:
            for house in progress.track(houses, description="motion and agents"):
                rng = np.random.default_rng((house.seed, 7))
                for _ in range(int(options["starts"])):
                    moves = rng.choice(MOVES, int(options["actions"]), p=PRIOR).tolist()
                    walk(ours, theirs, house.scan, _somewhere(ours, house.scan, rng), moves, motion)
                episodes = _episodes(ours, house.scan, rng, int(options["episodes"]))
                for rows_of, one in zip(rows, (ours, theirs), strict=True):
                    rows_of.extend(play(NavigationEnv(one, episodes, body=blind), episodes))
        labelled = both(replace(seeing, sensors=("rgb", "depth", "semantics")))
        pictures = compare_pictures(_views(labelled, houses, int(options["views"])))
        one = HouseSimulator(scans, seeing)
        stack.callback(one.close)
        speed = _speed(one, folder, seeing, houses[0], options)
    report: dict[str, Any] = {
        "houses": len(houses),
        "body": settings(blind),
        "motion": motion.report(),
        "agent": compare_agents(*rows),
        "pictures": pictures,
        "speed": speed,
    }
    return {**report, "holds": _holds(report)}


def _holds(report: dict[str, Any]) -> dict[str, bool]:
    motion, agent, speed = report["motion"], report["agent"], report["speed"]
    cost = speed["out_of_process_cost"]
    return {
        "free": motion["free"]["max_mm"] <= 1.0 and motion["free"]["max_deg"] <= 0.1,
        "touched": motion["touched"]["max_cm"] <= 5.0,
        "flags": motion["flags_equal"] >= 0.99,
        "success": agent["ours"]["success"] == agent["habitat"]["success"],
        "spl": agent["spl_difference"] <= 0.01,
        "out_of_process": cost["share"] <= 0.3 or cost["us_per_step"] <= 100,
    }


def _somewhere(ours: HouseSimulator, scan: str, rng: np.random.Generator) -> Vector:
    return ours.mesh(scan).random_point(rng.random(3).tolist())


def _episodes(ours: HouseSimulator, scan: str, rng: np.random.Generator, n: int) -> list[NavEpisode]:
    mesh = ours.mesh(scan)
    episodes: list[NavEpisode] = []
    for k in range(n):
        start, goal = _somewhere(ours, scan, rng), _somewhere(ours, scan, rng)
        heading = float(rng.uniform(0, 2 * np.pi))
        distance = mesh.geodesic(start, goal)
        goals = (Goal(position=goal, radius=3.0),)
        episodes.append(
            NavEpisode(
                str(k), scan, heading=heading, start=start, reference=(start, goal), goals=goals, distance=distance
            )
        )
    return episodes


def _views(
    pair: tuple[HouseSimulator, NavSimulator], houses: Sequence[House], n: int
) -> list[tuple[NavState, NavState]]:
    ours, theirs = pair
    views: list[tuple[NavState, NavState]] = []
    for house in houses:
        rng = np.random.default_rng((house.seed, 11))
        for _ in range(n):
            at, heading = _somewhere(ours, house.scan, rng), float(rng.uniform(0, 2 * np.pi))
            b = theirs.begin(house.scan, at, heading, ())
            views.append((ours.begin(house.scan, b.position, heading, ()), b))
    return views


def _speed(ours: HouseSimulator, folder: Path, body: NavBody, house: House, options: dict[str, str]) -> dict[str, Any]:
    """Steps per second with pictures: ours, habitat-sim in its own Python and from another process, taking turns."""
    rng = np.random.default_rng(3)
    moves = rng.choice(MOVES, _LONGEST, p=PRIOR).tolist()
    begin = (house.scan, _somewhere(ours, house.scan, rng), 0.0, ())
    python = options["python"] or sys.executable
    arguments = {**settings(body), "scenes": str(folder.absolute())}
    away = simulator(folder, body, python=python)
    rounds: list[dict[str, float]] = []
    for _ in range(3):
        rates = {"ours": steps_per_second(ours, begin, moves), "ours_batched": _batched(ours, begin, moves)}
        rates |= _inside(python, arguments, begin, moves)
        rounds.append({**rates, "habitat_out_of_process": steps_per_second(away, begin, moves)})
    away.close()
    best = {name: max(r[name] for r in rounds) for name in rounds[0]}
    inside, outside = best["habitat_as_environment"], best["habitat_out_of_process"]
    return {
        "pictures": f"rgb and depth, {body.width}x{body.height}",
        "steps_per_second": best,
        "rounds": rounds,
        "ours_to_habitat": best["ours"] / best["habitat"],
        "ours_batched_to_habitat": best["ours_batched"] / best["habitat"],
        "load_per_core": os.getloadavg()[0] / (os.cpu_count() or 1),
        "out_of_process_cost": {"share": 1 - outside / inside, "us_per_step": 1e6 * (1 / outside - 1 / inside)},
    }


def _batched(ours: HouseSimulator, begin: Sequence[Any], moves: Sequence[str]) -> float:
    """Views per second along the same way, 36 a call."""
    ours.begin(*begin)
    states = [ours.step(move, render=False) for move in moves]
    up = ours.body.camera_height
    points = np.array([(x, y, z + up) for x, y, z in (s.position for s in states)])
    headings, level = np.array([s.heading for s in states]), np.zeros(len(states))
    body = ours.body
    with HouseRenderer(body.width, body.height, body.hfov, body.sensors) as renderer:
        renderer.load(ours.house(begin[0]))
        seconds = 0.0
        for _ in range(2):
            start = time.perf_counter()
            for i in range(0, len(states), _BATCH):
                part = slice(i, i + _BATCH)
                renderer.render(points[part], headings[part], level[part])
            seconds = time.perf_counter() - start
    return len(states) / seconds


def _inside(python: str, arguments: dict[str, Any], begin: Sequence[Any], moves: Sequence[str]) -> dict[str, float]:
    package = __package__ or ""
    call = invocation(f"{package}.habitat_speed:tell", (arguments, begin, moves), more={package: Path(__file__).parent})
    done = subprocess.run([python, *call], capture_output=True, text=True, env=clean_environment(), check=False)
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        raise RobotError("habitat-sim failed in its own Python", got=(done.stderr or done.stdout)[-2000:], run=python)
    return {name: float(rate) for name, rate in json.loads(lines[-1]).items()}


def _options(overrides: list[str]) -> dict[str, str]:
    options = dict(_DEFAULTS)
    for name, equals, value in (a.partition("=") for a in overrides):
        if name not in options or not equals:
            close = did_you_mean(name, options)
            raise ConfigError(
                f"'bench habitat-parity' has no option '{name}'" + (f"; did you mean '{close}'?" if close else ""),
                exists=options,
                run="wayhand bench habitat-parity help",
            )
        options[name] = value
    for name in ("houses", "actions", "starts", "episodes", "views", "seed", "size"):
        if not options[name].isdigit() or (name != "seed" and int(options[name]) < 1):
            raise ConfigError(f"'{name}' is no number of things", expected="a whole number", got=options[name])
    if options["sliding"] not in ("true", "false"):
        raise ConfigError("'sliding' is true or false", got=options["sliding"])
    return options
