"""The policy of a run, as the commands load it: on a device, in its plain or in a faster form."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..vla.errors import ConfigError

if TYPE_CHECKING:
    from ..vla.learning.policy import TorchPolicy

Fast = Literal["plain", "kernels", "compiled", "graph"]


def load_trained(path: str | Path, device: str = "cpu", fast: Fast = "plain") -> TorchPolicy:
    """The policy a checkpoint holds.

    Args:
        fast: how a flow policy over a vision-language model computes: "kernels" (C++, one thread of a CPU), "compiled"
            (`torch.compile`) or "graph" (CUDA). In single precision its numbers are the plain ones within 1e-4.

    Raises:
        ConfigError: where the policy has only its plain form.
    """
    from ..policies.expert_flow import ExpertFlowPolicy
    from ..vla.learning.policy import TorchPolicy

    policy: Any = TorchPolicy.from_checkpoint(path, device=device)
    if fast == "plain":
        return policy
    if not isinstance(policy, ExpertFlowPolicy):
        raise ConfigError(
            f"This policy has no form fast={fast}",
            expected="policy=smolvla, pi0 or pi05",
            got=type(policy).__name__,
            run="fast=plain",
        )
    policy.accelerate(**{fast: True})
    return policy
