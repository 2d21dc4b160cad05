"""How far two navigation simulators agree on the same houses: motion, walls, distances, agents and pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.ndimage import uniform_filter

from ..envs.navigation import NavigationEnv
from ..envs.navigation_state import NavSimulator, NavState, Vector
from ..vla.navigation import NavEpisode

MOVES = ("forward", "left", "right")
PRIOR = (0.6, 0.2, 0.2)
"""How often a random walk makes each move."""
_BENT = 5e-4


@dataclass
class Motion:
    """What random walks in two simulators have in common, a row a step.

    `free` [m, rad]: how far apart both ended where neither had touched anything since they last stood together.
    `touched` [m]: the same where a wall bent a move in either, each such step from one place. `both`: whether both or
    neither called it a collision. `snap` [m]: how far apart they put the body when told to stand on one place.
    """

    free: list[tuple[float, float]] = field(default_factory=list)
    touched: list[float] = field(default_factory=list)
    both: list[bool] = field(default_factory=list)
    snap: list[float] = field(default_factory=list)
    places: list[tuple[str, Vector, float, Vector, Vector]] = field(default_factory=list)

    def report(self) -> dict[str, Any]:
        """Extremes and rates, plain JSON."""
        free, touched = np.array(self.free).reshape(-1, 2), np.array(self.touched)
        steps = len(free) + len(touched)
        differ = len(self.both) - sum(self.both)
        return {
            "steps": steps,
            "free": {
                "steps": len(free),
                "max_mm": _top(free[:, 0] * 1000),
                "max_deg": _top(np.degrees(free[:, 1])),
            },
            "touched": {
                "steps": len(touched),
                "max_cm": _top(touched * 100),
                "p99_cm": float(np.percentile(touched, 99) * 100) if len(touched) else 0.0,
                "within_5cm": float((touched <= 0.05).mean()) if len(touched) else 1.0,
                "flags_equal": sum(self.both) / len(self.both) if self.both else 1.0,
            },
            "flags_equal": 1 - differ / steps if steps else 1.0,
            "snap_max_cm": _top(np.array(self.snap) * 100),
        }


def walk(
    ours: NavSimulator,
    theirs: NavSimulator,
    scan: str,
    start: Vector,
    moves: Sequence[str],
    motion: Motion,
    step: float = 0.25,
) -> None:
    """Make the same moves in both; put both on one place after every step on which one of them touched a wall.

    `step` is the length of a step forward [m].
    """
    apart, a, b = _together(ours, theirs, scan, start, 0.0, motion)
    for move in moves:
        a0, b0 = a, b
        a, b = ours.step(move, render=False), theirs.step(move, render=False)
        gap = math.hypot(*(_plan(a) - _plan(b) - apart))
        turn = abs((a.heading - b.heading + math.pi) % (2 * math.pi) - math.pi)
        if not any(_touches(before, after, move, step) for before, after in ((a0, a), (b0, b))):
            motion.free.append((gap, turn))
            continue
        motion.touched.append(float(math.hypot(*(_plan(a) - _plan(b)))))
        motion.both.append(a.collided == b.collided)
        motion.places.append((scan, a0.position, a0.heading, a.position, b.position))
        apart, a, b = _together(ours, theirs, scan, a.position, a.heading, motion)


def _touches(before: NavState, after: NavState, move: str, step: float) -> bool:
    """Whether a wall bent a move: one that only grazes it is not called a collision."""
    wanted = step * np.array([math.sin(before.heading), math.cos(before.heading)]) * (move == "forward")
    return after.collided or math.dist(_plan(before) + wanted, _plan(after)) > _BENT


def _together(
    ours: NavSimulator, theirs: NavSimulator, scan: str, at: Vector, heading: float, motion: Motion
) -> tuple[np.ndarray, NavState, NavState]:
    """Put both on one place that both call free as far as they do; what is left between them in plan [2]."""
    a = ours.begin(scan, at, heading, ())
    b = theirs.begin(scan, a.position, heading, ())
    if math.dist(_plan(a), _plan(b)) > 1e-6:
        a = ours.begin(scan, b.position, heading, ())
    apart = _plan(a) - _plan(b)
    motion.snap.append(float(math.hypot(*apart)))
    return apart, a, b


def _plan(state: NavState) -> np.ndarray:
    return np.array(state.position[:2])


def _top(values: np.ndarray) -> float:
    return float(values.max()) if len(values) else 0.0


def play(env: NavigationEnv, episodes: Sequence[NavEpisode]) -> list[dict[str, float]]:
    """Measures of the shortest-path expert in each episode, with the distance at its start as `geodesic`."""
    rng = np.random.default_rng(0)
    rows: list[dict[str, float]] = []
    for episode in episodes:
        _, info = env.reset(seed=0, options={"episode": episode})
        first = info["measures"]["distance_to_goal"]
        over = False
        while not over:
            _, _, terminated, truncated, info = env.step(env.oracle(rng))
            over = terminated or truncated
        rows.append({**info["measures"], "geodesic": first})
    return rows


def compare_agents(ours: list[dict[str, float]], theirs: list[dict[str, float]]) -> dict[str, Any]:
    """Success and SPL of both, and how far their distances differ [m]."""
    gap = np.array([abs(a["geodesic"] - b["geodesic"]) for a, b in zip(ours, theirs, strict=True)])
    share = gap / np.array([max(a["geodesic"], 1e-9) for a in ours])
    means = {
        name: {key: float(np.mean([r[key] for r in rows])) for key in ("success", "spl", "steps", "collisions")}
        for name, rows in (("ours", ours), ("habitat", theirs))
    }
    return {
        "episodes": len(ours),
        **means,
        "success_equal": all(a["success"] == b["success"] for a, b in zip(ours, theirs, strict=True)),
        "spl_difference": abs(means["ours"]["spl"] - means["habitat"]["spl"]),
        "geodesic": {"mean_m": float(gap.mean()), "max_m": _top(gap), "mean_share": float(share.mean())},
    }


def compare_pictures(pairs: Sequence[tuple[NavState, NavState]]) -> dict[str, float]:
    """Of the same views: SSIM (Wang et al. 2004) and difference of the colours, of the depths, equal semantics."""
    colours = [(a.images["rgb"], b.images["rgb"]) for a, b in pairs]
    depth = np.stack([np.abs(a.images["depth"] - b.images["depth"]) for a, b in pairs])
    return {
        "views": len(pairs),
        "ssim": float(np.mean([ssim(a, b) for a, b in colours])),
        "rgb_mean_difference": float(np.mean([np.abs(a.astype(int) - b.astype(int)).mean() for a, b in colours])),
        "depth_median_m": float(np.median(depth)),
        "depth_within_2cm": float((depth <= 0.02).mean()),
        "semantics_equal": float(np.mean([a.images["semantics"] == b.images["semantics"] for a, b in pairs])),
    }


def ssim(a: np.ndarray, b: np.ndarray, window: int = 7) -> float:
    """Structural similarity of two uint8 pictures [h w 3], mean over pixels and channels."""
    x, y = a.astype(np.float64), b.astype(np.float64)

    def mean(v: np.ndarray) -> np.ndarray:
        return np.stack([np.asarray(uniform_filter(v[..., c], window)) for c in range(v.shape[-1])], -1)

    mx, my = mean(x), mean(y)
    vx, vy, vxy = mean(x * x) - mx * mx, mean(y * y) - my * my, mean(x * y) - mx * my
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    return float((((2 * mx * my + c1) * (2 * vxy + c2)) / ((mx * mx + my * my + c1) * (vx + vy + c2))).mean())
