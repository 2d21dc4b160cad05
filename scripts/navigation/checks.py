"""Whether a release leaks: what no split may share with training, and what no split may give away."""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import stats

from ...datasets.formats import vlnce
from ...envs.house.check import layout_hash
from ...envs.house.house import House
from ...vla.navigation import NavEpisode, ViewpointGraph

_PLAIN = ("val_seen", "val_unseen_house", "val_unseen_phrasing", "val_distractor")
"""Splits whose paths are drawn like those of training."""
NEW_HOUSES = (
    "val_unseen_house",
    "val_unseen_object",
    "val_unseen_phrasing",
    "val_compositional",
    "val_long",
    "val_distractor",
    "test",
)
ALPHA = 0.001
"""Of each statistical test; with about ten of them, one honest release in a hundred is called uneven."""
STILL, BLIND = 0.0, 0.05
"""Success of agents that stop at once, and at most of those that walk straight on."""


@dataclass(frozen=True)
class Check:
    """One law of the release.

    Args:
        name: what is looked at.
        found: the figure.
        wanted: its limit, in words.
        holds: whether it is kept.
    """

    name: str
    found: str
    wanted: str
    holds: bool


def checks(
    splits: Mapping[str, Sequence[NavEpisode]], houses: Mapping[str, House], graphs: Mapping[str, ViewpointGraph]
) -> list[Check]:
    """Every check; `houses` and `graphs` by scan."""
    train = splits["train"]
    layouts = {scan: layout_hash(house) for scan, house in houses.items()}
    seen = {e.scan for e in train}
    out = [
        _disjoint("houses of the other sets", seen, (e.scan for s in NEW_HOUSES for e in splits[s])),
        _disjoint(
            "layouts of all other houses",
            {layouts[s] for s in seen},
            (layouts[s] for s in houses if s not in seen),
        ),
        _disjoint("assets of val_unseen_object", _assets(houses, train), _assets(houses, splits["val_unseen_object"])),
        _disjoint("textures of val_unseen_object", _looks(houses, train), _looks(houses, splits["val_unseen_object"])),
        _disjoint(
            "templates of val_unseen_phrasing",
            _said(train, "templates"),
            _said(splits["val_unseen_phrasing"], "templates"),
        ),
        _each_has_new(
            "combinations of val_compositional",
            _said(train, "combinations"),
            [set(said) for e in splits["val_compositional"] for said in e.extra["combinations"]],
        ),
        _disjoint("pairs of start and goal of val_seen", _ends(train), _ends(splits["val_seen"])),
        _repeated("texts of other splits found in training", train, splits),
        _even_headings(train, graphs),
    ]
    out += [_alike(name, train, splits[name], graphs) for name in _PLAIN]
    return out


def hidden(folder: Path, test: Sequence[NavEpisode]) -> Check:
    """Whether public files tell the goals of the test split, or show its houses; `test` has its goals."""
    ends = {e.path[-1] for e in test} - {e.path[0] for e in test}
    scans = {e.scan for e in test}
    told = 0
    for file in sorted(p for p in folder.rglob("*") if p.is_file()):
        inside = file.relative_to(folder).parts
        # A viewpoint graph names all viewpoints alike; that one of them is a goal it does not say.
        if inside[0] not in ("private", "connectivity"):
            told += inside[0] in ("houses", "BBox") and file.name.startswith(tuple(scans))
            told += any(end in text for text in [_text(file)] for end in ends)
    file = folder / "R2R_VLNCE" / "test" / "test.json.gz"
    if file.exists():
        told += sum(bool(e.goals or e.reference or e.distance) for e in vlnce.load(file))
    return Check("goals of test in public files", f"{told} told", "0", not told)


def _text(file: Path) -> str:
    data = file.read_bytes()
    return (gzip.decompress(data) if file.suffix == ".gz" else data).decode("utf-8", "replace")


def sane(scores: Mapping[str, Mapping[str, Mapping[str, float]]]) -> list[Check]:
    """Whether success means something: split → agent → metric → value."""
    still = max(agents["stop"]["sr"] for agents in scores.values())
    counts = [(agents["forward"]["sr"], agents["forward"]["n"]) for agents in scores.values()]
    ahead = sum(sr * n for sr, n in counts) / sum(n for _, n in counts)
    best = min(agents["shortest path"]["spl"] for agents in scores.values())
    return [
        Check("SR of standing still", f"{still:.1%}", f"{STILL:.0%}", still <= STILL),
        Check("SR of walking straight on", f"{ahead:.1%}", f"less than {BLIND:.0%}", ahead < BLIND),
        Check("SPL of the shortest path", f"{best:.1%}", "100 %", best > 1 - 1e-9),
    ]


