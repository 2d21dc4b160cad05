"""Images of any resolution as tiles of the size a tower reads (LLaVA-NeXT, Liu et al. 2024)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from ...errors import ConfigError
from ..base import VisionTower
from .pixels import Resample, as_channels, resized


class TiledTower(VisionTower):
    """The whole image first, small; then the tiles of the enlarged image as one map, each row closed by a newline.

    Args:
        tower: reads tiles.
        tile: side of a tile [pixels], the tower's own size.
        layouts: rows and columns of tiles that may be chosen: the one that keeps most of the image's pixels, and of
            those the one that wastes least.
        newline: close each row of the map with a learned token.
        resample: the filter that enlarges and reduces.
    """

    def __init__(
        self,
        *,
        tower: VisionTower,
        tile: int,
        layouts: Sequence[Sequence[int]] = ((1, 2), (2, 1), (2, 2), (3, 1), (1, 3)),
        newline: bool = True,
        resample: Resample = "bicubic",
    ) -> None:
        super().__init__()
        if not layouts or any(len(layout) != 2 for layout in layouts):
            raise ConfigError("A layout is rows and columns of tiles", got=str(layouts))
        self.tower, self.tile, self.width = tower, tile, tower.width
        self.layouts = tuple((int(rows), int(columns)) for rows, columns in layouts)
        self.resample: Resample = resample
        self.newline = nn.Parameter(torch.randn(self.width) * self.width**-0.5) if newline else None

    def forward(self, images: Tensor) -> Tensor:
        batch, height, width = images.shape[:3]
        rows, columns = self.layout(height, width)
        tiles = self.tiles(images)
        cells = self.tower.grid(self.tile, self.tile)
        tokens = self.tower(tiles.flatten(0, 1)).unflatten(0, (batch, 1 + rows * columns))
        whole, parts = tokens[:, 0], tokens[:, 1:]
        parts = parts.unflatten(1, (rows, columns)).unflatten(3, cells).transpose(2, 3).flatten(3, 4).flatten(1, 2)
        top, left = self._margins(height, width)
        found = parts[:, top : parts.shape[1] - top, left : parts.shape[2] - left]
        if self.newline is not None:
            found = torch.cat([found, self.newline.to(found.dtype).expand(*found.shape[:2], 1, -1)], 2)
        return torch.cat([whole, found.flatten(1, 2)], 1)

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """One row: the small image and the map have places of their own."""
        rows, columns = self.layout(height, width)
        cells = self.tower.grid(self.tile, self.tile)
        top, left = self._margins(height, width)
        tall, wide = rows * cells[0] - 2 * top, columns * cells[1] - 2 * left
        return 1, cells[0] * cells[1] + tall * (wide + (self.newline is not None))

    def layout(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of tiles for an image of that size."""

        def kept(layout: tuple[int, int]) -> tuple[int, int]:
            tall, wide = layout[0] * self.tile, layout[1] * self.tile
            factor = min(wide / width, tall / height)
            pixels = min(int(width * factor) * int(height * factor), width * height)
            return pixels, pixels - tall * wide

        return max(self.layouts, key=kept)

    def tiles(self, images: Tensor) -> Tensor:
        """uint8 [B h w 3] → uint8 [B 1 + rows·columns tile tile 3]: the small image, then the tiles row by row."""
        x = as_channels(images)
        height, width = x.shape[-2:]
        rows, columns = self.layout(height, width)
        tall, wide = rows * self.tile, columns * self.tile
        inner = self._enlarged(height, width)
        above, before = (tall - inner[0]) // 2, (wide - inner[1]) // 2
        large = pad(
            resized(x, *inner, self.resample), (before, wide - inner[1] - before, above, tall - inner[0] - above)
        )
        large = large.unflatten(3, (columns, self.tile)).unflatten(2, (rows, self.tile))
        parts = large.permute(0, 2, 4, 3, 5, 1).flatten(1, 2)
        small = resized(x, self.tile, self.tile, self.resample).permute(0, 2, 3, 1)
        return torch.cat([small[:, None], parts], 1)

    def _enlarged(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the image within its tiles, before it is padded."""
        rows, columns = self.layout(height, width)
        tall, wide = rows * self.tile, columns * self.tile
        if wide / width < tall / height:
            return min(math.ceil(height * wide / width), tall), wide
        return tall, min(math.ceil(width * tall / height), wide)

    def _margins(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of cells at either side of the map that saw padding alone."""
        rows, columns = self.layout(height, width)
        cells = self.tower.grid(self.tile, self.tile)
        tall, wide = rows * cells[0], columns * cells[1]
        if width / height > wide / tall:
            return (tall - int(round(height * wide / width, 7))) // 2, 0
        return 0, (wide - int(round(width * tall / height, 7))) // 2
