"""What an instruction means: a list of operations, each tied to the place on the path where it happens.

An operation (`Op`) holds what words can say and nothing else: kinds of rooms, categories, colours, sides. A `Step`
ties it to the path. Followers work from the words alone, so nothing of a step ever reaches them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Final, Literal

from ...vla.errors import WayhandError

Kind = Literal[
    "start", "see", "turn", "leave", "enter", "cross", "pass", "toward", "forward", "stairs", "stop",
    "find", "adjoin", "ignore", "avoid", "slip", "remark",
]  # fmt: skip


TALK: Final = frozenset({"start", "see", "forward", "find", "adjoin", "ignore", "avoid", "slip", "remark"})
"""Kinds of operations that take nobody anywhere by themselves."""
DISTRACTING: Final = frozenset({"ignore", "avoid", "slip", "remark"})
"""Kinds of operations without which a program asks for the same."""


class InstructionError(WayhandError):
    """Words that cannot be understood, or a path that cannot be told in words."""


@dataclass(frozen=True)
class Thing:
    """An object as one describes it.

    Args:
        category: as in `House.items`.
        colour: the word for its main colour, `""` where it is not said.
    """

    category: str
    colour: str = ""


@dataclass(frozen=True)
class Place:
    """A room as one describes it.

    Args:
        kind: as in `House.rooms`.
        feature: something in it that tells it from its like.
        level: 1 for the ground floor, 2 above it; 0 where it is not said.
    """

    kind: str
    feature: Thing | None = None
    level: int = 0


@dataclass(frozen=True)
class Op:
    """One operation.

    =========  ===================================================================================
    start      where one stands at first: `place`, and `thing` straight ahead
    see        `thing` comes into view on `side` (`"left"`, `"right"` or `"ahead"`)
    turn       to `direction` (`"left"`, `"right"`, `"slight_left"`, `"slight_right"`, `"around"`), at `thing` or in
               `place`
    leave      go out of `place`; directly before an `enter`, both tell of the same doorway
    enter      go into `place`, `via` a `"door"` or an `"opening"` where that is said
    cross      walk on inside `place`
    pass       walk past `thing`, which is on `side`
    toward     walk toward `thing`
    forward    walk straight ahead
    stairs     `direction` is `"up"` or `"down"`
    stop       at `relation` (`"near"`, `"front"`: of `thing`; `"in"`, `"door"`: of `place`; `"top"`, `"bottom"`: of
               stairs)
    find       `thing` in `place`, where said at `relation` (`"on"`, `"near"`, `"left"`, `"right"`) to `anchor`
    adjoin     of a goal: `place` has a door to the room `beside`
    ignore     `thing` does not matter
    avoid      `place` is not on the way
    slip       `direction` was said by mistake
    remark     words without meaning for the way
    =========  ===================================================================================
    """

    kind: Kind
    direction: str = ""
    thing: Thing | None = None
    place: Place | None = None
    side: str = ""
    via: str = ""
    relation: str = ""
    anchor: Thing | None = None
    beside: Place | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values, empty fields left out."""
        return {k: _plain(v) for k, v in asdict(self).items() if v}

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> Op:
        """Inverse of `to_dict`."""
        values: dict[str, Any] = dict(data)
        for name in ("thing", "anchor"):
            if name in values:
                values[name] = Thing(**values[name])
        for name in ("place", "beside"):
            if name in values:
                place = dict(values[name])
                if "feature" in place:
                    place["feature"] = Thing(**place["feature"])
                values[name] = Place(**place)
        return Op(**values)


def _plain(value: Any) -> Any:
    return {k: _plain(v) for k, v in value.items() if v} if isinstance(value, dict) else value


@dataclass(frozen=True)
class Step:
    """An operation where it happens.

    Args:
        op: what is said.
        node: position in the path at which it begins.
        item: row in `House.items` that `op.thing` means; −1 where there is none.
        room: row in `House.rooms` that `op.place` means; −1 where there is none.
        needed: whether the way cannot be told without it; the others are colour.
    """

    op: Op
    node: int = 0
    item: int = -1
    room: int = -1
    needed: bool = True


Program = tuple[Step, ...]


def operations(program: Program) -> tuple[Op, ...]:
    """What is said of a program."""
    return tuple(step.op for step in program)


_MIRRORED = {"left": "right", "right": "left", "slight_left": "slight_right", "slight_right": "slight_left"}


def mirrored(op: Op) -> Op:
    """The operation in a mirror: left and right change places."""
    swap = _MIRRORED.get
    relation = swap(op.relation, op.relation) if op.kind == "find" else op.relation
    direction, side = swap(op.direction, op.direction), swap(op.side, op.side)
    return replace(op, direction=direction, side=side, relation=relation)
