"""The map of a storey seen from above: floors with their textures, walls, doors, furniture, names and paths."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import cos, hypot, sin

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from .house import House, Item, Material, Opening, Part, Room
from .map_marks import INK, PAPER, SILL, WALL, arrow, labels, scale_bar, swing
from .materials import SIZE, texture_pixels
from .solids import footprint

MARGIN = 0.9
"""Paper around the house [m]."""
CUT = 2.0
"""Things that begin higher above the floor are left out [m]."""
FINE = 2
"""Pictures are drawn so many times larger and then reduced."""
COLOURS = ((214, 60, 50), (40, 96, 200), (30, 140, 80), (150, 70, 170))
"""Of paths that name none."""

Line = Sequence[Sequence[float]]


@dataclass(frozen=True, eq=False)
class Map:
    """A drawn storey.

    Args:
        image: uint8 [h w 3], north up.
        pixels_per_metre: its scale.
        left, top: world x and y of the image's upper left corner [m].
        storey: which one it shows.
    """

    image: np.ndarray
    pixels_per_metre: float
    left: float
    top: float
    storey: int

    def to_pixel(self, xy: Sequence[float]) -> tuple[float, float]:
        """Column and row of a point of the world."""
        return (xy[0] - self.left) * self.pixels_per_metre, (self.top - xy[1]) * self.pixels_per_metre


def draw(
    house: House,
    *,
    storey: int = 0,
    pixels_per_metre: float = 60.0,
    paths: Sequence[Line] = (),
    names: bool = True,
) -> np.ndarray:
    """uint8 [h w 3]: the map of a storey, north up.

    Args:
        house: what is drawn.
        storey: 0 is the ground floor.
        pixels_per_metre: scale.
        paths: lines of world points [x y] or [x y z], drawn over it; points of other storeys are left out.
        names: whether rooms carry their names.
    """
    return plan(house, storey=storey, pixels_per_metre=pixels_per_metre, paths=paths, names=names).image


def plan(
    house: House,
    *,
    storey: int = 0,
    pixels_per_metre: float = 60.0,
    paths: Sequence[Line] = (),
    names: bool = True,
) -> Map:
    """Like `draw`, with the scale and place of the picture."""
    sheet = _Sheet(house, storey, pixels_per_metre * FINE)
    for room in sheet.rooms:
        sheet.floor(room)
    sheet.shade_edges()
    for item in sheet.items:
        sheet.item(item)
    sheet.stairs()
    sheet.walls()
    for i, path in enumerate(paths):
        sheet.path(path, COLOURS[i % len(COLOURS)])
    size = (sheet.canvas.width // FINE, sheet.canvas.height // FINE)
    small = sheet.canvas.convert("RGB").resize(size, Image.Resampling.LANCZOS)
    drawn = Map(np.empty(0), pixels_per_metre, sheet.left, sheet.top, storey)
    if names:
        labels(small, drawn.to_pixel, pixels_per_metre, sheet.rooms)
    scale_bar(small, pixels_per_metre)
    return Map(np.asarray(small), pixels_per_metre, sheet.left, sheet.top, storey)


class _Sheet:
    def __init__(self, house: House, storey: int, scale: float) -> None:
        self.house, self.storey, self.scale = house, storey, scale
        self.base = storey * house.storey_height
        self.rooms = [r for r in house.rooms if r.storey == storey]
        self.items = sorted((i for i in house.items if self._shown(i)), key=lambda i: (i.position[2] + i.size[2], i.id))
        points = [p for r in house.rooms for p in r.polygon]
        self.left = min(p[0] for p in points) - MARGIN
        self.top = max(p[1] for p in points) + MARGIN
        width = max(p[0] for p in points) + MARGIN - self.left
        height = self.top - min(p[1] for p in points) + MARGIN
        size = (FINE * round(width * scale / FINE), FINE * round(height * scale / FINE))
        self.canvas = Image.new("RGBA", size, (*PAPER, 255))

    def _shown(self, item: Item) -> bool:
        room = self.house.rooms[item.room]
        return room.storey == self.storey and item.position[2] - self.base < CUT

    def at(self, x: float, y: float) -> tuple[float, float]:
        return (x - self.left) * self.scale, (self.top - y) * self.scale

    # --- floors -------------------------------------------------------------------------------------------------

    def floor(self, room: Room) -> None:
        corners = [self.at(x, y) for x, y in room.polygon]
        mask = Image.new("L", self.canvas.size, 0)
        ImageDraw.Draw(mask).polygon(corners, fill=255)
        x0, y0 = (int(min(c[i] for c in corners)) for i in (0, 1))
        x1, y1 = (int(max(c[i] for c in corners)) + 2 for i in (0, 1))
        tile = self.textured(self.house.materials[room.floor], x1 - x0, y1 - y0)
        self.canvas.paste(Image.fromarray(tile), (x0, y0), mask.crop((x0, y0, x1, y1)))

    def textured(self, material: Material, width: int, height: int) -> np.ndarray:
        colour = np.asarray(material.colour) * 255
        if not material.texture:
            return np.broadcast_to(colour.astype(np.uint8), (height, width, 3))
        repeat = max(8, round(material.scale * self.scale))
        tile = Image.fromarray(np.asarray(texture_pixels(material.texture))).resize(
            (repeat, repeat), Image.Resampling.BOX if repeat < SIZE else Image.Resampling.BICUBIC
        )
        shade = np.tile(np.asarray(tile), (height // repeat + 1, width // repeat + 1, 1))[:height, :width]
        return (shade * (colour / 255)).astype(np.uint8)

    def shade_edges(self) -> None:
        """A soft shadow of the walls on the floors."""
        mask = Image.new("L", self.canvas.size, 0)
        pen = ImageDraw.Draw(mask)
        for wall in self.house.walls:
            if wall.storey == self.storey:
                pen.line([self.at(*wall.start), self.at(*wall.end)], fill=110, width=round(0.3 * self.scale))
        self.darken(mask.filter(ImageFilter.GaussianBlur(0.10 * self.scale)))

    def darken(self, mask: Image.Image) -> None:
        self.canvas.paste(Image.new("RGBA", self.canvas.size, (20, 18, 24, 255)), (0, 0), mask)

    # --- furniture ----------------------------------------------------------------------------------------------

    def item(self, item: Item) -> None:
        """The item's solids from low to high, over a shadow of its outline."""
        x, y = self.at(*item.position[:2])
        reach = (hypot(item.size[0], item.size[1]) / 2 + 0.25) * self.scale
        x0, y0, x1, y1 = int(x - reach), int(y - reach), int(x + reach), int(y + reach)
        layer = Image.new("RGBA", (x1 - x0, y1 - y0), (0, 0, 0, 0))
        pen = ImageDraw.Draw(layer)
        parts = sorted(item.parts, key=lambda p: p.centre[2] + p.half[2])
        low = parts[0].centre[2] - parts[0].half[2]
        for part in parts:
            self._part(pen, item, part, (x0, y0), low)
        alpha = layer.getchannel("A")
        soft = min(1.0, item.size[2]) if item.support is None else 0.2
        if item.size[2] > 0.03:
            blurred = np.asarray(alpha.filter(ImageFilter.GaussianBlur(0.04 * self.scale)))
            shadow = Image.fromarray((blurred * (0.30 * (0.4 + soft))).astype(np.uint8))
            offset = round(0.05 * self.scale * soft)
            dark = Image.new("RGBA", layer.size, (20, 18, 24, 255))
            self.canvas.paste(dark, (x0 + offset, y0 + offset), shadow)
        self.canvas.paste(layer, (x0, y0), alpha)

    def _part(self, pen: ImageDraw.ImageDraw, item: Item, part: Part, origin: tuple[int, int], low: float) -> None:
        material = self.house.materials[part.material]
        height = part.centre[2] + part.half[2] - low
        light = 0.86 + 0.14 * min(1.0, height / max(item.size[2], 0.05))
        fill = tuple(round(255 * c * light) for c in material.colour)
        edge = tuple(round(255 * c * light * 0.72) for c in material.colour)
        corners = _outline(item, part)
        pixels = [(x - origin[0], y - origin[1]) for x, y in (self.at(*c) for c in corners)]
        pen.polygon(pixels, fill=(*fill, 255), outline=(*edge, 255), width=max(1, round(0.012 * self.scale)))

    # --- the building -------------------------------------------------------------------------------------------

    def stairs(self) -> None:
        pen = ImageDraw.Draw(self.canvas)
        for flight in self.house.stairs:
            rooms = (self.house.rooms[flight.rooms[0]].storey, self.house.rooms[flight.rooms[1]].storey)
            if self.storey not in rooms:
                continue
            rect = footprint(flight)
            box = (*self.at(rect.x0, rect.y1), *self.at(rect.x1, rect.y0))
            colour = np.asarray(self.house.materials[flight.material].colour) * 255
            below = self.storey == rooms[1]
            (ax, ay), (bx, by) = flight.start, flight.end
            for i in range(flight.steps):
                shade = (0.62 if below else 0.78) + 0.3 * (i + 1) / flight.steps
                a, b = i / flight.steps, (i + 1) / flight.steps
                if abs(bx - ax) > abs(by - ay):
                    xs = sorted((ax + (bx - ax) * a, ax + (bx - ax) * b))
                    step = (*self.at(xs[0], rect.y1), *self.at(xs[1], rect.y0))
                else:
                    ys = sorted((ay + (by - ay) * a, ay + (by - ay) * b))
                    step = (*self.at(rect.x0, ys[1]), *self.at(rect.x1, ys[0]))
                fill = tuple(int(min(255, c * shade)) for c in colour)
                pen.rectangle(step, fill=(*fill, 255), outline=(*INK, 255), width=max(1, round(0.012 * self.scale)))
            pen.rectangle(box, outline=(*INK, 255), width=max(1, round(0.025 * self.scale)))
            arrow(pen, self.at(*flight.start), self.at(*flight.end), round(0.03 * self.scale))

    def walls(self) -> None:
        pen = ImageDraw.Draw(self.canvas)
        walls = [w for w in self.house.walls if w.storey == self.storey]
        for w in walls:
            half = w.thickness / 2
            xs, ys = sorted((w.start[0], w.end[0])), sorted((w.start[1], w.end[1]))
            pen.rectangle(
                (*self.at(xs[0] - half, ys[1] + half), *self.at(xs[1] + half, ys[0] - half)), fill=(*WALL, 255)
            )
        ids = {w.id: w for w in walls}
        for o in self.house.openings:
            if o.wall in ids:
                self._opening(pen, o, ids[o.wall].thickness / 2)

    def _opening(self, pen: ImageDraw.ImageDraw, o: Opening, half: float) -> None:
        (ax, ay), (bx, by) = o.start, o.end
        across = (0.0, half) if ay == by else (half, 0.0)
        x0, x1 = sorted((ax, bx))
        y0, y1 = sorted((ay, by))
        box = (*self.at(x0 - across[0], y1 + across[1]), *self.at(x1 + across[0], y0 - across[1]))
        thin = max(1, round(0.015 * self.scale))
        if o.kind == "window":
            pen.rectangle(box, fill=(*SILL, 255), outline=(*WALL, 255), width=thin)
            pen.line([self.at(ax, ay), self.at(bx, by)], fill=(255, 255, 255, 255), width=thin)
            return
        inside = next(r for r in o.rooms if r is not None)
        colour = tuple(round(255 * c * 0.93) for c in self.house.materials[self.house.rooms[inside].floor].colour)
        pen.rectangle(box, fill=(*colour, 255))
        if o.kind == "open":
            return
        if None in o.rooms:
            leaf = tuple(round(255 * c * 0.8) for c in self.house.materials[o.material].colour)
            pen.rectangle(box, fill=(*leaf, 255), outline=(*INK, 255), width=thin)
            return
        swing(pen, self.at(ax, ay), self.at(bx, by), thin)

    # --- paths --------------------------------------------------------------------------------------------------

    def path(self, line: Line, colour: tuple[int, int, int]) -> None:
        """A line with a dot at its start and a ring at its end."""
        on = [p for p in line if len(p) < 3 or abs(p[2] - self.base) < self.house.storey_height / 2]
        if not on:
            return
        pen = ImageDraw.Draw(self.canvas)
        pixels = [self.at(p[0], p[1]) for p in on]
        if len(pixels) > 1:
            pen.line(pixels, fill=(255, 255, 255, 255), width=round(0.16 * self.scale), joint="curve")
            pen.line(pixels, fill=(*colour, 255), width=round(0.09 * self.scale), joint="curve")
        r = 0.13 * self.scale
        for (x, y), full in ((pixels[0], True), (pixels[-1], False)):
            fill = (*colour, 255) if full else (255, 255, 255, 255)
            pen.ellipse((x - r, y - r, x + r, y + r), fill=fill, outline=(*colour, 255), width=round(0.05 * self.scale))


def _outline(item: Item, part: Part) -> list[tuple[float, float]]:
    """The part seen from above, in the world."""
    hx, hy = part.half[:2]
    if part.shape == "box":
        ring = [(-hx, -hy), (hx, -hy), (hx, hy), (-hx, hy)]
    else:
        ring = [(hx * cos(k * 0.2618), hy * sin(k * 0.2618)) for k in range(24)]
    out: list[tuple[float, float]] = []
    for x, y in ring:
        x, y = (
            x * cos(part.yaw) - y * sin(part.yaw) + part.centre[0],
            x * sin(part.yaw) + y * cos(part.yaw) + part.centre[1],
        )
        c, s = cos(item.yaw), sin(item.yaw)
        out.append((item.position[0] + c * x - s * y, item.position[1] + s * x + c * y))
    return out
