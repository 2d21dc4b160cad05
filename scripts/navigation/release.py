"""The benchmark `wayhand-r2r`: which houses and paths its splits are made of.

Train and `val_seen` share houses but no pair of ends. Every other validation split but `val_unseen_object` stands in
the houses of `val_unseen_house`, so that the difference to that split is the effect of one change alone.
"""

from __future__ import annotations

import hmac
import signal
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from itertools import count, islice
from pathlib import Path

from ...envs.house.check import layout_hash
from ...envs.house.generate import generate
from ...envs.house.instructions import combinations, make_episodes
from ...envs.house.program import Op, Step
from ...envs.house.scene_graph import SceneGraph
from ...envs.house.viewpoints import viewpoint_graph
from ...vla.errors import DataError
from ...vla.navigation import NavEpisode, NavigationError
from . import files, registers
from .data import pool, shown
from .floor import Floor, Walk
from .plan import NAME, SPLITS, SPOKEN, Made, Plan

_STRIDE = 1_000_000
_OTHERS = 4
"""One in so many layouts is kept from training."""
_PATIENCE = 1000


# --- one house --------------------------------------------------------------------------------------------------------


def make(seed: int, *, houses: str, plan: Plan) -> Made:
    """One house of a set, with the episodes of every split that stands in it; ids count from 0 in each split."""
    house = generate(seed, houses, rooms=plan.rooms)
    try:
        graph = viewpoint_graph(house)
    except NavigationError as error:
        return Made("", house.scan, fault="no viewpoint graph: " + error.what.replace(house.scan, "…"))
    scene = SceneGraph(house, graph)
    floor = Floor(house, graph) if plan.continuous else None
    episodes: dict[str, list[NavEpisode]] = {}
    told: dict[tuple[str, str], list[NavEpisode]] = {}
    objects = registers.objects(scene) if "reverie" in plan.registers else {}
    for name, (standing_in, _) in SPLITS.items():
        if standing_in != houses:
            continue
        most = plan.paths if name == "train" else plan.unseen_paths
        made = make_episodes(house, graph, seed, most, split=name, scene=scene)
        episodes[name] = [_labelled(e) for e in made]
        for register in plan.registers if name in SPOKEN else ():
            told[register, name] = registers.told(scene, register, name, seed, most, objects)
    walks = {n: [floor.walk(e) for e in all_made] for n, all_made in episodes.items()} if floor is not None else {}
    return Made(house.to_json(), house.scan, graph, episodes, walks, told, objects)


def _labelled(episode: NavEpisode) -> NavEpisode:
    """With the templates and combinations of its sentences, which the checks compare, and nothing else of them."""
    programs = [[Step(Op.from_dict(s["op"])) for s in i.extra["program"]] for i in episode.instructions]
    extra = {
        "templates": [list(i.extra["templates"]) for i in episode.instructions],
        "combinations": [list(combinations(tuple(program))) for program in programs],
    }
    return replace(episode, instructions=tuple(replace(i, extra={}) for i in episode.instructions), extra=extra)


# --- the release ------------------------------------------------------------------------------------------------------


