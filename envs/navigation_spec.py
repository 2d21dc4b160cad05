"""The navigating body and its task: how it moves, what it senses, when it has arrived, and the spaces that follow."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium import spaces

from ..vla.contract import INSTRUCTION_BYTES, ActionGroup, ArraySpec, Camera, Element, EnvSpec
from ..vla.errors import ConfigError

SENSORS = ("rgb", "depth", "semantics")
MOVES = ("stop", "forward", "left", "right")
LOOKS = ("up", "down")
CAMERA = "head"
TASKS = ("vln", "pointnav", "objectnav")
REWARDS = ("success", "progress")
STATE = (("gps_forward", "m"), ("gps_right", "m"), ("compass", "rad"), ("elevation", "rad"))
GOAL = (("goal_ahead", "m"), ("goal_left", "m"))
"""Further state of a body that is told where its point is: as it sees it now."""
_SECONDS, _METRES, _FAR = 1e6, 1e4, 1e4
_BOUNDS = {"rad": 2 * np.pi, "m": _METRES}


@dataclass(frozen=True, kw_only=True)
class NavBody:
    """A round body on the floor with one camera; the defaults are those of VLN-CE's R2R (Krantz et al. 2020).

    Args:
        sensors: any of `rgb`, `depth`, `semantics`; none for a blind body. Depth and semantics come with rgb.
        width, height: of the images in pixels.
        hfov: horizontal field of view [degrees].
        camera_height: above the floor [m].
        radius, tall: of the body [m].
        forward: length of a step [m].
        turn, tilt: of the discrete turns and of looking up and down [degrees].
        looks: whether the discrete moves `up` and `down` exist, as in RxR.
        sliding: whether a blocked step slides along the wall.
        speed, spin: limits of the continuous base [m/s, rad/s].
        control_dt: period of the continuous base [s]; discrete moves count one second each.
    """

    sensors: tuple[str, ...] = ("rgb", "depth")
    width: int = 224
    height: int = 224
    hfov: float = 90.0
    camera_height: float = 1.25
    radius: float = 0.1
    tall: float = 1.5
    forward: float = 0.25
    turn: float = 15.0
    tilt: float = 30.0
    looks: bool = False
    sliding: bool = True
    speed: float = 0.5
    spin: float = 1.0
    control_dt: float = 0.2

    def __post_init__(self) -> None:
        unknown = [s for s in self.sensors if s not in SENSORS]
        if unknown:
            raise ConfigError("Unknown sensors", got=", ".join(unknown), exists=SENSORS)
        if self.sensors and "rgb" not in self.sensors:
            raise ConfigError(
                "A camera without colour", expected="sensors with 'rgb', or none", got=", ".join(self.sensors)
            )

    @property
    def moves(self) -> tuple[str, ...]:
        """Names of the discrete actions; their positions are the indices of R2R-CE and RxR-CE."""
        return MOVES + LOOKS if self.looks else MOVES

    def camera(self) -> Camera:
        """The camera in the body's frame: x forward, y left, z up, origin on the floor; square pixels."""
        focal = self.width / 2 / math.tan(math.radians(self.hfov) / 2)
        return Camera(
            name=CAMERA,
            height=self.height,
            width=self.width,
            fx=focal,
            fy=focal,
            cx=self.width / 2,
            cy=self.height / 2,
            frame="base",
            position=(0.0, 0.0, self.camera_height),
            quaternion=(0.5, 0.5, -0.5, -0.5),
            depth="depth" in self.sensors,
            semantics="semantics" in self.sensors,
        )

    def spec(
        self,
        *,
        continuous: bool = False,
        extras: Mapping[str, ArraySpec] | None = None,
        further: Sequence[tuple[str, str]] = (),
    ) -> EnvSpec:
        """The `EnvSpec` of this body with discrete moves or a continuous base; `further` names and units of state."""
        if continuous:
            elements = (Element("forward", "m/s"), Element("turn", "rad/s"))
            limits = (self.speed, self.spin)
            group = ActionGroup("base", "base_velocity", elements, tuple(-v for v in limits), limits, frame="base")
        else:
            top = len(self.moves) - 1.0
            group = ActionGroup("move", "discrete", (Element("move", "index"),), (0.0,), (top,), choices=self.moves)
        return EnvSpec(
            embodiment="walker",
            control_dt=self.control_dt if continuous else 1.0,
            cameras=(self.camera(),) if self.sensors else (),
            state=tuple(Element(*e) for e in (*STATE, *further)),
            action=(group,),
            extras=dict(extras or {}),
        )


