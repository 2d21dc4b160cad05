"""Scripted experts: where the hand should be commanded next, as a function of the simulator's state alone.

No timers and no memory: each expert reads the phase of the task off the state, moves in proportion to the distance
with a speed limit, and blends its waypoints with funnels (the closer above the goal, the lower), so that the action
is a continuous function of the state nearly everywhere and a policy can imitate it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from .arm import GRIPPER_WIDTH
from .kinematics import rotation_error
from .layout import Candidate
from .tasks import REACH_HEIGHT, World

SPEED = 0.25
"""Largest speed of the hand [m/s]."""
_GAIN = 0.55
_TRAVEL = 0.11
"""Height of the tool centre point above which nothing on the table is touched [m]."""
_PUSH_WIDTH = 0.012  # two fingers make a broad pusher; nothing fits between them


@dataclass(frozen=True)
class Aim:
    """Where the tool centre point should go [3] m, how wide the gripper should be [m], how fast [m/s]."""

    position: np.ndarray
    width: float
    speed: float = SPEED


def _flat(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.hypot(a[0] - b[0], a[1] - b[1]))


def _funnel(world: World, target: np.ndarray, ceiling: float, mouth: float = 0.006, slope: float = 2.5) -> np.ndarray:
    """A point over `target`: at its height within `mouth` of its axis, rising with the distance up to `ceiling`."""
    rise = slope * max(0.0, _flat(world.hand, target) - mouth)
    return np.array([target[0], target[1], min(target[2] + rise, max(ceiling, target[2]))])


def _descend(world: World, target: np.ndarray) -> float:
    """Speed that falls with the height above the target, so that contact is gentle."""
    return float(np.clip(0.08 + 3.0 * max(0.0, world.hand[2] - target[2]), 0.10, SPEED))


def _grip(world: World, point: np.ndarray, grip_width: float) -> tuple[bool, Aim]:
    """Take hold of something at `point`: (whether it is held, what to do until then)."""
    offset = float(np.linalg.norm(world.hand - point))
    closed = world.width < grip_width + 0.004
    if closed and offset < 0.025 and world.width > 0.25 * grip_width:
        return True, Aim(point, 0.0)
    # The nearer the fingers are to closed, the more the thing may have been dragged along before they stop closing.
    near = 0.012 + 0.012 * float(np.clip((GRIPPER_WIDTH - world.width) / (GRIPPER_WIDTH - grip_width), 0.0, 1.0))
    if offset < near and abs(world.hand[2] - point[2]) < 0.012:
        return False, Aim(point, 0.0, 0.1)
    return False, Aim(_funnel(world, point, _TRAVEL), GRIPPER_WIDTH, _descend(world, point))


def _grasp_point(world: World, index: int) -> np.ndarray:
    return world.objects[index] + np.array([0.0, 0.0, 0.002])


def reach(world: World, candidate: Candidate) -> Aim:
    """Move over the object and stop above it."""
    rise = world.half_height(candidate.index) + REACH_HEIGHT
    target = world.objects[candidate.index] + np.array([0.0, 0.0, rise])
    return Aim(_funnel(world, target, _TRAVEL, mouth=0.02, slope=1.0), GRIPPER_WIDTH)


def push(world: World, candidate: Candidate) -> Aim:
    """Come down behind the object with half-closed fingers and push it away from the robot."""
    thing = world.objects[candidate.index]
    low, behind = 0.022, 0.062
    start = np.array([thing[0] - behind, thing[1], low])
    aside = abs(world.hand[1] - thing[1])
    gap = thing[0] - world.hand[0]
    off_line = aside + max(0.0, 0.030 - gap) + max(0.0, gap - 0.085)
    if off_line < 0.015 and world.hand[2] < low + (0.006 if gap > 0.05 else 0.015):
        return Aim(np.array([world.hand[0] + 0.06, thing[1], low]), _PUSH_WIDTH, 0.22)
    if off_line < 0.03:
        start[0] = min(start[0], world.hand[0])
    return Aim(_funnel(world, start, _TRAVEL, mouth=0.012), _PUSH_WIDTH, max(0.2, _descend(world, start)))


def pick(world: World, candidate: Candidate) -> Aim:
    """Grasp the object and lift it straight up."""
    held, aim = _grip(world, _grasp_point(world, candidate.index), world.grip_width(candidate.index))
    if not held:
        return aim
    return Aim(np.array([world.goal[0], world.goal[1], 0.16]), 0.0, SPEED)


def _bring(world: World, index: int, goal: np.ndarray, mouth: float, ready: float, clearance: float) -> Aim:
    """Carry an object so that its origin gets to `goal`, let go there, then leave upwards.

    Args:
        ready: distance from the goal at which the gripper opens [m].
        clearance: height of the object's origin on the way there [m].
    """
    thing = world.objects[index]
    there = _flat(thing, goal) < ready + 0.012 and thing[2] < goal[2] + 0.015
    free = world.width - world.grip_width(index)
    if there and free > 0.003:
        # Leave upwards only once the fingers are clear: a thing held at an angle is a little wider than its faces.
        leave = np.array([0.0, 0.0, 0.08 if free > 0.009 else 0.0])
        return Aim(world.goal + leave, GRIPPER_WIDTH, SPEED)
    held, aim = _grip(world, _grasp_point(world, index), world.grip_width(index))
    if not held:
        return aim
    if _flat(thing, goal) < ready and thing[2] < goal[2] + 0.007:
        return Aim(world.goal.copy(), GRIPPER_WIDTH)
    # The object's offset in the hand is kept: what is steered is the object, not the hand.
    rise = 2.5 * max(0.0, _flat(thing, goal) - mouth)
    height = min(goal[2] + rise, max(clearance, goal[2]))
    far = _flat(thing, goal) > 0.03 and thing[2] < clearance - 0.03
    flat = world.hand[:2] if far and rise > 0 and thing[2] < 0.06 else goal[:2] + (world.hand[:2] - thing[:2])
    return Aim(np.array([flat[0], flat[1], height + world.hand[2] - thing[2]]), 0.0, _carry_speed(thing, goal))


def _carry_speed(thing: np.ndarray, goal: np.ndarray) -> float:
    return float(np.clip(0.08 + 3.0 * np.linalg.norm(thing - goal), 0.10, 0.30))


def place(world: World, candidate: Candidate) -> Aim:
    """Grasp, carry over the bin's wall, let go."""
    goal = world.bins[candidate.onto] + np.array([0.0, 0.0, 0.050])
    return _bring(world, candidate.index, goal, mouth=0.02, ready=0.022, clearance=0.11)


