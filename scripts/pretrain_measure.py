"""What a pretrained model understands of pictures it has not seen: figures, and a page of examples."""

from __future__ import annotations

import html
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from ..envs.pairs.captions import names
from ..vla.backbones.base import Sequenced
from ..vla.backbones.reading import select, stacked
from ..vla.errors import DataError
from ..vla.evaluation import understanding
from ..vla.learning.pretraining import Pretrainer
from ..vla.pairs import Pairs, Question, Texts

FIGURES, PAGE = "understanding.json", "examples.html"
BATCH = 250
ASKED = 4000
"""Balanced questions, at most, of a split."""
SHOWN = 24


def measure(
    model: Pretrainer, splits: Mapping[str, Pairs], *, gallery: int, k: int, out: Path, seed: int
) -> dict[str, Any]:
    """Figures of each split, written to `out` with a page of examples of the first."""
    figures: dict[str, Any] = {}
    for name, pairs in splits.items():
        begun = time.monotonic()
        chosen = told_apart(name, pairs, gallery)
        prefix = seen(model, pairs.images(chosen))
        told = [pairs.texts(i) for i in chosen]
        found = retrieval(model, prefix, [t.captions[0] for t in told], k)
        answers = answering(model, prefix, told, seed)
        said, captioning = described(model, prefix, told)
        figures[name] = {"pictures": len(chosen), **found, **answers, "captions": captioning}
        figures[name] |= pointing(model, prefix, told)
        figures[name]["seconds"] = round(time.monotonic() - begun, 1)
        if name == next(iter(splits)):
            page(model, out, pairs.images(chosen[:SHOWN]), told[:SHOWN], said[:SHOWN], prefix)
    (out / FIGURES).write_text(json.dumps(figures, indent=1))
    return figures


def told_apart(name: str, pairs: Pairs, count: int) -> list[int]:
    """The first pictures of a split that their captions and what they show tell apart.

    Raises:
        DataError: if there are fewer than `count`.
    """
    texts = [pairs.texts(i) for i in range(len(pairs))]
    try:
        return understanding.unambiguous([t.captions[0] for t in texts], [t.facts for t in texts], count)
    except ValueError as error:
        raise DataError(
            f"Split '{name}' is too small to choose from",
            got=str(error),
            run=f"gallery={len(pairs) // 2}, or held_out={4 * count}",
        ) from error


def seen(model: Pretrainer, images: np.ndarray) -> Sequenced:
    """All pictures, read by the language model."""
    parts = [model.see(torch.from_numpy(images[i : i + BATCH])) for i in range(0, len(images), BATCH)]
    return stacked(parts)


def retrieval(model: Pretrainer, prefix: Sequenced, captions: Sequence[str], k: int) -> dict[str, Any]:
    """R@1 (and R@5) of pictures by captions and captions by pictures: by embedding, and with the k best reordered."""
    if not model.retrieves:
        return {}
    pictures, words = model.embed(prefix, captions)
    similarity = (pictures @ words.T).float().numpy().astype(np.float64)
    scores: dict[str, Any] = {"contrast": None}
    if model.matches:
        scores["matching"] = model.match
    scores["likelihood"] = model.likelihood
    found: dict[str, Any] = {}
    for name, score in scores.items():
        both: dict[str, Any] = {}
        for direction, table in (("image_to_text", similarity), ("text_to_image", similarity.T)):

            def fresh(rows: np.ndarray, columns: np.ndarray, score: Any = score, direction: str = direction) -> Any:
                image, text = (rows, columns) if direction == "image_to_text" else (columns, rows)
                parts = [
                    score(prefix, torch.from_numpy(image[i : i + BATCH]), [captions[j] for j in text[i : i + BATCH]])
                    for i in range(0, len(image), BATCH)
                ]
                return torch.cat(parts).float().numpy().astype(np.float64)

            order = table if name == "contrast" else understanding.reranked(table, k, fresh)
            both[direction] = {"r1": understanding.recall_at(order, 1), "r5": understanding.recall_at(order, 5)}
        found[name] = both
    return {"retrieval": found}


