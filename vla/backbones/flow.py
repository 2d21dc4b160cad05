"""Flow matching of action chunks by an expert that attends to a prefix.

Shape legend: B batch, H actions of a chunk, A action elements, W width.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from ..errors import ConfigError
from .base import Sequenced
from .expert import ActionExpert, PrefixCache

SHORTEST, LONGEST = 4e-3, 4.0


class NoiseAtOne:
    """The straight path between data at t = 0 and noise at t = 1, the direction of π0 (Lipman et al. 2023).

    x_t = t·ε + (1 − t)·a, and the velocity dx/dt is ε − a. Others run the opposite way; this type says which.
    """

    @staticmethod
    def point(actions: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """x_t for t [B] and chunks [B H A]."""
        return t[:, None, None] * noise + (1 - t[:, None, None]) * actions

    @staticmethod
    def velocity(actions: Tensor, noise: Tensor) -> Tensor:
        return noise - actions

    @staticmethod
    def sample_times(count: int, device: torch.device | None = None) -> Tensor:
        """t [B] ~ 0.999·Beta(1.5, 1) + 0.001; Beta(1.5, 1) has the closed-form quantile u^(2/3)."""
        return 0.999 * torch.rand(count, device=device) ** (2 / 3) + 0.001

    @staticmethod
    def times(steps: int) -> list[float]:
        """Where Euler's method evaluates the velocity, from noise to data."""
        return [1 - k / steps for k in range(steps)]

    @classmethod
    def integrate(cls, velocity: Callable[[Tensor, Tensor], Tensor], noise: Tensor, steps: int) -> Tensor:
        """Euler's method from noise [B …] at t = 1 to data at t = 0, with dx/dt = velocity(x, t [B])."""
        x = noise
        for t in cls.times(steps):
            x = x - velocity(x, torch.full((len(x),), t, device=x.device)) / steps
        return x


def time_features(t: Tensor, width: int) -> Tensor:
    """[B] → [B width]: sines, then cosines of t at log-spaced periods from 4e-3 to 4 (π0).

    In double precision: at the shortest period a step is hundreds of turns, and an angle in single precision would
    differ between machines.
    """
    fraction = torch.linspace(0, 1, width // 2, dtype=torch.float64, device=t.device)
    angle = t.double()[:, None] * (2 * torch.pi / (SHORTEST * (LONGEST / SHORTEST) ** fraction))
    return torch.cat([angle.sin(), angle.cos()], -1).float()


class FlowExpert(nn.Module):
    """v(x_t, t | prefix) over a chunk of noisy actions, in the direction of `NoiseAtOne`.

    Args:
        expert: the action expert.
        actions: A, what actions are padded to.
        state: what the state is padded to where it is a token before the actions (π0); 0 has none.
        time: "token": mixed into each action token by an MLP (π0, SmolVLA); "norm": modulates the norms (π0.5).
        causal: an action attends to earlier ones alone (SmolVLA), not to all (π0).
    """

    def __init__(
        self,
        *,
        expert: ActionExpert,
        actions: int,
        state: int = 0,
        time: Literal["token", "norm"] = "token",
        causal: bool = False,
    ) -> None:
        super().__init__()
        width = expert.width
        if (time == "norm") != bool(expert.condition):
            raise ConfigError(
                "The expert and the flow disagree on where time enters",
                expected="time: norm with an expert that has a condition, time: token with one that has none",
                got=f"time: {time}, condition: {expert.condition}",
            )
        self.expert, self.causal, self.size = expert, causal, actions
        self.time: Literal["token", "norm"] = time
        self.enter = nn.Linear(actions, width)
        self.time_in = nn.Linear(2 * width if time == "token" else width, width)
        self.time_out = nn.Linear(width, width)
        self.leave = nn.Linear(width, actions)
        self.state = nn.Linear(state, width) if state else None

    def cache(self, prefix: Sequenced, state: Tensor | None = None) -> PrefixCache:
        """What all denoising steps share; state: float [B S], padded, where it is a token of this expert."""
        cache = self.expert.cache(prefix)
        if self.state is None:
            return cache
        if state is None:
            raise ConfigError("The state enters the expert as a token", expected="float [B S]", got="None")
        return self.expert.extend(cache, self.state(state)[:, None])

    def forward(self, x: Tensor, t: Tensor, cache: PrefixCache) -> Tensor:
        """Noisy actions [B H A] at times [B], or [B H] where each has its own, → velocity [B H A]."""
        tokens, condition = self.embed(x, t)
        return self.leave(self.expert(tokens, cache, self.among(x.shape[1], x.device), condition))

    def embed(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor | None]:
        """Tokens [B H W] and, where time modulates the norms, the condition [B W] or [B H W]."""
        actions, when = self.enter(x), time_features(t.flatten(), self.expert.width).to(x.dtype).unflatten(0, t.shape)
        silu = nn.functional.silu
        if self.time == "norm":
            return actions, silu(self.time_out(silu(self.time_in(when))))
        when = when[:, None] if when.ndim == 2 else when
        both = torch.cat([actions, when.expand_as(actions)], -1)
        return self.time_out(silu(self.time_in(both))), None

    def among(self, count: int, device: torch.device) -> Tensor:
        """bool [H H]: which actions an action attends to."""
        every = torch.ones(count, count, dtype=torch.bool, device=device)
        return every.tril() if self.causal else every

    def sample(self, noise: Tensor, cache: PrefixCache, steps: int) -> Tensor:
        """Noise [B H A] → actions: Euler's method with the prefix read from the cache at every step."""
        return NoiseAtOne.integrate(lambda x, t: self(x, t, cache), noise, steps)
