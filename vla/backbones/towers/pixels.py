"""From camera images to what a network reads: resized, scaled and normalised channels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import interpolate, pad

from ...errors import SpecError
from ..base import PureModule

Fit = Literal["stretch", "crop", "pad", "corner", "budget"]
Resample = Literal["bicubic", "bilinear"]

HALF = (0.5, 0.5, 0.5)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


class Pixels(PureModule):
    """uint8 [B h w 3] → float [B 3 H W]: (x / 255 − mean) / std of the resized image.

    Args:
        size: side of the square the network reads, or None to leave the size as it is.
        fit: how an image of another shape becomes that square. `stretch` ignores the aspect (SigLIP, OpenVLA);
            `crop` scales the shortest side to `edge` and takes the centre (CLIP, DINOv2), which loses what lies at
            the sides; `pad` scales the longest side and centres the picture on black (π0); `corner` does so at the
            top left and fills with the mean (SAM); `budget` keeps the aspect and gives whole patches, no more of them
            than the square would have (SigLIP 2 NaFlex).
        edge: length of the shortest side before a crop; `size` where None.
        mean: of each channel, in [0, 1].
        std: of each channel.
        resample: the filter, always with antialiasing.
        patch: side of a patch, for `budget`.
    """

    def __init__(
        self,
        *,
        size: int | None,
        fit: Fit = "stretch",
        edge: int | None = None,
        mean: Sequence[float] = HALF,
        std: Sequence[float] = HALF,
        resample: Resample = "bicubic",
        patch: int = 16,
    ) -> None:
        super().__init__()
        self.size, self.edge, self.patch = size, edge, patch
        self.fit: Fit = fit
        self.resample: Resample = resample
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(tuple(mean)).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(tuple(std)).view(3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        return self.scale(self.fitted(as_channels(images)))

    def shape(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of what comes out."""
        if self.size is None:
            return height, width
        if self.fit == "budget":
            return within_budget(height, width, self.patch, round((self.size / self.patch) ** 2))
        return self.size, self.size

    def scale(self, images: Tensor) -> Tensor:
        """uint8 [B 3 h w] → float, normalised; where `corner` fills, the result is 0."""
        height, width = images.shape[-2:]
        scaled = (images.to(self.mean.dtype) / 255 - self.mean) / self.std
        if self.fit == "corner" and self.size is not None:
            scaled = pad(scaled, (0, self.size - width, 0, self.size - height))
        return scaled

    def fitted(self, images: Tensor) -> Tensor:
        """uint8 [B 3 h w] → uint8 [B 3 H W]; with `corner` the picture alone, before it is filled up."""
        size = self.size
        height, width = images.shape[-2:]
        if size is None:
            return images
        if self.fit in ("stretch", "budget"):
            return resized(images, *self.shape(height, width), self.resample)
        if self.fit == "crop":
            edge = self.edge or size
            factor = edge / min(height, width)
            # The longer side is rounded down, as in the reference processors of CLIP and DINOv2.
            tall, wide = (edge, int(edge * width / height)) if height <= width else (int(edge * height / width), edge)
            images = resized(images, tall, wide, self.resample) if factor != 1 else images
            top, left = (images.shape[-2] - size) // 2, (images.shape[-1] - size) // 2
            return images[..., top : top + size, left : left + size]
        factor = size / max(height, width)
        tall, wide = max(1, int(height * factor + 0.5)), max(1, int(width * factor + 0.5))
        images = resized(images, tall, wide, self.resample)
        if self.fit == "corner":
            return images
        top, left = (size - tall) // 2, (size - wide) // 2
        return pad(images, (left, size - wide - left, top, size - tall - top))


def as_channels(images: Tensor) -> Tensor:
    """[B h w 3] → [B 3 h w]; raises `SpecError` for anything but colour images of uint8."""
    if images.ndim != 4 or images.shape[-1] != 3 or images.dtype != torch.uint8:
        raise SpecError(
            "A vision tower reads colour images",
            expected="uint8 [B h w 3]",
            got=f"{str(images.dtype).removeprefix('torch.')} {list(images.shape)}",
        )
    return images.permute(0, 3, 1, 2)


def resized(images: Tensor, height: int, width: int, resample: Resample) -> Tensor:
    """uint8 [B C h w] → uint8 [B C height width], antialiased: what Pillow gives, up to two levels on pictures."""
    if images.shape[-2:] == (height, width):
        return images
    if images.device.type == "cpu":
        return interpolate(images, (height, width), mode=resample, antialias=True)
    # On accelerators the kernel exists for floats alone.
    floats = interpolate(images.float(), (height, width), mode=resample, antialias=True)
    return floats.round().clamp(0, 255).to(torch.uint8)


def within_budget(height: int, width: int, patch: int, most: int) -> tuple[int, int]:
    """The largest height and width in whole patches, at most `most` of them, whose aspect is that of an image.

    Sides are rounded up to whole patches at the largest scale that fits, found by bisection to 1e-5, as SigLIP 2's
    processor does (Tschannen et al. 2025).
    """

    def scaled(factor: float) -> tuple[int, int]:
        rows, columns = (max(1, math.ceil(side * factor / patch)) for side in (height, width))
        return rows * patch, columns * patch

    low, high = 1e-6, 100.0
    while high - low >= 1e-5:
        middle = (low + high) / 2
        tall, wide = scaled(middle)
        low, high = (middle, high) if (tall // patch) * (wide // patch) <= most else (low, middle)
    return scaled(low)
