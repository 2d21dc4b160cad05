"""A flow policy's inference over the kernels: `FoldedFlow` in single precision on one thread of a processor.

Shape legend: B batch, C cameras, L words, P prefix tokens, R room for them, H actions of a chunk, A action elements,
S state elements, D width, K key-value heads, E width of a head padded to whole vectors.
"""

from __future__ import annotations

import copy
import ctypes
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ...errors import SpecError
from ..decoder import DecoderLayer, Rotation, rotation
from ..expert import ExpertLayer
from ..flow import FlowExpert
from ..folding import eps_of, fold_layer, fold_sight, scale_of
from ..native import NativeVLM, Prefix
from ..prefix import PrefixEmbedding
from ..siglip import SiglipLayer, SiglipTower
from ..steps import step_constants
from .build import LONG, POINTER, library
from .layers import Call, Context, PackedBlocks, Sizes, score_bias
from .packing import KernelLinear, address, by_parts, pack, padded, widened


class _Flow(ctypes.Structure):
    _fields_ = [
        *((n, LONG) for n in ("steps", "actions")),
        *((n, POINTER) for n in ("enter", "times", "time_out", "time_bias", "leave", "leave_bias", "styles")),
    ]


class KernelTower(nn.Module):
    """`SiglipTower.forward` from bytes of the right size."""

    def __init__(self, tower: SiglipTower) -> None:
        super().__init__()
        self.patch, self.width, self.norm = tower.patch, tower.width, tower.norm
        weight = tower.embed.weight.permute(0, 2, 3, 1).flatten(1)
        assert tower.embed.bias is not None
        # Pixels stay 0 … 255: their scaling to [−1, 1] is part of the weights.
        self.embed = KernelLinear(weight / 127.5, None)
        self.places = widened((tower.places + tower.embed.bias - weight.sum(1)).detach())
        layers = [layer for layer in tower.layers if isinstance(layer, SiglipLayer)]
        first = layers[0]
        sizes = Sizes(
            width=tower.width,
            heads=first.heads,
            kv_heads=first.heads,
            head_width=tower.width // first.heads,
            inner=first.up.out_features,
            centred=True,
            gated=False,
            gelu=True,
            eps=first.enter.eps,
        )
        self.blocks = PackedBlocks([fold_sight(layer) for layer in layers], [False] * len(layers), sizes)
        self.bias = score_bias(None, torch.ones(1, 1, len(tower.places), dtype=torch.bool), 0)

    def forward(self, pixels: Tensor) -> Tensor:
        """[N h w 3] from 0 to 255 → [N M D]."""
        n, h, w, _ = pixels.shape
        p = self.patch
        x = pixels.view(n, h // p, p, w // p, p, 3).transpose(2, 3).reshape(-1, p * p * 3)
        x = self.embed(x.float()).unflatten(0, (n, -1)) + self.places
        self.blocks.run(x, Call(batch=n, tokens=x.shape[1], bias=self.bias))
        return self.norm(x[..., : self.width])


class KernelFlow:
    """Images, ids, mask, state and noise → actions, as `FoldedFlow`.

    Args:
        vlm, flow: what to fold; their weights are copied.
        steps: of Euler's method.
        count: H.

    Raises:
        ConfigError: where the kernels cannot be compiled.
    """

    @torch.no_grad()
    def __init__(self, vlm: NativeVLM, flow: FlowExpert, *, steps: int, count: int) -> None:
        vlm, flow = copy.deepcopy(vlm).eval().float(), copy.deepcopy(flow).eval().float()
        self.embedding = PrefixEmbedding(vlm, KernelTower(vlm.vision)).requires_grad_(False)
        self.language = packed_layers(vlm.decoder.blocks())
        self.step = KernelSteps(flow, steps, count)
        self._turn = (vlm.decoder.head_width, vlm.decoder.theta)

    @torch.no_grad()
    def __call__(self, images: Tensor, ids: Tensor, mask: Tensor, state: Tensor, noise: Tensor) -> Tensor:
        """images: [B C h w 3] from 0 to 255; ids, mask: [B L]; state: [B S]; noise: float32 [B H A]."""
        expected = (len(images), self.step.count, self.step.actions)
        if tuple(noise.shape) != expected:  # beyond here nothing checks where it reads
            raise SpecError("The noise has the wrong shape", expected=str(list(expected)), got=str(list(noise.shape)))
        prefix = self.embedding(images, ids, mask, state)
        return self.step(prefix, self.read(prefix), state, noise)

    def read(self, prefix: Prefix) -> Context:
        """Keys and values of the language model, with room for what the expert adds."""
        batch, tokens = prefix.mask.shape
        new = self.language.context(batch, padded(tokens + self.step.extra))
        call = Call(
            batch=batch,
            tokens=tokens,
            bias=score_bias(None, prefix.attend, 0),
            turns=turned(prefix.positions, *self._turn),
            new=new,
            stops=True,
        )
        self.language.run(widened(prefix.values), call)
        return new


class KernelSteps:
    """Euler steps of the expert, as many as wanted in one call."""

    def __init__(self, flow: FlowExpert, steps: int, count: int) -> None:
        expert, layers = flow.expert, flow.expert.blocks()
        self.flow, self.count, self.steps, self.actions = flow, count, steps, flow.size
        self.extra = 0 if flow.state is None else 1
        self.stride, self._turn = expert.stride, (expert.head_width, expert.theta)
        self.blocks = packed_layers(layers)
        self.crossing = [i for i, layer in enumerate(layers) if layer.crosses]
        self.project = self._projections([layers[i] for i in self.crossing])
        enter, times, styles = step_constants(flow, steps)
        mixes = flow.time == "token"
        self._held = {
            "enter": pack(enter),
            "times": widened(times),
            "time_out": pack(flow.time_out.weight) if mixes else None,
            "time_bias": widened(flow.time_out.bias.detach()) if mixes else None,
            "leave": pack(flow.leave.weight * scale_of(expert.norm)),
            "leave_bias": widened(flow.leave.bias.detach()),
            "styles": None if styles is None else widened(styles),
        }
        self._struct = _Flow(
            steps=steps, actions=flow.size, **{name: address(value) for name, value in self._held.items()}
        )

    def __call__(
        self, prefix: Prefix, context: Context, state: Tensor, x: Tensor, steps: range | None = None
    ) -> Tensor:
        """x: noise [B H A], or what the steps before made of it; steps: None is all; state: [B S]."""
        steps = steps or range(self.steps)
        mask, start = prefix.mask, prefix.positions.masked_fill(~prefix.mask, -1).amax(1) + 1
        context = self._chosen(context)
        if self.flow.state is not None:
            self._extend(self.flow.state(state)[:, None], mask, start, context)
            mask, start = torch.cat([mask, mask.new_ones(len(mask), 1)], 1), start + 1
        call = self._call(mask, start, context, self.flow.among(self.count, mask.device))
        x, struct = x.float().clone(memory_format=torch.contiguous_format), call.struct()
        library().denoise(
            ctypes.byref(self.blocks.shape),
            self.blocks.layers(call),
            self.blocks.depth,
            ctypes.byref(struct),
            ctypes.byref(self._struct),
            steps.start,
            steps.stop,
            address(x),
        )
        return x

    def _chosen(self, context: Context) -> Context:
        """What each layer attends to, a copy."""
        keys, values = (x[:: self.stride].clone(memory_format=torch.contiguous_format) for x in context)
        if self.crossing:
            for_keys, for_values = self.project
            keys[self.crossing] = for_keys @ keys[self.crossing]
            values[self.crossing] = values[self.crossing] @ for_values
        return keys, values

    def _extend(self, x: Tensor, mask: Tensor, start: Tensor, context: Context) -> None:
        """As `ActionExpert.extend`: the token's keys and values go behind the prefix, within its room."""
        own = torch.ones(1, 1, dtype=torch.bool)
        call = self._call(mask, start, context, own, new=context, offset=mask.shape[1])
        self.blocks.run(widened(x), call)

    def _call(
        self,
        mask: Tensor,
        start: Tensor,
        context: Context,
        own: Tensor,
        *,
        new: Context | None = None,
        offset: int = 0,
    ) -> Call:
        batch, count, room = len(mask), len(own), context[0].shape[-1]
        across = mask[:, None].expand(-1, count, -1)
        place = torch.arange(count)
        return Call(
            batch=batch,
            tokens=count,
            bias=score_bias(across, own.expand(batch, -1, -1), room),
            turns=turned(start[:, None] + place, *self._turn),
            cross_turns=turned(place.expand(batch, -1), *self._turn) if self.crossing else None,
            cross_bias=score_bias(mask, mask[:, :0], room) if self.crossing else None,
            old=context,
            past=mask.shape[1],
            new=new,
            offset=offset,
        )

    def _projections(self, layers: list[ExpertLayer]) -> tuple[Tensor, Tensor]:
        """[n 1 K·E K·E] each: of transposed keys from the left, of values from the right."""
        if not layers:
            return torch.empty(0), torch.empty(0)
        size = layers[0].attention.shape.head_width

        def widen(weight: Tensor) -> Tensor:
            return by_parts(by_parts(weight, size, padded(size)).T, size, padded(size)).T

        keys = torch.stack([widen(layer.attention.key.weight) for layer in layers])
        values = torch.stack([widen(layer.attention.value.weight).T for layer in layers])
        return keys[:, None], values[:, None]


def packed_layers(layers: Sequence[DecoderLayer] | Sequence[ExpertLayer]) -> PackedBlocks:
    """Layers of a language model or of an expert."""
    first = layers[0]
    shape = first.attention.shape
    sizes = Sizes(
        width=shape.width,
        heads=shape.heads,
        kv_heads=shape.kv_heads,
        head_width=shape.head_width,
        inner=shape.inner,
        centred=False,
        gated=True,
        gelu=first.feed.family == "gemma",
        eps=eps_of(first.enter),
    )
    crosses = [isinstance(layer, ExpertLayer) and layer.crosses for layer in layers]
    return PackedBlocks([fold_layer(layer) for layer in layers], crosses, sizes)


def turned(positions: Tensor, width: int, theta: float) -> Rotation:
    """int [B N] → cosines and sines [B N E/2], contiguous."""
    cos, sin = rotation(positions, width, theta)
    return cos[:, 0].contiguous(), sin[:, 0].contiguous()
