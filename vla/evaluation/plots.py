"""Small plots as HTML and SVG text: success bars with intervals, and curves over training steps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from .summary import Row

WIDTH, HEIGHT = 360, 170
LEFT, RIGHT, TOP, BOTTOM = 46, 8, 10, 22
POINTS = 300


def interval_bars(rows: Sequence[Row], labels: Sequence[str]) -> str:
    """One horizontal bar per row: rate, its 95 % interval as a whisker, chance as a dashed mark."""
    lines = []
    for row, label in zip(rows, labels, strict=True):
        rate, low, high, chance = (100 * x for x in (row.rate, row.low, row.high, row.chance))
        mark = f'<i class="chance" style="left:{chance:.2f}%"></i>' if chance < 100 else ""
        lines.append(
            f'<div class="bar"><span class="label">{escape(label)}</span>'
            f'<span class="track"><i class="fill" style="width:{rate:.2f}%"></i>{mark}'
            f'<i class="whisker" style="left:{low:.2f}%;width:{max(high - low, 0.3):.2f}%"></i></span>'
            f'<span class="value">{rate:.1f} %<small> {low:.1f} – {high:.1f}</small></span></div>'
        )
    return f'<div class="bars">{"".join(lines)}</div>'


def curve(title: str, steps: Sequence[float], values: Sequence[float]) -> str:
    """A line over training steps as an SVG figure; logarithmic where a positive series spans two decades."""
    pairs = [(s, v) for s, v in zip(steps, values, strict=True) if math.isfinite(v)]
    if not pairs:
        return ""
    pairs = _thin(pairs)
    ys = [v for _, v in pairs]
    logarithmic = min(ys) > 0 and max(ys) / min(ys) > 100
    scaled = [math.log10(v) if logarithmic else v for v in ys]
    low, high = min(scaled), max(scaled)
    if high - low < 1e-12 * max(1.0, abs(high)):
        low, high = low - 0.5 * (abs(low) or 1), high + 0.5 * (abs(high) or 1)
    first, last = pairs[0][0], max(pairs[-1][0], pairs[0][0] + 1)

    def x(step: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (step - first) / (last - first)

    def y(value: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (high - value) / (high - low)

    points = " ".join(f"{x(s):.1f},{y(v):.1f}" for (s, _), v in zip(pairs, scaled, strict=True))
    grid = ""
    for i in range(4):
        value = low + (high - low) * i / 3
        grid += (
            f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(value):.1f}" y2="{y(value):.1f}"/>'
            f'<text x="{LEFT - 5}" y="{y(value) + 3.5:.1f}" text-anchor="end">'
            f"{short(10**value if logarithmic else value)}</text>"
        )
    ticks = (
        f'<text x="{LEFT}" y="{HEIGHT - 6}">{short(first)}</text>'
        f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 6}" text-anchor="end">{short(last)} steps</text>'
    )
    name = escape(title.replace("_", " ")) + (" (log)" if logarithmic else "")
    return (
        f'<figure class="card"><figcaption>{name}<b>{short(ys[-1])}</b></figcaption>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{name}">{grid}{ticks}'
        f'<polyline class="line" points="{points}"/></svg></figure>'
    )


def _thin(pairs: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most `POINTS` points: means over equal runs of the series, so that no spike is picked or dropped by luck."""
    size = -(-len(pairs) // POINTS)
    groups = [pairs[i : i + size] for i in range(0, len(pairs), size)]
    return [(g[-1][0], sum(v for _, v in g) / len(g)) for g in groups]


def short(value: float) -> str:
    """A number as an axis shows it: 3.1e-4, 1.5, 12.3k."""
    if value == 0:
        return "0"
    size = abs(value)
    if size >= 10_000:
        return f"{value / 1000:.3g}k"
    if size < 0.01:
        return f"{value:.1e}".replace("e-0", "e-")
    return f"{value:.3g}" if size < 1000 else f"{value:.0f}"
