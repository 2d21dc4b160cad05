"""Pairs of one seed range, streamed; the same seed gives the same pair in any process."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np

from ...vla.errors import DataError
from ...vla.pairs import Place, Texts
from .captions import captions
from .questions import questions
from .sample import describe, place, sample
from .things import PairScene
from .world import TRIES, PairWorld

VALIDATION_SPLIT, HELD_OUT_SPLIT, UNSEEN_SPLIT = 500_000_000, 1_000_000_000, 2_000_000_000
"""First seeds of scenes to choose settings by, and of test scenes of seen and of unseen combinations; those of training
start at 0 and stay below."""
WORDING = 4
"""Which texts a seed gives; a cache of another is told anew."""


def stream(
    first: int, count: int, *, size: int = 96, unseen: bool = False, held_out_phrasing: bool = False, spoken: int = 4
) -> Iterator[tuple[np.ndarray, Texts]]:
    """Pictures uint8 [size size 3] with their texts, for `count` seeds from `first`.

    Args:
        unseen: every scene holds a combination of colour and kind that training scenes lack.
        held_out_phrasing: word captions and questions in the phrasings that training lacks.
        spoken: captions a picture.
    """
    world = PairWorld(size=size)
    try:
        for seed in range(first, first + count):
            scene, image = world.draw(seed, unseen=unseen)
            yield image, tell(scene, seed, held_out_phrasing=held_out_phrasing, spoken=spoken)
    finally:
        world.close()


def tell(scene: PairScene, seed: int, *, held_out_phrasing: bool = False, spoken: int = 4) -> Texts:
    """All that is said about the scene of a seed."""
    return Texts(
        tuple(captions(scene, seed, spoken, held_out=held_out_phrasing)),
        tuple(questions(scene, seed, held_out=held_out_phrasing)),
        tuple(t.full_name for t in scene.things),
        {"seed": seed, "things": describe(scene)},
        tuple(places(scene)),
    )


def retell(told: Texts, *, unseen: bool = False, held_out_phrasing: bool = False, spoken: int = 4) -> Texts:
    """What `stream` says today of a picture that it drew before; needs no renderer.

    Raises:
        DataError: if the scene is none of that seed.
    """
    seed = told.extras["seed"]
    for attempt in range(TRIES):
        scene = sample(seed * TRIES + attempt, unseen=unseen)
        if describe(scene) == told.extras["things"]:
            return tell(scene, seed, held_out_phrasing=held_out_phrasing, spoken=spoken)
    raise DataError(f"No scene of seed {seed} is the one in the cache", run="wayhand pretrain data=ANOTHER_FOLDER …")


def places(scene: PairScene) -> Iterator[Place]:
    """Where each thing's foot is, by every name that no other thing shares: in full, without size, colour or kind."""
    shorter = (lambda t: t.full_name, lambda t: t.name, lambda t: f"{t.color} thing", lambda t: t.kind)
    for name in shorter:
        names: list[str] = [name(t) for t in scene.things]
        counts = Counter(names)
        for said, thing in zip(names, scene.things, strict=True):
            if counts[said] == 1:
                x, y = place(thing, scene.view)
                yield Place(said, round(x, 4), round(y, 4))
