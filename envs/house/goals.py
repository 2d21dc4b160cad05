"""Coarse goals: an object told by its kind, colour, neighbours and room, with a proof that only one object is meant."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import product

from .dice import Dice
from .house import Item
from .program import Op, Place, Program, Step, Thing
from .scene_graph import NEVER, SceneGraph

RELATIONS = ("on", "near", "left", "right")


def related(item: Item, relation: str, anchor: Item) -> bool:
    """Whether an item is `"on"` another, `"near"` it, or to its `"left"` or `"right"` for someone who faces it."""
    if item.id == anchor.id or item.room != anchor.room:
        return False
    if relation == "on":
        return item.support == anchor.id
    dx, dy = item.position[0] - anchor.position[0], item.position[1] - anchor.position[1]
    gap = math.hypot(dx, dy) - (max(item.size[:2]) + max(anchor.size[:2])) / 2
    if gap > 0.8 or item.support == anchor.id or anchor.support == item.id:
        return False
    if relation == "near":
        return True
    # An item faces its -y; who faces it has its -x on the left.
    cos, sin = math.cos(anchor.yaw), math.sin(anchor.yaw)
    x, y = dx * cos + dy * sin, dy * cos - dx * sin
    aside = abs(x) > anchor.size[0] / 2 and abs(y) < abs(x)
    return aside and (x < 0 if relation == "left" else x > 0)


def meant(scene: SceneGraph, ops: Sequence[Op]) -> list[int]:
    """The items that a description fits, in order: exactly one where it is unique."""
    find = next(op for op in ops if op.kind == "find")
    if find.thing is None:
        return []
    items = scene.house.items
    anchors = [items[i] for i in scene.items(find.anchor)] if find.anchor is not None else []
    beside = [op.beside for op in ops if op.kind == "adjoin" and op.beside is not None]
    out: list[int] = []
    for i in scene.items(find.thing).tolist():
        item = items[i]
        if find.place is not None and not scene.is_place(item.room, find.place):
            continue
        if find.relation and not any(related(item, find.relation, a) for a in anchors):
            continue
        next_door = scene.beside[item.room]
        if all(any(scene.is_place(r, place) for r in next_door) for place in beside):
            out.append(i)
    return out


def targets(scene: SceneGraph) -> list[int]:
    """Items one can be sent to find: some viewpoint within 3 m sees them."""
    near = scene.visible & (scene.distance < 3.0)
    return [i.id for i in scene.house.items if i.category not in NEVER and near[:, i.id].any()]


def describe_goal(scene: SceneGraph, item: int, seed: str, *, full: bool = False) -> Program | None:
    """A description that fits this item alone in the whole house; None where there is none.

    Args:
        full: say the colour, a neighbour and the rooms next door even where fewer words would do (SOON).
    """
    dice = Dice(f"goal {seed}")
    there = scene.house.items[item]
    several = len({r.storey for r in scene.house.rooms}) > 1
    for program in _descriptions(scene, there, dice, several, full):
        if meant(scene, [step.op for step in program]) == [item]:
            return program
    return None


def _descriptions(scene: SceneGraph, item: Item, dice: Dice, several: bool, full: bool) -> Iterator[Program]:
    """Descriptions that are true, the shortest first, except that `full` begins with the longest."""
    room = scene.house.rooms[item.room]
    around = [
        (relation, Thing(other.category, colour))
        for other in dice.shuffled([i for i in scene.house.items if i.room == item.room and i.category not in NEVER])
        for relation in RELATIONS
        if related(item, relation, other) and other.category != item.category
        for colour in ("", other.colour)
    ]
    around.sort(key=lambda a: (RELATIONS.index(a[0]) > 0, RELATIONS.index(a[0]) > 1))
    colours = dict.fromkeys(("", item.colour))
    levels = (room.storey + 1,) if full and several else (0, room.storey + 1) if several else (0,)
    next_door = [Place(scene.house.rooms[r].kind) for r in sorted(scene.beside[room.id])]
    adjoining = [p for p in dict.fromkeys(next_door) if p.kind != room.kind]
    plain = [("", None), *around] if not full else [*around, ("", None)]
    for level, (relation, anchor), colour in product(levels, plain, reversed([*colours]) if full else colours):
        place = Place(room.kind, None, level)
        find = Op("find", thing=Thing(item.category, colour), place=place, relation=relation, anchor=anchor)
        steps = [Step(find, item=item.id, room=room.id)]
        more = [Step(Op("adjoin", place=Place(room.kind), beside=p), room=room.id) for p in adjoining]
        if full:
            yield (*steps, *more)
        yield tuple(steps)
        for step in () if full else more:
            yield (*steps, step)
