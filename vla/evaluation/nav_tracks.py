"""One episode and what an agent did in it, turned into the distances that the formulas of `nav_metrics` take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np

from ..navigation import Goal, NavEpisode, NavigationError, NavResult, ViewpointGraph
from . import nav_metrics as formulas
from .nav_protocols import NavProtocol

_CORNERS = ("left_top", "right_top", "right_bottom", "left_bottom")
_TOLERANCE = 1e-3  # metres; positions pass through float32 and decimal text


@dataclass(frozen=True, eq=False)
class Track:
    """What the formulas need to know of one episode.

    Args:
        to_goal: float64 [n], distance to the goal at each place [m].
        oracle: float64 [n], the same for the oracle's stopping rule, where it differs.
        start: distance to the goal before the first move [m].
        length: of the path [m].
        shortest: the numerator of SPL [m].
        arrived, passed: success by the last place, and by any of them.
        costs: float64 [p r], places of the path against those of the reference; None without a reference.
        reference_length: [m].
        grounded: whether the right object was pointed at; None where nothing was asked.
        collisions: how many moves were cut short, where the result says so.
        steps: moves made, or places visited after the first.
    """

    to_goal: np.ndarray
    oracle: np.ndarray
    start: float
    length: float
    shortest: float
    arrived: bool
    passed: bool
    steps: int
    costs: np.ndarray | None = None
    reference_length: float = 0.0
    grounded: bool | None = None
    collisions: float | None = None


def measures(protocol: NavProtocol, track: Track) -> dict[str, float]:
    """All metrics of one episode: fractions, and metres for `tl`, `ne`, `one`, `gp` and `dtw`.

    `one` is the oracle's navigation error, `gp` the goal progress, `rgs` the grounding success (in SOON: of the
    detection) and `rgspl` the same weighted by path length.
    """
    radius, floor = protocol.success.radius, protocol.spl_floor
    won = float(track.arrived)
    found: dict[str, float] = {
        "tl": track.length,
        "ne": float(track.to_goal[-1]),
        "one": float(track.oracle.min()),
        "sr": won,
        "osr": float(track.passed),
        "spl": formulas.spl(won, track.shortest, track.length, floor=floor),
        "gp": track.start - float(track.to_goal[-1]),
        "steps": float(track.steps),
    }
    if track.costs is not None:
        cost = formulas.dtw(track.costs)
        found["dtw"] = cost
        found["ndtw"] = formulas.ndtw(cost, track.costs.shape[1], radius)
        found["sdtw"] = won * found["ndtw"]
        found["cls"] = formulas.cls(track.costs, track.length, track.reference_length, radius)
    if track.grounded is not None:
        found["rgs"] = float(track.grounded)
        found["rgspl"] = formulas.spl(found["rgs"], track.shortest, track.length, floor=floor)
    if not protocol.discrete:
        found["soft_spl"] = formulas.soft_spl(track.start, float(track.to_goal[-1]), track.length)
    if track.collisions is not None:
        found["collisions"] = track.collisions
    return found


def graph_track(protocol: NavProtocol, graph: ViewpointGraph, episode: NavEpisode, result: NavResult) -> Track:
    """The track of a path over viewpoints.

    Raises:
        NavigationError: the path is empty, begins elsewhere, visits an unknown viewpoint or, where the protocol
            checks it, steps between viewpoints that are not joined.
    """
    episode = _of_several(episode, result)
    rows = _rows(protocol, graph, episode, result)
    reference = [graph.index(v) for v in episode.path]
    apart = graph.distances
    goal = reference[-1]
    seen = {v for g in episode.goals for v in g.viewpoint_ids}
    if protocol.success.at == "seen_or_goal" and result.path[-1] in seen:
        goal = rows[-1]  # the oracle's place, though, is sought with the path's own goal
    to_goal = apart[rows, goal]
    if not np.isfinite(to_goal).all():
        raise NavigationError(f"{_who(result)} leaves the part of '{graph.scan}' that its goal is in")
    nearest = rows[int(np.argmin(apart[rows, reference[-1]]))]
    length, reference_length = graph.length(result.path), graph.length(episode.path)
    arrived, passed = (
        formulas.within(float(d), protocol.success.radius, strict=protocol.success.strict)
        for d in (to_goal[-1], apart[nearest, goal])
    )
    if protocol.success.at == "object_visible":
        arrived, passed = result.path[-1] in seen, not seen.isdisjoint(result.path)
    return Track(
        to_goal=to_goal,
        oracle=apart[[nearest], goal],
        start=float(apart[reference[0], goal]),
        length=length,
        shortest=reference_length if protocol.spl_length == "reference" else float(apart[reference[0], goal]),
        arrived=arrived,
        passed=passed,
        steps=len(rows) - 1,
        costs=_graph_costs(protocol, apart, rows, reference),
        reference_length=reference_length,
        grounded=_detected(episode.goals, result) if protocol.success.at == "seen_or_goal" else _named(episode, result),
    )


def continuous_track(
    protocol: NavProtocol,
    to_goal: np.ndarray,
    episode: NavEpisode,
    result: NavResult,
    dense: np.ndarray | None = None,
    shortest: float | None = None,
) -> Track:
    """The track of a path through free space.

    Args:
        to_goal: float64 [n], the distance to the nearest goal from each of the result's positions [m].
        dense: float64 [m 3], the reference's locations a step apart; without them there is no nDTW.
        shortest: length of the shortest path; None: the distance at the first position.

    Raises:
        NavigationError: no positions, more moves than the protocol allows, a jump where it checks them, or a
            position from which the goal cannot be reached.
    """
    points = _points(protocol, episode, result)
    if to_goal.shape != (len(points),):
        raise NavigationError(
            f"{_who(result)} does not have a distance for each position",
            expected=str(len(points)),
            got=str(len(to_goal)),
        )
    if not np.isfinite(to_goal).all():
        where = int(np.argmin(np.isfinite(to_goal)))
        raise NavigationError(
            f"{_who(result)}: no distance to the goal at position {where}",
            expected="positions on the floor that the goal can be reached from",
            got=str(tuple(points[where].tolist())),
        )
    near = [formulas.within(float(d), protocol.success.radius, strict=protocol.success.strict) for d in to_goal]
    stopped = result.stopped is not False or not protocol.success.stop_required
    costs, reference_length = None, 0.0
    if protocol.alignment is not None and dense is not None:
        kept = points[formulas.moved(points)] if protocol.alignment.repeats == "dropped" else points
        costs, reference_length = formulas.euclidean(kept, dense), formulas.path_length(dense)
    return Track(
        to_goal=to_goal,
        oracle=to_goal,
        start=float(to_goal[0]),
        length=formulas.path_length(points),
        shortest=float(to_goal[0]) if shortest is None else shortest,
        arrived=near[-1] and stopped,
        passed=any(near),
        steps=len(points) - 1,
        costs=costs,
        reference_length=reference_length,
        collisions=_collisions(result.extra),
    )


def _of_several(episode: NavEpisode, result: NavResult) -> NavEpisode:
    """SOON has several paths to one target, in `extra["paths"]`: the episode with the one from the result's start."""
    paths = cast("Sequence[Sequence[str]]", episode.extra.get("paths", ()))
    own = next((p for p in paths if p and list(p[:1]) == list(result.path[:1])), None)
    return episode if own is None else replace(episode, path=tuple(own))


