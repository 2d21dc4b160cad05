"""Convolutional tower that learns from nothing within an hour on a CPU."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ...errors import ConfigError
from ..attention import EncoderLayer
from ..base import VisionTower
from .pixels import Pixels
from .vit import sine_grid


class ConvNetTower(VisionTower):
    """Residual 3×3 convolutions at falling resolution, then attention over the cells (Xiao et al. 2021).

    Dense convolutions in the channels-last layout, because a CPU runs them several times faster than depthwise ones
    of equal parameters; group norm, so that training and acting compute the same numbers. A 96×96 image becomes
    12×12 tokens, a 64×64 image 8×8, with the default two stages.

    Args:
        channels: of each stage, multiples of 8; the first sees a quarter of the resolution, each next one half of that.
        depths: residual blocks of each stage.
        width: D of the tokens, a multiple of 4; the last stage's channels where None.
        layers: attention layers over the grid at the end, which compare what lies far apart.
        heads: of that attention.
        size: side that images are stretched to; None reads them as they are.
    """

    def __init__(
        self,
        *,
        channels: Sequence[int] = (64, 160),
        depths: Sequence[int] = (2, 4),
        width: int | None = None,
        layers: int = 1,
        heads: int = 4,
        size: int | None = None,
    ) -> None:
        super().__init__()
        if len(channels) != len(depths) or not channels:
            raise ConfigError("Each stage has channels and a depth", got=f"channels {channels}, depths {depths}")
        self.width = channels[-1] if width is None else width
        if any(c % GROUPS for c in channels) or self.width % 4 or self.width % heads:
            raise ConfigError(
                f"Channels are multiples of {GROUPS}, the width of 4 and of the heads",
                got=f"channels {tuple(channels)}, width {self.width}, heads {heads}",
            )
        self.pixels = Pixels(size=size)
        stages: list[nn.Module] = []
        before = 3
        for index, (after, depth) in enumerate(zip(channels, depths, strict=True)):
            # Strides overlap: an object of a few pixels is never split between two kernels that do not meet.
            stride = 4 if index == 0 else 2
            stages.append(nn.Conv2d(before, after, 2 * stride, stride=stride, padding=stride // 2))
            stages += [nn.GroupNorm(GROUPS, after), nn.SiLU(), *(Residual(after) for _ in range(depth))]
            before = after
        self.stride = 4 * 2 ** (len(channels) - 1)
        self.stages = nn.Sequential(*stages)
        self.widen = nn.Identity() if before == self.width else nn.Linear(before, self.width)
        self.layers = nn.ModuleList([EncoderLayer(self.width, heads, 0.0) for _ in range(layers)])
        self.norm = nn.LayerNorm(self.width)

    def forward(self, images: Tensor) -> Tensor:
        x = self.pixels(images).contiguous(memory_format=torch.channels_last)
        x = self.stages(x)
        rows, columns = x.shape[-2:]
        x = self.widen(x.permute(0, 2, 3, 1).flatten(1, 2))
        if len(self.layers):
            x = x + sine_grid(rows, columns, self.width, x.device).to(x.dtype)
        for layer in self.layers:
            x = layer(x)
        return self.norm(x)

    def grid(self, height: int, width: int) -> tuple[int, int]:
        height, width = self.pixels.shape(height, width)
        return height // self.stride, width // self.stride


GROUPS = 8


class Residual(nn.Module):
    """x + SiLU(GroupNorm(3×3 convolution of x))."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm = nn.GroupNorm(GROUPS, channels)

    def forward(self, x: Tensor) -> Tensor:
        return x + nn.functional.silu(self.norm(self.conv(x)))
