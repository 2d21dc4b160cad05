"""Recast's watershed: walkable cells parted into regions, whose meeting points outlines keep when they are simplified.

Follows Recast (Mononen, recastnavigation) as habitat-sim configures it: regions grow from the middles of rooms over
falling distances from the walls, eight cells a level, and small ones join a neighbour.
"""

from __future__ import annotations

from array import array

import numpy as np

_WIDE = 8
"""Rounds in which regions grow at each level before new ones may begin."""
_SMALL = 400
"""Cells up to which a region joins a neighbour: Recast's 20 × 20."""


def regions(cells: np.ndarray) -> np.ndarray:
    """int32 [rows columns]: the region of each walkable cell, 1 and up, 0 elsewhere (row 0 in the north)."""
    rows, columns = cells.shape
    width = columns + 2
    free = np.pad(cells, 1).ravel()
    # West, south, east, north: the order in which Recast looks around.
    steps = (-1, width, 1, -width)
    depth = _depth(free, steps, width)
    label, far = np.zeros(free.size, np.int32), np.zeros(free.size, np.int32)
    _grow_all(free, depth, label, far, steps)
    _merge(label, steps)
    return label.reshape(rows + 2, width)[1:-1, 1:-1].copy()


def _depth(free: np.ndarray, steps: tuple[int, ...], width: int) -> np.ndarray:
    """Chamfer distance (2 straight, 3 diagonal) to the border cells, blurred over 3 × 3 where it exceeds 2."""
    inner = free.copy()
    for step in steps:
        inner &= np.roll(free, -step)
    depth = np.where(inner, 1 << 14, 0)
    around = [(s, 2) for s in steps] + [(a + b, 3) for a in (-1, 1) for b in (-width, width)]
    at = np.flatnonzero(inner)
    while len(at):
        best = np.minimum.reduce([depth[at + s] + cost for s, cost in around])
        changed = best < depth[at]
        if not changed.any():
            break
        depth[at] = np.minimum(best, depth[at])
    deep = np.flatnonzero(depth > 2)
    blurred = depth.copy()
    blurred[deep] = (depth[deep] + sum(depth[deep + s] for s, _ in around) + 5) // 9
    return blurred


def _grow_all(free: np.ndarray, depth: np.ndarray, label: np.ndarray, far: np.ndarray, steps: tuple[int, ...]) -> None:
    order = np.flatnonzero(free)
    levels = depth[order] // 2
    waiting = np.zeros(0, np.int64)
    count = 0
    for level in range(int(levels.max(initial=0)), -1, -1):
        waiting = np.concatenate([order[levels == level], waiting])
        waiting = _grow(waiting[label[waiting] == 0], free, label, far, steps, _WIDE if level else None)
        for seed in waiting.tolist():
            if label[seed] == 0 and _flood(seed, max(2 * level - 2, 0), count + 1, free, depth, label, far, steps):
                count += 1
        waiting = waiting[label[waiting] == 0]
    _grow(order[label[order] == 0], free, label, far, steps, None)


def _grow(
    waiting: np.ndarray,
    free: np.ndarray,
    label: np.ndarray,
    far: np.ndarray,
    steps: tuple[int, ...],
    rounds: int | None,
) -> np.ndarray:
    """Let regions take the waiting cells beside them, all at once in each round; what is left of them."""
    while len(waiting) and (rounds is None or rounds > 0):
        best, found = np.full(len(waiting), 1 << 14), np.zeros(len(waiting), np.int32)
        for step in steps:
            beside = waiting + step
            near = far[beside] + 2
            nearer = (label[beside] > 0) & (near < best)
            best, found = np.where(nearer, near, best), np.where(nearer, label[beside], found)
        taken = found > 0
        if not taken.any():
            break
        label[waiting[taken]], far[waiting[taken]] = found[taken], best[taken]
        waiting = waiting[~taken]
        rounds = None if rounds is None else rounds - 1
    return waiting


