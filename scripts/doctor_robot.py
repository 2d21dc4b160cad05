"""`wayhand doctor robot=…`: is this robot fit to be driven?"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..vla.bridge.clock import MonotonicClock, VirtualClock
from ..vla.bridge.robots.conformance import Check, inspect
from ..vla.bridge.robots.driver import Driver
from ..vla.bridge.robots.exercise import exercise
from ..vla.bridge.robots.simulated_driver import SimulatedDriver
from ..vla.config import Config
from ..vla.errors import ConfigError, RobotError
from .compose import load
from .robots import robot_of, shorthand


@dataclass(frozen=True, kw_only=True)
class DoctorConfig:
    env: Config
    robot: Config
    seconds: float
    move: bool
    amplitude: float

    def __post_init__(self) -> None:
        if not self.seconds > 0:
            raise ConfigError("'seconds' must be positive", got=str(self.seconds))
        if not 0 < self.amplitude <= 0.2:
            what = "'amplitude' is a share of a joint's range"
            raise ConfigError(what, expected="0 < x ≤ 0.2", got=str(self.amplitude))


def examine(overrides: Sequence[str]) -> int:
    """Print what the robot's conformance came to; 1 where something failed."""
    cfg, _ = load("doctor", shorthand(overrides), DoctorConfig)
    robot = robot_of(cfg.robot, cfg.env)
    built = robot()
    clock = MonotonicClock() if isinstance(built, Driver) else VirtualClock()
    driver = built if isinstance(built, Driver) else SimulatedDriver(built, clock=clock)
    try:
        began = time.monotonic()
        driver.connect()
        checks = [Check("connects", True, f"in {time.monotonic() - began:.1f} s")]
        checks += inspect(driver, seconds=cfg.seconds, clock=clock, plausibility=robot.plausibility)
        if cfg.move and all(c.passed for c in checks):
            checks += exercise(driver, amplitude=cfg.amplitude, clock=clock)
        elif cfg.move:
            checks.append(Check("motion", False, "not tried", "mend the rest first"))
    except RobotError as error:
        checks = [Check("connects", False, " ".join(str(error).split()), "is it on, and is its file right?")]
    finally:
        driver.close()
    show(driver.spec.embodiment, checks, Console())
    return 0 if all(c.passed for c in checks) else 1


def show(name: str, checks: Sequence[Check], console: Console) -> None:
    table = Table("", "", "", title=f"doctor · {name}", show_header=False)
    for check in checks:
        word = Text("ok", "green") if check.passed else Text("fail", "bold red")
        detail = check.detail if check.passed or not check.mend else f"{check.detail}\n→ {check.mend}"
        table.add_row(word, Text(check.name), Text(detail))
    console.print(table)
