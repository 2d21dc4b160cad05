"""Shapes: which fields of an operation a clause tells. The grammar and the parser meet here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final

from .lexicon import Template
from .program import InstructionError, Kind, Op


@dataclass(frozen=True)
class Shape:
    """A way to say an operation: what is fixed by the words themselves, and which fields fill its slots."""

    kind: Kind
    fixed: Mapping[str, str] = field(default_factory=dict)
    slots: tuple[str, ...] = ()
    prefix: str = ""  # put before the direction that is said


SHAPES: Final[dict[str, Shape]] = {
    "start": Shape("start", slots=("place",)),
    "start_facing": Shape("start", slots=("place", "thing")),
    "see": Shape("see", slots=("thing", "side")),
    "see_ahead": Shape("see", {"side": "ahead"}, ("thing",)),
    "turn": Shape("turn", slots=("direction",)),
    "turn_slight": Shape("turn", slots=("direction",), prefix="slight_"),
    "turn_around": Shape("turn", {"direction": "around"}),
    "turn_at": Shape("turn", slots=("direction", "thing")),
    "turn_in": Shape("turn", slots=("direction", "place")),
    "leave": Shape("leave", slots=("place",)),
    "enter": Shape("enter", slots=("place",)),
    "enter_door": Shape("enter", {"via": "door"}, ("place",)),
    "enter_opening": Shape("enter", {"via": "opening"}, ("place",)),
    "cross": Shape("cross", slots=("place",)),
    "pass": Shape("pass", slots=("thing",)),
    "pass_side": Shape("pass", slots=("thing", "side")),
    "toward": Shape("toward", slots=("thing",)),
    "forward": Shape("forward"),
    "up": Shape("stairs", {"direction": "up"}),
    "down": Shape("stairs", {"direction": "down"}),
    "stop": Shape("stop"),
    "stop_near": Shape("stop", {"relation": "near"}, ("thing",)),
    "stop_front": Shape("stop", {"relation": "front"}, ("thing",)),
    "stop_in": Shape("stop", {"relation": "in"}, ("place",)),
    "stop_door": Shape("stop", {"relation": "door"}, ("place",)),
    "stop_top": Shape("stop", {"relation": "top"}),
    "stop_bottom": Shape("stop", {"relation": "bottom"}),
    "find": Shape("find", slots=("thing", "place")),
    "find_on": Shape("find", {"relation": "on"}, ("thing", "place", "anchor")),
    "find_near": Shape("find", {"relation": "near"}, ("thing", "place", "anchor")),
    "find_left": Shape("find", {"relation": "left"}, ("thing", "place", "anchor")),
    "find_right": Shape("find", {"relation": "right"}, ("thing", "place", "anchor")),
    "adjoin": Shape("adjoin", slots=("place", "beside")),
    "ignore": Shape("ignore", slots=("thing",)),
    "avoid": Shape("avoid", slots=("place",)),
    "slip": Shape("slip", slots=("direction",)),
    "remark": Shape("remark"),
}
FIELDS: Final = ("direction", "thing", "place", "side", "via", "relation", "anchor", "beside")


def build(shape: Shape, values: Mapping[str, Any]) -> Op:
    """The operation that a clause of this shape tells with these values in its slots."""
    filled = {name: values[name] for name in shape.slots}
    if shape.prefix:
        filled["direction"] = shape.prefix + filled["direction"]
    return Op(shape.kind, **{**shape.fixed, **filled})


def _slots(shape: Shape, op: Op) -> dict[str, Any] | None:
    values = {name: getattr(op, name) for name in shape.slots}
    if shape.prefix:
        if not op.direction.startswith(shape.prefix):
            return None
        values["direction"] = op.direction.removeprefix(shape.prefix)
    if "direction" in values and values["direction"] not in ("left", "right"):
        return None
    if "side" in values and values["side"] not in ("left", "right"):
        return None
    return values if all(values.values()) and build(shape, values) == op else None


@cache
def shape_of(op: Op) -> str:
    """The name of the one shape that says all of an operation; raises `InstructionError` where there is none."""
    for name, shape in SHAPES.items():
        if shape.kind == op.kind and _slots(shape, op) is not None:
            return name
    fitting = [name for name, shape in SHAPES.items() if shape.kind == op.kind]
    raise InstructionError("No clause says this operation", got=str(op.to_dict()), exists=fitting)


def slot_values(op: Op) -> dict[str, Any]:
    """What fills the slots of the shape of an operation; `build` is the inverse."""
    values = _slots(SHAPES[shape_of(op)], op)
    assert values is not None
    return values


SLOT: Final = re.compile(r"\{(\w+?)(\d?)\}")


@cache
def slots_of(template: Template) -> tuple[tuple[str, str, int], ...]:
    """Slots of a template in order: as written, the field it fills, and which of its operations."""
    out: list[tuple[str, str, int]] = []
    for match in SLOT.finditer(template.text):
        field_name = match[1].removeprefix("a_")
        owners = [i for i, name in enumerate(template.shapes) if field_name in SHAPES[name].slots]
        out.append((match[0], field_name, int(match[2]) - 1 if match[2] else owners[0]))
    return tuple(out)
