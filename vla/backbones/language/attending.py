"""What the layers of transformers are told of the past and of who may attend to whom.

Shape legend: B batch, P tokens of the past, N tokens, K key-value heads, E width of a head.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..base import KeysValues

SLIDING = "sliding_attention"


def itself(attend: Tensor) -> Tensor:
    """[B N P + N] → [B N]: each token's entry for itself; of `attend`, whether it is a real token."""
    return attend[..., -attend.shape[1] :].diagonal(dim1=1, dim2=2)


class Memory:
    """What transformers' attention asks of a cache, over a past that stays as it is."""

    is_compileable = False

    def __init__(self, past: KeysValues | None) -> None:
        self.past = past
        self.own: list[tuple[Tensor, Tensor]] = []

    def update(self, keys: Tensor, values: Tensor, layer: int, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        self.own.append((keys, values))
        if self.past is None:
            return keys, values
        return torch.cat([self.past[layer][0], keys], 2), torch.cat([self.past[layer][1], values], 2)

    def get_seq_length(self, *_: Any) -> int:
        return 0 if self.past is None else self.past[0][0].shape[2]


class LayerMasks:
    """Makes the masks that a model's layers want of what its caller allows."""

    def __init__(self, settings: Any) -> None:
        kinds = getattr(settings, "layer_types", None)
        self.window: int | None = getattr(settings, "sliding_window", None)
        self.by_kind = kinds is not None and SLIDING in kinds
        self.all_slide = kinds is None and self.window is not None
        self.additive = settings._attn_implementation == "eager"

    def __call__(self, attend: Tensor, dtype: torch.dtype) -> Tensor | dict[str, Tensor]:
        """attend: bool [B N P + N]; → [B 1 N P + N], or one by kind of layer."""
        if not self.by_kind:
            return self._finished(self._near(attend) if self.all_slide else attend, dtype)
        return {
            "full_attention": self._finished(attend, dtype),
            SLIDING: self._finished(self._near(attend), dtype),
        }

    def _near(self, attend: Tensor) -> Tensor:
        """A token sees `window` tokens up to itself, counting those it may attend to, and whatever follows it."""
        assert self.window is not None
        seen = attend.long().cumsum(-1)
        return attend & (itself(seen)[..., None] - seen < self.window)

    def _finished(self, attend: Tensor, dtype: torch.dtype) -> Tensor:
        # A softmax over nothing is not a number.
        allowed = (attend | ~attend.any(-1, keepdim=True))[:, None]
        if not self.additive:
            return allowed
        return torch.zeros(allowed.shape, dtype=dtype, device=attend.device).masked_fill(
            ~allowed, torch.finfo(dtype).min
        )
