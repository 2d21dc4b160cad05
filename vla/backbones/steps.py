"""What of the denoising steps is known before anything is seen.

Shape legend: W width, A action elements.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .expert import ModulatedNorm
from .flow import FlowExpert, NoiseAtOne, time_features

StepConstants = tuple[Tensor, Tensor, Tensor | None]
"""Weight [W A] into the tokens; per step its bias [steps W]; per step the styles [steps 2·layers+1 3 W] of norms."""


def step_constants(flow: FlowExpert, steps: int) -> StepConstants:
    """What the times of Euler's method determine.

    Where time is mixed into the tokens, the first matrix of that MLP takes actions and time apart: the actions' part
    joins the matrix before it, the time's part is a bias. Where it modulates the norms, their styles are tables.
    """
    width, silu = flow.expert.width, nn.functional.silu
    t = torch.tensor(NoiseAtOne.times(steps), device=flow.enter.weight.device)
    when = time_features(t, width)
    if flow.time == "token":
        actions, time = flow.time_in.weight.split(width, 1)
        return actions @ flow.enter.weight, when @ time.T + flow.time_in.bias + actions @ flow.enter.bias, None
    condition = silu(flow.time_out(silu(flow.time_in(when))))
    norms = [n for layer in flow.expert.blocks() for n in (layer.enter, layer.middle)]
    made = [n.project(condition) for n in (*norms, flow.expert.norm) if isinstance(n, ModulatedNorm)]
    styles = torch.stack(made, 1).unflatten(-1, (3, width)).clone()
    styles[:, :, 0] += 1
    return flow.enter.weight, flow.enter.bias.expand(steps, -1).clone(), styles
