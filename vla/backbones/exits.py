"""Answers from inner layers of a language model, and when to be content with one (DeeR-VLA, Yue et al. 2024).

Shape legend: B batch, N tokens, D width, X exits, O output of a head, S samples to calibrate on.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NoReturn

import torch
from torch import Tensor, nn

from ..errors import ConfigError
from .base import Tokens
from .decoding import last_place
from .vlm import ComposedVLM, among, places


class ExitRule(ABC):
    """How much an output is doubted."""

    @abstractmethod
    def doubt(self, output: Tensor, before: Tensor | None) -> Tensor:
        """float [B], at least 0, of an exit's output [B O …]; `before`: of the exit before, None at the first."""


class Disagreement(ExitRule):
    """Root mean square difference from the exit before (DeeR-VLA); the first exit is always doubted."""

    def doubt(self, output: Tensor, before: Tensor | None) -> Tensor:
        if before is None:
            return torch.full((len(output),), torch.inf, device=output.device)
        return (output - before).float().flatten(1).square().mean(1).sqrt()


class Uncertainty(ExitRule):
    """1 − the largest probability, for outputs that are logits over the last axis; the mean over other axes."""

    def doubt(self, output: Tensor, before: Tensor | None) -> Tensor:
        confident = output.float().softmax(-1).amax(-1)
        return 1 - confident.reshape(len(output), -1).mean(1)


@dataclass(frozen=True)
class Exited:
    """What left, and where.

    Args:
        output: [B O …].
        exit: int [B], index of the exit each row took.
        layers: decoder layers that ran.
    """

    output: Tensor
    exit: Tensor
    layers: int


class MultiExit(nn.Module):
    """A head behind each of several layers of a language model.

    A batch runs until its last row is content, so the saving is whole at batch 1.

    Args:
        width: D.
        layers: after how many layers the exits lie, rising.
        head: class or partial of a head [B D] → [B O …]; `width` is filled in here.
        rule: how an output is doubted.

    Attributes:
        thresholds: float [X], the doubt up to which an exit is taken; the last takes all, the others, until they are
            calibrated, none. They travel in the checkpoint.
    """

    thresholds: Tensor

    def __init__(
        self, *, width: int, layers: Sequence[int], head: Callable[..., nn.Module], rule: ExitRule | None = None
    ) -> None:
        super().__init__()
        if not layers or list(layers) != sorted(set(layers)) or layers[0] < 1:
            raise ConfigError("Exits lie behind rising numbers of layers, from 1 on", got=str(list(layers)))
        self.layers, self.rule = tuple(layers), rule or Disagreement()
        self.heads = nn.ModuleList([nn.Sequential(nn.LayerNorm(width), head(width=width)) for _ in layers])
        self.register_buffer("thresholds", torch.tensor([-1.0] * (len(layers) - 1) + [torch.inf]))

    def forward(self, vlm: ComposedVLM, tokens: Tokens) -> list[Tensor]:
        """The output of every exit, from one run over `vlm.embed`'s tokens; for training and calibration."""
        found: list[Tensor] = []
        self._read(vlm, tokens, lambda index, output: found.append(output))
        return found

    def doubts(self, outputs: Sequence[Tensor]) -> Tensor:
        """float [B X] of what `forward` gives."""
        befores = [None, *outputs[:-1]]
        return torch.stack([self.rule.doubt(o, b) for o, b in zip(outputs, befores, strict=True)], 1)

    def calibrate(self, doubts: Tensor, budget: float) -> None:
        """Set the thresholds so that, on samples with `doubts` [S X], the mean number of layers is at most `budget`."""
        costs = torch.tensor(self.layers, dtype=torch.float64)
        self.thresholds.copy_(thresholds(doubts, costs, budget))

    @torch.no_grad()
    def act(self, vlm: ComposedVLM, tokens: Tokens) -> Exited:
        """The output of the first exit that is not doubted too much; layers behind the last one needed do not run."""
        state = _Leaving(self.thresholds, self.rule)
        try:
            self._read(vlm, tokens, state.meet)
        except _AllOut:
            pass
        assert state.output is not None
        return Exited(state.output, state.exit, self.layers[state.met - 1])

    def _read(self, vlm: ComposedVLM, tokens: Tokens, meet: Callable[[int, Tensor], None]) -> None:
        if self.layers[-1] > vlm.language.depth:
            raise ConfigError(
                "An exit lies beyond the last layer", expected=f"at most {vlm.language.depth}", got=str(self.layers[-1])
            )
        rows, last = torch.arange(len(tokens.mask), device=tokens.mask.device), last_place(tokens.mask)

        def between(layer: int, x: Tensor) -> Tensor:
            if layer in self.layers:
                index = self.layers.index(layer)
                meet(index, self.heads[index](x[rows, last]))
            return x

        attend = among(tokens.mask, causal=vlm.attention == "causal")
        vlm.language(tokens.values, attend, places(tokens.mask), between=between)


