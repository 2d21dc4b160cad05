"""What another process costs a step: a simulator that does nothing but copy a picture, here and in another Python.

python scripts/bench/remote.py [size=128] [steps=3000]
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

TESTS = Path(__file__).parents[2] / "tests"
sys.path.insert(0, str(TESTS))

from plane import PlaneSimulator  # noqa: E402

from wayhand.envs.remote import RemoteSimulator  # noqa: E402


def microseconds(simulator, steps: int) -> float:
    simulator.begin("plane", (0, 0, 0), 0, [(1, 1, 0)])
    start = time.perf_counter()
    for _ in range(steps):
        simulator.step("forward")
    return (time.perf_counter() - start) / steps * 1e6


def main(options: dict[str, str]) -> None:
    size, steps = int(options.get("size", 128)), int(options.get("steps", 3000))
    away = RemoteSimulator([sys.executable], "plane:PlaneSimulator", {"size": size}, paths=[TESTS])
    here = PlaneSimulator(size)
    rounds = [(microseconds(here, steps), microseconds(away, steps)) for _ in range(5)]
    away.close()
    best = [min(column) for column in zip(*rounds, strict=True)]
    print(f"{size}x{size} rgb, depth, semantics: here {best[0]:.1f} µs, another process {best[1]:.1f} µs a step")
    print(f"cost {best[1] - best[0]:.1f} µs a step")


if __name__ == "__main__":
    main(dict(a.split("=", 1) for a in sys.argv[1:]))
