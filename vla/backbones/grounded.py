"""The compact backbone: convolutions conditioned on the words, pooled to a few tokens per camera."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from ..contract import EnvSpec
from .base import Backbone, Tokens
from .text import TextEncoder
from .vision import ConvTower, GridPool, SpatialPool


class WordPool(nn.Module):
    """R learned questions attend to the words; their answers, concatenated, are the condition [B D]."""

    def __init__(self, *, words: int, width: int, questions: int = 4) -> None:
        super().__init__()
        self.questions = nn.Parameter(torch.randn(questions, words) * words**-0.5)
        self.project = nn.Sequential(nn.Linear(questions * words, width), nn.LayerNorm(width), nn.SiLU())
        self.refine = nn.Linear(width, width)

    def forward(self, words: Tensor, mask: Tensor) -> Tensor:
        """words: [B L D]; mask: bool [B L]."""
        scores = torch.einsum("rd,bld->brl", self.questions, words)
        weights = scores.masked_fill(~mask[:, None], float("-inf")).softmax(-1)
        return self.refine(self.project(torch.bmm(weights, words).flatten(1)))


class GroundedBackbone(Backbone):
    """One FiLM-conditioned convolutional tower per camera and language-asked spatial pooling.

    Combines RT-1's FiLM conditioning (Brohan et al. 2022) with the spatial softmax of visuomotor policies
    (Levine et al. 2016). Tokens: `heads` and `cells²` per camera, one of the instruction, one of the state.

    Args:
        spec: names the cameras and the state.
        text: encoder of the instruction.
        channels, depth: of the convolutional towers.
        heads: tokens per camera that say where something is and what.
        cells: side of the coarse grid of tokens per camera.
        width: D.
        word_dropout: share of word features hidden in training, which makes the policy robust to phrasing.
    """

    def __init__(
        self,
        *,
        spec: EnvSpec,
        text: TextEncoder,
        channels: int = 64,
        depth: int = 3,
        heads: int = 16,
        cells: int = 6,
        width: int = 128,
        word_dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.cameras = tuple(c.name for c in spec.cameras)
        self.width = width
        self.count = len(self.cameras) * (heads + cells**2) + 2
        self.word_dropout = word_dropout
        self.text = text
        self.words = WordPool(words=text.width, width=width)
        self.towers = nn.ModuleDict(
            {name: ConvTower(channels=channels, depth=depth, condition=width) for name in self.cameras}
        )
        self.pools = nn.ModuleDict(
            {name: SpatialPool(channels=channels, heads=heads, condition=width) for name in self.cameras}
        )
        self.grid = GridPool(cells=cells)
        self.project = nn.ModuleDict({name: nn.Linear(channels + 2, width) for name in self.cameras})
        self.locate = nn.ModuleDict({name: nn.Linear(channels, width) for name in self.cameras})
        self.state = nn.Sequential(nn.Linear(spec.state_dim, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, images: Mapping[str, Tensor], state: Tensor, instructions: Sequence[str]) -> Tokens:
        words, mask = self.text(instructions)
        if self.training and self.word_dropout:
            keep = torch.rand(mask.shape, device=mask.device) >= self.word_dropout
            keep[:, 0] = True  # at least one word stays, so that the softmax has something to attend to
            mask = mask & keep
        condition = self.words(words, mask)
        parts = []
        for name in self.cameras:
            features = self.towers[name](images[name], condition)
            parts.append(self.project[name](self.pools[name](features, condition)))
            parts.append(self.locate[name](self.grid(features)))
        parts += [condition[:, None], self.state(state)[:, None]]
        values = torch.cat([p.float() for p in parts], dim=1)
        return Tokens(values, torch.ones(values.shape[:2], dtype=torch.bool, device=values.device))
