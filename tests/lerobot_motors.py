"""A robot of the lerobot package with simulated motors, for the tests; imported by lerobot's own Python alone.

Two joints in degrees and a gripper in percent go straight to their goals with limited speed; a picture shows where
the first one is. It is registered with lerobot as `motors`, and its class is found as those of plugins are.
"""

import time
from dataclasses import dataclass, field

import numpy as np
from lerobot.robots.config import RobotConfig
from lerobot.robots.robot import Robot

SPEED = {"shoulder": 180.0, "elbow": 180.0, "gripper": 200.0}


@RobotConfig.register_subclass("motors")
@dataclass(kw_only=True)
class MotorsConfig(RobotConfig):
    start: dict[str, float] = field(default_factory=lambda: {"shoulder": 10.0, "elbow": -20.0, "gripper": 50.0})
    calibrated: bool = True
    fails_after: float = float("inf")
    log: str = ""


class Motors(Robot):
    config_class = MotorsConfig
    name = "motors"

    def __init__(self, config: MotorsConfig) -> None:
        super().__init__(config)
        self.config = config
        self._connected = False

    @property
    def observation_features(self) -> dict:
        return {**self.action_features, "front": (24, 32, 3)}

    @property
    def action_features(self) -> dict:
        return {f"{name}.pos": float for name in SPEED}

    @property
    def is_connected(self) -> bool:
        return self._connected

    @property
    def is_calibrated(self) -> bool:
        return self.config.calibrated

    def connect(self, calibrate: bool = True) -> None:
        self._connected, self._begun = True, time.monotonic()
        self._at = self._goal = dict(self.config.start)
        self._moved = self._begun

    def calibrate(self) -> None:
        raise AssertionError("nobody here may ask a human")

    def configure(self) -> None:
        pass

    def _advance(self) -> None:
        now = time.monotonic()
        dt, self._moved = now - self._moved, now
        step = {n: np.clip(self._goal[n] - q, -SPEED[n] * dt, SPEED[n] * dt) for n, q in self._at.items()}
        self._at = {n: q + float(step[n]) for n, q in self._at.items()}

    def get_observation(self) -> dict:
        self._advance()
        if time.monotonic() - self._begun > self.config.fails_after:
            raise ConnectionError("the bus is unplugged")
        image = np.full((24, 32, 3), 60, np.uint8)
        image[:, :, 0] = int(time.monotonic() * 50) % 200
        return {**{f"{n}.pos": q for n, q in self._at.items()}, "front": image}

    def send_action(self, action: dict) -> dict:
        self._advance()
        self._goal = {n: action[f"{n}.pos"] for n in SPEED}
        return action

    def disconnect(self) -> None:
        self._connected = False
        if self.config.log:
            with open(self.config.log, "a", encoding="utf-8") as file:
                file.write("disconnected\n")
