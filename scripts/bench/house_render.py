"""Views of a generated house per second: ours against `mujoco.Renderer` and habitat-sim, same house, same run.

    python scripts/bench/house_render.py [--seed 7] [--rooms 10] [--rounds 9] [--sizes 128 256] [--clock wall]

RGB + depth of the same camera poses, taken in turns within each round; printed are medians and quartiles of views/s
and of the ratios within the rounds. Ours is asked for one view a call, for 36 a call, and with semantics too.
`mujoco.Renderer` draws the house's MJCF with all its flags tuned (no shadows, reflections or multisampling).
habitat-sim draws the house's GLB with LP_NUM_THREADS=0 and is left out where it cannot be imported. `--clock cpu`
counts this thread's processor time instead, for machines where others compute at the same time.
A guard: depth agrees with MuJoCo's (median and 99th percentile of the error are printed).
"""

from __future__ import annotations

import argparse
import importlib
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from math import cos, degrees, pi, sin
from pathlib import Path
from typing import Any

import numpy as np

from wayhand.envs.house import glb
from wayhand.envs.house.generate import generate
from wayhand.envs.house.house import House
from wayhand.envs.house.mjcf import assets, to_mjcf
from wayhand.envs.house.renderer import HouseRenderer
from wayhand.envs.house.solids import floor_height

import mujoco  # isort: skip  (after the package, which chooses the GL backend)

CLOCKS = {"wall": time.perf_counter, "cpu": time.thread_time}


@dataclass(frozen=True)
class Peer:
    """Somebody who draws: `draw(points, headings)` returns RGB [n h w 3] and depth [n h w] in metres."""

    name: str
    draw: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
    close: Callable[[], None]


