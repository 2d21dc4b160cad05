"""What a map says beside what is there: swinging doors, arrows, names, a scale."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import cos, hypot, sin

from PIL import Image, ImageDraw, ImageFont

from .house import Room

PAPER, INK, WALL, SILL = (250, 249, 246), (40, 42, 48), (62, 64, 70), (176, 214, 236)


def swing(pen: ImageDraw.ImageDraw, a: tuple[float, float], b: tuple[float, float], width: int) -> None:
    """A door's leaf, open by a right angle, and the arc it swings through."""
    dx, dy = b[0] - a[0], b[1] - a[1]
    r = hypot(dx, dy)
    tip = (a[0] - dy, a[1] + dx)
    pen.line([a, tip], fill=(*INK, 255), width=2 * width)
    steps = [k * 0.1309 for k in range(13)]
    arc = [(a[0] + dx * cos(t) - dy * sin(t), a[1] + dy * cos(t) + dx * sin(t)) for t in steps]
    pen.line(arc, fill=(*INK, 130), width=max(1, width if r > 8 else 1))


def arrow(pen: ImageDraw.ImageDraw, a: tuple[float, float], b: tuple[float, float], width: int) -> None:
    """An arrow from `a` to `b`."""
    dx, dy = b[0] - a[0], b[1] - a[1]
    length = hypot(dx, dy) or 1.0
    ux, uy = dx / length, dy / length
    head = 8 * width
    pen.line([a, b], fill=(*INK, 255), width=max(1, width))
    tip = [b, (b[0] - head * ux - head * 0.5 * uy, b[1] - head * uy + head * 0.5 * ux)]
    pen.polygon([*tip, (b[0] - head * ux + head * 0.5 * uy, b[1] - head * uy - head * 0.5 * ux)], fill=(*INK, 255))


def labels(
    image: Image.Image, to_pixel: Callable[[Sequence[float]], tuple[float, float]], scale: float, rooms: Sequence[Room]
) -> None:
    """The rooms' names in their middles."""
    pen = ImageDraw.Draw(image)
    for room in rooms:
        xs, ys = [p[0] for p in room.polygon], [p[1] for p in room.polygon]
        middle = to_pixel(((min(xs) + max(xs)) / 2, (min(ys) + max(ys)) / 2))
        size = min(0.26 * scale, 1.7 * (max(xs) - min(xs)) * scale / len(room.name))
        font = ImageFont.load_default(max(9.0, size))
        pen.text(
            middle,
            room.name,
            fill=INK,
            font=font,
            anchor="mm",
            stroke_width=max(2, round(size / 5)),
            stroke_fill=(255, 255, 255),
        )


def scale_bar(image: Image.Image, scale: float) -> None:
    """Two metres and an arrow to the north."""
    pen, font = ImageDraw.Draw(image), ImageFont.load_default(max(10.0, 0.2 * scale))
    x, y, step = 0.35 * scale, image.height - 0.35 * scale, scale
    for i in range(2):
        box = (x + i * step, y - 0.07 * scale, x + (i + 1) * step, y)
        pen.rectangle(box, fill=INK if i % 2 == 0 else PAPER, outline=INK)
    pen.text((x + 2.1 * step, y), "2 m", fill=INK, font=font, anchor="ls")
    cx, cy, r = image.width - 0.4 * scale, 0.42 * scale, 0.26 * scale
    pen.polygon([(cx, cy - r), (cx - r / 2, cy + r), (cx, cy + r / 2), (cx + r / 2, cy + r)], fill=INK)
    pen.text((cx - 0.45 * scale, cy), "N", fill=INK, font=font, anchor="mm")
