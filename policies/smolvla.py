"""SmolVLA (Shukor et al. 2025): a small VLM and an expert that alternates self- and cross-attention."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ..vla.backbones.base import VLM
from ..vla.backbones.expert import ActionExpert
from ..vla.backbones.weights import lerobot_smolvla, require_same
from ..vla.contract import EnvSpec
from ..vla.learning.batch import Batch
from ..vla.normalize import NormStats
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
        )

    def load_lerobot(self, path: str | Path) -> None:
        """Take the weights of LeRobot's SmolVLA (0.6) from its `model.safetensors`, in single precision.

        Raises:
            CheckpointError: for a tensor that has no place here, is missing or has another shape.
        """
        weights = lerobot_smolvla(path)
        require_same(self.state_dict(), weights, path)
        self.load_state_dict(weights)
        self._fast = None

    def prompts(self, batch: Batch) -> list[str]:
        """The instruction, ended by a new line as in the reference."""
        return [text if text.endswith("\n") else f"{text}\n" for text in batch["task"]]
