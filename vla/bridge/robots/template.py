"""A driver to copy for a robot of your own: fill in the four methods, name the class in the robot's file.

    driver = "my_package.arm.MyArm"      # my_package declares the entry-point group "wayhand.plugins"

    [options]
    address = "192.168.1.10"

Then `wayhand doctor robot=arm.toml` says what is still missing, `… move=true` tries it, and `wayhand deploy` drives it.
What is not yours to do: limits, stops, timeouts, calibration, recording and the process it all runs in.

Franka (libfranka through `pylibfranka` or `franky`): `send` hands the target to a 1 kHz joint-position or impedance
controller that interpolates; read `robot_state.q`; a reflex ends the motion, so let `read` raise `RobotError` with its
name and recover in `reset`. Its own limits are in the FCI documentation; keep its rate limiters on.
Universal Robots (`ur_rtde`): `rtde_r.getActualQ()`, and `rtde_c.servoJ(q, 0, 0, dt, 0.1, 300)` at 125 or 500 Hz, with
`servoStop()` at the end of `stop` after `super().stop()`; `rtde_c.kickWatchdog()` in `send` covers a dead driver.
Unitree arms and legged robots (`unitree_sdk2py`, itself on Cyclone DDS): `LowState_.motor_state[i].q`, and `LowCmd_`
with q, kp and kd per motor; legs need their own balance controller, so command the arms alone.
"""

from __future__ import annotations

import threading

import numpy as np

from ...contract import Observation
from ...errors import RobotError
from ..clock import Clock
from .driver import PositionDriver
from .robot_file import RobotFile


class StandIn:
    """A vendor's library in small: an arm that is where it was last told to be. Yours replaces it."""

    def __init__(self, address: str, joints: int) -> None:
        self.address, self.positions = address, np.zeros(joints)

    def move(self, positions: np.ndarray) -> None:
        self.positions = positions.copy()


class TemplateDriver(PositionDriver):
    """An arm behind a vendor's library.

    Args:
        file: the robot's; its joints are in the order of its groups.
    """

    def __init__(self, file: RobotFile, clock: Clock | None = None) -> None:
        super().__init__(spec=file.spec, limits=file.raw_limits, clock=clock)
        self._address = str(file.options.get("address", ""))
        self._arm: StandIn | None = None
        self._lock = threading.Lock()  # `read` is called in another thread than `send`; most libraries want one

    def connect(self) -> None:
        # Reach the robot, read it once, move nothing. Say in a RobotError what to do where it does not answer.
        self._arm = StandIn(self._address, self.spec.action_dim)

    def read(self) -> Observation:
        if self._arm is None:
            raise RobotError("The arm is not connected")
        with self._lock:
            positions, t = self._arm.positions, self.clock.now()  # take the time before a slow read, not after it
        images: dict[str, np.ndarray] = {}  # camera → the newest uint8 [h w 3], from a thread of its own
        return Observation({"state": t, **dict.fromkeys(images, t)}, images, positions.astype(np.float32))

    def send(self, positions: np.ndarray) -> None:
        if self._arm is None:
            raise RobotError("The arm is not connected")
        with self._lock:
            self._arm.move(positions)  # must return at once; it holds what it was told last

    def close(self) -> None:
        self._arm = None
