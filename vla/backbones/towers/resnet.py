"""Residual networks (He et al. 2016)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from torch import Tensor, nn

from ...errors import ConfigError
from .pixels import IMAGENET_MEAN, IMAGENET_STD, Fit
from .preparation import Preparation
from .pretrained import PretrainedTower

Norm = Literal["frozen", "batch", "group"]


class ResNetTower(PretrainedTower):
    """The feature map of a ResNet, such as `microsoft/resnet-18`, cell by cell.

    Args:
        stage: the last one computed, from 1; a cell of stage s is 2^(s + 1) pixels wide.
        norm: `frozen` batch norm keeps its pretrained statistics (ACT, Zhao et al. 2023), `batch` estimates them
            anew, `group` puts group norm of 16 channels a group in its place (Diffusion Policy, Chi et al. 2023).
    """

    attention = "eager"  # the only one of a model without attention

    def __init__(
        self,
        *,
        path: str | None = None,
        revision: str | None = None,
        config: Mapping[str, Any] | None = None,
        stage: int = 4,
        norm: Norm = "frozen",
        size: int | None = None,
        fit: Fit | None = None,
        frozen: bool = False,
    ) -> None:
        self.norm: Norm = norm
        super().__init__(path=path, revision=revision, config=config, size=size, fit=fit, frozen=frozen)
        settings: Any = self.model.config
        if not 1 <= stage <= len(settings.hidden_sizes):
            raise ConfigError("There is no such stage", expected=f"1 … {len(settings.hidden_sizes)}", got=str(stage))
        self.width = settings.hidden_sizes[stage - 1]
        self.model.encoder.stages = self.model.encoder.stages[:stage]
        self.stride = 2 ** (stage + 1 + bool(settings.downsample_in_first_stage))
        if norm == "group":
            group_norms(self.model)
            self.requires_grad_(not frozen)

    def _classes(self, config: Mapping[str, Any]) -> tuple[Any, Any]:
        from transformers import ResNetConfig, ResNetModel

        return ResNetConfig, ResNetModel

    def _preparation(self, settings: Any) -> Preparation:
        # Convolutions read any size: an image stays as it is unless the folder's processor or `size` says otherwise.
        return Preparation(size=None, fit="stretch", mean=IMAGENET_MEAN, std=IMAGENET_STD)

    def _stride(self, settings: Any) -> int:
        return 2 ** (len(settings.hidden_sizes) + 1)

    def _tokens(self, pixels: Tensor) -> Tensor:
        return self.model(pixels).last_hidden_state.flatten(2).transpose(1, 2)

    def grid(self, height: int, width: int) -> tuple[int, int]:
        height, width = self.pixels.shape(height, width)
        return -(-height // self.stride), -(-width // self.stride)

    def train(self, mode: bool = True) -> ResNetTower:
        """As every module's, except that frozen statistics stay."""
        super().train(mode)
        if self.norm == "frozen":
            for module in self.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
        return self


def group_norms(model: nn.Module) -> None:
    """Put group norm of 16 channels a group in the place of every batch norm."""
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.BatchNorm2d):
            count = module.num_features
            model.set_submodule(name, nn.GroupNorm(max(1, count // 16), count))
