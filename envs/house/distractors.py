"""Clauses that mean nothing for the way, or that contradict it and are taken back."""

from __future__ import annotations

from .dice import Dice
from .program import Op, Place, Program, Step, Thing
from .scene_graph import NEVER, SceneGraph


def with_distractors(scene: SceneGraph, program: Program, seed: str, count: int) -> Program:
    """A program with `count` distracting operations put in; what it asks for is the same."""
    dice = Dice(f"distractors {seed}")
    steps = list(program)
    for _ in range(count):
        turns = [
            i
            for i, s in enumerate(steps)
            if s.op.kind == "turn"
            and s.op.direction in ("left", "right")
            and not (i and steps[i - 1].op.kind == "slip")
        ]
        if turns and dice.chance(0.35):
            at = dice.pick(turns)
            wrong = "left" if steps[at].op.direction == "right" else "right"
            steps.insert(at, Step(Op("slip", wrong), steps[at].node, needed=False))
            continue
        # Not between a room that is left and the one that is entered: both tell of one doorway.
        places = [i for i in range(len(steps)) if i == 0 or steps[i - 1].op.kind not in ("leave", "slip", "stairs")]
        at = dice.pick(places)
        steps.insert(at, Step(_clause(scene, program, dice), steps[at].node, needed=False))
    return tuple(steps)


def _clause(scene: SceneGraph, program: Program, dice: Dice) -> Op:
    told = {s.op.thing.category for s in program if s.op.thing is not None}
    rooms = {s.room for s in program} - {-1}
    named = {s.op.place.kind for s in program if s.op.place is not None}
    things = [i for i in scene.house.items if i.room in rooms and i.category not in NEVER | told]
    kinds = sorted({r.kind for r in scene.house.rooms if r.id not in rooms} - named - {"hallway"})
    options = [*(["ignore"] * 2 if things else []), *(["avoid"] if kinds else []), "remark"]
    kind = dice.pick(options)
    if kind == "ignore":
        item = dice.pick(things)
        return Op("ignore", thing=Thing(item.category, item.colour))
    return Op("avoid", place=Place(dice.pick(kinds))) if kind == "avoid" else Op("remark")
