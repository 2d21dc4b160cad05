"""`wayhand deploy` in real time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import repeat

from rich.console import Console
from rich.live import Live
from rich.text import Text

from ..vla.bridge.client import RemotePolicy
from ..vla.bridge.clock import Clock, MonotonicClock
from ..vla.bridge.console.link import Told
from ..vla.bridge.loop_link import Status
from ..vla.bridge.planner import Planner
from ..vla.bridge.realtime import stolen_seconds
from ..vla.bridge.session import Episode, Outcome, PolicyUnreachable, Session
from ..vla.config import Config
from ..vla.errors import RobotError
from .deploy_config import DeployConfig, load_policy
from .deploy_console import Turns, opened, settings_of
from .deploy_report import save, show, summary
from .live import live_view, require_view
from .robots import FileRobot, Simulated
from .teleop_devices import in_turns, require_terminal

EPISODES_AT_MOST = 10_000
"""Of a run in real time; it ends by its seconds."""
AGAIN = 1.0
"""Seconds after which a policy that was out of reach is tried again."""


def in_real_time(cfg: DeployConfig, config: Config, factory: Simulated | FileRobot, console: Console) -> int:
    real, spec, clock = isinstance(factory, FileRobot), factory.policy_spec(), MonotonicClock()
    require_terminal(cfg.takeover)
    require_view(cfg.rerun)
    policy = load_policy(cfg, spec, factory)
    outcomes: list[Outcome] = []
    interrupted = False
    about = {"config": config.to_dict(), "policy_spec": policy.spec.to_dict()}
    if cfg.console:
        settings_of(cfg)  # a mistake is told before anything starts
    with (
        Session(factory=factory, settings=cfg.settings(factory), sink=cfg.sink, provenance=about) as session,
        live_view(cfg.rerun, session),
        opened(cfg, session, factory, console) as web,
    ):
        if session.warning:
            console.print(f"[yellow]{session.warning}[/yellow]", soft_wrap=True)
        targets = factory.targets(policy.spec, session.spec)
        told = policy if web is None else Told(policy, web)
        planner = Planner(policy=told, spec=spec, targets=targets, chunking=cfg.chunking, clock=clock)
        planner.warm_up()
        alive = (lambda: policy.alive) if isinstance(policy, RemotePolicy) else None
        stolen, unrecorded = stolen_seconds(), ""
        turns = Turns(web, session, cfg.seconds, console)
        try:
            with (
                _StatusLine(console, cfg, outcomes, turns) as line,
                in_turns(
                    cfg.takeover, session, factory, planner, console, cell=None if web is None else web.hand
                ) as pilot,
            ):
                for episode in performances(cfg, real):
                    run = partial(session.run, episode, pilot, line.show, alive=alive)
                    outcome = performed(run, turns, f"Waiting for {cfg.checkpoint}", console, clock)
                    if outcome is None:
                        break
                    outcomes.append(outcome)
                    turns.ended(outcome.reason)
                    unrecorded = warn_once(console, session.recording_warning, unrecorded)
        except KeyboardInterrupt:
            interrupted = True
            console.print("Interrupted: the robot is at rest.")
        if session.estop.pressed:
            console.print(f"Stopped: {session.estop.reason}. The robot is at rest.")
        report = session.finish()
        now = stolen_seconds()
        report["stolen_s"] = None if stolen is None or now is None else round(now - stolen, 3)
    mode = "real time, the robot not moved" if cfg.shadow else "real time"
    result = {"mode": mode, "loop": report, **summary(outcomes)}
    show(cfg, console, result)
    save(cfg, config, result, console)
    if interrupted:
        return 130
    if not outcomes and not cfg.console:
        console.print(f"No episode began in {cfg.seconds:g} s.")
        return 1
    return 0


def performances(cfg: DeployConfig, real: bool) -> Iterable[Episode]:
    """What to run: scenes of a simulation; with a real robot once the same, with a console again at every start."""
    if not real:
        return cfg.planned(EPISODES_AT_MOST)
    return repeat(cfg.performance) if cfg.console else [cfg.performance]


def performed(run: Callable[[], Outcome], turns: Turns, waiting: str, console: Console, clock: Clock) -> Outcome | None:
    """How an episode ended, which is tried until it begins; None where the time or the robot's operator ends it before.

    Args:
        run: begins it; raises `PolicyUnreachable` where a later try may succeed.
        waiting: how what is said meanwhile begins.
    """
    said = ""
    while turns.next():
        try:
            return run()
        except PolicyUnreachable as error:
            said = warn_once(console, f"{waiting}: {error.what}; tried again every {AGAIN:g} s, Ctrl-C ends it", said)
            clock.sleep_until(clock.now() + AGAIN)
        except RobotError:
            if not turns.forestalled:
                raise
    return None


def warn_once(console: Console, warning: str, said: str) -> str:
    """Say a warning that has not been said; returns the one said last."""
    if warning and warning != said:
        console.print(Text(warning, "yellow"), soft_wrap=True)
    return warning


class _StatusLine:
    """One line that lives on a terminal; elsewhere a line now and then."""

    def __init__(self, console: Console, cfg: DeployConfig, outcomes: Sequence[Outcome], turns: Turns) -> None:
        self._console, self._cfg, self._outcomes, self._turns = console, cfg, outcomes, turns
        self._live = Live(console=console, auto_refresh=False, transient=True)
        self._every = 0.2 if console.is_terminal else 15.0
        self._due = 0.0

    def __enter__(self) -> _StatusLine:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._console.is_terminal:
            self._live.stop()

    def show(self, status: Status, seconds: float) -> None:
        now = time.monotonic()
        if now < self._due:
            return
        self._due = now + self._every
        judged = [o.success for o in self._outcomes if o.success is not None]
        tally = f"{sum(judged)}/{len(judged)} succeeded · " if judged else ""
        text = (
            f"{max(self._turns.end - now, 0):5.1f} s left · episode {len(self._outcomes) + 1} at {seconds:4.1f} s · "
            f"{tally}{self._cfg.rate_hz:g} Hz, {status.missed} missed, "
            f"worst {status.lateness_max * 1e6:.0f} µs · {status.reason or 'driving'}"
        )
        if self._console.is_terminal:
            self._live.update(Text(text), refresh=True)
        else:
            self._console.print(text, soft_wrap=True)
