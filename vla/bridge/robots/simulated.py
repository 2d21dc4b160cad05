"""A simulated robot: physics that follows a clock instead of being stepped by its user.

In virtual time it lives in the caller's process and moves when the clock does. In real time it lives in a process of
its own (`serve`) and speaks through shared memory (`SimulatedRobotLink`), as a robot on a bus would.
"""

from __future__ import annotations

import json
import os
import signal
import traceback
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import Any, Protocol

import numpy as np

from ...contract import EnvSpec, Observation
from ..cells import Cells
from ..clock import MonotonicClock
from ..limits import Limits
from ..motion import Limiter, Motion
from ..shared import Layout, Ring, observation_layout, observation_record, to_observation

WAKE = 0.005
"""Period of the simulator's process [s]."""
BEHIND = 0.005
"""How far the physics of the process runs behind the clock [s], so that commands are in before their time."""
ORPHANED = 0.5
"""Seconds without a command after which the process of a robot whose operator is gone ends."""
DRIVER = ("halted_at",)
"""When the driver was stopped by somebody else than the loop [s]; 0 where it was not."""


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


class SimulatedRobotLink:
    """`contract.Robot` over the shared memory of a simulator's process; both ends and the operator hold one.

    Args:
        spec: of the robot.
        names: of existing rings, from `names` of the link that made them; None makes new ones.
    """

    def __init__(self, spec: EnvSpec, names: Mapping[str, str] | None = None) -> None:
        self._spec = spec
        state = Layout(
            (*observation_layout(spec, images=False).fields, ("outcome", (), "int8"), ("time", (), "float64"))
        )
        command = Layout.of(
            action=((spec.action_dim,), "float64"), t=((), "float64"), epoch=((), "int64"), stop=((), "uint8")
        )
        layouts = {"observation": (observation_layout(spec), 4), "state": (state, 8), "command": (command, 256)}
        self._rings = {k: Ring(layout, slots, names[k] if names else None) for k, (layout, slots) in layouts.items()}
        self.observation, self.state, self.commands = self._rings.values()
        self._driver = Cells(DRIVER, names["driver"] if names else None)
        self.epoch = 0

    @property
    def spec(self) -> EnvSpec:
        return self._spec

    @property
    def names(self) -> dict[str, str]:
        return {**{k: ring.name for k, ring in self._rings.items()}, "driver": self._driver.name}

    @property
    def halted_at(self) -> float:
        """When somebody else than the loop stopped the driver [s], 0 where nobody did."""
        return self._driver["halted_at"]

    @property
    def halt_reason(self) -> str:
        return self._driver.text

    def halt(self, t: float, reason: str) -> None:
        """Stop the driver as of time `t` [s], from any process; it obeys nobody until `clear_halt`."""
        self._driver.text = reason
        self._driver["halted_at"] = t

    def clear_halt(self) -> None:
        self._driver["halted_at"] = 0.0

    def read(self) -> Observation:
        """The newest joint state, without images: those are the policy's, in `observation`."""
        record = self.state.latest()
        assert record is not None, "the simulator publishes its state before it answers a reset"
        return to_observation(record)

    def command(self, action: np.ndarray, t: float) -> None:
        self.commands.write(action=action, t=t, epoch=self.epoch, stop=0)

    def stop(self) -> None:
        self.commands.write(action=np.zeros(self._spec.action_dim), t=0.0, epoch=self.epoch, stop=1)

    def close(self) -> None:
        self._driver.close()
        for ring in self._rings.values():
            ring.close()


def encode_outcome(outcome: bool | None) -> int:
    return -1 if outcome is None else int(outcome)


def decode_outcome(code: int) -> bool | None:
    return None if code < 0 else bool(code)


