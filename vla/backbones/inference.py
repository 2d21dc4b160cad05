"""The fast path of a flow policy: a static prefix cache, folded weights, kernels, compiled or captured as a whole.

In single precision each form equals the plain path (`FlowExpert.sample` over `NativeVLM.prefix`) to 1e-4.

Shape legend: B batch, C cameras, L words, P prefix tokens, H actions of a chunk, A action elements, S state elements.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import torch
import torch._inductor.config as inductor
from torch import Tensor, nn

from ..errors import ConfigError
from .base import KeysValues, PureModule, Sequenced
from .capture import CapturedGraph
from .decoder import Rotation, rotation
from .flow import FlowExpert
from .folding import FoldedLayer, FoldedTower, bias_of, eps_of, scale_of
from .kernels.flow import KernelFlow
from .native import NativeVLM
from .packed import PackedLinear
from .prefix import PrefixEmbedding
from .siglip import letterbox
from .steps import StepConstants, step_constants

Static = tuple[KeysValues, Tensor, Tensor, Rotation]
"""Of a prefix: keys and values [B K P E] of every expert layer, biases of shared and of cross-attention, rotation."""


class FoldedReader(PureModule):
    """Images, words and state → what every denoising step reads. Of the last layer only keys and values are made."""

    def __init__(self, vlm: NativeVLM, flow: FlowExpert, count: int, *, apart: bool) -> None:
        super().__init__()
        self.embedding = PrefixEmbedding(vlm, FoldedTower(vlm.vision))
        rows = 2 * vlm.connector.count(vlm.vision.grid(0, 0))
        self.layers = nn.ModuleList(FoldedLayer(layer, rows, apart=apart) for layer in vlm.decoder.blocks())
        self.flow, self.count = flow, count
        self.head = (vlm.decoder.head_width, vlm.decoder.theta)

    def forward(self, images: Tensor, ids: Tensor, mask: Tensor, state: Tensor) -> Static:
        """images: [B C h w 3] from 0 to 255; ids, mask: [B L]; state: [B S]."""
        found = self.embedding(images, ids, mask, state)
        keys_values = self._decode(found.values, rotation(found.positions, *self.head), bias_of(found.attend))
        prefix = Sequenced(found.values, found.mask, found.positions, keys_values)
        return self._static(prefix, state.to(found.values.dtype))

    def _decode(self, x: Tensor, by: Rotation, bias: Tensor) -> KeysValues:
        out: list[tuple[Tensor, Tensor]] = []
        for i, layer in enumerate(self.layers):
            assert isinstance(layer, FoldedLayer)
            queries, keys, values = layer.project(layer.norm(x), by)
            out.append((keys, values))
            if i + 1 < len(self.layers):
                x = layer.out.plus(layer.attend(queries, keys, values, bias), x)
                x = layer.mlp(layer.norm(x), x)
        return tuple(out)

    def _static(self, prefix: Sequenced, state: Tensor) -> Static:
        cache = self.flow.cache(prefix, state if self.flow.state is not None else None)
        own = self.flow.among(self.count, state.device)
        across = cache.mask[:, None].expand(-1, self.count, -1)
        shared = torch.cat([across, own.expand(len(across), -1, -1)], -1)
        places = cache.start[:, None] + torch.arange(self.count, device=state.device)
        return cache.keys_values, bias_of(shared), bias_of(across), rotation(places, *self.head)


class FoldedStep(PureModule):
    """One Euler step of the expert; what depends on the time alone is made at load time."""

    def __init__(self, flow: FlowExpert, steps: int, count: int, constants: StepConstants, *, apart: bool) -> None:
        super().__init__()
        dtype = flow.leave.weight.dtype
        self.layers = nn.ModuleList(FoldedLayer(layer, count, apart=apart) for layer in flow.expert.blocks())
        self.eps, self.size = eps_of(flow.expert.norm), 1 / steps
        self.styles: Tensor | None
        enter, times, styles = constants
        self.enter = PackedLinear(enter.to(dtype), None, rows=count)
        self.register_buffer("times", times.to(dtype), persistent=False)
        self.register_buffer("styles", None if styles is None else styles.to(dtype), persistent=False)
        mixes = flow.time == "token"
        self.time_out = PackedLinear(flow.time_out.weight, flow.time_out.bias, rows=count) if mixes else None
        self.leave = PackedLinear(flow.leave.weight * scale_of(flow.expert.norm), flow.leave.bias, rows=count)
        place = torch.arange(count, device=flow.leave.weight.device)[None]
        cos, sin = rotation(place, flow.expert.head_width, flow.expert.theta)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)

    def forward(self, x: Tensor, static: Static, when: Tensor, style: Tensor | None) -> Tensor:
        """x: [B H A]; when: [W], the time's part of the tokens; style: [2·layers + 1, 3, W] or None."""
        keys_values, shared, across, by = static
        h = when + self.enter(x.to(when.dtype))
        if self.time_out is not None:
            h = self.time_out(nn.functional.silu(h))
        own = (self.get_buffer("cos"), self.get_buffer("sin"))
        for i, layer in enumerate(self.layers):
            assert isinstance(layer, FoldedLayer)
            keys, values = keys_values[i]
            normed = styled(layer.norm(h), style, 2 * i)
            queries, more_keys, more_values = layer.project(normed, own if layer.crosses else by)
            if not layer.crosses:
                keys, values = torch.cat([keys, more_keys], 2), torch.cat([values, more_values], 2)
            found = layer.attend(queries, keys, values, across if layer.crosses else shared)
            if style is None:
                h = layer.out.plus(found, h)
                h = layer.mlp(layer.norm(h), h)
            else:
                h = h + layer.out(found) * style[2 * i, 2]
                h = h + layer.mlp(styled(layer.norm(h), style, 2 * i + 1), None) * style[2 * i + 1, 2]
        h = styled(nn.functional.rms_norm(h, h.shape[-1:], eps=self.eps), style, 2 * len(self.layers))
        return x - self.size * self.leave(h).to(x.dtype)


