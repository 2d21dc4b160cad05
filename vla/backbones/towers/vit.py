"""Vision transformer trained from nothing (Dosovitskiy et al. 2021)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ...errors import ConfigError, SpecError
from ..attention import EncoderLayer
from ..base import VisionTower
from .pixels import Pixels


class ViT(VisionTower):
    """Patches, fixed two-dimensional sine positions and pre-norm attention layers; reads images of any size.

    Positions are sines of the place in units of patches rather than learned vectors (Beyer et al. 2022, "Better plain
    ViT baselines"), so that one set of weights reads cameras of different sizes.

    Args:
        width: D, a multiple of 4 and of `heads`.
        depth: layers.
        heads: of the attention.
        patch: side of a patch [pixels].
        size: side that images are stretched to; None reads them as they are, in whole patches.
        dropout: within the layers.
    """

    def __init__(
        self,
        *,
        width: int = 192,
        depth: int = 6,
        heads: int = 3,
        patch: int = 8,
        size: int | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if width % 4 or width % heads:
            raise ConfigError("A ViT's width is a multiple of 4 and of its heads", got=f"width {width}, heads {heads}")
        self.width, self.patch = width, patch
        self.pixels = Pixels(size=size)
        self.embed = nn.Linear(3 * patch * patch, width)
        self.layers = nn.ModuleList([EncoderLayer(width, heads, dropout) for _ in range(depth)])
        self.norm = nn.LayerNorm(width)

    def forward(self, images: Tensor) -> Tensor:
        x = self.pixels(images)
        rows, columns = patch_grid(x.shape[2], x.shape[3], self.patch)
        x = self.embed(patches(x, self.patch))
        x = x + sine_grid(rows, columns, self.width, x.device).to(x.dtype)
        for layer in self.layers:
            x = layer(x)
        return self.norm(x)

    def grid(self, height: int, width: int) -> tuple[int, int]:
        return patch_grid(*self.pixels.shape(height, width), self.patch)


def patches(x: Tensor, side: int) -> Tensor:
    """[B C h w] → [B N side·side·C]: each patch row by row, its pixels row by row, its channels last."""
    b, c, h, w = x.shape
    x = x.view(b, c, h // side, side, w // side, side).permute(0, 2, 4, 3, 5, 1)
    return x.reshape(b, (h // side) * (w // side), side * side * c)


def patch_grid(height: int, width: int, side: int) -> tuple[int, int]:
    """Rows and columns of patches; raises `SpecError` for an image that is not made of whole ones."""
    if height % side or width % side:
        raise SpecError(
            "An image is not made of whole patches",
            expected=f"height and width divisible by {side}",
            got=f"{height} × {width}",
            run="set the tower's `size`, or render the camera at such a size",
        )
    return height // side, width // side


def sine_grid(rows: int, columns: int, width: int, device: torch.device | None = None) -> Tensor:
    """float [rows·columns width]: sines and cosines of the row and of the column, at log-spaced periods."""
    quarter = width // 4
    frequency = 10_000.0 ** -(torch.arange(quarter, device=device) / max(quarter - 1, 1))
    row = torch.arange(rows, device=device)[:, None] * frequency
    column = torch.arange(columns, device=device)[:, None] * frequency
    down = torch.cat([row.sin(), row.cos()], -1)[:, None].expand(-1, columns, -1)
    across = torch.cat([column.sin(), column.cos()], -1)[None].expand(rows, -1, -1)
    return torch.cat([down, across], -1).flatten(0, 1)
