"""The one crossing between numpy and torch: observations and sampled windows become batches of tensors.

A batch maps dotted paths to tensors [B, …], images staying uint8 [B h w 3] until the model, and `"task"` to a list
of B instructions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..contract import Observation

Batch = dict[str, Any]


def to_tensors(arrays: Mapping[str, Any], device: torch.device | str = "cpu") -> Batch:
    """Numpy arrays become tensors on `device`; other values (the list of instructions) pass unchanged."""
    return {
        path: torch.from_numpy(value).to(device, non_blocking=True) if isinstance(value, np.ndarray) else value
        for path, value in arrays.items()
    }


def collate(observations: Sequence[Observation], device: torch.device | str = "cpu") -> Batch:
    """B observations of one spec → batch; sensor times stay behind, a policy must not see them."""
    rows = [o.columns() for o in observations]
    paths = [p for p in rows[0] if not p.startswith("observation.times.")]
    batch: Batch = {p: torch.from_numpy(np.stack([r[p] for r in rows])).to(device) for p in paths}
    batch["task"] = [o.instruction for o in observations]
    return batch


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of `values` [B H A] over the rows where `mask` [B H] is True, so that padding weighs nothing."""
    weight = mask.to(values.dtype)[..., None]
    return (values * weight).sum() / (weight.sum() * values.shape[-1]).clamp_min(1)
