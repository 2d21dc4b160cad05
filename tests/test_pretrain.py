"""`wayhand pretrain`: a tiny run from rendering to figures, its continuation, its stages, and its tower in a policy."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from wayhand.datasets.pairs import by_count, open_pairs, rewrite_texts
from wayhand.envs.pairs.captions import names
from wayhand.scripts.pretrain import main
from wayhand.scripts.pretrain_render import DESCRIPTION, render, whole_parts
from wayhand.vla import checkpoint
from wayhand.vla.backbones.connectors.projection import LinearConnector
from wayhand.vla.backbones.language.scratch import ScratchLM
from wayhand.vla.backbones.language.tokenizers import ByteTokenizer
from wayhand.vla.backbones.towers.run import RunTower
from wayhand.vla.backbones.vlm import ComposedVLM
from wayhand.vla.errors import CheckpointError, ConfigError, DataError
from wayhand.vla.learning import loop
from wayhand.vla.learning.curriculum import Mixture
from wayhand.vla.learning.pair_batches import PairBatches
from wayhand.vla.learning.pretraining import pretrained
from wayhand.vla.pairs import Place, Question, Texts

TINY = ["vlm=scratch_tiny", "batch_size=4", "threads=1", "precision=fp32", "warmup=1", "log_every=1"]
RENDERED = ["pairs=12", "held_out=12", "part=6", "size=32", "workers=1", "gallery=5", "rerank=3"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's own pictures."""
    root = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    lines: list[str] = []
    for i in range(6):
        Image.fromarray(rng.integers(0, 256, (20, 24, 3), dtype=np.uint8)).save(root / f"{i}.png")
        questions = [["what number is it?", str(i), "number"]] if i % 2 else []
        lines.append(json.dumps({"image": f"{i}.png", "caption": f"picture number {i}", "questions": questions}))
    (root / "pairs.jsonl").write_text("\n".join(lines))
    return root


