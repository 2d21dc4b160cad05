"""Axis aligned rectangles in plan, and polygons cut into them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .house import Point

EPS = 1e-6
"""Lengths below this are nothing [m]."""


@dataclass(frozen=True)
class Rect:
    """An axis aligned rectangle in plan."""

    x0: float
    y0: float
    x1: float
    y1: float

    @property
    def empty(self) -> bool:
        return self.x1 - self.x0 < EPS or self.y1 - self.y0 < EPS

    def overlaps(self, other: Rect) -> bool:
        """Whether both share an area."""
        return (
            min(self.x1, other.x1) - max(self.x0, other.x0) > EPS
            and min(self.y1, other.y1) - max(self.y0, other.y0) > EPS
        )


def rectangles(polygon: Sequence[Point], holes: Sequence[Rect] = ()) -> tuple[Rect, ...]:
    """Disjoint rectangles that cover a polygon with axis aligned edges, without `holes`."""
    xs = sorted({p[0] for p in polygon} | {x for h in holes for x in (h.x0, h.x1)})
    ys = sorted({p[1] for p in polygon} | {y for h in holes for y in (h.y0, h.y1)})

    def inside(x: float, y: float) -> bool:
        if any(h.x0 < x < h.x1 and h.y0 < y < h.y1 for h in holes):
            return False
        crossings = 0
        for (ax, ay), (bx, by) in zip(polygon, (*polygon[1:], polygon[0]), strict=True):
            crossings += ax == bx and min(ay, by) < y < max(ay, by) and ax > x
        return crossings % 2 == 1

    out: list[Rect] = []
    open_strips: dict[tuple[float, float], float] = {}
    for y0, y1 in zip(ys, ys[1:], strict=False):
        runs: list[tuple[float, float]] = []
        for x0, x1 in zip(xs, xs[1:], strict=False):
            if inside((x0 + x1) / 2, (y0 + y1) / 2):
                if runs and runs[-1][1] == x0:
                    runs[-1] = (runs[-1][0], x1)
                else:
                    runs.append((x0, x1))
        for run in [r for r in open_strips if r not in runs]:
            out.append(Rect(run[0], open_strips.pop(run), run[1], y0))
        for run in runs:
            open_strips.setdefault(run, y0)
    out += [Rect(x0, y, x1, ys[-1]) for (x0, x1), y in open_strips.items()]
    return tuple(r for r in out if not r.empty)
