"""Procedural houses as a `NavSimulator`: our free space, our renderer, no other simulator needed."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Protocol

import numpy as np

from ...vla.errors import ConfigError, DataError, SpecError, did_you_mean
from ..navigation_spec import NavBody
from ..navigation_state import NavState
from .house import House
from .navmesh import DistanceField, NavMesh, Vector
from .roomy import RoomyWay, wider

Houses = Mapping[str, House] | Callable[[str], House]
"""Houses by the name of their scan."""
_KEPT = 64
_SUBSTEP = 0.05
_TILT = math.pi / 2


class Eye(Protocol):
    """What turns poses into pictures; `HouseRenderer` is one."""

    def load(self, house: House) -> None: ...

    def render(
        self, positions: np.ndarray, headings: np.ndarray, elevations: np.ndarray
    ) -> Mapping[str, np.ndarray]: ...

    def close(self) -> None: ...


class HouseSimulator:
    """A round body in procedural houses.

    Args:
        houses: where to find a scan's house.
        body: how it moves and what it sees; without sensors nothing is drawn and no OpenGL is needed.
        eye: renders instead of a `HouseRenderer` of the body's camera.
        meshes: who knows the free space of a scan for this body already.
        clearance: how much wider than the body the way to a goal is kept where there is room [m]; see `RoomyWay`.
        wide: who knows the free space of a body that is so much wider already.
    """

    def __init__(
        self,
        houses: Houses,
        body: NavBody | None = None,
        *,
        eye: Eye | None = None,
        meshes: Callable[[str], NavMesh] | None = None,
        clearance: float = 0.0,
        wide: Callable[[str], NavMesh | None] | None = None,
    ) -> None:
        self.body = body = body or NavBody()
        if clearance < 0:
            raise ConfigError("'clearance' is negative", got=str(clearance), expected="metres, or 0")
        self._houses, self._eye = houses, eye
        build = lru_cache(_KEPT)(lambda scan: NavMesh(self.house(scan), radius=body.radius, height=body.tall))
        self._free: Callable[[str], NavMesh] = meshes or build
        self._wide = wide
        if clearance and wide is None:
            self._wide = wider(self.house, radius=body.radius + clearance, tall=body.tall)
        self._drawn = ""
        self._scan = ""
        self._mesh: NavMesh | None = None
        self._field: DistanceField | None = None
        self._at: Vector = (0.0, 0.0, 0.0)
        self._heading = self._elevation = 0.0
        self._distance = math.inf
        self._step, self._turn = self.body.forward, math.radians(self.body.turn)
        self._tilt = math.radians(self.body.tilt)

    def house(self, scan: str) -> House:
        """The house of a scan; raises `DataError` where there is none."""
        if callable(self._houses):
            return self._houses(scan)
        if scan not in self._houses:
            close = did_you_mean(scan, self._houses)
            raise DataError(
                "There is no such house" + (f"; did you mean '{close}'?" if close else ""),
                got=scan,
                exists=list(self._houses)[:10],
            )
        return self._houses[scan]

    def mesh(self, scan: str) -> NavMesh:
        """The free space of a scan for this body; the last 64 are kept."""
        return self._free(scan)

    def way(self, goals: Sequence[Sequence[float]]) -> RoomyWay:
        """To the nearest of `goals`, floor points [m], in the house the body is in."""
        return RoomyWay(self._ready, self._wide(self._scan) if self._wide else None, goals)

    def begin(self, scan: str, position: Sequence[float], heading: float, goals: Sequence[Sequence[float]]) -> NavState:
        """Put the body at the nearest free point; see `NavSimulator`."""
        self._scan, self._mesh = scan, self.mesh(scan)
        self._field = self._mesh.distance_field(goals)
        x, y, z = (float(v) for v in position)
        self._at = (x, y, z) if self._mesh.is_free((x, y, z)) else self._mesh.snap((x, y, z))
        self._heading, self._elevation = heading % (2 * math.pi), 0.0
        self._distance = self._field.distance(self._at)
        return self._state(False, render=True)

    def step(self, action: str, *, render: bool = True) -> NavState:
        """Make one discrete move; see `NavSimulator`."""
        collided = False
        if action == "forward":
            collided = self._move(self._step, self._heading)
        elif action == "left":
            self._heading = (self._heading - self._turn) % (2 * math.pi)
        elif action == "right":
            self._heading = (self._heading + self._turn) % (2 * math.pi)
        elif action == "up":
            self._elevation = min(self._elevation + self._tilt, _TILT)
        elif action == "down":
            self._elevation = max(self._elevation - self._tilt, -_TILT)
        elif action != "stop":
            raise SpecError("Unknown move", got=action, exists=("stop", "forward", "left", "right", "up", "down"))
        return self._state(collided, render=render)

    def drive(self, forward: float, turn: float, seconds: float, *, render: bool = True) -> NavState:
        """Move with constant speeds, in pieces of at most 0.05 s; see `NavSimulator`."""
        n = max(1, math.ceil(seconds / _SUBSTEP - 1e-9))
        dt = seconds / n
        collided = False
        for _ in range(n):
            # The chord of the arc points along the heading in its middle.
            middle = self._heading - turn * dt / 2
            half = turn * dt / 2
            chord = forward * dt * (math.sin(half) / half if abs(half) > 1e-9 else 1.0)
            collided = self._move(chord, middle) or collided
            self._heading = (self._heading - turn * dt) % (2 * math.pi)
        return self._state(collided, render=render)

    def path(self, goal: Sequence[float]) -> np.ndarray:
        """float64 [n 3]: corners of the shortest path from the body to `goal`; empty without one."""
        return self.way((goal,))(self._at)

    def close(self) -> None:
        """Release the renderer; a second call does nothing."""
        if self._eye is not None:
            self._eye.close()
            self._eye, self._drawn = None, ""

    @property
    def _ready(self) -> NavMesh:
        if self._mesh is None:
            raise SpecError("The body is in no house yet", run="begin(scan, position, heading, goals) first")
        return self._mesh

    def _move(self, length: float, heading: float) -> bool:
        mesh, at = self._ready, self._at
        if not length:
            return False
        to = (at[0] + length * math.sin(heading), at[1] + length * math.cos(heading), at[2])
        self._at, collided = mesh.try_step(at, to, self.body.sliding)
        if self._at != at and self._field is not None:
            self._distance = self._field.distance(self._at)
        return collided

    def _state(self, collided: bool, *, render: bool) -> NavState:
        images = self._look() if render and self.body.sensors else {}
        return NavState(self._at, self._heading, self._elevation, collided, self._distance, images)

    def _look(self) -> dict[str, np.ndarray]:
        eye = self._open()
        if self._drawn != self._scan:
            eye.load(self.house(self._scan))
            self._drawn = self._scan
        x, y, z = self._at
        camera = np.array([[x, y, z + self.body.camera_height]])
        seen = eye.render(camera, np.array([self._heading]), np.array([self._elevation]))
        return {name: np.array(seen[name][0]) for name in self.body.sensors}

    def _open(self) -> Eye:
        if self._eye is None:
            from .renderer import HouseRenderer

            body = self.body
            self._eye = HouseRenderer(body.width, body.height, body.hfov, sensors=body.sensors)
        return self._eye