@pytest.fixture(scope="module")
def run(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short run with all objectives on them."""
    out = tmp_path_factory.mktemp("run")
    assert main([f"data={folder}", f"out={out}", *TINY, "size=16", "objectives=all", "steps=4", "save_every=2"]) == 0
    return out


def weights(run: Path, part: str = "model") -> dict[str, torch.Tensor]:
    return checkpoint.load(run).weights(part)


def test_rendered_pairs_are_learned_and_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, out = tmp_path / "pairs", tmp_path / "run"
    assert main([f"data={data}", f"out={out}", *TINY, *RENDERED, "objectives=all", "steps=2"]) == 0
    figures: dict[str, Any] = json.loads((out / "understanding.json").read_text())
    assert set(figures) == {"test", "phrasing", "combination"}
    for found in figures.values():
        assert found["pictures"] == 5
        for ordered in found["retrieval"].values():
            assert all(0 <= value <= 1 for both in ordered.values() for value in both.values())
        assert set(found["retrieval"]) == {"contrast", "matching", "likelihood"}
        assert 0 <= found["captions"]["f1"] <= 1
        assert found["prior"]["mean"] > 0
        assert set(found["intervals"]) == set(found["answers"]) - {"mean"}
        assert 0 <= found["pointing"]["within 0.1"] <= 1
    page = (out / "examples.html").read_text()
    assert page.count("<figure>") == 5
    assert all((out / "examples" / f"{i:02d}.png").exists() for i in range(5))
    made = {p: p.stat().st_mtime_ns for p in data.rglob("images.npy")}
    assert (
        main([f"data={data}", f"out={out}", *TINY, *RENDERED, "objectives=all", "steps=2"]) == 0
    )  # finished: measured again, not trained
    assert {p: p.stat().st_mtime_ns for p in data.rglob("images.npy")} == made
    with pytest.raises(DataError, match="holds other pictures"):
        main([f"data={data}", f"out={tmp_path / 'other'}", *TINY, *RENDERED, "size=24"])


def test_a_continued_run_is_the_run_that_never_stopped(folder: Path, run: Path, tmp_path: Path) -> None:
    common = [f"data={folder}", f"out={tmp_path}", *TINY, "size=16", "objectives=all", "save_every=2"]
    assert main([*common, "steps=4"]) == 0
    # The schedule's end is the same; only the second half is done again.
    checkpoint._remove(checkpoint.steps(tmp_path)[-1])  # pyright: ignore[reportPrivateUsage]
    assert main([*common, "steps=4"]) == 0
    again, straight = weights(tmp_path), weights(run)
    assert all(torch.equal(again[name], straight[name]) for name in straight)


def test_other_settings_are_refused(folder: Path, run: Path) -> None:
    with pytest.raises(ConfigError, match=r"other settings: lr: "):
        main([f"data={folder}", f"out={run}", *TINY, "size=16", "objectives=all", "steps=4", "save_every=2", "lr=0.5"])
    with pytest.raises(ConfigError, match="no objective 'sight'"):
        main([f"data={folder}", f"out={run}x", *TINY, "size=16", "without=[sight]"])


def test_stages_train_what_they_name(folder: Path, run: Path, tmp_path: Path) -> None:
    before = weights(run, "ema")
    common = [f"data={folder}", *TINY, "size=16", "steps=2", f"init_from={run}"]
    assert main([*common, f"out={tmp_path / 'one'}", "stage=connector"]) == 0
    after = weights(tmp_path / "one")
    changed = {
        name.split(".")[1] for name in after if name.startswith("vlm.") and not torch.equal(after[name], before[name])
    }
    assert changed == {"connector"}
    lora = "{_target_: wayhand.vla.backbones.adapters.LoRA, rank: 2}"
    assert main([*common, f"out={tmp_path / 'two'}", f"lora={lora}"]) == 0
    adapted = weights(tmp_path / "two")
    for name, value in adapted.items():
        own = name.replace(".base_layer", "")
        if own in before and name.startswith(("vlm.vision", "vlm.language")):
            assert torch.equal(value, before[own]), name
    assert any("lora_B" in name and value.abs().sum() > 0 for name, value in adapted.items())


def test_objectives_can_be_balanced_ablated_and_blinded(folder: Path, tmp_path: Path) -> None:
    common = [f"data={folder}", *TINY, "size=16", "steps=2", "balance=uncertainty", "without=[grounding,contrast]"]
    assert main([*common, f"out={tmp_path}", "ablation=true", "blind=true"]) == 0
    runs = {p.name for p in tmp_path.iterdir() if p.is_dir()}
    assert runs == {"whole", "without_captioning", "without_answering", "with_grounding", "with_contrast"}
    assert any("grounding" in name for name in weights(tmp_path / "with_grounding"))
    assert not any("contrast" in name for name in weights(tmp_path / "with_grounding"))
    assert "balance.log_variances" in weights(tmp_path / "whole")
    model = pretrained(tmp_path / "whole")
    grey, noise = torch.full((2, 16, 16, 3), 127, dtype=torch.uint8), torch.randint(0, 256, (2, 16, 16, 3)).byte()
    assert torch.equal(model.see(grey).hidden, model.see(noise).hidden)


def test_an_interrupted_ablation_goes_on_and_ends_in_one_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    command = [f"data={tmp_path / 'pairs'}", f"out={tmp_path / 'out'}", *TINY, *RENDERED, "pairs=10", "held_out=7"]
    command += ["ablation=true", "without=[contrast,grounding]"]
    command += ["balance=generative", "steps=1", "measured=[validation]"]
    fit, begun = loop.fit, list[str]()

    def interrupted(*arguments: Any, **options: Any) -> loop.Progress:
        begun.append(Path(arguments[3]).name)
        done = fit(*arguments, **options)
        return replace(done, stopped=len(begun) == 2)

    monkeypatch.setattr(loop, "fit", interrupted)
    assert main(command) == 130
    said = capsys.readouterr().out
    assert f"wayhand pretrain {shlex.join(command)}" in said
    rendered = [(int(made), int(all_)) for made, all_ in re.findall(r"(\d+) of (\d+) pictures are rendered", said)]
    assert all(made <= all_ for made, all_ in rendered)
    assert rendered[-1] == (24, 24)
    assert not (tmp_path / "out" / "ablation.txt").exists()
    assert main(command) == 0
    runs = ["whole", "without captioning", "without answering", "with contrast", "with grounding"]
    assert begun == [name.replace(" ", "_") for name in (*runs[:2], *runs)]
    shown, kept = capsys.readouterr().out, (tmp_path / "out" / "ablation.txt").read_text()
    assert all(len(re.findall(rf"^ *{name} +[–0-9]", shown, re.MULTILINE)) == 1 for name in runs)
    figures = json.loads((tmp_path / "out" / "whole" / "understanding.json").read_text())["validation"]
    assert all(name in kept for name in (*runs, *figures["intervals"], "captions, F1", "minutes"))
    assert "(-0" not in kept
    assert runs[2] in (tmp_path / "out" / "ablation.html").read_text()


def test_what_cannot_be_measured_is_said_before_training(tmp_path: Path) -> None:
    command = [f"data={tmp_path / 'pairs'}", f"out={tmp_path / 'out'}", *TINY, *RENDERED, "measured=[validation]"]
    with pytest.raises(DataError, match=r"(?s)'validation' is too small.*only 12 of 50.*gallery=6"):
        main([*command, "gallery=50"])
    assert not (tmp_path / "out").exists()


def test_a_pretrained_tower_sees_the_same_in_another_model(run: Path, tmp_path: Path) -> None:
    tower = RunTower(run=run, frozen=True)
    images = torch.randint(0, 256, (2, 16, 16, 3), dtype=torch.uint8)
    assert torch.equal(tower(images), pretrained(run).vlm.vision(images))
    assert not any(p.requires_grad for p in tower.parameters())
    vlm = ComposedVLM(
        vision=tower,
        connector=partial(LinearConnector),
        language=ScratchLM(vocabulary=259, width=16, depth=1, heads=2),
        tokenizer=ByteTokenizer(),
    )
    assert vlm.prefix({"front": images}, ["pick it", "go"]).hidden.shape[0] == 2
    with pytest.raises(CheckpointError, match="no checkpoint"):
        RunTower(run=tmp_path)


def test_a_curriculum_begins_with_few_things(tmp_path: Path) -> None:
    data = tmp_path / "pairs"
    common = [f"data={data}", *TINY, *RENDERED, "pairs=36", "steps=1"]
    assert main([*common, f"out={tmp_path / 'run'}", "curriculum=few_first", "measured=[validation]"]) == 0
    parts = by_count(open_pairs(data / "train"))
    assert sum(len(part) for part in parts.values()) == 36
    for name, part in parts.items():
        assert all(len(part.texts(i).facts) == int(name) for i in range(len(part)))
    batch = PairBatches(parts, batch_size=8, questions=0, seed=0, curriculum=Mixture(weights={"2": 1.0}))(0, 0.0)
    assert all(sum(names(c).values()) == 2 for c in batch["captions"])


class Numbered:
    """Pairs whose pictures and words say which they are."""

    def __init__(self, name: str, count: int) -> None:
        self.name, self.count = name, count

    def __len__(self) -> int:
        return self.count

    def images(self, indices: Any) -> np.ndarray:
        return np.stack([np.full((4, 4, 3), i, np.uint8) for i in indices])

    def texts(self, index: int) -> Texts:
        asked = tuple(Question(f"{self.name} {index} {k}?", str(index)) for k in range(index % 3))
        return Texts((f"{self.name} {index}",), asked)


def test_batches_keep_words_with_their_pictures_and_follow_from_the_step() -> None:
    sources = {"a": Numbered("a", 50), "b": Numbered("b", 150)}
    batches = PairBatches(sources, batch_size=40, questions=2, seed=3)
    batch = batches(5, 0.0)
    numbers = batch["images"][:, 0, 0, 0].tolist()
    assert [int(c.split()[1]) for c in batch["captions"]] == numbers
    assert [int(a) for a in batch["answers"]] == [numbers[i] for i in batch["about"].tolist()]
    assert all(q.split()[1] == a for q, a in zip(batch["questions"], batch["answers"], strict=True))
    again = PairBatches(sources, batch_size=40, questions=2, seed=3)(5, 0.0)
    assert torch.equal(again["images"], batch["images"])
    assert again["questions"] == batch["questions"]
    assert batches(6, 0.0)["captions"] != batch["captions"]


def test_places_move_with_their_picture() -> None:
    class Dot(Numbered):
        """A bright pixel at (5, 9) of 16 × 16."""

        def images(self, indices: Any) -> np.ndarray:
            found = np.zeros((len(indices), 16, 16, 3), np.uint8)
            found[:, 9, 5] = 255
            return found

        def texts(self, index: int) -> Texts:
            return Texts(("a dot",), places=(Place("dot", 5 / 16, 9 / 16),))

    batch = PairBatches({"a": Dot("a", 8)}, batch_size=8, questions=0, phrases=2, seed=1, shift=3)(0, 0.0)
    assert batch["phrases"] == ["dot"] * 8
    for row, (x, y) in zip(batch["pointed"].tolist(), batch["places"].tolist(), strict=True):
        assert batch["images"][row, round(y * 16), round(x * 16), 0] == 255
    assert len({tuple(p) for p in batch["places"].tolist()}) > 1


def test_texts_of_an_older_wording_are_told_anew_and_pictures_stay(tmp_path: Path) -> None:
    counts = {"train": 1}
    assert sum(render(tmp_path, counts, size=32, part=2, workers=1)) == sum(whole_parts(counts, 2).values()) == 2
    first = open_pairs(tmp_path / "train")
    told, images = [first.texts(i) for i in range(2)], first.images([0, 1])
    rewrite_texts(tmp_path / "train", 0, lambda t: Texts(("older",), extras=t.extras))
    about = json.loads((tmp_path / DESCRIPTION).read_text())
    (tmp_path / DESCRIPTION).write_text(json.dumps({**about, "wording": 0}))
    assert sum(render(tmp_path, counts, size=32, part=2, workers=1)) == 2
    again = open_pairs(tmp_path / "train")
    assert [again.texts(i) for i in range(2)] == told
    assert np.array_equal(again.images([0, 1]), images)
