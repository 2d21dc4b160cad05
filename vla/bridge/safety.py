"""The gate between a policy and a robot: pure, deterministic, without I/O.

Three answers: *limit* (excess of position, velocity or acceleration is clipped and counted; latched when it lasts),
*drop* (an action that comes late is left out, by its time), *latch* (non-finite, wrong shape, starvation: a
deceleration-limited stop, held, with a reason, until an explicit `reset`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ..errors import RobotError

START_TOLERANCE = 0.02
"""How far outside its position limits [rad, m] a joint may be measured at a start; the command starts on the limit."""


@dataclass(frozen=True)
class Limits:
    """Per commanded element, in spec units (rad or m) and seconds; arrays [A].

    Args:
        names: of the elements, for messages.
        lower, upper: position.
        velocity, acceleration: magnitudes.
    """

    names: tuple[str, ...]
    lower: np.ndarray
    upper: np.ndarray
    velocity: np.ndarray
    acceleration: np.ndarray

    def __post_init__(self) -> None:
        n = len(self.names)
        for what in ("lower", "upper", "velocity", "acceleration"):
            value = np.array(getattr(self, what), np.float64)  # a copy: nobody else may move a limit
            value.flags.writeable = False
            object.__setattr__(self, what, value)
            if value.shape != (n,) or not np.isfinite(value).all():
                raise RobotError(f"Limit '{what}' must be finite, one per joint", expected=f"[{n}]", got=repr(value))
        if not (self.lower < self.upper).all() or not (self.velocity > 0).all() or not (self.acceleration > 0).all():
            raise RobotError("Limits need lower < upper, velocity > 0 and acceleration > 0", got=repr(self))


def stoppable_speed(room: np.ndarray, acceleration: np.ndarray, dt: float) -> np.ndarray:
    """The largest speed for the next tick after which a stop still fits into `room` [… A].

    In discrete time the speed n·a·dt needs a·dt²·n(n+1)/2 of room: its own tick and the braking after it. Between
    two such nodes the need is linear. Exact, so a joint at this speed can brake at a·dt per tick without leaving.
    """
    unit = acceleration * dt * dt
    x = np.maximum(room, 0.0) / unit
    n = np.floor((np.sqrt(8.0 * x + 1.0) - 1.0) / 2.0)
    return (n + (x - n * (n + 1.0) / 2.0) / (n + 1.0)) * acceleration * dt


@dataclass
class Motion:
    """The commanded state of all joints: position, velocity and the newest reference, [A] each."""

    position: np.ndarray
    velocity: np.ndarray
    reference: np.ndarray


def limit(motion: Motion, reference: np.ndarray, limits: Limits, dt: float) -> tuple[Motion, np.ndarray]:
    """One tick of `dt` [s] towards `reference` [A], inside all limits. Second value: [A] bool, what was clipped.

    A reference within reach passes unchanged, bit for bit. Otherwise the joint follows as fast as the limits let it
    and brakes relative to the moving reference, so that it meets it without overshoot.
    """
    p, v, a = motion.position, motion.velocity, limits.acceleration
    goal = np.minimum(np.maximum(reference, limits.lower), limits.upper)
    behind = motion.reference - p
    drift = np.minimum(np.maximum((goal - motion.reference) / dt, -limits.velocity), limits.velocity)
    rooms = np.stack([np.abs(behind), limits.upper - p, p - limits.lower])
    catching_up, rising, falling = stoppable_speed(rooms, a, dt)
    wanted = drift + np.copysign(catching_up, behind)
    fastest = np.minimum(np.minimum(limits.velocity, rising), v + a * dt)
    slowest = np.maximum(np.maximum(-limits.velocity, -falling), v - a * dt)
    speed = np.minimum(np.maximum(wanted, slowest), fastest)
    reached = p + speed * dt
    # Rounding must not make a reachable reference count as clipped.
    exact = np.abs(reached - goal) <= 1e-12
    reached = np.where(exact, goal, np.minimum(np.maximum(reached, limits.lower), limits.upper))
    speed = np.where(exact, np.minimum(np.maximum((goal - p) / dt, slowest), fastest), speed)
    return Motion(reached, speed, goal), ~(exact & (goal == reference))


def brake(motion: Motion, limits: Limits, dt: float) -> Motion:
    """One tick of the fastest stop the acceleration limits allow."""
    step = limits.acceleration * dt
    speed = motion.velocity - np.minimum(np.maximum(motion.velocity, -step), step)
    reached = np.minimum(np.maximum(motion.position + speed * dt, limits.lower), limits.upper)
    return Motion(reached, speed, reached)


@dataclass
class GateReport:
    """What the gate did since it was made.

    Args:
        limited_ticks: ticks whose command was clipped in any joint.
        limited: how often each joint was, by name.
        late_chunks, late_actions: dropped by their time.
        rejected_chunks: non-finite or of a wrong form.
        held_ticks: ticks without a valid action, not counting those in a latched stop.
        latches: every reason for which the gate stopped the robot, in order.
    """

    limited_ticks: int = 0
    late_chunks: int = 0
    late_actions: int = 0
    rejected_chunks: int = 0
    held_ticks: int = 0
    latches: list[str] = field(default_factory=list)
    limited: dict[str, int] = field(default_factory=dict)


class SafetyGate:
    """Stands between policy and robot; every command that leaves `step` is inside the limits.

    Args:
        limits: of the robot.
        dt: tick [s].
        stale: without a valid action for so long [s], the gate latches.
        patience: after so much uninterrupted clipping of one joint [s] it latches, where the command is also further
            from the action than the joint goes in `slack` [s] at full speed: rounding the corner between two
            waypoints is clipping too, and no fault.
        oldest: a chunk from an observation older than this [s] is dropped.

    Made without a position it is latched: `reset` is what sets it going, at the start and after every latch.
    """

    def __init__(
        self,
        *,
        limits: Limits,
        dt: float,
        stale: float = 0.1,
        patience: float = 0.5,
        slack: float = 0.05,
        oldest: float = 0.5,
    ) -> None:
        self.limits = limits
        self.dt = dt
        self.stale = stale
        self.oldest = oldest
        self.report = GateReport()
        self.reason = "not started"
        self._patience_ticks = max(1, round(patience / dt))
        self._slack = limits.velocity * slack
        self._clipped = np.zeros(len(limits.names), np.int64)  # ticks in a row that a joint was astray
        self._valid_at: float | None = None
        self._motion: Motion | None = None

    @property
    def latched(self) -> bool:
        return bool(self.reason)

    @property
    def moving(self) -> bool:
        """Whether the commanded velocity is not yet zero."""
        return self._motion is not None and bool(np.any(self._motion.velocity != 0.0))

    @property
    def position(self) -> np.ndarray:
        """[A] the newest command."""
        if self._motion is None:
            raise RobotError("The gate has no position yet", run="gate.reset(position)")
        return self._motion.position

    def reset(self, position: np.ndarray) -> None:
        """Release the latch: start from rest at `position` [A], the robot's own.

        Raises `RobotError` where it is not finite or further outside the position limits than `START_TOLERANCE`.
        """
        position = np.array(position, np.float64)
        if position.shape != self.limits.lower.shape or not np.isfinite(position).all():
            raise RobotError("A start position must be finite, one value per joint", got=repr(position))
        inside = np.clip(position, self.limits.lower, self.limits.upper)
        outside = np.abs(position - inside)
        if outside.max() > START_TOLERANCE:
            worst = int(outside.argmax())
            raise RobotError(
                f"Joint '{self.limits.names[worst]}' starts outside its limits",
                expected=f"{self.limits.lower[worst]:.4f} … {self.limits.upper[worst]:.4f}",
                got=f"{position[worst]:.4f}",
                run="move the joint back by hand, then reset",
            )
        self._motion = Motion(inside, np.zeros_like(inside), inside.copy())
        self.reason = ""
        self._clipped[:] = 0
        self._valid_at = None

    def latch(self, reason: str) -> None:
        """Stop and hold. The first reason stays until `reset`."""
        if not self.reason:
            self.reason = reason
            self.report.latches.append(reason)

    def halt(self, reason: str) -> None:
        """Stop and hold because the operator says so: like `latch`, but no fault."""
        if not self.reason:
            self.reason = reason

    def admit(self, actions: np.ndarray, times: np.ndarray, observed_at: float, now: float) -> int | None:
        """Judge a chunk of absolute targets: actions [H A] for `times` [H], both float64.

        Returns the index of the first action that is still ahead of `now`, or None where nothing of the chunk may
        be used. A malformed or non-finite chunk latches; a late one is counted and dropped.
        """
        fault = self._malformed(actions, times, observed_at)
        if fault:
            self.report.rejected_chunks += 1
            self.latch(fault)
        if self.latched:
            return None
        first = int(np.searchsorted(times, now + 1e-9, side="right"))
        self.report.late_actions += first
        if first == len(times) or now - observed_at > self.oldest:
            self.report.late_chunks += 1
            return None
        return first

    def _malformed(self, actions: np.ndarray, times: np.ndarray, observed_at: float) -> str:
        width = len(self.limits.names)
        if actions.ndim != 2 or actions.shape[1] != width or times.shape != actions.shape[:1] or not len(times):
            return f"action chunk has shape {actions.shape} with times {times.shape}, not [H {width}] with [H]"
        if actions.dtype != np.float64 or times.dtype != np.float64:
            return f"action chunk has dtype {actions.dtype} with times {times.dtype}, not float64"
        if not np.isfinite(actions).all():
            row, column = np.argwhere(~np.isfinite(actions))[0]
            return f"action {row} of a chunk is not finite in '{self.limits.names[column]}'"
        if not (np.isfinite(times).all() and np.isfinite(observed_at)) or (np.diff(times) <= 0).any():
            return "times of an action chunk are not finite and increasing"
        return ""

    def step(self, reference: np.ndarray | None, now: float) -> np.ndarray:
        """The command [A] for the tick that starts at `now` [s]; `reference` [A], or None where there is no action."""
        if self._motion is None:
            raise RobotError("The gate has no position yet", run="gate.reset(position)")
        if reference is not None and not self.latched:
            if reference.shape != self.limits.lower.shape:
                self.latch(f"action has shape {reference.shape}, not {self.limits.lower.shape}")
            elif not np.isfinite(reference).all():
                self.latch("action is not finite")
        if reference is None or self.latched:
            self._hold(now)
        else:
            self._follow(reference, now)
        return self._motion.position

    def _hold(self, now: float) -> None:
        assert self._motion is not None
        self._motion = brake(self._motion, self.limits, self.dt)
        self._clipped[:] = 0
        self.report.held_ticks += not self.latched
        # Before the first action there is nothing to be stale: the robot rests where it was found.
        if self._valid_at is not None and now - self._valid_at > self.stale - 1e-9:
            self.latch(f"no valid action for {self.stale * 1000:.0f} ms")

    def _follow(self, reference: np.ndarray, now: float) -> None:
        assert self._motion is not None
        self._motion, clipped = limit(self._motion, reference, self.limits, self.dt)
        self._valid_at = now
        astray = clipped & (np.abs(reference - self._motion.position) > self._slack)
        self._clipped = np.where(astray, self._clipped + 1, 0)
        if clipped.any():
            self.report.limited_ticks += 1
            for joint in np.flatnonzero(clipped):
                name = self.limits.names[joint]
                self.report.limited[name] = self.report.limited.get(name, 0) + 1
        worst = int(self._clipped.argmax())
        if self._clipped[worst] >= self._patience_ticks:
            name, seconds = self.limits.names[worst], self._patience_ticks * self.dt
            self.latch(f"actions beyond the limits of '{name}' for {seconds:.2f} s")


def joint_indices(have: Sequence[str], want: Sequence[str]) -> np.ndarray:
    """Where each name of `want` stands in `have`: joints are mapped by name, never by order."""
    missing = [name for name in want if name not in have]
    if missing:
        raise RobotError(
            "A joint is not measured", expected=", ".join(want), got=f"no {', '.join(missing)}", exists=have
        )
    return np.array([list(have).index(name) for name in want], np.int64)
