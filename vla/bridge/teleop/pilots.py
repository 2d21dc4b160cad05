"""A human at the controls: throughout, for demonstrations, or in turns with a policy, for corrections."""

from __future__ import annotations

import numpy as np

from ...contract import ActionChunk, EnvSpec, Observation
from ..chunking import HumanChunk
from ..limits import joint_indices
from ..planner import Planner, Targets
from .hand import Device, Request
from .human import HumanPolicy


def as_human(chunk: ActionChunk) -> HumanChunk:
    return HumanChunk(chunk.actions, chunk.times, chunk.observed_at)


class HumanPilot:
    """A `Pilot` that is a human from the first observation to the last.

    Args:
        planner: of a `HumanPolicy`.
        devices: whose requests end the episode; `request` is the one that did, None while it goes on.

    Nothing can be kept before the human has driven: a key that starts an episode and is hit twice, or while the scene
    is being prepared, does not end it.
    """

    urgent = True

    def __init__(self, planner: Planner, *devices: Device) -> None:
        self._planner, self._devices = planner, devices
        self._driven = False
        self.request: Request | None = None

    @property
    def finished(self) -> bool:
        """Whether a device has asked for an end."""
        self._hear()
        return self.request is not None

    def _hear(self) -> None:
        if self.request is None:
            self.request = next((r for r in self.asked() if self._driven or r is not Request.GO), None)

    def asked(self) -> list[Request]:
        """What the devices were asked for since the last call."""
        return [request for device in self._devices for request in device.requests()]

    def reset(self, seed: int) -> None:
        """Begin an episode; what was asked for before it is forgotten."""
        self.asked()
        self.request, self._driven = None, False
        self._planner.reset(seed)

    def due(self, observed: float, latency: float, execute: int) -> float:
        """At once."""
        return observed

    def plan(self, observation: Observation, latency: float = 0.0, execute: int | None = None) -> ActionChunk:
        self._hear()  # what was asked for up to the first plan was asked before the robot could be driven
        self._driven = True
        return as_human(self._planner.plan(observation, latency))


class Takeover:
    """A `Pilot` that is a policy, and a human for as long as the human's device is engaged.

    The human takes the robot over with its gripper as it was commanded. After the release the policy plans from a
    fresh observation, without history and without the chunk it was executing.

    Args:
        policy: the planner of the policy.
        human: what follows the device.
        targets: from the human's actions to the joints of `robot`.
        device: asked at every observation.

    `interventions` counts the times the human took over in this episode.
    """

    finished = False

    def __init__(
        self, *, policy: Planner, human: HumanPolicy, targets: Targets, robot: EnvSpec, device: Device
    ) -> None:
        self._policy, self._human, self._device = policy, human, device
        self._by_hand = Planner(policy=human, spec=human.spec, targets=targets)
        gripper = [e.name for g in human.spec.action if g.name == "gripper" for e in g.elements]
        self._gripper = joint_indices([e.name for e in robot.action_elements], gripper)
        self._last: ActionChunk | None = None
        self._driving = False
        self.interventions = 0

    @property
    def urgent(self) -> bool:
        """While the human drives or takes over, and once more when the policy is to go on."""
        return self._driving or self._device.engaged

    def reset(self, seed: int) -> None:
        """Begin an episode."""
        self._policy.reset(seed)
        self._by_hand.reset(seed)
        self._last, self._driving, self.interventions = None, False, 0

    def due(self, observed: float, latency: float, execute: int) -> float:
        """When the policy is due, had it planned."""
        return self._policy.due(observed, latency, execute)

    def plan(self, observation: Observation, latency: float = 0.0, execute: int | None = None) -> ActionChunk:
        engaged = self._device.read(observation.time).engaged
        if engaged and not self._driving:
            self._human.begin(self._commanded_gripper(observation.time))
            self.interventions += 1
        elif self._driving and not engaged:
            self._policy.resume()
        self._driving = engaged
        if engaged:
            return as_human(self._by_hand.plan(observation, latency))
        self._last = self._policy.plan(observation, latency, execute)
        return self._last

    def _commanded_gripper(self, now: float) -> np.ndarray | None:
        """[G] what the policy asked of the gripper for `now`; None before its first chunk."""
        chunk = self._last
        if chunk is None or not chunk.actions.size:
            return None
        columns = [np.interp(now, chunk.times, chunk.actions[:, i]) for i in self._gripper]
        return np.array(columns)
