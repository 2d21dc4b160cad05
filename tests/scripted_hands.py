"""Humans who know the simulator's state: they work a keyboard or a gamepad as the tabletop's experts would move."""

from __future__ import annotations

from types import TracebackType

import numpy as np

from wayhand.envs.tabletop.oracles import ORACLES, ee_delta
from wayhand.envs.tabletop.sim import DOWN, TabletopSim
from wayhand.vla.bridge.teleop.gamepad import STICKS, PadState
from wayhand.vla.bridge.teleop.hand import Hand, Request
from wayhand.vla.bridge.teleop.keys import MOTIONS, KeyboardHand
from wayhand.vla.bridge.teleop.linux_input import EV_ABS, EV_KEY, EVENT, Axis

KEYS = {motion: key for key, motion in reversed(MOTIONS.items())}
STICK = Axis(-32768, 32767, 128)
RANGES = dict.fromkeys(STICKS, STICK)
RIGHT_BUMPER, SOUTH = 0x137, 0x130
HALF_OPEN = 0.04


def record(kind: int, code: int, value: int) -> bytes:
    """One record as the kernel writes it."""
    return EVENT.pack(12, 345678, kind, code, value)


class ScriptedHand:
    """`Device` that works another one before every reading.

    Args:
        sim: where the hand is and where it should go.
        speed: of the hand that a full deflection means [m/s].
    """

    help = "a script"

    def __init__(self, sim: TabletopSim, speed: float = 0.1) -> None:
        self.sim, self._speed = sim, speed
        self._open = True

    def wish(self) -> tuple[np.ndarray, bool]:
        """Direction [6] in −1 … 1 that the task's expert goes in, and whether the gripper is to change."""
        world = self.sim.world()
        aim = ORACLES[self.sim.task](world, self.sim.target)
        step = ee_delta(world, aim, DOWN, self.sim.control_dt)
        change = (aim.width > HALF_OPEN) != self._open
        self._open = aim.width > HALF_OPEN
        direction = np.append(step[:3] / (self._speed * self.sim.control_dt), np.zeros(3))
        return np.clip(direction, -1.0, 1.0), change

    def requests(self) -> list[Request]:
        return []

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None


class Typist(ScriptedHand):
    """Types: an axis whose wish is more than half a step is a key that is down."""

    def __init__(self, sim: TabletopSim, keyboard: KeyboardHand) -> None:
        super().__init__(sim)
        self.keyboard = keyboard

    @property
    def engaged(self) -> bool:
        return self.keyboard.engaged

    def read(self, now: float) -> Hand:
        direction, change = self.wish()
        for axis, wish in enumerate(direction):
            if abs(wish) > 0.3:
                self.keyboard.feed(KEYS[axis, float(np.sign(wish))], now - 0.08)  # to its end before the next reading
        if change:
            self.keyboard.feed(b"g", now)
        return self.keyboard.read(now)


class Player(ScriptedHand):
    """Holds the right bumper and moves the sticks of a gamepad, record by record."""

    def __init__(self, sim: TabletopSim, pad: PadState) -> None:
        super().__init__(sim)
        self.pad = pad
        pad.feed(record(EV_KEY, RIGHT_BUMPER, 1))

    @property
    def engaged(self) -> bool:
        return self.pad.hand.engaged

    def read(self, now: float) -> Hand:
        direction, change = self.wish()
        for code, (axis, sign) in STICKS.items():
            share = sign * float(direction[axis])
            rest = 0.1 * np.sign(share) + 0.9 * share  # beyond the dead zone
            self.pad.feed(record(EV_ABS, code, round(32767 * rest)))
        if change:
            self.pad.feed(record(EV_KEY, SOUTH, 1) + record(EV_KEY, SOUTH, 0))
        return self.pad.hand
