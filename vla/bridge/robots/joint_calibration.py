"""Joint calibration by hand: a reference posture gives the offsets, a nudge the signs, a sweep the ranges.

Nothing here moves the robot. A human does, with the motors free or in the arm's own teach mode, and we look on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ...errors import RobotError
from .calibrated import JointCalibration

Look = Callable[[], np.ndarray]
"""The joints' raw values now, [J]."""
Ask = Callable[[str, Callable[[], None]], None]
"""Tell the human what to do and return once it is done; calls the second argument often meanwhile."""

SEEN, RESTLESS = 0.005, 0.02
"""The least motion that counts, and the most that a resting joint may show [rad, m]."""
MARGIN = 0.02
"""Share of a swept range that is left away at either end."""
CLEAR = 2.0
"""How many times as far as any other joint, in shares of what each moved at most, a nudged joint must have gone."""


@dataclass(frozen=True)
class Sweep:
    """Raw values seen: first, last, least and most, [J] each, and how many."""

    first: np.ndarray
    last: np.ndarray
    least: np.ndarray
    most: np.ndarray
    count: int

    @property
    def unrest(self) -> np.ndarray:
        return self.most - self.least


def watched(ask: Ask, look: Look, words: str) -> Sweep:
    """What the joints did while the human did what `words` ask."""
    seen: list[np.ndarray] = []

    def glance() -> None:
        seen.append(np.array(look(), np.float64))
        if len(seen) > 64:  # the ends and the first one are all that is needed
            rest = np.stack(seen[1:])
            seen[1:] = [rest.min(axis=0), rest.max(axis=0), seen[-1]]

    glance()
    ask(words, glance)
    glance()
    values = np.stack(seen)
    if not np.isfinite(values).all():
        raise RobotError("A joint's raw value is not finite", got=repr(values[-1]))
    return Sweep(values[0], values[-1], values.min(axis=0), values.max(axis=0), len(values))


def calibrate_joints(
    joints: Sequence[str],
    look: Look,
    ask: Ask,
    *,
    reference: Mapping[str, float] | None = None,
    known: Mapping[str, JointCalibration] | None = None,
) -> dict[str, JointCalibration]:
    """Guide a human through the three steps.

    Args:
        joints: in the order of `look`.
        reference: what the joints are in the reference posture [rad, m]; 0 where nothing is said.
        known: scales, which cannot be seen from inside.

    Raises `RobotError` where another joint moved than the one asked for, one did not move, or the arm did not rest.
    """
    reference, known = reference or {}, known or {}
    scale = np.array([known[j].scale if j in known else 1.0 for j in joints])
    posture = ", ".join(f"{j} = {reference.get(j, 0.0):g}" for j in joints)
    watched(ask, look, f"Put the arm into its reference posture ({posture})")
    rest = watched(ask, look, "Let go of the arm, so that it rests there")
    restless = ", ".join(j for j, moved in zip(joints, rest.unrest * scale, strict=True) if moved > RESTLESS)
    if restless:
        raise RobotError("The arm did not rest in its reference posture", got=restless)
    signs = [_sign(joints, k, scale, look, ask) for k in range(len(joints))]
    sweep = watched(ask, look, "Move every joint slowly from one end of its range to the other")
    found: dict[str, JointCalibration] = {}
    for k, joint in enumerate(joints):
        offset = reference.get(joint, 0.0) - signs[k] * scale[k] * rest.last[k]
        one = JointCalibration(sign=signs[k], scale=float(scale[k]), offset=float(offset))
        found[joint] = _ranged(one, float(sweep.least[k]), float(sweep.most[k]), joint)
    return found


def _sign(joints: Sequence[str], k: int, scale: np.ndarray, look: Look, ask: Ask) -> float:
    """Which way joint `k` counts, after a human nudged it."""
    seen = watched(ask, look, f"Move only '{joints[k]}' a little in its positive direction")
    change = (seen.last - seen.first) * scale
    size = np.abs(change)
    if size.max() < SEEN:
        raise RobotError(f"'{joints[k]}' was not seen to move", got=f"{size.max():.4f}", run="move it further")
    most = int(size.argmax())
    others = float(np.delete(size, k).max(initial=0.0))
    if most != k or size[k] < CLEAR * others:
        what = f"Another joint moved than '{joints[k]}'"
        run = "is its name right? Move one joint alone"
        raise RobotError(what, got=f"'{joints[most]}' by {size[most]:.3f}", exists=joints, run=run)
    return float(np.sign(change[k]))


def _ranged(one: JointCalibration, least: float, most: float, joint: str) -> JointCalibration:
    ends = sorted(one.sign * one.scale * raw + one.offset for raw in (least, most))
    room = MARGIN * (ends[1] - ends[0])
    if ends[1] - ends[0] < SEEN:
        raise RobotError(f"'{joint}' was not moved through its range", got=f"{ends[1] - ends[0]:.4f}")
    return replace(one, lower=round(ends[0] + room, 6), upper=round(ends[1] - room, 6))
