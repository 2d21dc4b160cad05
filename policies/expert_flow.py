"""A vision-language model read once, and an expert that denoises a chunk of actions attending to it.

The shared body of π0, π0.5 and SmolVLA; direction as in `NoiseAtOne`: t = 1 is noise, t = 0 is data.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from ..vla.backbones.base import VLM
from ..vla.backbones.expert import ActionExpert, PrefixCache
from ..vla.backbones.flow import FlowExpert, NoiseAtOne
from ..vla.backbones.guidance import Prefix, Schedule, plain
from ..vla.backbones.inference import FastFlow
from ..vla.backbones.native import STATE, NativeVLM, padded
from ..vla.backbones.vlm import ComposedVLM
from ..vla.backbones.weights import require_same
from ..vla.contract import ActionChunk, EnvSpec
from ..vla.errors import ConfigError
from ..vla.learning.batch import Batch, masked_mean
from ..vla.learning.policy import TorchPolicy
from ..vla.normalize import NormStats
from .continuing import Continuation, Continuing, known

Frozen = Literal["nothing", "vision", "vlm"]


class ExpertFlowPolicy(TorchPolicy):
    """vision-language model × action expert.

    Args:
        spec, stats: the body, and the statistics its state and actions are normalised by.
        vlm: what the robot sees and is told; runs once per chunk, not once per step.
        expert: class or partial; the language model is filled in here.
        chunk: H, actions per chunk.
        steps: Euler steps at inference.
        room: what state and actions are padded to, so that one set of weights drives several bodies.
        state_in: where the state enters: a token of the "prefix", a token before the "actions", or the "text".
        time: as `FlowExpert` takes it.
        causal: an action attends to earlier ones alone.
        frozen: which weights training leaves alone: those of "vision", of the whole "vlm" but what embeds the state,
            or "nothing".
        guidance, schedule, guidance_limit, longest_delay: how a chunk continues the one in execution, see `Continuing`.
            It does so on the plain path, accelerated or not.
    """

    supports_prefix: ClassVar[bool] = True

    def __init__(
        self,
        *,
        spec: EnvSpec,
        stats: NormStats,
        vlm: VLM,
        expert: Callable[..., ActionExpert],
        chunk: int,
        steps: int,
        room: int,
        state_in: Literal["prefix", "actions", "text"],
        time: Literal["token", "norm"],
        causal: bool,
        frozen: Frozen,
        guidance: Continuation,
        schedule: Schedule,
        guidance_limit: float,
        longest_delay: int,
    ) -> None:
        super().__init__(spec=spec, stats=stats, chunk=chunk)
        self.continuing = Continuing(
            chunk=chunk,
            guidance=guidance,
            schedule=schedule,
            guidance_limit=guidance_limit,
            longest_delay=longest_delay,
        )
        self.vlm = vlm
        self.room, self.steps, self.frozen = room, steps, frozen
        self.state_in: Literal["prefix", "actions", "text"] = state_in
        self.flow = FlowExpert(
            expert=expert(language=vlm.language),
            actions=room,
            state=room if state_in == "actions" else 0,
            time=time,
            causal=causal,
        )
        for size, what in ((spec.state_dim, "state"), (spec.action_dim, "action")):
            if size > room:
                raise ConfigError(f"The {what} has no room", expected=f"≤ room = {room}", got=str(size))
        self._fast: FastFlow | None = None
        self._freeze()

    @abstractmethod
    def prompts(self, batch: Batch) -> list[str]:
        """What the language model is told, one string per row."""

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Any]]:
        """Mean squared velocity error over real actions and the body's own elements."""
        size = self.spec.action_dim
        actions = padded(self.actions(batch), self.room)
        t, noise = NoiseAtOne.sample_times(len(actions), actions.device), torch.randn_like(actions)
        x, asked = NoiseAtOne.point(actions, noise, t), ~batch["action.is_pad"]
        clean = self.continuing.drawn(len(actions), actions.device)
        if clean is not None:
            x, asked = torch.where(clean[..., None], actions, x), asked & ~clean
        predicted = self.flow(x, own_times(t, clean), self.read(batch))
        error = (predicted - NoiseAtOne.velocity(actions, noise)).square()[..., :size]
        loss = masked_mean(error, asked)
        return loss, {"velocity_mse": loss.detach()}

    def continue_by(self, guidance: Continuation, limit: float | None = None) -> None:
        """Choose how a chunk continues the one in execution; a policy trained for it can also be guided."""
        self.continuing.choose(guidance, limit)

    def predict(
        self,
        batch: Batch,
        rng: Sequence[np.random.Generator],
        prefix: Sequence[ActionChunk | None] | None = None,
        delay: int = 0,
    ) -> Tensor:
        """Normalised actions [B H A]; action k of a `prefix` is for the moment of action k of the new chunk."""
        shape = (self.chunk, self.room)
        rows = np.stack([g.standard_normal(shape, dtype=np.float32) for g in rng])
        noise = torch.from_numpy(rows).to(self.device)
        old = known(prefix or [], delay, noise, self.get_buffer("action_shift"), self.get_buffer("action_scale"))
        chunk = self.denoise(batch, noise) if old is None else self._continue(batch, noise, old)
        return chunk[..., : self.spec.action_dim]

    def _continue(self, batch: Batch, noise: Tensor, old: Prefix) -> Tensor:
        cache = self.read(batch)
        if self.continuing.differentiates:
            keys_values = tuple((plain(keys), plain(values)) for keys, values in cache.keys_values)
            cache = PrefixCache(keys_values, plain(cache.mask), plain(cache.start))
        return self.continuing.sample(
            lambda x, t, clean: self.flow(x, own_times(t, clean), cache), noise, old, self.steps
        )

    def denoise(self, batch: Batch, noise: Tensor) -> Tensor:
        """Noise [B H room] → normalised actions [B H room]; padding beyond the body's own elements means nothing."""
        if self._fast is None:
            return self.flow.sample(noise, self.read(batch), self.steps)
        return self._fast.predict(self.images(batch), self.prompts(batch), self._padded_state(batch), noise)

    def read(self, batch: Batch) -> PrefixCache:
        """What all denoising steps share of an observation."""
        state = self._padded_state(batch)
        extra: Mapping[str, Tensor] | None = None if self.state_in != "prefix" else {STATE: state[:, None]}
        prefix = self.vlm.prefix(self.images(batch), self.prompts(batch), extra)
        return self.flow.cache(prefix, state if self.state_in == "actions" else None)

    def accelerate(self, *, kernels: bool = False, compiled: bool = False, graph: bool = False) -> None:
        """Fold the present weights into the fast path of `FastFlow`; call it again after they change.

        Raises:
            ConfigError: for a VLM that is not made of plain PyTorch parts, and as `FastFlow` does.
        """
        if not isinstance(self.vlm, NativeVLM):
            raise ConfigError(
                "The fast path needs a model of plain PyTorch parts",
                expected="a NativeVLM as `vlm`",
                got=type(self.vlm).__name__,
            )
        self._fast = FastFlow(
            self.vlm,
            self.flow,
            steps=self.steps,
            count=self.chunk,
            kernels=kernels,
            compiled=compiled,
            graph=graph,
        )

    def take(self, weights: dict[str, Tensor], path: str | Path) -> None:
        """Replace all weights by those of a file, and drop the fast path of the old ones.

        Raises:
            CheckpointError: for a tensor that has no place here, is missing or has another shape.
        """
        require_same(self.state_dict(), weights, path)
        self.load_state_dict(weights)
        self._fast = None

    def train(self, mode: bool = True) -> ExpertFlowPolicy:
        """Folded weights would not follow the training: they are dropped."""
        if mode:
            self._fast = None
        super().train(mode)
        return self

    def _padded_state(self, batch: Batch) -> Tensor:
        return padded(self.state(batch), self.room)

    def _freeze(self) -> None:
        if self.frozen == "nothing":
            return
        if not isinstance(self.vlm, NativeVLM | ComposedVLM):
            raise ConfigError(
                "This VLM does not say what its parts are",
                expected="a NativeVLM or a ComposedVLM",
                got=type(self.vlm).__name__,
                run="set `frozen: nothing`, or freeze it within its own recipe",
            )
        self.vlm.requires_grad_(self.frozen != "vlm")
        self.vlm.vision.requires_grad_(False)
        senses = self.vlm.state if isinstance(self.vlm, NativeVLM) else self.vlm.modalities
        if senses is not None:
            senses.requires_grad_(True)


def own_times(t: Tensor, clean: Tensor | None) -> Tensor:
    """t [B], or [B H] with 0 for the actions that are clean."""
    return t if clean is None else torch.where(clean, 0.0, t[:, None])
