"""Convolutional vision tower with language conditioning, small enough to train from nothing on a CPU."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .base import PureModule


class FiLM(nn.Module):
    """Feature-wise linear modulation y = (1 + γ)·x + β (Perez et al. 2018), starting as the identity (RT-1)."""

    def __init__(self, condition: int, channels: int) -> None:
        super().__init__()
        self.project = nn.Linear(condition, 2 * channels)
        nn.init.zeros_(self.project.weight)
        nn.init.zeros_(self.project.bias)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """x: [B C h w]; condition: [B D]."""
        scale, shift = self.project(condition)[:, :, None, None].chunk(2, dim=1)
        return x * (1 + scale) + shift


class FiLMBlock(nn.Module):
    """Residual 3×3 convolution, modulated by the instruction.

    No normalisation: at this depth zero-started modulation and gradient clipping are enough, and on a CPU a norm
    costs as much as the convolution.
    """

    def __init__(self, channels: int, condition: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.film = FiLM(condition, channels)
        nn.init.kaiming_normal_(self.conv.weight, nonlinearity="relu")
        assert self.conv.bias is not None
        nn.init.zeros_(self.conv.bias)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        return x + nn.functional.silu(self.film(self.conv(x), condition))


class ConvTower(PureModule):
    """uint8 [B h w 3] → features [B C h/4 w/4]; an overlapping stride-4 stem, then FiLM blocks at that resolution.

    Objects are a few pixels wide in a robot's camera, so resolution is kept and depth is small.
    """

    def __init__(self, *, channels: int, depth: int, condition: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, channels, 8, stride=4, padding=2)
        self.blocks = nn.ModuleList([FiLMBlock(channels, condition) for _ in range(depth)])
        self.norm = nn.LayerNorm(channels)
        nn.init.kaiming_normal_(self.stem.weight, nonlinearity="relu")

    def forward(self, images: Tensor, condition: Tensor) -> Tensor:
        x = images.permute(0, 3, 1, 2).to(self.stem.weight.dtype).div(127.5).sub(1.0)
        x = nn.functional.silu(self.stem(x.contiguous(memory_format=torch.channels_last)))
        for block in self.blocks:
            x = block(x, condition)
        return self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class GridPool(PureModule):
    """Features averaged over a coarse grid: [B C h w] → [B cells² C], a rough map that keeps where things are."""

    def __init__(self, *, cells: int) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(cells)

    def forward(self, features: Tensor) -> Tensor:
        return self.pool(features).flatten(2).transpose(1, 2)


class SpatialPool(PureModule):
    """K heads, each a softmax over the map that yields where it looks and what is there.

    Half of the heads score the map by learned filters (spatial softmax, Levine et al. 2016), half by filters made
    from the instruction, so that "the red cube" becomes a place. Output: [B K C + 2], features and the expected
    (x, y) in [−1, 1].
    """

    def __init__(self, *, channels: int, heads: int, condition: int) -> None:
        super().__init__()
        self.heads = heads
        self.free = nn.Conv2d(channels, heads // 2, 1)
        self.asked = nn.Linear(condition, (heads - heads // 2) * channels)
        self.temperature = nn.Parameter(torch.full((heads,), 1.0))
        # Heads that start by looking somewhere in particular learn much sooner than heads that look everywhere.
        nn.init.normal_(self.free.weight, std=channels**-0.5)

    def forward(self, features: Tensor, condition: Tensor) -> Tensor:
        b, c, h, w = features.shape
        filters = self.asked(condition).view(b, -1, c)
        flat = features.flatten(2)
        scores = torch.cat([self.free(features).flatten(2), torch.bmm(filters, flat) * c**-0.5], dim=1)
        weights = (scores.float() * self.temperature.exp()[:, None]).softmax(-1)
        ys = torch.linspace(-1, 1, h, device=features.device)
        xs = torch.linspace(-1, 1, w, device=features.device)
        grid = torch.stack([xs.repeat(h), ys.repeat_interleave(w)], dim=-1)
        what = torch.bmm(weights.to(flat.dtype), flat.transpose(1, 2))
        return torch.cat([what, (weights @ grid).to(what.dtype)], dim=-1)
