"""Raw patches: no vision network at all (Fuyu, Bavishi et al. 2023)."""

from __future__ import annotations

from torch import Tensor

from ..base import VisionTower
from .pixels import Fit, Pixels
from .vit import patch_grid, patches


class RawPatches(VisionTower):
    """The pixels of each patch as a token, so that a linear connector gives early fusion: the language model sees.

    Args:
        patch: side of a patch [pixels]; D is 3·patch², each pixel's channels together, row by row.
        size: see `Pixels`; None reads images as they are, in whole patches.
        fit: see `Pixels`.
    """

    def __init__(self, *, patch: int = 30, size: int | None = None, fit: Fit = "stretch") -> None:
        super().__init__()
        self.patch, self.width = patch, 3 * patch * patch
        self.pixels = Pixels(size=size, fit=fit, patch=patch)

    def forward(self, images: Tensor) -> Tensor:
        x = self.pixels(images)
        self.grid(images.shape[1], images.shape[2])
        return patches(x, self.patch)

    def grid(self, height: int, width: int) -> tuple[int, int]:
        return patch_grid(*self.pixels.shape(height, width), self.patch)
