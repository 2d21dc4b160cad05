"""What the benchmark `wayhand-r2r` is made of: its splits, how large a release is, and what comes of one house."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ...vla.navigation import NavEpisode, ViewpointGraph
from .floor import Walk
from .registers import Objects

NAME = "wayhand-r2r"
SPLITS: dict[str, tuple[str, str]] = {
    "train": ("train", "houses and words to learn from"),
    "val_seen": ("train", "training houses, new paths"),
    "val_unseen_house": ("val_unseen_house", "new houses from known furniture"),
    "val_unseen_object": ("val_unseen_object", "new houses with furniture of kinds and looks not met in training"),
    "val_unseen_phrasing": ("val_unseen_house", "sentences and words not met in training"),
    "val_compositional": ("val_unseen_house", "combinations of landmark, relation and turn not met in training"),
    "val_long": ("val_unseen_house", "paths two to three times as long"),
    "val_distractor": ("val_unseen_house", "clauses that mean nothing for the way, or contradict it"),
    "test": ("test", "new houses with other furniture; goals are kept apart"),
}
"""Split → the houses it stands in, and what it tests."""
SPOKEN = ("train", "val_unseen_house")
"""The splits that further registers have too."""
UNFINISHED = "UNFINISHED"
"""Marks the folder of a release that is not complete."""


@dataclass(frozen=True)
class Plan:
    """How large a release is.

    Args:
        houses: of the training set; `unseen`, of each set of other houses.
        paths: per training house; `unseen_paths`, per house and other split. Each path has three instructions.
        rooms: fewest and most rooms of a house.
        seed: another seed gives another benchmark.
        continuous: also write VLN-CE files with reference runs.
        registers: beside R2R's, `"rxr"` and `"reverie"`.
    """

    houses: int
    unseen: int
    paths: int
    unseen_paths: int
    rooms: tuple[int, int]
    seed: int
    continuous: bool
    registers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Made:
    """What comes of one house.

    Args:
        house: its description as JSON.
        episodes: by split; `walks`, of each its form on the floor, None where no body can follow it.
        told: in other registers, by register and split.
        objects: what REVERIE's viewpoints see.
        fault: why nothing could be made of it; else "".
    """

    house: str
    scan: str
    graph: ViewpointGraph | None = None
    episodes: Mapping[str, list[NavEpisode]] = field(default_factory=dict)
    walks: Mapping[str, list[Walk | None]] = field(default_factory=dict)
    told: Mapping[tuple[str, str], list[NavEpisode]] = field(default_factory=dict)
    objects: Objects = field(default_factory=dict)
    fault: str = ""
