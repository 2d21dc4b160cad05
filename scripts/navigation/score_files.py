"""The files of navigation benchmarks: annotations, results, and where distances come from."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ...datasets.formats import habitat, r2r, reverie, rxr, soon, vlnce
from ...datasets.formats.detect import detect
from ...envs.house.house import House
from ...envs.house.navmesh import NavMesh
from ...vla.errors import ConfigError, DataError
from ...vla.evaluation.nav_protocols import Body, NavProtocol
from ...vla.evaluation.nav_score import Distances
from ...vla.navigation import Goal, NavEpisode, NavResult

ANNOTATIONS: dict[str, Callable[[str], list[NavEpisode]]] = {
    "habitat": habitat.load,
    "r2r": r2r.load,
    "reverie": reverie.load,
    "rxr": rxr.load,
    "soon": soon.load,
    "vlnce": vlnce.load,
}
RESULTS: dict[str, Callable[[str], list[NavResult]]] = {
    "r2r": r2r.load_results,
    "reverie": reverie.load_results,
    "rxr": rxr.load_results,
    "soon": soon.load_results,
    "vlnce": vlnce.load_results,
}
# The formats of annotations and of results that a protocol takes.
TAKES = {
    "r2r-v1": (("r2r",), ("r2r",)),
    "rxr-v1": (("rxr",), ("rxr", "r2r")),
    "reverie-v1": (("reverie",), ("reverie", "r2r")),
    "soon-v1": (("soon",), ("soon",)),
    "vlnce-r2r-v1-3": (("vlnce",), ("vlnce",)),
    "vlnce-rxr": (("vlnce",), ("vlnce",)),
    "objectnav": (("habitat",), ("vlnce",)),
    "pointnav": (("habitat",), ("vlnce",)),
    "wayhand-nav-v1": (("r2r", "rxr"), ("r2r", "rxr")),
    "wayhand-nav-ce-v1": (("vlnce",), ("vlnce",)),
}


def load_results(protocol: str, file: str) -> list[NavResult]:
    """The results of a file; raises `DataError` where the protocol does not take its format."""
    return RESULTS[_format(file, "results", protocol, TAKES[protocol][1])](file)


def load_episodes(protocol: str, file: str) -> list[NavEpisode]:
    """The annotations of a file; raises `DataError` where the protocol does not take its format."""
    return ANNOTATIONS[_format(file, "annotations", protocol, TAKES[protocol][0])](file)


def _format(file: str, what: str, protocol: str, takes: Sequence[str]) -> str:
    """The format a file is in, of those that may be given to a protocol."""
    found = detect(file)
    if found not in takes:
        raise DataError(
            f"'{protocol}' does not take these {what}",
            expected=f"a file of {' or '.join(takes)}",
            got=f"{file}, which looks like {found}",
            run="wayhand score --help",
        )
    return found


def in_languages(episodes: Sequence[NavEpisode], languages: Sequence[str]) -> list[NavEpisode]:
    """The episodes with their instructions of some languages; those that have none are left out.

    Raises:
        ConfigError: no instruction is in one of them.
    """
    spoken = sorted({i.language for e in episodes for i in e.instructions})
    for language in languages:
        if language not in spoken:
            raise ConfigError("No instruction is in this language", got=language, exists=spoken)
    kept = [replace(e, instructions=tuple(i for i in e.instructions if i.language in languages)) for e in episodes]
    return [e for e in kept if e.instructions]


def with_visibility(episodes: Sequence[NavEpisode], folder: str) -> list[NavEpisode]:
    """REVERIE's episodes, their goals with the viewpoints from which a BBox folder says that the object is visible."""
    seen = reverie.visible_from(reverie.load_objects(folder))
    return [replace(e, goals=tuple(_seen_from(e, g, seen) for g in e.goals)) for e in episodes]


def _seen_from(episode: NavEpisode, goal: Goal, seen: Mapping[tuple[str, str], tuple[str, ...]]) -> Goal:
    key = (episode.scan, str(goal.object_id))
    if key not in seen:
        raise DataError(
            f"Object {goal.object_id} of episode '{episode.id}' is visible from nowhere",
            expected=f"a file of '{episode.scan}' in bboxes that holds it",
        )
    return replace(goal, viewpoint_ids=seen[key])


def references(annotations: str, ground_truth: str) -> dict[str, np.ndarray]:
    """Dense reference locations by episode, from a file or, where it is "", from its usual place."""
    file = Path(ground_truth) if ground_truth else vlnce.ground_truth_path(annotations)
    if not ground_truth and not file.exists():
        print(f"note: no nDTW without gt=FILE; there is no {file}", file=sys.stderr)
        return {}
    return {name: np.array(run.locations) for name, run in vlnce.load_ground_truth(file).items()}


def euclid(scan: str, points: np.ndarray, goals: np.ndarray) -> np.ndarray:
    """Straight distances to the nearest goal, float64 [n]."""
    return np.linalg.norm(points[:, None] - goals[None], axis=-1).min(axis=1)


def along_floors(folder: Path, protocol: NavProtocol) -> Distances:
    """Distances along the floors of the houses of a folder, `<scan>.json` each."""
    meshes: dict[str, NavMesh] = {}

    def distances(scan: str, points: np.ndarray, goals: np.ndarray) -> np.ndarray:
        if scan not in meshes:
            file = folder / f"{scan}.json"
            if not file.is_file():
                raise DataError(
                    f"There is no house '{scan}'",
                    expected=str(file),
                    exists=[p.name for p in sorted(folder.glob("*.json"))[:10]],
                )
            house = House.from_json(file.read_text(encoding="utf-8"))
            body = protocol.body or Body(1.5, 0.1)
            meshes[scan] = NavMesh(house, radius=body.radius, height=body.height)
        field = meshes[scan].distance_field([tuple(g) for g in goals.tolist()])
        return np.array([field.distance(p) for p in points.tolist()])

    return distances
