"""`wayhand score`: the numbers of the original evaluators for a navigation submission, with intervals."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..datasets.formats import connectivity
from ..vla.errors import ConfigError, did_you_mean
from ..vla.evaluation.nav_baselines import run, shortest_path
from ..vla.evaluation.nav_protocols import PRESETS, NavProtocol, nav_protocol
from ..vla.evaluation.nav_score import Score, World, compare, items, score, unmoved
from ..vla.navigation import NavEpisode, NavResult
from .navigation import score_files as files

HELP = """\
Usage: wayhand score protocol=NAME annotations=FILE results=FILE [key=value …]

Scores a submission as the original evaluator of its benchmark does, and prints JSON: `metrics` (fractions and
metres), `intervals` (bootstrap, resampled by path), the protocol with its hash, and the split with its hash.

  protocol            annotations; results                                                also needs
  r2r-v1              R2R JSON list; [{instr_id, trajectory}]                             connectivity
  rxr-v1              RxR guide jsonl[.gz]; {instruction_id, path} a line, or as R2R's    connectivity
  reverie-v1          REVERIE JSON list; [{instr_id, trajectory, predObjId}]              connectivity bboxes
  soon-v1             SOON JSON; [{instr_id, trajectory: {path, obj_heading, …}}]         connectivity
  vlnce-r2r-v1-3      VLN-CE json[.gz]; {episode_id: [{position, heading, stop}]}         distances [gt]
  vlnce-rxr           RxR-CE json[.gz]; {instruction_id, path} a line                     distances [gt]
  objectnav, pointnav habitat-lab json[.gz]; as VLN-CE's, ids of content/ files are       distances
                      "<scene>/<episode_id>"
  wayhand-nav-v1      R2R or RxR; a missing result is a failure, unknown ids are errors   connectivity
  wayhand-nav-ce-v1   VLN-CE; likewise                                                    distances [gt]

Options:
  connectivity=DIR    folder (or .tar.gz) with <scan>_connectivity.json; must hold the annotations' scans
  bboxes=DIR          REVERIE's BBox folder: which objects are visible from where
  gt=FILE             dense reference locations of VLN-CE, for nDTW; default <split>_gt.json.gz beside the annotations
  houses=DIR          house JSON files (`wayhand house …`): distances along their floors
  distance=recorded   each step of a result also has `distance`: what habitat measured as distance_to_goal [m]
  distance=euclid     straight-line distances. NOT the benchmark's numbers: NE comes out too small, SR and OSR too
                      large; SPL is held against the file's own geodesic distance. Never chosen unasked.
  languages=en-US,en-IN   only these of RxR's; the subset is part of the split's hash
  compare=FILE        other results of the same split: paired differences, this minus other, with intervals
  baselines=false     leave out the rows of agents that cannot read (stop; on graphs also the shortest path)
  out=FILE            also write every instruction's numbers, as JSON
  confidence=0.95 resamples=2000 seed=0    of the bootstrap

Examples:
  wayhand score protocol=r2r-v1 annotations=R2R_val_unseen.json results=submit.json connectivity=connectivity
  wayhand score protocol=vlnce-r2r-v1-3 annotations=val_unseen.json.gz results=submit.json distance=recorded
