"""A walk through all rooms of a house: what one sees, beside the map."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import pairwise

import numpy as np
from PIL import Image, ImageDraw

from ..envs.house import map
from ..envs.house.house import House
from ..envs.house.navmesh import NavMesh
from ..envs.house.renderer import HouseRenderer

FPS = 15
SPEED, TURN = 1.0, 1.6
"""Of the walker [m/s], [rad/s]."""
EYES, DOWN = 1.5, -0.14
"""Height of the camera above the floor [m] and its elevation [rad]."""
VIEW = (640, 480)
BATCH = 32


def walk(house: House, progress: Callable[[Iterable[int]], Iterable[int]] = iter) -> tuple[list[np.ndarray], str]:
    """uint8 [h w 3] frames of even size, and who drew them.

    Args:
        house: its rooms are visited in the order of their doors.
        progress: wraps the frame numbers as they are drawn.
    """
    points, headings = route(house)
    maps = [map.plan(house, storey=s, pixels_per_metre=48.0) for s in range(1 + max(r.storey for r in house.rooms))]
    frames: list[np.ndarray] = []
    with HouseRenderer(*VIEW, 82.0, ("rgb",)) as renderer:
        renderer.load(house)
        name = renderer.gl_renderer
        for i in progress(range(0, len(points), BATCH)):
            eyes = points[i : i + BATCH] + np.array((0.0, 0.0, EYES))
            down = np.full(len(eyes), DOWN)
            views = renderer.render(eyes, headings[i : i + BATCH], down)["rgb"]
            for k, view in enumerate(views, i):
                storey = min(len(maps) - 1, int(points[k][2] / house.storey_height + 0.5))
                frames.append(_beside(np.asarray(view), maps[storey], points[: k + 1], float(headings[k]), house))
    return frames, name


def route(house: House) -> tuple[np.ndarray, np.ndarray]:
    """Floor points [n 3] and headings [n] of every frame, from room to room along shortest paths."""
    mesh = NavMesh(house, radius=0.2)
    stops = [mesh.snap(_middle(house, room)) for room in _order(house)]
    corners: list[np.ndarray] = []
    for a, b in pairwise(stops):
        path = mesh.path(a, b)
        if len(path) > 1:
            corners += list(path if not corners else path[1:])
    corners = corners or [np.asarray(stops[0])]
    heading = _towards(corners[0], corners[1]) if len(corners) > 1 else 0.0
    points, headings = [corners[0]], [heading]
    for a, b in pairwise(corners):
        length = float(np.linalg.norm(b - a))
        if length < 1e-6:
            continue
        wanted = _towards(a, b) if float(np.linalg.norm((b - a)[:2])) > 1e-6 else heading
        for _ in range(int(abs(_turn(heading, wanted)) / (TURN / FPS))):
            heading += float(np.sign(_turn(heading, wanted))) * TURN / FPS
            points.append(a)
            headings.append(heading)
        heading = wanted
        steps = max(1, round(length / (SPEED / FPS)))
        points += [a + (b - a) * (k + 1) / steps for k in range(steps)]
        headings += [heading] * steps
    for k in range(round(2 * np.pi / (TURN / FPS))):
        points.append(points[-1])
        headings.append(heading + (k + 1) * TURN / FPS)
    return np.asarray(points, float), np.asarray(headings, float)


def _order(house: House) -> list[int]:
    """Rooms in the order in which one meets them, turning back only where a way ends."""
    joined: dict[int, list[int]] = {r.id: [] for r in house.rooms}
    for a, b in [o.rooms for o in house.openings if o.kind != "window"] + [s.rooms for s in house.stairs]:
        if a is not None and b is not None:
            joined[a].append(b)
            joined[b].append(a)
    seen, stack = list[int](), [0]
    while stack:
        room = stack.pop()
        if room not in seen:
            seen.append(room)
            stack += sorted(joined[room], reverse=True)
    return seen


def _middle(house: House, room: int) -> tuple[float, float, float]:
    ring, storey = house.rooms[room].polygon, house.rooms[room].storey
    xs, ys = [p[0] for p in ring], [p[1] for p in ring]
    return (min(xs) + max(xs)) / 2, (min(ys) + max(ys)) / 2, storey * house.storey_height


def _towards(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.arctan2(b[0] - a[0], b[1] - a[1]))


def _turn(a: float, b: float) -> float:
    return float((b - a + np.pi) % (2 * np.pi) - np.pi)


def _beside(view: np.ndarray, drawn: map.Map, trail: np.ndarray, heading: float, house: House) -> np.ndarray:
    """The view at the left, the map with the way so far at the right."""
    plan = Image.fromarray(drawn.image)
    pen = ImageDraw.Draw(plan, "RGBA")
    low = drawn.storey * house.storey_height
    here = [drawn.to_pixel((float(p[0]), float(p[1]))) for p in trail if abs(p[2] - low) < house.storey_height / 2]
    if len(here) > 1:
        pen.line(here, fill=(214, 60, 50, 200), width=3, joint="curve")
    x, y = here[-1]
    s, c = float(np.sin(heading)), float(np.cos(heading))
    fan = [(x, y)] + [
        (x + 60 * (s * np.cos(t) + c * np.sin(t)), y - 60 * (c * np.cos(t) - s * np.sin(t)))
        for t in np.linspace(-0.7, 0.7, 9)
    ]
    pen.polygon(fan, fill=(255, 190, 60, 90))
    pen.ellipse((x - 7, y - 7, x + 7, y + 7), fill=(214, 60, 50, 255), outline=(255, 255, 255, 255), width=2)
    scale = min(VIEW[1] / plan.height, VIEW[0] / plan.width)
    size = (max(1, int(plan.width * scale)), max(1, int(plan.height * scale)))
    canvas = Image.new("RGB", (2 * VIEW[0], VIEW[1]), map.PAPER)
    canvas.paste(Image.fromarray(view), (0, 0))
    small = plan.resize(size, Image.Resampling.LANCZOS)
    canvas.paste(small, (VIEW[0] + (VIEW[0] - size[0]) // 2, (VIEW[1] - size[1]) // 2))
    return np.asarray(canvas)
