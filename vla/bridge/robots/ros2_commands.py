"""Commands to the controllers of ros2_control and to a base, and the stop of all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from ...contract import ActionGroup, EnvSpec
from ...errors import ConfigError, RobotError
from ..clock import Clock
from ..limits import Limits
from ..motion import Motion
from .braking import TICK, CommandedMotion
from .cdr import Message, encode
from .driver import checked_command
from .ros2_messages import FLOAT64_MULTI_ARRAY, JOINT_TRAJECTORY, TWIST

TWIST_ELEMENTS = {"forward": ("linear", "x"), "left": ("linear", "y"), "turn": ("angular", "z")}
"""Name of an element of a base → where it is in a `geometry_msgs/Twist`; m/s and rad/s in the frame of the base."""
_KINDS = {
    "trajectory": ("joint_position", JOINT_TRAJECTORY),
    "forward": ("joint_position", FLOAT64_MULTI_ARRAY),
    "twist": ("base_velocity", TWIST),
}


class Writer(Protocol):
    @property
    def matched(self) -> bool:
        """Whether somebody listens."""
        ...

    def __call__(self, payload: bytes) -> None: ...


@dataclass(frozen=True)
class Controller:
    """What moves an action group.

    Args:
        topic: of its commands, such as `/arm_controller/joint_trajectory`, `/arm_controller/commands` or `/cmd_vel`.
        kind: `"trajectory"` for a joint_trajectory_controller, whose joints are all those of the group;
            `"forward"` for a forward_command_controller or position_controllers, whose message has no names, so that
            the elements of the group must have the order of its parameter `joints`; `"twist"` for a base that takes
            an unstamped `geometry_msgs/Twist` and stands still by itself when none comes.
    """

    topic: str
    kind: str


@dataclass(frozen=True)
class _Route:
    kind: str
    topic: str
    names: tuple[str, ...]
    columns: slice  # of the action
    joints: slice  # of the joints among the action
    write: Writer


class Commands:
    """Of one robot.

    Args:
        limits: of its joints.
        writer: makes the publisher of a topic.
    """

    def __init__(
        self,
        spec: EnvSpec,
        limits: Limits,
        controllers: Mapping[str, Controller],
        clock: Clock,
        writer: Callable[[str, Message], Writer],
    ) -> None:
        self._clock, self._width = clock, spec.action_dim
        self._routes: list[_Route] = []
        joints: list[str] = []
        for group, columns in spec.group_slices():
            controller = controllers[group.name]
            message = _message(group, controller)
            names = tuple(e.name for e in group.elements)
            begin = len(joints)
            joints += names if controller.kind != "twist" else ()
            write = writer(controller.topic, message)
            own = slice(begin, len(joints))
            self._routes.append(_Route(controller.kind, controller.topic, names, columns, own, write))
        self._joints = [i for r in self._routes if r.kind != "twist" for i in range(r.columns.start, r.columns.stop)]
        self._motion = CommandedMotion(limits.select(joints), clock)
        state = [e.name for e in spec.state]
        self._measured = [state.index(name) if name in state else -1 for name in joints]
        self.reset()

    def reset(self) -> None:
        self._stopped = False
        self._motion.reset()
        self._path: list[tuple[float, Motion]] = []

    def unheard(self) -> list[str]:
        """Topics to which nobody listens."""
        return [f"commands on '{r.topic}'" for r in self._routes if not r.write.matched]

    def send(self, action: np.ndarray, t: float) -> None:
        """See `Ros2Robot.command`."""
        action = checked_command(action, self._width)
        now = self._clock.now()
        if self._stopped or not self._motion.follow(action[self._joints], t):
            return
        for route in self._routes:
            if route.kind == "twist":
                route.write(_twist(route.names, action[route.columns]))
            elif route.kind == "forward":
                route.write(_forward(action[route.columns]))
            else:
                route.write(_trajectory(route.names, [(t - now, action[route.columns], None)]))

    def stop(self, state: np.ndarray | None) -> None:
        """See `Ros2Robot.stop`; `state` [S] is the measured one where there is any.

        Everything that can be told is told before the first failure is raised.
        """
        failures: list[RobotError] = []

        def attempt(route: _Route, payload: bytes) -> None:
            try:
                route.write(payload)
            except RobotError as error:
                failures.append(error)

        for route in self._routes:
            if route.kind == "twist":
                attempt(route, _twist(route.names, np.zeros(len(route.names))))
        if not self._stopped:
            self._stopped = True
            known = None if state is None or min(self._measured, default=-1) < 0 else state[self._measured]
            self._path = self._motion.braking(known)
        now = self._clock.now()
        ahead = [(t, m) for t, m in self._path if t > now] or [(now + TICK, m) for _, m in self._path[-1:]]
        for route in self._routes:
            if route.kind == "trajectory" and ahead:
                points = [(t - now, m.position[route.joints], m.velocity[route.joints]) for t, m in ahead]
                attempt(route, _trajectory(route.names, points))
        forward = [route for route in self._routes if route.kind == "forward"]
        for t, motion in ahead if forward else ():
            for route in forward:
                attempt(route, _forward(motion.position[route.joints]))
            self._clock.sleep_until(t)
        if failures:
            raise failures[0]


def _message(group: ActionGroup, controller: Controller) -> Message:
    if controller.kind not in _KINDS:
        raise ConfigError("Unknown kind of ROS 2 controller", got=controller.kind, exists=_KINDS)
    kind, message = _KINDS[controller.kind]
    if group.kind != kind:
        what = f"A {controller.kind} controller cannot move the action group '{group.name}'"
        raise ConfigError(what, expected=kind, got=group.kind)
    odd = [e.name for e in group.elements if kind == "base_velocity" and e.name not in TWIST_ELEMENTS]
    if odd:
        raise ConfigError("A Twist has no such element", got=", ".join(odd), exists=TWIST_ELEMENTS)
    return message


def _twist(names: tuple[str, ...], values: np.ndarray) -> bytes:
    twist = {part: {"x": 0.0, "y": 0.0, "z": 0.0} for part in ("linear", "angular")}
    for name, value in zip(names, values.tolist(), strict=True):
        part, axis = TWIST_ELEMENTS[name]
        twist[part][axis] = value
    return encode(TWIST, twist)


def _forward(values: np.ndarray) -> bytes:
    return encode(FLOAT64_MULTI_ARRAY, {"layout": {"dim": [], "data_offset": 0}, "data": values})


def _trajectory(names: tuple[str, ...], points: Sequence[tuple[float, np.ndarray, np.ndarray | None]]) -> bytes:
    """Points as seconds from now, positions and velocities. The stamp 0 lets the controller begin at once.

    A point on the way has no velocity: controllers refuse a trajectory that ends while it moves.
    """

    def point(ahead: float, position: np.ndarray, velocity: np.ndarray | None) -> dict[str, Any]:
        seconds, nanoseconds = divmod(round(ahead * 1e9), 1_000_000_000)
        return {
            "positions": position,
            "velocities": () if velocity is None else velocity,
            "accelerations": (),
            "effort": (),
            "time_from_start": {"sec": seconds, "nanosec": nanoseconds},
        }

    header = {"stamp": {"sec": 0, "nanosec": 0}, "frame_id": ""}
    rows = [point(*p) for p in points]
    return encode(JOINT_TRAJECTORY, {"header": header, "joint_names": names, "points": rows})
