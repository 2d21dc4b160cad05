"""π0 (Black et al. 2024) and π0.5 (Physical Intelligence 2025): an expert that shares every layer's attention."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from ..vla.backbones.base import VLM
from ..vla.backbones.expert import ActionExpert
from ..vla.backbones.guidance import Schedule
from ..vla.backbones.weights import openpi_pi0
from ..vla.contract import EnvSpec
from ..vla.learning.batch import Batch
from ..vla.normalize import NormStats
from .continuing import Continuation
from .expert_flow import ExpertFlowPolicy, Frozen

BINS = 256


class Pi0Policy(ExpertFlowPolicy):
    """Actions attend to each other and to all before them.

    Args:
        spec, stats: the body, and the statistics its state and actions are normalised by.
        vlm: a model whose prefix takes no state.
        expert: class or partial of the action expert; with a `condition` for version "0.5".
        version: "0" gives the state as a token before the actions and mixes time into each action token; "0.5" gives
            the state as 256 bins within the prompt (normalise it to [−1, 1] by quantiles) and modulates the norms by
            time.
        chunk: H, actions per chunk.
        steps: Euler steps at inference.
        room: what state and actions are padded to.
        frozen: which weights training leaves alone.
        guidance, schedule, guidance_limit, longest_delay: how a chunk continues the one in execution, see `Continuing`.
    """

    def __init__(
        self,
        *,
        spec: EnvSpec,
        stats: NormStats,
        vlm: VLM,
        expert: Callable[..., ActionExpert],
        version: Literal["0", "0.5"] = "0",
        chunk: int = 50,
        steps: int = 10,
        room: int = 32,
        frozen: Frozen = "nothing",
        guidance: Continuation = "exact",
        schedule: Schedule = "exp",
        guidance_limit: float = 5.0,
        longest_delay: int = 0,
    ) -> None:
        super().__init__(
            spec=spec,
            stats=stats,
            vlm=vlm,
            expert=expert,
            chunk=chunk,
            steps=steps,
            room=room,
            state_in="actions" if version == "0" else "text",
            time="token" if version == "0" else "norm",
            causal=False,
            frozen=frozen,
            guidance=guidance,
            schedule=schedule,
            guidance_limit=guidance_limit,
            longest_delay=longest_delay,
        )

    def load_openpi(self, path: str | Path) -> None:
        """Take weights under openpi's names, as transformers and LeRobot save π0, from a `.safetensors` file.

        Raises:
            CheckpointError: for a tensor that has no place here, is missing or has another shape.
        """
        self.take(openpi_pi0(path), path)

    def prompts(self, batch: Batch) -> list[str]:
        """The instruction and a new line, or with the state in bins."""
        tasks: list[str] = batch["task"]
        if self.state_in != "text":
            return [f"{task.strip()}\n" for task in tasks]
        bins = [" ".join(map(str, row)) for row in state_bins(self.state(batch)).tolist()]
        clean = [task.strip().replace("_", " ").replace("\n", " ") for task in tasks]
        return [f"Task: {task}, State: {row};\nAction: " for task, row in zip(clean, bins, strict=True)]


def state_bins(state: Tensor) -> Tensor:
    """[… S] in [−1, 1] → int [… S] in 0 … 255, equal bins; what lies outside goes to the last bin of its side."""
    return ((state + 1) * (BINS / 2)).floor().to(torch.long).clamp(0, BINS - 1)