def serve(factory: BodyFactory, pipe: Connection) -> None:
    """The simulator's process: builds the body, tells its spec and limits, then follows the monotonic clock.

    Requests over the pipe are JSON: `{"rings": names}` first, then `{"reset": {"seed", "options", "epoch"}}` or
    `{"exit": true}`; every request is answered. It ends when asked to or when its parent is gone.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with_priority()
        body = factory()
        try:
            tell(pipe, {"spec": body.spec.to_dict(), "limits": body.limits.to_json()})
            link = SimulatedRobotLink(body.spec, json.loads(pipe.recv_bytes())["rings"])
            try:
                _Server(body, link, pipe).run()
            finally:
                link.close()
        finally:
            body.close()
        tell(pipe, {"exit": True})
    except (EOFError, BrokenPipeError):
        pass
    except Exception as error:
        tell(pipe, {"error": f"{type(error).__name__}: {error}", "traceback": traceback.format_exc()})


def with_priority() -> None:
    """Prefer this process to ordinary ones where that is allowed: a real arm does not wait for a free core.

    Not in a real-time class: a renderer there uses up what the kernel allows such processes, which then all stop, the
    control loop among them.
    """
    try:
        os.nice(-10)
    except OSError:
        pass


def tell(pipe: Connection, message: Mapping[str, Any]) -> None:
    """Send one JSON message."""
    pipe.send_bytes(json.dumps(message).encode())


class _Server:
    def __init__(self, body: SimulatedBody, link: SimulatedRobotLink, pipe: Connection) -> None:
        self._body, self._link, self._pipe = body, link, pipe
        self._robot = SimulatedRobot(body=body, on_period=self._publish_observation)
        self._epoch, self._seen = 0, 0
        self._commanded_at = 0.0
        self._clock = MonotonicClock()

    def run(self) -> None:
        parent = os.getppid()
        deadline = self._clock.now()
        # A robot does not vanish with its operator: the loop brings it to rest first.
        while os.getppid() == parent or self._clock.now() - self._commanded_at < ORPHANED:
            if os.getppid() == parent and self._pipe.poll():
                request = json.loads(self._pipe.recv_bytes())
                if "exit" in request:
                    return
                self._reset(**request["reset"])
            if self._epoch:
                self._take_commands()
                self._advance(self._clock.now() - BEHIND)
                self._publish_state()
            deadline = max(deadline + WAKE, self._clock.now() - WAKE)
            self._clock.sleep_until(deadline)

    def _advance(self, t: float) -> None:
        """Run the physics up to `t` [s]; a halt takes effect at its own time, which may lie behind."""
        halted_at = self._link.halted_at
        if halted_at and not self._robot.stopped:
            self._robot.advance_to(min(halted_at, t))
            if halted_at <= t:
                self._robot.stop()
        self._robot.advance_to(t)

    def _reset(self, seed: int, options: dict[str, Any], epoch: int) -> None:
        self._epoch = epoch
        self._link.clear_halt()
        self._robot.reset(seed, options)
        start = self._clock.now()
        self._robot.start_at(start)
        self._publish_observation()
        self._publish_state()
        tell(self._pipe, {"start": start, "time_limit": self._body.time_limit})

    def _take_commands(self) -> None:
        records, self._seen = self._link.commands.since(self._seen)
        if records:
            self._commanded_at = self._clock.now()
        for record in records:
            if int(record["epoch"]) != self._epoch:
                continue
            if record["stop"]:
                self._robot.stop()
            else:
                self._robot.command(record["action"], float(record["t"]))

    def _publish_observation(self) -> None:
        # Physics that has fallen behind catches up without rendering: frames are dropped, as a busy camera drops them.
        behind = self._clock.now() - self._robot.time
        if behind > self._robot.spec.control_dt + BEHIND:
            return
        observation = self._robot.read()
        observation.check(self._robot.spec)
        self._link.observation.write(**observation_record(observation, self._epoch))

    def _publish_state(self) -> None:
        record = observation_record(self._robot.read_state(), self._epoch)
        fields = {name for name, _, _ in self._link.state.layout.fields}
        extra = {"outcome": encode_outcome(self._robot.outcome), "time": self._robot.time}
        self._link.state.write(**{k: v for k, v in record.items() if k in fields}, **extra)
