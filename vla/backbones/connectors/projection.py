"""Token by token from a tower's width to a language model's: one linear layer, or an MLP."""

from __future__ import annotations

from torch import Tensor, nn

from ...errors import ConfigError
from ..base import Connector


class LinearConnector(Connector):
    """One linear layer per token (LLaVA, Liu et al. 2023; PaliGemma, Beyer et al. 2024).

    Args:
        source: width of the tower's tokens.
        width: D.
        bias: of the layer.
    """

    def __init__(self, *, source: int, width: int, bias: bool = True) -> None:
        super().__init__()
        self.width = width
        self.project = nn.Linear(source, width, bias=bias)

    def forward(self, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        return self.project(tokens)

    def count(self, grid: tuple[int, int]) -> int:
        return grid[0] * grid[1]


class MLPConnector(Connector):
    """Linear layers with GELU between them, per token (LLaVA-1.5, Liu et al. 2023: two; OpenVLA, Kim et al. 2024: 3).

    Args:
        source: width of the tower's tokens.
        width: D.
        hidden: width of the inner layers; None is D.
        depth: number of linear layers, at least two.
        bias: of every layer.
    """

    def __init__(
        self, *, source: int, width: int, hidden: int | None = None, depth: int = 2, bias: bool = True
    ) -> None:
        super().__init__()
        if depth < 2:
            raise ConfigError("An MLP connector needs two layers", expected="depth ≥ 2", got=str(depth))
        self.width = width
        inner = hidden or width
        layers: list[nn.Module] = [nn.Linear(source, inner, bias=bias)]
        for out in (*[inner] * (depth - 2), width):
            layers += [nn.GELU(), nn.Linear(inner, out, bias=bias)]
        self.layers = nn.Sequential(*layers)

    def forward(self, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        return self.layers(tokens)

    def count(self, grid: tuple[int, int]) -> int:
        return grid[0] * grid[1]
