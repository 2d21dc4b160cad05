"""Weights in the order the kernels read them, padded by zeros to whole vectors of the processor."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .build import library


def together(parts: list[Tensor]) -> list[Tensor]:
    """Views of one block of memory."""
    return list(torch.cat(parts).split([len(p) for p in parts]))


class KernelLinear:
    """x Wᵀ + b on packed weights.

    Args:
        weight: [out in].
        bias: [out] or None.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self.outputs, self.inputs = weight.shape
        self.weight = pack(weight)
        self.bias = None if bias is None else by_parts(bias, self.outputs, padded(self.outputs))

    def __call__(self, x: Tensor) -> Tensor:
        """float [rows in] → [rows padded(out)], zero beyond `out`."""
        x, out = x.contiguous(), torch.empty(len(x), padded(self.outputs))
        pointers = address(self.weight), address(self.bias)
        library().linear(address(x), len(x), self.inputs, *pointers, self.outputs, address(out))
        return out


def padded(n: int) -> int:
    """Up to whole vectors of this processor."""
    lanes = int(library().lanes())
    return -(-n // lanes) * lanes


def pack(weight: Tensor) -> Tensor:
    """[out in] → what the kernels read."""
    weight = weight.detach().float().contiguous()
    outputs, inputs = weight.shape
    out = torch.empty(padded(outputs) * inputs)
    library().pack(address(weight), outputs, inputs, address(out))
    return out


def by_parts(x: Tensor, size: int, wanted: int) -> Tensor:
    """The first axis is parts of `size`; each is padded by zeros to `wanted`. Contiguous, float32, its own memory."""
    parts = x.detach().float().unflatten(0, (-1, size))
    out = parts.new_zeros(len(parts), wanted, *parts.shape[2:])
    out[:, :size] = parts
    return out.flatten(0, 1)


def widened(x: Tensor) -> Tensor:
    """[… D] → contiguous [… padded D]."""
    return nn.functional.pad(x, (0, padded(x.shape[-1]) - x.shape[-1])).contiguous()


def address(x: Tensor | None) -> int | None:
    return None if x is None else x.data_ptr()
