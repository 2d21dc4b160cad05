"""Pairs of one seed range, streamed; the same seed gives the same pair in any process."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ...vla.pairs import Texts
from .captions import captions
from .questions import questions
from .sample import describe
from .world import PairWorld

HELD_OUT_SPLIT, UNSEEN_SPLIT = 1_000_000_000, 2_000_000_000
"""First seeds of test scenes of seen and of unseen combinations; training seeds start at 0 and stay below."""


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
            yield (
                image,
                Texts(
                    tuple(captions(scene, seed, spoken, held_out=held_out_phrasing)),
                    tuple(questions(scene, seed, held_out=held_out_phrasing)),
                    tuple(t.full_name for t in scene.things),
                    {"seed": seed, "things": describe(scene)},
                ),
            )
    finally:
        world.close()
