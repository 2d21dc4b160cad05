"""A whole split scored: every instruction against its result, means with intervals, and two agents side by side."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from ..errors import DataError
from ..navigation import Goal, NavEpisode, NavigationError, NavResult, ViewpointGraph
from .nav_protocols import NavProtocol
from .nav_tracks import Track, continuous_track, graph_track, measures
from .statistics import cluster_bootstrap

Distances = Callable[[str, np.ndarray, np.ndarray], np.ndarray]
"""Distance functions of continuous benchmarks: scan, points [n 3], goals [k 3] → to the nearest goal, [n]."""

RECORDED = "distance"
"""Where a result's `extra` holds the distance to the goal that was measured at each of its positions [m]."""

_ALIGNED = ("ndtw", "sdtw", "cls")


@dataclass(frozen=True)
class World:
    """Where distances come from.

    Args:
        graphs: scan → viewpoint graph, for discrete protocols.
        distances: for continuous protocols; None: those that the results have recorded.
        references: episode id → float64 [m 3], dense ground-truth locations.
        file_distances: SPL's numerator is the episode's own `distance` where it has one.
    """

    graphs: Mapping[str, ViewpointGraph] = field(default_factory=dict)
    distances: Distances | None = None
    references: Mapping[str, np.ndarray] = field(default_factory=dict)
    file_distances: bool = False


