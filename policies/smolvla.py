"""SmolVLA (Shukor et al. 2025): a small VLM and an expert that alternates self- and cross-attention."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ..vla.backbones.base import VLM
from ..vla.backbones.expert import ActionExpert
from ..vla.backbones.guidance import Schedule
from ..vla.backbones.weights import lerobot_smolvla
from ..vla.contract import EnvSpec
from ..vla.learning.batch import Batch
from ..vla.normalize import NormStats
from .continuing import Continuation
from .expert_flow import ExpertFlowPolicy, Frozen


class SmolVLAPolicy(ExpertFlowPolicy):
    """The state is one token of the prefix; every other layer of the expert crosses; actions attend to earlier ones.

    Args:
        spec, stats: the body, and the statistics its state and actions are normalised by.
        vlm: a model whose prefix takes the state as an extra modality.
        expert: class or partial of the action expert, with `alternate: 2`.
        chunk: H, actions per chunk.
        steps: Euler steps at inference.
        room: what state and actions are padded to.
        frozen: which weights training leaves alone; the reference trains the expert and the state's embedding.
        guidance, schedule, guidance_limit, longest_delay: how a chunk continues the one in execution, see `Continuing`.
    """

    def __init__(
        self,
        *,
        spec: EnvSpec,
        stats: NormStats,
        vlm: VLM,
        expert: Callable[..., ActionExpert],
        chunk: int = 50,
        steps: int = 10,
        room: int = 32,
        frozen: Frozen = "vlm",
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
            state_in="prefix",
            time="token",
            causal=True,
            frozen=frozen,
            guidance=guidance,
            schedule=schedule,
            guidance_limit=guidance_limit,
            longest_delay=longest_delay,
        )

    def load_lerobot(self, path: str | Path) -> None:
        """Take the weights of LeRobot's SmolVLA (0.6) from its `model.safetensors`, in single precision.

        Raises:
            CheckpointError: for a tensor that has no place here, is missing or has another shape.
        """
        self.take(lerobot_smolvla(path), path)

    def prompts(self, batch: Batch) -> list[str]:
        """The instruction, ended by a new line as in the reference."""
        return [text if text.endswith("\n") else f"{text}\n" for text in batch["task"]]
