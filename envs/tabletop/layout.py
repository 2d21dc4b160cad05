"""What a seed puts on the table: a pure function of (task, split, seed)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .objects import (
    BUTTON_PLACES,
    COLORS,
    DRAWER_PLACES,
    HELD_OUT,
    HELD_OUT_BUTTONS,
    HELD_OUT_DRAWERS,
    TRAINING,
    Pair,
    object_name,
)

SLOTS, BINS, DRAWERS, BUTTONS = 5, 2, 3, 3
"""Most objects, bins, drawers and buttons a scene holds."""
DRAWER_X, DRAWER_Y = 0.60, (0.128, 0.0, -0.128)
"""Where the fronts of the closed drawers stand [m]; from the robot's side, left is +y."""
BUTTON_X, BUTTON_Y = (0.42, 0.52), (0.14, 0.0, -0.14)
"""Where buttons stand: anywhere between two distances from the robot, in one of three places from left to right [m]."""
HOME = (0.42, 0.0, 0.20)


@dataclass(frozen=True)
class Thing:
    """An object on the table: where its origin stands [m, world] and how it is turned about the vertical [rad]."""

    pair: Pair
    x: float
    y: float
    yaw: float

    @property
    def name(self) -> str:
        return object_name(self.pair)


@dataclass(frozen=True)
class Bin:
    color: str
    x: float
    y: float

    @property
    def name(self) -> str:
        return f"{self.color} bin"


@dataclass(frozen=True)
class Drawer:
    color: str
    place: str

    @property
    def name(self) -> str:
        return f"{self.color} drawer"


@dataclass(frozen=True)
class Button:
    """A button in its housing: which place it has, and where its axis stands [m, world]."""

    color: str
    place: str
    x: float
    y: float

    @property
    def name(self) -> str:
        return f"{self.color} button"


@dataclass(frozen=True)
class Candidate:
    """One thing the instruction could ask for.

    Args:
        name: e.g. `"red cube"`, `"red cube into blue bin"`, `"red cube onto blue cross"`, `"red drawer"`.
        index: of the object (or drawer, or button) that is handled.
        onto: of the bin or object it goes to, or −1.
        words: what the instruction's fields `object` (and `goal`) say.
    """

    name: str
    index: int
    onto: int
    words: dict[str, str]


@dataclass(frozen=True)
class Layout:
    """Everything the seed decides before the first step, except the sentence."""

    task: str
    things: tuple[Thing, ...]
    bins: tuple[Bin, ...]
    drawers: tuple[Drawer, ...]
    buttons: tuple[Button, ...]
    candidates: tuple[Candidate, ...]
    target: int
    other: int
    hand: tuple[float, float, float]

    def asked(self, swap: bool) -> Candidate:
        """The candidate that the instruction names; with `swap`, another one of the same scene."""
        return self.candidates[self.other if swap else self.target]


def _pick(rng: np.random.Generator, options: Sequence[Pair], avoid: set[str]) -> Pair:
    left = [p for p in options if p[0] not in avoid]
    return left[int(rng.integers(len(left)))]


def _pairs(rng: np.random.Generator, count: int, unseen: bool) -> list[Pair]:
    """`count` pairs of different colours; the first one is the target's and comes from the held-out ones if `unseen`.

    Colours differ within a scene, so a name has one meaning in it.
    """
    used: set[str] = set()
    pairs: list[Pair] = []
    for i in range(count):
        source = HELD_OUT if unseen and i == 0 else TRAINING
        pair = _pick(rng, source, used)
        used.add(pair[0])
        pairs.append(pair)
    return pairs


def _row(rng: np.random.Generator, pairs: Sequence[Pair], x: tuple[float, float], width: float) -> tuple[Thing, ...]:
    """Objects side by side along y, in random order, far enough apart for open fingers and for a push along x."""
    count = len(pairs)
    centres = np.linspace(-width, width, count) if count > 1 else np.zeros(1)
    room = (2 * width / max(1, count - 1) - 0.092) / 2 if count > 1 else width
    jitter = min(0.04, max(0.004, room))
    order = rng.permutation(count)
    return tuple(
        Thing(
            pairs[k],
            float(rng.uniform(*x)),
            float(centres[order[k]] + rng.uniform(-jitter, jitter)),
            float(rng.uniform(-0.2, 0.2)),
        )
        for k in range(count)
    )


