"""From a path to a program: what a guide who walks it would tell, as operations tied to the path."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, replace

from .combinations import is_held_out
from .dice import Dice
from .program import TALK, Op, Place, Program, Step, Thing
from .scene_graph import IMPLIED, SceneGraph, wrap

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
        implied: of leaving out a turn that goes without saying: into the room or toward the thing that is named next.
        start: whether it tells where one stands at first.
        most: landmarks along one edge.
    """

    landmarks: float = 0.4
    turn_at: float = 0.3
    straight: float = 0.15
    views: float = 0.0
    between: float = 1.0
    implied: float = 0.0
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


def derive(
    scene: SceneGraph, path: tuple[str, ...], heading: float, seed: str, detail: Detail, held_out: bool | None = None
) -> Program | None:
    """A program of a path; different seeds choose different landmarks.

    Args:
        held_out: whether it has one of the combinations that are held out (True), none of them (False), or as it comes.

    Returns:
        None where no landmark of the path makes a combination that is held out.
    """
    guide = _Guide(scene, path, heading, Dice(f"program {seed}"), detail, held_out)
    return None if held_out and not guide.fixed_held_out() else guide.program()


class _Guide:
    def __init__(
        self,
        scene: SceneGraph,
        path: tuple[str, ...],
        heading: float,
        dice: Dice,
        detail: Detail,
        held_out: bool | None,
    ) -> None:
        self.scene, self.dice, self.detail, self.held_out = scene, dice, detail, held_out
        self.nodes = [scene.graph.index(v) for v in path]
        self.rooms = rooms_along(scene, self.nodes)
        self.start_heading = wrap(heading)
        self.turns = turns_of(scene, self.nodes, self.start_heading)
        self.said = [direction_of(t) for t in self.turns]
        self.told: set[int] = set()
        self.fixed: dict[int, Step] = {}  # what must be told at an edge
        # From the end: which combinations a landmark makes depends on the turns after it.
        for i in reversed(range(len(self.turns))):
            if self.said[i] and abs(self.turns[i]) < IMPLIED and dice.chance(detail.implied):
                self._imply(i)

    def _imply(self, i: int) -> None:
        """Leave a turn out where what comes next tells it."""
        if self.rooms[i] != self.rooms[i + 1]:
            kinds = [self.scene.house.rooms[r].kind for r in self.scene.beside[self.rooms[i]]]
            if kinds.count(self.scene.house.rooms[self.rooms[i + 1]].kind) == 1:
                self.said[i] = ""
            return
        toward = [s for s in self._along(i) if s.op.kind == "toward" and self._allowed(s.op, i)]
        if toward and self.detail.landmarks and i + 1 not in self.fixed and len(self.fixed) < 3:
            step = self.dice.pick(toward)
            self.said[i], self.fixed[i] = "", step
            self.told.add(step.item)

    def fixed_held_out(self) -> bool:
        """Choose a landmark that makes a combination that is held out; False where the path has none."""
        options: list[tuple[int, Step]] = []
        for i in range(len(self.turns)):
            options += [(i, s) for s in self._along(i) if is_held_out(s.op, self._next_turn(i))]
            if i and self.said[i] in ("left", "right"):
                turns = [Step(Op("turn", self.said[i], thing=t), i, j) for j, t in self._turned_at(i)]
                options += [(i, s) for s in turns if is_held_out(s.op, self.said[i])]
        free = [(i, s) for i, s in options if i not in self.fixed]
        if not free:
            return any(is_held_out(s.op, self._next_turn(i)) for i, s in self.fixed.items())
        i, step = self.dice.pick(free)
        self.fixed[i] = step
        self.told.add(step.item)
        return True

    def _next_turn(self, i: int) -> str:
        """The turn that is told next by one who walks along an edge."""
        return next((d for d in self.said[i + 1 :] if d), "")

    def _allowed(self, op: Op, i: int) -> bool:
        return self.held_out is not False or not is_held_out(op, self._next_turn(i))

    def program(self) -> Program:
        steps: list[Step] = self._start() if self.detail.start else []
        for i in range(len(self.nodes) - 1):
            done = next((s.op.kind for s in reversed(steps) if s.op.kind not in TALK), "")
            if done == "turn" and not self.said[i]:
                # What follows a turn lies where it leads, unless another turn is told.
                self.said[i] = direction_of(self.turns[i])
            turn = self._turn(i)
            if turn and steps and steps[-1].op.kind == "turn" and self.dice.chance(self.detail.between):
                # Between two turns one walks: without that they would sound like one.
                near = self._landmarks(i - 1, 1.0)[-1:] if self.detail.landmarks > 0.1 else []
                steps.extend(near or [self._straight(i - 1)])
            said = [*([turn] if turn else []), *self._edge(i)]
            if not said and self.dice.chance(self.detail.straight):
                said = [self._straight(i)]
            steps.extend(said)
            if self.detail.views and self.dice.chance(self.detail.views):
                steps.extend(self._view(i + 1))
        return (*steps, self._stop())

    # --- things ------------------------------------------------------------------------------------------------------

    def _thing(self, item: int, like: Counter[tuple[str, str]], own: int) -> Thing | None:
        """The shortest description that tells an item from its rivals; now and then with a colour beyond need.

        Args:
            like: how many rivals each description fits, `own` of which is the item itself.
        """
        there = self.scene.house.items[item]
        for colour in (there.colour, "") if self.dice.chance(0.3) else ("", there.colour):
            if like[there.category, colour] == own:
                return Thing(there.category, colour)
        return None

    def _candidates(self, items: list[int], rivals: list[int]) -> list[tuple[int, Thing]]:
        """Items that can be told from their rivals, those not told of before, large ones more likely first."""
        known = self.scene.house.items
        large = [i for i in items if i not in self.told and max(known[i].size) >= SMALLEST]
        others = set(rivals) if large else set[int]()
        like = Counter((known[j].category, c) for j in others for c in {"", known[j].colour})
        found = [(i, self._thing(i, like, int(i in others))) for i in large]
        usable = [(i, thing) for i, thing in found if thing is not None]
        key = {i: self.dice.real(0.2, 1) * min(1.5, max(self.scene.house.items[i].size)) for i, _ in usable}
        return sorted(usable, key=lambda u: -key[u[0]])

    # --- operations --------------------------------------------------------------------------------------------------

    def _start(self) -> list[Step]:
        node, room = self.nodes[0], self.rooms[0]
        seen = self.scene.seen(node)
        ahead = [i for i in seen if self.scene.seen_on(node, self.start_heading, i) == "ahead"]
        place = Place(self.scene.house.rooms[room].kind)
        for item, thing in self._candidates(ahead, ahead)[:1]:
            self.told.add(item)
            return [Step(Op("start", thing=thing, place=place), 0, item, room, needed=False)]
        return [Step(Op("start", place=place), 0, room=room, needed=False)]

    def _turned_at(self, i: int) -> list[tuple[int, Thing]]:
        """What stands where a turn is."""
        node = self.nodes[i]
        near = [j for j in self.scene.seen(node) if self.scene.distance[node, j] < 1.2]
        return self._candidates(near, self.scene.seen(node))

    def _turn(self, i: int) -> Step | None:
        direction, fixed = self.said[i], self.fixed.get(i)
        if fixed is not None and fixed.op.kind == "turn":
            return fixed
        if direction in ("left", "right") and i > 0 and self.dice.chance(self.detail.turn_at):
            for item, thing in self._turned_at(i):
                step = Step(Op("turn", direction, thing=thing), i, item)
                if self.held_out is not False or not is_held_out(step.op, direction):
                    self.told.add(item)
                    return step
            room = self.rooms[i]
            if room != self.rooms[i - 1] and room == int(self.scene.room[self.nodes[i]]):
                return Step(Op("turn", direction, place=Place(self.scene.house.rooms[room].kind)), i, room=room)
        return Step(Op("turn", direction), i) if direction else None

    def _edge(self, i: int) -> list[Step]:
        """What is told of an edge: landmarks on this side of a doorway, the doorway, landmarks behind it."""
        landmarks = self._landmarks(i, self.detail.landmarks)
        if self.rooms[i] == self.rooms[i + 1]:
            return landmarks
        items = self.scene.house.items
        before = [s for s in landmarks if items[s.item].room == self.rooms[i] and s.op.kind == "pass"]
        after = [s for s in landmarks if s not in before and s.op.kind == "pass"]
        toward = [s for s in landmarks if s.op.kind == "toward"]
        return [*toward, *before, *self._crossing(i), *after]

    def _along(self, i: int) -> list[Step]:
        """All that can be told of an edge: things passed, with and without their side, and things ahead."""
        scene, a, b = self.scene, self.nodes[i], self.nodes[i + 1]
        rivals = sorted({*scene.seen(a), *scene.seen(b)})
        passed = scene.passed(a, b)
        steps = [
            Step(Op("pass", thing=thing, side=side), i, item, needed=False)
            for item, thing in self._candidates([*passed], rivals)
            for side in ((passed[item], "") if self.dice.chance(0.75) else ("", passed[item]))
        ]
        ahead = self._candidates([*scene.ahead(a, b)], rivals)
        return steps + [Step(Op("toward", thing=thing), i, item, needed=False) for item, thing in ahead]

    def _landmarks(self, i: int, chance: float) -> list[Step]:
        fixed = [s for s in (self.fixed.get(i),) if s is not None and s.op.kind != "turn"]
        if not fixed and not self.dice.chance(chance):
            return []
        options = [s for s in self._along(i) if self._allowed(s.op, i)]
        passed = {s.item: s for s in reversed(options) if s.op.kind == "pass"}
        steps = [*fixed, *reversed(passed.values())][: max(self.detail.most, len(fixed))]
        if not steps or (not fixed and self.dice.chance(0.25)):
            ahead = [s for s in options if s.op.kind == "toward" and all(s.item != t.item for t in steps)]
            steps = [*ahead[:1], *steps]
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
        implied = direction_of(self.turns[i]) and not self.said[i]
        if pick == "leave" and not implied and self._only_exit(a, b) and any(self.said[i + 1 : i + 2]):
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
        seen = self.scene.seen(node)
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
        near = [j for j in self.scene.seen(node) if items[j].room == room and scene.distance[node, j] < 1.8]
        before, self.told = self.told, set[int]()
        usable = self._candidates(near, inside)
        # What the goal is nearest to tells it best, and something new better than what was told on the way.
        key = {j: scene.distance[node, j] + self.dice.real(0, 0.5) + (j in before) for j, _ in usable}
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