class _AllOut(Exception):
    """Every row has an answer: the layers that are left need not run."""


class _Leaving:
    """Which rows have left, with what."""

    def __init__(self, limits: Tensor, rule: ExitRule) -> None:
        self._limits, self._rule = limits, rule
        self._before: Tensor | None = None
        self.output: Tensor | None = None
        self.exit = torch.zeros(0, dtype=torch.long)
        self.met = 0

    def meet(self, index: int, output: Tensor) -> None:
        if self.output is None:
            self.output, self.exit = output, torch.full((len(output),), -1, device=output.device)
        leaves = (self.exit < 0) & (self._rule.doubt(output, self._before) <= self._limits[index])
        self.exit = torch.where(leaves, index, self.exit)
        self.output = torch.where(leaves.view(-1, *[1] * (output.ndim - 1)), output, self.output)
        self._before, self.met = output, index + 1
        if bool((self.exit >= 0).all()):
            _leave()


def _leave() -> NoReturn:
    raise _AllOut


def thresholds(doubts: Tensor, costs: Tensor, budget: float) -> Tensor:
    """Doubt [X] up to which each exit is taken, so that the mean cost over the samples is at most `budget`.

    The shares that leave fall or rise from exit to exit by one factor (Huang et al. 2018), which the budget
    determines; a threshold is the quantile of the doubts of those that are still there.

    Args:
        doubts: [S X]; infinite where an exit cannot be taken. costs: [X], rising.

    Raises `ConfigError` where even the cheapest exits cost more.
    """
    usable = doubts.isfinite().all(0)
    usable[-1] = True
    shares = _shares(costs.double(), usable, budget)
    limits = torch.full((doubts.shape[1],), -1.0)
    limits[-1] = torch.inf
    there = doubts.float()
    for k in range(doubts.shape[1] - 1):
        # Counted from the whole: samples that tied with a threshold have left already.
        due = math.ceil(float(shares[: k + 1].sum()) * len(doubts) - 1e-9) - (len(doubts) - len(there))
        if usable[k] and due > 0 and len(there):
            limits[k] = there[:, k].sort().values[min(due, len(there)) - 1]
            there = there[there[:, k] > limits[k]]
    return limits


def _shares(costs: Tensor, usable: Tensor, budget: float) -> Tensor:
    """[X] ∝ rᵏ over the usable exits, with Σ share · cost = budget or, where that suffices, all at the last."""
    places = torch.where(usable)[0]
    mine = costs[places]
    if budget < mine[0]:
        raise ConfigError(
            "No exit is as cheap as that", expected=f"a budget of at least {mine[0]:g}", got=f"{budget:g}"
        )
    steps = torch.arange(len(mine), dtype=torch.float64)
    low, high = -50.0, 50.0
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if float((steps * middle).softmax(0) @ mine) <= budget else (low, middle)
    shares = torch.zeros_like(costs)
    shares[places] = (steps * low).softmax(0)
    return shares
