"""The vision tower of a pretraining run, for use in a policy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ... import checkpoint
from ...config import instantiate
from ...errors import CheckpointError
from ..base import VisionTower


class RunTower(VisionTower):
    """The tower that `wayhand pretrain` left in a run's folder, with its averaged weights.

    Args:
        run: the folder.
        frozen: whether it learns no further.
    """

    def __init__(self, *, run: str | Path, frozen: bool = False) -> None:
        super().__init__()
        found = checkpoint.load(run)
        node: Any = found.policy.get("vlm", {})
        if "vision" not in node:
            raise CheckpointError(
                f"{run} holds no vision tower", got=str(found.policy.get("_target_")), run="wayhand pretrain … out=RUN"
            )
        tower = instantiate(node["vision"])
        assert isinstance(tower, VisionTower)
        weights = {k: v for k, v in found.weights("ema").items() if k.startswith(PREFIX)}
        tower.load_state_dict({k.removeprefix(PREFIX): v for k, v in weights.items()})
        self.tower, self.width, self.frozen = tower, tower.width, frozen
        tower.requires_grad_(not frozen)

    def forward(self, images: Tensor) -> Tensor:
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            return self.tower(images)

    def grid(self, height: int, width: int) -> tuple[int, int]:
        return self.tower.grid(height, width)


PREFIX = "vlm.vision."