def poses(house: House, views: int) -> tuple[np.ndarray, np.ndarray]:
    """Points 1.5 m above the rooms' floors where all 12 headings of a panorama are looked at."""
    points, headings = [], []
    for k in range(views):
        room = house.rooms[(k // 12) % len(house.rooms)]
        xs, ys = zip(*room.polygon, strict=True)
        at = ((min(xs) + max(xs)) / 2, (min(ys) + max(ys)) / 2, floor_height(house, room.storey) + 1.5)
        points.append(at)
        headings.append(k % 12 * pi / 6)
    return np.array(points), np.array(headings)


def ours(house: House, size: int, batch: int, sensors: tuple[str, ...], name: str) -> Peer:
    renderer = HouseRenderer(size, size, 90.0, sensors)
    renderer.load(house)

    def draw(points: np.ndarray, headings: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        level = np.zeros(len(points))
        parts = [
            renderer.render(points[i : i + batch], headings[i : i + batch], level[i : i + batch])
            for i in range(0, len(points), batch)
        ]
        return np.concatenate([p["rgb"] for p in parts]), np.concatenate([p["depth"] for p in parts])

    return Peer(name, draw, renderer.close)


def mujoco_peer(house: House, size: int) -> Peer:
    model = mujoco.MjModel.from_xml_string(to_mjcf(house), assets(house))
    model.vis.global_.fovy = 90.0
    model.vis.quality.offsamples = 0
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    renderer = mujoco.Renderer(model, size, size, max_geom=2 * model.ngeom + 100)
    camera = mujoco.MjvCamera()
    camera.distance, camera.elevation = 1.0, 0.0

    def look() -> None:
        renderer.update_scene(data, camera)
        for flag in (mujoco.mjtRndFlag.mjRND_SHADOW, mujoco.mjtRndFlag.mjRND_REFLECTION):
            renderer.scene.flags[flag] = 0

    def draw(points: np.ndarray, headings: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        rgb, depth = [], []
        for point, heading in zip(points, headings, strict=True):
            camera.lookat = point + np.array([sin(heading), cos(heading), 0.0])
            camera.azimuth = 90.0 - degrees(heading)
            look()
            rgb.append(renderer.render())
            renderer.enable_depth_rendering()
            depth.append(renderer.render())
            renderer.disable_depth_rendering()
        return np.stack(rgb), np.stack(depth)

    return Peer("mujoco.Renderer, tuned", draw, renderer.close)


def habitat_peer(house: House, size: int, folder: Path) -> Peer | None:
    """habitat-sim on the house's GLB; None where it is not installed."""
    try:
        sim_module: Any = importlib.import_module("habitat_sim")
    except ImportError:
        return None
    path = glb.write(house, folder)
    backend = sim_module.SimulatorConfiguration()
    backend.scene_id, backend.gpu_device_id, backend.enable_physics = str(path), -1, False
    specs = []
    for uuid, kind in (("rgb", sim_module.SensorType.COLOR), ("depth", sim_module.SensorType.DEPTH)):
        spec = sim_module.CameraSensorSpec()
        spec.uuid, spec.sensor_type, spec.resolution = uuid, kind, [size, size]
        spec.position, spec.hfov = [0.0, 0.0, 0.0], 90.0
        specs.append(spec)
    agent = sim_module.AgentConfiguration()
    agent.sensor_specifications = specs
    sim = sim_module.Simulator(sim_module.Configuration(backend, [agent]))

    def draw(points: np.ndarray, headings: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        rgb, depth = [], []
        state = sim_module.AgentState()
        for point, heading in zip(points, headings, strict=True):
            state.position = np.array([point[0], point[2], -point[1]], np.float32)
            state.rotation = [0.0, sin(-heading / 2), 0.0, cos(-heading / 2)]
            sim.get_agent(0).set_state(state)
            seen = sim.get_sensor_observations()
            rgb.append(np.asarray(seen["rgb"])[..., :3])
            depth.append(np.asarray(seen["depth"]))
        return np.stack(rgb), np.stack(depth)

    return Peer("habitat-sim", draw, sim.close)


def quartiles(values: np.ndarray) -> str:
    low, mid, high = np.percentile(values, [25, 50, 75])
    return f"{mid:9.2f}  [{low:.2f}, {high:.2f}]"


def compare(house: House, size: int, rounds: int, clock: Callable[[], float], folder: Path) -> None:
    points, headings = poses(house, 36)
    both = ("rgb", "depth")
    candidates = [
        ours(house, size, 1, both, "ours, one view a call"),
        ours(house, size, 36, both, "ours, 36 views a call"),
        ours(house, size, 36, (*both, "semantics"), "ours, 36, with semantics"),
        mujoco_peer(house, size),
        habitat_peer(house, size, folder),
    ]
    peers = [p for p in candidates if p is not None]
    pictures = {p.name: p.draw(points, headings) for p in peers}
    rates: dict[str, list[float]] = {p.name: [] for p in peers}
    for k in range(rounds):
        for peer in peers if k % 2 else peers[::-1]:
            start = clock()
            peer.draw(points, headings)
            rates[peer.name].append(len(points) / (clock() - start))
    for peer in peers:
        peer.close()
    table = {name: np.array(values) for name, values in rates.items()}
    print(f"\n{size}² RGB + depth, views/s: median [quartiles] of {rounds} interleaved rounds of {len(points)} views")
    for name, values in table.items():
        print(f"  {name:26s} {quartiles(values)}")
    for name in ("mujoco.Renderer, tuned", "habitat-sim"):
        if name in table:
            for mine in list(table)[:2]:
                print(f"  {mine} / {name}: {quartiles(table[mine] / table[name])}")
            error = np.abs(pictures[peers[0].name][1] - pictures[name][1])
            print(
                f"  depth against {name}: median error {np.median(error):.2e} m, 99 % {np.quantile(error, 0.99):.2e} m"
            )
            colour = np.abs(pictures[peers[0].name][0].astype(int) - pictures[name][0])
            print(f"  RGB against {name}: mean |difference| {colour.mean():.2f} of 255")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--rooms", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--sizes", type=int, nargs="+", default=[128, 256])
    parser.add_argument("--clock", choices=sorted(CLOCKS), default="wall")
    options = parser.parse_args()
    house = generate(options.seed, rooms=(options.rooms, options.rooms))
    with HouseRenderer(16, 16, 90.0) as renderer:
        print(f"GL_RENDERER: {renderer.gl_renderer}; clock: {options.clock}")
        start = CLOCKS[options.clock]()
        renderer.load(house)
        first = CLOCKS[options.clock]() - start
        start = CLOCKS[options.clock]()
        renderer.load(house)
        print(f"load: {1e3 * first:.1f} ms, again {1e3 * (CLOCKS[options.clock]() - start):.2f} ms")
    print(f"house {house.scan}: {len(house.rooms)} rooms, {len(house.items)} items")
    with tempfile.TemporaryDirectory() as folder:
        for size in options.sizes:
            compare(house, size, options.rounds, CLOCKS[options.clock], Path(folder))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
