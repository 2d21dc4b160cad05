"""The benchmark from seeds, in miniature: its files, its checks, and leaks planted for them to find."""

from __future__ import annotations

import gzip
import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from houses import flat

from wayhand.datasets.formats import connectivity, r2r, reverie, rxr, vlnce
from wayhand.scripts import bench_nav, score
from wayhand.scripts.navigation import release as nav_release
from wayhand.scripts.navigation.checks import Check, checks, hidden, read_houses, sane
from wayhand.scripts.navigation.plan import SPLITS, UNFINISHED, Made, Plan
from wayhand.scripts.navigation.probe import giveaways, probes, repeated_shapes
from wayhand.scripts.navigation.registers import boxes
from wayhand.scripts.navigation.release import build
from wayhand.vla.errors import ConfigError, DataError
from wayhand.vla.evaluation.nav_baselines import run, shortest_path
from wayhand.vla.evaluation.nav_score import Score
from wayhand.vla.navigation import NavEpisode, heading_between

KEY = "5a" * 32
PLAN = Plan(2, 1, 2, 2, (6, 10), 0, True, ("rxr", "reverie"))
OPTIONS = ["houses=2", "unseen=1", "paths=2", "unseen_paths=2", "rooms=[6,10]", "registers=[r2r,rxr,reverie]"]


def locked(folder: Path) -> Path:
    """A new folder with a key, so that the test split is the same every time."""
    (folder / "private").mkdir(parents=True)
    (folder / "private" / "key").write_text(KEY)
    return folder


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = locked(tmp_path_factory.mktemp("nav") / "release")
    assert bench_nav.main([f"out={out}", *OPTIONS, "workers=0"]) == 0
    return out


@pytest.fixture(scope="module")
def splits(release: Path) -> dict[str, list[NavEpisode]]:
    return {n: r2r.load(release / ("private" if n == "test" else "") / f"R2R_{n}.json") for n in SPLITS}


def digests(folder: Path) -> dict[str, str]:
    files = [p for p in sorted(folder.rglob("*")) if p.is_file() and p.name != "scores.json"]
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def test_every_check_holds_and_success_means_something(release: Path) -> None:
    report = json.loads((release / "scores.json").read_text())
    assert len(report["checks"]) >= 17 and all(c["holds"] for c in report["checks"])
    assert set(report["scores"]) == set(SPLITS) - {"train"}
    for rows in report["scores"].values():
        assert rows["stop"]["metrics"]["sr"] == 0 and rows["shortest path"]["metrics"]["spl"] == 1
        assert rows["parser-follower"]["metrics"]["sr"] > 0.9
        low, high = rows["random"]["intervals"]["sr"]
        assert low <= rows["random"]["metrics"]["sr"] <= high