def sample(task: str, seed: int, *, unseen_pair: bool, distractors: int) -> Layout:
    """The scene of a seed.

    Args:
        unseen_pair: the target is a held-out pair (for `open` and `press`: a held-out colour and place).
        distractors: objects beside the target in reach, push and pick; unnamed objects added to place and stack count
            from 1 and 2 upwards.
    """
    rng = np.random.default_rng([seed, 1])
    hand = tuple(float(h + rng.uniform(-d, d)) for h, d in zip(HOME, (0.03, 0.06, 0.03), strict=True))
    things: tuple[Thing, ...] = ()
    bins: tuple[Bin, ...] = ()
    drawers: tuple[Drawer, ...] = ()
    buttons: tuple[Button, ...] = ()
    if task == "open":
        drawers = tuple(Drawer(c, p) for c, p in _places(rng, DRAWER_PLACES, HELD_OUT_DRAWERS, unseen_pair))
        candidates = [Candidate(d.name, i, -1, {"object": d.name}) for i, d in enumerate(drawers)]
    elif task == "press":
        buttons = _buttons(rng, unseen_pair)
        candidates = [Candidate(b.name, i, -1, {"object": b.name}) for i, b in enumerate(buttons)]
    elif task == "place":
        things = _row(rng, _pairs(rng, 1 + distractors, unseen_pair), (0.38, 0.44), 0.16 if distractors > 1 else 0.09)
        colors = rng.permutation(list(COLORS))[:BINS]
        sides = rng.permutation([-1.0, 1.0])
        bins = tuple(
            Bin(str(c), float(0.575 + rng.uniform(-0.01, 0.01)), float(s * 0.10 + rng.uniform(-0.015, 0.015)))
            for c, s in zip(colors, sides, strict=True)
        )
        candidates = [
            Candidate(f"{t.name} into {b.name}", i, k, {"object": t.name, "goal": b.name})
            for i, t in enumerate(things)
            for k, b in enumerate(bins)
        ]
    elif task == "stack":
        things = _row(rng, _pairs(rng, 1 + distractors, unseen_pair), (0.40, 0.52), 0.155 if distractors < 3 else 0.20)
        candidates = [
            Candidate(f"{t.name} onto {b.name}", i, k, {"object": t.name, "goal": b.name})
            for i, t in enumerate(things)
            for k, b in enumerate(things)
            if i != k
        ]
    else:
        things = _row(rng, _pairs(rng, 1 + distractors, unseen_pair), (0.40, 0.50), 0.155 if distractors < 3 else 0.20)
        candidates = [Candidate(t.name, i, -1, {"object": t.name}) for i, t in enumerate(things)]
    # The target is the first thing drawn: held-out pairs are put there; positions are shuffled independently.
    first = [i for i, c in enumerate(candidates) if c.index == 0]
    target = int(first[int(rng.integers(len(first)))])
    other = int((target + 1 + rng.integers(len(candidates) - 1)) % len(candidates))
    return Layout(task, things, bins, drawers, buttons, tuple(candidates), target, other, (hand[0], hand[1], hand[2]))


def _places(rng: np.random.Generator, places: Sequence[str], held_out: Sequence[Pair], unseen: bool) -> list[Pair]:
    """A colour for every place, places shuffled; the first one is the target, a held-out combination if `unseen`."""
    order = [places[int(i)] for i in rng.permutation(len(places))]
    used: set[str] = set()
    pairs: list[Pair] = []
    if unseen:
        color, place = held_out[int(rng.integers(len(held_out)))]
        order.remove(place)
        order.insert(0, place)
        pairs.append((color, place))
        used.add(color)
    for place in order[len(pairs) :]:
        options = [c for c in COLORS if c not in used and (c, place) not in held_out]
        pairs.append((options[int(rng.integers(len(options)))], place))
        used.add(pairs[-1][0])
    return pairs


def _buttons(rng: np.random.Generator, unseen: bool) -> tuple[Button, ...]:
    pairs = _places(rng, BUTTON_PLACES, HELD_OUT_BUTTONS, unseen)
    return tuple(
        Button(
            color,
            place,
            float(rng.uniform(*BUTTON_X)),
            float(BUTTON_Y[BUTTON_PLACES.index(place)] + rng.uniform(-0.02, 0.02)),
        )
        for color, place in pairs
    )
