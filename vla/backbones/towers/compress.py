"""Fewer tokens of a tower: what lies side by side is stacked, averaged or summed up by learned attention."""

from __future__ import annotations

from abc import abstractmethod

from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

from ...errors import ConfigError, SpecError
from ..base import VisionTower
from .conditioned import ConditionedTower


class CompressedTower(ConditionedTower):
    """A tower and what makes fewer tokens of its own; an instruction is passed on to a tower that takes one."""

    def __init__(self, *, tower: VisionTower, width: int) -> None:
        super().__init__()
        self.tower, self.width = tower, width
        self.condition = tower.condition if isinstance(tower, ConditionedTower) else 0

    @abstractmethod
    def compress(self, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        """[B N ·] of so many rows and columns → [B M D]."""

    def forward(self, images: Tensor) -> Tensor:
        return self.compress(self.tower(images), self.tower.grid(images.shape[1], images.shape[2]))

    def conditioned(self, images: Tensor, condition: Tensor) -> Tensor:
        if not isinstance(self.tower, ConditionedTower):
            raise ConfigError(f"{type(self.tower).__name__} takes no instruction", run="use EfficientNetTower")
        tokens = self.tower.conditioned(images, condition)
        return self.compress(tokens, self.tower.grid(images.shape[1], images.shape[2]))


class PixelShuffled(CompressedTower):
    """factor × factor neighbouring tokens stacked into one, nothing lost (Idefics3, SmolVLM; Marafioti et al. 2025).

    Args:
        tower: whose rows and columns are multiples of `factor`; D is factor² times its width.
    """

    def __init__(self, *, tower: VisionTower, factor: int = 2) -> None:
        super().__init__(tower=tower, width=tower.width * factor * factor)
        self.factor = factor

    def compress(self, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        rows, columns = self._coarser(grid)
        x = tokens.unflatten(1, (rows, self.factor, columns, self.factor))
        return x.transpose(2, 3).flatten(3, 5).flatten(1, 2)

    def grid(self, height: int, width: int) -> tuple[int, int]:
        return self._coarser(self.tower.grid(height, width))

    def _coarser(self, grid: tuple[int, int]) -> tuple[int, int]:
        rows, columns = grid
        if rows % self.factor or columns % self.factor:
            raise SpecError(
                "A grid of tokens cannot be shuffled",
                expected=f"rows and columns divisible by {self.factor}",
                got=f"{rows} × {columns} tokens",
                run="set the inner tower's `size`",
            )
        return rows // self.factor, columns // self.factor


class AveragePooled(CompressedTower):
    """Tokens averaged over a coarser grid (Gemma 3, LLaVA-OneVision), of the same size for every image.

    Args:
        tower: whatever its grid; where it is no multiple of `cells`, neighbouring cells overlap.
        cells: rows and columns of what comes out.
    """

    def __init__(self, *, tower: VisionTower, cells: int) -> None:
        super().__init__(tower=tower, width=tower.width)
        self.cells = cells

    def compress(self, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        x = tokens.transpose(1, 2).unflatten(2, grid)
        return adaptive_avg_pool2d(x, self.cells).flatten(2).transpose(1, 2)

    def grid(self, height: int, width: int) -> tuple[int, int]:
        return self.cells, self.cells


class TokenLearned(CompressedTower):
    """A few tokens, each the sum of all that one learned map attends to (TokenLearner, Ryoo et al. 2021; RT-1).

    Args:
        tower: whatever its grid.
        count: of tokens, in one row: they have no place.
        hidden: width of the network that draws the maps.
        dropout: within that network.
    """

    def __init__(self, *, tower: VisionTower, count: int = 8, hidden: int = 64, dropout: float = 0.0) -> None:
        super().__init__(tower=tower, width=tower.width)
        self.count = count
        self.maps = nn.Sequential(
            nn.LayerNorm(tower.width),
            nn.Linear(tower.width, hidden),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, count),
        )

    def compress(self, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        return self.maps(tokens).softmax(1).transpose(1, 2) @ tokens

    def grid(self, height: int, width: int) -> tuple[int, int]:
        return 1, self.count
