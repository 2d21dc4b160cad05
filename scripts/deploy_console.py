"""The web console of `wayhand deploy`: what of the configuration concerns it, and the waiting for its buttons."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from rich.console import Console as Terminal

from ..vla.bridge.console.access import ConsoleSettings
from ..vla.bridge.console.link import Console
from ..vla.bridge.console.model3d import from_mjcf
from ..vla.bridge.console.monitor import About
from ..vla.bridge.session import Session
from ..vla.bridge.tokens import VARIABLE, read_token
from ..vla.errors import ConfigError
from .deploy_config import DeployConfig
from .robots import FileRobot, Simulated
from .simulated import SimulatedBodyFactory


def settings_of(cfg: DeployConfig) -> ConsoleSettings:
    """Raises `ConfigError` where others could reach the robot without a token."""
    if (cfg.console_certificate is None) != (cfg.console_key is None):
        raise ConfigError("TLS needs a certificate and its key", run="console_certificate=cert.pem console_key=key.pem")
    tls = None
    if cfg.console_certificate is not None and cfg.console_key is not None:
        tls = (cfg.console_certificate, cfg.console_key)
    token = read_token(cfg.console_token_file)
    return ConsoleSettings(host=cfg.console_host, port=cfg.console_port, token=token, tls=tls)


@contextmanager
def opened(
    cfg: DeployConfig, session: Session, factory: Simulated | FileRobot, terminal: Terminal
) -> Iterator[Console | None]:
    """The console, where one is asked for; says where to find it."""
    if not cfg.console:
        yield None
        return
    settings = settings_of(cfg)
    joints = [e.name for e in session.spec.action_elements]
    if cfg.console_model is not None:
        model = partial(from_mjcf, cfg.console_model, joints)
    else:
        model = factory.model if isinstance(factory, SimulatedBodyFactory) else None
    about = About(rate_hz=cfg.rate_hz, shadow=cfg.shadow, instruction=cfg.instruction)
    by_hand = cfg.takeover == "console"
    with Console(session=session, settings=settings, about=about, model=model, by_hand=by_hand) as console:
        terminal.print(f"console {console.url}", soft_wrap=True, highlight=False)
        if settings.token is not None:
            terminal.print(f"        it asks for the token: that of {cfg.console_token_file or VARIABLE}")
        if settings.in_the_clear:
            terminal.print(
                "[yellow]Others on the network can read the token and the pictures; "
                "console_certificate= and console_key= encrypt them.[/yellow]",
                soft_wrap=True,
            )
        yield console


class Turns:
    """Whether the next episode may begin: at once without a console, else when it was started there.

    Args:
        console: of the run, or None.
        session: whose emergency button ends a run without a console.
        seconds: of the run; waiting does not count.
        terminal: where it is said that the console is gone.
    """

    def __init__(self, console: Console | None, session: Session, seconds: float, terminal: Terminal) -> None:
        self._console, self._session, self._terminal = console, session, terminal
        self.end = time.monotonic() + seconds
        self._told = False

    def next(self) -> bool:
        console = self._console
        if console is None:
            return time.monotonic() < self.end and not self._session.estop.pressed
        asked = time.monotonic()
        if asked >= self.end:
            return False
        go = console.wait()
        self.end += time.monotonic() - asked
        if not console.alive and not self._told:
            self._told = True
            goes_on = "the run goes on without it" if go else "nobody can start the robot"
            self._terminal.print(f"[yellow]The console is gone: {goes_on}[/yellow]", soft_wrap=True)
        return go

    @property
    def forestalled(self) -> bool:
        """Whether an episode failed to begin only because the emergency button was pressed at that moment."""
        return self._console is not None and self._console.forestalled

    def ended(self, reason: str) -> None:
        """After an episode; `reason` is why the robot was stopped, if it was."""
        if self._console is not None:
            self._console.ended(reason)
