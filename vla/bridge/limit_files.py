"""Limits from files: MJCF and URDF say some of them, a robot's own TOML file the rest; joints are matched by name."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ConfigError
from .description import compile_mjcf, parse_xml
from .limits import Limits

LARGEST = 2**16
"""Bytes of a robot's file; the time to read one grows with the square of the parts of a key."""
Table = Mapping[str, Mapping[str, float]]
"""Joint → limit → value, any of `lower upper velocity acceleration jerk squeeze`; rad or m, and seconds."""
_NEEDED = ("lower", "upper", "velocity", "acceleration")
_KNOWN = (*_NEEDED, "jerk", "squeeze")


def from_mjcf(path: Path | str) -> Table:
    """Position limits of the hinges and slides of an MJCF file, within the range of their position servos.

    MJCF knows no limit of velocity, acceleration or jerk.
    """
    return of_model(compile_mjcf(path))


def of_model(model: Any) -> Table:
    """The same, of a compiled `mujoco.MjModel`."""
    import mujoco

    kinds = (int(mujoco.mjtJoint.mjJNT_HINGE), int(mujoco.mjtJoint.mjJNT_SLIDE))
    table: dict[str, dict[str, float]] = {}
    for j in range(model.njnt):
        if int(model.jnt_type[j]) in kinds and model.jnt_limited[j]:
            lower, upper = (float(x) for x in model.jnt_range[j])
            table[model.joint(j).name] = {"lower": lower, "upper": upper}
    for i in range(model.nu):
        joint = model.joint(int(model.actuator_trnid[i, 0])).name
        servo = int(model.actuator_biastype[i]) == int(mujoco.mjtBias.mjBIAS_AFFINE) and model.actuator_biasprm[i, 1]
        at_joint = int(model.actuator_trntype[i]) == int(mujoco.mjtTrn.mjTRN_JOINT)
        if servo and at_joint and model.actuator_ctrllimited[i] and joint in table:
            lower, upper = (float(x) for x in model.actuator_ctrlrange[i])
            table[joint] = {"lower": max(lower, table[joint]["lower"]), "upper": min(upper, table[joint]["upper"])}
    return table


def from_urdf(path: Path | str) -> Table:
    """Position and velocity limits of the revolute, prismatic and continuous joints of a URDF file.

    Raises `ConfigError` for a file that declares entities, which no robot needs and an attacker does.
    """
    root = parse_xml(path, "a URDF")
    table: dict[str, dict[str, float]] = {}
    for joint in root.iter("joint"):
        limit, kind = joint.find("limit"), joint.get("type")
        if limit is None or kind not in ("revolute", "prismatic", "continuous"):
            continue
        wanted = ("velocity",) if kind == "continuous" else ("lower", "upper", "velocity")
        # The format's defaults for a missing bound are 0; one that says nothing about speed is left to other files.
        values = {k: limit.get(k, "0" if k != "velocity" else None) for k in wanted}
        table[joint.get("name", "")] = {k: _number(v, path) for k, v in values.items() if v is not None}
    return table


def from_toml(path: Path | str) -> Table:
    """The `[limits.<joint>]` tables of a robot's file.

    Raises `ConfigError` for an unknown limit or a value that is not a finite number.
    """
    return read_limits(read_toml(path).get("limits"), path)


def read_toml(path: Path | str) -> dict[str, Any]:
    """Raises `ConfigError` where there is no such file, or it is too large or no TOML."""
    path = Path(path)
    if not path.is_file():
        raise ConfigError("There is no such robot's file", got=str(path))
    if path.stat().st_size > LARGEST:
        raise ConfigError("A robot's file is too large", expected=f"at most {LARGEST} bytes", got=str(path))
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError("This is not a TOML file", got=f"{path}: {error}") from error


def read_limits(limits: object, path: Path | str) -> Table:
    """The same, of the table itself; `path` is told in errors."""
    if not isinstance(limits, dict) or not all(isinstance(row, dict) for row in limits.values()):
        raise ConfigError("The robot's file has no limits", expected="[limits.<joint>]", got=str(path))
    for joint, row in limits.items():
        for key in row:
            if key not in _KNOWN:
                raise ConfigError(f"Unknown limit of '{joint}' in {path}", got=key, exists=_KNOWN)
    return {joint: {k: _number(v, path) for k, v in row.items()} for joint, row in limits.items()}


def to_toml(limits: Limits) -> str:
    """What `from_toml` reads back."""
    lines: list[str] = []
    for i, name in enumerate(limits.names):
        lines.append(f'[limits."{name}"]')
        rows = {k: getattr(limits, k) for k in _KNOWN}
        lines += [f"{k} = {float(v[i])!r}" for k, v in rows.items() if v is not None]
    return "\n".join(lines) + "\n"


def combine(names: Sequence[str], *tables: Table) -> Limits:
    """The tightest of all `tables` for the joints `names`; of `squeeze`, the smallest.

    Raises `ConfigError` that names every joint and limit that none of them says.
    """
    missing = [f"{n}.{k}" for n in names for k in _NEEDED if not any(k in t.get(n, {}) for t in tables)]
    if missing:
        raise ConfigError(
            "Limits are missing",
            expected=", ".join(missing),
            exists=sorted({joint for table in tables for joint in table}),
            run="say them in the robot's file, [limits.<joint>]",
        )

    def column(key: str) -> np.ndarray:
        tightest = max if key == "lower" else min
        return np.array([tightest(t[n][key] for t in tables if key in t.get(n, {})) for n in names])

    jerky = all(any("jerk" in t.get(n, {}) for t in tables) for n in names)
    squeeze = [min((t[n]["squeeze"] for t in tables if "squeeze" in t.get(n, {})), default=0.0) for n in names]
    rows = {key: column(key) for key in _NEEDED}
    return Limits(tuple(names), **rows, jerk=column("jerk") if jerky else None, squeeze=np.array(squeeze))


def table_of(limits: Limits) -> Table:
    """`limits` as a table, to be combined with others."""
    rows = {k: getattr(limits, k) for k in _KNOWN}
    return {n: {k: float(v[i]) for k, v in rows.items() if v is not None} for i, n in enumerate(limits.names)}


def _number(value: object, path: Path | str) -> float:
    try:
        number = float(value) if isinstance(value, (int, float, str)) else math.nan
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ConfigError(f"A limit in {path} is not a finite number", got=repr(value))
    return number
