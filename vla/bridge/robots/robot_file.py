"""A robot in one file (TOML): its joints by name, their limits and calibration, its cameras, and who drives it.

embodiment = "lab-arm"            # as in the policy's spec
driver = "ros2"                   # its own options are in [ros2]; those of a plugin's class in [options]
control_hz = 20.0                 # of observations, and of a policy's actions

[groups]                          # of the action, in order; each a list of joints
arm = ["shoulder", "elbow"]
gripper = ["width"]

[units]                           # rad where nothing is said
width = "m"

[limits.shoulder]                 # of every joint; jerk and squeeze may be left away
lower = -2.0
upper = 2.0
velocity = 1.0
acceleration = 5.0

[calibration.shoulder]            # joint = sign · scale · raw + offset; `wayhand calibrate` writes it
sign = -1
offset = 0.12

[cameras.front]                   # pixels; pose as in `contract.Camera`
height = 480
width = 640
fx = 610.0
fy = 610.0
cx = 320.0
cy = 240.0

[plausibility]                    # when a sensor is taken to be broken: `sensors.Plausibility`
late = 0.1

A mobile base has the table [base] of `base_table` instead of groups, limits and calibration.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from ...contract import ActionGroup, Camera, Element, EnvSpec
from ...errors import ConfigError, did_you_mean
from ..limit_files import combine, read_limits, read_toml
from ..limits import Limits
from ..sensors import Plausibility
from .base_table import BaseTable
from .body_model import BodyModel
from .calibrated import JointCalibration

_TOP = ("embodiment", "driver", "control_hz", "groups", "state", "units", "limits", "calibration", "cameras",
        "plausibility", "model", "workspace", "keep_out")  # fmt: skip
_TOP_OF_BASE = ("embodiment", "driver", "control_hz", "base", "cameras", "plausibility")
_UNSAID = ("name", "depth", "semantics")
_CAMERA = (*(f.name for f in fields(Camera) if f.name not in _UNSAID), "distortion", "error")


@dataclass(frozen=True)
class RobotFile:
    """What a robot's file says.

    Args:
        driver: who drives it.
        options: of the driver, its own table.
        spec, limits: calibrated, as everybody but the driver knows them; limits within the calibrated range.
        calibration: joint → how its raw value becomes the calibrated one.
        plausibility: of its sensors.
        model: its geometry, where the file names one.
        base: where it is a mobile base.
        distortion: camera → coefficients k1 k2 p1 p2 k3 of its lens (Brown, Conrady), where they are known.
    """

    path: Path
    driver: str
    options: Mapping[str, Any]
    spec: EnvSpec
    limits: Limits
    calibration: Mapping[str, JointCalibration]
    distortion: Mapping[str, tuple[float, ...]]
    plausibility: Plausibility
    model: BodyModel | None
    base: BaseTable | None = None

    @staticmethod
    def load(path: Path | str) -> RobotFile:
        """Raises `ConfigError` naming the table, the key and what exists, for whatever does not fit."""
        path = Path(path)
        data = read_toml(path)
        driver = str(_needed(data, "driver", path))
        own = "options" if "." in driver else driver
        if "base" in data:
            return _base(data, driver, own, path)
        _known(data, (*_TOP, own), path)
        groups = _groups(_table(data, "groups", path), path)
        joints = [j for _, names in groups for j in names]
        state = list(data.get("state", joints))
        calibration = _calibration(_table(data, "calibration", path, {}), joints, path)
        ranges = {name: c.range for name, c in calibration.items() if c.range}
        limits = combine(joints, read_limits(_table(data, "limits", path), path), ranges)
        units: Mapping[str, str] = _table(data, "units", path, {})
        cameras, distortion = _cameras(data, path)
        elements = {name: Element(name, str(units.get(name, "rad"))) for name in (*joints, *state)}
        spec = EnvSpec(
            *_body(data, path),
            cameras=cameras,
            state=tuple(elements[name] for name in state),
            action=tuple(_action(name, [elements[j] for j in names], limits) for name, names in groups),
        )
        options = _table(data, own, path, {})
        plausibility = _plausibility(_table(data, "plausibility", path, {}), path)
        model = _model(data, path, limits)
        return RobotFile(path, driver, options, spec, limits, calibration, distortion, plausibility, model)

    @property
    def raw_limits(self) -> Limits:
        """`limits` in the driver's own numbers."""
        rows = [self.calibration[n].raw_limits(self.limits, i) for i, n in enumerate(self.limits.names)]
        columns = {key: None if rows[0][key] is None else [row[key] for row in rows] for key in rows[0]}
        return Limits.from_json({"names": self.limits.names, **columns})


def _base(data: Mapping[str, Any], driver: str, own: str, path: Path) -> RobotFile:
    _known(data, (*_TOP_OF_BASE, own), path)
    base = BaseTable.read(_table(data, "base", path), path)
    cameras, distortion = _cameras(data, path)
    spec = base.robot_spec(*_body(data, path), cameras)
    plausibility = _plausibility(_table(data, "plausibility", path, {}), path)
    options = _table(data, own, path, {})
    return RobotFile(path, driver, options, spec, base.limits, {}, distortion, plausibility, None, base)


def _body(data: Mapping[str, Any], path: Path) -> tuple[str, float]:
    """Embodiment and control period [s]."""
    hz = _positive(_needed(data, "control_hz", path), "control_hz", path)
    return str(_needed(data, "embodiment", path)), 1.0 / hz


