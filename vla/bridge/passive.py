"""A robot recorded without a word from us: idle, guided by hand, or driven by somebody else.

Nothing is commanded, so there is no loop and no gate. The action of a row is where the joints are at the next
observation: what a policy of joint positions would have had to ask for (kinesthetic teaching).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from ..contract import EnvSpec, Episode, EpisodeBuilder, Observation
from ..errors import RobotError
from .clock import Clock
from .limits import joint_indices
from .robots.driver import Driver
from .robots.simulated import SimulatedBody, SimulatedRobot

SILENT = 1.0
"""Seconds without a new observation after which the robot counts as gone."""


class PassiveRobot:
    """A simulated body that stands in its scene, or a connected driver that is only read.

    Args:
        robot: closed by its owner.
        clock: that its observations are dated on.
    """

    def __init__(self, robot: SimulatedBody | Driver, clock: Clock) -> None:
        self._driver = robot if isinstance(robot, Driver) else None
        self._simulated = None if isinstance(robot, Driver) else SimulatedRobot(body=robot)
        self.spec: EnvSpec = robot.spec
        self._clock = clock

    def begin(self, seed: int, instruction: str) -> None:
        """Start an episode; a simulated scene is that of `seed` and says itself what is to be done."""
        self._instruction = instruction
        if self._simulated is not None:
            self._simulated.reset(seed, {})
            self._simulated.start_at(self._clock.now())

    def read(self) -> Observation:
        if self._simulated is not None:
            self._simulated.advance_to(self._clock.now())
            return self._simulated.read()
        assert self._driver is not None
        return replace(self._driver.read(), instruction=self._instruction)


def watch(
    robot: PassiveRobot, clock: Clock, seconds: float, go_on: Callable[[float], bool], about: Mapping[str, Any]
) -> Episode | None:
    """An episode of what the robot does, an observation a control period; None where there are not two.

    Args:
        seconds: at most.
        go_on: asked after every observation, with the seconds so far.
        about: its provenance, which also says how often no new observation was there in time (`missed`).

    Raises `RobotError` where the robot falls silent.
    """
    spec = robot.spec
    joints = joint_indices([e.name for e in spec.state], [e.name for e in spec.action_elements])
    builder: EpisodeBuilder | None = None
    last: Observation | None = None
    start = newest = clock.now()
    missed = index = 0
    while (now := clock.now()) - start <= seconds + 1e-9:
        observation = robot.read()
        if last is not None and observation.time <= last.time:
            missed += 1
            if now - newest > SILENT:
                raise RobotError("The robot fell silent", expected=f"an observation in {SILENT:g} s")
        else:
            observation.check(spec)
            builder = builder or EpisodeBuilder(spec, observation.instruction)
            if last is not None:
                builder.add(last, np.asarray(observation.state, np.float64)[joints], 0.0)
            last, newest = observation, now
        if not go_on(now - start):
            break
        index += 1
        clock.sleep_until(start + index * spec.control_dt)
    if builder is None or last is None or not len(builder):
        return None
    return builder.finish(last, None, {**about, "missed": missed})
