"""Dense features of the Segment Anything encoder (Kirillov et al. 2023)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from .pixels import IMAGENET_MEAN, IMAGENET_STD
from .preparation import Preparation
from .pretrained import PretrainedTower


class SAMTower(PretrainedTower):
    """What SAM's mask decoder reads: a neck of 256 channels over a high-resolution windowed transformer.

    Such as `facebook/sam-vit-base`. The longest side is scaled to the model's size, the picture lies at the top left
    and the rest is the mean colour; the size is fixed, since windows and positions are made for it.
    """

    def __init__(
        self,
        *,
        path: str | None = None,
        revision: str | None = None,
        config: Mapping[str, Any] | None = None,
        frozen: bool = True,
    ) -> None:
        super().__init__(path=path, revision=revision, config=config, size=None, fit=None, frozen=frozen)
        self.width = self.model.config.output_channels

    def _classes(self, config: Mapping[str, Any]) -> tuple[Any, Any]:
        from transformers import SamVisionConfig, SamVisionModel

        return SamVisionConfig, SamVisionModel

    def _preparation(self, settings: Any) -> Preparation:
        return Preparation(
            size=settings.image_size, fit="corner", mean=IMAGENET_MEAN, std=IMAGENET_STD, resample="bilinear"
        )

    def _stride(self, settings: Any) -> int:
        return settings.patch_size

    def _tokens(self, pixels: Tensor) -> Tensor:
        return self.model(pixels).last_hidden_state.flatten(2).transpose(1, 2)

    def grid(self, height: int, width: int) -> tuple[int, int]:
        height, width = self.pixels.shape(height, width)
        return height // self.stride, width // self.stride
