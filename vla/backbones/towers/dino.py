"""DINO's self-supervised vision transformers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from .pixels import IMAGENET_MEAN, IMAGENET_STD
from .preparation import Preparation
from .pretrained import TransformerTower

REGISTERS = "num_register_tokens"


class DINOv2Tower(TransformerTower):
    """DINOv2 (Oquab et al. 2023), such as `facebook/dinov2-base`, with or without registers (Darcet et al. 2023).

    A random model has registers where its configuration counts them (`num_register_tokens`).
    """

    def _classes(self, config: Mapping[str, Any]) -> tuple[Any, Any]:
        from transformers import (
            Dinov2Config,
            Dinov2Model,
            Dinov2WithRegistersConfig,
            Dinov2WithRegistersModel,
        )

        if REGISTERS in config or config.get("model_type") == Dinov2WithRegistersConfig.model_type:
            return Dinov2WithRegistersConfig, Dinov2WithRegistersModel
        return Dinov2Config, Dinov2Model

    def _preparation(self, settings: Any) -> Preparation:
        # Pretrained at 518 pixels, used at 224: the model interpolates its positions.
        side = min(settings.image_size, 16 * settings.patch_size)
        return Preparation(
            size=side, fit="crop", edge=side * 8 // 7, mean=IMAGENET_MEAN, std=IMAGENET_STD, resample="bicubic"
        )

    def _leading(self, settings: Any) -> int:
        return 1 + getattr(settings, REGISTERS, 0)

    def _layers(self) -> nn.ModuleList:
        return self.model.encoder.layer

    def _run(self, pixels: Tensor, hidden: bool) -> Any:
        return self.model(pixels, output_hidden_states=hidden)


class DINOv3Tower(TransformerTower):
    """DINOv3 (Siméoni et al. 2025), such as `facebook/dinov3-vits16-pretrain-lvd1689m`: rotary, any resolution."""

    def _classes(self, config: Mapping[str, Any]) -> tuple[Any, Any]:
        from transformers import DINOv3ViTConfig, DINOv3ViTModel

        return DINOv3ViTConfig, DINOv3ViTModel

    def _preparation(self, settings: Any) -> Preparation:
        return Preparation(
            size=settings.image_size, fit="stretch", mean=IMAGENET_MEAN, std=IMAGENET_STD, resample="bilinear"
        )

    def _leading(self, settings: Any) -> int:
        return 1 + settings.num_register_tokens

    def _layers(self) -> nn.ModuleList:
        return self.model.model.layer

    def _run(self, pixels: Tensor, hidden: bool) -> Any:
        return self.model(pixels, output_hidden_states=hidden)