"""


@dataclass(frozen=True)
class Options:
    """What the command line says."""

    protocol: str = ""
    annotations: str = ""
    results: str = ""
    connectivity: str = ""
    bboxes: str = ""
    gt: str = ""
    houses: str = ""
    distance: str = ""
    languages: str = ""
    compare: str = ""
    baselines: str = "true"
    out: str = ""
    confidence: str = "0.95"
    resamples: str = "2000"
    seed: str = "0"

    def __post_init__(self) -> None:
        for name in ("protocol", "annotations", "results"):
            if not getattr(self, name):
                exists = [p.name for p in PRESETS] if name == "protocol" else None
                raise ConfigError(f"'score' needs {name}=…", exists=exists, run="wayhand score --help")
        if self.distance not in ("", "recorded", "euclid"):
            raise ConfigError("Unknown kind of distance", got=self.distance, exists=["recorded", "euclid"])
        if self.baselines not in ("true", "false"):
            raise ConfigError("'baselines' is true or false", got=self.baselines)
        for name, kind, fits in (
            ("confidence", float, lambda v: 0 < v < 1),
            ("resamples", int, lambda v: v > 0),
            ("seed", int, lambda v: v >= 0),
        ):
            _number(name, getattr(self, name), kind, fits)


def main(overrides: list[str]) -> int:
    options = _options(overrides)
    protocol = nav_protocol(options.protocol)
    episodes = _episodes(options)
    results = files.load_results(options.protocol, options.results)
    world = _world(options, protocol, episodes)
    scored = _score(options, protocol, episodes, results, world)
    report = _report(options, scored) | {"annotations": options.annotations, "results": options.results}
    if options.baselines == "true":
        report["baselines"] = _baselines(protocol, episodes, world)
    if options.compare:
        other = _score(options, protocol, episodes, files.load_results(options.protocol, options.compare), world)
        report["compare"] = {"results": options.compare, "metrics": other.metrics} | compare(
            scored, other, **_bootstrap(options)
        )
    if options.out:
        rows = [{"id": r.id, **r.metrics} for r in scored.rows]
        Path(options.out).write_text(json.dumps(report | {"episodes": rows}, indent=1), encoding="utf-8")
    print(json.dumps(report, indent=2))
    return 0


def _options(overrides: Sequence[str]) -> Options:
    names = list(Options.__dataclass_fields__)
    given: dict[str, str] = {}
    for override in overrides:
        name, equals, value = override.partition("=")
        if not equals or name not in names:
            close = did_you_mean(name, names)
            hint = f"; did you mean '{close}'?" if close else ""
            raise ConfigError(f"'score' has no option '{name}'{hint}", exists=names, run="wayhand score --help")
        given[name] = value
    return Options(**given)


def _episodes(options: Options) -> list[NavEpisode]:
    """The annotations, with the languages and the visible objects that the command line asks for."""
    episodes = files.load_episodes(options.protocol, options.annotations)
    if options.languages:
        episodes = files.in_languages(episodes, options.languages.split(","))
    if options.protocol == "reverie-v1":
        if not options.bboxes:
            raise ConfigError("REVERIE's success is seeing the object", expected="bboxes=DIR, its BBox folder")
        episodes = files.with_visibility(episodes, options.bboxes)
    return episodes


def _world(options: Options, protocol: NavProtocol, episodes: Sequence[NavEpisode]) -> World:
    """Where distances come from."""
    if protocol.discrete:
        if not options.connectivity:
            raise ConfigError(
                f"'{protocol.name}' measures along viewpoint graphs",
                expected="connectivity=DIR, a folder or .tar.gz with <scan>_connectivity.json",
            )
        return World(graphs=connectivity.load(options.connectivity))
    references = files.references(options.annotations, options.gt) if protocol.alignment else {}
    if options.houses and not options.distance:
        return World(distances=files.along_floors(Path(options.houses), protocol), references=references)
    if options.distance and not options.houses:
        chosen = files.euclid if options.distance == "euclid" else None
        return World(distances=chosen, references=references, file_distances=chosen is not None)
    raise ConfigError(
        f"'{protocol.name}' measures distances along the floor; say where from, in one way",
        exists=[
            "houses=DIR (the floors of our houses)",
            "distance=recorded (the results hold what habitat measured)",
            "distance=euclid (straight lines, which are not the benchmark's numbers)",
        ],
    )


def _score(
    options: Options,
    protocol: NavProtocol,
    episodes: Sequence[NavEpisode],
    results: Sequence[NavResult],
    world: World,
) -> Score:
    scored = score(protocol, episodes, results, world)
    if scored.ignored:
        print(
            f"note: {scored.ignored} results of unknown ids or after the first of an id were ignored", file=sys.stderr
        )
    if scored.missing:
        fate = "count as failures" if protocol.missing == "failure" else "are left out of the means"
        print(f"note: {scored.missing} instructions without a result {fate}", file=sys.stderr)
    return scored


def _report(options: Options, scored: Score) -> dict[str, Any]:
    protocol = scored.protocol
    report: dict[str, Any] = {
        "protocol": {"name": protocol.name, "hash": protocol.hash, "id": scored.id},
        "split_hash": scored.split_hash,
        "n": len(scored.rows),
        "paths": len({r.path for r in scored.rows}),
        "missing": scored.missing,
        "ignored": scored.ignored,
        "metrics": scored.metrics,
        "intervals": scored.intervals(**_bootstrap(options)),
        "bootstrap": _bootstrap(options),
    }
    if not protocol.discrete:
        report["protocol"]["distances"] = options.distance or "houses"
    if options.distance == "euclid":
        report["protocol"]["id"] += "/euclid"
        report["warning"] = "straight-line distances: not comparable with the benchmark's published numbers"
    return report


def _baselines(protocol: NavProtocol, episodes: Sequence[NavEpisode], world: World) -> dict[str, dict[str, float]]:
    """What agents reach that cannot read, under the same protocol."""
    wanted = items(protocol, episodes)
    rows = {"stop": [unmoved(name, episode) for name, episode in wanted]}
    if protocol.discrete:
        rows["shortest_path"] = run(shortest_path, world.graphs, wanted)
    return {agent: score(protocol, episodes, results, world).metrics for agent, results in rows.items()}


def _bootstrap(options: Options) -> dict[str, Any]:
    return {
        "confidence": float(options.confidence),
        "resamples": int(options.resamples),
        "seed": int(options.seed),
    }


def _number(name: str, text: str, kind: Callable[[str], Any], fits: Callable[[Any], bool]) -> None:
    try:
        fine = fits(kind(text))
    except ValueError:
        fine = False
    if not fine:
        raise ConfigError(f"'{name}' does not fit", got=text, run="wayhand score --help")
