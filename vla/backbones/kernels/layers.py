"""Folded layers in the layout of `blocks.cpp`, and their calls.

Shape legend: B batch, N tokens, P tokens before them, R room (padded P), D width, K key-value heads, E width of a head
padded to whole vectors, L layers.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from ..decoder import Rotation
from ..folding import FoldedWeights
from .build import LONG, POINTER, library
from .packing import address, by_parts, pack, padded, together

HIDDEN, MASKED = -3e38, -1e30
"""Added to the scores of padding, which has no weight even where all else is masked, and of masked tokens."""

Context = tuple[Tensor, Tensor]
"""Of tokens that came before, layer by layer: keys [L B K E R] and values [L B R K·E]."""


@dataclass(frozen=True)
class Sizes:
    """What the layers of one stack share; norm and MLP as `folding` makes them.

    Args:
        width, heads, kv_heads, head_width, inner: unpadded.
        centred: LayerNorm, not RMSNorm.
        gated: MLP with a gate.
        gelu: GELU in its tanh form, not SiLU.
        eps: of the norms.
    """

    width: int
    heads: int
    kv_heads: int
    head_width: int
    inner: int
    centred: bool
    gated: bool
    gelu: bool
    eps: float


class _Shape(ctypes.Structure):
    _fields_ = [
        *((n, LONG) for n in ("width", "heads", "kv_heads", "head_width", "half", "inner")),
        *((n, LONG) for n in ("centred", "gated", "gelu")),
        ("eps", ctypes.c_float),
    ]


_MATRICES = ("mix", "out", "up", "down")
_WEIGHTS = tuple(name for matrix in _MATRICES for name in (matrix, f"{matrix}_bias"))


class _Layer(ctypes.Structure):
    _fields_ = [
        *((n, POINTER) for n in (*_WEIGHTS, "old_keys", "old_values", "new_keys", "new_values")),
        ("crosses", LONG),
    ]


class _Call(ctypes.Structure):
    _fields_ = [
        *((n, LONG) for n in ("batch", "tokens", "old", "room", "offset", "new_room")),
        *((n, POINTER) for n in ("cos", "sin", "cross_cos", "cross_sin", "bias", "cross_bias")),
        *((n, LONG) for n in ("bias_batch", "bias_row", "last_stops")),
    ]


@dataclass(frozen=True)
class Call:
    """What the layers of one call read beside their weights. All tensors are contiguous and float32.

    Args:
        batch, tokens: B, N.
        bias: added to scores, [B or 1, N or 1, R + padded N].
        turns: rotation [B N E/2], None where nothing turns.
        cross_turns, cross_bias: the same of layers that cross; [B R].
        old: what came before, of the first `past` tokens.
        past: P.
        new: where keys and values go, `offset` tokens in.
        stops: of the last layer only those are made.
    """

    batch: int
    tokens: int
    bias: Tensor
    turns: Rotation | None = None
    cross_turns: Rotation | None = None
    cross_bias: Tensor | None = None
    old: Context | None = None
    past: int = 0
    new: Context | None = None
    offset: int = 0
    stops: bool = False

    def struct(self) -> _Call:
        rows, cross = self.turns or (None, None), self.cross_turns or (None, None)
        return _Call(
            batch=self.batch,
            tokens=self.tokens,
            old=self.past,
            room=0 if self.old is None else self.old[0].shape[-1],
            offset=self.offset,
            new_room=0 if self.new is None else self.new[0].shape[-1],
            cos=address(rows[0]),
            sin=address(rows[1]),
            cross_cos=address(cross[0]),
            cross_sin=address(cross[1]),
            bias=address(self.bias),
            cross_bias=address(self.cross_bias),
            bias_batch=self.bias[0].numel() if len(self.bias) > 1 else 0,
            bias_row=self.bias.shape[2] if self.bias.shape[1] > 1 else 0,
            last_stops=self.stops,
        )


class PackedBlocks:
    """A stack of layers.

    Args:
        weights: of each layer.
        crosses: which of them cross.
        sizes: what they share.
    """

    def __init__(self, weights: Sequence[FoldedWeights], crosses: Sequence[bool], sizes: Sizes) -> None:
        head, inner = padded(sizes.head_width), padded(sizes.inner)
        self.depth, self.sizes = len(weights), sizes
        self.shape = _Shape(
            width=sizes.width,
            heads=sizes.heads,
            kv_heads=sizes.kv_heads,
            head_width=head,
            half=sizes.head_width // 2,
            inner=inner,
            centred=sizes.centred,
            gated=sizes.gated,
            gelu=sizes.gelu,
            eps=sizes.eps,
        )
        packed, self._biases = [self._pack(w) for w in weights], [self._pad(w) for w in weights]
        # One behind the other in the order of reading: past the end of a matrix lies the next.
        held = iter(together([part for parts in packed for part in parts]))
        self._packed = [dict(zip(_MATRICES, held, strict=False)) for _ in weights]
        self._crosses = list(crosses)

    def context(self, batch: int, room: int) -> Context:
        """Empty."""
        pair = self.sizes.kv_heads * self.shape.head_width
        return torch.zeros(self.depth, batch, pair, room), torch.zeros(self.depth, batch, room, pair)

    def layers(self, call: Call) -> ctypes.Array[_Layer]:
        """Of one call; the caller keeps its tensors alive."""
        array = (_Layer * self.depth)()
        for i, crosses in enumerate(self._crosses):
            for name, weight in (self._packed[i] | self._biases[i]).items():
                setattr(array[i], name, address(weight))
            for which, context in (("old", call.old), ("new", call.new)):
                if context is not None:
                    setattr(array[i], f"{which}_keys", address(context[0][i]))
                    setattr(array[i], f"{which}_values", address(context[1][i]))
            array[i].crosses = crosses
        return array

    def run(self, x: Tensor, call: Call) -> None:
        """x: contiguous [B N padded D], changed in place."""
        struct = call.struct()
        library().blocks(ctypes.byref(self.shape), self.layers(call), self.depth, ctypes.byref(struct), address(x))

    def _pack(self, w: FoldedWeights) -> list[Tensor]:
        head, inner = (self.sizes.head_width, self.shape.head_width), (self.sizes.inner, self.shape.inner)
        return [
            pack(by_parts(w.mix, *head)),
            pack(by_parts(w.out.T, *head).T),
            pack(by_parts(w.up, *inner)),
            pack(by_parts(w.down.T, *inner).T),
        ]

    def _pad(self, w: FoldedWeights) -> dict[str, Tensor]:
        width = (self.sizes.width, padded(self.sizes.width))
        sizes = {
            "mix_bias": (self.sizes.head_width, self.shape.head_width),
            "out_bias": width,
            "up_bias": (self.sizes.inner, self.shape.inner),
            "down_bias": width,
        }
        biases = {name: getattr(w, name) for name in sizes}
        return {name: by_parts(bias, *sizes[name]) for name, bias in biases.items() if bias is not None}


def score_bias(old: Tensor | None, own: Tensor, room: int) -> Tensor:
    """bool [B · P] or None and bool [B · N], who is attended to → what is added to scores, [B · room + padded N]."""
    out = torch.full((*own.shape[:-1], room + padded(own.shape[-1])), HIDDEN)
    if old is not None:
        out[..., : old.shape[-1]] = torch.where(old, 0.0, MASKED)
    out[..., room : room + own.shape[-1]] = torch.where(own, 0.0, MASKED)
    return out


assert {f.name for f in fields(FoldedWeights)} == set(_WEIGHTS)
