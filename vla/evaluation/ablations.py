"""Ablations: take one source of information away from a policy and see what is left of its success."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ..contract import Observation
from ..errors import ConfigError, SpecError, did_you_mean

Words = Callable[[str, Mapping[str, Any], np.random.Generator], str]
"""(instruction, info of the reset, random numbers of the episode) → what the policy is told."""


@dataclass(frozen=True)
class Ablation:
    """What changes between the environment and the policy; the scene of a seed stays the same.

    Args:
        summary: one line for people.
        options: added to those of the environment's reset.
        words: what the policy is told.
        sees: whether images pass; otherwise they are black.
    """

    summary: str
    options: Mapping[str, Any] = field(default_factory=dict)
    words: Words = lambda instruction, info, rng: instruction
    sees: bool = True

    def apply(self, observation: Observation, told: str) -> Observation:
        """What the policy gets instead of `observation`."""
        images = observation.images if self.sees else {k: np.zeros_like(v) for k, v in observation.images.items()}
        return replace(observation, instruction=told, images=images)


def blank(instruction: str, info: Mapping[str, Any], rng: np.random.Generator) -> str:
    return ""


def any_object(instruction: str, info: Mapping[str, Any], rng: np.random.Generator) -> str:
    """The same sentence about a uniformly drawn compatible object: well-formed words that carry no information."""
    alternatives: Mapping[str, str] = info.get("alternatives", {})
    if not alternatives:
        raise SpecError(
            "The environment does not offer other instructions for its scene",
            expected="info['alternatives'] at reset: {object: instruction}",
            got=f"keys {sorted(info)}",
            run="drop no_language from ablations=[…]",
        )
    names = sorted(alternatives)
    return alternatives[names[int(rng.integers(len(names)))]]


ABLATIONS: Mapping[str, Ablation] = {
    "": Ablation("the policy as it is"),
    "grounding": Ablation("same scene, words swapped to another object, which must be chosen", options={"swap": True}),
    "no_language": Ablation("told about a random compatible object: words carry no information", words=any_object),
    "no_language_blank": Ablation("told nothing", words=blank),
    "no_vision": Ablation("black images", sees=False),
}


def ablation(name: str) -> Ablation:
    """The ablation of that name; raises `ConfigError` naming what exists."""
    if name not in ABLATIONS:
        names = [n for n in ABLATIONS if n]
        close = did_you_mean(name, names)
        raise ConfigError(f"Unknown ablation '{name}'" + (f"; did you mean '{close}'?" if close else ""), exists=names)
    return ABLATIONS[name]
