"""The hand that is moved in the 3D view: three arrows and three rings at the robot's tool.

Dragging alone moves nothing: a page must have taken the hand, and say so ten times a second. When it falls silent the
robot's side stops the robot (`teleop.cell`). Until the hand is taken, arrows and rings go with the robot.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..chunking import POSE_STATE, Pose
from ..limits import joint_indices
from ..robots.link import RobotLink
from ..teleop.cell import HandCell
from ..teleop.hand import Request

NAME = "/hand"
DRAGGED = "TransformControlsUpdateMessage"
"""What viser's page says when it is dragged."""
_SIZE = 0.18
"""[m]"""
_REQUESTS = {"go": Request.GO, "discard": Request.DISCARD, "leave": Request.LEAVE}


def is_drag(told: Mapping[str, Any]) -> bool:
    """Whether a message of viser's page says that the hand was dragged, to a place there is."""
    if told.get("type") != DRAGGED or told.get("name") != NAME or told.get("owner", "") != "":
        return False
    try:
        numbers = [*map(float, told["position"]), *map(float, told["wxyz"])]
    except (KeyError, TypeError, ValueError):
        return False
    return len(numbers) == 7 and all(map(math.isfinite, numbers)) and any(numbers[3:])


class Gizmo:
    """Between one page that has taken the hand, the 3D view, and the robot's side.

    Args:
        cell: written while a page has the hand.
        robot: whose observations say where its hand is.
    """

    def __init__(self, cell: HandCell, robot: RobotLink) -> None:
        self._cell, self._robot = cell, robot
        names = [e.name for e in robot.spec.state]
        self._state = joint_indices(names, POSE_STATE) if all(n in names for n in POSE_STATE) else None
        self._lock = threading.Lock()
        self._holder: object | None = None
        self._target: Pose | None = None
        self._opening = math.nan
        self._handle: Any = None

    def attach(self, scene: Any) -> None:
        """Draw arrows and rings in a viser scene."""
        handle: Any = scene.add_transform_controls(NAME, scale=_SIZE, depth_test=False)
        handle.on_update(lambda _: self.drag(handle.position, handle.wxyz))
        self._handle = handle

    def drag(self, position: np.ndarray, quaternion: np.ndarray) -> None:
        """The hand is to go there: [3] m and w x y z; ignored unless a page has taken it."""
        with self._lock:
            if self._holder is not None:
                self._target = np.array(position, np.float64), np.array(quaternion, np.float64)

    def look(self) -> None:
        """Once a look of the console: show where the hand is, unless a page has taken it."""
        if self._handle is None or self._holder is not None:
            return
        here = self._here()
        if here is not None:
            self._handle.position, self._handle.wxyz = here

    def hear(self, page: object, told: Mapping[str, Any], now: float) -> str:
        """What a page says of the hand at `now` [s]; why not, where not.

        `on` takes and gives back; `beat` is the sign of life of the page that has it; `opening` is the gripper's, 0
        closed … 1 open; `ask` starts, keeps and discards episodes.
        """
        if isinstance(told.get("ask"), str) and told["ask"] in _REQUESTS:
            self._cell.ask(_REQUESTS[told["ask"]], now)
            return ""
        with self._lock:
            if told.get("on") is True:
                self._target = self._here()
                if self._target is None:
                    return "The robot does not say where its hand is"
                self._holder, self._opening = page, math.nan
            if self._holder is not page or self._target is None:
                return "" if "beat" in told or told.get("on") is False else "Take the hand first"
            opening = told.get("opening")
            if isinstance(opening, int | float) and 0 <= opening <= 1:
                self._opening = float(opening)
            if told.get("on") is False:
                self._holder = None
            self._cell.write(self._target, enabled=self._holder is not None, opening=self._opening, now=now)
        return ""

    def gone(self, page: object) -> None:
        """A page was closed. Where it had the hand, its silence stops the robot."""
        with self._lock:
            if self._holder is page:
                self._holder = None

    def _here(self) -> Pose | None:
        """Where the robot was commanded to have its hand, else where it is measured."""
        record = self._robot.state.latest()
        if record is None:
            return None
        pose = record.get("observation.extras.ee_target")
        if pose is None and self._state is not None:
            pose = record["observation.state"][self._state]
        if pose is None or not np.isfinite(pose).all() or not np.any(pose[3:]):
            return None
        return np.asarray(pose[:3], np.float64), np.asarray(pose[3:], np.float64)
