"""What lies between a robot's driver and everybody else on its host: rings for what it senses and what it is told."""

from __future__ import annotations

import json
from collections.abc import Mapping
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from ...contract import EnvSpec, Observation
from ..cells import Cells
from ..shared import Layout, Ring, observation_layout, to_observation

DRIVER = ("halted_at",)
"""When the driver was stopped by somebody else than the loop [s]; 0 where it was not."""


class RobotLink:
    """`contract.Robot` over the shared memory of a driver's process; both ends and the operator hold one.

    Args:
        spec: of the robot.
        names: of existing rings, from `names` of the link that made them; None makes new ones.
    """

    def __init__(self, spec: EnvSpec, names: Mapping[str, str] | None = None) -> None:
        self._spec = spec
        state = Layout(
            (*observation_layout(spec, images=False).fields, ("outcome", (), "int8"), ("time", (), "float64"))
        )
        command = Layout.of(
            action=((spec.action_dim,), "float64"), t=((), "float64"), epoch=((), "int64"), stop=((), "uint8")
        )
        layouts = {"observation": (observation_layout(spec), 4), "state": (state, 8), "command": (command, 256)}
        self._rings = {k: Ring(layout, slots, names[k] if names else None) for k, (layout, slots) in layouts.items()}
        self.observation, self.state, self.commands = self._rings.values()
        self._driver = Cells(DRIVER, names["driver"] if names else None)
        self.epoch = 0

    @property
    def spec(self) -> EnvSpec:
        return self._spec

    @property
    def names(self) -> dict[str, str]:
        return {**{k: ring.name for k, ring in self._rings.items()}, "driver": self._driver.name}

    @property
    def halted_at(self) -> float:
        """When somebody else than the loop stopped the driver [s], 0 where nobody did."""
        return self._driver["halted_at"]

    @property
    def halt_reason(self) -> str:
        return self._driver.text

    def halt(self, t: float, reason: str) -> None:
        """Stop the driver as of time `t` [s], from any process; it obeys nobody until `clear_halt`."""
        self._driver.text = reason
        self._driver["halted_at"] = t

    def clear_halt(self) -> None:
        self._driver["halted_at"] = 0.0

    def read(self) -> Observation:
        """The newest joint state, without images: those are the policy's, in `observation`."""
        record = self.state.latest()
        assert record is not None, "the driver publishes its state before it answers a reset"
        return to_observation(record)

    def command(self, action: np.ndarray, t: float) -> None:
        self.commands.write(action=action, t=t, epoch=self.epoch, stop=0)

    def stop(self) -> None:
        self.commands.write(action=np.zeros(self._spec.action_dim), t=0.0, epoch=self.epoch, stop=1)

    def close(self) -> None:
        self._driver.close()
        for ring in self._rings.values():
            ring.close()


def encode_outcome(outcome: bool | None) -> int:
    return -1 if outcome is None else int(outcome)


def decode_outcome(code: int) -> bool | None:
    return None if code < 0 else bool(code)


def tell(pipe: Connection, message: Mapping[str, Any]) -> None:
    """Send one JSON message."""
    pipe.send_bytes(json.dumps(message).encode())
