"""Shadow mode: the policy runs, its commands are judged and recorded, and the robot is not moved."""

from __future__ import annotations

import numpy as np

from ..contract import EnvSpec, Observation, Robot
from .motion import Motion
from .safety import SafetyGate


class ShadowRobot:
    """`contract.Robot` that holds the robot where it rests, whatever it is commanded.

    Args:
        robot: the one that is not moved.

    The robot is not where the gate's commands would have brought it, so every chunk is judged from where the robot
    is (`anchor`), and the joint sensors are compared with `motion`, at rest.
    """

    def __init__(self, robot: Robot) -> None:
        self._robot = robot
        self.motion: Motion | None = None

    @property
    def spec(self) -> EnvSpec:
        return self._robot.spec

    def rest(self, position: np.ndarray) -> None:
        """Hold `position` [A], the robot's own, from now on."""
        self.motion = Motion.at_rest(position)

    def anchor(self, gate: SafetyGate, position: np.ndarray) -> None:
        """Judge what comes next from `position` [A] on; a latched gate stays so."""
        if not gate.latched:
            gate.reset(position)

    def read(self) -> Observation:
        return self._robot.read()

    def command(self, action: np.ndarray, t: float) -> None:
        """Be where the robot rests at `t` [s]; nothing before the first `rest`."""
        if self.motion is not None:
            self._robot.command(self.motion.position, t)

    def stop(self) -> None:
        self._robot.stop()