@dataclass(frozen=True, kw_only=True)
class NavTask:
    """What counts as arriving.

    Args:
        name: `"vln"`, `"pointnav"` or `"objectnav"`.
        radius: success needs a geodesic distance below it when STOP is called, strictly as in VLN-CE [m].
        max_steps: STOP included; then the episode is truncated.
        reward: `"success"`, 1 on the step that succeeds; or `"progress"`, metres gained − 0.01 a step + 2.5 for
            success (Wijmans et al. 2020, DD-PPO).
        stand: standing still for so long means STOP for a continuous base [s].
    """

    name: str = "vln"
    radius: float = 3.0
    max_steps: int = 500
    reward: str = "success"
    stand: float = 0.5

    def __post_init__(self) -> None:
        for what, value, known in (("task", self.name, TASKS), ("reward", self.reward, REWARDS)):
            if value not in known:
                raise ConfigError(f"Unknown {what}", got=value, exists=known)


def observation_space(body: EnvSpec) -> spaces.Dict:
    """The space of `Observation.to_nested()` for a navigating body."""
    bound = np.array([_BOUNDS[e.unit] for e in body.state], np.float32)
    streams = ("state", *(c.name for c in body.cameras))
    entries: dict[str, spaces.Space[Any]] = {
        "times": spaces.Dict({k: spaces.Box(0.0, _SECONDS, (), np.float64) for k in streams}),
        "state": spaces.Box(-bound, bound, dtype=np.float32),
        "instruction": spaces.Box(0, 255, (INSTRUCTION_BYTES,), np.uint8),
    }
    size = {c.name: (c.height, c.width) for c in body.cameras}
    if size:
        entries["images"] = spaces.Dict({k: spaces.Box(0, 255, (*s, 3), np.uint8) for k, s in size.items()})
    deep = {c.name: spaces.Box(0.0, _FAR, size[c.name], np.float32) for c in body.cameras if c.depth}
    named = {c.name: spaces.Box(-1, 2**31 - 1, size[c.name], np.int32) for c in body.cameras if c.semantics}
    extras: dict[str, spaces.Space[Any]] = {
        k: spaces.Box(-1, 10_000, a.shape, np.int32)
        if a.dtype == "int32"
        else spaces.Box(-_METRES, _METRES, a.shape, np.float32)
        for k, a in body.extras.items()
    }
    if deep:
        entries["depth"] = spaces.Dict(dict(deep))
    if named:
        entries["semantics"] = spaces.Dict(dict(named))
    if extras:
        entries["extras"] = spaces.Dict(extras)
    return spaces.Dict(entries)


def episodic(
    position: Sequence[float], heading: float, start: Sequence[float], start_heading: float
) -> tuple[float, float, float]:
    """Metres forward and to the right of the start, and how far the body has turned left since [rad], in (−π, π].

    The frame of habitat-lab's EpisodicGPSSensor and EpisodicCompassSensor.
    """
    dx, dy = position[0] - start[0], position[1] - start[1]
    s, c = math.sin(start_heading), math.cos(start_heading)
    return dx * s + dy * c, dx * c - dy * s, half_turn(start_heading - heading)


def polar(position: Sequence[float], heading: float, goal: Sequence[float]) -> tuple[float, float]:
    """Distance in plan [m] and angle to the left of where the body faces [rad] of a point (PointGoal with GPS)."""
    dx, dy = goal[0] - position[0], goal[1] - position[1]
    return math.hypot(dx, dy), half_turn(heading - math.atan2(dx, dy))


def half_turn(angle: float) -> float:
    """The same angle in (−π, π] [rad]."""
    return math.pi - (math.pi - angle) % (2 * math.pi)
