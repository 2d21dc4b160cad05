"""Which paths a benchmark asks for: those of R2R (Anderson et al. 2018), without its giveaways."""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from ...vla.navigation import ViewpointGraph
from .derive import rooms_along, turns_of
from .dice import Dice
from .house import House
from .scene_graph import SceneGraph, wrap

SEEN_SHARE = 8
"""One in so many pairs of start and goal is kept out of training, for `val_seen`."""


@dataclass(frozen=True)
class Demands:
    """What a path must be like.

    Args:
        edges, length: least and most number of edges and length [m].
        rooms: least number of rooms it goes through.
        visible: chance of keeping a path whose goal is in sight from its start.
        turns: most changes of heading to tell.
    """

    edges: tuple[int, int] = (4, 6)
    length: tuple[float, float] = (5.0, 20.0)
    rooms: int = 2
    visible: float = 0.1
    turns: int = 99


SHORT = Demands()
LONG = Demands(edges=(8, 18), length=(12.0, 45.0), rooms=3)


@dataclass(frozen=True)
class Path:
    """Viewpoints from start to goal, and the heading at the start [rad], clockwise from +y."""

    viewpoints: tuple[str, ...]
    heading: float


def is_kept_for_validation(scan: str, start: str, goal: str) -> bool:
    """Whether this pair of a training house is asked in `val_seen` and never in training."""
    return zlib.crc32(f"{scan} {start} {goal}".encode()) % SEEN_SHARE == 0


def straight_end(scene: SceneGraph, node: int, heading: float) -> set[int]:
    """Where one comes who walks straight on, without turning more than 30 degrees at a viewpoint."""
    seen = [node]
    while True:
        options = [n for n in scene.neighbours[seen[-1]] if n not in seen]
        turn = {n: abs(wrap(scene.heading(seen[-1], n) - heading)) for n in options}
        best = min(options, key=lambda n: turn[n], default=None)
        if best is None or turn[best] > math.radians(30):
            return set(seen)
        heading = scene.heading(seen[-1], best)
        seen.append(best)


def fits(scene: SceneGraph, path: Sequence[str], heading: float, demands: Demands) -> bool:
    """Whether a path is what is demanded, apart from the view from its start."""
    nodes = [scene.graph.index(v) for v in path]
    low, high = demands.edges
    if not low <= len(nodes) - 1 <= high or not demands.length[0] <= scene.graph.length(path) <= demands.length[1]:
        return False
    if scene.room[nodes[0]] < 0 or scene.room[nodes[-1]] < 0:
        return False
    if len(set(rooms_along(scene, nodes))) < demands.rooms:
        return False
    # The goal's surroundings are entered once, at the end.
    goal = nodes[-1]
    if any(scene.graph.distances[n, goal] < 1.0 for n in nodes[:-2]):
        return False
    if sum(abs(t) > math.radians(30) for t in turns_of(scene, nodes, heading)) > demands.turns:
        return False
    return all(scene.graph.distances[n, goal] > 3.0 for n in straight_end(scene, nodes[0], heading))


def sample_paths(
    house: House,
    graph: ViewpointGraph,
    seed: int,
    count: int,
    *,
    demands: Demands = SHORT,
    split: str = "train",
    scene: SceneGraph | None = None,
) -> list[Path]:
    """Shortest paths of a house, each pair of ends at most once, with random headings at the start.

    Args:
        count: as many as these, fewer where the house has no more.
        split: `"train"` and `"val_seen"` share houses but no pair of ends.
        scene: of this house and graph, made where it is not given.
    """
    scene = SceneGraph(house, graph) if scene is None else scene
    dice = Dice(f"paths {house.digest} {seed}")
    ids = graph.ids
    inside = [i for i in range(len(ids)) if scene.room[i] >= 0]
    reach = graph.distances
    low, high = demands.length
    pairs = [(a, b) for a in inside for b in inside if low <= reach[a, b] <= high]
    out: list[Path] = []
    for a, b in dice.shuffled(pairs) if pairs else ():
        if len(out) == count:
            break
        heading = round(dice.real(0, 2 * math.pi), 6)
        if split in ("train", "val_seen") and is_kept_for_validation(house.scan, ids[a], ids[b]) != (
            split == "val_seen"
        ):
            continue
        path = graph.path(ids[a], ids[b])
        if not fits(scene, path, heading, demands):
            continue
        if graph.visible[a, b] and not dice.chance(demands.visible):
            continue
        out.append(Path(path, heading))
    return out
