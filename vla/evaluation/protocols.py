"""Frozen evaluation protocols: which episodes are run, and what counts as success.

A protocol never changes; a different one gets a new name. Its hash stands beside every number it produced.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from ..errors import ConfigError, did_you_mean
from .ablations import ablation
from .records import EpisodeRequest

FIRST_EVALUATION_SEED = 1_000_000
"""Demonstrations come from seeds below, evaluations from this one on, so that no test scene was ever shown."""
SPAN = 1_000_000
"""Seeds of one split."""


@dataclass(frozen=True)
class Protocol:
    """What is measured.

    Args:
        name: identifies the protocol together with `hash`.
        splits: split → what it tests; in order, each has its own range of `SPAN` seeds.
        success: what counts as success.
        chance: what a policy that ignores the words can reach.
    """

    name: str
    splits: Mapping[str, str]
    success: str
    chance: str

    @property
    def hash(self) -> str:
        """16 hexadecimal digits over everything the protocol fixes."""
        fixed = {**vars(self), "splits": dict(self.splits), "first": FIRST_EVALUATION_SEED, "span": SPAN}
        return hashlib.sha256(json.dumps(fixed).encode()).hexdigest()[:16]

    def first_seed(self, split: str, base: int = 0) -> int:
        """The first of a split's seeds; raises `ConfigError` for an unknown split."""
        if split not in self.splits:
            close = did_you_mean(split, self.splits)
            hint = f"; did you mean '{close}'?" if close else ""
            raise ConfigError(f"Unknown split '{split}'{hint}", exists=self.splits)
        return FIRST_EVALUATION_SEED + list(self.splits).index(split) * SPAN + base

    def requests(
        self, split: str, episodes: int, *, base: int = 0, tasks: Sequence[str] = (), ablated: str = ""
    ) -> list[EpisodeRequest]:
        """The split's first `episodes` episodes from seed number `base` on; ablations share their seeds.

        Args:
            tasks: seed s asks for `tasks[s % len(tasks)]`; without any, the environment's own choice.
        """
        if not 0 <= base <= SPAN - episodes:
            raise ConfigError(
                "The seeds leave their split's range", expected=f"0 ≤ seed ≤ {SPAN - episodes}", got=str(base)
            )
        ablation(ablated)
        first = self.first_seed(split, base)
        return [
            EpisodeRequest(s, {"split": split, **({"task": tasks[s % len(tasks)]} if tasks else {})}, ablated)
            for s in range(first, first + episodes)
        ]


TABLETOP_V1 = Protocol(
    name="wayhand-tabletop-v1",
    splits=MappingProxyType(
        {
            "seen": "phrasings and colour × shape pairs of the demonstrations, new scenes",
            "unseen_phrasing": "verbs that occur in no demonstration",
            "unseen_pair": "the target is a colour × shape pair that occurs in no demonstration",
            "distractors": "more objects than in the demonstrations",
        }
    ),
    success="the first object for which the task's outcome held long enough is the one the instruction named",
    chance="1 / (objects the instruction could have meant), averaged over the episodes",
)
