"""`wayhand teleop`: demonstrations by a human, through the safe loop and straight into a dataset."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.text import Text

from ..datasets.store import Dataset
from ..vla.bridge.console.access import ConsoleSettings
from ..vla.bridge.console.link import Console as WebConsole
from ..vla.bridge.console.monitor import About
from ..vla.bridge.console.panel import DRIVING, WAITING
from ..vla.bridge.loop_link import Status
from ..vla.bridge.process import LoopSettings
from ..vla.bridge.session import Episode, Outcome, Session
from ..vla.bridge.teleop.hand import Request
from ..vla.bridge.teleop.human import Speed
from ..vla.bridge.teleop.pilots import HumanPilot
from ..vla.config import Config
from ..vla.errors import ConfigError
from .compose import load
from .live import live_view, require_view
from .recording import DemonstrationSink
from .robots import FileRobot, Simulated, robot_of, shorthand
from .simulated import SimulatedBodyFactory
from .teleop_devices import DeviceName, by_hand, require_terminal

HELP = """\
Usage: wayhand teleop out=DIR [device=keyboard|gamepad|console] [env=ENV] [robot=ROBOT] [key=value …]

You drive the robot's hand; what you do and keep becomes a demonstration, in the actions a policy for this environment
learns. Every command passes the same safe loop as a policy's. An episode ends when its task succeeds, or when you keep
or discard it. Space, Escape or q, and a gamepad's east button, are the emergency stop.

Keyboard: w/s a/d r/f or arrows move forward/back, left/right, up/down; i/k j/l u/o tilt, turn and roll; g opens and
closes the gripper; - and = make it slower and faster; Enter starts an episode, and keeps it; Backspace discards it;
x leaves. The hand stops when the keys do. Gamepad: it moves only while the right bumper is held.

Examples:
  wayhand teleop env=tabletop/pick out=runs/by-hand rerun=true
  wayhand teleop env=tabletop/pick device=gamepad episodes=30 out=runs/by-hand
  wayhand data view runs/by-hand
  wayhand train policy=flow data=[runs/pick,runs/by-hand] out=runs/both
