"""From tokens to one condition vector that a head produces actions from."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .base import Tokens


class ResidualMLP(nn.Module):
    """x + W₂ SiLU(W₁ LayerNorm(x)), with the last layer starting at zero so that depth costs nothing at first."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.inner = nn.Linear(width, width)
        self.outer = nn.Linear(width, width)
        nn.init.zeros_(self.outer.weight)
        nn.init.zeros_(self.outer.bias)

    def forward(self, x: Tensor) -> Tensor:
        """x: [B D]."""
        return x + self.outer(nn.functional.silu(self.inner(self.norm(x))))


class Trunk(nn.Module):
    """Tokens [B N D] → condition [B hidden]: each token is narrowed, all are concatenated, then mixed.

    Concatenation keeps which pooling head a place came from, the information precise actions depend on.
    """

    def __init__(self, *, count: int, width: int, narrow: int = 32, hidden: int = 512, depth: int = 2) -> None:
        super().__init__()
        self.narrow = nn.Linear(width, narrow)
        self.mix = nn.Linear(count * narrow, hidden)
        self.blocks = nn.Sequential(*[ResidualMLP(hidden) for _ in range(depth)])
        self.norm = nn.LayerNorm(hidden)

    def forward(self, tokens: Tokens) -> Tensor:
        narrowed = self.narrow(tokens.values) * tokens.mask[..., None]
        return self.norm(self.blocks(self.mix(narrowed.flatten(1))))


def sinusoidal(t: Tensor, width: int, *, shortest: float = 4e-3, longest: float = 4.0) -> Tensor:
    """[B] → [B width]: sine and cosine of t at log-spaced periods (π0's time embedding; Black et al. 2024)."""
    fraction = torch.linspace(0, 1, width // 2, device=t.device)
    period = shortest * (longest / shortest) ** fraction
    angle = t[:, None] * (2 * torch.pi / period)
    return torch.cat([angle.sin(), angle.cos()], dim=-1)
