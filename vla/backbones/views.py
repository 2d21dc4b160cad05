"""A vision tower for single views that learns what is visible in their left, middle and right third."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import SpecError

THIRDS = ("left", "middle", "right")


class _Down(nn.Module):
    """A strided and a residual 3×3 convolution, each with group norm."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.down = nn.Sequential(nn.Conv2d(before, after, 3, stride=2, padding=1), nn.GroupNorm(4, after), nn.SiLU())
        self.more = nn.Sequential(nn.Conv2d(after, after, 3, padding=1), nn.GroupNorm(4, after), nn.SiLU())

    def forward(self, x: Tensor) -> Tensor:
        x = self.down(x)
        return x + self.more(x)


class ViewTower(nn.Module):
    """uint8 [B h w 3] → one probability per label and third [B 3·L]: features with a meaning and without pretraining.

    Semantic transfer features of this kind, trained on a simulator's own annotations, generalise to unseen buildings
    better than those of ImageNet classifiers (Zhang et al. 2020, "Diagnosing the Environment Bias in VLN").

    Args:
        labels: L names of what may be visible.
        channels: of the stages, each half as large as the one before.
        width: of the hidden layer that reads a third together with the whole view.
    """

    def __init__(self, *, labels: Sequence[str], channels: Sequence[int] = (24, 48, 96), width: int = 192) -> None:
        super().__init__()
        self.labels = tuple(labels)
        first, *others = channels
        self.stem = nn.Sequential(nn.Conv2d(3, first, 5, stride=2, padding=2), nn.GroupNorm(4, first), nn.SiLU())
        self.stages = nn.Sequential(*[_Down(a, b) for a, b in zip(channels, others, strict=False)])
        last = channels[-1]
        self.mean, self.most = nn.AdaptiveAvgPool2d((1, 3)), nn.AdaptiveMaxPool2d((1, 3))
        self.mix = nn.Sequential(nn.Linear(3 * last, width), nn.SiLU(), nn.LayerNorm(width))
        self.head = nn.Linear(width, len(self.labels))
        nn.init.constant_(self.head.bias, -3.0)  # most things are absent from most views

    @property
    def width(self) -> int:
        """Features a view."""
        return 3 * len(self.labels)

    def forward(self, images: Tensor) -> Tensor:
        """Logits [B 3 L] of uint8 images [B h w 3]."""
        x = images.permute(0, 3, 1, 2).float().div(127.5).sub(1.0).contiguous(memory_format=torch.channels_last)
        x = self.stages(self.stem(x))
        whole = x.mean((2, 3))[:, None].expand(-1, 3, -1)
        thirds = torch.cat([self.mean(x), self.most(x)], 1)[:, :, 0].transpose(1, 2)
        return self.head(self.mix(torch.cat([thirds, whole], -1)))

    def encode(self, images: Tensor) -> Tensor:
        """Probabilities [B 3·L], the left third's first."""
        return self(images).sigmoid().flatten(1)

    @property
    def mirror(self) -> np.ndarray:
        """int [3·L]: which feature of the mirrored picture each feature of a picture is."""
        return np.arange(self.width).reshape(3, -1)[::-1].ravel()

    def loss(self, batch: Mapping[str, Any]) -> tuple[Tensor, dict[str, Any]]:
        """Binary cross-entropy, summed over labels and averaged over views; `images` and `visible` bool [B 3 L]."""
        logits, wanted = self(batch["images"]), batch["visible"].float()
        loss = nn.functional.binary_cross_entropy_with_logits(logits, wanted, reduction="sum") / len(logits)
        found = ((logits > 0) & (wanted > 0)).sum() / (wanted > 0).sum().clamp_min(1)
        said = ((logits > 0) & (wanted > 0)).sum() / (logits > 0).sum().clamp_min(1)
        return loss, {"recall": found, "precision": said}

    @staticmethod
    def from_checkpoint(path: str | Path) -> ViewTower:
        """The tower a checkpoint holds; raises `SpecError` where it holds something else."""
        from .. import checkpoint
        from ..config import instantiate

        loaded = checkpoint.load(path)
        tower = instantiate(loaded.policy)
        if not isinstance(tower, ViewTower):
            raise SpecError(f"{path} holds no vision tower", expected="ViewTower", got=type(tower).__name__)
        tower.load_state_dict(loaded.weights("ema"), strict=True)
        return tower.eval()
