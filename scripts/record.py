"""`wayhand record`: what a robot does without a policy, as episodes of a dataset."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from ..datasets.store import Dataset
from ..vla.bridge.clock import MonotonicClock
from ..vla.bridge.passive import PassiveRobot, watch
from ..vla.bridge.robots.driver import Driver
from ..vla.bridge.teleop.hand import Request
from ..vla.bridge.teleop.keys import KeyboardHand
from ..vla.config import Config
from ..vla.contract import EpisodeSink
from ..vla.errors import ConfigError
from .compose import load
from .recording import DatasetSink
from .robots import robot_of, shorthand

HELP = """\
Usage: wayhand record out=DIR [robot=ROBOT] [env=ENV] [key=value …]

Records a robot that nobody of ours commands: standing idle, guided by hand, or driven by its own controller. Every
episode holds its observations and, as actions, where its joints went: demonstrations for a policy of joint positions.
In a terminal, Enter starts an episode and keeps it, Backspace discards it, x leaves; elsewhere episodes follow each
other. To record a run of a policy or of your own hand: `wayhand deploy … record=DIR`, `wayhand teleop`.

Examples:
  wayhand record robot=arm.toml out=runs/guided instruction="fold the cloth" episodes=20
  wayhand record env=tabletop/pick seconds=5 out=runs/idle
  wayhand train policy=regression data=runs/guided out=runs/guided-policy
"""
POLL = 0.05
"""Seconds between two looks at the keyboard while no episode runs."""


@dataclass(frozen=True, kw_only=True)
class RecordConfig:
    env: Config
    robot: Config
    out: Path
    instruction: str
    episodes: int
    seconds: float
    seed: int

    def __post_init__(self) -> None:
        for name, least in (("episodes", 1), ("seconds", 0.1), ("seed", 0)):
            if getattr(self, name) < least:
                raise ConfigError(f"'{name}' is too small", expected=f"at least {least}", got=str(getattr(self, name)))


def main(overrides: list[str]) -> int:
    cfg, config = load("record", shorthand(overrides), RecordConfig)
    console = Console()
    with ExitStack() as stack:
        robot = robot_of(cfg.robot, cfg.env)()
        stack.callback(robot.close)
        if isinstance(robot, Driver):
            robot.connect()
        writer = stack.enter_context(DatasetSink(cfg.out, "out")(robot.spec))
        keyboard = stack.enter_context(KeyboardHand(stop=lambda who: None, moves=False))
        passive = PassiveRobot(robot, MonotonicClock())
        kept = Recording(cfg, {"config": config.to_dict()}, passive, keyboard, console).run(writer)
    console.print(f"{kept} new episodes, {len(Dataset(cfg.out))} in {cfg.out}", soft_wrap=True)
    return 0


class Recording:
    """Episode after episode until there are enough or the human leaves."""

    def __init__(
        self, cfg: RecordConfig, about: dict[str, Any], robot: PassiveRobot, keyboard: KeyboardHand, console: Console
    ) -> None:
        self._cfg, self._about, self._robot = cfg, about, robot
        self._keyboard, self._console, self._clock = keyboard, console, MonotonicClock()

    def run(self, writer: EpisodeSink) -> int:
        """How many were kept."""
        kept, asked = 0, None
        try:
            while kept < self._cfg.episodes and asked is not Request.LEAVE and self._started(kept):
                asked, lasted, new = self._one(writer, self._cfg.seed + kept)
                kept += new
                done = "kept" if new else "not recorded" if asked in (None, Request.GO) else "discarded"
                self._console.print(Text(f"{done} after {lasted:.1f} s"))
        except KeyboardInterrupt:
            self._console.print("Interrupted; what was kept is safe.")
        return kept

    def _one(self, writer: EpisodeSink, seed: int) -> tuple[Request | None, float, bool]:
        """Record one episode; what ended it, None for its time, after how long [s], and whether it was written."""
        asked: list[Request] = []
        lasted = 0.0

        def go_on(seconds: float) -> bool:
            nonlocal lasted
            lasted = seconds
            asked.extend(self._keyboard.requests())
            return not asked

        self._robot.begin(seed, self._cfg.instruction)
        about = {**self._about, "episode": {"seed": seed, "options": {}}, "demonstrator": "nobody of ours"}
        episode = watch(self._robot, self._clock, self._cfg.seconds, go_on, about)
        ended = asked[0] if asked else None
        if episode is None or ended not in (None, Request.GO):
            return ended, lasted, False
        writer.append(episode)
        return ended, lasted, True

    def _started(self, kept: int) -> bool:
        """Wait for the human where there is a terminal; False where they leave."""
        if not self._keyboard.listening:
            return True
        self._console.print(f"{kept} kept · Enter start/keep · Backspace discard · x leave")
        return _wait(self._keyboard.requests)


def _wait(requests: Callable[[], list[Request]]) -> bool:
    while True:
        asked = requests()
        if Request.LEAVE in asked:
            return False
        if Request.GO in asked:
            return True
        time.sleep(POLL)