class FoldedFlow(nn.Module):
    """Images, ids, mask, state and noise → actions; tensors alone, all shapes static.

    Args:
        vlm, flow: what to fold; their weights are copied.
        steps: of Euler's method.
        count: H.
        dtype: of weights and arithmetic; softmax and the integration stay in single precision.
        apart: as `FoldedMLP` takes it.
    """

    def __init__(
        self, vlm: NativeVLM, flow: FlowExpert, *, steps: int, count: int, dtype: torch.dtype, apart: bool = True
    ) -> None:
        super().__init__()
        with torch.no_grad():
            vlm, flow = copy.deepcopy(vlm).eval().float(), copy.deepcopy(flow).eval().float()
            constants = step_constants(flow, steps)
            self.reader = FoldedReader(vlm.to(dtype), flow.to(dtype), count, apart=apart)
            self.step = FoldedStep(flow, steps, count, constants, apart=apart)
        self.requires_grad_(False)

    def forward(self, images: Tensor, ids: Tensor, mask: Tensor, state: Tensor, noise: Tensor) -> Tensor:
        """images: [B C h w 3] from 0 to 255; ids, mask: [B L]; state: [B S]; noise: float32 [B H A]."""
        static = self.reader(images, ids, mask, state)
        styles, x = self.step.styles, noise
        for k, when in enumerate(self.step.get_buffer("times")):
            x = self.step(x, static, when, None if styles is None else styles[k])
        return x


class FastFlow:
    """A flow policy's inference over folded weights.

    Args:
        vlm, flow: the plain modules; later changes of their weights are not followed.
        steps, count: Euler steps; H.
        dtype: None is single precision on a CPU and bfloat16 elsewhere.
        kernels: on a CPU, run whole layers as one function of our own: the fastest form in single precision on one
            thread; a few seconds of a C++ compiler at the first use on a machine.
        compiled: fuse with `torch.compile`: a minute at the first call of a shape, then fewer, larger kernels.
        graph: on CUDA, capture the whole call (vision, language, all steps) as one graph for each shape of the inputs.

    Attributes:
        folded: the modules that run; kernels have none.

    Raises:
        ConfigError: for a graph without CUDA, and for kernels with anything but single precision on a CPU, with
            another form or without a compiler.
    """

    def __init__(
        self,
        vlm: NativeVLM,
        flow: FlowExpert,
        *,
        steps: int,
        count: int,
        dtype: torch.dtype | None = None,
        kernels: bool = False,
        compiled: bool = False,
        graph: bool = False,
    ) -> None:
        device = flow.leave.weight.device
        dtype = dtype or (torch.float32 if device.type == "cpu" else torch.bfloat16)
        self._vlm = vlm
        self._kernels: KernelFlow | None = None
        if kernels:
            _require_alone(device, dtype, compiled or graph)
            self._kernels = KernelFlow(vlm, flow, steps=steps, count=count)
            return
        self.folded = FoldedFlow(vlm, flow, steps=steps, count=count, dtype=dtype, apart=not compiled)
        if compiled:
            for module in (self.folded.reader, self.folded.step):
                module.compile(fullgraph=True, dynamic=False)
        self._graph = CapturedGraph(self.folded, device) if graph else None

    @torch.no_grad()
    def __call__(self, images: Tensor, ids: Tensor, mask: Tensor, state: Tensor, noise: Tensor) -> Tensor:
        """As `FoldedFlow.forward`."""
        if self._kernels is not None:
            return self._kernels(images, ids, mask, state, noise)
        call = self._graph or self.folded
        # Frozen weights are constants to the compiler; packed ones can be nothing else.
        with inductor.patch(freezing=images.device.type == "cpu"):
            return call(images, ids, mask, state, noise)

    def predict(self, images: Mapping[str, Tensor], prompts: Sequence[str], state: Tensor, noise: Tensor) -> Tensor:
        """camera → uint8 [B h w 3], B prompts, state [B S] and noise [B H A] → actions [B H A]."""
        size = self._vlm.vision.size
        views = torch.stack([fitted(view, size) for view in images.values()], 1)
        ids, mask = self._vlm.tell(prompts)
        return self(views, ids, mask, state, noise)


def _require_alone(device: torch.device, dtype: torch.dtype, other: bool) -> None:
    if device.type != "cpu" or dtype != torch.float32 or other:
        got = f"{device.type}, {str(dtype).removeprefix('torch.')}{', compiled or a graph' if other else ''}"
        raise ConfigError(
            "The kernels stand for themselves, in single precision on a CPU",
            expected="cpu, float32, neither compiled nor a graph",
            got=got,
            run="leave `kernels` off here",
        )


def fitted(images: Tensor, size: int) -> Tensor:
    """uint8 [B h w 3] → [B size size 3] from 0 to 255: bytes as they are where the size fits, else letter-boxed."""
    if images.shape[1:3] == (size, size):
        return images
    return (letterbox(images, size).permute(0, 2, 3, 1) + 1) * 127.5


def styled(x: Tensor, style: Tensor | None, i: int) -> Tensor:
    """The i-th modulated norm's scale and shift."""
    return x if style is None else x * style[i, 0] + style[i, 1]
