"""How good proposals of instructions are before and after verification, and how fast they are made.

python scripts/bench/instructions.py [proposals=1000] [register=r2r] [phrasing=training] [samples=10]
Prints JSON: the parser-follower's success (within 3 m) on all proposals and on the accepted ones, the acceptance
rate, why others are refused, Kolmogorov-Smirnov tests of path length and of the number of turns before and after, and
verified episodes per second and core (CPU time, three texts each) once a house's lines of sight are known.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections import Counter
from typing import Any

from scipy.stats import ks_2samp

from wayhand.envs.house.derive import TURN, turns_of
from wayhand.envs.house.follower import Follower
from wayhand.envs.house.generate import generate
from wayhand.envs.house.instructions import describe, make_episodes
from wayhand.envs.house.paths import sample_paths
from wayhand.envs.house.scene_graph import SceneGraph
from wayhand.envs.house.verification import verify
from wayhand.envs.house.viewpoints import viewpoint_graph

PER_HOUSE = 25


def main() -> None:
    options: dict[str, str] = {"proposals": "1000", "register": "r2r", "phrasing": "training", "samples": "10"}
    options.update(a.split("=", 1) for a in sys.argv[1:])
    count, register, phrasing = int(options["proposals"]), options["register"], options["phrasing"]
    tally: Counter[str] = Counter()
    lengths: dict[str, list[float]] = {"sampled": [], "proposed": [], "accepted": []}
    turns: dict[str, list[int]] = {"sampled": [], "proposed": [], "accepted": []}
    texts: list[str] = []
    seed = seconds = episodes = 0.0
    while tally["proposals"] < count:
        house = generate(int(seed), "train")
        graph = viewpoint_graph(house)
        scene = SceneGraph(house, graph)
        follower, _ = Follower(scene), scene.visible
        for k, path in enumerate(sample_paths(house, graph, 0, PER_HOUSE, scene=scene)):
            told: Any = describe(
                scene,
                path,
                f"{seed} {k}",
                register=register,  # type: ignore[arg-type]
                phrasing=phrasing,  # type: ignore[arg-type]
                held_out_combinations=None,
            )
            nodes = [graph.index(v) for v in path.viewpoints]
            bends = sum(abs(t) > TURN for t in turns_of(scene, nodes, path.heading))
            verdict = verify(follower, path, told.text) if told is not None else None
            accepted = verdict is not None and verdict.accepted
            for name, belongs in (("sampled", True), ("proposed", told is not None), ("accepted", accepted)):
                if belongs:
                    lengths[name].append(graph.length(path.viewpoints))
                    turns[name].append(bends)
            if verdict is None:
                tally["cannot be told within the register's length"] += 1
                continue
            tally["proposals"] += 1
            tally["reached"] += verdict.reached
            tally["accepted"] += accepted
            tally["reached after"] += accepted and verdict.reached
            tally["refused: ends elsewhere"] += not verdict.reached
            tally["refused: walk does not fit"] += verdict.reached and not verdict.fits
            tally["refused: another place fits"] += "way" in verdict.ambiguous
            tally["refused: landmark not visible"] += bool(verdict.unseen)
            tally["refused: landmark not unique"] += any(a != "way" for a in verdict.ambiguous)
            if len(texts) < int(options["samples"]) and accepted and k % 7 == 0:
                texts.append(told.text)
        begin = time.process_time()
        episodes += len(make_episodes(house, graph, 1, PER_HOUSE, scene=scene))
        seconds += time.process_time() - begin
        seed += 1
    proposals = tally["proposals"]
    report = {
        "houses": int(seed),
        "proposals": proposals,
        "follower_success_before": round(tally["reached"] / proposals, 4),
        "acceptance": round(tally["accepted"] / proposals, 4),
        "follower_success_after": round(tally["reached after"] / max(1, tally["accepted"]), 4),
        "tally": dict(tally),
        "verified_episodes_per_second": round(episodes / seconds, 1),
        "samples": texts,
    }
    for name, values in (("length", lengths), ("turns", turns)):
        for before in ("sampled", "proposed"):
            test: Any = ks_2samp(values[before], values["accepted"])
            report[f"ks_{name}_{before}_accepted_p"] = round(float(test.pvalue), 4)
        report[f"mean_{name}"] = {k: round(math.fsum(v) / max(1, len(v)), 3) for k, v in values.items()}
    print(json.dumps(report, indent=1, ensure_ascii=False))


if __name__ == "__main__":
    main()
