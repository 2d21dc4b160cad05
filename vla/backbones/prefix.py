"""Images, words and state → the embeddings of a prefix, over a folded vision tower.

Shape legend: B batch, C cameras, L words, S state elements, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .base import PureModule
from .native import NativeVLM, Prefix, blockwise


class PrefixEmbedding(PureModule):
    """`NativeVLM.embed` from bytes.

    Args:
        vlm: whose other parts are taken as they are.
        tower: bytes [N h w 3] → tokens [N M ·].
    """

    def __init__(self, vlm: NativeVLM, tower: nn.Module) -> None:
        super().__init__()
        self.tower, self.connector = tower, vlm.connector
        self.grid = vlm.vision.grid(0, 0)
        self.words, self.state = vlm.decoder.words, vlm.state
        root, every = vlm.decoder.width**0.5, vlm.scaling == "all"
        self.scales = (root if every else 1.0, root if every or vlm.decoder.family == "gemma" else 1.0)

    def forward(self, images: Tensor, ids: Tensor, mask: Tensor, state: Tensor) -> Prefix:
        """images: [B C h w 3] from 0 to 255; ids, mask: [B L]; state: [B S]."""
        batch, cameras = images.shape[:2]
        seen = self.connector(self.tower(images.flatten(0, 1)), self.grid) * self.scales[0]
        parts = [seen.unflatten(0, (batch, cameras)).flatten(1, 2), self.words(ids) * self.scales[1]]
        if self.state is not None:
            parts.append(self.state(state.to(seen.dtype))[:, None])
        real = [torch.ones(batch, p.shape[1], dtype=torch.bool, device=ids.device) for p in parts]
        real[1] = mask
        block = torch.cat([torch.full((p.shape[1],), int(i == 2), device=ids.device) for i, p in enumerate(parts)])
        return Prefix(torch.cat(parts, 1), *blockwise(torch.cat(real, 1), block))
