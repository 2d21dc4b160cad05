"""The benchmark's paths as RxR and REVERIE tell them: long and spoken word by word, or by the object at their end."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from ...datasets.formats.reverie import SeenObject
from ...envs.house.house import Item
from ...envs.house.instructions import Register, make_episodes
from ...envs.house.scene_graph import SceneGraph
from ...vla.navigation import Goal, NavEpisode

REGISTERS: tuple[Register, ...] = ("rxr", "reverie")
REACH = 3.0
"""REVERIE tells of objects up to this far from a viewpoint [m]."""
WIDTH, HEIGHT, VFOV = 640, 480, math.radians(60)
"""Of a view of Matterport's simulator, in pixels; 36 of them, 30 degrees apart, make a panorama."""
_LEAST = 8
"""Pixels of an object's box in both directions below which a view does not show it."""

Objects = dict[str, dict[str, SeenObject]]
"""Viewpoint → object id → how it is seen from there."""


def told(scene: SceneGraph, register: str, split: str, seed: int, count: int, objects: Objects) -> list[NavEpisode]:
    """Verified episodes of a house in another register than R2R's, with running numbers for ids."""
    if register == "rxr":
        made = make_episodes(scene.house, scene.graph, seed, count, split=split, register="rxr", scene=scene)
        return [_spoken(e, str(n)) for n, e in enumerate(made)]
    made = make_episodes(scene.house, scene.graph, seed, count, split=split, register="reverie", scene=scene)
    found = [_pointing(e) for e in made]
    kept = [e for e in found if str(e.goals[0].object_id) in objects.get(e.path[-1], {})]
    return [replace(e, id=str(n)) for n, e in enumerate(kept)]


def _spoken(episode: NavEpisode, name: str) -> NavEpisode:
    """With the fields of RxR's guides; `word_nodes` says to which viewpoint of the path each word belongs."""
    instructions = tuple(
        replace(
            i,
            language="en-US",
            extra={"annotator_id": n, "edit_distance": 0.0, "word_nodes": list(i.extra["word_nodes"])},
        )
        for n, i in enumerate(episode.instructions)
    )
    return replace(episode, id=name, instructions=instructions)


def _pointing(episode: NavEpisode) -> NavEpisode:
    """With the object of its first instruction for a goal, and the instructions that mean this object."""
    meant = [next(s["item"] for s in i.extra["program"] if s["op"]["kind"] == "find") for i in episode.instructions]
    same = [replace(i, extra={}) for i, item in zip(episode.instructions, meant, strict=True) if item == meant[0]]
    unique = list({i.text: i for i in same}.values())
    return replace(episode, instructions=tuple(unique), goals=(Goal(object_id=str(meant[0])),))


def numbered(register: str, episode: NavEpisode, number: int) -> NavEpisode:
    """The episode as path `number` of a release."""
    if register == "rxr":
        instructions = [replace(i, id=str(number * 10 + n)) for n, i in enumerate(episode.instructions)]
        return replace(episode, id=str(number), instructions=tuple(instructions))
    name = f"{number}_{episode.goals[0].object_id}"
    instructions = [replace(i, id=f"{name}_{n}") for n, i in enumerate(episode.instructions)]
    return replace(episode, id=name, instructions=tuple(instructions), extra={"path_id": number})


# --- REVERIE's objects ------------------------------------------------------------------------------------------------


def objects(scene: SceneGraph) -> Objects:
    """What REVERIE's BBox files hold: from each viewpoint the objects within 3 m that are seen, with their boxes."""
    near = scene.visible & (scene.distance < REACH)
    out: Objects = {}
    for n, viewpoint in enumerate(scene.graph.ids):
        out[viewpoint] = {}
        for i in np.flatnonzero(near[n]).tolist():
            item = scene.house.items[i]
            views = boxes(item, scene.eye[n])
            if views:
                name = item.category.replace("_", " ")
                out[viewpoint][str(i)] = SeenObject(name, tuple(views), tuple(views.values()))
    return out


def boxes(item: Item, eye: np.ndarray) -> dict[int, tuple[int, int, int, int]]:
    """View, 0 to 35 → [x y w h] in pixels of the item's box there, of those that show it.

    Views are numbered as the Matterport simulator does: twelve headings, clockwise from +y, at −30°, 0° and 30°.
    """
    corners = _corners(item) - eye
    focal = HEIGHT / 2 / math.tan(VFOV / 2)
    out: dict[int, tuple[int, int, int, int]] = {}
    for view in range(36):
        across, up, ahead = _axes(view % 12 * math.pi / 6, (view // 12 - 1) * math.pi / 6)
        depth = corners @ ahead
        if depth.mean() <= 0:
            continue
        depth = np.maximum(depth, 0.05)
        x = np.clip(WIDTH / 2 + focal * (corners @ across) / depth, 0, WIDTH)
        y = np.clip(HEIGHT / 2 - focal * (corners @ up) / depth, 0, HEIGHT)
        left, right, top, bottom = (round(float(v)) for v in (x.min(), x.max(), y.min(), y.max()))
        if right - left >= _LEAST and bottom - top >= _LEAST:
            out[view] = left, top, right - left, bottom - top
    return out


def _corners(item: Item) -> np.ndarray:
    """float64 [8 3]: the corners of the box around an item, in the world."""
    signs = np.array([(x, y, z) for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (0.0, 1.0)]) * item.size
    c, s = math.cos(item.yaw), math.sin(item.yaw)
    turned = np.stack([signs[:, 0] * c - signs[:, 1] * s, signs[:, 0] * s + signs[:, 1] * c, signs[:, 2]], -1)
    return turned + item.position


def _axes(heading: float, elevation: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Right, up and ahead of a camera, unit vectors in the world."""
    s, c, se, ce = math.sin(heading), math.cos(heading), math.sin(elevation), math.cos(elevation)
    return np.array((c, -s, 0.0)), np.array((-s * se, -c * se, ce)), np.array((s * ce, c * ce, se))