def test_the_manifest_counts_what_is_there(release: Path, splits: dict[str, list[NavEpisode]]) -> None:
    manifest = json.loads((release / "manifest.json").read_text())
    assert manifest["test_key_sha256"] == hashlib.sha256(bytes.fromhex(KEY)).hexdigest()
    for name, episodes in splits.items():
        told = manifest["splits"][name]
        assert (told["paths"], told["instructions"]) == (len(episodes), 3 * len(episodes))
        file = release / ("private" if name == "test" else "") / f"R2R_{name}.json"
        assert told["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    ids = [e.id for episodes in splits.values() for e in episodes]
    assert len(set(ids)) == len(ids)
    assert not (release / UNFINISHED).exists()


def test_the_same_seed_gives_the_same_files_after_an_interruption_and_with_processes(
    release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = locked(tmp_path / "again")

    def interrupted(seed: int, *, houses: str, plan: Plan) -> Made:
        if seed:
            raise KeyboardInterrupt
        return made(seed, houses=houses, plan=plan)

    made = nav_release.make
    monkeypatch.setattr(nav_release, "make", interrupted)
    with pytest.raises(KeyboardInterrupt):
        build(out, PLAN, workers=0)
    assert (out / UNFINISHED).exists() and not (out / "manifest.json").exists() and list((out / "houses").iterdir())
    (out / "houses" / "left over.json").write_text("{}")
    monkeypatch.undo()
    build(out, PLAN, workers=2)
    assert digests(out) == digests(release)


def test_only_the_test_split_depends_on_the_key(release: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    build(other, replace(PLAN, continuous=False, registers=()), workers=0)
    ours, theirs = digests(release), digests(other)
    same = {name for name in theirs if ours.get(name) == theirs[name]}
    assert {f"R2R_{n}.json" for n in SPLITS if n != "test"} <= same
    assert "R2R_test.json" not in same
    assert {name for name in theirs if name.startswith("houses/")} <= same


def test_a_complete_release_is_not_made_again(
    release: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = digests(release)
    monkeypatch.delattr(nav_release, "make")
    assert bench_nav.main([f"out={release}", *OPTIONS, "baselines=false"]) == 0
    assert digests(release) == before and "is complete" in capsys.readouterr().out
    with pytest.raises(DataError, match="another release"):
        bench_nav.main([f"out={release}", *OPTIONS, "seed=1"])
    monkeypatch.undo()
    assert bench_nav.main([f"out={release}", *OPTIONS]) == 0  # the scores are there again


def test_wrong_arguments_are_explained(tmp_path: Path) -> None:
    for wrong, words in (
        ("size=huge", "small"),
        ("houses=0", "at least 1"),
        ("rooms=[1,30]", "rooms"),
        ("registers=[rxr]", "r2r"),
        ("registers=[r2r,soon]", "reverie"),
    ):
        with pytest.raises(ConfigError, match=words):
            bench_nav.main([f"out={tmp_path / 'x'}", wrong])
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(DataError, match=r"thesis\.txt"):
        bench_nav.main([f"out={tmp_path}", *OPTIONS, "workers=0"])
    assert (tmp_path / "thesis.txt").read_text() == "mine"
    key = tmp_path / "keyed" / "private" / "key"
    key.parent.mkdir(parents=True)
    key.write_text("no key")
    with pytest.raises(DataError, match="hexadecimal"):
        bench_nav.main([f"out={tmp_path / 'keyed'}", *OPTIONS, "workers=0"])


# --- secrets ----------------------------------------------------------------------------------------------------------


def test_public_files_tell_the_starts_of_the_test_split_alone(
    release: Path, splits: dict[str, list[NavEpisode]], tmp_path: Path
) -> None:
    public, private = r2r.load(release / "R2R_test.json"), splits["test"]
    assert [(e.id, e.scan, e.heading, e.path, e.instructions) for e in public] == [
        (e.id, e.scan, e.heading, e.path[:1], e.instructions) for e in private
    ]
    assert all(e.distance is None for e in public)
    on_floor = vlnce.load(release / "R2R_VLNCE" / "test" / "test.json.gz")
    assert on_floor and all(not e.goals and not e.reference and e.distance is None for e in on_floor)
    assert not (release / "R2R_VLNCE" / "test" / "test_gt.json.gz").exists()
    seeds = {read_houses(release)[e.scan].seed for e in private}
    assert min(seeds) > 1 << 64  # nobody tries them all
    assert all(int(e.id) < 1 << 20 for e in public)  # ids do not tell the seed
    assert hidden(release, private).holds
    copy = tmp_path / "copy"
    shutil.copytree(release, copy, ignore=shutil.ignore_patterns("connectivity"))
    (copy / "notes.txt.gz").write_bytes(gzip.compress(f"it is {private[0].path[-1]}".encode()))
    assert not hidden(copy, private).holds
    (copy / "notes.txt.gz").unlink()
    shutil.copy(next((copy / "private" / "houses").iterdir()), copy / "houses")
    assert not hidden(copy, private).holds


# --- planted leaks ----------------------------------------------------------------------------------------------------


def broken(release: Path, splits: dict[str, list[NavEpisode]], **changed: Sequence[NavEpisode]) -> set[str]:
    found = checks({**splits, **changed}, read_houses(release), connectivity.load(release / "connectivity"))
    return {c.name for c in found if not c.holds}


def said(episodes: Sequence[NavEpisode], **extra: Any) -> list[NavEpisode]:
    return [replace(e, extra={**e.extra, **extra}) for e in episodes]


def test_planted_leaks_are_found(release: Path, splits: dict[str, list[NavEpisode]]) -> None:
    train = splits["train"]
    assert broken(release, splits) == set()
    stolen = broken(release, splits, val_unseen_house=[*splits["val_unseen_house"], train[0]])
    assert {"houses of the other sets", "texts of other splits found in training"} <= stolen
    same_ends = [replace(e, instructions=()) for e in train]
    assert broken(release, splits, val_seen=same_ends) == {"pairs of start and goal of val_seen"}
    told = replace(splits["val_long"][0], instructions=train[0].instructions)
    assert broken(release, splits, val_long=[told]) == {"texts of other splits found in training"}
    phrases = splits["val_unseen_phrasing"][0].extra["templates"]
    leaked = said(train[:1], templates=phrases) + train[1:]
    assert broken(release, splits, train=leaked) == {"templates of val_unseen_phrasing"}
    everything = [e.extra["combinations"] for e in splits["val_compositional"]]
    leaked = said(train[:1], combinations=[c for e in everything for c in e]) + train[1:]
    assert broken(release, splits, train=leaked) == {"combinations of val_compositional"}
    furnished = broken(release, splits, val_unseen_object=splits["val_unseen_house"])
    assert {"assets of val_unseen_object", "textures of val_unseen_object"} <= furnished


def test_a_layout_that_was_seen_is_found(release: Path, splits: dict[str, list[NavEpisode]]) -> None:
    houses, graphs = read_houses(release), connectivity.load(release / "connectivity")
    houses[splits["test"][0].scan] = houses[splits["train"][0].scan]
    found = {c.name: c.holds for c in checks(splits, houses, graphs)}
    assert not found["layouts of all other houses"]


def test_headings_and_lengths_that_tell_something_are_found(release: Path, splits: dict[str, list[NavEpisode]]) -> None:
    graphs = connectivity.load(release / "connectivity")

    def ahead(e: NavEpisode) -> NavEpisode:
        graph = graphs[e.scan]
        a, b = (graph.positions[graph.index(v)] for v in e.path[:2])
        return replace(e, heading=heading_between(a, b))

    facing = [ahead(e) for e in splits["train"]] * 5
    assert "heading at the start, of the first step" in broken(release, splits, train=facing)
    longer = broken(release, splits, train=splits["train"] * 10, val_seen=splits["val_long"] * 20)
    assert "length and turns: val_seen as train" in longer


def test_words_that_tell_the_compass_are_found(release: Path, splits: dict[str, list[NavEpisode]]) -> None:
    houses, graphs = read_houses(release), connectivity.load(release / "connectivity")
    rng = np.random.default_rng(0)

    def many(episodes: Sequence[NavEpisode], told: bool) -> list[NavEpisode]:
        out: list[NavEpisode] = []
        for heading in rng.uniform(0, 2 * np.pi, 300):
            e = episodes[len(out) % len(episodes)]
            word = f"sector{int(heading / (np.pi / 4))}" if told else ""
            spoken = tuple(replace(i, text=f"{i.text} {word}") for i in e.instructions)
            out.append(replace(e, heading=float(heading), instructions=spoken))
        return out

    for told in (False, True):
        train, other = many(splits["train"], told), many(splits["val_unseen_house"], told)
        found = {p.target: p for p in probes(train, other, houses, graphs)}
        laws = giveaways(list(found.values()), {"train": train, "val_unseen_house": other}, graphs)
        assert laws[0].holds is not told
        assert (found["compass at the start"].right == 1.0) is told


def test_route_shapes_do_not_depend_on_where_a_house_stands(release: Path, splits: dict[str, list[NavEpisode]]) -> None:
    graphs = connectivity.load(release / "connectivity")
    train = splits["train"]
    turn = np.eye(4)
    turn[:3, :3] = [[0, -1, 0], [1, 0, 0], [0, 0, 1]]
    turn[:3, 3] = [5, -2, 0]
    turned = {name: replace(g, poses=turn @ g.poses) for name, g in graphs.items()}
    renamed = {f"{name}'": g for name, g in turned.items()}
    moved = [replace(e, scan=f"{e.scan}'") for e in train]
    assert repeated_shapes(train, moved, {**graphs, **renamed}) == 1.0
    backwards = [replace(e, path=e.path[::-1]) for e in train]
    assert repeated_shapes(train, backwards, graphs) < 1.0


def test_success_by_accident_is_found() -> None:
    fine = {"stop": {"sr": 0.0}, "forward": {"sr": 0.02, "n": 100}, "shortest path": {"spl": 1.0}}

    def holds(**changed: dict[str, float]) -> list[bool]:
        found: list[Check] = sane({"val": {**fine, **changed}})
        return [c.holds for c in found]

    assert holds() == [True, True, True]
    assert holds(stop={"sr": 0.01}) == [False, True, True]
    assert holds(forward={"sr": 0.2, "n": 100}) == [True, False, True]
    assert holds(**{"shortest path": {"spl": 0.99}}) == [True, True, False]


# --- other files ------------------------------------------------------------------------------------------------------


def test_runs_on_the_floor_end_at_their_goals(release: Path) -> None:
    file = release / "R2R_VLNCE" / "val_unseen_house" / "val_unseen_house.json.gz"
    episodes, runs = vlnce.load(file), vlnce.load_ground_truth(vlnce.ground_truth_path(file))
    assert episodes and {e.id for e in episodes} == set(runs)
    for e in episodes:
        run_ = runs[e.id]
        assert run_.actions[-1] == 0 and len(run_.locations) == run_.forward_steps + 1
        assert np.linalg.norm(np.subtract(run_.locations[-1], e.goals[0].position or ())) < 0.5
        assert e.instructions[0].extra.keys() == {"instruction_tokens"}  # nothing of how the words were made


@pytest.mark.parametrize("split", ["train", "val_unseen_house"])
def test_other_registers_are_scored_by_their_own_protocols(
    release: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], split: str
) -> None:
    graphs = connectivity.load(release / "connectivity")
    spoken = release / f"rxr_{split}_guide.jsonl.gz"
    episodes = rxr.load(spoken)
    assert all(len(e.instructions[0].words) == len(e.extra["word_nodes"]) for e in episodes)
    walked = run(shortest_path, graphs, [(i.id, e) for e in episodes for i in e.instructions])
    rxr.save_results(tmp_path / "rxr.jsonl", [replace(r, headings=(), elevations=()) for r in walked])
    pointing = release / f"REVERIE_{split}.json"
    targets = reverie.load(pointing)
    meant = {i.id: e.goals[0].object_id for e in targets for i in e.instructions}
    walked = run(shortest_path, graphs, [(i.id, e) for e in targets for i in e.instructions])
    reverie.save_results(tmp_path / "reverie.json", [replace(r, object_id=meant[r.id]) for r in walked])
    capsys.readouterr()
    for protocol, file, results, names in (
        ("rxr-v1", spoken, "rxr.jsonl", ("sr", "spl", "ndtw")),
        ("reverie-v1", pointing, "reverie.json", ("sr", "spl", "rgs", "rgspl")),
    ):
        options = [f"protocol={protocol}", f"annotations={file}", f"results={tmp_path / results}"]
        options += [f"connectivity={release / 'connectivity'}", "baselines=false", "resamples=10"]
        assert score.main(options + [f"bboxes={release / 'BBox'}"] * (protocol == "reverie-v1")) == 0
        metrics = json.loads(capsys.readouterr().out)["metrics"]
        assert all(metrics[name] == pytest.approx(1.0) for name in names)


def test_objects_stand_in_the_views_they_are_seen_in() -> None:
    plant = flat().items[4]
    for n, (dx, dy) in enumerate(((0.0, 1.0), (1.0, 0.0), (0.0, -1.0), (-1.0, 0.0))):
        eye = np.subtract(plant.position, (2.5 * dx, 2.5 * dy, -plant.size[2] / 2))
        seen = boxes(plant, eye)
        x, y, w, h = seen[12 + 3 * n]  # the level views of the four quarters
        assert abs(x + w / 2 - 320) < 2 and abs(y + h / 2 - 240) < 12
        assert 12 + (3 * n + 6) % 12 not in seen
    above = boxes(plant, np.add(plant.position, (0.0, -1.5, 2.0)))
    assert min(above, key=lambda view: -above[view][2] * above[view][3]) < 12  # seen looking down


def test_scores_know_their_protocol(splits: dict[str, list[NavEpisode]], release: Path) -> None:
    some = {name: splits[name][:1] for name in ("train", "val_seen")}
    graphs = connectivity.load(release / "connectivity")
    found: dict[str, dict[str, Score]] = bench_nav.sanity(some, read_houses(release), graphs, 0)
    assert found["val_seen"]["stop"].protocol.name == "wayhand-nav-v1"