def _cameras(data: Mapping[str, Any], path: Path) -> tuple[tuple[Camera, ...], dict[str, tuple[float, ...]]]:
    """The cameras, and the distortion of those that say it."""
    table = _table(data, "cameras", path, {})
    cameras = tuple(_camera(name, row, path) for name, row in table.items())
    seen = {name: row["distortion"] for name, row in table.items() if "distortion" in row}
    return cameras, {n: _numbers(v, 5, f"cameras.{n}.distortion", path) for n, v in seen.items()}


def _needed(data: Mapping[str, Any], key: str, path: Path) -> Any:
    if key not in data:
        raise ConfigError(f"{path} lacks '{key}'", exists=sorted(data))
    return data[key]


def _known(data: Mapping[str, Any], keys: Sequence[str], path: Path, table: str = "") -> None:
    for key in data:
        if key not in keys:
            close = did_you_mean(key, keys)
            hint = f"; did you mean '{close}'?" if close else ""
            where = f"[{table}] of {path}" if table else str(path)
            raise ConfigError(f"Unknown key '{key}' in {where}{hint}", exists=keys)


def _table(data: Mapping[str, Any], key: str, path: Path, default: Mapping[str, Any] | None = None) -> Any:
    value = data.get(key, default)
    if not isinstance(value, Mapping):
        raise ConfigError(f"{path} needs the table [{key}]", got=repr(value))
    return value


def _positive(value: object, key: str, path: Path) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < float("inf"):
        raise ConfigError(f"'{key}' in {path} must be a positive number", got=repr(value))
    return float(value)


def _plausibility(table: Mapping[str, Any], path: Path) -> Plausibility:
    usual = asdict(Plausibility())
    _known(table, list(usual), path, "plausibility")
    values: dict[str, Any] = {k: _positive(v, f"plausibility.{k}", path) for k, v in table.items()}
    return Plausibility(**{k: type(usual[k])(v) for k, v in values.items()})


def _model(data: Mapping[str, Any], path: Path, limits: Limits) -> BodyModel | None:
    boxes: list[Any] = [data.get(key, []) for key in ("workspace", "keep_out")]
    if not all(isinstance(rows, list) for rows in boxes):
        raise ConfigError(f"Boxes in {path} are written as [[workspace]] and [[keep_out]]")
    if "model" not in data:
        if any(boxes):
            raise ConfigError(f"The zones of {path} need the robot's geometry", expected="[model] mjcf = …")
        return None
    return BodyModel(_table(data, "model", path), path.parent, limits, *boxes)


def _groups(table: Mapping[str, Any], path: Path) -> list[tuple[str, list[str]]]:
    for name, joints in table.items():
        if not isinstance(joints, list) or not joints or not all(isinstance(j, str) for j in joints):
            raise ConfigError(f"Group '{name}' in {path} must be a list of joints", got=repr(joints))
    if not table:
        raise ConfigError(f"{path} has no groups", expected='[groups] arm = ["joint", …]')
    return list(table.items())


def _calibration(table: Mapping[str, Any], joints: Sequence[str], path: Path) -> dict[str, JointCalibration]:
    _known(table, joints, path, "calibration")
    names = [f.name for f in fields(JointCalibration)]
    for joint, row in table.items():
        if not isinstance(row, Mapping):
            raise ConfigError(f"{path} needs the table [calibration.{joint}]", got=repr(row))
        _known(row, names, path, f"calibration.{joint}")
    return {j: JointCalibration(**table.get(j, {})) for j in joints}


def _camera(name: str, row: object, path: Path) -> Camera:
    if not isinstance(row, Mapping):
        raise ConfigError(f"{path} needs the table [cameras.{name}]", got=repr(row))
    _known(row, _CAMERA, path, f"cameras.{name}")
    where = f"cameras.{name}"
    height, width, fx, fy, cx, cy = (
        _positive(_needed(row, key, path), f"{where}.{key}", path)
        for key in ("height", "width", "fx", "fy", "cx", "cy")
    )
    if not (height.is_integer() and width.is_integer()):
        raise ConfigError(f"[{where}] of {path} has no whole number of pixels", got=f"{height}×{width}")
    position = _numbers(row.get("position", [0.0, 0.0, 0.0]), 3, f"{where}.position", path)
    quaternion = _numbers(row.get("quaternion", [1.0, 0.0, 0.0, 0.0]), 4, f"{where}.quaternion", path)
    frame = str(row.get("frame", "world"))
    return Camera(name, int(height), int(width), fx, fy, cx, cy, frame, position, quaternion)


def _numbers(value: object, count: int, key: str, path: Path) -> tuple[float, ...]:
    numbers: list[Any] = value if isinstance(value, list) else []
    fits = [type(v) in (int, float) and abs(v) < float("inf") for v in numbers]
    if len(numbers) != count or not all(fits):
        raise ConfigError(f"'{key}' in {path} must be {count} numbers", got=repr(value))
    return tuple(float(v) for v in numbers)


def _action(name: str, elements: Sequence[Element], limits: Limits) -> ActionGroup:
    own = limits.select([e.name for e in elements])
    lower, upper = tuple(own.lower.tolist()), tuple(own.upper.tolist())
    return ActionGroup(name, "joint_position", tuple(elements), lower, upper)
