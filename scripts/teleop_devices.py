"""Which device a human drives with, and the pilots that `wayhand deploy` and `wayhand teleop` make of it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.text import Text

from ..vla.bridge.keyboard import KeyboardStop
from ..vla.bridge.planner import Planner
from ..vla.bridge.session import Session
from ..vla.bridge.teleop.cell import ConsoleHand, HandCell
from ..vla.bridge.teleop.gamepad import GamepadHand
from ..vla.bridge.teleop.hand import Device
from ..vla.bridge.teleop.human import HumanPolicy, Speed
from ..vla.bridge.teleop.keys import KeyboardHand
from ..vla.bridge.teleop.pilots import HumanPilot, Takeover
from ..vla.errors import ConfigError
from .robots import FileRobot, Simulated

DeviceName = Literal["keyboard", "gamepad", "console"]


def require_terminal(name: DeviceName | None) -> None:
    """Raise a `ConfigError` where a keyboard is asked for and there is none."""
    if name == "keyboard" and not (sys.stdin is not None and sys.stdin.isatty()):
        raise ConfigError("A keyboard needs a terminal", run="from a terminal, or with device=gamepad")


def _device(
    stack: ExitStack, name: DeviceName, session: Session, gamepad: Path | None, cell: HandCell | None
) -> Device:
    stop = session.estop.press
    if name == "gamepad":
        return stack.enter_context(GamepadHand(stop=stop, path=gamepad))
    assert cell is not None, "a console is asked for where there is one"
    return ConsoleHand(stop=stop, cell=cell)


@contextmanager
def by_hand(
    name: DeviceName,
    session: Session,
    factory: Simulated | FileRobot,
    *,
    speed: Speed | None = None,
    gamepad: Path | None = None,
    cell: HandCell | None = None,
) -> Iterator[tuple[HumanPilot, str]]:
    """A human who drives throughout, and what to press. The terminal is heard whatever the device is.

    Args:
        gamepad: which one; the first where None.
        cell: of the console.
    """
    with ExitStack() as stack:
        keyboard = stack.enter_context(KeyboardHand(stop=session.estop.press, moves=name == "keyboard"))
        device = keyboard if name == "keyboard" else _device(stack, name, session, gamepad, cell)
        human = HumanPolicy(device=device, robot=session.spec, speed=speed)
        targets = factory.targets(human.spec, session.spec)
        planner = Planner(policy=human, spec=session.spec, targets=targets)
        yield HumanPilot(planner, *([keyboard] if device is keyboard else [device, keyboard])), device.help


@contextmanager
def in_turns(
    name: DeviceName | None,
    session: Session,
    factory: Simulated | FileRobot,
    policy: Planner,
    terminal: Console,
    *,
    cell: HandCell | None = None,
) -> Iterator[Planner | Takeover]:
    """The policy, which a human may interrupt where a device is named; the emergency key works in both cases."""
    with ExitStack() as stack:
        device: Device | None = None
        if name == "keyboard":
            device = stack.enter_context(KeyboardHand(stop=session.estop.press, takeover=True))
        else:
            stack.enter_context(KeyboardStop(session.estop))
            device = None if name is None else _device(stack, name, session, None, cell)
        if device is None:
            yield policy
            return
        terminal.print(Text(device.help, "dim"), soft_wrap=True)
        human = HumanPolicy(device=device, robot=session.spec)
        targets = factory.targets(human.spec, session.spec)
        yield Takeover(policy=policy, human=human, targets=targets, robot=session.spec, device=device)
