"""Joint calibration: what a motor says and what its joint does are a sign, a scale and an offset apart."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from ...contract import EnvSpec, Observation
from ...errors import ConfigError
from ..limits import Limits, joint_indices
from .driver import Driver, checked_command


@dataclass(frozen=True, kw_only=True)
class JointCalibration:
    """joint [rad, m] = sign · scale · raw + offset.

    Args:
        sign: +1 or −1.
        scale: of one raw unit [rad, m], positive.
        offset: what the joint says where raw is 0 [rad, m].
        lower, upper: the range seen while it was calibrated [rad, m], where it was.

    Raises `ConfigError` for anything else.
    """

    sign: float = 1.0
    scale: float = 1.0
    offset: float = 0.0
    lower: float | None = None
    upper: float | None = None

    def __post_init__(self) -> None:
        numbers = [v for v in (self.sign, self.scale, self.offset, self.lower, self.upper) if v is not None]
        finite = all(isinstance(v, (int, float)) and math.isfinite(v) for v in numbers)
        if not finite or abs(self.sign) != 1 or self.scale <= 0:
            raise ConfigError("A joint's calibration must be finite, its sign 1 or -1, its scale > 0", got=repr(self))

    @property
    def range(self) -> dict[str, float]:
        """Position limits that the calibration knows."""
        return {k: v for k, v in (("lower", self.lower), ("upper", self.upper)) if v is not None}

    def raw_limits(self, limits: Limits, joint: int) -> dict[str, float | None]:
        """Row `joint` of `limits` in raw units."""
        ends = sorted(
            (float(end) - self.offset) / (self.sign * self.scale) for end in (limits.lower[joint], limits.upper[joint])
        )
        rates = {"velocity": limits.velocity, "acceleration": limits.acceleration, "jerk": limits.jerk}
        raw = {k: None if v is None else float(v[joint]) / self.scale for k, v in rates.items()}
        squeeze = float(limits.squeezed[joint]) / self.scale
        return {"lower": ends[0], "upper": ends[1], **raw, "squeeze": squeeze}


class CalibratedDriver(Driver):
    """A driver in calibrated joints, in front of one in raw ones.

    Args:
        raw: whose spec has the same names.
        spec, limits: calibrated.
        calibration: of every joint among the action.
    """

    def __init__(self, raw: Driver, spec: EnvSpec, limits: Limits, calibration: Mapping[str, JointCalibration]) -> None:
        self.spec, self.limits, self._raw = spec, limits, raw
        joints = [e.name for e in spec.action_elements]
        rows = [calibration[j] for j in joints]
        self._gain = np.array([r.sign * r.scale for r in rows], np.float64)
        self._offset = np.array([r.offset for r in rows], np.float64)
        names = [e.name for e in spec.state]
        self._of_state = [(names.index(j), k) for k, j in enumerate(joints) if j in names]
        joint_indices(names, joints)

    def connect(self) -> None:
        self._raw.connect()

    def read(self) -> Observation:
        return self._calibrated(self._raw.read())

    def read_state(self) -> Observation:
        return self._calibrated(self._raw.read_state())

    def command(self, action: np.ndarray, t: float) -> None:
        self._raw.command((checked_command(action, len(self._gain)) - self._offset) / self._gain, t)

    def stop(self) -> None:
        self._raw.stop()

    def reset(self) -> None:
        self._raw.reset()

    def close(self) -> None:
        self._raw.close()

    def _calibrated(self, observation: Observation) -> Observation:
        state = np.array(observation.state, np.float64)
        for i, k in self._of_state:
            state[i] = self._gain[k] * state[i] + self._offset[k]
        return replace(observation, state=state.astype(np.float32))
