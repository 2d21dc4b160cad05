"""The gate between a policy and a robot: pure, deterministic, without I/O.

Three answers: *limit* (excess of position, velocity, acceleration or jerk is clipped and counted; latched when it
lasts), *drop* (an action that comes late is left out, by its time), *latch* (non-finite, wrong shape, starvation,
keep-out, collision, sensor fault: a jerk-limited stop, held, with a reason, until an explicit `reset`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np

from ..contract import Observation
from ..errors import RobotError
from .limits import Limits, joint_indices
from .motion import Limiter, Motion

__all__ = ["GateReport", "Guard", "Limits", "SafetyGate", "joint_indices"]

_SMALLEST = np.finfo(np.float64).tiny
"""The smallest normal number."""
START_TOLERANCE = 0.02
"""How far outside its position limits [rad, m] a joint may be measured at a start; the command starts on the limit."""


class Guard(Protocol):
    """Says where the joints may not go; asked before a command leaves, about where its motion would end."""

    @property
    def period(self) -> float:
        """How often it is asked [s]; 0 asks every tick."""
        ...

    def fault(self, path: np.ndarray) -> str:
        """What is wrong on `path` [P A], the postures from here to a stop; empty where nothing is. Bounded time."""
        ...


@runtime_checkable
class PlacedGuard(Guard, Protocol):
    """A guard that must be told where the robot is and what is around it: that of a mobile base."""

    def place(self, observation: Observation) -> None:
        """Take over a state; bounded time."""
        ...


@dataclass
class GateReport:
    """What the gate did since it was made.

    Args:
        limited_ticks: ticks whose command was clipped in any joint.
        limited: how often each joint was, by name.
        late_chunks, late_actions: dropped by their time.
        rejected_chunks: with a number that is non-finite or denormal, or of a wrong form.
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
        guards: asked where the motion would come to rest, before it is commanded. What a guard refuses latches, and
            the stop goes along the path that it let pass before.

    A joint with a `Limits.squeeze` is told set-points: fingers are asked to close at once and further than they can,
    since that is how they hold. Such a command is clipped and counted like any other, but running after it is no
    fault; lasting excess latches only where the target is outside the position limits by more than the squeeze.

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
        guards: Sequence[Guard] = (),
    ) -> None:
        self.limits = limits
        self.dt = dt
        self.stale = stale
        self.oldest = oldest
        self.report = GateReport()
        self.reason = "not started"
        self._limiter = Limiter(limits, dt)
        self._guards = [(guard, max(round(guard.period / dt), 1)) for guard in guards]
        self._placed = [guard for guard in guards if isinstance(guard, PlacedGuard)]
        self._patience_ticks = max(1, round(patience / dt))
        self._slack = limits.velocity * slack
        # The target of a set-point joint is taken from here on for what it is, a fault.
        self._squeeze = limits.squeezed
        self._holds = self._squeeze > 0
        self._clipped = np.zeros(len(limits.names), np.int64)  # ticks in a row that a joint was astray
        self._valid_at: float | None = None
        self._motion: Motion | None = None
        self._ticks = 0

    @property
    def latched(self) -> bool:
        return bool(self.reason)

    @property
    def moving(self) -> bool:
        """Whether the commanded velocity is not yet zero."""
        return self._motion is not None and self._motion.moving

    @property
    def position(self) -> np.ndarray:
        """[A] the newest command."""
        return self.motion.position

    @property
    def motion(self) -> Motion:
        """The newest command with its rates."""
        if self._motion is None:
            raise RobotError("The gate has no position yet", run="gate.reset(position)")
        return self._motion

    def reset(self, position: np.ndarray) -> None:
        """Release the latch: start from rest at `position` [A], the robot's own.

        Stays latched, with the reason, where a guard objects to the position.

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
        self._motion = Motion.at_rest(inside)
        self.reason = ""
        self._clipped[:] = 0
        self._valid_at = None
        for guard, _ in self._guards:
            if fault := guard.fault(inside[None]):
                self.latch(f"at the start: {fault}")

    def place(self, observation: Observation) -> None:
        """Tell the guards that ask for it where the robot is; before `reset`, and with every new state."""
        for guard in self._placed:
            guard.place(observation)

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
        be used. A malformed or non-finite chunk latches. One with a denormal number, which is no command of anybody
        but what misread bytes look like, is rejected and counted. A late one is dropped and counted.
        """
        fault = self._malformed(actions, times, observed_at)
        if fault:
            self.report.rejected_chunks += 1
            self.latch(fault)
            return None
        if ((actions != 0) & (np.abs(actions) < _SMALLEST)).any():
            self.report.rejected_chunks += 1
            return None
        first = int(np.searchsorted(times, now + 1e-9, side="right"))
        self.report.late_actions += first
        late = first == len(times) or now - observed_at > self.oldest
        self.report.late_chunks += late
        return None if late or self.latched else first

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
        motion = self.motion
        if reference is not None and not self.latched:
            if reference.shape != self.limits.lower.shape:
                self.latch(f"action has shape {reference.shape}, not {self.limits.lower.shape}")
            elif not np.isfinite(reference).all():
                self.latch("action is not finite")
        if reference is None or self.latched:
            self._motion = self._hold(motion, now)
        else:
            self._motion = self._follow(motion, reference, now)
        self._ticks += 1
        return self._motion.position

    def _hold(self, motion: Motion, now: float) -> Motion:
        self._clipped[:] = 0
        self.report.held_ticks += not self.latched
        # Before the first action there is nothing to be stale: the robot rests where it was found.
        if self._valid_at is not None and now - self._valid_at > self.stale - 1e-9:
            self.latch(f"no valid action for {self.stale * 1000:.0f} ms")
        return self._limiter.stop(motion)

    def _follow(self, motion: Motion, reference: np.ndarray, now: float) -> Motion:
        following, clipped = self._limiter.follow(motion, reference)
        if fault := self._refused(following):
            self.latch(fault)
            return self._limiter.stop(motion)
        self._valid_at = now
        if clipped.any():
            self.report.limited_ticks += 1
            for joint in np.flatnonzero(clipped):
                name = self.limits.names[joint]
                self.report.limited[name] = self.report.limited.get(name, 0) + 1
        self._count_excess(clipped, reference, following)
        return following

    def _refused(self, motion: Motion) -> str:
        """What a guard has against `motion`: against the way from its command to where it would come to rest."""
        for guard, every in self._guards:
            if self._ticks % every == 0:
                # Until the next question the joints go on; a stop must fit then as well.
                end = self._limiter.stop_end(motion, ahead=(every - 1) * self.dt)
                middle = (motion.position + end) / 2
                if fault := guard.fault(np.stack([end, middle, motion.position])):
                    return fault
        return ""

    def _count_excess(self, clipped: np.ndarray, reference: np.ndarray, motion: Motion) -> None:
        """Latch where a joint is astray for longer than the patience."""
        outside = np.abs(reference - motion.reference)
        behind = np.where(self._holds, outside > self._squeeze, np.abs(reference - motion.position) > self._slack)
        self._clipped = np.where(clipped & behind, self._clipped + 1, 0)
        worst = int(self._clipped.argmax())
        if self._clipped[worst] >= self._patience_ticks:
            name, seconds = self.limits.names[worst], self._patience_ticks * self.dt
            self.latch(f"actions beyond the limits of '{name}' for {seconds:.2f} s")
