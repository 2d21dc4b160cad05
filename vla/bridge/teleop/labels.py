"""Demonstrations out of recorded runs: what the robot was told to do, in the words of the policy that is to learn it.

A run's actions are joint commands of the loop (`recorder`). A policy that commands increments of the end effector
learns from the increments between the poses the robot was commanded to at two observations: executing them from the
first leads to the second, whoever had asked for it, and whatever the safety gate had taken off.

Corrections are the steps of a run which a human drove while a policy was being executed. Learning from those steps
alone, added to the demonstrations, is human-gated dataset aggregation (HG-DAgger: Kelly et al., ICRA 2019).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from ...contract import ActionGroup, EnvSpec, Episode
from ...errors import SpecError
from ..limits import joint_indices
from ..recorder import EXTRAS, HUMAN
from .poses import pose_difference

_PREFIX = "observation.extras."
_TARGET = "ee_target"


def human_rows(episode: Episode) -> np.ndarray:
    """bool [T]: the rows of a recorded run whose whole action a human asked for.

    Row i's action is executed by the ticks between observations i and i + 1, which lie in row i + 1's extras.
    """
    flags, counts = _following(episode, "tick_flags"), _following(episode, "ticks")
    used = np.arange(flags.shape[1]) < counts[:, None]
    by_human = (flags & HUMAN) > 0
    return (counts > 0) & (by_human | ~used).all(1)


def demonstration(episode: Episode, spec: EnvSpec, rows: slice = slice(None)) -> Episode:
    """Consecutive `rows` of a recorded run as an episode of `spec`, the spec of a policy for the same robot.

    Where `spec` has an `ee_delta` group, the run's observations must say the commanded pose (extras `ee_target`).
    Increments outside the spec's limits are clipped to them; the provenance counts the rows in which that happened
    (`clipped_rows`) and those after which an observation is missing (`irregular_rows`).

    Raises:
        SpecError: the episode is no recorded run, its robot is not that of `spec`, or it does not say what `spec` asks.
    """
    chosen = range(len(episode))[rows]
    if chosen.step != 1 or not len(chosen):
        raise SpecError("A demonstration is made of consecutive rows", got=f"{len(chosen)} of them")
    require_learnable(episode.spec, spec)
    wanted = np.concatenate([_group_actions(episode, group) for group in spec.action], axis=1)[rows]
    actions = np.clip(wanted, spec.action_lower, spec.action_upper)
    columns = {path: episode.columns[path][rows] for path in spec.columns() if path not in ("action", "reward")}
    columns["action"] = actions.astype(np.float32)
    columns["reward"] = np.zeros(len(chosen), np.float32)
    last = chosen.stop == len(episode)
    success = episode.success if last else None
    if success:
        columns["reward"][-1] = 1.0
    final = episode.final if last else episode.row(chosen.stop)
    final = replace(final, extras={name: final.extras[name] for name in spec.extras})
    times = np.append(columns["observation.times.state"], final.times["state"])
    about: dict[str, Any] = {
        **episode.provenance,
        "clipped_rows": int((np.abs(wanted - actions) > 1e-6).any(1).sum()),
        "irregular_rows": int((np.diff(times) > 1.5 * spec.control_dt).sum()),
    }
    return Episode(spec, episode.instruction, columns, final, success, about)


def corrections(episode: Episode, spec: EnvSpec) -> Iterator[Episode]:
    """Every run of rows that a human drove, as a demonstration of its own: nothing else is a target of learning.

    Its provenance says which rows of the recorded episode they were (`rows`).
    """
    flagged = np.concatenate([[False], human_rows(episode), [False]])
    edges = np.flatnonzero(np.diff(flagged.astype(np.int8)))
    for first, stop in edges.reshape(-1, 2).tolist():
        made = demonstration(episode, spec, slice(first, stop))
        yield replace(made, provenance={**made.provenance, "rows": [first, stop]})


def require_learnable(recorded: EnvSpec, spec: EnvSpec) -> None:
    """Raise a `SpecError` where runs of spec `recorded` cannot become demonstrations of `spec`."""
    extras = {name: array for name, array in recorded.extras.items() if name not in EXTRAS}
    plain = replace(recorded, action=spec.action, extras=extras)
    plain.require_same(spec, "the recorded run (left) meets the policy (right)")
    for group in spec.action:
        if group.kind == "joint_position":
            joint_indices([e.name for e in recorded.action_elements], [e.name for e in group.elements])
        elif (group.kind, group.frame, group.rotation) != ("ee_delta", "world", "rotvec"):
            raise SpecError(
                f"A recorded run does not say actions of group '{group.name}'",
                expected="joint_position, or ee_delta in the world frame with a rotation vector",
                got=f"{group.kind} frame={group.frame!r} rotation={group.rotation!r}",
            )
        elif _TARGET not in recorded.extras:
            raise SpecError(
                "The recorded run does not say where its hand was commanded to",
                expected=f"extras {_TARGET}",
                exists=recorded.extras,
                run="a policy of joint positions, such as env.action=joint_position",
            )


def _following(episode: Episode, name: str) -> np.ndarray:
    """[T …] of an extra of the observation after each row; raises `SpecError` where the episode does not have it."""
    path = _PREFIX + name
    if path not in episode.columns:
        raise SpecError("The episode is no recorded run", got=f"no {name}", run="wayhand deploy … record=DIR")
    return np.concatenate([episode.columns[path], np.asarray(episode.final.extras[name])[None]])[1:]


def _group_actions(episode: Episode, group: ActionGroup) -> np.ndarray:
    """[T G] float64, what the robot was told during each row in the words of `group`."""
    if group.kind == "joint_position":
        names = [e.name for e in episode.spec.action_elements]
        chosen = joint_indices(names, [e.name for e in group.elements])
        return episode.columns["action"][:, chosen].astype(np.float64)
    after = _following(episode, _TARGET).astype(np.float64)
    before = np.concatenate([episode.columns[_PREFIX + _TARGET][:1], after[:-1]]).astype(np.float64)
    return np.stack([pose_difference((a[:3], a[3:]), (b[:3], b[3:])) for a, b in zip(before, after, strict=True)])
