"""Agents that cannot read: what any score must be compared with.

On viewpoint graphs each is a function of a graph, an episode, the id its result goes by and a random generator; in
continuous space, of a random generator alone, and gives the moves to make.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from ..navigation import NavEpisode, NavResult, ViewpointGraph

GraphAgent = Callable[[ViewpointGraph, NavEpisode, str, np.random.Generator], NavResult]

_TURN = np.pi / 6
_HALF_VIEW = np.radians(40)  # half of MatterSim's horizontal field of view, 60° × 640 / 480


def stop(graph: ViewpointGraph, episode: NavEpisode, name: str, rng: np.random.Generator) -> NavResult:
    """Stands still."""
    return _result(name, episode.path[:1], [episode.heading])


def shortest_path(graph: ViewpointGraph, episode: NavEpisode, name: str, rng: np.random.Generator) -> NavResult:
    """Knows the goal and walks a shortest path to it."""
    path = graph.path(episode.path[0], episode.path[-1])
    return _result(name, path, [episode.heading] * len(path))


def random_heading(graph: ViewpointGraph, episode: NavEpisode, name: str, rng: np.random.Generator) -> NavResult:
    """Turns to a random side, then moves forward five times, turning right where nothing lies ahead.

    The random agent of Anderson et al. 2018 (arXiv 1711.07280) in their simulator: headings are multiples of 30°,
    a move goes to the viewpoint nearest to the middle of the view, thirty actions end the episode.
    """
    moves = -int(rng.integers(12))  # below zero it counts the turns to come
    place, heading = episode.path[0], round(episode.heading / _TURN) * _TURN
    path, headings = [place], [heading]
    for _ in range(30):
        if moves == 5:
            break
        ahead = in_view(graph, place, heading)
        if moves < 0 or ahead is None:
            heading += _TURN
        else:
            place = ahead
        if moves < 0 or ahead is not None:
            moves += 1
        path.append(place)
        headings.append(heading)
    return _result(name, path, headings)


def forward(graph: ViewpointGraph, episode: NavEpisode, name: str, rng: np.random.Generator) -> NavResult:
    """Keeps the heading it starts with while anything lies ahead, for at most as many moves as R2R's paths have: 6."""
    place, heading = episode.path[0], episode.heading
    path = [place]
    while len(path) <= 6 and (ahead := in_view(graph, place, heading)) is not None:
        place = ahead
        path.append(place)
    return _result(name, path, [heading] * len(path))


class RandomWalk:
    """Walks to random neighbours, as many moves as a random one of the paths it was given has.

    Args:
        moves: numbers of moves to choose from, those of the training split for a matched prior.
    """

    def __init__(self, moves: Sequence[int]) -> None:
        if not moves:
            raise ValueError("a random walk needs numbers of moves to choose from")
        self._moves = tuple(moves)

    def __call__(self, graph: ViewpointGraph, episode: NavEpisode, name: str, rng: np.random.Generator) -> NavResult:
        path = [episode.path[0]]
        for _ in range(self._moves[int(rng.integers(len(self._moves)))]):
            around = graph.neighbours(path[-1])
            if around:
                path.append(around[int(rng.integers(len(around)))])
        return _result(name, path, [episode.heading] * len(path))


def matched_random(training: Iterable[NavEpisode]) -> RandomWalk:
    """A random walk with the numbers of moves of some episodes."""
    return RandomWalk([len(e.path) - 1 for e in training])


def random_moves(
    rng: np.random.Generator, *, prior: Mapping[str, float] | None = None, max_steps: int = 500
) -> list[str]:
    """Independent moves with the frequencies of the training set's reference runs, until one of them is `"stop"`.

    Args:
        prior: move → probability; R2R-CE's train split by default, as VLN-CE's random agent has it (Krantz et al.
            2020, arXiv 2004.02857). See `move_prior`.
    """
    prior = prior or {"stop": 0.02, "forward": 0.68, "left": 0.15, "right": 0.15}
    names, shares = list(prior), np.array(list(prior.values()), np.float64)
    drawn = [names[int(i)] for i in rng.choice(len(names), size=max_steps, p=shares / shares.sum())]
    return drawn[: drawn.index("stop") + 1] if "stop" in drawn else drawn


def move_prior(runs: Iterable[Sequence[str]]) -> dict[str, float]:
    """The share of each move in some runs, in the order in which they first occur."""
    counts = Counter(move for run in runs for move in run)
    return {move: n / counts.total() for move, n in counts.items()}


def forward_moves(rng: np.random.Generator, *, turn: float = 15.0, forward: int = 37) -> list[str]:
    """A random number of right turns of `turn` degrees, then `forward` moves ahead, then `"stop"`.

    VLN-CE's hand-crafted agent: 37 × 0.25 m is the mean reference path of its training split.
    """
    return ["right"] * int(rng.integers(round(360 / turn) + 1)) + ["forward"] * forward + ["stop"]


def in_view(graph: ViewpointGraph, place: str, heading: float) -> str | None:
    """The neighbour nearest to the middle of a level view of 80°, in angle; None where there is none.

    Args:
        heading: of the view [rad], clockwise from +y.
    """
    here = graph.positions[graph.index(place)]
    best: tuple[float, str] | None = None
    for name in graph.neighbours(place):
        away = graph.positions[graph.index(name)] - here
        flat = float(np.hypot(away[0], away[1]))
        aside = float((np.arctan2(away[0], away[1]) - heading + np.pi) % (2 * np.pi) - np.pi)
        angle = float(np.hypot(aside, np.arctan2(away[2], flat)))
        if flat > 0 and abs(aside) <= _HALF_VIEW and (best is None or angle < best[0]):
            best = angle, name
    return None if best is None else best[1]


def run(
    agent: GraphAgent,
    graphs: Mapping[str, ViewpointGraph],
    wanted: Sequence[tuple[str, NavEpisode]],
    *,
    seed: int = 0,
) -> list[NavResult]:
    """One result for each of `nav_score.items`; an id's randomness depends on `seed` and the id alone."""
    results: list[NavResult] = []
    for name, episode in wanted:
        digest = hashlib.sha256(f"{seed} {name}".encode()).digest()
        rng = np.random.default_rng(int.from_bytes(digest[:8], "little"))
        results.append(agent(graphs[episode.scan], episode, name, rng))
    return results


def _result(name: str, path: Sequence[str], headings: Sequence[float]) -> NavResult:
    turned = tuple(float(h % (2 * np.pi)) for h in headings)
    return NavResult(name, path=tuple(path), headings=turned, elevations=(0.0,) * len(path))
