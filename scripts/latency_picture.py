"""Success and time to success over latency, one line a mode, as a picture."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from PIL import Image, ImageDraw, ImageFont

WIDTH, HEIGHT, LEFT, TOP, BOTTOM, GAP = 1100, 430, 70, 60, 60, 90
GROUND, INK, DIM, GRID = (250, 250, 252), (25, 28, 34), (102, 112, 133), (225, 228, 235)
COLOURS = ((102, 112, 133), (214, 69, 69), (199, 119, 0), (78, 132, 240), (31, 157, 87), (140, 80, 200))
APART = 5
"""Pixels between the marks of two modes at one latency, so that their whiskers can be told apart."""

Cell = Mapping[str, Any]


def picture(cells: Sequence[Cell], title: str) -> Image.Image:
    """Success [%] on the left, mean time to success [s] on the right, both with 95 % intervals.

    Args:
        cells: `mode`, `latency_ms`, `rate`, `interval` and `seconds_to_success` of each.
    """
    canvas = Image.new("RGB", (WIDTH, HEIGHT), GROUND)
    draw = ImageDraw.Draw(canvas)
    draw.text((LEFT, 22), title, fill=INK, font=_font(17), anchor="lm")
    width = (WIDTH - LEFT - GAP - 30) // 2
    _plot(
        draw,
        cells,
        (LEFT, width),
        "success [%]",
        lambda c: tuple(100 * x for x in (c["rate"], *c["interval"])),
        (0, 100),
    )
    slow = [c for c in cells if c["seconds_to_success"]]
    if slow:
        _plot(draw, slow, (LEFT + width + GAP, width), "time to success [s]", lambda c: tuple(c["seconds_to_success"]))
    return canvas


def _plot(
    draw: ImageDraw.ImageDraw,
    cells: Sequence[Cell],
    span: tuple[int, int],
    label: str,
    value: Callable[[Cell], tuple[float, ...]],
    bounds: tuple[float, float] | None = None,
) -> None:
    left, width = span
    values = [value(c) for c in cells]
    low, high = bounds or (min(min(v) for v in values), max(max(v) for v in values))
    low, high = (low, high) if bounds else (low - 0.05 * (high - low + 1e-6), high + 0.05 * (high - low + 1e-6))
    longest = max(c["latency_ms"] for c in cells) or 1.0

    def at(latency: float, y: float) -> tuple[float, float]:
        return left + width * (0.04 + 0.92 * latency / longest), TOP + (HEIGHT - TOP - BOTTOM) * (high - y) / (
            high - low
        )

    for k in range(5):
        y = low + (high - low) * k / 4
        draw.line((at(0, y)[0] - 10, at(0, y)[1], left + width, at(0, y)[1]), fill=GRID)
        draw.text((left - 2, at(0, y)[1]), f"{y:.3g}", fill=DIM, font=_font(13), anchor="rm")
    for latency in sorted({c["latency_ms"] for c in cells}):
        draw.text((at(latency, low)[0], HEIGHT - BOTTOM + 14), f"{latency:g}", fill=DIM, font=_font(13), anchor="mm")
    draw.text((left, TOP - 16), label, fill=INK, font=_font(14), anchor="lm")
    draw.text((left + width, HEIGHT - BOTTOM + 14), "ms", fill=DIM, font=_font(13), anchor="lm")
    modes = list(dict.fromkeys(c["mode"] for c in cells))
    for i, mode in enumerate(modes):
        colour, aside = COLOURS[i % len(COLOURS)], APART * (i - (len(modes) - 1) / 2)
        points = []
        for cell, (middle, *ends) in zip(cells, values, strict=True):
            if cell["mode"] != mode:
                continue
            x, y = at(cell["latency_ms"], middle)
            x += aside
            points.append((x, y))
            draw.line((x, at(0, ends[0])[1], x, at(0, ends[1])[1]), fill=colour, width=1)
            draw.ellipse((x - 3, y - 3, x + 3, y + 3), fill=colour)
        draw.line(points, fill=colour, width=2)
        x = LEFT + 170 * i
        draw.line((x, HEIGHT - 18, x + 22, HEIGHT - 18), fill=colour, width=3)
        draw.text((x + 30, HEIGHT - 18), mode, fill=INK, font=_font(14), anchor="lm")


def _font(size: int) -> Any:
    return ImageFont.load_default(size)