@dataclass(frozen=True)
class Row:
    """The metrics of one instruction; `path` is the same for all instructions of one path."""

    id: str
    path: Hashable
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class Score:
    """A scored split.

    Args:
        protocol: what was measured.
        split_hash: of the annotations, see `split_hash`.
        rows: one per instruction, in the annotations' order.
        missing: instructions without a result: failures, or left out, as the protocol has it.
        ignored: results of unknown ids, and results after the first of an id, which were not looked at.
    """

    protocol: NavProtocol
    split_hash: str
    rows: tuple[Row, ...]
    missing: int = 0
    ignored: int = 0

    @property
    def id(self) -> str:
        """Identifies what the numbers were measured by and on."""
        return self.protocol.id(self.split_hash, len(self.rows))

    @cached_property
    def metrics(self) -> dict[str, float]:
        """Means over all instructions."""
        return dict(zip(self.names, self.values.mean(axis=0).tolist(), strict=True))

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The metrics that every row has."""
        return tuple(n for n in self.rows[0].metrics if all(n in r.metrics for r in self.rows))

    @cached_property
    def values(self) -> np.ndarray:
        """float64 [rows, names]."""
        return np.array([[r.metrics[n] for n in self.names] for r in self.rows], np.float64)

    def intervals(self, *, confidence: float = 0.95, resamples: int = 2000, seed: int = 0) -> dict[str, list[float]]:
        """Bootstrap intervals of the means, resampled by path: instructions of one path are no independent draws."""
        low, high = cluster_bootstrap(
            self.values, [r.path for r in self.rows], confidence=confidence, resamples=resamples, seed=seed
        )
        return {n: [float(a), float(b)] for n, a, b in zip(self.names, low, high, strict=True)}


def items(protocol: NavProtocol, episodes: Sequence[NavEpisode]) -> list[tuple[str, NavEpisode]]:
    """What a submission must hold: the ids of results with their episodes, in order."""
    found: list[tuple[str, NavEpisode]] = []
    for episode in episodes:
        ids = [i.id for i in episode.instructions] or [episode.id]
        if protocol.instructions is not None:
            ids = [f"{episode.id}_{i}" for i in range(protocol.instructions)]
        found += [(i, episode) for i in ids]
    seen: set[str] = set()
    for name, _ in found:
        if name in seen:
            raise DataError("The annotations hold an id twice", got=name)
        seen.add(name)
    if not found:
        raise DataError("The annotations hold no episodes")
    return found


def split_hash(episodes: Sequence[NavEpisode]) -> str:
    """16 hexadecimal digits over what is asked: ids, starts, paths, goals and words, whatever file they came in."""

    told = [
        [
            e.id,
            e.scan,
            e.path,
            round(e.heading, 6) + 0.0,
            _rounded(e.start),
            [_rounded(p) for p in e.reference],
            [_told(g) for g in e.goals],
            [[i.id, i.text, i.language] for i in e.instructions],
        ]
        for e in sorted(episodes, key=lambda e: e.id)
    ]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]


def _told(goal: Goal) -> list[object]:
    seen_from = [_rounded(v) for v in goal.viewpoints]
    return [_rounded(goal.position), goal.object_id, goal.category, sorted(goal.viewpoint_ids), seen_from]


def _rounded(point: Sequence[float] | None) -> list[float] | None:
    # Six decimals absorb a passage through float32 text; + 0.0 turns −0.0 into 0.0.
    return None if point is None else [round(float(x), 6) + 0.0 for x in point]


def score(protocol: NavProtocol, episodes: Sequence[NavEpisode], results: Sequence[NavResult], world: World) -> Score:
    """Score the results of a split.

    Raises:
        NavigationError: a result breaks the protocol; the message says which and how.
        DataError: results are missing, or unknown or repeated where the protocol does not ignore them.
    """
    wanted = items(protocol, episodes)
    chosen, ignored = _match(protocol, dict(wanted), results)
    missing = [name for name, _ in wanted if name not in chosen]
    if missing and protocol.missing == "error":
        raise DataError(
            f"Results are missing for {len(missing)} of {len(wanted)} instructions",
            expected="one result for each, a failed run included",
            got=f"none for {', '.join(missing[:5])}{' …' if len(missing) > 5 else ''}",
        )
    pointing = [r for r in chosen.values() if r.object_id is not None]
    if pointing and len(pointing) < len(chosen):
        silent = next(r for r in chosen.values() if r.object_id is None)
        raise NavigationError(
            f"Result '{silent.id}' names no object, but {len(pointing)} others do",
            expected="an object in every result, or in none",
        )
    counted = [w for w in wanted if w[0] in chosen] if protocol.missing == "left_out" else wanted
    if not counted:
        raise DataError("No result has an id of these annotations", exists=[*list(dict(wanted))[:3], "…"])
    rows = [_row(protocol, world, name, episode, chosen.get(name), bool(pointing)) for name, episode in counted]
    return Score(protocol, split_hash(episodes), tuple(rows), len(missing), ignored)


def _match(
    protocol: NavProtocol, wanted: Mapping[str, NavEpisode], results: Sequence[NavResult]
) -> tuple[dict[str, NavResult], int]:
    """The first result of each known id, and how many others there are."""
    chosen: dict[str, NavResult] = {}
    ignored = 0
    for result in results:
        known, again = result.id in wanted, result.id in chosen
        if known and not again:
            chosen[result.id] = result
        elif protocol.others == "error":
            what = "occurs twice in the results" if known else "is not an id of these annotations"
            raise DataError(
                f"'{result.id}' {what}",
                expected=f"each of {len(wanted)} ids once",
                exists=[*list(wanted)[:3], "…"] if not known else None,
            )
        else:
            ignored += 1
    return chosen, ignored


def _row(
    protocol: NavProtocol, world: World, name: str, episode: NavEpisode, result: NavResult | None, pointing: bool
) -> Row:
    where = (episode.scan, episode.path) if episode.path else (episode.scan, episode.start, episode.reference)
    if result is not None:
        return Row(name, where, measures(protocol, track(protocol, world, episode, result)))
    failed = replace(track(protocol, world, episode, unmoved(name, episode)), arrived=False, passed=False)
    found = measures(protocol, failed if not pointing else replace(failed, grounded=False))
    # Standing still aligns with a short reference rather well; a run that never came back has not done even that.
    return Row(name, where, {k: 0.0 if k in _ALIGNED else v for k, v in found.items()})


def unmoved(name: str, episode: NavEpisode) -> NavResult:
    """The result of stopping at once."""
    start = () if episode.start is None else (episode.start,)
    at_start = {} if episode.distance is None else {RECORDED: (episode.distance,)}
    return NavResult(name, path=episode.path[:1], positions=start, stopped=True, extra=at_start)


def track(protocol: NavProtocol, world: World, episode: NavEpisode, result: NavResult) -> Track:
    """The track of one result in its world."""
    if protocol.discrete:
        if episode.scan not in world.graphs:
            raise DataError(
                f"There is no viewpoint graph of '{episode.scan}'",
                exists=sorted(world.graphs)[:10],
                run="connectivity=DIR, the folder with <scan>_connectivity.json",
            )
        return graph_track(protocol, world.graphs[episode.scan], episode, result)
    dense = world.references.get(episode.id)
    if world.references and dense is None and protocol.alignment is not None:
        raise DataError(f"The ground-truth locations do not hold episode '{episode.id}'")
    told = episode.distance
    shortest = told if world.file_distances and told is not None and np.isfinite(told) else None
    return continuous_track(protocol, _to_goal(protocol, world, episode, result), episode, result, dense, shortest)


def _to_goal(protocol: NavProtocol, world: World, episode: NavEpisode, result: NavResult) -> np.ndarray:
    """float64 [n]: the distance to the nearest goal from each position of a result."""
    if world.distances is not None:
        points = np.asarray(result.positions, np.float64).reshape(-1, 3)
        return np.asarray(world.distances(episode.scan, points, goal_points(protocol, episode)), np.float64)
    recorded = result.extra.get(RECORDED)
    if recorded is None:
        raise NavigationError(
            f"Result '{result.id}' has no recorded distances",
            expected="for each position, what the simulator measured as its distance to the goal [m]",
        )
    return np.asarray(recorded, np.float64)


def goal_points(protocol: NavProtocol, episode: NavEpisode) -> np.ndarray:
    """float64 [k 3]: the points that distances are taken to [m]."""
    if protocol.success.at == "nearest_goal":
        found = [p for g in episode.goals for p in g.viewpoints]
    else:
        found = [g.position for g in episode.goals if g.position is not None]
    if not found:
        raise NavigationError(
            f"Episode '{episode.id}' has no goal",
            expected="a split whose goals are published; those of test splits are not",
        )
    return np.asarray(found, np.float64)


def compare(
    ours: Score, theirs: Score, *, confidence: float = 0.95, resamples: int = 2000, seed: int = 0
) -> dict[str, object]:
    """Differences `ours` − `theirs` on the same instructions, with intervals resampled by path.

    Raises:
        DataError: they are not of the same instructions.
    """
    if [r.id for r in ours.rows] != [r.id for r in theirs.rows]:
        raise DataError("Two agents are compared on the same instructions; these have results for different ones")
    names = [n for n in ours.names if n in theirs.names]
    first = ours.values[:, [ours.names.index(n) for n in names]]
    second = theirs.values[:, [theirs.names.index(n) for n in names]]
    low, high = cluster_bootstrap(
        first - second, [r.path for r in ours.rows], confidence=confidence, resamples=resamples, seed=seed
    )
    mean = (first - second).mean(axis=0)
    sr = names.index("sr")
    return {
        "difference": {n: float(v) for n, v in zip(names, mean, strict=True)},
        "intervals": {n: [float(a), float(b)] for n, a, b in zip(names, low, high, strict=True)},
        "only_this_succeeds": int((first[:, sr] > second[:, sr]).sum()),
        "only_other_succeeds": int((first[:, sr] < second[:, sr]).sum()),
    }
