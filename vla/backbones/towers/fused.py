"""Several towers that look at the same image."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ...errors import ConfigError
from ..base import VisionTower


class FusedTower(VisionTower):
    """Tokens of several towers joined channel by channel, each of them preparing the pixels itself.

    DINOv2 knows where, SigLIP knows what: together they are the eyes of Prismatic (Karamcheti et al. 2024) and OpenVLA
    (Kim et al. 2024).

    Args:
        towers: of equal grids; D is the sum of their widths.
    """

    def __init__(self, *, towers: Sequence[VisionTower]) -> None:
        super().__init__()
        if len(towers) < 2:
            raise ConfigError("A fusion needs two towers or more", got=str(len(towers)))
        self.towers = nn.ModuleList(towers)
        self.width = sum(tower.width for tower in towers)

    def forward(self, images: Tensor) -> Tensor:
        self.grid(images.shape[1], images.shape[2])
        return torch.cat([tower(images) for tower in self.towers], -1)

    def grid(self, height: int, width: int) -> tuple[int, int]:
        grids = [tower.grid(height, width) for tower in self.towers if isinstance(tower, VisionTower)]
        if len(set(grids)) > 1:
            raise ConfigError(
                "Fused towers divide an image differently",
                expected="equal rows and columns",
                got=", ".join(f"{rows}×{columns}" for rows, columns in grids),
                run="set `size` of each tower to the same number of patches",
            )
        return grids[0]
