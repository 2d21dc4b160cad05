"""How the chunk of a flow policy continues the one in execution: real-time chunking, guided or trained.

Direction as in `NoiseAtOne`: t = 1 is noise, t = 0 is data. Shape legend: B batch, H actions of a chunk, A elements.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from ..vla.backbones.flow import NoiseAtOne
from ..vla.backbones.guidance import Guidance, Prefix, Schedule
from ..vla.contract import ActionChunk
from ..vla.errors import ConfigError, SpecError

Continuation = Literal["exact", "identity", "trained"]
Velocity = Callable[[Tensor, Tensor, Tensor | None], Tensor]
"""(x [B H A], t [B], clean: bool [B H], actions whose own time is 0, or None) → dx/dt [B H A]."""


class Continuing:
    """The sampler of a policy that may be told what is in execution.

    Args:
        chunk: H.
        guidance: "exact" or "identity", the two forms of guided real-time chunking (Black, Galliker and Levine 2025),
            or "trained", by a prefix the policy was trained with (Black et al. 2025, arXiv 2512.05964).
        schedule, guidance_limit: of guided real-time chunking, see `Guidance`.
        longest_delay: the delay is drawn from 0 … this in training, and a longer one is cut to it; 0 trains none.

    Raises:
        ConfigError: for a delay beyond the chunk, and for a trained prefix without training.
    """

    def __init__(
        self, *, chunk: int, guidance: Continuation, schedule: Schedule, guidance_limit: float, longest_delay: int
    ) -> None:
        if not 0 <= longest_delay < chunk:
            raise ConfigError("'longest_delay' is out of range", expected=f"0 … {chunk - 1}", got=str(longest_delay))
        self.chunk, self.longest_delay = chunk, longest_delay
        self._schedule: Schedule = schedule
        self._limit = guidance_limit
        self.choose(guidance)

    def choose(self, guidance: Continuation, limit: float | None = None) -> None:
        """A policy trained with a prefix can also be guided; `limit` instead of its own `guidance_limit`."""
        if guidance != "trained":
            self._guidance = Guidance(guidance, self._schedule, self._limit if limit is None else limit)
            return
        if not self.longest_delay:
            raise ConfigError(
                "This policy was not trained with a prefix",
                expected="guidance exact or identity",
                run="wayhand train … policy.guidance=trained policy.longest_delay=4",
            )
        self._guidance = None

    @property
    def differentiates(self) -> bool:
        """Whether what the velocity reads must be tensors that autograd may save (`guidance.plain`)."""
        return self._guidance is not None and self._guidance.jacobian == "exact"

    def drawn(self, rows: int, device: torch.device) -> Tensor | None:
        """bool [B H]: the actions that are given in training, by a delay drawn for every row; None trains none."""
        if not self.longest_delay:
            return None
        delays = torch.randint(self.longest_delay + 1, (rows, 1), device=device)
        return torch.arange(self.chunk, device=device) < delays

    def sample(self, velocity: Velocity, noise: Tensor, old: Prefix | None, steps: int) -> Tensor:
        """Noise [B H A] → a chunk that continues `old`, or any where that is None."""

        def alone(x: Tensor, t: Tensor) -> Tensor:
            return velocity(x, t, None)

        if old is None:
            return NoiseAtOne.integrate(alone, noise, steps)
        if self._guidance is not None:
            return NoiseAtOne.integrate(self._guidance.guide(alone, old), noise, steps)
        clean = old.committed(self.longest_delay)
        keep = clean[..., None]

        def given(x: Tensor, t: Tensor) -> Tensor:
            return velocity(torch.where(keep, old.actions, x), t, clean)

        return torch.where(keep, old.actions, NoiseAtOne.integrate(given, noise, steps))


def known(
    chunks: Sequence[ActionChunk | None], delay: int, like: Tensor, shift: Tensor, scale: Tensor
) -> Prefix | None:
    """What is in execution, normalised and padded to `like` [B H ·]; None where nothing is.

    Args:
        chunks: in raw units, one or None for each row; action k is for the moment of action k of the new chunk.
        delay: actions of it that are executed before the new chunk arrives.
        shift, scale: [A] of the normalisation; where `like` has more elements, those mean nothing.

    Raises:
        SpecError: for actions that are not finite or of another width.
    """
    if not any(c is not None and len(c) for c in chunks):
        return None
    actions, counts = torch.zeros_like(like), [0] * len(like)
    for row, chunk in enumerate(chunks):
        if chunk is None:
            continue
        if chunk.actions.shape[1] != len(shift) or not np.isfinite(chunk.actions).all():
            raise SpecError(
                "A prefix holds finite actions of the policy's width",
                expected=f"[n {len(shift)}]",
                got=str(chunk.actions.shape),
            )
        counts[row] = n = min(len(chunk), like.shape[1])
        raw = torch.from_numpy(np.asarray(chunk.actions[:n], np.float32)).to(like.device)
        actions[row, :n, : len(shift)] = (raw - shift) / scale
    return Prefix(actions, counts, max(delay, 0), len(shift))
