"""A simulated robot: physics that follows a clock instead of being stepped by its user.

In virtual time it lives in the caller's process and moves when the clock does. In real time it lives in a process of
its own (`serving`) and speaks through shared memory (`link.RobotLink`), as a real one does.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Protocol

import numpy as np

from ...contract import EnvSpec, Observation
from ...errors import RobotError, SpecError
from ..clock import MonotonicClock
from ..limits import Limits
from ..motion import Limiter, Motion
from .link import RobotLink

WAKE = 0.005
"""Period of the simulator's process [s]."""
BEHIND = 0.005
"""How far the physics of the process runs behind the clock [s], so that commands are in before their time."""


class SimulatedBody(Protocol):
    """What a simulator must offer to become a robot. Times of its observations are seconds since `reset`."""

    @property
    def spec(self) -> EnvSpec:
        """The body, commanded by absolute joint positions."""
        ...

    @property
    def limits(self) -> Limits: ...

    @property
    def physics_dt(self) -> float:
        """Seconds of one `step`; divides `spec.control_dt`."""
        ...

    def reset(self, seed: int, options: Mapping[str, Any]) -> None: ...

    def step(self, target: np.ndarray) -> None:
        """One physics step towards the joint target [A] that holds at its end."""
        ...

    def observe(self) -> Observation: ...

    def observe_state(self) -> Observation:
        """Without images."""
        ...

    def outcome(self) -> bool | None:
        """Success (True) or failure (False) once the task has ended, else None; asked once after every period."""
        ...

    @property
    def time_limit(self) -> float:
        """Of the present episode [s]."""
        ...

    def close(self) -> None: ...


BodyFactory = Callable[[], SimulatedBody]


class SimulatedRobot:
    """`contract.Robot` over a simulated body, in the caller's process.

    Commands are waypoints in time: the joint target moves linearly from one to the next. A driver that has run out of
    them, or was stopped, brakes within the body's own limits, whatever became of the loop.

    Args:
        body: the simulator.
        on_period: called after every control period, at exactly its end in simulated time.
    """

    def __init__(self, *, body: SimulatedBody, on_period: Callable[[], None] | None = None) -> None:
        self._body = body
        self._on_period = on_period
        self._per_period = round(body.spec.control_dt / body.physics_dt)
        self._limiter = Limiter(body.limits, body.physics_dt)
        self._start, self._steps = 0.0, 0
        self._from: tuple[float, np.ndarray] = (0.0, np.zeros(body.spec.action_dim))
        self._ahead: deque[tuple[float, np.ndarray]] = deque()
        self._motion = Motion.at_rest(self._from[1])
        self.stopped = False
        self.outcome: bool | None = None

    @property
    def spec(self) -> EnvSpec:
        return self._body.spec

    @property
    def time(self) -> float:
        """Up to when the physics has come [s], on the clock's axis."""
        return self._start + self._steps * self._body.physics_dt

    def reset(self, seed: int, options: Mapping[str, Any]) -> None:
        """A new scene, with the arm at rest in its start posture."""
        self._body.reset(seed, options)
        self._steps, self.outcome = 0, None
        self.start_at(0.0)

    def start_at(self, t: float) -> None:
        """Put the scene's time 0 at `t` on the clock's axis; only before it first advances."""
        self._start = t
        self._ahead.clear()
        self._from = (t, self.measured())
        self._motion = Motion.at_rest(self._from[1])
        self.stopped = False

    def measured(self) -> np.ndarray:
        """[A] float64, the joints in the order of the action."""
        observation = self._body.observe_state()
        names = [e.name for e in self.spec.state]
        return np.array([observation.state[names.index(e.name)] for e in self.spec.action_elements], np.float64)

    def advance_to(self, t: float) -> None:
        """Run the physics up to `t` [s]."""
        while self.time + self._body.physics_dt <= t + 1e-9:
            self._steps += 1
            self._body.step(self._target(self.time))
            if self._steps % self._per_period == 0:
                if self.outcome is None:
                    self.outcome = self._body.outcome()
                if self._on_period is not None:
                    self._on_period()

    def _target(self, t: float) -> np.ndarray:
        """The joint target [A] at the end of the physics step that ends at `t`."""
        dt = self._body.physics_dt
        before = self._motion
        while self._ahead and self._ahead[0][0] <= t + 1e-9:
            self._from = self._ahead.popleft()
        t0, q0 = self._from
        if self._ahead:
            t1, q1 = self._ahead[0]
            here = q0 + (t - t0) / (t1 - t0) * (q1 - q0)
        elif t - t0 < dt - 1e-9 and not self.stopped:
            here = q0  # the last waypoint lies within this step
        else:
            self._motion = self._limiter.stop(before) if before.moving else before
            self._from = (t, self._motion.position)
            return self._motion.position
        speed = (here - before.position) / dt
        rate = (speed - before.velocity) / dt
        self._motion = Motion(here, speed, self._inside(rate), here, before.following)
        return here

    def _inside(self, acceleration: np.ndarray) -> np.ndarray:
        """Waypoints joined linearly have corners; a stop starts from what the body itself would do there."""
        most = self._body.limits.acceleration
        return np.minimum(np.maximum(acceleration, -most), most)

    def command(self, action: np.ndarray, t: float) -> None:
        """Be at `action` [A] at time `t` [s]; ignored where `t` is not after the last one, and once stopped."""
        now = self.time
        if not self._ahead and self._from[0] < now:
            self._from = (now, self._from[1])
        newest = self._ahead[-1][0] if self._ahead else self._from[0]
        if t > newest and not self.stopped:
            self._ahead.append((t, np.array(action, np.float64)))

    def stop(self) -> None:
        """Brake within the body's limits, and obey nobody until `reset` or `start_at`."""
        self._ahead.clear()
        self._from = (self.time, self._motion.position)
        self.stopped = True

    def obey(self) -> None:
        """Take commands again after a stop, from where the arm has come."""
        self._from = (self.time, self._motion.position)
        self.stopped = False

    def read(self) -> Observation:
        """With images, dated on the clock's axis."""
        return self._dated(self._body.observe())

    def read_state(self) -> Observation:
        """Without images."""
        return self._dated(self._body.observe_state())

    def _dated(self, observation: Observation) -> Observation:
        return replace(observation, times={k: v + self._start for k, v in observation.times.items()})

    def close(self) -> None:
        self._body.close()


