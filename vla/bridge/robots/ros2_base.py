"""A mobile base of a ROS 2 graph behind the bridge: `nav_msgs/Odometry` in, `geometry_msgs/Twist` out.

The bridge commands where the odometers should be, the base takes velocities: it is told the speed of the command, and
a little more or less for what it is behind or ahead. A base must stand still by itself when no Twist comes, as
diff_drive_controller does after its `cmd_vel_timeout`: that is what holds it where this process dies.
"""

from __future__ import annotations

import math
import threading
from dataclasses import replace

import numpy as np

from ...contract import ActionGroup, Element, EnvSpec, Observation
from ...errors import RobotError
from ..base import BASE_SPEED, BASE_TARGET, STOOD
from ..clock import Clock, MonotonicClock
from .base_table import POINT_GOAL, BaseTable
from .braking import CommandedMotion
from .driver import Driver, checked_command
from .ros2 import Bus, Ros2Robot, Topics

PULL = 1.0
"""Speed per metre or radian behind [1/s]; its inverse is far longer than the odometry is late."""
CLOSE = 0.005
"""What a base that stands may be off [m, rad]: it is not told to creep."""
_SENSED = ("x", "y", "yaw")


class Ros2Base(Driver):
    """Odometers as the wheels count them since `reset`, and the pose as seen from there.

    Args:
        table: of the robot's file.
        spec: of `BaseTable.robot_spec`.
        topics: its one controller, "base", of kind "twist"; its odometry and cameras.
        clock, bus, patience: see `Ros2Robot`.
    """

    def __init__(
        self,
        *,
        table: BaseTable,
        spec: EnvSpec,
        topics: Topics,
        clock: Clock | None = None,
        bus: Bus | None = None,
        patience: float = 10.0,
    ) -> None:
        self.spec, self.limits, self._goal = spec, table.limits, table.goal_m
        self._clock = clock or MonotonicClock()
        most = (table.speed_m_s, table.turn_rad_s)
        elements = (Element("forward", "m/s"), Element("turn", "rad/s"))
        group = ActionGroup("base", "base_velocity", elements, tuple(-v for v in most), most, frame="base")
        state = (Element("x", "m"), Element("y", "m"), Element("yaw", "rad"))
        told = EnvSpec(spec.embodiment, spec.control_dt, spec.cameras, state, (group,))
        sensed = {name: name for name in _SENSED}
        self._robot = Ros2Robot(
            spec=told, limits=table.limits.select(()), topics=replace(topics, odometry_state=sensed),
            clock=self._clock, bus=bus, patience=patience,
        )  # fmt: skip
        self._motion = CommandedMotion(self.limits, self._clock)
        self._lock = threading.Lock()
        self._begin()

    def _begin(self) -> None:
        self._stopped = False
        self._motion.reset()
        self._start: np.ndarray | None = None
        self._pose, self._seen_at, self._odometers = np.zeros(3), -math.inf, np.zeros(2)
        self._told, self._told_for, self._moved_at = np.zeros(2), -math.inf, self._clock.now()

    def connect(self) -> None:
        self._robot.connect()

    def read(self) -> Observation:
        return self._seen(self._robot.read())

    def read_state(self) -> Observation:
        return self._seen(self._robot.read_state())

    def command(self, action: np.ndarray, t: float) -> None:
        """Have travelled and turned as `action` [2] says at `t` [s]; see `Driver.command`.

        Raises `RobotError` where there is no odometry, too.
        """
        target = checked_command(action, 2)
        self.read_state()  # what it is behind is judged by the newest odometry
        with self._lock:
            if self._stopped or not self._motion.follow(target, t):
                return
            position, velocity = self._commanded(self._seen_at)
            off = position - self._odometers
            rest = (velocity == 0.0) & (np.abs(off) < CLOSE)
            wanted = np.where(rest, 0.0, velocity + PULL * off)
            self._tell(np.clip(wanted, -self.limits.velocity, self.limits.velocity), t)

    def _tell(self, speeds: np.ndarray, t: float) -> None:
        """Say `speeds` [2], approached within the acceleration limits."""
        change = self.limits.acceleration * min(max(t - self._told_for, 0.0), 0.1)
        self._told, self._told_for = self._told + np.clip(speeds - self._told, -change, change), t
        if self._told.any():
            self._moved_at = t
        self._robot.command(self._told, t)

    def _commanded(self, t: float) -> tuple[np.ndarray, np.ndarray]:
        """The odometers [2] that were commanded for `t` [s], about now, and their speeds [2]."""
        newest = self._motion.newest
        if newest is None:
            return self._odometers, np.zeros(2)
        when, motion = newest
        back = min(max(when - t, 0.0), 0.2)
        return motion.position - motion.velocity * back, motion.velocity

    def stop(self) -> None:
        """Lead the base through the fastest stop within its limits, then tell it to stand still."""
        try:
            if not self._stopped:
                self._stopped = True
                for t, motion in self._motion.braking(self._odometers):
                    self._robot.command(np.clip(motion.velocity, -self.limits.velocity, self.limits.velocity), t)
                    self._clock.sleep_until(t)
        finally:
            self._robot.stop()

    def reset(self) -> None:
        self._robot.reset()
        with self._lock:
            self._begin()

    def close(self) -> None:
        self._robot.close()

    # --- senses ---------------------------------------------------------------------------------------------------

    def _seen(self, observation: Observation) -> Observation:
        pose, t = np.asarray(observation.state, np.float64), observation.times["state"]
        if not np.isfinite(pose).all():
            raise RobotError("The odometry is not finite", got=repr(pose.tolist()))
        with self._lock:
            if self._start is None:
                self._start = self._pose = pose
                self._seen_at = t
            elif t > self._seen_at:
                turn = _half_turn(pose[2] - self._pose[2])
                heading = self._pose[2] + turn / 2
                way = pose[:2] - self._pose[:2]
                ahead = way[0] * math.cos(heading) + way[1] * math.sin(heading)
                self._odometers = self._odometers + np.array([ahead, turn])
                self._pose, self._seen_at = pose, t
            target, speed = self._commanded(t)
            stood = max(t - self._moved_at, 0.0)
            extras = {BASE_TARGET: target.copy(), BASE_SPEED: speed.copy(), STOOD: np.asarray(stood)}
            state = np.array([*self._episodic(), 0.0, *self._odometers], np.float32)
            if self._goal is not None:
                extras[POINT_GOAL] = self._to_goal(*self._goal)
        return replace(observation, state=state, extras=extras)

    def _episodic(self) -> tuple[float, float, float]:
        """Metres forward and to the right of the start, and the turn to the left since."""
        assert self._start is not None
        (dx, dy), heading = self._pose[:2] - self._start[:2], self._start[2]
        c, s = math.cos(heading), math.sin(heading)
        return c * dx + s * dy, s * dx - c * dy, _half_turn(self._pose[2] - heading)

    def _to_goal(self, forward: float, left: float) -> np.ndarray:
        """[2] float32: distance [m] and angle to the left [rad] of a point `forward` and `left` of the start [m]."""
        ahead, right, turned = self._episodic()
        dx, dy = forward - ahead, left + right
        return np.array([math.hypot(dx, dy), _half_turn(math.atan2(dy, dx) - turned)], np.float32)


def _half_turn(angle: float) -> float:
    return math.pi - (math.pi - angle) % (2 * math.pi)
