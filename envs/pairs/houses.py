"""Views of generated houses with captions, questions and answers that their segmentation makes true."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ...vla.pairs import Question, Texts
from ..house.generate import generate
from ..house.house import House
from ..house.labels import LABELS, ViewLabels
from ..house.renderer import HouseRenderer
from ..house.solids import instances
from ..house.viewpoints import viewpoint_graph
from .captions import article

VIEWS_A_HOUSE = 20
SIDES = ("on the left", "in the middle", "on the right")
_ROOM = "in "
_COLORED = " thing"
_TRIES = 50


def stream_houses(
    first: int, count: int, *, size: int = 96, hfov_deg: float = 75.0, split: str = "train"
) -> Iterator[tuple[np.ndarray, Texts]]:
    """Pictures uint8 [size size 3] with their texts, for `count` seeds from `first`; 20 seeds share a house.

    Args:
        split: of the houses; see `generate`.
    """
    with HouseRenderer(size, size, hfov_deg, sensors=("rgb", "semantics")) as renderer:
        shown: tuple[np.ndarray, ViewLabels, list[str]] | None = None
        for seed in range(first, first + count):
            number = seed // VIEWS_A_HOUSE
            if shown is None or seed % VIEWS_A_HOUSE == 0:
                house = generate(number, split)
                shown = viewpoint_graph(house).positions, ViewLabels(house), categories(house)
                renderer.load(house)
            yield _view(renderer, *shown, seed)


def _view(
    renderer: HouseRenderer, positions: np.ndarray, labels: ViewLabels, table: list[str], seed: int
) -> tuple[np.ndarray, Texts]:
    """The first view of a seed that shows one room and a few things."""
    rng = np.random.default_rng([seed, 14])
    for _ in range(_TRIES):
        place = positions[int(rng.integers(len(positions)))]
        seen = renderer.render([place], [rng.uniform(-np.pi, np.pi)], [-0.25])
        thirds = labels.visible(seen["semantics"])[0]
        shown = [[LABELS[i] for i in np.flatnonzero(third)] for third in thirds]
        rooms = {name.removeprefix(_ROOM) for names in shown for name in names if name.startswith(_ROOM)}
        things = [[n for n in names if not n.startswith(_ROOM) and not n.endswith(_COLORED)] for names in shown]
        if len(rooms) == 1 and 2 <= len({t for side in things for t in side}) <= 6:
            there = {table[i] for i in np.unique(seen["semantics"])}
            return seen["rgb"][0], _texts(rooms.pop(), things, there, sorted(set(table) - {""}), rng)
    raise AssertionError(f"no telling view for seed {seed}")


def categories(house: House) -> list[str]:
    """Of each row of `solids.instances`, what it is; empty for walls, floors and nothing."""
    items = house.items
    return [items[i.item].category if i.item >= 0 else "" for i in instances(house)]


def _texts(room: str, things: list[list[str]], there: set[str], known: list[str], rng: np.random.Generator) -> Texts:
    seen = sorted({t for side in things for t in side})
    spoken = [article(said(t)) for t in seen]
    order = [spoken[i] for i in rng.permutation(len(spoken))]
    listed = order[0] if len(order) == 1 else f"{', '.join(order[:-1])} and {order[-1]}"
    captions = [f"{article(said(room))} with {listed}", f"{listed} in {article(said(room))}"]
    sides = [(side, name) for side, names in zip(SIDES, things, strict=True) for name in names]
    side, name = sides[int(rng.integers(len(sides)))]
    captions.append(f"{article(said(room))} with {listed}; {side} there is {article(said(name))}")
    asked = [Question("what room is this?", said(room), "room")]
    present = seen[int(rng.integers(len(seen)))]
    asked.append(Question(f"is there {article(said(present))}?", "yes", "existence"))
    # What no pixel shows, so that "no" is true whatever counts as visible.
    absent = [c for c in known if c not in there and c not in seen]
    if absent:
        missing = absent[int(rng.integers(len(absent)))]
        asked.append(Question(f"is there {article(said(missing))}?", "no", "existence"))
    return Texts(tuple(captions), tuple(asked), tuple(said(t) for t in seen), {"room": room})


def said(name: str) -> str:
    """A label as words."""
    return name.replace("_", " ").replace("-", " ")
