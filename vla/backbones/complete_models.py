"""SmolVLM and Idefics3, PaliGemma, and LLaVA as transformers implements them, behind `VLM.prefix`.

Each camera is one square image of the tower's size. Splitting large images into tiles, which some references do for
documents, is left out: a robot's cameras are not documents.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .complete import CompleteVLM, Prompt, View
from .language.tokenizers import Tokenizer
from .towers.pixels import CLIP_MEAN, CLIP_STD, Fit, Pixels


class SmolVLM(CompleteVLM):
    """SmolVLM (Marafioti et al. 2025) and Idefics3 (Laurençon et al. 2024): SigLIP, pixel shuffle, Llama.

    Args:
        source, revision, tokenizer, prompt, cameras, frozen: as for every complete model.
        fit: how an image becomes the tower's square; SmolVLA pads.
    """

    standard = Prompt(
        head="<|im_start|>User:",
        before="<fake_token_around_image><global-img>",
        after="<fake_token_around_image>",
        words="{}<end_of_utterance>\nAssistant:",
    )

    def __init__(
        self,
        *,
        source: str | Path,
        revision: str | None = None,
        tokenizer: Tokenizer | None = None,
        prompt: Prompt | None = None,
        cameras: Sequence[str] | None = None,
        frozen: bool = False,
        fit: Fit = "pad",
    ) -> None:
        self._fit: Fit = fit
        super().__init__(
            source=source, revision=revision, tokenizer=tokenizer, prompt=prompt, cameras=cameras, frozen=frozen
        )

    @staticmethod
    def kind() -> Any:
        from transformers import AutoModelForImageTextToText

        return AutoModelForImageTextToText

    def take(self, model: Any) -> nn.Module:
        settings = model.config.vision_config
        self.scale = Pixels(size=settings.image_size, fit=self._fit)
        self.side = settings.image_size // settings.patch_size // model.config.scale_factor
        self.tower: nn.Module = model.model.vision_model
        self.connector: nn.Module = model.model.connector
        return model.model.text_model

    def pixels(self, images: Tensor) -> Tensor:
        return self.scale(images)

    def look(self, images: Tensor) -> View:
        found = self.tower(self.pixels(images)).last_hidden_state
        return View(self.connector(found), (self.side, self.side))


class PaliGemma(CompleteVLM):
    """PaliGemma (Beyer et al. 2024) and PaliGemma 2: SigLIP, a linear layer, Gemma with a bidirectional prefix."""

    attention = "bidirectional"
    first = 1
    standard = Prompt(words="<bos>{}\n")

    @staticmethod
    def kind() -> Any:
        from transformers import PaliGemmaForConditionalGeneration

        return PaliGemmaForConditionalGeneration

    def take(self, model: Any) -> nn.Module:
        settings = model.config.vision_config
        self.scale = Pixels(size=settings.image_size)
        self.side = settings.image_size // settings.patch_size
        self.tower: nn.Module = model.model.vision_tower
        self.connector: nn.Module = model.model.multi_modal_projector
        return model.model.language_model

    def pixels(self, images: Tensor) -> Tensor:
        return self.scale(images)

    def look(self, images: Tensor) -> View:
        found = self.tower(self.pixels(images)).last_hidden_state
        return View(self.connector(found), (self.side, self.side))


class Llava(CompleteVLM):
    """LLaVA-1.5 (Liu et al. 2023): CLIP's last layer but one without its class token, an MLP, Llama."""

    standard = Prompt(head="<s>USER: ", words="\n{} ASSISTANT:")

    @staticmethod
    def kind() -> Any:
        from transformers import LlavaForConditionalGeneration

        return LlavaForConditionalGeneration

    def take(self, model: Any) -> nn.Module:
        settings = model.config.vision_config
        self.scale = Pixels(size=settings.image_size, fit="crop", mean=CLIP_MEAN, std=CLIP_STD)
        self.side = settings.image_size // settings.patch_size
        chosen = model.config.vision_feature_layer
        self.layers: tuple[int, ...] = (chosen,) if isinstance(chosen, int) else tuple(chosen)
        self.start = 1 if model.config.vision_feature_select_strategy == "default" else 0
        self.tower: nn.Module = model.model.vision_tower
        self.connector: nn.Module = model.model.multi_modal_projector
        return model.model.language_model

    def pixels(self, images: Tensor) -> Tensor:
        return self.scale(images)

    def look(self, images: Tensor) -> View:
        found = self.tower(self.pixels(images), output_hidden_states=True).hidden_states
        chosen = torch.cat([found[layer][:, self.start :] for layer in self.layers], -1)
        return View(self.connector(chosen), (self.side, self.side))
