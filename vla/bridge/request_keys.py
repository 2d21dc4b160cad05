"""Observations as requests to a policy server: which key of which dialect holds which sensor."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..contract import INSTRUCTION_BYTES, EnvSpec, Observation
from ..errors import ConfigError, SpecError
from .messages import OURS

PROMPTS = ("prompt", "task", "instruction")
_TARGET = re.compile(r"(observation\.[\w.]+)(?:\[(\d+):(\d+)\])?")


@dataclass(frozen=True)
class Target:
    """Where in an observation the value of a key belongs.

    Args:
        group: field of `Observation` it is in, and `name` there; the state has no name.
        part: of the state; None for all of it.
    """

    path: str
    group: str
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype
    part: slice | None = None


def _targets(spec: EnvSpec) -> dict[str, Target]:
    out: dict[str, Target] = {}
    for path, column in spec.columns().items():
        if path.startswith("observation."):
            _, group, *rest = path.split(".", 2)
            out[path] = Target(path, group, "".join(rest), column.shape, np.dtype(column.dtype))
    return out


def key_map(names: Mapping[str, str], spec: EnvSpec) -> dict[str, Target]:
    """Request key → where it is in an observation of `spec`, checked.

    `names` values are dotted paths, with a part of the state in brackets:
    `{"observation/gripper_position": "observation.state[7:8]"}`.
    """
    targets = _targets(spec)
    out: dict[str, Target] = {}
    for key, written in names.items():
        found = _TARGET.fullmatch(written)
        if found is None or found[1] not in targets:
            raise ConfigError(
                f"'{key}' is mapped to something that is not in an observation",
                expected="a path, or a part of one: observation.state[7:8]",
                got=written,
                exists=list(targets),
            )
        target = targets[found[1]]
        if found[2] is not None:
            part = slice(int(found[2]), int(found[3]))
            if target.group != "state" or not part.start < part.stop <= spec.state_dim:
                raise ConfigError(f"'{key}' is mapped to a part of what has none", got=written)
            target = replace(target, part=part)
        out[key] = target
    return out


def request_of(observation: Observation, keys: Mapping[str, Target] | None) -> dict[str, Any]:
    """The request for an observation: its dotted paths, or what `keys` (see `key_map`) says."""
    columns: dict[str, Any] = dict(observation.columns())
    if keys is None:
        for stream, t in observation.times.items():
            columns[f"observation.times.{stream}"] = float(t)
        columns["prompt"] = observation.instruction
        return columns
    out: dict[str, Any] = {}
    for key, target in keys.items():
        if target.path not in columns:
            raise SpecError(f"The observation lacks '{target.path}'", exists=sorted(columns))
        value = columns[target.path]
        out[key] = value if target.part is None else value[target.part]
    return {**out, "prompt": observation.instruction}


class RequestReader:
    """Turns requests into observations of `spec`.

    Understood keys: dotted paths; openpi's forms `observation/state`, `observation/<camera>`, `state`, and `images`
    holding one picture per camera; and those of `names` (see `key_map`). Others are ignored. Pictures may be [3 h w].
    Sensors without a time are dated with the request's arrival.
    """

    def __init__(self, spec: EnvSpec, names: Mapping[str, str] | None = None) -> None:
        self._keys: dict[str, Target] = {}
        targets = _targets(spec)
        for path, target in targets.items():
            aliases = {path}
            if target.group != "times":
                aliases |= {path.replace(".", "/"), path.removeprefix("observation.").replace(".", "/")}
            if target.group == "images":
                aliases.add(f"observation/{target.name}")
            self._keys.update(dict.fromkeys(aliases, target))
        self._keys.update(key_map(names or {}, spec))
        self._streams = [t.name for t in targets.values() if t.group == "times"]
        self._senses = [t for t in targets.values() if t.group != "times"]

    def __call__(self, request: Mapping[str, Any], now: float) -> Observation:
        """Raises `SpecError` naming what is missing or does not fit."""
        found: dict[str, dict[str, Any]] = {"images": {}, "depth": {}, "semantics": {}, "extras": {}, "state": {}}
        times: dict[str, float] = dict.fromkeys(self._streams, now)
        self._collect(request, "", found, times)
        if sum(map(len, found.values())) != len(self._senses):
            missing = next(t for t in self._senses if t.name not in found[t.group])
            known = sorted(k for k, target in self._keys.items() if target.path == missing.path)
            raise SpecError(f"The request lacks '{missing.path}'", exists=known)
        state = found["state"][""]
        require_finite("observation.state", state)
        for name, extra in found["extras"].items():
            require_finite(f"observation.extras.{name}", extra)
        images, depth, semantics, extras = (found[k] for k in ("images", "depth", "semantics", "extras"))
        return Observation(times, images, state, _prompt(request), depth, semantics, extras)

    def _collect(
        self, request: Mapping[str, Any], above: str, found: dict[str, dict[str, Any]], times: dict[str, float]
    ) -> None:
        for key, value in request.items():
            target = self._keys.get(above + key)
            if target is None:
                if type(value) is dict and above.count("/") < 2 and not key.startswith(OURS):
                    self._collect(value, f"{above}{key}/", found, times)
            elif target.group == "times":
                times[target.name] = _time(value, target.path)
            elif target.part is not None:
                _put(value, target, found["state"])
            elif type(value) is np.ndarray and value.shape == target.shape and value.dtype == target.dtype:
                found[target.group][target.name] = value
            else:
                found[target.group][target.name] = _fitted(value, target)


def require_finite(path: str, array: np.ndarray) -> None:
    """Raises `SpecError` where a float array holds NaN or infinity."""
    if array.dtype.kind != "f":
        return
    # For a few numbers a list is quicker than two ufuncs.
    if not (all(map(math.isfinite, array.tolist())) if array.ndim == 1 else np.isfinite(array).all()):
        raise SpecError(f"'{path}' is not finite")


def _fitted(value: Any, target: Target) -> np.ndarray:
    """What can be told apart from a mistake: a state in other numbers, a picture with its channels first."""
    try:
        array = np.asarray(value)
    except ValueError:
        array = np.empty(0, object)
    state = target.group == "state" and array.dtype.kind in "biuf"
    if state and array.dtype != np.float32:
        with np.errstate(over="ignore"):
            array = array.astype(np.float32)
    if target.group == "images" and array.shape == (3, *target.shape[:2]):
        array = np.ascontiguousarray(array.transpose(1, 2, 0))
    if array.shape != target.shape or array.dtype != target.dtype:
        raise SpecError(
            f"'{target.path}' does not fit the policy",
            expected=f"{target.dtype} {target.shape}",
            got=f"{array.dtype} {array.shape}",
        )
    return array


def _put(value: Any, target: Target, found: dict[str, Any]) -> None:
    assert target.part is not None
    whole = found.setdefault("", np.full(target.shape, np.nan, np.float32))
    length = target.part.stop - target.part.start
    part = _fitted(np.atleast_1d(value), replace(target, shape=(length,), part=None))
    whole[target.part] = part


def _time(value: Any, path: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float, np.floating)) or not np.isfinite(value):
        raise SpecError(f"'{path}' is not a time", expected="finite seconds")
    return float(value)


def _prompt(request: Mapping[str, Any]) -> str:
    text = next((request[k] for k in PROMPTS if request.get(k) is not None), "")
    if not isinstance(text, str) or len(text.encode()) > INSTRUCTION_BYTES or "\0" in text:
        raise SpecError("The prompt is no instruction", expected=f"text of at most {INSTRUCTION_BYTES} bytes, no NUL")
    return text
