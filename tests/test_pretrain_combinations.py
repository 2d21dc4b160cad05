"""Every model, part, objective and balance that pretraining offers: through the command, either trained or refused."""

from __future__ import annotations

import json
from itertools import cycle, islice
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from wayhand.scripts.cli import main
from wayhand.scripts.compose import CONF
from wayhand.vla import checkpoint
from wayhand.vla.config import options

TINY = ["size=16", "batch_size=2", "questions=2", "threads=1", "precision=fp32", "warmup=1", "steps=2"]
COMPLETE = ("llava", "paligemma", "qwen25_vl", "qwen3_vl", "smolvlm")
"""Models without a composition's parts."""


def tiny(group: str) -> list[str]:
    return [f"{group}={name}" for name in options(CONF, group) if name.endswith("_tiny")]


def parts() -> list[list[str]]:
    """Each tower, connector and language model in at least one composition."""
    towers, languages = tiny("vision"), tiny("language")
    connectors = [f"connector={name}" for name in options(CONF, "connector")]
    count = max(map(len, (towers, languages, connectors)))
    chosen = zip(*(islice(cycle(names), count) for names in (towers, connectors, languages)), strict=True)
    vlms = cycle(["vlm=llava_tiny", "vlm=flamingo_tiny"])
    return [[vlm, *three, "objectives=all"] for vlm, three in zip(vlms, chosen, strict=False)]


CHOICES = [
    *([vlm, f"objectives={name}"] for vlm in tiny("vlm") for name in ("default", "all")),
    *parts(),
    *(["vlm=llava_tiny", f"objectives={name}"] for name in ("sigmoid", "mutual")),
    *(["vlm=llava_tiny", "objectives=all", f"balance={name}"] for name in options(CONF, "balance")),
    *(["vlm=flamingo_tiny", f"objectives={name}"] for name in ("sigmoid", "mutual")),
]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("pictures")
    rng, lines = np.random.default_rng(0), list[str]()
    for i in range(4):
        Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(root / f"{i}.png")
        asked, where = [["what number is it?", str(i), "number"]], [["the number", 0.25 * i, 0.5]]
        lines.append(json.dumps({"image": f"{i}.png", "caption": f"number {i}", "questions": asked, "places": where}))
    (root / "pairs.jsonl").write_text("\n".join(lines))
    return root


@pytest.mark.parametrize("choices", CHOICES, ids=" ".join)
def test_what_can_be_chosen_is_trained(pictures: Path, tmp_path: Path, choices: list[str]) -> None:
    assert main(["pretrain", f"data={pictures}", f"out={tmp_path}", *TINY, *choices]) == 0
    assert checkpoint.load(tmp_path).step == 2


@pytest.mark.parametrize(
    ("choices", "said"),
    [
        *(([f"vlm={name}"], ["tower, a connector and a language model", "vlm=flamingo_tiny"]) for name in COMPLETE),
        (["vlm=llava_tiny", "curriculum=few_first"], ["source that there is not: '2'", "curriculum=null"]),
        (["vlm=llava_tiny", "objectives=taught"], ["needs a teacher", "objectives.taught.teachers=[RUN]"]),
        (["vlm=llava_tiny", "vision=run"], ["'vision.run' has no default"]),
        (["vlm=llava_tiny", "objectives=sigmoid", "without=[contrast,matching,answering]", "ablation=true"], ["two"]),
    ],
    ids=lambda value: " ".join(value[:2]),
)
def test_what_cannot_be_trained_is_refused_before_training(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], choices: list[str], said: list[str]
) -> None:
    assert main(["pretrain", f"data={pictures}", f"out={tmp_path / 'run'}", *TINY, *choices]) == 2
    error = " ".join(capsys.readouterr().err.split())
    assert all(words in error for words in said), error
    assert not checkpoint.steps(tmp_path / "run")


def test_all_that_is_offered_is_tried() -> None:
    tried = {word for choices in CHOICES for word in choices}
    hub = {"flamingo_smollm2", "mlp_smollm2", "qformer_smollm2"}  # the same compositions with weights from elsewhere
    for group in ("vlm", "objectives", "connector", "balance"):
        untried = {name for name in options(CONF, group) if f"{group}={name}" not in tried}
        assert untried <= {*COMPLETE, *hub, "scratch", "taught"}, group
