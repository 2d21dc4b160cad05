"""`summary.png`: what the robot saw and how often it succeeded, in one picture for a README."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from .summary import Row

WIDTH, MARGIN, GAP = 1200, 36, 16
STILLS, CAPTION = 4, 52
LINE = 40
GROUND, INK, DIM, TRACK, FILL, CHANCE, GOOD, BAD = (
    (250, 250, 252),
    (25, 28, 34),
    (102, 112, 133),
    (230, 233, 239),
    (78, 132, 240),
    (199, 119, 0),
    (31, 157, 87),
    (214, 69, 69),
)


def picture(rows: Sequence[Row], films: Sequence[Mapping[str, Any]], folder: Path) -> Image.Image:
    """A strip of final camera frames with their instructions above bars with 95 % intervals.

    Args:
        rows: one bar each.
        films: entries of `VideoSink`; `folder` holds their stills.
    """
    chosen = _choose([f for f in films if (folder / str(f["still"])).is_file()])
    side = (WIDTH - 2 * MARGIN - (STILLS - 1) * GAP) // STILLS
    strip = side + CAPTION + GAP if chosen else 0
    canvas = Image.new("RGB", (WIDTH, 2 * MARGIN + strip + LINE * len(rows) + 34), GROUND)
    draw = ImageDraw.Draw(canvas)
    for i, entry in enumerate(chosen):
        left = MARGIN + i * (side + GAP)
        with Image.open(folder / str(entry["still"])) as image:
            canvas.paste(image.convert("RGB").resize((side, side), Image.Resampling.BICUBIC), (left, MARGIN))
        colour = GOOD if entry["success"] else BAD
        draw.rectangle((left, MARGIN, left + side - 1, MARGIN + side - 1), outline=colour, width=4)
        for j, words in enumerate(_wrap(f"“{entry['instruction']}”", side, 17)[:2]):
            draw.text((left + side // 2, MARGIN + side + 18 + 21 * j), words, fill=INK, font=_font(17), anchor="mm")
    for i, row in enumerate(rows):
        _bar(draw, row, MARGIN + strip + LINE * i + LINE // 2)
    draw.text((MARGIN, canvas.height - MARGIN), _legend(rows), fill=DIM, font=_font(15), anchor="lm")
    return canvas


def _choose(films: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Successes first, each task as early as possible, so that the strip shows what there is."""
    ranked: list[Mapping[str, Any]] = []
    left = sorted((f for f in films if not f["ablation"]), key=lambda f: not f["success"])
    while left and len(ranked) < STILLS:
        shown = [f["task"] for f in ranked]
        best = min(left, key=lambda f: (not f["success"], shown.count(f["task"])))
        ranked.append(best)
        left.remove(best)
    return ranked


def _bar(draw: ImageDraw.ImageDraw, row: Row, y: int) -> None:
    start, end = MARGIN + 210, WIDTH - MARGIN - 250
    span = end - start
    draw.text((MARGIN, y), row.label.replace("_", " "), fill=INK, font=_font(20), anchor="lm")
    draw.rounded_rectangle((start, y - 11, end, y + 11), 6, fill=TRACK)
    if row.rate > 0:
        draw.rounded_rectangle((start, y - 11, start + max(span * row.rate, 8), y + 11), 6, fill=FILL)
    for top in range(y - 15, y + 15, 7) if row.chance < 1 else ():
        draw.line((start + span * row.chance, top, start + span * row.chance, top + 4), fill=CHANCE, width=3)
    low, high = start + span * row.low, start + span * row.high
    draw.line((low, y, high, y), fill=INK, width=3)
    for x in (low, high):
        draw.line((x, y - 6, x, y + 6), fill=INK, width=3)
    draw.text((end + 18, y), f"{row.rate:.1%}", fill=INK, font=_font(20), anchor="lm")
    draw.text(
        (WIDTH - MARGIN, y), f"{row.low:.0%} to {row.high:.0%}, n = {row.n}", fill=DIM, font=_font(16), anchor="rm"
    )


def _legend(rows: Sequence[Row]) -> str:
    chance = ", dashed mark: chance" if any(r.chance < 1 for r in rows) else ""
    return f"Success over all tasks; whisker: 95 % Wilson interval{chance}."


def _font(size: float) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _wrap(text: str, width: float, size: float) -> list[str]:
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if _font(size).getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines
