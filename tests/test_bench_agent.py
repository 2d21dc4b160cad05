"""The whole way from seeds to a measured agent, in miniature."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from wayhand.datasets.formats import connectivity, r2r
from wayhand.envs.house.generate import generate
from wayhand.envs.house.instructions import make_episodes
from wayhand.envs.house.viewpoints import viewpoint_graph
from wayhand.scripts import bench_agent
from wayhand.scripts.navigation.agents import chosen, retold, shuffled, swapped
from wayhand.vla.errors import ConfigError
from wayhand.vla.navigation import Instruction, NavEpisode

SMALL = ["agent=viewpoint_tiny", "tower=views_tiny", "workers=0", "image_size=16", "tower_views=72", "tower_steps=2"]
MORE = ["tower_batch=8", "steps=2", "batch_size=2", "episodes=2", "threads=1"]
TINY = [*SMALL, *MORE]


def release(folder: Path) -> None:
    """Two training houses and another one, with two paths each, laid out as `wayhand bench nav` does."""
    (folder / "houses").mkdir(parents=True)
    graphs = []
    for split, seeds in (("train", (0, 3)), ("val_unseen_house", (1_000_000,))):
        episodes = []
        for seed in seeds:
            house = generate(seed, split, rooms=(5, 8))
            (folder / "houses" / f"{house.scan}.json").write_text(house.to_json(), encoding="utf-8")
            graphs.append(viewpoint_graph(house))
            episodes += make_episodes(house, graphs[-1], seed, 2, split=split)
        r2r.save(folder / f"R2R_{split}.json", episodes)
    connectivity.save(folder / "connectivity", graphs)


def test_from_seeds_to_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, out = tmp_path / "nav", tmp_path / "agent"
    release(data)
    assert bench_agent.main([f"data={data}", f"out={out}", *TINY]) == 0
    rows = json.loads((out / "summary.json").read_text())["splits"]["val_unseen_house"]
    assert {"full", "blind", "no_instruction", "stop", "random", "shortest path"} <= set(rows)
    assert all(found["n"] == 2 and found["id"] for found in rows.values())
    best, least = rows["shortest path"]["metrics"], rows["stop"]["metrics"]
    assert best["sr"] == best["spl"] == 1 and least["sr"] == least["tl"] == 0
    walks = r2r.load_results(out / "results" / "val_unseen_house_full.json")
    assert len(walks) == 2 and all(w.path for w in walks)
    before = {p: p.stat().st_mtime_ns for p in out.rglob("*.safetensors")}
    assert bench_agent.main([f"data={data}", f"out={out}", *TINY]) == 0  # nothing is left to do
    assert {p: p.stat().st_mtime_ns for p in out.rglob("*.safetensors")} == before
    assert json.loads((out / "summary.json").read_text())["splits"]["val_unseen_house"] == rows
    assert "SPL" in capsys.readouterr().out


def test_a_missing_release_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="wayhand bench nav"):
        bench_agent.main([f"data={tmp_path}", f"out={tmp_path / 'out'}", *TINY])


def test_other_words_are_not_ones_own() -> None:
    episodes = [NavEpisode(str(i), "s", (Instruction(f"{i}_0", f"text {i}"),), ("a",)) for i in range(7)]
    texts = [e.instructions[0].text for e in shuffled(episodes, 0)]
    assert sorted(texts) == sorted(e.instructions[0].text for e in episodes)
    assert all(text != f"text {i}" for i, text in enumerate(texts))
    assert swapped("Left, then turn right at the leftmost door") == "Right, then turn left at the leftmost door"
    assert retold(episodes, str.upper)[0].instructions[0].text == "TEXT 0"


def test_a_choice_of_paths_has_one_instruction_each() -> None:
    told = (Instruction("a_0", "x"), Instruction("a_1", "y"))
    episodes = [NavEpisode(str(i), "s", told, ("a",)) for i in range(9)]
    found = chosen(episodes, 4, 0)
    assert len(found) == 4 and {len(e.instructions) for e in found} == {1}
    assert found == chosen(episodes, 4, 0) and chosen(episodes, None, 0) == episodes
