"""An oracle that follows instructions by their words: it reads a text, finds what it names in the scene, and walks.

It searches for the cheapest walk on the viewpoint graph that does everything the text says in its order: every turn
that is not said, every door that is not mentioned, every landmark that is not there costs. It knows the house
perfectly and the intended path not at all.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from ...vla.navigation import ViewpointGraph
from .goals import meant
from .house import House
from .lexicon import Lexicon
from .lexicon_en import ENGLISH
from .parser import parse
from .program import TALK, Op
from .scene_graph import IMPLIED, SceneGraph, wrap

MARGIN: Final = 0.25
"""How much worse a rival may fit and still make a text ambiguous."""
APART: Final = 3.0
"""Ends farther from each other are different places [m]."""
_WALK: Final = 0.04
"""What a metre of way costs: of walks that fit alike the shortest is meant."""
_MOST_STATES: Final = 30000
_SKIP: Final = {"turn": 2.0, "leave": 2.5, "enter": 2.5, "stairs": 3.0, "cross": 0.7, "pass": 1.5, "toward": 1.5}
_NAMES: Final = frozenset({"leave", "enter", "stairs", "toward"})


@dataclass(frozen=True)
class Followed:
    """Where a text led.

    Args:
        path: viewpoint ids from the start.
        cost: what the search minimised, with a little for every metre.
        misfit: how badly the walk fits the text, metres aside; 0 for perfectly.
        rival: viewpoint id of another place where the text may end, no more than `MARGIN` worse and `APART` away;
            `""` where there is none.
    """

    path: tuple[str, ...]
    cost: float
    misfit: float
    rival: str = ""


@dataclass(frozen=True)
class _State:
    node: int
    heading: float
    room: int
    done: int


def _unsaid(change: float, named: bool) -> float:
    """The cost of a turn that is not said; `named`: what it leads to is."""
    return max(0.0, math.degrees(abs(change)) - 20) / (900 if named and abs(change) < IMPLIED else 70)


def _said(direction: str, change: float) -> float:
    """How badly a change of heading fits the word for it."""
    degrees = math.degrees(change)
    if direction == "around":
        return max(0.0, 150 - abs(degrees)) / 40
    right = degrees if direction.endswith("right") else -degrees
    if direction.startswith("slight"):
        return abs(right - 40) / 300 + max(0.0, abs(right - 40) - 20) / 40
    return abs(right - 90) / 600 + max(0.0, abs(right - 90) - 60) / 40


class Follower:
    """Follows texts in one house.

    Args:
        scene: the house and its viewpoints.
        lexicon: the language it reads.
    """

    def __init__(self, scene: SceneGraph, lexicon: Lexicon = ENGLISH) -> None:
        self.scene, self.lexicon = scene, lexicon
        self._nearest: dict[tuple[int, int], float] = {}

    def read(self, text: str) -> tuple[Op, ...]:
        """The operations of a text; words it does not know are passed over."""
        return parse(text, lexicon=self.lexicon, categories=self.scene.categories, kinds=self.scene.kinds, strict=False)

    def follow(self, start: str, heading: float, text: str) -> Followed:
        """Walk where a text leads from a viewpoint and a heading [rad]."""
        ops = self.read(text)
        node = self.scene.graph.index(start)
        if any(op.kind == "find" for op in ops) and not any(op.kind == "stop" for op in ops):
            return self._find(node, ops)
        return _Search(self, ops).run(_State(node, wrap(heading), self._room(node), 0))

    def _room(self, node: int) -> int:
        """The room of a viewpoint; in doorways and on stairs that of the nearest viewpoint in a room."""
        room = self.scene.room
        if room[node] >= 0:
            return int(room[node])
        inside = np.flatnonzero(room >= 0)
        return int(room[inside[np.argmin(self.scene.graph.distances[node, inside])]]) if len(inside) else -1

    # --- goals -------------------------------------------------------------------------------------------------------

    def _find(self, start: int, ops: Sequence[Op]) -> Followed:
        """Go where the object can be seen best: nothing of the way is said."""
        items = meant(self.scene, ops)
        if not items:
            return Followed((self.scene.graph.ids[start],), math.inf, math.inf)
        ids = self.scene.graph.ids
        ends = [self.best_view(item) for item in items]
        apart = self.scene.graph.distances[ends[0]]
        rival = next((ids[e] for e in ends[1:] if apart[e] > APART), "")
        return Followed(self.scene.graph.path(ids[start], ids[ends[0]]), 0.0, 0.0, rival)

    def best_view(self, item: int) -> int:
        """The viewpoint nearest to an item, of those that see it if any does."""
        distance = self.scene.distance[:, item]
        sees = self.scene.visible[:, item]
        return int(np.argmin(np.where(sees, distance, distance + 100)))

    def nearest(self, item: int, room: int) -> float:
        """Distance from an item to the nearest viewpoint in a room."""
        if (item, room) not in self._nearest:
            inside = self.scene.distance[self.scene.room == room, item]
            self._nearest[item, room] = float(inside.min()) if len(inside) else math.inf
        return self._nearest[item, room]


class _Search:
    """Uniform-cost search over (viewpoint, heading, room, operations done)."""

    def __init__(self, follower: Follower, ops: Sequence[Op]) -> None:
        self.follower, self.scene, self.ops = follower, follower.scene, ops
        # What follows a turn lies where it leads: after one, no other goes without saying.
        self._turned = [False]
        for op in ops:
            self._turned.append(self._turned[-1] if op.kind in TALK else op.kind == "turn")
        self._avoided = [op.place for op in ops if op.kind == "avoid" and op.place]

    def run(self, start: _State) -> Followed:
        graph = self.scene.graph
        queue: list[tuple[float, int, _State, bool]] = [(0.0, 0, start, False)]
        before: dict[_State, _State | None] = {start: None}
        known: dict[_State, float] = {start: 0.0}
        closed: set[tuple[_State, bool]] = set()
        best: tuple[float, _State] | None = None
        count = 0
        while queue and len(closed) < _MOST_STATES:
            cost, _, state, ended = heapq.heappop(queue)
            if best is not None and cost > best[0] + MARGIN:
                break
            if (state, ended) in closed:
                continue
            closed.add((state, ended))
            if ended:
                if best is None:
                    best = cost, state
                elif graph.distances[best[1].node, state.node] > APART:
                    return self._followed(before, best, graph.ids[state.node])
                continue
            end = self._end(state)
            if end is not None:
                count += 1
                heapq.heappush(queue, (cost + end, count, state, True))
            for price, after in self._after(state):
                if cost + price < known.get(after, math.inf) - 1e-9:
                    known[after], before[after] = cost + price, state
                    count += 1
                    heapq.heappush(queue, (cost + price, count, after, False))
        if best is None:
            return Followed((graph.ids[start.node],), math.inf, math.inf)
        return self._followed(before, best)

    def _followed(self, before: dict[_State, _State | None], best: tuple[float, _State], rival: str = "") -> Followed:
        walk = self._walk(before, best[1])
        return Followed(walk, best[0], max(0.0, best[0] - _WALK * self.scene.graph.length(walk)), rival)

    def _walk(self, before: dict[_State, _State | None], state: _State) -> tuple[str, ...]:
        nodes: list[int] = []
        at: _State | None = state
        while at is not None:
            if not nodes or nodes[-1] != at.node:
                nodes.append(at.node)
            at = before[at]
        return tuple(self.scene.graph.ids[n] for n in reversed(nodes))

    # --- what it costs -----------------------------------------------------------------------------------------------

    def _end(self, s: _State) -> float | None:
        """The cost of stopping here; None where something is left to do."""
        if s.done == len(self.ops):
            return 0.0
        op = self.ops[s.done]
        if op.kind != "stop" or any(o.kind not in TALK for o in self.ops[s.done + 1 :]):
            return None
        if op.thing is not None:
            return min((self._by(s, op, int(i)) for i in self.scene.items(op.thing)), default=3.0)
        if op.place is not None:
            here = self.scene.is_place(int(self.scene.room[s.node]), op.place)
            far = float(self.scene.door_distance[s.node]) if op.relation == "door" else 0.0
            return 0.3 * max(0.0, min(far, 6.0) - 0.5) if here else 2.0
        if op.relation in ("top", "bottom"):
            return min(3.0, 0.5 * self.scene.stairs_distance(s.node, op.relation))
        return 0.0

    def _by(self, s: _State, op: Op, item: int) -> float:
        distance = float(self.scene.distance[s.node, item])
        room = self.scene.house.items[item].room
        if not math.isfinite(distance) or not self.scene.visible[s.node, item]:
            return 3.0
        away = max(0.0, distance - self.follower.nearest(item, room)) * 0.4
        front = 0.6 if op.relation == "front" and not self.scene.in_front[s.node, item] else 0.0
        return min(3.0, away + front + (0.0 if room == s.room else 1.5))

    def _after(self, s: _State) -> Iterator[tuple[float, _State]]:
        op = self.ops[s.done] if s.done < len(self.ops) else None
        if op is not None:
            past = _State(s.node, s.heading, s.room, s.done + 1)
            if op.kind in TALK:
                yield self._talk(s, op), past
                # What comes into view may do so farther on; all else that is only talk takes no steps.
                if op.kind != "see":
                    return
            if op.kind in _SKIP:
                yield _SKIP[op.kind], past
            if op.kind == "turn":
                yield from self._turns(s, op)
        for node in self.scene.neighbours[s.node]:
            yield from self._moves(s, node)

    def _talk(self, s: _State, op: Op) -> float:
        if op.kind == "start" and op.place is not None:
            return 0.0 if self.scene.is_place(s.room, op.place) else 0.5
        if op.kind == "see" and op.thing is not None:
            seen = any(self.scene.seen_on(s.node, s.heading, int(i)) == op.side for i in self.scene.items(op.thing))
            return 0.0 if seen else 0.7
        return 0.0

    def _turns(self, s: _State, op: Op) -> Iterator[tuple[float, _State]]:
        where = 0.0
        if op.thing is not None:
            near = [
                float(self.scene.distance[s.node, i])
                for i in self.scene.items(op.thing)
                if self.scene.visible[s.node, i]
            ]
            where = 0.4 * min(5.0, max(0.0, min(near, default=9.0) - 1.2))
        if op.place is not None and not self.scene.is_place(s.room, op.place):
            where = 2.0
        for node in self.scene.neighbours[s.node]:
            heading = self.scene.heading(s.node, node)
            price = _said(op.direction, wrap(heading - s.heading))
            if price < 2.0:
                yield where + price, _State(s.node, heading, s.room, s.done + 1)
        # Turning where no edge leads: at the end of a way, to face what it ends at.
        angle = {"left": -90, "right": 90, "slight_left": -40, "slight_right": 40}.get(op.direction, 180)
        yield where + 0.6, _State(s.node, wrap(s.heading + math.radians(angle)), s.room, s.done + 1)

    def _moves(self, s: _State, node: int) -> Iterator[tuple[float, _State]]:
        scene = self.scene
        heading = scene.heading(s.node, node)
        price = _WALK * scene.length(s.node, node)
        room = int(scene.room[node]) if scene.room[node] >= 0 else s.room
        if room != s.room and any(scene.is_place(room, p) for p in self._avoided):
            price += 2.0
        for done, crossed in self._does(s, node, room):
            named = not self._turned[s.done] and any(op.kind in _NAMES for op in self.ops[s.done : done])
            unsaid = _unsaid(wrap(heading - s.heading), named) + (1.5 if room != s.room and not crossed else 0.0)
            yield price + unsaid, _State(node, heading, room, done)

    def _does(self, s: _State, node: int, room: int) -> Iterator[tuple[int, bool]]:
        """Up to which operation a move to a viewpoint gets, and whether its doorway was among them."""
        at, crossed = s.done, False
        yield at, crossed
        while at < len(self.ops):
            op, step = self.ops[at], 0
            if op.thing is not None and op.kind in ("pass", "toward"):
                step = any(self._along(s.node, node, op, int(i)) for i in self.scene.items(op.thing))
            elif op.kind == "cross" and op.place is not None:
                step = room == s.room and self.scene.is_place(room, op.place)
            elif room != s.room and not crossed:
                step = self._crosses(s, room, at)
                crossed = step > 0
            if not step:
                return
            at += step
            yield at, crossed

    def _along(self, a: int, b: int, op: Op, item: int) -> bool:
        if op.kind == "toward":
            return self.scene.is_toward(a, b, item)
        side = self.scene.passed_on(a, b, item)
        return bool(side) and op.side in ("", side)

    def _crosses(self, s: _State, room: int, at: int) -> int:
        """How many operations from `at` on tell of the step from one room into another."""
        scene, count = self.scene, 0
        below, above = scene.storey(s.room), scene.storey(room)
        ops = self.ops[at : at + 3]
        if ops[0].kind == "leave" and ops[0].place is not None and scene.is_place(s.room, ops[0].place):
            count = 1
        if count < len(ops) and ops[count].kind == "stairs":
            if ops[count].direction != ("up" if above > below else "down" if above < below else ""):
                return 0
            count += 1
        elif above != below:
            return 0
        stairs = count > 0 and ops[count - 1].kind == "stairs"
        if count < len(ops) and ops[count].kind == "enter":
            place = ops[count].place
            fits = place is not None and scene.is_place(room, place)
            if fits:
                return count + 1
            return count if stairs else 0
        return count


def follow(house: House, graph: ViewpointGraph, start: str, heading: float, text: str) -> tuple[str, ...]:
    """Walk where a text leads; `Follower` does the same for many texts of one house."""
    return Follower(SceneGraph(house, graph)).follow(start, heading, text).path
