"""Verification of instructions by their words alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from .follower import APART, Followed, Follower
from .goals import meant
from .paths import Path
from .program import Op
from .scene_graph import SceneGraph

MISFIT: Final = 0.5
"""Texts that fit the follower's walk worse are refused even where it arrives: some turn or landmark must be wrong."""


@dataclass(frozen=True)
class Verdict:
    """What came of checking a text.

    Args:
        reached: whether the follower stopped within 3 m of the goal.
        fits: whether its walk does what the text says; with left and right exchanged it may still arrive.
        unseen: landmarks that are named but not visible from the way.
        ambiguous: what the words may mean besides what they should.
        followed: where the follower went.
    """

    reached: bool
    fits: bool
    unseen: tuple[str, ...]
    ambiguous: tuple[str, ...]
    followed: Followed

    @property
    def accepted(self) -> bool:
        return self.reached and self.fits and not self.unseen and not self.ambiguous


def verify(follower: Follower, path: Path, text: str) -> Verdict:
    """Check a text by following it: only its words, the scene, the start and the goal's place count.

    Accepted is a text whose follower stops within 3 m of the goal on a walk that does what the text says, while no
    other place fits nearly as well, whose landmarks are visible from the way, and whose definite descriptions fit one
    object each where they are used.
    """
    scene = follower.scene
    followed = follower.follow(path.viewpoints[0], path.heading, text)
    goal = scene.graph.index(path.viewpoints[-1])
    reached = bool(scene.graph.distances[scene.graph.index(followed.path[-1]), goal] <= APART)
    ops = follower.read(text)
    goal = () if not any(op.kind == "find" for op in ops) or len(meant(scene, ops)) == 1 else ("goal",)
    if any(op.kind == "find" for op in ops) and not any(op.kind == "stop" for op in ops):
        return Verdict(reached, True, (), goal, followed)
    nodes = [scene.graph.index(v) for v in followed.path]
    unseen, ambiguous = _landmarks(scene, ops, nodes, path.heading)
    ambiguous = (*goal, *ambiguous, *(("way",) if followed.rival else ()))
    return Verdict(reached, followed.misfit <= MISFIT, unseen, ambiguous, followed)


def _landmarks(
    scene: SceneGraph, ops: Sequence[Op], nodes: list[int], heading: float
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Landmarks that are not visible where they are used, and those that could be several objects."""
    unseen: list[str] = []
    ambiguous: list[str] = []
    for op in ops:
        if op.thing is None or op.kind in ("ignore", "find"):
            continue
        counts = _fitting(scene, op, nodes, heading)
        name = f"{op.thing.colour} {op.thing.category}".strip()
        if not counts:
            unseen.append(name)
        elif op.kind != "see" and min(counts) > 1:
            ambiguous.append(name)
    return tuple(unseen), tuple(ambiguous)


def _fitting(scene: SceneGraph, op: Op, nodes: list[int], heading: float) -> list[int]:
    """At each place of a way where an operation with a landmark fits: how many objects in view are so described."""
    assert op.thing is not None
    items = scene.items(op.thing).tolist()
    counts: list[int] = []
    if op.kind == "stop":
        room = scene.room[nodes[-1]]
        if any(scene.visible[nodes[-1], i] for i in items):
            counts.append(max(1, sum(scene.house.items[i].room == room for i in items)))
        return counts
    if op.kind == "start":
        ahead = [i for i in items if scene.seen_on(nodes[0], heading, i) == "ahead"]
        return [len(ahead)] if ahead else []
    for k, node in enumerate(nodes):
        seen = [i for i in items if scene.visible[node, i]]
        if op.kind == "turn":
            if any(scene.distance[node, i] < 3.0 for i in seen):
                counts.append(len(seen))
        elif op.kind == "see":
            came = heading if k == 0 else scene.heading(nodes[k - 1], node)
            if any(scene.seen_on(node, came, i) == op.side for i in seen):
                counts.append(len(seen))
        elif k + 1 < len(nodes):
            after = nodes[k + 1]
            both = [i for i in items if scene.visible[node, i] or scene.visible[after, i]]
            if op.kind == "pass" and any(
                scene.passed_on(node, after, i) in (op.side or "left", op.side or "right") for i in both
            ):
                counts.append(len(both))
            if op.kind == "toward" and any(scene.is_toward(node, after, i) for i in seen):
                counts.append(len(seen))
    return counts