# --- in a process of its own -----------------------------------------------------------------------------------


class SimulatedDevice:
    """A simulated robot for `serving`: its physics follows the monotonic clock.

    Args:
        body: the simulator.
        publish: takes every observation, one a control period.
    """

    judged, period = True, WAKE

    def __init__(self, body: SimulatedBody, publish: Callable[[Observation], None]) -> None:
        self._body, self._publish = body, publish
        self._robot = SimulatedRobot(body=body, on_period=self._show)
        self._clock = MonotonicClock()
        self._warm = False
        self._fault = ""

    @property
    def spec(self) -> EnvSpec:
        return self._robot.spec

    @property
    def limits(self) -> Limits:
        return self._body.limits

    @property
    def outcome(self) -> bool | None:
        return self._robot.outcome

    @property
    def time(self) -> float:
        return self._robot.time

    def begin(self, seed: int, options: Mapping[str, Any]) -> tuple[float, float]:
        if not self._warm:  # a renderer's first picture may take longer than a state may be old
            self._robot.reset(seed, options)
            self._robot.read()
            self._warm = True
        self._robot.reset(seed, options)
        self._fault = ""
        start = self._clock.now()
        self._robot.start_at(start)
        self._show()
        return start, self._body.time_limit

    def command(self, action: np.ndarray, t: float) -> None:
        self._robot.command(action, t)

    def stop(self) -> None:
        self._robot.stop()

    def advance(self, link: RobotLink) -> None:
        """Run the physics on; a halt takes effect at its own time, which may lie behind."""
        t, halted_at = self._clock.now() - BEHIND, link.halted_at
        if halted_at and not self._robot.stopped:
            self._robot.advance_to(min(halted_at, t))
            if halted_at <= t:
                self._robot.stop()
        self._robot.advance_to(t)
        if self._fault and not link.halted_at:
            link.halt(self._clock.now(), self._fault[:200])

    def fail(self, link: RobotLink, fault: str) -> None:
        """A simulator that fails is broken, and a real robot's driver is not."""
        raise RobotError("The simulator failed", got=fault)

    def read_state(self) -> Observation:
        return self._robot.read_state()

    def _show(self) -> None:
        # Physics that has fallen behind catches up without rendering: frames are dropped, as a busy camera drops them.
        behind = self._clock.now() - self._robot.time
        if behind <= self._robot.spec.control_dt + BEHIND:
            try:
                self._publish(self._robot.read())
            except SpecError as error:  # of a sensor: the robot itself goes on, and is stopped as a real one would be
                self._fault = " ".join(str(error).split())

    def close(self) -> None:
        """The body is its maker's to close."""