def build(folder: Path, plan: Plan, *, workers: int) -> dict[str, list[NavEpisode]]:
    """Make a release and write it; returns the episodes of all splits, those of `test` with their goals.

    No layout of a training house occurs in another set, see `is_for_training`. The manifest comes last: without it a
    release is not complete, and the next call begins it anew.

    Raises:
        DataError: the folder holds something else, or a split stays empty.
    """
    files.begin(folder)
    secret = files.secret(folder)
    sets = list(dict.fromkeys(houses for houses, _ in SPLITS.values()))
    found: dict[str, list[Made]] = {}
    numbers: Counter[str] = Counter()
    left_out: Counter[str] = Counter()
    with pool(workers, *((_leave_interrupts,) if workers else ())) as mapped:
        for k, houses in enumerate(sets):
            first = (plan.seed * len(sets) + k) * _STRIDE
            if houses == "test":
                first = int.from_bytes(hmac.digest(secret, f"{NAME} {plan.seed}".encode(), "sha256")[:16], "big")
            wanted = plan.houses if houses == "train" else plan.unseen
            found[houses] = []
            for made in _enough(mapped, houses, first, wanted, plan, left_out):
                files.write_house(folder, houses, made)
                found[houses].append(_numbered(replace(made, house=""), numbers))
    splits = {n: [e for m in found[h] for e in m.episodes.get(n, [])] for n, (h, _) in SPLITS.items()}
    for name, episodes in splits.items():
        if not episodes:
            wanted = "more houses or paths" if SPLITS[name][0] == "train" else "more of unseen= or unseen_paths="
            raise DataError(f"No path fits '{name}': the release is too small", expected=wanted)
    files.write(folder, plan, found, splits, left_out, secret)
    return splits


def _leave_interrupts() -> None:
    """Ctrl-C reaches all processes of a terminal; the first one alone says what becomes of it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _enough(
    mapped: Callable[..., Iterator[Made]], houses: str, first: int, wanted: int, plan: Plan, left_out: Counter[str]
) -> Iterator[Made]:
    """The first `wanted` houses from seed `first` on that fit; counts why others are left out."""
    got, seeds = 0, _seeds(houses, first, plan)
    while got < wanted:
        batch = list(islice(seeds, wanted - got))
        for made in shown(mapped(partial(make, houses=houses, plan=plan), batch), len(batch), houses, "houses"):
            reason = made.fault or ("" if any(made.episodes.values()) else "no path that fits")
            if reason:
                left_out[f"{houses}: {reason}"] += 1
                continue
            got += 1
            yield made


def _seeds(houses: str, first: int, plan: Plan) -> Iterator[int]:
    """The seeds from `first` on whose houses have a layout of this set."""
    misses = 0
    for seed in count(first):
        if is_for_training(layout_hash(generate(seed, houses, rooms=plan.rooms))) == (houses == "train"):
            yield seed
            misses = 0
        elif (misses := misses + 1) == _PATIENCE:
            raise DataError(f"Houses with rooms={list(plan.rooms)} have no layout for '{houses}'", run="rooms=[3,10]")


def is_for_training(layout: str) -> bool:
    """Whether houses of a layout may be trained in.

    The layout alone decides. Were those of training left out elsewhere, other houses would all be large: small ones
    have few layouts.
    """
    return zlib.crc32(f"{NAME} {layout}".encode()) % _OTHERS != 0


def _numbered(made: Made, numbers: Counter[str]) -> Made:
    """With ids that are integers and unique over all splits, as R2R's are. They tell nothing of a house's seed."""
    episodes: dict[str, list[NavEpisode]] = {}
    walks: dict[str, list[Walk | None]] = {}
    for name, found in made.episodes.items():
        ids = [_next(numbers, "r2r", name) for _ in found]
        episodes[name] = [_named(e, i) for e, i in zip(found, ids, strict=True)]
        if name in made.walks:
            pairs = zip(made.walks[name], episodes[name], strict=True)
            walks[name] = [w and (replace(w[0], id=e.id, instructions=e.instructions), w[1]) for w, e in pairs]
    told = {
        (register, name): [registers.numbered(register, e, _next(numbers, register, name)) for e in found]
        for (register, name), found in made.told.items()
    }
    return replace(made, episodes=episodes, walks=walks, told=told)


def _next(numbers: Counter[str], register: str, split: str) -> int:
    key = f"{register} {split}"
    numbers[key] += 1
    return numbers[key] * len(SPLITS) + list(SPLITS).index(split)


def _named(episode: NavEpisode, number: int) -> NavEpisode:
    told = tuple(replace(i, id=f"{number}_{n}") for n, i in enumerate(episode.instructions))
    return replace(episode, id=str(number), instructions=told)
