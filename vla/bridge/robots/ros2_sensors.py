"""What ROS 2 publishes of a robot, kept newest by name and dated on the monotonic clock.

Messages are dated by their arrival, since their own stamps are of a wall clock that jumps. A stamp that does not move
on dates nothing: a driver that repeats its last message grows old, and one that goes back in time is not believed.
"""

from __future__ import annotations

import io
import math
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...contract import Camera, EnvSpec, Observation
from ...errors import ConfigError, RobotError
from ..clock import Clock
from .cdr import decode
from .ros2_messages import COMPRESSED_IMAGE, IMAGE, JOINT_STATE, ODOMETRY

ODOMETRY_FIELDS = ("x", "y", "z", "yaw", "forward", "left", "turn")
"""Of `nav_msgs/Odometry`: the pose in its fixed frame [m, rad], the velocity in the frame of the base [m/s, rad/s]."""
_STRANGERS = 256  # names beyond those of the spec are kept to be told in an error, and no more than these
_CHANNELS = {"rgb8": (0, 1, 2), "bgr8": (2, 1, 0)}


@dataclass(frozen=True)
class _Sample:
    stamp: int
    arrived: float
    value: Any


class Senses:
    """The newest of every joint, of the odometry and of every camera; told by any thread.

    Args:
        spec: its state elements are joints, unless `odometry` has them.
        odometry: state element → one of `ODOMETRY_FIELDS`.
        clock: on which arrivals are dated.
        frames: the fixed frame and that of the base, in which odometry must be; any where None.
    """

    def __init__(
        self, spec: EnvSpec, odometry: Mapping[str, str], clock: Clock, frames: tuple[str, str] | None = None
    ) -> None:
        unknown = sorted({v for v in odometry.values() if v not in ODOMETRY_FIELDS})
        if unknown:
            raise ConfigError("Odometry has no such field", got=", ".join(unknown), exists=ODOMETRY_FIELDS)
        odd = [c.name for c in spec.cameras if c.depth or c.semantics] + sorted(spec.extras)
        if odd:
            raise ConfigError("A ROS 2 robot serves joints, odometry and colour images only", got=", ".join(odd))
        self._spec, self._clock, self._frames = spec, clock, frames
        self._sources = [odometry.get(e.name) for e in spec.state]
        self._wanted = {e.name for e in spec.state} | {c.name for c in spec.cameras} | set(odometry.values())
        self._lock = threading.Lock()
        self._samples: dict[tuple[str, str], _Sample] = {}
        self._pictures: dict[str, tuple[int, float, np.ndarray]] = {}
        self.problems: dict[str, str] = {}

    def reset(self) -> None:
        """Forget what was received."""
        with self._lock:
            self._samples.clear()
            self._pictures.clear()
            self.problems.clear()

    # --- in ---

    def take_joints(self, payload: bytes) -> None:
        """A `sensor_msgs/JointState`; several publishers may each send some of the joints."""
        message = self._decoded("joints", JOINT_STATE, payload)
        if message is None:
            return
        names, positions = message["name"], message["position"]
        if len(names) != len(positions):
            self.problems["joints"] = f"{len(names)} names with {len(positions)} positions"
            return
        self._keep("joint", zip(names, positions.tolist(), strict=True), message)

    def take_odometry(self, payload: bytes) -> None:
        """A `nav_msgs/Odometry`."""
        message = self._decoded("odometry", ODOMETRY, payload)
        if message is None:
            return
        frames = (message["header"]["frame_id"], message["child_frame_id"])
        if self._frames is not None and frames != self._frames:
            self.problems["odometry"] = f"odometry of '{frames[1]}' in '{frames[0]}', not {self._frames[::-1]}"
            return
        pose, twist = message["pose"]["pose"], message["twist"]["twist"]
        at, q = pose["position"], pose["orientation"]
        yaw = math.atan2(2 * (q["w"] * q["z"] + q["x"] * q["y"]), 1 - 2 * (q["y"] ** 2 + q["z"] ** 2))
        velocity = (twist["linear"]["x"], twist["linear"]["y"], twist["angular"]["z"])
        values = (at["x"], at["y"], at["z"], yaw, *velocity)
        self._keep("odometry", zip(ODOMETRY_FIELDS, values, strict=True), message)

    def take_image(self, camera: str, compressed: bool, payload: bytes) -> None:
        """A `sensor_msgs/CompressedImage` or `sensor_msgs/Image`; it is unpacked once somebody looks at it."""
        message = self._decoded(camera, COMPRESSED_IMAGE if compressed else IMAGE, payload)
        if message is not None:
            self._keep("camera", [(camera, message)], message)

    def _decoded(self, source: str, kind: Any, payload: bytes) -> dict[str, Any] | None:
        try:
            message = decode(kind, payload)
        except RobotError as error:
            self.problems[source] = str(error)
            return None
        self.problems.pop(source, None)
        return message

    def _keep(self, source: str, values: Iterable[tuple[str, Any]], message: Mapping[str, Any]) -> None:
        now, stamp = self._clock.now(), message["header"]["stamp"]
        stamped = stamp["sec"] * 1_000_000_000 + stamp["nanosec"]
        with self._lock:
            for name, value in values:
                last = self._samples.get((source, name))
                if last is None and name not in self._wanted and len(self._samples) >= _STRANGERS:
                    continue
                if last is None or not stamped or stamped > last.stamp:
                    self._samples[source, name] = _Sample(stamped, now, value)

    # --- out ---

    def missing(self, images: bool = True) -> list[str]:
        """What was never received, in words."""
        with self._lock:
            return self._missing(images)

    def _missing(self, images: bool) -> list[str]:
        wanted = [(self._key(i), f"joint '{e.name}'") for i, e in enumerate(self._spec.state)]
        words = ["odometry" if key[0] == "odometry" else word for key, word in wanted if key not in self._samples]
        if images:
            words += [f"camera '{c.name}'" for c in self._spec.cameras if ("camera", c.name) not in self._samples]
        return list(dict.fromkeys(words))

    def _key(self, element: int) -> tuple[str, str]:
        field = self._sources[element]
        return ("joint", self._spec.state[element].name) if field is None else ("odometry", field)

    def dates(self) -> dict[str, float]:
        """When the newest of each stream arrived [s], −inf where nothing did; names as in `Observation.times`."""
        with self._lock:
            streams = {c.name: [("camera", c.name)] for c in self._spec.cameras}
            if self._spec.state:
                streams["state"] = [self._key(i) for i in range(self._spec.state_dim)]
            arrived = {key: sample.arrived for key, sample in self._samples.items()}
            return {name: min(arrived.get(key, -math.inf) for key in keys) for name, keys in streams.items()}

    def observe(self, images: bool) -> Observation:
        """The newest of everything, the state dated by its oldest part. Raises `RobotError` for what is missing."""
        with self._lock:
            missing = self._missing(images)
            if missing:
                seen = sorted(name for source, name in self._samples if source == "joint")
                got = "; ".join(["never received: " + ", ".join(missing), *self.problems.values()])
                raise RobotError("The robot's ROS 2 topics do not tell all of its state", got=got, exists=seen)
            state = [self._samples[self._key(i)] for i in range(self._spec.state_dim)]
            frames = {c.name: self._samples["camera", c.name] for c in self._spec.cameras} if images else {}
        with np.errstate(over="ignore"):  # a number beyond float32 becomes infinite, which the joint watch refuses
            values = np.array([sample.value for sample in state], np.float64).astype(np.float32)
        times = {name: frame.arrived for name, frame in frames.items()}
        if state:
            times["state"] = min(sample.arrived for sample in state)
        pictures = {name: self._picture(self._spec.camera(name), frame) for name, frame in frames.items()}
        return Observation(times, pictures, values)

    def _picture(self, camera: Camera, frame: _Sample) -> np.ndarray:
        """uint8 [h w 3]."""
        known = self._pictures.get(camera.name)
        if known is None or known[:2] != (frame.stamp, frame.arrived):
            known = (frame.stamp, frame.arrived, unpack(frame.value, camera))
            self._pictures[camera.name] = known
        return known[2]


