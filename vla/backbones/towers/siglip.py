"""SigLIP's vision transformers: at one resolution, and at any aspect."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from .preparation import Preparation
from .pretrained import TransformerTower
from .vit import patches


class SigLIPTower(TransformerTower):
    """SigLIP (Zhai et al. 2023) and the fixed-resolution SigLIP 2, such as `google/siglip2-base-patch16-224`."""

    always = {"vision_use_head": False}

    def _classes(self, config: Mapping[str, Any]) -> tuple[Any, Any]:
        from transformers import SiglipVisionConfig, SiglipVisionModel

        return SiglipVisionConfig, SiglipVisionModel

    def _preparation(self, settings: Any) -> Preparation:
        return Preparation(size=settings.image_size, fit="stretch")

    def _leading(self, settings: Any) -> int:
        return 0

    def _layers(self) -> nn.ModuleList:
        return self.model.encoder.layers

    def _run(self, pixels: Tensor, hidden: bool) -> Any:
        return self.model(pixels, interpolate_pos_encoding=True, output_hidden_states=hidden)


class SigLIP2Tower(TransformerTower):
    """SigLIP 2 NaFlex (Tschannen et al. 2025): native aspect, at most a square's number of patches.

    Such as `google/siglip2-base-patch16-naflex`. `size` is the side of the square whose patches are the budget.
    """

    always = {"vision_use_head": False}

    def _classes(self, config: Mapping[str, Any]) -> tuple[Any, Any]:
        from transformers import Siglip2VisionConfig, Siglip2VisionModel

        return Siglip2VisionConfig, Siglip2VisionModel

    def _preparation(self, settings: Any) -> Preparation:
        side = round(settings.num_patches**0.5) * settings.patch_size
        return Preparation(size=side, fit="budget", resample="bilinear")

    def _leading(self, settings: Any) -> int:
        return 0

    def _layers(self) -> nn.ModuleList:
        return self.model.encoder.layers

    def _run(self, pixels: Tensor, hidden: bool) -> Any:
        rows, columns = pixels.shape[-2] // self.stride, pixels.shape[-1] // self.stride
        flat = patches(pixels, self.stride)
        return self.model(
            flat,
            pixel_attention_mask=torch.ones(flat.shape[:2], dtype=torch.long, device=flat.device),
            spatial_shapes=torch.tensor([[rows, columns]] * len(flat)),
            output_hidden_states=hidden,
        )
