"""Flow matching: a learned velocity field carries noise to the chunk (Lipman et al. 2023; π0, Black et al. 2024).

Direction as in π0: t = 1 is noise, t = 0 is data; x_t = t·ε + (1 − t)·a and the target velocity is ε − a.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from ..vla.backbones import Backbone
from ..vla.backbones.guidance import Schedule, plain
from ..vla.backbones.trunk import Trunk, sinusoidal
from ..vla.contract import ActionChunk, EnvSpec
from ..vla.learning.batch import Batch, masked_mean
from ..vla.learning.policy import TorchPolicy
from ..vla.normalize import NormStats
from .continuing import Continuation, Continuing, known


class ModulatedBlock(nn.Module):
    """Residual MLP whose norm is scaled, shifted and gated by the condition (adaLN-Zero, Peebles and Xie 2023)."""

    def __init__(self, width: int, condition: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.modulate = nn.Linear(condition, 3 * width)
        self.inner = nn.Linear(width, 2 * width)
        self.outer = nn.Linear(2 * width, width)
        nn.init.zeros_(self.modulate.weight)
        nn.init.zeros_(self.modulate.bias)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """x: [B W]; condition: [B D]."""
        scale, shift, gate = self.modulate(condition).chunk(3, dim=-1)
        inner = self.norm(x) * (1 + scale) + shift
        return x + gate * self.outer(nn.functional.silu(self.inner(inner)))


class VelocityField(nn.Module):
    """v(x, t | condition) over whole chunks [B H A].

    Args:
        own_times: also told the time of every action, so that some may be clean where the others are noisy.
    """

    def __init__(
        self, *, chunk: int, actions: int, condition: int, width: int, depth: int, own_times: bool = False
    ) -> None:
        super().__init__()
        self.shape = (chunk, actions)
        self.time = nn.Sequential(nn.Linear(64, condition), nn.SiLU(), nn.Linear(condition, condition))
        self.enter = nn.Linear(chunk * actions, width)
        self.blocks = nn.ModuleList([ModulatedBlock(width, condition) for _ in range(depth)])
        self.leave = nn.Linear(width, chunk * actions)
        self.enter_times = nn.Linear(chunk, width, bias=False) if own_times else None

    def forward(self, x: Tensor, t: Tensor, condition: Tensor, clean: Tensor | None = None) -> Tensor:
        """x: [B H A]; t: [B]; condition: [B D]; clean: bool [B H], actions whose own time is 0, none where None."""
        condition = nn.functional.silu(condition + self.time(sinusoidal(t, 64)))
        hidden = self.enter(x.flatten(1))
        if self.enter_times is not None:
            times = t[:, None].expand(x.shape[:2])
            hidden = hidden + self.enter_times(times if clean is None else torch.where(clean, 0.0, times))
        for block in self.blocks:
            hidden = block(hidden, condition)
        return self.leave(hidden).unflatten(-1, self.shape)


class FlowPolicy(TorchPolicy):
    """backbone × flow-matching head.

    Args:
        spec, stats: the body, and the statistics its state and actions are normalised by.
        backbone: called with `spec=`; what the robot sees and is told. Runs once per chunk, not once per step.
        chunk: H, actions per chunk.
        hidden, depth: of the trunk.
        flow_width, flow_depth: of the velocity field.
        steps: Euler steps at inference.
        guidance: how a chunk is made to continue the one in execution where the caller hands that one in as
            `prefix`: "exact" or "identity", the two forms of guided real-time chunking, or "trained", real-time
            chunking by a prefix the policy was trained with (Black et al. 2025, arXiv 2512.05964).
        schedule, guidance_limit: of guided real-time chunking, see `Guidance`. The paper's limit is 5, for 5 steps; a
            small policy of 10 steps picked worse with it (91 to 76 % of 200 episodes, by latency, against 99 to 83).
        longest_delay: the delay is drawn from 0 … this in training, and a longer one is cut to it; 0 trains none.

    """

    supports_prefix: ClassVar[bool] = True

    def __init__(
        self,
        *,
        spec: EnvSpec,
        stats: NormStats,
        backbone: Callable[..., Backbone],
        chunk: int = 16,
        hidden: int = 512,
        depth: int = 2,
        flow_width: int = 512,
        flow_depth: int = 3,
        steps: int = 10,
        guidance: Continuation = "exact",
        schedule: Schedule = "exp",
        guidance_limit: float = 2.0,
        longest_delay: int = 0,
    ) -> None:
        super().__init__(spec=spec, stats=stats, chunk=chunk)
        self.continuing = Continuing(
            chunk=chunk,
            guidance=guidance,
            schedule=schedule,
            guidance_limit=guidance_limit,
            longest_delay=longest_delay,
        )
        self.backbone = backbone(spec=spec)
        self.trunk = Trunk(count=self.backbone.count, width=self.backbone.width, hidden=hidden, depth=depth)
        self.velocity = VelocityField(
            chunk=chunk,
            actions=spec.action_dim,
            condition=hidden,
            width=flow_width,
            depth=flow_depth,
            own_times=longest_delay > 0,
        )
        self.steps = steps

    def continue_by(self, guidance: Continuation, limit: float | None = None) -> None:
        """Choose how a chunk continues the one in execution; a policy trained for it can also be guided."""
        self.continuing.choose(guidance, limit)

    def condition(self, batch: Batch) -> Tensor:
        """[B hidden]: everything the velocity field needs to know of the observation."""
        return self.trunk(self.backbone(self.images(batch), self.state(batch), batch["task"]))

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Any]]:
        """Mean squared velocity error over real actions; t ~ 0.999·Beta(1.5, 1) + 0.001 as in π0."""
        actions = self.actions(batch)
        # Beta(1.5, 1) has the closed-form quantile u^(2/3).
        u = torch.rand(actions.shape[0], device=actions.device)
        t = 0.999 * u ** (2 / 3) + 0.001
        noise = torch.randn_like(actions)
        x = t[:, None, None] * noise + (1 - t)[:, None, None] * actions
        asked, clean = ~batch["action.is_pad"], self.continuing.drawn(len(actions), actions.device)
        if clean is not None:
            x, asked = torch.where(clean[..., None], actions, x), asked & ~clean
        error = (self.velocity(x, t, self.condition(batch), clean) - (noise - actions)).square()
        loss = masked_mean(error, asked)
        return loss, {"velocity_mse": loss.detach()}

    def predict(
        self,
        batch: Batch,
        rng: Sequence[np.random.Generator],
        prefix: Sequence[ActionChunk | None] | None = None,
        delay: int = 0,
    ) -> Tensor:
        """Normalised actions [B H A]; action k of a `prefix` is for the moment of action k of the new chunk."""
        condition = self.condition(batch)
        shape = (self.chunk, self.spec.action_dim)
        rows = np.stack([g.standard_normal(shape, dtype=np.float32) for g in rng])
        noise = torch.from_numpy(rows).to(condition.device)
        old = known(prefix or [], delay, noise, self.get_buffer("action_shift"), self.get_buffer("action_scale"))
        if old is not None and self.continuing.differentiates:
            condition = plain(condition)
        return self.continuing.sample(lambda x, t, clean: self.velocity(x, t, condition, clean), noise, old, self.steps)
