"""The formulas of navigation benchmarks, each as a pure function of distances.

Where the distances come from (a viewpoint graph, a navigation mesh, plain space) is the caller's choice; the
published evaluators differ in it, and `nav_protocols` says which takes what. Lengths and distances in metres,
`radius` is the success distance.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from shapely.geometry import Point, Polygon


def within(distance: float, radius: float, *, strict: bool = True) -> bool:
    """Whether `distance` counts as arrived: `<` where `strict`, else `<=`."""
    return distance < radius if strict else distance <= radius


def spl(success: float, shortest: float, length: float, *, floor: float = 0.0) -> float:
    """Success weighted by path length (Anderson et al. 2018, arXiv 1807.06757).

    Args:
        success: 0 or 1, or any weight of the episode.
        shortest: the length the agent's own is held against.
        length: of the agent's path.
        floor: a least denominator that some evaluators have; an episode that starts at its goal then scores 0.
            Without one, staying there scores `success`, the limit of the ratio.
    """
    whole = max(length, shortest, floor)
    return float(success) if whole == 0 else float(success) * shortest / whole


def soft_spl(start: float, end: float, length: float) -> float:
    """SPL with the share of the way made good in place of success (habitat-lab's `SoftSPL`).

    Args:
        start, end: distance to the goal before the first and after the last move.
        length: of the agent's path.
    """
    made_good = max(0.0, 1 - end / start) if start > 0 else float(end == 0)
    return spl(made_good, start, length)


def path_length(points: np.ndarray) -> float:
    """Sum of straight distances between consecutive points, float64 [n d]."""
    return float(np.linalg.norm(np.diff(points, axis=0), axis=1).sum())


def moved(points: np.ndarray) -> np.ndarray:
    """bool [n]: the rows of [n d] that differ from the one before; the first always does."""
    changed = np.ones(len(points), bool)
    changed[1:] = (points[1:] != points[:-1]).any(axis=1)
    return changed


def euclidean(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """float64 [n m]: straight distances between [n d] and [m d]."""
    return np.linalg.norm(a[:, None, :] - b[None, :, :], axis=-1)


def dtw(costs: np.ndarray, *, band: int | None = None) -> float:
    """Dynamic time warping: the least sum of costs of a monotone alignment of two whole sequences.

    Exact, not the `fastdtw` approximation that VLN-CE's configuration asks for, which is never below it.
    Computed one anti-diagonal at a time: every cell is the same sum that the textbook's double loop makes.

    Args:
        costs: float64 [n m], n and m at least 1.
        band: only cells with |i·m/n − j| ≤ band are used (Sakoe & Chiba 1978); an upper bound of the exact value,
            inf where the band cuts both ends apart.
    """
    if costs.ndim != 2 or not costs.size:
        raise ValueError(f"costs are a non-empty matrix, got shape {costs.shape}")
    costs = np.asarray(costs, np.float64)
    if band is not None:
        i, j = np.ogrid[: costs.shape[0], : costs.shape[1]]
        costs = np.where(np.abs(i * costs.shape[1] / costs.shape[0] - j) <= band, costs, np.inf)
    if costs.shape[0] > costs.shape[1]:
        costs = costs.T
    n, m = costs.shape
    padded = np.full((n, n + m), np.inf)
    padded[:, :m] = costs
    # A row one shorter than it is padded shifts row i by i, so that column d holds the cells with i + j = d.
    diagonals = np.ascontiguousarray(padded.reshape(-1)[: n * (n + m - 1)].reshape(n, n + m - 1).T)
    before, last = np.full(n + 1, np.inf), np.full(n + 1, np.inf)
    last[1] = costs[0, 0]
    for diagonal in diagonals[1:]:
        current = np.minimum(last[1:], last[:-1])
        np.minimum(current, before[:-1], out=current)
        before, last = last, before
        np.add(current, diagonal, out=last[1:])
    return float(last[n])


def ndtw(distance: float, reference: int, radius: float) -> float:
    """Normalised dynamic time warping in (0, 1] (Ilharco et al. 2019, arXiv 1907.05446).

    Args:
        distance: of `dtw`.
        reference: the number of places of the reference path.
    """
    return float(np.exp(-distance / (radius * reference)))


def coverage(costs: np.ndarray, radius: float) -> float:
    """How closely the reference is passed, in (0, 1]: mean of exp(−nearest / radius) over its m places; [n m]."""
    return float(np.exp(-costs.min(axis=0) / radius).mean())


def cls(costs: np.ndarray, length: float, reference_length: float, radius: float) -> float:
    """Coverage weighted by length score (Jain et al. 2019, arXiv 1905.12255).

    Args:
        costs: float64 [n m], path by reference.
        length, reference_length: of both paths.
    """
    covered = coverage(costs, radius)
    expected = covered * reference_length
    excess = abs(expected - length)
    score = expected / (expected + excess) if expected + excess > 0 else 1.0
    return covered * score


def contains(corners: Sequence[tuple[float, float]], heading: float, elevation: float, *, wrap: bool = False) -> bool:
    """Whether a direction lies inside the polygon of an object's corners, (heading, elevation) in radians.

    Args:
        wrap: take headings modulo a whole turn. SOON's evaluator does not: a polygon across ±π is inside out there.
    """
    turned = [(h, e) for h, e in corners]
    if wrap:
        first = corners[0][0]
        turned = [(first + _half_turn(h - first), e) for h, e in corners]
        heading = first + _half_turn(heading - first)
    return bool(Polygon(turned).contains(Point(heading, elevation)))


def _half_turn(angle: float) -> float:
    """The same angle in [−π, π)."""
    return float((angle + np.pi) % (2 * np.pi) - np.pi)
