"""Combinations of landmark, relation and next turn: some are held out of training, for `val_compositional`."""

from __future__ import annotations

import zlib
from dataclasses import replace
from functools import cache

from .program import Op, Program, mirrored

_HELD_OUT_SHARE = 6


@cache
def combination(op: Op, turn: str) -> str:
    """A landmark as it is told of on the way, and the next turn (`""`: none follows); mirror images are alike."""
    if op.thing is None:
        return ""
    after = Op("turn", turn or "straight")
    here = replace(op, thing=None)
    spelled = [
        f"{op.thing.category} {a.kind} {a.side}{a.direction} {b.direction}"
        for a, b in ((here, after), (mirrored(here), mirrored(after)))
    ]
    return min(spelled)


@cache
def is_held_out(op: Op, turn: str) -> bool:
    """Whether a landmark told of so, before this turn, is kept for `val_compositional`."""
    return zlib.crc32(combination(op, turn).encode()) % _HELD_OUT_SHARE == 0


def combinations(program: Program) -> tuple[str, ...]:
    """Landmark, relation and next turn of each landmark that is told of on the way, mirror images alike."""
    return tuple(combination(op, turn) for op, turn in _told(program))


def holds_out(program: Program) -> bool:
    """Whether a program has a combination that is kept for `val_compositional`."""
    return any(is_held_out(op, turn) for op, turn in _told(program))


def _told(program: Program) -> list[tuple[Op, str]]:
    out: list[tuple[Op, str]] = []
    for i, step in enumerate(program):
        if step.op.kind in ("pass", "toward", "turn") and step.op.thing is not None:
            turn = next((s.op.direction for s in program[i:] if s.op.kind == "turn"), "")
            out.append((step.op, turn))
    return out
