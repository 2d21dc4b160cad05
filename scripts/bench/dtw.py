"""Dynamic time warping of two random walks: ours against the textbook's double loop, in the same run.

python scripts/bench/dtw.py [length=500]
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import numpy as np

from wayhand.vla.evaluation.nav_metrics import dtw, euclidean


def loops(costs: np.ndarray) -> float:
    rows = costs.tolist()
    last = [float("inf")] * (len(rows[0]) + 1)
    last[0] = 0.0
    for row in rows:
        current = [float("inf")]
        for j, cost in enumerate(row):
            current.append(cost + min(last[j], last[j + 1], current[j]))
        last = current
    return last[-1]


def best_of(n: int, run: Callable[[], float]) -> tuple[float, float]:
    """The value and the least time of `n` runs [s]."""
    times: list[float] = []
    value = 0.0
    for _ in range(n):
        begin = time.perf_counter()
        value = run()
        times.append(time.perf_counter() - begin)
    return value, min(times)


def main() -> None:
    n = int(next((a.partition("=")[2] for a in sys.argv[1:] if a.startswith("length=")), "500"))
    rng = np.random.default_rng(0)
    costs = euclidean(*(rng.normal(0, 0.25, (n, 3)).cumsum(axis=0) for _ in range(2)))
    (ours, fast), (theirs, slow) = best_of(7, lambda: dtw(costs)), best_of(3, lambda: loops(costs))
    assert ours == theirs
    print(f"{n} × {n}: {1e3 * fast:.2f} ms, double loop {1e3 * slow:.1f} ms, ratio {slow / fast:.1f}")


if __name__ == "__main__":
    main()
