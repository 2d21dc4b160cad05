"""Steps per second on viewpoint graphs: one agent in the Gymnasium environment, and many in one batch.

Run: python scripts/bench/graph_env.py [connectivity folder or archive] [R2R annotations]
Without files a line of 60 generated viewpoints is walked. Both ways walk the shortest paths of the same episodes.
"""

from __future__ import annotations

import json
import sys
import time

import numpy as np

from wayhand.datasets.formats import connectivity, r2r
from wayhand.envs.graph import GraphNavigation
from wayhand.envs.graph_batch import GraphBatch
from wayhand.vla.navigation import Instruction, NavEpisode, ViewpointGraph

BATCH, SECONDS = 64, 5.0


def line(count: int = 60) -> tuple[dict[str, ViewpointGraph], list[NavEpisode]]:
    poses = np.tile(np.eye(4), (count, 1, 1))
    poses[:, 0, 3] = 2.0 * np.arange(count)
    joined = np.abs(np.subtract.outer(np.arange(count), np.arange(count))) == 1
    ids = tuple(f"v{i:02d}" for i in range(count))
    graph = ViewpointGraph("line", ids, poses, np.full(count, 1.5), np.ones(count, bool), joined, joined)
    episodes = [
        NavEpisode(str(i), "line", (Instruction(f"{i}_0", "go"),), ids[i : i + 6], 0.0) for i in range(count - 6)
    ]
    return {"line": graph}, episodes


def alone(env: GraphNavigation) -> float:
    rng, steps, began, seed = np.random.default_rng(0), 0, time.perf_counter(), 0
    while time.perf_counter() - began < SECONDS:
        env.reset(seed=seed)
        seed, over = seed + 1, False
        while not over:
            _, _, terminated, truncated, _ = env.step(env.oracle(rng))
            over, steps = terminated or truncated, steps + 1
    return steps / (time.perf_counter() - began)


def together(batch: GraphBatch) -> float:
    steps, began, k = 0, time.perf_counter(), 0
    while time.perf_counter() - began < SECONDS:
        batch.begin(k)
        k += 1
        for _ in range(6):
            batch.step(batch.expert())
            steps += batch.batch_size
    return steps / (time.perf_counter() - began)


def main() -> None:
    if len(sys.argv) == 3:
        episodes = r2r.load(sys.argv[2])
        graphs = connectivity.load(sys.argv[1])
        graphs = {scan: graphs[scan] for scan in dict.fromkeys(e.scan for e in episodes)}
    else:
        graphs, episodes = line()
    one = alone(GraphNavigation(graphs=graphs, episodes=episodes))
    many = together(GraphBatch(graphs=graphs, episodes=episodes, batch_size=BATCH))
    print(json.dumps({"environment": round(one), f"batch of {BATCH}": round(many), "ratio": round(many / one, 1)}))


if __name__ == "__main__":
    main()
