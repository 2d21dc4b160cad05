"""SigLIP's vision transformer in plain PyTorch, the eye of SmolVLM and PaliGemma (Zhai et al. 2023).

Shape legend: B batch, N patches, D width, h w pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..errors import ConfigError, SpecError
from .base import Connector, VisionTower


class SiglipLayer(nn.Module):
    """Pre-norm self-attention and MLP with biases, both residual; the GELU is its tanh form."""

    def __init__(self, width: int, heads: int, inner: int, eps: float) -> None:
        super().__init__()
        self.heads = heads
        self.enter, self.middle = nn.LayerNorm(width, eps), nn.LayerNorm(width, eps)
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.out = nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, inner), nn.Linear(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        """[B N D] → the same."""
        normed = self.enter(x)
        heads = (p(normed).unflatten(-1, (self.heads, -1)).transpose(1, 2) for p in (self.query, self.key, self.value))
        found = nn.functional.scaled_dot_product_attention(*heads)
        x = x + self.out(found.transpose(1, 2).flatten(2))
        return x + self.down(nn.functional.gelu(self.up(self.middle(x)), approximate="tanh"))


class SiglipTower(VisionTower):
    """Patches with learned positions, pre-norm layers and a last norm; reads one size of image.

    Args:
        size: side of the square image [pixels]; cameras of another shape are letter-boxed as in SmolVLA.
        patch: side of a patch [pixels].
        width, depth, heads, inner: D, layers, heads, inner width of the MLPs.
        eps: of the norms.
    """

    def __init__(
        self, *, size: int, patch: int, width: int, depth: int, heads: int, inner: int, eps: float = 1e-6
    ) -> None:
        super().__init__()
        if size % patch or width % heads:
            raise ConfigError(
                "The sizes of a SigLIP tower do not fit together",
                expected="an image of whole patches and a width of whole heads",
                got=f"size {size}, patch {patch}, width {width}, heads {heads}",
            )
        self.size, self.patch, self.width = size, patch, width
        self.embed = nn.Conv2d(3, width, patch, stride=patch)
        self.places = nn.Parameter(torch.randn((size // patch) ** 2, width) * width**-0.5)
        self.layers = nn.ModuleList([SiglipLayer(width, heads, inner, eps) for _ in range(depth)])
        self.norm = nn.LayerNorm(width, eps)

    def forward(self, images: Tensor) -> Tensor:
        """uint8 [B h w 3] → float [B N D]; `SpecError` for anything else."""
        if images.ndim != 4 or images.shape[-1] != 3 or images.dtype != torch.uint8:
            raise SpecError(
                "A vision tower reads colour images",
                expected="uint8 [B h w 3]",
                got=f"{str(images.dtype).removeprefix('torch.')} {list(images.shape)}",
            )
        return self.read(letterbox(images, self.size))

    def read(self, pixels: Tensor) -> Tensor:
        """float [B 3 size size] in [−1, 1] → [B N D]."""
        x = self.embed(pixels.to(self.embed.weight.dtype)).flatten(2).transpose(1, 2) + self.places
        for layer in self.layers:
            x = layer(x)
        return self.norm(x)

    def grid(self, height: int, width: int) -> tuple[int, int]:
        side = self.size // self.patch
        return side, side


class PixelShuffle(Connector):
    """s × s neighbouring patches become one token, then one linear layer (Idefics3, Laurençon et al. 2024).

    Args:
        source: width of the tower's tokens.
        width: D.
        factor: s.
    """

    def __init__(self, *, source: int, width: int, factor: int = 2) -> None:
        super().__init__()
        self.width, self.factor = width, factor
        self.project = nn.Linear(source * factor**2, width, bias=False)

    def forward(self, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        s = self.factor
        x = tokens.view(len(tokens), grid[0] // s, s, grid[1] // s, s, -1).transpose(2, 3)
        return self.project(x.reshape(len(tokens), self.count(grid), -1))

    def count(self, grid: tuple[int, int]) -> int:
        if grid[0] % self.factor or grid[1] % self.factor:
            raise ConfigError(
                "The grid of patches cannot be merged evenly", expected=f"multiples of {self.factor}", got=str(grid)
            )
        return grid[0] * grid[1] // self.factor**2


def letterbox(images: Tensor, size: int) -> Tensor:
    """uint8 [B h w 3] → float [B 3 size size] in [−1, 1]: aspect kept, black on the left and on top (SmolVLA)."""
    x = images.permute(0, 3, 1, 2).float().div(255)
    height, width = x.shape[-2:]
    if (height, width) != (size, size):
        ratio = max(height, width) / size
        tall, wide = int(height / ratio), int(width / ratio)
        x = nn.functional.interpolate(x, (tall, wide), mode="bilinear", align_corners=False)
        x = nn.functional.pad(x, (size - wide, 0, size - tall, 0))
    return x * 2 - 1
