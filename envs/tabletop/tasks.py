"""The tasks as a table: how long, when a candidate counts as chosen, and who demonstrates it.

In every task several candidates could be meant. A predicate says of one candidate whether its outcome holds now; the
first candidate whose outcome holds for `hold` control steps in a row is the *chosen* one and ends the episode, which
is a success if it is the one the instruction named. Trying all objects in turn therefore earns no more than chance.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from .layout import Candidate, Layout
from .objects import SHAPES

REACH_HEIGHT, REACH_RADIUS = 0.025, 0.03
PUSH_DISTANCE = 0.06
LIFT_HEIGHT = 0.08
OPEN_DISTANCE = 0.06
PRESS_DEPTH = 0.008
BIN_RADIUS = 0.05


@dataclass(frozen=True)
class World:
    """What predicates and oracles see: the state of the simulator, world frame, metres.

    Args:
        hand: [3] tool centre point.
        hand_quaternion: [4] w x y z.
        goal: [3] commanded tool centre point.
        goal_quaternion: [4] w x y z.
        width: gripper opening.
        objects: [n 3] origins of the layout's things.
        bins: [m 3].
        drawers: [k] opening of the layout's drawers.
        handles: [k 3] where to grip their handles.
        buttons: [b] how far the layout's buttons are pressed down.
        caps: [b 3] middle of the upper face of their caps.
    """

    layout: Layout
    hand: np.ndarray
    hand_quaternion: np.ndarray
    goal: np.ndarray
    goal_quaternion: np.ndarray
    width: float
    objects: np.ndarray
    bins: np.ndarray
    drawers: np.ndarray
    handles: np.ndarray
    buttons: np.ndarray
    caps: np.ndarray

    def half_height(self, index: int) -> float:
        return SHAPES[self.layout.things[index].pair[1]].half_height

    def grip_width(self, index: int) -> float:
        return SHAPES[self.layout.things[index].pair[1]].grip_width


def reached(world: World, candidate: Candidate) -> bool:
    """The tool centre point is within 3 cm of the point 2.5 cm above the top of the object."""
    above = world.objects[candidate.index] + np.array([0.0, 0.0, world.half_height(candidate.index) + REACH_HEIGHT])
    return bool(np.linalg.norm(world.hand - above) < REACH_RADIUS)


def pushed(world: World, candidate: Candidate) -> bool:
    """The object stands at least 6 cm further from the robot (+x) than at the start."""
    return bool(world.objects[candidate.index, 0] - world.layout.things[candidate.index].x > PUSH_DISTANCE)


def lifted(world: World, candidate: Candidate) -> bool:
    """The object's lower side is at least 8 cm above the table and the object is at the fingers."""
    position = world.objects[candidate.index]
    high = position[2] - world.half_height(candidate.index) > LIFT_HEIGHT
    return bool(high and np.linalg.norm(position - world.hand) < 0.04)


def _released(world: World, index: int) -> bool:
    return bool(
        world.width > world.grip_width(index) + 0.008 or np.linalg.norm(world.objects[index] - world.hand) > 0.06
    )


def placed(world: World, candidate: Candidate) -> bool:
    """The object lies inside the bin and the gripper has let go of it."""
    position, target = world.objects[candidate.index], world.bins[candidate.onto]
    inside = np.abs(position[:2] - target[:2]).max() < BIN_RADIUS and position[2] < 0.05
    return bool(inside and _released(world, candidate.index))


def stacked(world: World, candidate: Candidate) -> bool:
    """The object rests on the other one (within 2.5 cm sideways, 1 cm in height) and the gripper has let go of it."""
    top, base = world.objects[candidate.index], world.objects[candidate.onto]
    gap = world.half_height(candidate.index) + world.half_height(candidate.onto)
    above = np.linalg.norm(top[:2] - base[:2]) < 0.025 and abs(top[2] - base[2] - gap) < 0.01
    return bool(above and _released(world, candidate.index))


def opened(world: World, candidate: Candidate) -> bool:
    """The drawer is pulled out at least 6 cm."""
    return bool(world.drawers[candidate.index] > OPEN_DISTANCE)


def pressed(world: World, candidate: Candidate) -> bool:
    """The button is down at least 8 mm of its 12."""
    return bool(world.buttons[candidate.index] > PRESS_DEPTH)


@dataclass(frozen=True)
class Task:
    """One row of the table.

    Args:
        seconds: time limit of an episode [s].
        hold: seconds an outcome must last [s].
        distractors: objects beside the target by default.
        holds: the predicate.
    """

    name: str
    seconds: float
    hold: float
    distractors: int
    holds: Callable[[World, Candidate], bool]


TASKS: Mapping[str, Task] = MappingProxyType(
    {
        t.name: t
        for t in (
            Task("reach", 4.0, 0.25, 2, reached),
            Task("push", 5.0, 0.10, 2, pushed),
            Task("pick", 6.0, 0.15, 2, lifted),
            Task("place", 8.0, 0.25, 1, placed),
            Task("stack", 8.0, 0.25, 2, stacked),
            Task("open", 7.0, 0.10, 2, opened),
            Task("press", 5.0, 0.10, 2, pressed),
        )
    }
)
