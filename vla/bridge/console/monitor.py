"""What a console shows: read from the rings that are published anyway, so that nobody waits for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ...contract import decode_text
from ..cells import EmergencyStop
from ..limits import Limits, joint_indices
from ..loop_link import HALTED, LoopLink, read_status
from ..robots.link import RobotLink
from .panel import DRIVING, FAULT, HELD, LET_GO, Panel

_LEAST_SHARE = 0.02
"""A joint's plot shows at least this share of its range."""


@dataclass(frozen=True)
class About:
    """What a run says of itself, for the head of the page.

    Args:
        rate_hz: of the loop.
        shadow: whether the policy runs and the robot is not moved.
        instruction: what the policy hears until told otherwise; empty where the observations say.
    """

    rate_hz: float
    shadow: bool = False
    instruction: str = ""


class Monitor:
    """Reads the rings; one per console."""

    def __init__(self, robot: RobotLink, loop: LoopLink, panel: Panel, limits: Limits, about: About) -> None:
        self._robot, self._loop, self._panel, self._limits, self._about = robot, loop, panel, limits, about
        spec = robot.spec
        self._joints = joint_indices([e.name for e in spec.state], [e.name for e in spec.action_elements])
        self._cameras = [camera.name for camera in spec.cameras]
        self._ticked, self._pictured = loop.ticks.count, 0
        self._command: list[float] | None = None
        self._planned_at = 0.0
        self._image_times: list[float | None] = [None for _ in self._cameras]
        self._instruction = ""

    def hello(self, view: str) -> dict[str, Any]:
        """What does not change during a run; `view` is the path of the 3D view, empty where there is none."""
        spec, limits = self._robot.spec, self._limits
        least = (_LEAST_SHARE * (limits.upper - limits.lower)).tolist()
        joints = [{"name": e.name, "unit": e.unit} for e in spec.action_elements]
        cameras = [{"name": c.name, "width": c.width, "height": c.height} for c in spec.cameras]
        return {
            "robot": spec.embodiment,
            "shadow": self._about.shadow,
            "view": view,
            "joints": [{**joint, "least": value} for joint, value in zip(joints, least, strict=True)],
            "cameras": cameras,
        }

    def measured(self) -> np.ndarray | None:
        """[A] the newest joint positions, in the order of the action; None before the first."""
        record = self._robot.state.latest()
        if record is None:
            return None
        q = np.asarray(record["observation.state"], np.float64)[self._joints]
        return q if np.isfinite(q).all() else None

    def images(self) -> list[np.ndarray]:
        """uint8 [h w 3] of every camera, empty where there is nothing new."""
        if self._robot.observation.count == self._pictured:
            return []
        self._pictured = self._robot.observation.count
        record = self._robot.observation.latest()
        if record is None:
            return []
        self._instruction = decode_text(record["instruction"])
        times = (record.get(f"observation.times.{name}") for name in self._cameras)
        self._image_times = [None if t is None else float(t) for t in times]
        return [record[f"observation.images.{name}"] for name in self._cameras]

    def look(self, now: float, told: str | None, estop: EmergencyStop) -> dict[str, Any]:
        """The state of the run at `now` [s]; `told` is the instruction given at the console, if any."""
        status = read_status(self._loop.status)
        late = self._new_ticks()
        measured = self.measured()
        shown: dict[str, Any] = {"t": round(now, 3), "required": self._panel.required, "estop": estop.pressed}
        shown["state"], shown["reason"] = self._state(estop)
        shown["moving"] = status is not None and status.moving
        shown["instruction"] = told if told is not None else self._about.instruction or self._instruction
        if measured is not None:
            shown["measured"] = _rounded(measured)
            shown["command"] = self._command or [None] * len(measured)
        shown["late"] = None if late is None else [round(1e6 * late.max()), round(1e6 * float(np.median(late)))]
        age = now - self._planned_at
        shown["age"] = round(1e3 * age) if shown["state"] == "driving" and self._planned_at else None
        shown["cameras"] = [None if not t or now - t > 3600 else round(max(now - t, 0.0), 3) for t in self._image_times]
        if status is not None:
            shown["loop"] = {
                "loop": f"{self._about.rate_hz:g} Hz",
                "missed periods": status.missed,
                "worst wake-up": f"{status.lateness_max * 1e6:.0f} µs",
                "chunks": status.chunks,
                "limited ticks": status.limited,
                "episode": status.epoch,
            }
        return shown

    def _new_ticks(self) -> np.ndarray | None:
        """[N] s, how late the loop woke since the last look; None where it did not tick."""
        ticks, self._ticked = self._loop.ticks.since(self._ticked)
        ticks = [tick for tick in ticks if int(tick["epoch"])]  # those of epoch 0 only warm the loop up
        if not ticks:
            return None
        self._command = _rounded(ticks[-1]["command"])
        self._planned_at = float(ticks[-1]["planned_at"])
        return np.array([float(tick["lateness"]) for tick in ticks])

    def _state(self, estop: EmergencyStop) -> tuple[str, str]:
        if estop.pressed:
            return "estop", estop.reason.removeprefix("emergency stop: ")
        status = read_status(self._loop.status)
        phase = self._panel.phase
        stopped = status.reason if status is not None and status.latched else ""
        if phase == DRIVING and (status is None or status.epoch <= self._panel.after or stopped in ("", HALTED)):
            return "driving", ""
        # The loop latches at once; the run says so when the policy has answered.
        if phase == FAULT or (phase == DRIVING and stopped not in (HELD, LET_GO)):
            return "fault", stopped
        return "waiting", stopped if stopped in (HELD, LET_GO) else ""


def _rounded(values: np.ndarray) -> list[float]:
    return [round(float(v), 5) for v in values]
