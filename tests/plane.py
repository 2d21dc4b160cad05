"""An open plane as a `NavSimulator`, with buildings in which things go wrong; needs numpy alone."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time

import numpy as np

from wayhand.envs.navigation_state import NavState
from wayhand.vla.errors import DataError


class PlaneSimulator:
    def __init__(self, size: int = 4, note: str = "") -> None:
        self._size, self._note = size, note
        self._scan, self._at, self._heading, self._goals, self._steps = "", (0.0, 0.0, 0.0), 0.0, [], 0

    def begin(self, scan, position, heading, goals):
        if scan == "nowhere":
            raise DataError("There is no such building", got=scan, exists=["plane"], run="look elsewhere")
        if scan == "stubborn":
            while True:
                pass
        self._scan, self._at, self._heading = scan, tuple(float(c) for c in position), float(heading)
        self._goals, self._steps = list(goals), 0
        return self._state(True)

    def step(self, action, *, render=True):
        self._steps += 1
        if self._scan == "bug":
            raise KeyError("lost")
        if self._scan == "crash":
            sys.stderr.write("last words\n")
            os.kill(os.getpid(), signal.SIGSEGV)
        if self._scan == "exit":
            os._exit(3)
        if self._scan == "hang":
            subprocess.Popen(["sleep", "60"])
            time.sleep(60)
        if self._scan == "odd":
            return NavState(self._at, 0.0, 0.0, False, 0.0, {"thermal": np.zeros((2, 2), np.float32)})
        if self._scan == "lost":
            return NavState((math.nan, 0.0, 0.0), 0.0, 0.0, False, 0.0)
        if action == "forward":
            self._move(0.25)
        self._heading += {"left": -1, "right": 1}.get(action, 0) * math.radians(15)
        return self._state(render)

    def drive(self, forward, turn, seconds, *, render=True):
        self._move(forward * seconds)
        self._heading -= turn * seconds
        return self._state(render)

    def path(self, goal):
        return np.array([self._at, tuple(goal)], float)

    def close(self):
        if self._note:
            with open(self._note, "a") as file:
                file.write("closed\n")

    def _move(self, length):
        x, y, z = self._at
        self._at = (x + length * math.sin(self._heading), y + length * math.cos(self._heading), z)

    def _state(self, render):
        n = self._size
        images = {}
        if render:
            images["rgb"] = np.full((n, n, 3), self._steps % 256, np.uint8)
            images["depth"] = np.full((n, n), self._heading, np.float32)
            images["semantics"] = np.arange(n * n, dtype=np.int32).reshape(n, n)
        distance = min((math.dist(self._at, g) for g in self._goals), default=math.inf)
        return NavState(self._at, self._heading, 0.0, self._scan == "wall", distance, images)
