"""Qwen2.5-VL and Qwen3-VL as transformers implements them, behind `VLM.prefix`.

Shape legend: B batch, M image tokens, N tokens of the prefix, C channels, T frames of a patch, P its side, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ConfigError
from .complete import CompleteVLM, Prompt, Segment, View
from .language.tokenizers import Tokenizer
from .towers.pixels import CLIP_MEAN, CLIP_STD, HALF, Pixels, as_channels, resized


class QwenVL(CompleteVLM):
    """Qwen2.5-VL (Bai et al. 2025) and Qwen3-VL: images at their own resolution, positions that count time, rows and
    columns apart (M-RoPE), and in Qwen3-VL deep image features behind the first layers (DeepStack).

    Args:
        source, revision, tokenizer, prompt, cameras, frozen: as for every complete model.
        pixels_least, pixels_most: an image with fewer or more pixels is scaled into that range.
    """

    standard = Prompt(
        head="<|im_start|>user\n",
        before="<|vision_start|>",
        after="<|vision_end|>",
        words="{}<|im_end|>\n<|im_start|>assistant\n",
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
        pixels_least: int = 56 * 56,
        pixels_most: int = 448 * 448,
    ) -> None:
        if not 0 < pixels_least <= pixels_most:
            raise ConfigError(
                "The range of image sizes is empty", expected="0 < least ≤ most", got=f"{pixels_least}, {pixels_most}"
            )
        self._range = pixels_least, pixels_most
        super().__init__(
            source=source, revision=revision, tokenizer=tokenizer, prompt=prompt, cameras=cameras, frozen=frozen
        )

    @staticmethod
    def kind() -> Any:
        from transformers import AutoModelForImageTextToText

        return AutoModelForImageTextToText

    def take(self, model: Any) -> nn.Module:
        settings = model.config.vision_config
        self.patch, self.merge = int(settings.patch_size), int(settings.spatial_merge_size)
        self.duration = int(settings.temporal_patch_size)
        third = model.config.model_type.startswith("qwen3")
        self.scale = Pixels(size=None, mean=HALF if third else CLIP_MEAN, std=HALF if third else CLIP_STD)
        self.tower: nn.Module = model.model.visual
        return model.model.language_model

    def pixels(self, images: Tensor) -> Tensor:
        """uint8 [B h w 3] → float [B n C·T·P·P]: n patches, those that are merged into one token side by side."""
        channels = as_channels(images)
        height, width = self.size(*channels.shape[-2:])
        x = self.scale.scale(resized(channels, height, width, "bicubic"))
        m, p = self.merge, self.patch
        x = x.unflatten(3, (-1, m, p)).unflatten(2, (-1, m, p))  # [B C H/mP m P W/mP m P]
        x = x.permute(0, 2, 5, 3, 6, 1, 4, 7).unsqueeze(6).expand(*[-1] * 6, self.duration, -1, -1)
        return x.flatten(5).flatten(1, 4)

    def size(self, height: int, width: int) -> tuple[int, int]:
        """The size an image is read at: multiples of P·merge within the range, the aspect kept as near as may be."""
        unit = self.patch * self.merge
        least, most = self._range
        tall, wide = (max(unit, round(side / unit) * unit) for side in (height, width))
        if tall * wide > most:
            factor = (height * width / most) ** 0.5
            return (max(unit, int(height / factor / unit) * unit), max(unit, int(width / factor / unit) * unit))
        if tall * wide < least:
            factor = (least / (height * width)) ** 0.5
            return (-int(-height * factor // unit) * unit, -int(-width * factor // unit) * unit)
        return tall, wide

    def look(self, images: Tensor) -> View:
        batch = len(images)
        height, width = self.size(images.shape[1], images.shape[2])
        rows, columns = height // self.patch, width // self.patch
        grid = torch.tensor([[1, rows, columns]] * batch, device=images.device)
        found: Any = self.tower(self.pixels(images).flatten(0, 1), grid_thw=grid)
        deep: Sequence[Tensor] = found.get("deepstack_features") or ()
        return View(
            found.pooler_output.unflatten(0, (batch, -1)),
            (rows // self.merge, columns // self.merge),
            tuple(level.unflatten(0, (batch, -1)) for level in deep),
        )

    def positions(self, segments: Sequence[Segment], mask: Tensor) -> Tensor:
        """int [B N 3]: words count up on all axes; an image stands still in time and spans rows and columns."""
        start = torch.zeros(len(mask), 1, dtype=torch.long, device=mask.device)
        out: list[Tensor] = []
        for segment in segments:
            if isinstance(segment, View):
                rows, columns = segment.grid
                row = torch.arange(rows, device=mask.device).repeat_interleave(columns)
                column = torch.arange(columns, device=mask.device).repeat(rows)
                out.append(start[..., None] + torch.stack([torch.zeros_like(row), row, column], -1))
                start = start + max(rows, columns)
            else:
                told = segment.mask.long()
                out.append((start + told.cumsum(1) - 1).clamp(min=0)[..., None].expand(-1, -1, 3))
                start = start + told.sum(1, keepdim=True)
        return torch.cat(out, 1)
