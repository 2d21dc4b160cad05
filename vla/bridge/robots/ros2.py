"""A robot of a ROS 2 graph, driven without ROS installed: topics over Cyclone DDS, joints matched by name.

It reads `sensor_msgs/JointState`, `nav_msgs/Odometry` and images, and commands the controllers of ros2_control. The
graph sees a bare DDS participant: its topics and types are there, a node name is not. Participants of other hosts
are out of reach until `Topics.network` names an interface.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from ...contract import EnvSpec, Observation
from ...errors import ConfigError, RobotError
from ..clock import Clock, MonotonicClock
from ..limits import Limits
from .cdr import Message
from .driver import Driver
from .ros2_commands import Commands, Controller, Writer
from .ros2_messages import COMPRESSED_IMAGE, IMAGE, JOINT_STATE, ODOMETRY
from .ros2_sensors import Senses

_LOOK = 0.01  # seconds between two looks while waiting


@dataclass(frozen=True, kw_only=True)
class Topics:
    """Where a robot's parts are in the graph.

    Args:
        controllers: action group → what moves it.
        joint_states: topic of the joints; only read where the spec's state has joints.
        odometry: topic of the base.
        odometry_state: state element → one of `ros2_sensors.ODOMETRY_FIELDS`.
        odometry_frames: what its `header.frame_id` and `child_frame_id` must be; anything where None.
        cameras: camera → topic. One that ends in `/compressed` carries `CompressedImage`, any other `Image`.
        domain: ROS_DOMAIN_ID.
        network: interface by name or address; loopback unless said otherwise.
    """

    controllers: Mapping[str, Controller]
    joint_states: str = "/joint_states"
    odometry: str = "/odom"
    odometry_state: Mapping[str, str] = field(default_factory=dict)
    odometry_frames: tuple[str, str] | None = None
    cameras: Mapping[str, str] = field(default_factory=dict)
    domain: int = 0
    network: str = "127.0.0.1"


class Bus(Protocol):
    """What carries CDR payloads; `ros2_dds.Participant` in earnest."""

    def writer(self, topic: str, message: Message) -> Writer: ...

    def reader(self, topic: str, message: Message, receive: Callable[[bytes], None]) -> None: ...

    def close(self) -> None: ...


class Ros2Robot(Driver):
    """A driver over topics.

    Args:
        spec: action groups of kind `joint_position` or `base_velocity`; names of joints are those of the graph.
        limits: of the joints among the action elements, for `stop`.
        topics: where everything is.
        clock: the robot's.
        bus: a DDS participant of its own where None.
        patience: how long `connect` waits for all of the graph [s].

    Raises `ConfigError` where spec and topics do not fit each other, or without Cyclone DDS.
    """

    def __init__(
        self,
        *,
        spec: EnvSpec,
        limits: Limits,
        topics: Topics,
        clock: Clock | None = None,
        bus: Bus | None = None,
        patience: float = 10.0,
    ) -> None:
        _same("camera", [c.name for c in spec.cameras], topics.cameras)
        _same("action group", [g.name for g in spec.action], topics.controllers)
        self.spec, self.limits, self._patience = spec, limits, patience
        self._clock = clock or MonotonicClock()
        self._senses = Senses(spec, topics.odometry_state, self._clock, topics.odometry_frames)
        if bus is None:
            from .ros2_dds import Participant

            bus = Participant(domain=topics.domain, network=topics.network)
        self._bus = bus
        try:
            self._commands = Commands(spec, limits, topics.controllers, self._clock, bus.writer)
            self._subscribe(topics)
        except BaseException:
            bus.close()
            raise

    def _subscribe(self, topics: Topics) -> None:
        if any(e.name not in topics.odometry_state for e in self.spec.state):
            self._bus.reader(topics.joint_states, JOINT_STATE, self._senses.take_joints)
        if topics.odometry_state:
            self._bus.reader(topics.odometry, ODOMETRY, self._senses.take_odometry)
        for camera, topic in topics.cameras.items():
            compressed = topic.endswith("/compressed")
            receive = functools.partial(self._senses.take_image, camera, compressed)
            self._bus.reader(topic, COMPRESSED_IMAGE if compressed else IMAGE, receive)

    def connect(self) -> None:
        """Wait until the graph has all of the robot."""
        self.wait(self._patience)

    def wait(self, seconds: float) -> None:
        """Until every sensor has spoken and every controller listens; `RobotError` names who did not in time [s]."""
        deadline = self._clock.now() + seconds
        while (silent := self._senses.missing() + self._commands.unheard()) and self._clock.now() < deadline:
            self._clock.sleep_until(self._clock.now() + _LOOK)
        if silent:
            raise RobotError(
                f"The ROS 2 graph does not have this robot after {seconds:g} s",
                expected="publishers and controllers for all of its spec",
                got="nobody for " + ", ".join(silent) + "".join(f"; {p}" for p in self._senses.problems.values()),
                run="check ROS_DOMAIN_ID, the network interface and the names of the topics",
            )

    def read(self) -> Observation:
        """The newest values, dated by their arrival; `RobotError` names what has never come or does not fit."""
        return self._senses.observe(images=True)

    def read_state(self) -> Observation:
        """Without images."""
        return self._senses.observe(images=False)

    def stale(self, seconds: float) -> list[str]:
        """The streams of `Observation.times` from which nothing new came for so long, or never."""
        now = self._clock.now()
        return [name for name, t in self._senses.dates().items() if now - t > seconds]

    def command(self, action: np.ndarray, t: float) -> None:
        """Be at `action` [A] at `t` [s]; ignored once that has passed, where `t` is not after the last one, or stopped.

        Raises `RobotError` for what is not finite or has another shape.
        """
        self._commands.send(action, t)

    def stop(self) -> None:
        """Brake within the limits and hold there; nothing else is obeyed until `reset`. May be called at any time.

        A base is told to stand still. A trajectory controller gets the whole stop as one message, which it finishes
        whatever becomes of this process; a forward controller is led through it, so the call lasts as long as the
        stop. Joints that were never commanded are held where they were measured.
        """
        try:
            state = self.read_state().state
        except RobotError:
            state = None
        self._commands.stop(state)

    def reset(self) -> None:
        """Obey again, from what the sensors say anew."""
        self._senses.reset()
        self._commands.reset()

    def close(self) -> None:
        """Leave the graph. Does not stop the robot."""
        self._bus.close()


def _same(what: str, spec: list[str], topics: Mapping[str, object]) -> None:
    if set(spec) != set(topics):
        raise ConfigError(
            f"Every {what} of the spec needs its topic, and no other",
            expected=", ".join(spec) or "none",
            got=", ".join(topics) or "none",
        )
