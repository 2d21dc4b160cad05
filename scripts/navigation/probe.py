"""What the words of a release tell to somebody who sees nothing, and whether its routes come again elsewhere.

Linear probes on bags of words, as artefact checks of language tasks use them (Gururangan et al. 2018), and the rate of
equal route shapes, which is what an agent without eyes can learn by heart.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ...envs.house.house import House
from ...vla.backbones.words import tokenize, vocabulary
from ...vla.navigation import NavEpisode, ViewpointGraph
from .checks import Check

WORDS = 600
TEXTS = 6000
SECTORS = 8
BEND = np.pi / 6


@dataclass(frozen=True)
class Probe:
    """How well words alone tell something.

    Args:
        target: what is guessed.
        right: share of right guesses on texts of other houses.
        prior: share of right guesses of somebody who always says what was commonest in training.
        n: texts guessed on.
    """

    target: str
    right: float
    prior: float
    n: int


def probes(
    train: Sequence[NavEpisode],
    other: Sequence[NavEpisode],
    houses: Mapping[str, House],
    graphs: Mapping[str, ViewpointGraph],
) -> list[Probe]:
    """Ridge classifiers from bags of words, taught on `train` and asked about `other`, one for each target."""
    pairs = [(e, i.text) for e in train for i in e.instructions]
    pairs = [pairs[k] for k in np.linspace(0, len(pairs) - 1, min(TEXTS, len(pairs))).astype(int)]
    asked = [(e, i.text) for e in other for i in e.instructions]
    known = vocabulary([text for _, text in pairs])[:WORDS]
    x, y = _bags([t for _, t in pairs], known), _bags([t for _, t in asked], known)
    edges = np.quantile([graphs[e.scan].length(e.path) for e in train], [1 / 3, 2 / 3])

    def first_bend(e: NavEpisode) -> str:
        bends = _bends(e, graphs[e.scan])
        turned = bends[np.abs(bends) > BEND]
        return "none" if not len(turned) else "right" if turned[0] > 0 else "left"

    def length(e: NavEpisode) -> str:
        return str(int(np.searchsorted(edges, graphs[e.scan].length(e.path))))

    def room(e: NavEpisode) -> str:
        graph = graphs[e.scan]
        return _room(houses[e.scan], graph.positions[graph.index(e.path[-1])])

    def north(e: NavEpisode) -> str:
        return str(int(e.heading / (2 * np.pi) * SECTORS) % SECTORS)

    targets = {
        "first bend of the way": first_bend,
        "third of the lengths": length,
        "room of the goal": room,
        "compass at the start": north,
    }
    out: list[Probe] = []
    for name, target in targets.items():
        labels, truth = ([target(e) for e, _ in rows] for rows in (pairs, asked))
        commonest = Counter(labels).most_common(1)[0][0]
        right = float(np.mean([a == b for a, b in zip(_guess(x, labels, y), truth, strict=True)]))
        out.append(Probe(name, right, truth.count(commonest) / len(truth), len(truth)))
    return out


def giveaways(
    found: Sequence[Probe], splits: Mapping[str, Sequence[NavEpisode]], graphs: Mapping[str, ViewpointGraph]
) -> list[Check]:
    """Laws on what the probes found, and on routes of one shape in training and in new houses."""
    north = next(p for p in found if p.target == "compass at the start")
    # Three standard errors of a share above what the commonest answer, or chance, gets.
    floor = max(north.prior, 1 / SECTORS)
    limit = floor + 3 * np.sqrt(floor * (1 - floor) / (north.n / 3))
    shared = repeated_shapes(splits["train"], splits["val_unseen_house"], graphs)
    return [
        Check("compass at the start, from words", f"{north.right:.1%}", f"≤ {limit:.1%}", bool(north.right <= limit)),
        Check("routes shaped as one of training", f"{shared:.1%}", "less than 5 %", shared < 0.05),
    ]


def repeated_shapes(
    train: Sequence[NavEpisode], other: Sequence[NavEpisode], graphs: Mapping[str, ViewpointGraph]
) -> float:
    """Share of the other paths whose bends (to 30°) and hops (to 1 m) are those of some path of training."""
    known = {_shape(e, graphs[e.scan]) for e in train}
    return sum(_shape(e, graphs[e.scan]) in known for e in other) / len(other)


def _shape(e: NavEpisode, graph: ViewpointGraph) -> tuple[tuple[int, ...], tuple[int, ...]]:
    steps = np.diff(_points(e, graph), axis=0)
    turns = np.round(_bends(e, graph) / (np.pi / 6)).astype(int)
    return tuple(turns.tolist()), tuple(np.round(np.linalg.norm(steps, axis=1)).astype(int).tolist())


def _points(e: NavEpisode, graph: ViewpointGraph) -> np.ndarray:
    return np.array([graph.positions[graph.index(v)] for v in e.path])


def _bends(e: NavEpisode, graph: ViewpointGraph) -> np.ndarray:
    """Changes of heading [rad] on the way, in (−π, π], to the right positive."""
    steps = np.diff(_points(e, graph), axis=0)
    headings = np.arctan2(steps[:, 0], steps[:, 1])
    return (np.diff(headings) + np.pi) % (2 * np.pi) - np.pi


def _room(house: House, eye: np.ndarray) -> str:
    """The kind of room a camera is in; `""` in a doorway."""
    storey = int(eye[2] // house.storey_height)
    for room in house.rooms:
        corners = np.array(room.polygon)
        if room.storey == storey and (corners.min(0) <= eye[:2]).all() and (eye[:2] <= corners.max(0)).all():
            return room.kind
    return ""


def _bags(texts: Sequence[str], known: Sequence[str]) -> np.ndarray:
    """float64 [n, words + 1]: whether each word occurs, and a one."""
    index = {word: i for i, word in enumerate(known)}
    bags = np.zeros((len(texts), len(known) + 1))
    bags[:, -1] = 1
    for row, text in zip(bags, texts, strict=True):
        row[[index[t] for t in tokenize(text) if t in index]] = 1
    return bags


def _guess(x: np.ndarray, labels: Sequence[str], y: np.ndarray, ridge: float = 10.0) -> list[str]:
    """Labels of `y` by ridge regression onto one indicator per label."""
    names = sorted(set(labels))
    wanted = np.array([[label == name for name in names] for label in labels], float)
    weights = np.linalg.solve(x.T @ x + ridge * np.eye(x.shape[1]), x.T @ wanted)
    return [names[i] for i in (y @ weights).argmax(1)]
