"""Is what the sensors say plausible? Joints against the command and their own past, cameras against theirs.

Both watches are pure in time: they are told what came and when, and answer with a reason to stop or nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from zlib import crc32

import numpy as np

from ..contract import EnvSpec, Observation
from .limits import Limits
from .motion import Motion


@dataclass(frozen=True)
class Plausibility:
    """When a sensor is taken to be broken.

    Args:
        late: a joint state older than this [s].
        leap: a joint that moved further between two states than this [rad, m] and twice its speed limit.
        lag: time [s] a joint may take to begin to follow its command; while it moves at its limit it may also be that
            far behind, and `leap` more.
        moving: share of its speed limit from which a commanded joint must be seen to move.
        old_image: an image older than this [s] is not planned from.
        frames: images in a row that must be black, out of order, or the same while the robot moved.
        still: change of the state [rad, m] below which a picture may stay the same.
        dark: brightest pixel of a black image.
    """

    late: float = 0.1
    leap: float = 0.05
    lag: float = 0.25
    moving: float = 0.02
    old_image: float = 0.25
    frames: int = 3
    still: float = 2e-3
    dark: int = 8


class JointWatch:
    """Joint states against the command: NaN, late, back in time, leaping, stuck, not following.

    Args:
        limits: of the joints; names and order of what it is told. Joints that are told set-points (`Limits.squeeze`)
            hold things, so they may stand still or stay behind.
    """

    def __init__(self, limits: Limits, plausibility: Plausibility | None = None) -> None:
        self._limits = limits
        self._plausible = plausibility or Plausibility()
        self._free = limits.squeezed > 0
        self.reset()

    def reset(self) -> None:
        """Begin anew, from a robot at rest."""
        n = len(self._limits.names)
        self._time, self._measured = -np.inf, np.zeros(n)
        self._same = np.zeros(n, np.int64)  # states in a row with the very same number
        self._since = np.full(n, np.inf)  # since when each joint is commanded to move one way
        self._way = np.zeros(n)

    def fault(self, measured: np.ndarray, t: float, now: float, motion: Motion) -> str:
        """What is wrong with `measured` [A], taken at `t` [s], while `motion` is commanded; empty where nothing is."""
        names, p = self._limits.names, self._plausible
        if now - t > p.late:
            return f"joint state is {(now - t) * 1000:.0f} ms old"
        if t == self._time:
            return ""
        if t < self._time:
            return f"joint state went back in time by {(self._time - t) * 1000:.0f} ms"
        if not np.isfinite(measured).all():
            return f"joint sensor '{names[int(np.argmin(np.isfinite(measured)))]}' is not finite"
        first = np.isinf(self._time)
        change = np.abs(measured - self._measured)
        far = change - p.leap - 2.0 * self._limits.velocity * (t - self._time if not first else 0.0)
        behind = np.abs(measured - motion.position) - p.leap - p.lag * self._limits.velocity
        behind[self._free] = -1.0
        stuck = self._stuck(change, now, motion)
        self._time, self._measured = t, measured
        if not first and far.max() > 0:
            return f"joint sensor '{names[int(far.argmax())]}' leapt by {change[int(far.argmax())]:.3f}"
        if behind.max() > 0:
            return f"joint '{names[int(behind.argmax())]}' is not where it was commanded to be"
        return f"joint sensor '{names[int(stuck.argmax())]}' is stuck" if stuck.any() else ""

    def _stuck(self, change: np.ndarray, now: float, motion: Motion) -> np.ndarray:
        """[A] bool: the second state in a row with the same number, of a joint that has long been told to move."""
        way = np.where(np.abs(motion.velocity) > self._plausible.moving * self._limits.velocity, motion.velocity, 0.0)
        way = np.sign(way)
        self._since = np.where(way == 0, np.inf, np.where(way == self._way, self._since, now))
        self._way = way
        self._same = np.where(change == 0.0, self._same + 1, 0)
        return (self._same >= 2) & (now - self._since > self._plausible.lag) & ~self._free


@dataclass
class _Stream:
    time: float = -np.inf
    newest: float = -np.inf
    check: int = -1
    black: int = 0
    same: int = 0
    reordered: int = 0


class CameraWatch:
    """Images of one episode: wrong size or type, black, frozen, out of order, late.

    Args:
        spec: what the images should be.

    `skipped` counts the observations that were not to be planned from.
    """

    def __init__(self, spec: EnvSpec, plausibility: Plausibility | None = None) -> None:
        self._spec = spec
        self._plausible = plausibility or Plausibility()
        self.skipped = 0
        self.reset()

    def reset(self) -> None:
        self._streams = {camera.name: _Stream() for camera in self._spec.cameras}
        self._state: np.ndarray | None = None

    def judge(self, observation: Observation, now: float) -> tuple[bool, str]:
        """Whether to plan from `observation` at time `now` [s], and a reason to stop, empty where there is none."""
        state = np.asarray(observation.state, np.float64)
        moved = self._state is None or bool(np.abs(state - self._state).max(initial=0.0) > self._plausible.still)
        if moved:  # however slowly, since the last time it was said to have
            self._state = state
        usable = True
        for camera in self._spec.cameras:
            image, t = observation.images.get(camera.name), observation.times.get(camera.name, np.nan)
            want = (camera.height, camera.width, 3)
            if image is None or image.shape != want or image.dtype != np.uint8:
                got = "nothing" if image is None else f"{image.dtype} {image.shape}"
                return False, f"camera '{camera.name}' gives {got}, not uint8 {want}"
            fault = self._fault(self._streams[camera.name], image, t, moved)
            if fault:
                return False, f"camera '{camera.name}' {fault}"
            stream = self._streams[camera.name]
            # A comparison that is false for NaN: an image without a time is too old.
            usable = usable and t == stream.newest and now - t <= self._plausible.old_image
        self.skipped += not usable
        return usable, ""

    def _fault(self, stream: _Stream, image: np.ndarray, t: float, moved: bool) -> str:
        frames = self._plausible.frames
        if t == stream.time:  # the same picture once more, and said to be so: its age tells
            return ""
        stream.reordered = stream.reordered + 1 if t < stream.time else 0
        stream.time, stream.newest = t, max(t, stream.newest)
        if stream.reordered >= frames:
            return "sends images out of order"
        check = crc32(np.ascontiguousarray(image).data)
        stream.black = stream.black + 1 if int(image.max(initial=0)) <= self._plausible.dark else 0
        if check != stream.check:
            stream.same = 0
        elif moved:
            stream.same += 1
        stream.check = check
        if stream.black >= frames:
            return f"is black for {frames} images"
        return f"is frozen for {frames} images" if stream.same >= frames else ""