def unpack(message: Mapping[str, Any], camera: Camera) -> np.ndarray:
    """uint8 [h w 3] of an image message, compressed (JPEG, PNG) or raw (rgb8, bgr8).

    Raises `RobotError` where it is not one of `camera`.
    """
    want = (camera.height, camera.width)
    if "format" in message:
        return _decompress(bytes(message["data"]), camera)
    size, encoding = (message["height"], message["width"]), message["encoding"]
    if size != want or encoding not in _CHANNELS:
        got = f"{size[0]}×{size[1]} {encoding}"
        what = f"The images of camera '{camera.name}' do not fit the spec"
        raise RobotError(what, expected=f"{want[0]}×{want[1]}", got=got, exists=_CHANNELS)
    step, data = message["step"], message["data"]
    if step < 3 * want[1] or len(data) < step * want[0]:
        raise RobotError(f"An image of camera '{camera.name}' is cut off", got=f"{len(data)} bytes, {step} a row")
    rows = data[: step * want[0]].reshape(want[0], step)[:, : 3 * want[1]]
    return np.ascontiguousarray(rows.reshape(*want, 3)[:, :, _CHANNELS[encoding]])


def _decompress(data: bytes, camera: Camera) -> np.ndarray:
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data), formats=("JPEG", "PNG")) as image:
            if (image.height, image.width) != (camera.height, camera.width):
                raise RobotError(
                    f"The images of camera '{camera.name}' do not fit the spec",
                    expected=f"{camera.height}×{camera.width}",
                    got=f"{image.height}×{image.width}",
                )
            return np.array(image.convert("RGB"), np.uint8)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise RobotError(f"An image of camera '{camera.name}' cannot be decompressed", got=str(error)) from error
