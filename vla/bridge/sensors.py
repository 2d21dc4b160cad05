"""Is what the sensors say plausible? Joints against the command and their own past, cameras against theirs.

Both watches are pure in time: they are told what came and when, and answer with a reason to stop or nothing.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import numpy as np

from ..contract import Camera, EnvSpec, Observation
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
        still: distance [rad, m] of the state from where a picture was first taken within which it may stay the same,
            or less: what moves a thing at an arm of 1 m by `pixels` in the picture from 1 m away.
        pixels: see `still`.
        change: share of its pixels that must be expected to change before a picture that stays the same is suspicious;
            the expectation is that of the picture's last change. A noise-free camera that sees nothing but a plain
            table shows one picture from many places.
        dark: brightest pixel of a black image.
    """

    late: float = 0.1
    leap: float = 0.05
    lag: float = 0.25
    moving: float = 0.02
    old_image: float = 0.25
    frames: int = 3
    still: float = 0.02
    pixels: float = 2.0
    change: float = 0.01
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


_STATES = 64
"""States remembered, each the newest when images were judged."""


@dataclass
class _Stream:
    still: float  # distance from `first` within which its picture may stay the same
    time: float = -np.inf
    newest: float = -np.inf
    picture: np.ndarray | None = None
    first: np.ndarray = field(default_factory=lambda: np.zeros(0))  # the state where it was first taken
    rate: float = np.inf  # share of the pixels that changed with it, per distance from the one before
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
        self._streams = {camera.name: _Stream(self._still(camera)) for camera in self._spec.cameras}
        self._states: deque[tuple[float, np.ndarray]] = deque(maxlen=_STATES)

    def judge(self, observation: Observation, now: float) -> tuple[bool, str]:
        """Whether to plan from `observation` at time `now` [s], and a reason to stop, empty where there is none."""
        self._states.append((observation.times.get("state", now), np.asarray(observation.state, np.float64)))
        usable = True
        for camera in self._spec.cameras:
            image, t = observation.images.get(camera.name), observation.times.get(camera.name, np.nan)
            want = (camera.height, camera.width, 3)
            if image is None or image.shape != want or image.dtype != np.uint8:
                got = "nothing" if image is None else f"{image.dtype} {image.shape}"
                return False, f"camera '{camera.name}' gives {got}, not uint8 {want}"
            fault = self._fault(self._streams[camera.name], image, t)
            if fault:
                return False, f"camera '{camera.name}' {fault}"
            stream = self._streams[camera.name]
            # A comparison that is false for NaN: an image without a time is too old.
            usable = usable and t == stream.newest and now - t <= self._plausible.old_image
        self.skipped += not usable
        return usable, ""

    def _still(self, camera: Camera) -> float:
        return min(self._plausible.still, self._plausible.pixels / max(camera.fx, camera.fy))

    def _state_at(self, t: float) -> np.ndarray:
        """The state when a picture was taken: an old picture of a robot at rest is no sign of a frozen camera."""
        return next((state for at, state in reversed(self._states) if at <= t + 1e-9), self._states[0][1])

    def _fault(self, stream: _Stream, image: np.ndarray, t: float) -> str:
        frames = self._plausible.frames
        if t == stream.time:  # the same picture once more, and said to be so: its age tells
            return ""
        stream.reordered = stream.reordered + 1 if t < stream.time else 0
        stream.time, stream.newest = t, max(t, stream.newest)
        if stream.reordered >= frames:
            return "sends images out of order"
        stream.black = stream.black + 1 if int(image.max(initial=0)) <= self._plausible.dark else 0
        distance = self._compare(stream, image, self._state_at(t))
        if stream.black >= frames:
            return f"is black for {frames} images"
        # Not how far it went: a robot that has come back may see again what it saw.
        moved = distance > stream.still and distance * stream.rate > self._plausible.change
        return f"is frozen for {frames} images" if moved and stream.same >= frames else ""

    def _compare(self, stream: _Stream, image: np.ndarray, state: np.ndarray) -> float:
        """Distance of `state` [S] from where this very picture was first taken."""
        if stream.picture is None:
            stream.picture, stream.first = image.copy(), state
            return 0.0
        distance = float(np.abs(state - stream.first).max(initial=0.0))
        differs = image != stream.picture
        if not differs.any():
            stream.same += 1
            return distance
        stream.rate = float(differs.any(axis=2).mean()) / max(distance, 1e-9)
        stream.picture, stream.first, stream.same = image.copy(), state, 0
        return 0.0
