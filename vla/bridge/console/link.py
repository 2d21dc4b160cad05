"""A run's side of its console: starts it, takes what is pressed there, and outlives it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import numpy as np

from ...contract import ActionChunk, EnvSpec, Memory, Observation, Policy
from ..child import Child
from ..clock import MonotonicClock
from ..session import Session
from ..shared import Ring
from ..teleop.cell import HandCell
from .access import ConsoleSettings
from .model3d import Model3D
from .monitor import About
from .panel import DRIVING, FAULT, HELD, LET_GO, WAITING
from .process import INSTRUCTION, ConsoleNames, read_instruction, serve

POLL = 0.02


class Console:
    """Context manager around the console's process.

    Args:
        session: what is watched and driven.
        settings: where the page is.
        about: the run.
        model: builds what is drawn, in the console's process, so it must be importable there; None draws nothing.
        by_hand: whether the robot may be moved from the page; then `hand` is the cell that says where to.

    `url` is what to open. A console that dies stops nothing, but where the robot moves only while its enable button
    is held; then the loop stops the robot.

    Raises `RobotError` where it cannot start.
    """

    def __init__(
        self,
        *,
        session: Session,
        settings: ConsoleSettings,
        about: About,
        model: Callable[[], Model3D] | None = None,
        by_hand: bool = False,
    ) -> None:
        self._session, self._panel, self._clock = session, session.panel, MonotonicClock()
        self._panel.clear()
        self._starts, self._resets = self._panel.starts, self._panel.resets
        self._settings = settings
        with ExitStack() as stack:
            self._instruction = Ring(INSTRUCTION)
            stack.callback(self._instruction.close)
            self.hand = HandCell() if by_hand else None
            if self.hand is not None:
                stack.callback(self.hand.close)
            hand = "" if self.hand is None else self.hand.name
            names = ConsoleNames(*session.names, self._instruction.name, hand)
            self._child = Child("console", serve, settings, session.spec, session.limits, about, names, model)
            ready = self._child.started()
            stack.callback(self._child.close)
            self._stack = stack.pop_all()
        self._port = int(ready["port"])
        self._token = str(ready["token"])

    @property
    def url(self) -> str:
        """Where the page is, with the token where it was made up for it."""
        host = f"[{self._settings.host}]" if ":" in self._settings.host else self._settings.host
        address = f"{self._settings.scheme}://{host}:{self._port}/"
        return f"{address}?token={self._token}" if self._token else address

    @property
    def pid(self) -> int | None:
        return self._child.pid

    @property
    def alive(self) -> bool:
        return self._child.alive

    @property
    def instruction(self) -> str | None:
        """What the operator wants done; None where nothing was said."""
        return read_instruction(self._instruction)

    def note(self, **facts: Any) -> None:
        """Say it of what is recorded; JSON types."""
        self._session.note(**facts)

    def wait(self) -> bool:
        """Until the operator lets an episode begin; False where the console is gone, so that nobody could.

        At once where the robot is driving and nobody stopped it: episodes follow each other, also without the console.
        """
        while True:
            panel, estop = self._panel, self._session.estop
            if estop.pressed:
                panel.phase = FAULT
            if panel.phase == FAULT and panel.resets > self._resets:
                estop.release()
                panel.phase = WAITING
                self._starts = panel.starts  # what was pressed before the reset is void
            self._resets = panel.resets
            if panel.phase == WAITING and panel.starts > self._starts:
                panel.phase = DRIVING
            self._starts = panel.starts
            if panel.phase == DRIVING and not panel.fault(self._clock.now()):
                panel.after = self._session.status.epoch
                return True
            if panel.phase == DRIVING:
                panel.phase = WAITING
            if not self.alive:
                return False
            self._clock.sleep_until(self._clock.now() + POLL)

    @property
    def forestalled(self) -> bool:
        """Whether the emergency button was pressed between a start and its episode, which then cannot begin."""
        return self._session.estop.pressed

    def ended(self, reason: str) -> None:
        """Say why an episode ended; a fault waits for Reset, a pause for Start."""
        if reason:
            self._panel.phase = WAITING if reason in (HELD, LET_GO) else FAULT

    def __enter__(self) -> Console:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()


class Told:
    """`Policy` that hears from the console what to do, and else what the observation says.

    Args:
        policy: who acts.
        console: who says.
    """

    def __init__(self, policy: Policy, console: Console) -> None:
        self._policy, self._console = policy, console
        self.spec = policy.spec
        self._began: float | None = None
        self._told: list[tuple[float, str]] = []

    def init(self, spec: EnvSpec, seeds: Sequence[int]) -> Memory:
        self._began, self._told = None, []
        return self._policy.init(spec, seeds)

    def act(
        self,
        observations: Sequence[Observation],
        memory: Memory,
        *,
        rng: Sequence[np.random.Generator],
        prefix: Sequence[ActionChunk | None] | None = None,
        delay: int = 0,
    ) -> tuple[list[ActionChunk], Memory, dict[str, Any]]:
        text = self._console.instruction
        if text is not None:
            self._note(observations[0].time, text)
            observations = [replace(o, instruction=text) for o in observations]
        elif self._began is None:
            self._began = observations[0].time
        return self._policy.act(observations, memory, rng=rng, prefix=prefix, delay=delay)

    def _note(self, now: float, text: str) -> None:
        """For the recording: what was told when, in seconds from the first observation."""
        if self._began is None:
            self._began = now
        if not self._told or self._told[-1][1] != text:
            self._told.append((round(now - self._began, 3), text))
            self._console.note(told=self._told)