def _rows(protocol: NavProtocol, graph: ViewpointGraph, episode: NavEpisode, result: NavResult) -> list[int]:
    """The graph's rows of a result's path."""
    if not result.path:
        raise NavigationError(f"{_who(result)} has an empty trajectory", expected="at least the start viewpoint")
    if len(episode.path) < 1:
        raise NavigationError(f"Episode '{episode.id}' has no path to score against")
    if result.path[0] != episode.path[0]:
        raise NavigationError(
            f"{_who(result)} does not begin at the start of its path", expected=episode.path[0], got=result.path[0]
        )
    try:
        rows = [graph.index(v) for v in result.path]
    except NavigationError as error:
        raise NavigationError(f"{_who(result)}: {error.what}", got=error.got, exists=error.exists) from None
    if protocol.steps_checked:
        for a, b in zip(rows, rows[1:], strict=False):
            if a != b and not graph.adjacency[a, b]:
                raise NavigationError(
                    f"{_who(result)} steps between viewpoints of '{graph.scan}' that are not joined",
                    got=f"{graph.ids[a]} to {graph.ids[b]}",
                    exists=graph.neighbours(graph.ids[a]),
                    run="expand jumps of a global planner into the viewpoints between",
                )
    return rows


def _graph_costs(
    protocol: NavProtocol, apart: np.ndarray, rows: Sequence[int], reference: Sequence[int]
) -> np.ndarray | None:
    if protocol.alignment is None:
        return None
    if protocol.alignment.repeats == "dropped":
        rows = [r for i, r in enumerate(rows) if i == 0 or r != rows[i - 1]]
    return apart[np.ix_(rows, reference)]