"""
POLL = 0.05
"""Seconds between two looks at the device while no episode runs."""


@dataclass(frozen=True, kw_only=True)
class TeleopConfig:
    env: Config
    robot: Config
    out: Path
    device: DeviceName
    gamepad: Path | None
    instruction: str
    episodes: int
    seconds: float
    seed: int
    linear: float
    angular: float
    rerun: bool | str | None
    console_port: int
    rate_hz: float
    priority: int
    awake_us: float

    def __post_init__(self) -> None:
        for name, least in (("episodes", 1), ("seconds", 1), ("seed", 0), ("awake_us", 0)):
            if getattr(self, name) < least:
                raise ConfigError(f"'{name}' is too small", expected=f"at least {least}", got=str(getattr(self, name)))

    @property
    def speed(self) -> Speed:
        return Speed(self.linear, self.angular)

    @property
    def options(self) -> dict[str, Any]:
        """Of an episode: a simulated robot is told by its environment, a real one here."""
        return {"instruction": self.instruction, "seconds": self.seconds} if "file" in self.robot else {}


def main(overrides: list[str]) -> int:
    cfg, config = load("teleop", shorthand(overrides), TeleopConfig)
    require_terminal(cfg.device)
    require_view(cfg.rerun)
    factory = robot_of(cfg.robot, Config({**cfg.env, "max_seconds": cfg.env.get("max_seconds") or cfg.seconds}))
    sink = DemonstrationSink(cfg.out, factory.policy_spec())
    have, seed = resume_point(cfg.out, cfg.seed)
    console = Console()
    settings = LoopSettings(
        rate_hz=cfg.rate_hz, priority=cfg.priority, awake=cfg.awake_us / 1e6, guards=factory.guards,
        plausibility=factory.plausibility, traced=bool(cfg.rerun) or cfg.device == "console",
    )  # fmt: skip
    about = {"config": config.to_dict(), "demonstrator": f"human, {cfg.device}"}
    with Session(factory=factory, settings=settings, sink=sink, provenance=about) as session, ExitStack() as stack:
        if session.warning:
            console.print(Text(session.warning, "yellow"), soft_wrap=True)
        stack.enter_context(live_view(cfg.rerun, session))
        web = stack.enter_context(page(cfg, session, factory, console)) if cfg.device == "console" else None
        cell = None if web is None else web.hand
        hand = by_hand(cfg.device, session, factory, speed=cfg.speed, gamepad=cfg.gamepad, cell=cell)
        pilot, keys = stack.enter_context(hand)
        line = stack.enter_context(Line(console, keys))
        kept = Demonstrations(session, pilot, line, console, cfg).run(have, seed)
        session.finish()
    console.print(f"{kept - have} new demonstrations, {kept} in {cfg.out}", soft_wrap=True)
    if kept:
        console.print(f"next   wayhand data view {cfg.out}", soft_wrap=True)
    return 0


def page(cfg: TeleopConfig, session: Session, factory: Simulated | FileRobot, terminal: Console) -> WebConsole:
    """The console, on the loopback; says where it is."""
    model = factory.model if isinstance(factory, SimulatedBodyFactory) else None
    about = About(rate_hz=cfg.rate_hz, shadow=False, instruction=cfg.instruction)
    settings = ConsoleSettings(port=cfg.console_port)
    web = WebConsole(session=session, settings=settings, about=about, model=model, by_hand=True)
    terminal.print(f"console {web.url}", soft_wrap=True, highlight=False)
    return web


def resume_point(out: Path, seed: int) -> tuple[int, int]:
    """Episodes that `out` holds, and the seed of the next one."""
    if not out.exists() or not any(out.iterdir()):
        return 0, seed
    dataset = Dataset(out)
    if not len(dataset):
        return 0, seed
    return len(dataset), int(dataset.provenance(len(dataset) - 1)["episode"]["seed"]) + 1


class Demonstrations:
    """Episode after episode until enough are kept, the human leaves, or the robot is stopped."""

    def __init__(self, session: Session, pilot: HumanPilot, line: Line, console: Console, cfg: TeleopConfig) -> None:
        self._session, self._pilot, self._line = session, pilot, line
        self._console, self._cfg = console, cfg

    def run(self, kept: int, seed: int) -> int:
        """How many the dataset holds at the end.

        Args:
            kept: how many it holds already.
            seed: of the next scene.
        """
        session, pilot = self._session, self._pilot
        try:
            while kept < self._cfg.episodes and self._started(kept):
                self._line.show(f"{kept} kept · scene {seed} is prepared")
                episode, before = Episode(seed, self._cfg.options, 1, 0.0), session.recorded
                session.panel.phase = DRIVING
                outcome = session.run(episode, pilot, self._line.running(kept, seed), self._keep)
                session.panel.phase = WAITING
                new = session.recorded - before
                self._console.print(Text(f"scene {seed}: {self._end(outcome, new)}"))
                kept, seed = kept + new, seed + new
                if session.recording_warning:
                    self._console.print(Text(session.recording_warning, "yellow"), soft_wrap=True)
                    break
                if pilot.request is Request.LEAVE:
                    break
        except KeyboardInterrupt:
            self._console.print("Interrupted: the robot is at rest; what was kept is safe.")
        if session.estop.pressed:
            self._console.print(f"Stopped: {session.estop.reason}. The robot is at rest.")
        return kept

    def _keep(self, outcome: Outcome) -> bool:
        """What the human says; without a word, what the task says."""
        if self._pilot.request is not None:
            return self._pilot.request is Request.GO
        return bool(outcome.success)

    def _end(self, outcome: Outcome, new: int) -> str:
        """What became of an episode of which `new`, 1 or 0, are in the dataset, and why."""
        by_human = self._pilot.request is not None
        reason = outcome.reason or ("success" if outcome.success else "you said so" if by_human else "the time is over")
        done = "kept" if new else "not recorded" if self._keep(outcome) else "discarded"
        return f"{done} after {outcome.seconds:.1f} s: {reason}"

    def _started(self, kept: int) -> bool:
        """Wait for the human; False where they leave or the robot is stopped."""
        self._line.show(f"{kept} kept · ready")
        panel = self._session.panel
        pressed = panel.starts
        while not self._session.estop.pressed:
            asked = self._pilot.asked()
            if Request.LEAVE in asked:
                return False
            if (Request.GO in asked or panel.starts > pressed) and not panel.fault(time.monotonic()):
                return True
            pressed = panel.starts
            time.sleep(POLL)
        return False


class Line:
    """What to press and how it goes: a line that lives on a terminal; elsewhere only ends of episodes are told."""

    def __init__(self, console: Console, keys: str) -> None:
        self._keys = keys
        self._live = Live(console=console, auto_refresh=False, transient=True)
        self._on = console.is_terminal
        self._due = 0.0

    def __enter__(self) -> Line:
        if self._on:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._on:
            self._live.stop()

    def show(self, text: str) -> None:
        if self._on:
            self._live.update(Text.assemble((text, "bold"), "\n", (self._keys, "dim")), refresh=True)

    def running(self, kept: int, seed: int) -> Callable[[Status, float], None]:
        """What `Session.run` calls while an episode goes on."""

        def on_status(status: Status, seconds: float) -> None:
            now = time.monotonic()
            if now >= self._due:
                self._due = now + 0.1
                state = status.reason or "yours"
                self.show(f"{kept} kept · scene {seed} · {seconds:5.1f} s · {status.missed} periods missed · {state}")

        return on_status
