"""CLIP's vision transformer (Radford et al. 2021)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from .pixels import CLIP_MEAN, CLIP_STD
from .preparation import Preparation
from .pretrained import TransformerTower


class CLIPTower(TransformerTower):
    """CLIP's image encoder, such as `openai/clip-vit-large-patch14`; LLaVA reads it with `layer: -2`."""

    def _classes(self, config: Mapping[str, Any]) -> tuple[Any, Any]:
        from transformers import CLIPVisionConfig, CLIPVisionModel

        return CLIPVisionConfig, CLIPVisionModel

    def _preparation(self, settings: Any) -> Preparation:
        return Preparation(size=settings.image_size, fit="crop", mean=CLIP_MEAN, std=CLIP_STD)

    def _leading(self, settings: Any) -> int:
        return 1

    def _layers(self) -> nn.ModuleList:
        return self.model.encoder.layers

    def _run(self, pixels: Tensor, hidden: bool) -> Any:
        return self.model(pixels, interpolate_pos_encoding=True, output_hidden_states=hidden)
