"""A seed's table, and which spatial relations hold on it beyond doubt."""

from __future__ import annotations

import math

import numpy as np

from .things import COLORS, HELD_OUT, KINDS, SEEN, SIZES, PairScene, Thing, View

LEAST, MOST = 2, 6
"""Things in a scene."""
ROOM = (0.20, 0.16)
"""Half the width and half the depth of the area where things stand [m]."""
GAP = {"small": 0.034, "large": 0.054}
"""Radius that no other thing may enter [m]."""
TABLES = 4
SIDE_MARGIN, DEPTH_MARGIN, PICTURE_MARGIN = 0.045, 0.06, 0.05
"""By how much two things must differ in place [m], and in the picture [share of its width], for a relation to hold."""
PICTURE_SIXTH = 0.12
"""Half the width of the middle between left and right [share of the picture's width]."""
MIDDLE = "middle"
RELATIONS = ("left of", "right of", "in front of", "behind")


def sample(seed: int, *, unseen: bool = False) -> PairScene:
    """The scene of a seed: 2 to 6 things of different names, apart from each other; occlusion is not looked at here.

    Args:
        unseen: at least one thing is a held-out combination of colour and kind; else none is.
    """
    rng = np.random.default_rng([seed, 11])
    count = int(rng.integers(LEAST, MOST + 1))
    while True:
        things = _things(rng, count, unseen)
        if things is not None:
            return PairScene(things, _view(rng))


def _things(rng: np.random.Generator, count: int, unseen: bool) -> tuple[Thing, ...] | None:
    """`None` where no room was found."""
    pairs: list[tuple[str, str]] = []
    if unseen:
        pairs.append(HELD_OUT[int(rng.integers(len(HELD_OUT)))])
    while len(pairs) < count:
        pair = SEEN[int(rng.integers(len(SEEN)))]
        if pair not in pairs:
            pairs.append(pair)
    placed: list[Thing] = []
    for i in rng.permutation(count):
        size = tuple(SIZES)[int(rng.integers(len(SIZES)))]
        for _ in range(60):
            right, near = rng.uniform(-1, 1, 2) * ROOM
            if all(math.hypot(right - t.right, near - t.near) > GAP[size] + GAP[t.size] for t in placed):
                yaw = 0.0 if pairs[i][1] == "drawer" else float(rng.uniform(-0.5, 0.5))
                color, kind = pairs[i]
                placed.append(Thing(size, color, kind, float(right), float(near), yaw))
                break
        else:
            return None
    return tuple(placed)


def _view(rng: np.random.Generator) -> View:
    light = (float(rng.uniform(-0.6, 0.6)), float(rng.uniform(-0.6, 0.6)), -1.0)
    tint = rng.uniform(0.8, 1.1) * rng.uniform(0.93, 1.07, 3)
    return View(
        near=float(rng.uniform(0.50, 0.58)),
        height=float(rng.uniform(0.56, 0.66)),
        fovy=float(rng.uniform(33.0, 36.0)),
        light=light,
        brightness=float(rng.uniform(0.7, 1.25)),
        table=int(rng.integers(TABLES)),
        tint=(float(tint[0]), float(tint[1]), float(tint[2])),
    )


def across(thing: Thing, view: View) -> float:
    """Where a thing's foot is in the picture, from −0.5 (left edge) to 0.5."""
    away = view.near - thing.near
    # Along the optical axis, which points from the camera to the table's middle.
    distance = (away * view.near + view.height**2) / math.hypot(view.near, view.height)
    return thing.right / distance / (2 * math.tan(math.radians(view.fovy) / 2))


def holds(relation: str, a: Thing, b: Thing, view: View) -> bool | None:
    """Whether `a` is `relation` `b` as the camera sees them; None where the two are too close to say."""
    if relation == "right of":
        return holds("left of", b, a, view)
    if relation == "behind":
        return holds("in front of", b, a, view)
    if relation == "left of":
        apart, seen = b.right - a.right, across(b, view) - across(a, view)
        clear = min(abs(apart) / SIDE_MARGIN, abs(seen) / PICTURE_MARGIN) > 1 and (apart > 0) == (seen > 0)
    else:
        apart = a.near - b.near
        clear = abs(apart) > DEPTH_MARGIN
    return apart > 0 if clear else None


def place(thing: Thing, view: View) -> tuple[float, float]:
    """Where a thing's foot is in the picture, from (0, 0), left and on top, to (1, 1)."""
    away = view.near - thing.near
    reach = math.hypot(view.near, view.height)
    distance = (away * view.near + view.height**2) / reach
    # Along the picture's vertical: the table's far side is above.
    below = (thing.near * view.height) / reach
    return 0.5 + across(thing, view), 0.5 + below / distance / (2 * math.tan(math.radians(view.fovy) / 2))


def region(thing: Thing, view: View) -> str | None:
    """ "left", "back right", "middle" and so on; None where a thing stands on a border between two."""
    side = _third(across(thing, view), PICTURE_SIXTH, PICTURE_MARGIN / 2)
    depth = _third(thing.near, ROOM[1] / 3, DEPTH_MARGIN / 4)
    if side is None or depth is None:
        return None
    words = [*(["back"], [], ["front"])[depth], *(["left"], [], ["right"])[side]]
    return " ".join(words) or MIDDLE


def beyond_middle(relation: str, thing: Thing, view: View) -> bool | None:
    """Whether a thing is `relation` the middle of the picture; None where it stands too near to it to say."""
    if relation in ("right of", "behind"):
        opposite = beyond_middle(RELATIONS[RELATIONS.index(relation) - 1], thing, view)
        return None if opposite is None else not opposite
    if relation == "left of":
        apart, least = -across(thing, view), PICTURE_MARGIN / 2
    else:
        apart, least = thing.near, DEPTH_MARGIN / 2
    return apart > 0 if abs(apart) > least else None


def _third(value: float, border: float, margin: float) -> int | None:
    """0, 1 or 2: below, between or above ±border; None within the margin of one."""
    if min(abs(value - border), abs(value + border)) < margin:
        return None
    return int(value > -border) + int(value > border)


def row(things: tuple[Thing, ...], relation: str, view: View) -> tuple[Thing, ...] | None:
    """The things in an order in which each is beyond doubt `relation` the next; None where there is none."""
    sign = 1 if relation == "left of" else -1
    ordered = tuple(sorted(things, key=lambda t: sign * (t.right if relation == "left of" else t.near)))
    clear = all(holds(relation, a, b, view) for a, b in zip(ordered, ordered[1:], strict=False))
    return ordered if clear else None


def describe(scene: PairScene) -> list[dict[str, object]]:
    """The things as plain values, for records."""
    assert all(t.color in COLORS and t.kind in KINDS for t in scene.things)
    return [
        {"size": t.size, "color": t.color, "kind": t.kind, "right": round(t.right, 4), "near": round(t.near, 4)}
        for t in scene.things
    ]
