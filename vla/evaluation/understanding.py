"""Figures of image–text understanding: retrieval, question answering and captioning. Arrays only; no model.

Shape legend: n pictures and their captions, k candidates.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ..pairs import Question

Scores = NDArray[np.floating]


def recall_at(similarity: Scores, depth: int = 1) -> float:
    """Share of rows whose partner, on the diagonal of [n n], is among the `depth` best; a tie counts against it."""
    own = similarity.diagonal()[:, None]
    return float(((similarity >= own).sum(1) <= depth).mean())


def reranked(
    similarity: Scores, k: int, score: Callable[[NDArray[np.int64], NDArray[np.int64]], Scores], weight: float = 0.0
) -> Scores:
    """Similarity [n n] in which the k best of each row are ordered anew, ahead of the others (BLIP, Li et al. 2022).

    Args:
        score: (rows, columns) → a score of each pair, larger is better.
        weight: of the old similarity in the new order.
    """
    n = len(similarity)
    columns = np.argpartition(-similarity, min(k, n) - 1, axis=1)[:, :k]
    rows = np.repeat(np.arange(n), columns.shape[1])
    fresh = score(rows, columns.ravel()).reshape(columns.shape)
    fresh = fresh + weight * np.take_along_axis(similarity, columns, 1)
    out = similarity - similarity.max() + fresh.min() - 1.0
    np.put_along_axis(out, columns, fresh, 1)
    return out


def unambiguous(captions: Sequence[str], facts: Sequence[Sequence[str]], count: int) -> list[int]:
    """Indices of the first `count` pictures whose caption and whose facts no other chosen one has.

    Raises `ValueError` where there are fewer.
    """
    chosen: list[int] = []
    said: set[str] = set()
    shown: set[tuple[str, ...]] = set()
    for i, (caption, what) in enumerate(zip(captions, facts, strict=True)):
        key = tuple(sorted(what))
        if caption not in said and (not key or key not in shown):
            chosen.append(i)
            said.add(caption)
            shown.add(key)
        if len(chosen) == count:
            return chosen
    raise ValueError(f"only {len(chosen)} of {count} pictures can be told apart by their captions")


def balanced(questions: Sequence[Question], rng: np.random.Generator, least: float = 0.3) -> list[int]:
    """Indices of questions such that, within each kind, all answers that are left are equally frequent.

    Args:
        least: an answer rarer than this share of the mean is left out with its questions.
    """
    by_kind: dict[str, dict[str, list[int]]] = {}
    for i, q in enumerate(questions):
        by_kind.setdefault(q.kind, {}).setdefault(q.answer, []).append(i)
    chosen: list[int] = []
    for answers in by_kind.values():
        mean = float(np.mean([len(rows) for rows in answers.values()]))
        common = {a: rows for a, rows in answers.items() if len(rows) >= least * mean}
        size = min(len(rows) for rows in common.values())
        for rows in common.values():
            chosen += [rows[i] for i in rng.permutation(len(rows))[:size]]
    return sorted(chosen)


def accuracy(questions: Sequence[Question], answers: Sequence[str]) -> dict[str, float]:
    """Topic → share of right answers, and `"mean"` over topics."""
    right: dict[str, list[bool]] = {}
    for q, said in zip(questions, answers, strict=True):
        right.setdefault(q.topic, []).append(q.answer == said)
    found = {topic: float(np.mean(values)) for topic, values in sorted(right.items())}
    return found | {"mean": float(np.mean(list(found.values())))} if found else {}


def intervals(questions: Sequence[Question], answers: Sequence[str]) -> dict[str, tuple[int, float, float]]:
    """Topic → number of questions, and the 95 % interval of the share of right answers (Wilson 1927).

    Questions about one picture count as if they were independent.
    """
    right: dict[str, list[bool]] = {}
    for q, said in zip(questions, answers, strict=True):
        right.setdefault(q.topic, []).append(q.answer == said)
    return {topic: (len(v), *wilson(sum(v), len(v))) for topic, v in sorted(right.items())}


def wilson(hits: int, count: int, z: float = 1.96) -> tuple[float, float]:
    """The interval of a share of which `hits` of `count` were drawn."""
    share = hits / count
    middle = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * np.sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
    # Rounding may put the interval of none or all a little beside its end.
    low, high = max(0.0, float(middle - half)), min(1.0, float(middle + half))
    return min(low, share), max(high, share)


def prior(questions: Sequence[Question]) -> dict[str, float]:
    """Topic → accuracy of the best guess that knows the kind of question alone, and `"mean"` over topics."""
    answers: dict[str, Counter[str]] = {}
    for q in questions:
        answers.setdefault(q.kind, Counter())[q.answer] += 1
    guess = {kind: counts.most_common(1)[0][0] for kind, counts in answers.items()}
    return accuracy(questions, [guess[q.kind] for q in questions])


def f1(said: Sequence[Mapping[str, int]], true: Sequence[Sequence[str]]) -> dict[str, float]:
    """Precision, recall and F1, over all pictures, of the facts that captions state against those that hold.

    Args:
        said: of each caption, fact → how often it states it.
        true: the facts of each picture.
    """
    hits = named = there = 0
    for claims, facts in zip(said, true, strict=True):
        hits += (Counter(dict(claims)) & Counter(facts)).total()
        named += sum(claims.values())
        there += len(facts)
    precision, recall = hits / max(named, 1), hits / max(there, 1)
    return {"precision": precision, "recall": recall, "f1": 2 * hits / max(named + there, 1)}