def _points(protocol: NavProtocol, episode: NavEpisode, result: NavResult) -> np.ndarray:
    """float64 [n 3]: a result's positions."""
    points = np.asarray(result.positions, np.float64).reshape(-1, 3)
    if not len(points):
        raise NavigationError(f"{_who(result)} has no positions", expected="at least the start")
    motion = protocol.motion
    if motion is None:
        return points
    if len(points) - 1 > motion.max_steps:
        raise NavigationError(
            f"{_who(result)} takes more steps than '{protocol.name}' allows",
            expected=f"at most {motion.max_steps}",
            got=str(len(points) - 1),
        )
    if protocol.steps_checked:
        line = points if episode.start is None else np.vstack([episode.start, points])
        jumps = np.linalg.norm(np.diff(line[:, :2], axis=0), axis=1)
        if jumps.size and jumps.max() > motion.step + _TOLERANCE:
            raise NavigationError(
                f"{_who(result)} moves further in one step than '{protocol.name}' allows",
                expected=f"at most {motion.step} m, from the episode's start on",
                got=f"{jumps.max():.3f} m before position {int(jumps.argmax()) + len(points) - len(jumps)}",
            )
    return points


def _named(episode: NavEpisode, result: NavResult) -> bool | None:
    """Whether the object that was named is the one that is meant; None where nothing was named."""
    wanted = {g.object_id for g in episode.goals if g.object_id is not None}
    return result.object_id in wanted if wanted and result.object_id is not None else None


def _detected(goals: Sequence[Goal], result: NavResult) -> bool:
    """Whether the object lies where the result points, seen from its last viewpoint; the first of its goals counts."""
    for goal in goals:
        if result.path[-1] in goal.viewpoint_ids:
            return _points_at(goal, result)
    return False


def _points_at(goal: Goal, result: NavResult) -> bool:
    """Whether SOON's `obj_heading` and `obj_elevation` lie inside the `target` polygon of its box."""
    target = cast("Mapping[str, Mapping[str, float]]", goal.extra.get("target", {}))
    try:
        corners = [(float(target[c]["heading"]), float(target[c]["elevation"])) for c in _CORNERS]
        heading, elevation = (float(np.ravel(result.extra[k])[0]) for k in ("obj_heading", "obj_elevation"))
    except (KeyError, IndexError, TypeError, ValueError):
        raise NavigationError(
            f"{_who(result)} cannot be held against its object",
            expected=f"obj_heading and obj_elevation in the result, target with {', '.join(_CORNERS)} in the box",
            got=f"{', '.join(result.extra) or 'nothing'} and {', '.join(target) or 'nothing'}",
        ) from None
    return formulas.contains(corners, heading, elevation)


def _collisions(extra: Mapping[str, object]) -> float | None:
    """How many moves were cut short: `collided`, a truth value per position, or `collisions` as habitat-lab says it."""
    collided = extra.get("collided")
    if isinstance(collided, list | tuple):
        return float(sum(map(bool, cast("Sequence[object]", collided))))
    found = extra.get("collisions")
    if isinstance(found, Mapping):
        found = cast("Mapping[str, object]", found).get("count")
    return float(found) if isinstance(found, int | float) else None


def _who(result: NavResult) -> str:
    return f"Result '{result.id}'"