def read_houses(folder: Path) -> dict[str, House]:
    """All houses of a release by scan, those of the test split too where its private folder is there."""
    files = [*sorted((folder / "houses").glob("*.json")), *sorted((folder / "private" / "houses").glob("*.json"))]
    return {file.stem: House.from_json(file.read_text(encoding="utf-8")) for file in files}


def _disjoint(name: str, train: Iterable[object], other: Iterable[object]) -> Check:
    shared = set(train) & set(other)
    return Check(name, f"{len(shared)} shared with training", "0", not shared)


def _assets(houses: Mapping[str, House], episodes: Iterable[NavEpisode]) -> set[str]:
    return {i.asset for scan in {e.scan for e in episodes} for i in houses[scan].items}


def _looks(houses: Mapping[str, House], episodes: Iterable[NavEpisode]) -> set[str]:
    return {m.texture for scan in {e.scan for e in episodes} for m in houses[scan].materials.values()} - {""}


def _said(episodes: Iterable[NavEpisode], what: str) -> set[str]:
    return {name for e in episodes for said in e.extra[what] for name in said}


def _each_has_new(name: str, train: set[str], texts: Sequence[set[str]]) -> Check:
    without = sum(not said - train for said in texts)
    return Check(name, f"{without} of {len(texts)} without a new one", "0", not without)


def _ends(episodes: Iterable[NavEpisode]) -> set[tuple[str, str, str]]:
    return {(e.scan, e.path[0], e.path[-1]) for e in episodes}


def _repeated(name: str, train: Sequence[NavEpisode], splits: Mapping[str, Sequence[NavEpisode]]) -> Check:
    told = {i.text for e in train for i in e.instructions}
    others = [i.text for s, episodes in splits.items() if s != "train" for e in episodes for i in e.instructions]
    share = sum(text in told for text in others) / max(1, len(others))
    return Check(name, f"{share:.2%}", "less than 1 %", share < 0.01)


def _even_headings(episodes: Sequence[NavEpisode], graphs: Mapping[str, ViewpointGraph]) -> Check:
    """The heading at the start says nothing of the first step: their difference is uniform (Rayleigh test)."""
    off: list[float] = []
    for e in episodes:
        graph = graphs[e.scan]
        a, b = (graph.positions[graph.index(v)] for v in e.path[:2])
        off.append(float(np.arctan2(b[0] - a[0], b[1] - a[1])) - e.heading)
    length = abs(np.exp(1j * np.array(off)).mean())
    p = float(np.exp(-len(off) * length**2))
    return Check("heading at the start, of the first step", f"p = {p:.3f}", f"p > {ALPHA}", p > ALPHA)


def _alike(
    name: str, train: Sequence[NavEpisode], other: Sequence[NavEpisode], graphs: Mapping[str, ViewpointGraph]
) -> Check:
    """Lengths and numbers of turns are drawn as in training (Kolmogorov–Smirnov)."""
    ps: list[float] = []
    for f in (_length, _turns):
        ours, theirs = ([f(e, graphs[e.scan]) for e in episodes] for episodes in (train, other))
        ps.append(float(np.asarray(stats.ks_2samp(ours, theirs))[1]))
    found = f"p = {ps[0]:.3f} and {ps[1]:.3f}"
    return Check(f"length and turns: {name} as train", found, f"p > {ALPHA}", min(ps) > ALPHA)


def _length(episode: NavEpisode, graph: ViewpointGraph) -> float:
    return graph.length(episode.path)


def _turns(episode: NavEpisode, graph: ViewpointGraph) -> float:
    """How often the way bends by more than 30°."""
    steps = np.diff([graph.positions[graph.index(v)][:2] for v in episode.path], axis=0)
    headings = np.arctan2(steps[:, 0], steps[:, 1])
    bends = np.abs((np.diff(headings) + np.pi) % (2 * np.pi) - np.pi)
    return float((bends > np.pi / 6).sum())
