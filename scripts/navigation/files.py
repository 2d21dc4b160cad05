"""The files of a release of `wayhand-r2r`, those of the test split's goals in a folder of their own."""

from __future__ import annotations

import hashlib
import json
import secrets
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from ...datasets.formats import connectivity, r2r, reverie, rxr, vlnce
from ...datasets.formats.vocabulary import Vocabulary
from ...envs.house.generate import VERSION
from ...vla.errors import DataError
from ...vla.navigation import NavEpisode
from .floor import Walk
from .plan import NAME, SPLITS, SPOKEN, UNFINISHED, Made, Plan


def begin(folder: Path) -> None:
    """Clear what an interrupted release has left; raises `DataError` where the folder holds anything else."""
    private = folder / "private"
    entries = [p for p in folder.iterdir() if p != private] if folder.is_dir() else []
    entries += [p for p in private.iterdir() if p.name != "key"] if private.is_dir() else []
    if entries and not (folder / UNFINISHED).exists():
        raise DataError(
            f"{folder} holds other files",
            expected="a new folder, an empty one, or one with a release",
            got=", ".join(sorted(p.name for p in entries)[:5]),
        )
    for entry in entries:
        if entry.is_dir():
            shutil.rmtree(entry)
        elif entry.name != UNFINISHED:
            entry.unlink()
    private.mkdir(parents=True, exist_ok=True)
    (folder / UNFINISHED).write_text(
        "This release is not complete: the same command makes it anew.\n", encoding="utf-8"
    )


def secret(folder: Path) -> bytes:
    """The key of the test split: read from `private/`, or drawn anew and kept there."""
    path = folder / "private" / "key"
    if not path.exists():
        path.touch(mode=0o600)
        path.write_text(secrets.token_hex(32), encoding="ascii")
    try:
        return bytes.fromhex(path.read_text(encoding="ascii").strip())
    except ValueError:
        raise DataError(f"{path} is no key", expected="64 hexadecimal digits, or no such file") from None


def write_house(folder: Path, houses: str, made: Made) -> None:
    """Write the description of one house of a set, and what its viewpoints see."""
    place = (folder / "private" if houses == "test" else folder) / "houses"
    place.mkdir(parents=True, exist_ok=True)
    (place / f"{made.scan}.json").write_text(made.house, encoding="utf-8")
    if any(made.told.values()):
        reverie.save_objects(folder / "BBox", {made.scan: made.objects})


def write(
    folder: Path,
    plan: Plan,
    found: Mapping[str, list[Made]],
    splits: Mapping[str, list[NavEpisode]],
    left_out: Mapping[str, int],
    key: bytes,
) -> None:
    """Write everything else; the manifest comes last."""
    graphs = [m.graph for all_made in found.values() for m in all_made if m.graph is not None]
    connectivity.save(folder / "connectivity", graphs)
    words = Vocabulary.of(i.text for e in splits["train"] for i in e.instructions)
    counts: dict[str, dict[str, object]] = {}
    for name, episodes in splits.items():
        hidden = name == "test"
        place = folder / "private" if hidden else folder
        r2r.save(place / f"R2R_{name}.json", episodes)
        if hidden:
            r2r.save(folder / f"R2R_{name}.json", [_start_of(e) for e in episodes])
        walks = [w for m in found[SPLITS[name][0]] for w in m.walks.get(name, []) if w is not None]
        if plan.continuous:
            write_walks(place, name, walks, words)
            if hidden:
                write_walks(folder, name, [(_start_of(e), run) for e, run in walks], words, runs=False)
        counts[name] = _counts(name, place, episodes, len(walks))
    for register in plan.registers:
        for name in SPOKEN:
            write_told(folder, register, name, [e for m in found[SPLITS[name][0]] for e in m.told[register, name]])
    manifest = {
        "name": NAME,
        "generator": VERSION,
        "plan": asdict(plan),
        "splits": counts,
        "houses_left_out": dict(sorted(left_out.items())),
        # Publishing this beforehand proves later that the test split was not chosen after the results.
        "test_key_sha256": hashlib.sha256(key).hexdigest(),
    }
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    (folder / UNFINISHED).unlink()


def _counts(name: str, place: Path, episodes: Sequence[NavEpisode], walks: int) -> dict[str, object]:
    return {
        "tests": SPLITS[name][1],
        "houses": len({e.scan for e in episodes}),
        "paths": len(episodes),
        "instructions": sum(len(e.instructions) for e in episodes),
        "paths_on_the_floor": walks,
        "sha256": hashlib.sha256((place / f"R2R_{name}.json").read_bytes()).hexdigest(),
    }


def _start_of(episode: NavEpisode) -> NavEpisode:
    """What the test files of R2R and VLN-CE tell: the start alone."""
    return replace(episode, path=episode.path[:1], distance=None, reference=(), goals=(), extra={})


def write_walks(folder: Path, name: str, walks: Sequence[Walk], words: Vocabulary, *, runs: bool = True) -> None:
    """VLN-CE's files: an episode an instruction, whose id ends in the instruction's number."""
    path = folder / "R2R_VLNCE" / name / f"{name}.json.gz"
    path.parent.mkdir(parents=True, exist_ok=True)
    single = [
        (replace(e, id=str(int(e.id) * 10 + n), instructions=(i,), extra={"trajectory_id": int(e.id)}), run)
        for e, run in walks
        for n, i in enumerate(e.instructions)
    ]
    vlnce.save(path, [e for e, _ in single], vocabulary=words)
    if runs:
        vlnce.save_ground_truth(vlnce.ground_truth_path(path), {e.id: run for e, run in single})


def write_told(folder: Path, register: str, name: str, episodes: Sequence[NavEpisode]) -> None:
    """Write a split in another register: REVERIE's file, or RxR's with a line an instruction."""
    if register == "reverie":
        reverie.save(folder / f"REVERIE_{name}.json", episodes)
        return
    guides = [
        replace(e, id=i.id, instructions=(i,), extra={"path_id": int(e.id), "split": name})
        for e in episodes
        for i in e.instructions
    ]
    rxr.save(folder / f"rxr_{name}_guide.jsonl.gz", guides)
