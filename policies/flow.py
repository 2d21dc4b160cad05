"""Flow matching: a learned velocity field carries noise to the chunk (Lipman et al. 2023; π0, Black et al. 2024).

Direction as in π0: t = 1 is noise, t = 0 is data; x_t = t·ε + (1 − t)·a and the target velocity is ε − a.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..vla.backbones import Backbone
from ..vla.backbones.trunk import Trunk, sinusoidal
from ..vla.contract import EnvSpec
from ..vla.learning.batch import Batch, masked_mean
from ..vla.learning.policy import TorchPolicy
from ..vla.normalize import NormStats


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
    """v(x, t | condition) over whole chunks [B H A]."""

    def __init__(self, *, chunk: int, actions: int, condition: int, width: int, depth: int) -> None:
        super().__init__()
        self.shape = (chunk, actions)
        self.time = nn.Sequential(nn.Linear(64, condition), nn.SiLU(), nn.Linear(condition, condition))
        self.enter = nn.Linear(chunk * actions, width)
        self.blocks = nn.ModuleList([ModulatedBlock(width, condition) for _ in range(depth)])
        self.leave = nn.Linear(width, chunk * actions)

    def forward(self, x: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        """x: [B H A]; t: [B]; condition: [B D]."""
        condition = nn.functional.silu(condition + self.time(sinusoidal(t, 64)))
        hidden = self.enter(x.flatten(1))
        for block in self.blocks:
            hidden = block(hidden, condition)
        return self.leave(hidden).unflatten(-1, self.shape)


def integrate(velocity: Callable[[Tensor, Tensor], Tensor], noise: Tensor, steps: int) -> Tensor:
    """Euler from t = 1 (noise [B …]) to t = 0 (data) in `steps` equal steps of dx/dt = v(x, t)."""
    x = noise
    for k in range(steps):
        t = torch.full((noise.shape[0],), 1 - k / steps, device=noise.device)
        x = x - velocity(x, t) / steps
    return x


class FlowPolicy(TorchPolicy):
    """backbone × flow-matching head.

    Args:
        spec, stats: the body, and the statistics its state and actions are normalised by.
        backbone: called with `spec=`; what the robot sees and is told. Runs once per chunk, not once per step.
        chunk: H, actions per chunk.
        hidden, depth: of the trunk.
        flow_width, flow_depth: of the velocity field.
        steps: Euler steps at inference.
    """

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
    ) -> None:
        super().__init__(spec=spec, stats=stats, chunk=chunk)
        self.backbone = backbone(spec=spec)
        self.trunk = Trunk(count=self.backbone.count, width=self.backbone.width, hidden=hidden, depth=depth)
        self.velocity = VelocityField(
            chunk=chunk, actions=spec.action_dim, condition=hidden, width=flow_width, depth=flow_depth
        )
        self.steps = steps

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
        error = (self.velocity(x, t, self.condition(batch)) - (noise - actions)).square()
        loss = masked_mean(error, ~batch["action.is_pad"])
        return loss, {"velocity_mse": loss.detach()}

    def predict(self, batch: Batch, rng: Sequence[np.random.Generator]) -> Tensor:
        condition = self.condition(batch)
        shape = (self.chunk, self.spec.action_dim)
        rows = np.stack([g.standard_normal(shape, dtype=np.float32) for g in rng])
        noise = torch.from_numpy(rows).to(condition.device)
        return integrate(lambda x, t: self.velocity(x, t, condition), noise, self.steps)
