"""What policies share that hand a vision-language model the observation as it is: cameras, instruction, state token."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from ..vla.backbones.base import VLM
from ..vla.backbones.native import padded
from ..vla.contract import EnvSpec
from ..vla.learning.batch import Batch
from ..vla.learning.policy import TorchPolicy
from ..vla.normalize import NormStats

STATE = "state"
"""The extra modality that the normalised state enters by."""

Inputs = tuple[Mapping[str, Tensor], list[str], Mapping[str, Tensor] | None]


class VLMPolicy(TorchPolicy):
    """A policy on top of a vision-language model.

    Args:
        spec, stats: the body, and the statistics its state and actions are normalised by.
        vlm: reads the observation.
        chunk: H, actions per chunk.
        room: what the state is padded to for the VLM's modality `state`; 0 where the VLM is not told the state.
    """

    def __init__(self, *, spec: EnvSpec, stats: NormStats, vlm: VLM, chunk: int, room: int) -> None:
        super().__init__(spec=spec, stats=stats, chunk=chunk)
        self.vlm, self.room = vlm, room

    def inputs(self, batch: Batch) -> Inputs:
        """What `VLM.prefix` takes."""
        extra = {STATE: padded(self.state(batch), self.room)[:, None]} if self.room else None
        return self.images(batch), list(batch["task"]), extra