def stack(world: World, candidate: Candidate) -> Aim:
    """Grasp, carry over the other object, set down on it, let go."""
    base = world.objects[candidate.onto]
    gap = world.half_height(candidate.index) + world.half_height(candidate.onto)
    goal = base + np.array([0.0, 0.0, gap + 0.001])
    return _bring(world, candidate.index, goal, mouth=0.010, ready=0.014, clearance=0.11)


def open_drawer(world: World, candidate: Candidate) -> Aim:
    """Grip the handle from above and pull it towards the robot."""
    handle = world.handles[candidate.index]
    held, aim = _grip(world, handle, 0.022)
    if not held:
        return aim
    return Aim(np.array([handle[0] - 0.08, handle[1], handle[2]]), 0.0, 0.22)


def press(world: World, candidate: Candidate) -> Aim:
    """Come down on the button with closed fingers and push it in."""
    cap = world.caps[candidate.index]
    target = np.array([cap[0], cap[1], cap[2] - 0.03])
    off = _flat(world.hand, cap)
    height = target[2] if off < 0.008 else cap[2] + 0.02 + min(2.5 * (off - 0.008), _TRAVEL)
    return Aim(np.array([cap[0], cap[1], height]), 0.0, _descend(world, cap))


ORACLES: Mapping[str, Callable[[World, Candidate], Aim]] = MappingProxyType(
    {"reach": reach, "push": push, "pick": pick, "place": place, "stack": stack, "open": open_drawer, "press": press}
)


def ee_delta(world: World, aim: Aim, down: np.ndarray, control_dt: float) -> np.ndarray:
    """The `ee_delta` action [7] that moves the commanded pose towards `aim` and keeps the gripper upright.

    Args:
        down: [4] w x y z, the orientation to keep.
        control_dt: [s].
    """
    step = _GAIN * (aim.position - world.goal)
    limit = aim.speed * control_dt
    length = float(np.linalg.norm(step))
    if length > limit:
        step *= limit / length
    turn = _GAIN * rotation_error(down, world.goal_quaternion)
    return np.concatenate([step, turn, [aim.width]])
