"""Several cameras and several moments as one sequence of tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from ...errors import SpecError
from ..base import Tokens, VisionTower
from ..trunk import sinusoidal


class Views(nn.Module):
    """Camera → uint8 [B h w 3] or [B T h w 3], the newest frame last → tokens that know whence and from when.

    Each camera has a learned vector; frames are told apart by the sine of their age, so that the newest frame is the
    same token whether or not older ones come with it (Octo, Octo Model Team 2024; RT-1 reads six frames).

    Args:
        tower: shared by all cameras and frames.
        cameras: names, in the order of the tokens; an observation may lack some of them, but not all.
    """

    def __init__(self, *, tower: VisionTower, cameras: Sequence[str]) -> None:
        super().__init__()
        self.tower, self.cameras, self.width = tower, tuple(cameras), tower.width
        self.whence = nn.Parameter(torch.randn(len(self.cameras), self.width) * 0.02)

    def forward(self, images: Mapping[str, Tensor]) -> Tokens:
        """Tokens [B ΣTN D], camera by camera, oldest frame first."""
        names = [name for name in self.cameras if name in images]
        unknown = [name for name in images if name not in self.cameras]
        if unknown or not names:
            raise SpecError(
                "These views do not fit the tower",
                expected="one or more of " + ", ".join(self.cameras),
                got=", ".join(images) or "none",
            )
        parts = [self._view(name, images[name]) for name in names]
        values = torch.cat(parts, 1)
        return Tokens(values, torch.ones(values.shape[:2], dtype=torch.bool, device=values.device))

    def _view(self, name: str, images: Tensor) -> Tensor:
        frames = images if images.ndim == 5 else images[:, None]
        batch, count = frames.shape[:2]
        tokens = self.tower(frames.flatten(0, 1)).unflatten(0, (batch, count))
        age = torch.arange(count - 1, -1, -1, device=tokens.device, dtype=torch.float32)
        now = sinusoidal(torch.zeros_like(age), self.width, shortest=4.0, longest=4000.0)
        moment = sinusoidal(age, self.width, shortest=4.0, longest=4000.0) - now
        placed = tokens + self.whence[self.cameras.index(name)] + moment[:, None].to(tokens.dtype)
        return placed.flatten(1, 2)
