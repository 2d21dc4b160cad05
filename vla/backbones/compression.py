"""Weight-only compression of linear maps: int8 and FP8 through torchao, int4 with torch's own packed kernel on CPUs.

A model is compressed after its weights are loaded; checkpoints hold full weights. Gradients pass through to the
inputs of compressed maps, not to their weights; adapters (`adapters.LoRA`) are applied before compressing.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..errors import ConfigError

Kind = Literal["int8", "int4", "fp8"]
_HEADS = ("head", "lm_head")


@dataclass(frozen=True)
class Compressed:
    """What `compress` did.

    Args:
        names: of the maps that were compressed.
        kept: names of those that stay, because their sizes do not suit the kernel.
        before, after: bytes of all weights and buffers of the module.
    """

    names: tuple[str, ...]
    kept: tuple[str, ...]
    before: int
    after: int


def compress(module: nn.Module, kind: Kind, *, group: int = 32) -> Compressed:
    """Compress the weights of every linear map in a module but its output head, in place.

    Args:
        kind: "int8", one scale per output; "int4", a scale and an offset per `group` inputs; "fp8" (e4m3), on GPUs
            of compute capability 8.9 and more.
        group: of int4; 32, 64 or 128.

    Raises `ConfigError` if torchao is not installed or the device cannot compute with that kind.
    """
    linear = {
        name: part
        for name, part in module.named_modules()
        if isinstance(part, nn.Linear) and name.rpartition(".")[2] not in _HEADS and "lora_" not in name
    }
    device = next((m.weight.device.type for m in linear.values()), "cpu")
    names = [name for name, part in linear.items() if kind != "int4" or _fits_int4(part, group)]
    before = stored_bytes(module)
    if kind == "int4" and device == "cpu":
        for name in names:
            parent = module.get_submodule(name.rpartition(".")[0])
            setattr(parent, name.rpartition(".")[2], Int4Linear(linear[name], group=group))
    else:
        settings, quantize = _torchao(kind, group, device)
        quantize(module, settings, filter_fn=lambda _, name: name in names)
    for name in names:
        module.get_submodule(name).requires_grad_(False)
    return Compressed(tuple(names), tuple(n for n in linear if n not in names), before, stored_bytes(module))


def stored_bytes(module: nn.Module) -> int:
    """Bytes of a module's parameters and buffers as they are stored, shared ones once."""
    tensors = {id(t): t for t in (*module.parameters(), *module.buffers())}
    return sum(_bytes(t) for t in tensors.values())


class Int4Linear(nn.Module):
    """A linear map whose weights are 4-bit codes: ŵ = (code − 8) · scale + offset, |ŵ − w| ≤ scale / 2.

    Args:
        linear: what it replaces.
        group: inputs that share a scale and an offset.
    """

    def __init__(self, linear: nn.Linear, *, group: int) -> None:
        super().__init__()
        codes, scales = quantize_int4(linear.weight.detach(), group)
        self.group = group
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.codes: Tensor
        self.scales: Tensor
        self.register_buffer("codes", torch.ops.aten._convert_weight_to_int4pack_for_cpu(codes, 1))
        self.register_buffer("scales", scales.to(linear.weight.dtype))
        self.bias: nn.Parameter | None = linear.bias

    def forward(self, x: Tensor) -> Tensor:
        y = _Int4Product.apply(x.flatten(0, -2), self.codes, self.scales, self.group)
        y = y.unflatten(0, x.shape[:-1])
        return y if self.bias is None else y + self.bias


class _Int4Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, codes: Tensor, scales: Tensor, group: int) -> Tensor:
        ctx.save_for_backward(codes, scales)
        ctx.group = group
        return torch.ops.aten._weight_int4pack_mm_for_cpu(x.contiguous(), codes, group, scales)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> tuple[Tensor | None, ...]:
        codes, scales = ctx.saved_tensors
        width = scales.shape[0] * ctx.group
        # The packing differs between CPUs; what the kernel makes of the identity is the transposed weight on all.
        identity = torch.eye(width, dtype=scales.dtype)
        weight = torch.ops.aten._weight_int4pack_mm_for_cpu(identity, codes, ctx.group, scales)
        return grad_outputs[0] @ weight.T, None, None, None


def _fits_int4(linear: nn.Linear, group: int) -> bool:
    return linear.in_features % group == 0 and linear.out_features % 16 == 0


def quantize_int4(weight: Tensor, group: int) -> tuple[Tensor, Tensor]:
    """float [O I] → codes int32 [O I] of 0…15, scales and offsets [I/group O 2], from each group's least and most."""
    grouped = weight.float().unflatten(1, (-1, group))
    least, most = grouped.amin(-1, keepdim=True), grouped.amax(-1, keepdim=True)
    scale = ((most - least) / 15).clamp(min=1e-8)
    codes = ((grouped - least) / scale).round().clamp(0, 15).to(torch.int32).flatten(1)
    both = torch.cat([scale, least + 8 * scale], -1)
    return codes, both.transpose(0, 1).contiguous()


def _torchao(kind: Kind, group: int, device: str) -> tuple[Any, Any]:
    try:
        ao: Any = importlib.import_module("torchao.quantization")
    except ImportError as error:
        raise ConfigError("Compression needs torchao", got=str(error), run="pip install torchao") from error
    if kind == "int8":
        return ao.Int8WeightOnlyConfig(), ao.quantize_
    if kind == "int4":
        return ao.Int4WeightOnlyConfig(group_size=group, int4_packing_format="tile_packed_to_4d"), ao.quantize_
    if device != "cuda" or torch.cuda.get_device_capability() < (8, 9):
        raise ConfigError(
            "FP8 needs a GPU that computes with it",
            expected="CUDA, compute capability ≥ 8.9 (Ada, Hopper, Blackwell)",
            got=device,
            exists=("int8", "int4"),
        )
    return ao.Float8DynamicActivationFloat8WeightConfig(), ao.quantize_


def _bytes(tensor: Tensor) -> int:
    if type(tensor) in (Tensor, nn.Parameter):
        return tensor.numel() * tensor.element_size()
    names, _ = tensor.__tensor_flatten__()  # pyright: ignore[reportAttributeAccessIssue]
    return sum(_bytes(getattr(tensor, name)) for name in names)
