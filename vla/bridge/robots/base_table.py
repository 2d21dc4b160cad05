"""A mobile base in a robot's file, the table [base]: how fast it may be, and how a policy moves it.

[base]
speed_m_s = 0.75                     # limits, which the gate keeps
turn_rad_s = 1.5
acceleration_m_s2 = 1.0
turn_acceleration_rad_s2 = 2.5
jerk_m_s3 = 20.0                     # may be left away, both
turn_jerk_rad_s3 = 40.0
policy_speed_m_s = 0.5               # what a policy's velocities reach, as in its spec
policy_turn_rad_s = 1.0
moves = false                        # true: it chooses among stop, forward, left and right instead
step_m = 0.25                        # of those
turn_step_rad = 0.2617993877991494
goal_m = [3.0, 1.0]                  # forward and left of where it starts: extra `pointgoal` of a PointNav policy
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from ...contract import ActionGroup, ArraySpec, Camera, Element, EnvSpec
from ...errors import ConfigError
from ..base import BASE_SPEED, BASE_TARGET, FAR, STOOD, base_group
from ..base_moves import MOVES
from ..limits import Limits

POSE = (Element("gps_forward", "m"), Element("gps_right", "m"), Element("compass", "rad"), Element("elevation", "rad"))
"""State of a navigating body: where it is as seen from its start, its turn to the left since, its camera's tilt."""
POINT_GOAL = "pointgoal"
"""Extra [2]: distance [m] and angle to the left [rad] of the goal."""


@dataclass(frozen=True, kw_only=True)
class BaseTable:
    """What [base] says; units as in the names.

    Raises `ConfigError` for numbers that are not positive.
    """

    speed_m_s: float
    turn_rad_s: float
    acceleration_m_s2: float
    turn_acceleration_rad_s2: float
    jerk_m_s3: float | None = None
    turn_jerk_rad_s3: float | None = None
    policy_speed_m_s: float = 0.5
    policy_turn_rad_s: float = 1.0
    moves: bool = False
    step_m: float = 0.25
    turn_step_rad: float = math.pi / 12
    goal_m: tuple[float, float] | None = None

    @staticmethod
    def read(table: Mapping[str, Any], path: Path) -> BaseTable:
        """Raises `ConfigError` naming the key that is unknown, missing or does not fit."""
        names = [f.name for f in fields(BaseTable)]
        if odd := [k for k in table if k not in names]:
            raise ConfigError(f"Unknown key in [base] of {path}", got=", ".join(odd), exists=names)
        if missing := [f.name for f in fields(BaseTable) if f.default is MISSING and f.name not in table]:
            raise ConfigError(f"[base] of {path} lacks {', '.join(missing)}", exists=sorted(table))
        values: dict[str, Any] = {}
        for name, value in table.items():
            if name == "moves":
                fits, values[name] = isinstance(value, bool), value
            elif name == "goal_m":
                numbers: list[Any] = value if isinstance(value, list) else []
                fits, values[name] = len(numbers) == 2 and all(map(_finite, numbers)), tuple(numbers)
            else:
                fits, values[name] = _finite(value) and value > 0, value
            if not fits:
                want = {"moves": "true or false", "goal_m": "[forward, left]"}.get(name, "a positive number")
                raise ConfigError(f"'base.{name}' in {path} does not fit", expected=want, got=repr(value))
        if ("jerk_m_s3" in table) != ("turn_jerk_rad_s3" in table):
            raise ConfigError(f"[base] of {path} limits one jerk of two", expected="jerk_m_s3 and turn_jerk_rad_s3")
        return BaseTable(**values)

    @property
    def limits(self) -> Limits:
        """Of the odometers."""
        jerk = None if self.jerk_m_s3 is None else np.array([self.jerk_m_s3, self.turn_jerk_rad_s3])
        return Limits(
            tuple(e.name for e in base_group(arrives=False).elements),
            np.full(2, -FAR),
            np.full(2, FAR),
            np.array([self.speed_m_s, self.turn_rad_s]),
            np.array([self.acceleration_m_s2, self.turn_acceleration_rad_s2]),
            jerk,
        )

    def robot_spec(self, embodiment: str, control_dt: float, cameras: tuple[Camera, ...]) -> EnvSpec:
        """The robot as the bridge drives it: its odometers are measured, and commanded like joints."""
        group = base_group(arrives=False)
        extras = {
            BASE_TARGET: ArraySpec((2,), "float64", "m, rad"),
            BASE_SPEED: ArraySpec((2,), "float64", "m/s, rad/s"),
            STOOD: ArraySpec((), "float64", "s"),
        }
        extras |= self._goal
        return EnvSpec(embodiment, control_dt, cameras, (*POSE, *group.elements), (group,), extras)

    def policy_spec(self, robot: EnvSpec) -> EnvSpec:
        """What a policy for this robot observes and commands; moves count a second each."""
        if self.moves:
            top = len(MOVES) - 1.0
            group = ActionGroup("move", "discrete", (Element("move", "index"),), (0.0,), (top,), choices=MOVES)
        else:
            elements = (Element("forward", "m/s"), Element("turn", "rad/s"))
            most = (self.policy_speed_m_s, self.policy_turn_rad_s)
            group = ActionGroup("base", "base_velocity", elements, tuple(-v for v in most), most, frame="base")
        dt = 1.0 if self.moves else robot.control_dt
        return EnvSpec(robot.embodiment, dt, robot.cameras, POSE, (group,), self._goal)

    @property
    def _goal(self) -> dict[str, ArraySpec]:
        return {} if self.goal_m is None else {POINT_GOAL: ArraySpec((2,), "float32", "m, rad")}


def _finite(value: object) -> bool:
    return type(value) in (int, float) and math.isfinite(float(value))  # type: ignore[arg-type]
