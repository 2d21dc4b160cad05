"""Vision models of the transformers library, pretrained or random, behind one interface."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ...errors import ConfigError
from ..base import VisionTower
from ..hub import checked, checked_settings, load_model
from .pixels import Fit, Pixels
from .preparation import Preparation, prepared, read_json
from .vit import patch_grid


class PretrainedTower(VisionTower):
    """A vision model that the transformers library implements; one subclass a family.

    Images are prepared as the folder's `preprocessor_config.json` says, else as the family's own processor does.

    Args:
        path: folder with safetensors and config.json, or hub id; None builds random weights from `config`.
        revision: commit of the hub id.
        config: what differs from the family's default configuration when `path` is None.
        size: side of the image the model reads; None takes what it was trained with.
        fit: how an image of another shape becomes that square, see `Pixels`.
        frozen: neither gradients nor dropout.

    Attributes:
        attention: transformers' name of the attention implementation that the family loads with.
        always: settings of the family's configuration that its tokens do not depend on, such as a pooling head's.
    """

    attention: ClassVar[str] = "sdpa"
    always: ClassVar[Mapping[str, Any]] = {}

    def __init__(
        self,
        *,
        path: str | None,
        revision: str | None,
        config: Mapping[str, Any] | None,
        size: int | None,
        fit: Fit | None,
        frozen: bool,
    ) -> None:
        super().__init__()
        if (path is None) == (config is None):
            raise ConfigError(
                f"{type(self).__name__} needs either a path or a configuration",
                expected="`path` of pretrained weights, or `config` to start from random ones",
                got="neither" if path is None else "both",
            )
        if path is not None:
            folder = checked(path, revision)
            _, model_class = self._classes(read_json(folder / "config.json"))
            self.model: Any = load_model(model_class, folder, attention=self.attention, **self.always)
            how = prepared(folder, self._preparation(self.model.config))
        else:
            # Lists of a configuration file arrive as tuples, which transformers does not take for lists.
            settings = {k: list(v) if isinstance(v, tuple) else v for k, v in (config or {}).items()}
            config_class, model_class = self._classes(settings)
            settings = checked_settings({"model_type": config_class.model_type, **settings})
            settings.pop("model_type")
            self.model = model_class(config_class(**{**settings, **self.always})).eval()
            how = self._preparation(self.model.config)
        how = replace(how, size=size or how.size, edge=None if size else how.edge, fit=fit or how.fit)
        self.stride = self._stride(self.model.config)
        self.pixels = Pixels(**vars(how), patch=self.stride)
        self.frozen = frozen
        self.requires_grad_(not frozen)
        self.train()

    @abstractmethod
    def _classes(self, config: Mapping[str, Any]) -> tuple[Any, Any]:
        """The configuration and the model class of the family, for what its configuration says."""

    @abstractmethod
    def _preparation(self, settings: Any) -> Preparation:
        """What the family's own image processor does by default."""

    @abstractmethod
    def _stride(self, settings: Any) -> int:
        """Side of what one token stands for [pixels]."""

    @abstractmethod
    def _tokens(self, pixels: Tensor) -> Tensor:
        """[B 3 H W], prepared → [B N D]."""

    def forward(self, images: Tensor) -> Tensor:
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            return self._tokens(self.pixels(images))

    def train(self, mode: bool = True) -> PretrainedTower:
        """As every module's, except that a frozen tower always evaluates."""
        super().train(mode and not self.frozen)
        return self


class TransformerTower(PretrainedTower):
    """Patch tokens of a pretrained vision transformer.

    Args:
        layer: which hidden states to give: −1 the last with the model's final norm, others count the states before
            and between the layers as transformers does (0: embeddings, −2: before the last layer, as in LLaVA).
        cls: put the class token in front; `grid` is then one row, since that token has no place.
        size: of another resolution than trained with, positions are interpolated (Dosovitskiy et al. 2021).
    """

    def __init__(
        self,
        *,
        path: str | None = None,
        revision: str | None = None,
        config: Mapping[str, Any] | None = None,
        layer: int = -1,
        cls: bool = False,
        size: int | None = None,
        fit: Fit | None = None,
        frozen: bool = True,
    ) -> None:
        super().__init__(path=path, revision=revision, config=config, size=size, fit=fit, frozen=frozen)
        settings: Any = self.model.config
        self.width = settings.hidden_size
        self.layer, self.cls = layer, cls
        self.leading = self._leading(settings)
        depth = settings.num_hidden_layers
        if not -depth - 1 <= layer <= depth:
            raise ConfigError("There is no such layer", expected=f"{-depth - 1} … {depth}", got=str(layer))
        if cls and not self.leading:
            raise ConfigError(f"{type(self).__name__} has no class token", run="set cls=false")
        if layer != -1:
            self.layer = layer if layer >= 0 else depth + 1 + layer
            # What comes after the chosen layer is neither computed nor stored; one layer must stay to be looked at.
            del self._layers()[max(self.layer, 1) :]

    @abstractmethod
    def _leading(self, settings: Any) -> int:
        """How many tokens come before those of the patches; where there are any, the first is the class token."""

    @abstractmethod
    def _layers(self) -> nn.ModuleList:
        """The model's own list of layers."""

    @abstractmethod
    def _run(self, pixels: Tensor, hidden: bool) -> Any:
        """The model's output for [B 3 H W], with the hidden states between its layers where asked for."""

    def _stride(self, settings: Any) -> int:
        return settings.patch_size

    def _tokens(self, pixels: Tensor) -> Tensor:
        out = self._run(pixels, self.layer != -1)
        tokens: Tensor = out.last_hidden_state if self.layer == -1 else out.hidden_states[self.layer]
        if self.cls:
            return torch.cat([tokens[:, :1], tokens[:, self.leading :]], 1)
        return tokens[:, self.leading :]

    def grid(self, height: int, width: int) -> tuple[int, int]:
        rows, columns = patch_grid(*self.pixels.shape(height, width), self.stride)
        return (1, 1 + rows * columns) if self.cls else (rows, columns)
