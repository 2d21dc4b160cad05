"""Distillation within pretraining: a student nears its teacher, a peer learns along, and neither is smuggled along."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from wayhand.vla import checkpoint
from wayhand.vla.backbones.objectives import Seen
from wayhand.vla.config import instantiate
from wayhand.vla.errors import ConfigError
from wayhand.vla.learning.pretraining import ABOUT, ANSWERS, CAPTIONS, IMAGES, QUESTIONS, Pretrainer
from wayhand.vla.learning.teaching import MutualObjective, TaughtObjective, said

BACKBONES = "wayhand.vla.backbones"
LANGUAGE = {"_target_": f"{BACKBONES}.language.scratch.ScratchLM", "vocabulary": 259, "depth": 1, "heads": 2}
CONNECTOR = {"_target_": f"{BACKBONES}.connectors.projection.LinearConnector", "_partial_": True}
VISION = {"_target_": f"{BACKBONES}.towers.raw.RawPatches", "patch": 4}


def recipe(objectives: dict[str, Any], width: int = 16) -> dict[str, Any]:
    vlm = {
        "_target_": f"{BACKBONES}.vlm.ComposedVLM",
        "vision": VISION,
        "connector": CONNECTOR,
        "language": {**LANGUAGE, "width": width},
        "tokenizer": {"_target_": f"{BACKBONES}.language.tokenizers.ByteTokenizer"},
    }
    return {"_target_": "wayhand.vla.learning.pretraining.Pretrainer", "vlm": vlm, "objectives": objectives}


def taught(*teachers: Path, **options: Any) -> dict[str, Any]:
    paths = [str(t) for t in teachers]
    target = "wayhand.vla.learning.teaching.TaughtObjective"
    return {"taught": {"_target_": target, "_partial_": True, "teachers": paths, **options}}


CAPTIONING = {"captioning": {"_target_": f"{BACKBONES}.objectives.CaptioningObjective", "_partial_": True}}
BATCH = {
    IMAGES: torch.randint(0, 256, (3, 8, 8, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)),
    CAPTIONS: ["a red cube", "two balls", "a mug left of a bowl"],
    QUESTIONS: ["how many?", "what colour?"],
    ANSWERS: ["two", "red"],
    ABOUT: torch.tensor([1, 0]),
}


def build(node: dict[str, Any], seed: int = 0) -> Pretrainer:
    torch.manual_seed(seed)
    return instantiate(node)


def saved(path: Path, width: int = 24, seed: int = 1) -> Path:
    node = recipe(CAPTIONING, width)
    weights = {"model": build(node, seed).state_dict()}
    checkpoint.save(path, 1, parts=weights, policy=node, config={}, specs={}, statistics={}, trainer={"seconds": 0.0})
    return path


def descend(model: Pretrainer, steps: int, rate: float) -> list[float]:
    losses: list[float] = []
    parameters = [p for p in model.parameters() if p.requires_grad]
    for _ in range(steps):
        loss, _ = model.loss(BATCH)
        for p, slope in zip(parameters, torch.autograd.grad(loss, parameters, allow_unused=True), strict=True):
            if slope is not None:
                p.data -= rate * slope
        losses.append(loss.item())
    return losses


def test_a_student_nears_its_teachers(tmp_path: Path) -> None:
    teachers = saved(tmp_path / "one"), saved(tmp_path / "two", 16, 2)
    losses = descend(build(recipe(taught(*teachers, features=0.5))), 12, 0.1)
    assert losses[-1] < 0.8 * losses[0]


def test_a_copy_of_the_teacher_has_nothing_to_learn(tmp_path: Path) -> None:
    teacher = saved(tmp_path / "same", 16, 5)
    student = build(recipe(taught(teacher, features=1.0, kind="cosine")))
    weights = checkpoint.load(teacher).weights("model")
    student.load_state_dict({k: v for k, v in weights.items() if k.startswith("vlm.")}, strict=False)
    assert student.loss(BATCH)[0].item() == pytest.approx(0, abs=1e-5)


def test_teachers_are_neither_trained_nor_saved_nor_needed_to_answer(tmp_path: Path) -> None:
    teacher = saved(tmp_path / "teacher")
    student = build(recipe(taught(teacher)))
    student.loss(BATCH)[0].backward()
    objective = student.objectives["taught"]
    assert isinstance(objective, TaughtObjective)
    assert all(p.grad is None and not p.requires_grad for m in objective.models() for p in m.parameters())
    assert not any("taught" in name for name in student.state_dict())
    lost = build(recipe(taught(tmp_path / "gone")))
    lost.load_state_dict(student.state_dict())


def test_a_teacher_with_other_words_is_refused(tmp_path: Path) -> None:
    teacher = saved(tmp_path / "teacher")
    node = recipe(taught(teacher))
    node["vlm"]["language"] = {**node["vlm"]["language"], "vocabulary": 300}
    with pytest.raises(ConfigError, match="other words"):
        build(node).loss(BATCH)
    with pytest.raises(ConfigError, match="teacher"):
        build(recipe(taught()))


def peers(**options: Any) -> dict[str, Any]:
    language = {key: value for key, value in LANGUAGE.items() if key != "vocabulary"}
    return {
        "mutual": {
            "_target_": "wayhand.vla.learning.teaching.MutualObjective",
            "_partial_": True,
            "vision": VISION,
            "connector": CONNECTOR,
            "language": {**language, "width": 24, "_partial_": True},
            **options,
        }
    }


def apart(model: Pretrainer) -> Tensor:
    """Mean total variation between what the two say next."""
    mutual = model.objectives["mutual"]
    assert isinstance(mutual, MutualObjective)
    views = [
        Seen(vlm, BATCH[IMAGES], BATCH[CAPTIONS], BATCH[QUESTIONS], BATCH[ANSWERS], BATCH[ABOUT])
        for vlm in (model.vlm, mutual.peer)
    ]
    with torch.no_grad():
        (a, learned), (b, _) = (said(view, "both") for view in views)
    return (a[learned].softmax(-1) - b[learned].softmax(-1)).abs().sum(-1).mean() / 2


def test_peers_learn_the_words_and_agree_more_than_without_each_other() -> None:
    together, alone = (build(recipe({**CAPTIONING, **peers(weight=w)})) for w in (3.0, 0.0))
    for model in (together, alone):
        losses = descend(model, 12, 0.05)
        assert losses[-1] < 0.95 * losses[0]
    assert apart(together) < apart(alone)
    assert any(name.startswith("objectives.mutual.peer.") for name in together.state_dict())


@pytest.mark.parametrize("words", ["captions", "answers", "both"])
def test_what_is_compared_can_be_chosen(tmp_path: Path, words: str) -> None:
    loss, _ = build(recipe(taught(saved(tmp_path / words), words=words))).loss(BATCH)
    assert loss.item() > 0
