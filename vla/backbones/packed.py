"""Linear layers whose weights are laid out once for the processor's own kernels.

On a CPU the default matrix product packs its right-hand side anew at every call and, on processors that are not
Intel's, leaves the widest vector unit idle; oneDNN does neither, and adds or multiplies what follows while the result
is still in registers. The arithmetic stays that of the weights' type, single precision or bfloat16.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

Activation = Literal["none", "silu", "gelu_tanh"]

_ONEDNN: dict[Activation, tuple[str, str]] = {
    "none": ("none", ""),
    "silu": ("swish", ""),
    "gelu_tanh": ("gelu", "tanh"),
}


SMALL = 1 << 14
"""Below so many elements the call of a kernel costs more than its packing saves."""


def can_pack(weight: Tensor) -> bool:
    """Whether oneDNN has kernels for this tensor here, and whether they are worth their call."""
    if weight.numel() < SMALL:
        return False
    kinds = (torch.float32, torch.bfloat16)
    return weight.device.type == "cpu" and weight.dtype in kinds and torch.backends.mkldnn.is_available()


class PackedLinear(nn.Module):
    """activation(x Wᵀ + b), or x Wᵀ + b added to or multiplied by another tensor.

    Args:
        weight: [out in].
        bias: [out] or None.
        rows: how many rows an input will have, a hint for the layout.
        activation: of the plain call.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, *, rows: int, activation: Activation = "none") -> None:
        super().__init__()
        self.activation: Activation = activation
        self.bias = None if bias is None else nn.Parameter(bias.detach().clone(), requires_grad=False)
        plain = weight.detach().clone().contiguous()
        self.packed = can_pack(weight)
        # A packed layout is opaque: it can be neither moved nor saved, so it is no parameter.
        self.weight = torch.ops.mkldnn._reorder_linear_weight(plain, rows) if self.packed else nn.Buffer(plain)

    def forward(self, x: Tensor) -> Tensor:
        if self.packed:
            name, algorithm = _ONEDNN[self.activation]
            return torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, name, [], algorithm)
        return activated(nn.functional.linear(x, self.weight, self.bias), self.activation)

    def plus(self, x: Tensor, other: Tensor) -> Tensor:
        """x Wᵀ + b + other."""
        if torch.compiler.is_compiling():
            # The compiler fuses the sum with what follows. The product comes last because inductor takes
            # "product + x" for a bias of weights that it packed itself.
            return other + self(x)
        if self.packed:
            return torch.ops.mkldnn._linear_pointwise.binary(x, other, self.weight, self.bias, "add")
        return other + self(x)

    def times(self, x: Tensor, other: Tensor) -> Tensor:
        """(x Wᵀ + b) · other."""
        if torch.compiler.is_compiling():
            return self(x) * other
        if self.packed:
            return torch.ops.mkldnn._linear_pointwise.binary(x, other, self.weight, self.bias, "mul")
        return self(x) * other


def activated(x: Tensor, activation: Activation) -> Tensor:
    if activation == "none":
        return x
    return nn.functional.silu(x) if activation == "silu" else nn.functional.gelu(x, approximate="tanh")
