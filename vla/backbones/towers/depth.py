"""Depth as a modality: metres become an image that any tower reads."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ...errors import SpecError
from ..base import VisionTower


class DepthTower(nn.Module):
    """float [B h w], metres → tokens [B N D] of any vision tower.

    Three channels hold what one of eight bits cannot: the inverse of the distance, precise where a hand works; its
    logarithm, even over the range; and whether the sensor saw anything at all. What is not finite or not beyond zero
    was not seen; what lies outside the range is taken to its end.

    Args:
        tower: reads the three channels as if they were colours.
        near: the closest distance told apart [m].
        far: the farthest [m].
    """

    def __init__(self, *, tower: VisionTower, near: float = 0.1, far: float = 10.0) -> None:
        super().__init__()
        self.tower, self.near, self.far, self.width = tower, near, far, tower.width

    def forward(self, depth: Tensor) -> Tensor:
        return self.tower(self.channels(depth))

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of tokens, as the tower says."""
        return self.tower.grid(height, width)

    def channels(self, depth: Tensor) -> Tensor:
        """float [B h w], metres → uint8 [B h w 3]: closeness, nearness on a logarithmic scale, seen; 0 unseen."""
        if depth.ndim != 3 or not depth.is_floating_point():
            raise SpecError(
                "A depth image is in metres", expected="float [B h w]", got=f"{depth.dtype} {list(depth.shape)}"
            )
        seen = depth.isfinite() & (depth > 0)
        metres = torch.where(seen, depth, self.far).clamp(self.near, self.far).float()
        inverse = (1 / metres - 1 / self.far) / (1 / self.near - 1 / self.far)
        logarithm = (self.far / metres).log() / math.log(self.far / self.near)
        levels = torch.stack([inverse, logarithm, torch.ones_like(metres)], -1) * 255
        return (levels.round() * seen[..., None]).to(torch.uint8)