def answering(model: Pretrainer, prefix: Sequenced, told: Sequence[Texts], seed: int) -> dict[str, Any]:
    """Accuracy by topic on balanced questions, and that of guessing by the kind of question."""
    asked = [(q, row) for row, t in enumerate(told) for q in t.questions]
    rows = understanding.balanced([q for q, _ in asked], np.random.default_rng(seed))
    rows = [rows[i] for i in sorted(np.random.default_rng(seed).permutation(len(rows))[:ASKED])]
    questions: list[Question] = [asked[i][0] for i in rows]
    said: list[str] = []
    for i in range(0, len(rows), BATCH):
        about = torch.tensor([asked[j][1] for j in rows[i : i + BATCH]])
        said += model.answer(prefix, about, [q.question for q in questions[i : i + BATCH]])
    return {
        "questions": len(questions),
        "answers": understanding.accuracy(questions, said),
        "intervals": understanding.intervals(questions, said),
        "prior": understanding.prior(questions),
    }


def pointing(model: Pretrainer, prefix: Sequenced, told: Sequence[Texts]) -> dict[str, Any]:
    """How far from a thing the model points that is told its full name, in sides of the picture."""
    named = [(p, row) for row, t in enumerate(told) for p in t.places if p.phrase in t.facts]
    if not model.points or not named:
        return {}
    found = [
        model.point(prefix, torch.tensor([row for _, row in part]), [p.phrase for p, _ in part])
        for i in range(0, len(named), BATCH)
        for part in [named[i : i + BATCH]]
    ]
    apart = torch.linalg.vector_norm(torch.cat(found).float() - torch.tensor([(p.x, p.y) for p, _ in named]), dim=1)
    return {"pointing": {"median": float(apart.median()), "within 0.1": float((apart < 0.1).float().mean())}}


def described(model: Pretrainer, prefix: Sequenced, told: Sequence[Texts]) -> tuple[list[str], dict[str, float]]:
    """A caption of each picture, and how exactly it names what is there."""
    said: list[str] = []
    for i in range(0, len(told), BATCH):
        said += model.describe(select(prefix, torch.arange(i, min(i + BATCH, len(told)))))
    return said, understanding.f1([names(s) for s in said], [t.facts for t in told])


def page(
    model: Pretrainer, out: Path, images: np.ndarray, told: Sequence[Texts], said: Sequence[str], prefix: Sequenced
) -> None:
    """Pictures with what the model says of them."""
    (out / "examples").mkdir(parents=True, exist_ok=True)
    blocks: list[str] = []
    for i, (image, texts, caption) in enumerate(zip(images, told, said, strict=True)):
        Image.fromarray(image).resize((288, 288), Image.Resampling.NEAREST).save(out / "examples" / f"{i:02d}.png")
        questions = texts.questions[:6]
        answers = model.answer(prefix, torch.full((len(questions),), i), [q.question for q in questions])
        lines = "".join(
            f'<li class="{("wrong", "right")[a == q.answer]}">{html.escape(q.question)} <b>{html.escape(a)}</b></li>'
            for q, a in zip(questions, answers, strict=True)
        )
        claimed, there = names(caption), set(texts.facts)
        wrong = [n for n in claimed if n not in there] + [f for f in texts.facts if f not in claimed]
        note = f'<p class="wrong">not so: {html.escape(", ".join(wrong))}</p>' if wrong else ""
        blocks.append(
            f'<figure><img src="examples/{i:02d}.png"><figcaption><p>{html.escape(caption)}</p>{note}'
            f"<ul>{lines}</ul></figcaption></figure>"
        )
    style = (
        "body{font:14px/1.4 sans-serif;margin:2em;display:grid;grid-template-columns:repeat(auto-fill,300px);gap:24px}"
        "figure{margin:0}ul{padding-left:1.2em}.right b{color:#17692b}.wrong,.wrong b{color:#b3261e}"
    )
    (out / PAGE).write_text(
        f'<!doctype html><meta charset="utf-8"><title>Examples</title><style>{style}</style>{"".join(blocks)}'
    )