def _flood(
    seed: int,
    least: int,
    name: int,
    free: np.ndarray,
    depth: np.ndarray,
    label: np.ndarray,
    far: np.ndarray,
    steps: tuple[int, ...],
) -> bool:
    """Begin a region at a cell, over all cells at least so deep that no other region touches; whether it has any."""
    turns = [(step, steps[(k + 1) % 4]) for k, step in enumerate(steps)]
    label[seed], far[seed] = name, 0
    stack, count = array("q", [seed]), 0
    while stack:
        at = stack.pop()
        if _touches(at, name, free, label, turns):
            label[at] = 0
            continue
        count += 1
        for step in steps:
            beside = at + step
            if free[beside] and label[beside] == 0 and depth[beside] >= least:
                label[beside], far[beside] = name, 0
                stack.append(beside)
    return count > 0


def _touches(at: int, name: int, free: np.ndarray, label: np.ndarray, turns: list[tuple[int, int]]) -> bool:
    for step, turn in turns:
        beside = at + step
        if not free[beside]:
            continue
        if label[beside] not in (0, name) or label[beside + turn] not in (0, name):
            return True
    return False


# --- small regions join others ------------------------------------------------------------------------------------


def _merge(label: np.ndarray, steps: tuple[int, ...]) -> None:
    count = int(label.max(initial=0))
    sizes = np.bincount(label, minlength=count + 1).tolist()
    rings = [[], *(_neighbours(label, k, steps) for k in range(1, count + 1))]
    names = list(range(count + 1))
    merged = True
    while merged:
        merged = False
        for k in range(1, count + 1):
            # A large region is left alone unless it touches no wall.
            if sizes[k] == 0 or (sizes[k] > _SMALL and 0 in rings[k]):
                continue
            into = _smallest(k, rings, sizes, names)
            if into is None:
                continue
            rings[into] = _joined(rings[into], rings[k], into, k)
            sizes[into] += sizes[k]
            sizes[k], rings[k] = 0, []
            names = [into if n == k else n for n in names]
            for j in range(1, count + 1):
                if k in rings[j]:
                    rings[j] = _distinct([into if n == k else n for n in rings[j]])
            merged = True
    label[:] = np.array(names, np.int32)[label]


def _smallest(k: int, rings: list[list[int]], sizes: list[int], names: list[int]) -> int | None:
    """The smallest neighbour that meets region k in one stretch only."""
    best = None
    for j in rings[k]:
        n = names[j]
        if n in (0, k) or rings[k].count(n) > 1 or rings[n].count(k) > 1 or k not in rings[n]:
            continue
        if best is None or sizes[n] < sizes[best]:
            best = n
    return best


def _joined(a: list[int], b: list[int], into: int, k: int) -> list[int]:
    i, j = a.index(k), b.index(into)
    return _distinct([*a[i + 1 :], *a[:i], *b[j + 1 :], *b[:j]])


def _distinct(ring: list[int]) -> list[int]:
    """Without repeats in a row, going round."""
    out = [n for i, n in enumerate(ring) if n != ring[i - 1] or len(ring) == 1]
    return out or ring[:1]


def _neighbours(label: np.ndarray, k: int, steps: tuple[int, ...]) -> list[int]:
    """The regions met on the way round region k, 0 for walls, from its first cell clockwise."""
    first = int(np.argmax(label == k))
    if label[first] != k:
        return []
    side = next((d for d in range(4) if label[first + steps[d]] != k), None)
    if side is None:
        return []
    at, start, ring = first, side, [int(label[first + steps[side]])]
    while True:
        beside = int(label[at + steps[side]])
        if beside != k:
            if beside != ring[-1]:
                ring.append(beside)
            side = (side + 1) % 4
        else:
            at, side = at + steps[side], (side + 3) % 4
        if (at, side) == (first, start):
            return _distinct(ring)
