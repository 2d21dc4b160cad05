"""A navigation episode as a film: the words, what the agent sees, and the map with its way and the reference."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ...envs.house import map
from ...envs.house.house import House
from ...envs.house.renderer import HouseRenderer
from ...vla.evaluation.video import BAD, DIM, GOOD, GROUND, INK
from ...vla.navigation import Instruction, NavEpisode, NavResult, ViewpointGraph

VIEW: Final = (640, 480)
HFOV: Final = 2 * math.degrees(math.atan(math.tan(math.radians(30)) * 4 / 3))
"""Of the Matterport simulator: 60 degrees high."""
FPS, STEPS_PER_SECOND = 12.0, 6.0
"""Of films on viewpoint graphs, and of films that show every move."""
SPEED, TURN = 1.6, 2.2
"""Between viewpoints [m/s], [rad/s]."""
DOWN = -0.12
"""Elevation of the camera on viewpoint graphs [rad]: their agents see the floor as well."""
HOLD = 1.6
"""How long the first and the last frame stay [s]."""
WALKED, REFERENCE, GOAL = (214, 60, 50), (40, 96, 200), (30, 150, 80)
PAD, FOOT, FINE, BATCH = 14, 40, 2, 32


@dataclass(frozen=True)
class Shot:
    """One frame: floor point, heading and elevation, how far it has got on the reference, distance to the goal."""

    floor: tuple[float, float, float]
    heading: float
    elevation: float
    node: int
    to_goal: float


@dataclass(frozen=True)
class Take:
    """An episode to be filmed.

    Args:
        shots: in order.
        reference: floor points of the reference path [m].
        eye: height of the camera above the floor [m].
        title: whose episode it is.
        metrics: how it ended; `sr`, `ne` and `spl` are shown.
        radius: within which the goal counts as reached [m].
        word_nodes: for each word the position in the path that it tells of, where the benchmark says so.
    """

    house: House
    instruction: Instruction
    shots: tuple[Shot, ...]
    reference: tuple[tuple[float, float, float], ...]
    eye: float
    title: str
    metrics: Mapping[str, float]
    radius: float = 3.0
    fps: float = FPS
    word_nodes: tuple[int, ...] = ()


def on_graph(
    house: House,
    graph: ViewpointGraph,
    episode: NavEpisode,
    instruction: Instruction,
    result: NavResult,
    metrics: Mapping[str, float],
) -> Take:
    """A walk from viewpoint to viewpoint, with the way between them that an agent on a graph does not see."""
    shots = list(_walk(graph, episode, result))
    reference = tuple(_floor(graph, v) for v in episode.path)
    height = float(graph.height[graph.index(episode.path[0])])
    title = f"{episode.scan}  {result.id}"
    nodes = tuple(episode.extra.get("word_nodes", ()))
    return Take(house, instruction, tuple(shots), reference, height, title, metrics, word_nodes=nodes)


def on_floor(
    house: House,
    episode: NavEpisode,
    result: NavResult,
    to_goal: Sequence[float],
    metrics: Mapping[str, float],
    *,
    eye: float,
) -> Take:
    """Every position of a run in a continuous environment; `to_goal` [m], one for each."""
    headings = result.headings or (episode.heading,) * len(result.positions)
    shots = [
        Shot(at, turned, 0.0, n, far)
        for n, (at, turned, far) in enumerate(zip(result.positions, headings, to_goal, strict=True))
    ]
    title = f"{episode.scan}  {result.id}"
    fps = STEPS_PER_SECOND
    return Take(house, episode.instructions[0], tuple(shots), episode.reference, eye, title, metrics, fps=fps)


def film(take: Take, renderer: HouseRenderer) -> Iterator[np.ndarray]:
    """uint8 [h w 3] frames of even size."""
    renderer.load(take.house)
    sheet = _Sheet(take)
    hold = round(HOLD * take.fps)
    for i in range(0, len(take.shots), BATCH):
        shots = take.shots[i : i + BATCH]
        eyes = np.array([s.floor for s in shots]) + np.array((0.0, 0.0, take.eye))
        views = renderer.render(eyes, [s.heading for s in shots], [s.elevation for s in shots])["rgb"]
        for k, view in enumerate(views, i):
            last = k == len(take.shots) - 1
            frame = sheet.frame(view, k, end=last)
            for _ in range(hold if last or k == 0 else 1):
                yield frame


def _walk(graph: ViewpointGraph, episode: NavEpisode, result: NavResult) -> Iterator[Shot]:
    path = [v for n, v in enumerate(result.path) if n == 0 or v != result.path[n - 1]]
    goal = episode.path[-1]
    heading = episode.heading
    places: list[int] = []
    for v in path:
        # Beside the reference the agent is where it left it.
        places.append(episode.path.index(v) if v in episode.path else places[-1] if places else 0)
    at = np.array(_floor(graph, path[0]))
    yield _shot(at, heading, 0, graph.distance(path[0], goal))
    for n, (a, b) in enumerate(pairwise(path)):
        start, end = np.array(_floor(graph, a)), np.array(_floor(graph, b))
        way = end - start
        if np.hypot(way[0], way[1]) > 1e-6:
            wanted = float(np.arctan2(way[0], way[1]))
            turn = float((wanted - heading + np.pi) % (2 * np.pi) - np.pi)
            steps = math.ceil(abs(turn) / (TURN / FPS))
            for k in range(steps):
                yield _shot(start, heading + turn * (k + 1) / steps, places[n], graph.distance(a, goal))
            heading = wanted
        steps = max(1, round(float(np.linalg.norm(way)) / (SPEED / FPS)))
        for k in range(steps):
            there = k + 1 == steps
            to_goal = graph.distance(b if there else a, goal)
            yield _shot(start + way * (k + 1) / steps, heading, places[n + there], to_goal)


def _shot(at: np.ndarray, heading: float, node: int, to_goal: float) -> Shot:
    return Shot((float(at[0]), float(at[1]), float(at[2])), heading, DOWN, node, to_goal)


def _floor(graph: ViewpointGraph, viewpoint: str) -> tuple[float, float, float]:
    row = graph.index(viewpoint)
    x, y, z = (float(v) for v in graph.positions[row])
    return x, y, z - float(graph.height[row])


class _Sheet:
    """Everything of a film but the view; the maps and the lines of words are laid out once."""

    def __init__(self, take: Take) -> None:
        self.take = take
        self.width = VIEW[0] + VIEW[1]
        self.font = ImageFont.load_default(17 if len(take.instruction.text) < 300 else 14)
        self.lines = _wrapped(take.instruction.text.split(), self.font, self.width - 2 * PAD)
        self.line = round(self.font.getbbox("Ág")[3] * 1.3)
        self.head = len(self.lines) * self.line + PAD
        self.head += self.head % 2
        self.maps = {s: self._map(s) for s in {self._storey(shot.floor[2]) for shot in take.shots}}

    def frame(self, view: np.ndarray, number: int, *, end: bool) -> np.ndarray:
        canvas = Image.new("RGB", (self.width, self.head + VIEW[1] + FOOT), GROUND)
        canvas.paste(Image.fromarray(np.ascontiguousarray(view)), (0, self.head))
        canvas.paste(self._plan(number), (VIEW[0], self.head))
        draw = ImageDraw.Draw(canvas)
        self._words(draw, number)
        self._foot(draw, number, end)
        return np.asarray(canvas)

    # --- words --------------------------------------------------------------------------------------------------

    def _words(self, draw: ImageDraw.ImageDraw, number: int) -> None:
        """The instruction; words that belong to this part of the path stand out where the file says which these are."""
        nodes = self.take.word_nodes
        # A place about which nothing is said belongs to what was said before.
        now = max((n for n in nodes if n <= self.take.shots[number].node), default=0)
        at, space = 0, self.font.getlength(" ")
        for row, words in enumerate(self.lines):
            x = float(PAD)
            for word in words:
                told = not nodes or at >= len(nodes) or nodes[at] == now
                draw.text((x, PAD / 2 + row * self.line), word, fill=INK if told else DIM, font=self.font)
                x += self.font.getlength(word) + space
                at += 1

    def _foot(self, draw: ImageDraw.ImageDraw, number: int, end: bool) -> None:
        take, middle, font = self.take, self.head + VIEW[1] + FOOT // 2, ImageFont.load_default(15)
        draw.text((PAD, middle), f"{take.title}   {number + 1}/{len(take.shots)}", fill=DIM, font=font, anchor="lm")
        if end:
            good = take.metrics["sr"] > 0
            words = (
                f"{'success' if good else 'failure'}   NE {take.metrics['ne']:.2f} m   SPL {take.metrics['spl']:.0%}"
            )
            colour = GOOD if good else BAD
            box = (0, self.head, self.width - 1, self.head + VIEW[1] - 1)
            draw.rectangle(box, outline=colour, width=5)
            draw.text((VIEW[0] - PAD, middle), words, fill=colour, font=ImageFont.load_default(18), anchor="rm")
        else:
            words = f"{take.shots[number].to_goal:.1f} m to the goal"
            draw.text((VIEW[0] - PAD, middle), words, fill=INK, font=font, anchor="rm")
        x = VIEW[0] + PAD
        for name, colour in (("walked", WALKED), ("reference", REFERENCE), (f"goal, {take.radius:g} m", GOAL)):
            draw.ellipse((x, middle - 5, x + 10, middle + 5), fill=colour)
            draw.text((x + 17, middle), name, fill=DIM, font=font, anchor="lm")
            x += 17 + font.getlength(name) + 22

    # --- the map ------------------------------------------------------------------------------------------------

    def _storey(self, z: float) -> int:
        return min(max(r.storey for r in self.take.house.rooms), int(z / self.take.house.storey_height + 0.5))

    def _map(self, storey: int) -> tuple[map.Map, tuple[int, int], Image.Image]:
        """The map of a storey, where it lies in its square, and the square with goal and reference, twice as large."""
        points = np.array([p for r in self.take.house.rooms for p in r.polygon])
        span = float((points.max(0) - points.min(0)).max()) + 2 * map.MARGIN
        drawn = map.plan(self.take.house, storey=storey, pixels_per_metre=FINE * VIEW[1] / span)
        picture = Image.fromarray(drawn.image)
        square = Image.new("RGB", (FINE * VIEW[1], FINE * VIEW[1]), map.PAPER)
        corner = (square.width - picture.width) // 2, (square.height - picture.height) // 2
        square.paste(picture, corner)
        pen = ImageDraw.Draw(square, "RGBA")
        here = self._line(self.take.reference, storey, drawn, corner)
        goal = self.take.reference[-1]
        if self._storey(goal[2]) == storey:
            (x, y), r = here[-1], self.take.radius * drawn.pixels_per_metre
            pen.ellipse((x - r, y - r, x + r, y + r), fill=(*GOAL, 46), outline=(*GOAL, 255), width=3)
        if len(here) > 1:
            pen.line(here, fill=(*REFERENCE, 255), width=13, joint="curve")
        for x, y in here[1:-1]:
            pen.ellipse((x - 12, y - 12, x + 12, y + 12), fill=(*REFERENCE, 255))
        if self._storey(goal[2]) == storey:
            x, y = here[-1]
            pen.ellipse((x - 15, y - 15, x + 15, y + 15), fill=(255, 255, 255, 255), outline=(*GOAL, 255), width=7)
        return drawn, corner, square

    def _line(
        self, points: Sequence[Sequence[float]], storey: int, drawn: map.Map, corner: tuple[int, int]
    ) -> list[tuple[float, float]]:
        pixels = [drawn.to_pixel(p) for p in points if self._storey(p[2]) == storey]
        return [(x + corner[0], y + corner[1]) for x, y in pixels]

    def _plan(self, number: int) -> Image.Image:
        """The map now: the way so far, and where the agent looks."""
        shot = self.take.shots[number]
        storey = self._storey(shot.floor[2])
        drawn, corner, square = self.maps[storey]
        picture = square.copy()
        pen = ImageDraw.Draw(picture, "RGBA")
        trail = self._line([s.floor for s in self.take.shots[: number + 1]], storey, drawn, corner)
        if len(trail) > 1:
            pen.line(trail, fill=(*WALKED, 255), width=6, joint="curve")
        x, y = trail[-1]
        half = math.radians(HFOV) / 2
        fan = [(x, y)] + [_away(x, y, shot.heading + t, 100) for t in np.linspace(-half, half, 9)]
        pen.polygon(fan, fill=(255, 190, 60, 90))
        arrow = [_away(x, y, shot.heading + a, r) for a, r in ((0.0, 26), (2.5, 22), (math.pi, 8), (-2.5, 22))]
        pen.polygon(arrow, fill=(*WALKED, 255), outline=(255, 255, 255, 255), width=3)
        return picture.reduce(FINE)


def _away(x: float, y: float, heading: float, r: float) -> tuple[float, float]:
    return x + r * math.sin(heading), y - r * math.cos(heading)


def _wrapped(words: Sequence[str], font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: float) -> list[list[str]]:
    lines: list[list[str]] = [[]]
    for word in words:
        if lines[-1] and font.getlength(" ".join([*lines[-1], word])) > width:
            lines.append([])
        lines[-1].append(word)
    return lines
