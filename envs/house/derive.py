"""From a path to a program: what a guide who walks it would tell, as operations tied to the path."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from .dice import Dice
from .program import Op, Place, Program, Step, Thing
from .scene_graph import SceneGraph, wrap

TURN = math.radians(30)
"""Changes of heading from this on are told."""
SMALLEST = 0.3
"""Landmarks measure at least this along one axis [m]."""


@dataclass(frozen=True)
class Detail:
    """How much a guide tells; chances from 0 to 1.

    Args:
        landmarks: of telling a landmark along an edge.
        turn_at: of telling where a turn is.
        straight: of telling an edge of which there is nothing to tell.
        views: of telling what comes into view.
        between: of telling the walk between two turns that would otherwise follow on each other.
        start: whether it tells where one stands at first.
        most: landmarks along one edge.
    """

    landmarks: float = 0.4
    turn_at: float = 0.3
    straight: float = 0.15
    views: float = 0.0
    between: float = 0.85
    start: bool = False
    most: int = 1


def rooms_along(scene: SceneGraph, nodes: list[int]) -> list[int]:
    """The room a walker is in at each viewpoint: in a doorway still the one it came from."""
    rooms: list[int] = []
    for node in nodes:
        rooms.append(int(scene.room[node]) if scene.room[node] >= 0 or not rooms else rooms[-1])
    return rooms


def turns_of(scene: SceneGraph, nodes: list[int], heading: float) -> list[float]:
    """The change of heading before each edge [rad], to the right positive."""
    out: list[float] = []
    for a, b in zip(nodes, nodes[1:], strict=False):
        out.append(wrap(scene.heading(a, b) - heading))
        heading = scene.heading(a, b)
    return out


def direction_of(change: float) -> str:
    """The word for a change of heading, `""` for straight on."""
    degrees = math.degrees(abs(change))
    if degrees < math.degrees(TURN):
        return ""
    if degrees >= 150:
        return "around"
    side = "right" if change > 0 else "left"
    return f"slight_{side}" if degrees < 45 else side


def derive(scene: SceneGraph, path: tuple[str, ...], heading: float, seed: str, detail: Detail) -> Program:
    """A program of a path; different seeds choose different landmarks."""
    return _Guide(scene, path, heading, Dice(f"program {seed}"), detail).program()


class _Guide:
    def __init__(self, scene: SceneGraph, path: tuple[str, ...], heading: float, dice: Dice, detail: Detail) -> None:
        self.scene, self.dice, self.detail = scene, dice, detail
        self.nodes = [scene.graph.index(v) for v in path]
        self.rooms = rooms_along(scene, self.nodes)
        self.start_heading = wrap(heading)
        self.turns = turns_of(scene, self.nodes, self.start_heading)
        self.told: set[int] = set()

    def program(self) -> Program:
        steps: list[Step] = self._start() if self.detail.start else []
        for i in range(len(self.nodes) - 1):
            turn = self._turn(i)
            if turn and steps and steps[-1].op.kind == "turn" and self.dice.chance(self.detail.between):
                # Between two turns one walks: without that they would sound like one.
                steps.append(self._straight(i - 1))
            said = [*([turn] if turn else []), *self._edge(i)]
            if not said and self.dice.chance(self.detail.straight):
                said = [self._straight(i)]
            steps.extend(said)
            if self.detail.views and self.dice.chance(self.detail.views):
                steps.extend(self._view(i + 1))
        return (*steps, self._stop())

    # --- things ------------------------------------------------------------------------------------------------------

    def _thing(self, item: int, rivals: list[int]) -> Thing | None:
        """The shortest description that tells an item from its rivals; now and then with a colour beyond need."""
        there = self.scene.house.items[item]
        for colour in (there.colour, "") if self.dice.chance(0.3) else ("", there.colour):
            thing = Thing(there.category, colour)
            fits = set(self.scene.items(thing).tolist())
            if not fits & set(rivals) - {item}:
                return thing
        return None

    def _seen(self, node: int) -> list[int]:
        return [int(i) for i in self.scene.visible[node].nonzero()[0]]

    def _candidates(self, items: list[int], rivals: list[int]) -> list[tuple[int, Thing]]:
        """Items that can be told from their rivals, those not told of before, large ones more likely first."""
        large = [i for i in items if i not in self.told and max(self.scene.house.items[i].size) >= SMALLEST]
        found = [(i, self._thing(i, rivals)) for i in large]
        usable = [(i, thing) for i, thing in found if thing is not None]
        key = {i: self.dice.real(0.2, 1) * min(1.5, max(self.scene.house.items[i].size)) for i, _ in usable}
        return sorted(usable, key=lambda u: -key[u[0]])

    # --- operations --------------------------------------------------------------------------------------------------

    def _start(self) -> list[Step]:
        node, room = self.nodes[0], self.rooms[0]
        seen = self._seen(node)
        ahead = [i for i in seen if self.scene.seen_on(node, self.start_heading, i) == "ahead"]
        place = Place(self.scene.house.rooms[room].kind)
        for item, thing in self._candidates(ahead, ahead)[:1]:
            self.told.add(item)
            return [Step(Op("start", thing=thing, place=place), 0, item, room, needed=False)]
        return [Step(Op("start", place=place), 0, room=room, needed=False)]

    def _turn(self, i: int) -> Step | None:
        direction = direction_of(self.turns[i])
        if not direction:
            return None
        if direction in ("left", "right") and i > 0 and self.dice.chance(self.detail.turn_at):
            node = self.nodes[i]
            near = [j for j in self._seen(node) if self.scene.distance[node, j] < 1.2]
            for item, thing in self._candidates(near, self._seen(node))[:1]:
                self.told.add(item)
                return Step(Op("turn", direction, thing=thing), i, item)
            fresh = self.rooms[i] != self.rooms[i - 1] and self.rooms[i] == int(self.scene.room[node])
            if fresh:
                place = Place(self.scene.house.rooms[self.rooms[i]].kind)
                return Step(Op("turn", direction, place=place), i, room=self.rooms[i])
        return Step(Op("turn", direction), i)

    def _edge(self, i: int) -> list[Step]:
        """What is told of an edge: landmarks on this side of a doorway, the doorway, landmarks behind it."""
        landmarks = self._landmarks(i)
        if self.rooms[i] == self.rooms[i + 1]:
            return landmarks
        items = self.scene.house.items
        before = [s for s in landmarks if items[s.item].room == self.rooms[i] and s.op.kind == "pass"]
        after = [s for s in landmarks if s not in before and s.op.kind == "pass"]
        toward = [s for s in landmarks if s.op.kind == "toward"]
        return [*toward, *before, *self._crossing(i), *after]

    def _landmarks(self, i: int) -> list[Step]:
        scene, a, b = self.scene, self.nodes[i], self.nodes[i + 1]
        if not self.dice.chance(self.detail.landmarks):
            return []
        passed = {j: side for j in self._seen(a) + self._seen(b) if (side := scene.passed_on(a, b, j))}
        ahead = [j for j in self._seen(a) if scene.is_toward(a, b, j)]
        steps: list[Step] = []
        rivals = sorted(set(self._seen(a) + self._seen(b)))
        for item, thing in self._candidates(sorted(passed), rivals)[: self.detail.most]:
            side = passed[item] if self.dice.chance(0.75) else ""
            steps.append(Step(Op("pass", thing=thing, side=side), i, item, needed=False))
        if not steps or self.dice.chance(0.25):
            for item, thing in self._candidates(ahead, rivals)[:1]:
                if all(item != s.item for s in steps):
                    steps.insert(0, Step(Op("toward", thing=thing), i, item, needed=False))
        self.told.update(s.item for s in steps)
        return steps

    def _place(self, room: int, rivals: list[int]) -> Place:
        """A room as told from others of its kind; by what is in it where there are such."""
        there = self.scene.house.rooms[room]
        like = [r for r in rivals if r != room and self.scene.house.rooms[r].kind == there.kind]
        if like:
            own = [i.id for i in self.scene.house.items if i.room == room and max(i.size) > 0.5]
            others = [i.id for i in self.scene.house.items if i.room in like]
            for _, thing in self._candidates(own, [*own, *others])[:1]:
                return Place(there.kind, thing)
        return Place(there.kind)

    def _crossing(self, i: int) -> list[Step]:
        scene, dice = self.scene, self.dice
        a, b = self.rooms[i], self.rooms[i + 1]
        rise = scene.storey(b) - scene.storey(a)
        leave = Step(Op("leave", place=Place(scene.house.rooms[a].kind)), i, room=a)
        target = self._place(b, sorted(scene.beside[a]))
        if rise:
            stairs = Step(Op("stairs", "up" if rise > 0 else "down"), i)
            return [stairs, Step(Op("enter", place=target), i, room=b)] if dice.chance(0.3) else [stairs]
        opening = scene.opening(a, b)
        via = ("door" if opening.kind == "door" else "opening") if opening and dice.chance(0.35) else ""
        enter = Step(Op("enter", place=target, via=via), i, room=b)
        pick = dice.weighted(("enter", "both", "leave"), (0.65, 0.2, 0.15))
        if pick == "leave" and self._only_exit(a, b) and i + 2 < len(self.nodes) and self.turns[i + 1] ** 2 > TURN**2:
            return [leave]
        return [leave, enter] if pick == "both" else [enter]

    def _only_exit(self, a: int, b: int) -> bool:
        return self.scene.beside[a] == frozenset({b})

    def _straight(self, i: int) -> Step:
        room = self.rooms[i]
        if self.rooms[i + 1] == room and self.dice.chance(0.4):
            return Step(Op("cross", place=Place(self.scene.house.rooms[room].kind)), i, room=room, needed=False)
        return Step(Op("forward"), i, needed=False)

    def _view(self, i: int) -> list[Step]:
        if i >= len(self.nodes) - 1:
            return []
        node, heading = self.nodes[i], self.scene.heading(self.nodes[i - 1], self.nodes[i])
        seen = self._seen(node)
        sides = {j: side for j in seen if (side := self.scene.seen_on(node, heading, j))}
        for item, _ in self._candidates(sorted(sides), [])[:1]:
            self.told.add(item)
            there = self.scene.house.items[item]
            thing = Thing(there.category, there.colour)
            return [Step(Op("see", thing=thing, side=sides[item]), i, item, needed=False)]
        return []

    def _stop(self) -> Step:
        scene, node, room = self.scene, self.nodes[-1], self.rooms[-1]
        i = len(self.nodes) - 1
        items = scene.house.items
        inside = [j.id for j in items if j.room == room]
        near = [j for j in self._seen(node) if items[j].room == room and scene.distance[node, j] < 1.8]
        before, self.told = self.told, set[int]()
        usable = self._candidates(near, inside)
        # What the goal is nearest to tells it best, and something new better than what was told on the way.
        key = {j: scene.distance[node, j] + self.dice.real(0, 0.5) + 0.6 * (j in before) for j, _ in usable}
        usable.sort(key=lambda u: key[u[0]])
        for item, thing in usable[:1]:
            relation = "front" if scene.in_front[node, item] and self.dice.chance(0.5) else "near"
            return Step(Op("stop", thing=thing, relation=relation), i, item)
        for end in ("top", "bottom"):
            if scene.stairs_distance(node, end) < 1.2:
                return Step(Op("stop", relation=end), i)
        place = Place(scene.house.rooms[room].kind)
        relation = "door" if scene.door_distance[node] < 1.3 else "in"
        return Step(Op("stop", place=place, relation=relation), i, room=room)


def without_repetition(program: Program) -> Program:
    """Drops operations that are said twice in a row."""
    kept: list[Step] = []
    for step in program:
        if not kept or kept[-1].op != step.op or step.op.kind not in ("forward", "cross"):
            kept.append(step)
    return tuple(replace(step) for step in kept)
