"""Rendering two 224² views: ours against `mujoco.Renderer`, same scene, same run.

    python scripts/bench/render.py [--rounds 15] [--frames 8] [--size 224]

Peers: `mujoco.Renderer` with MuJoCo's defaults and one shadow-casting light (shadow map 4096, 4× multisampling,
reflections on), and the same class with its flags tuned by hand (no shadows, no reflections, no multisampling).
The three take turns within each round; printed are the medians and interquartile ranges of the rounds' time ratios.
A guard: the pictures must be those of the tuned peer (SSIM and mean absolute difference).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np

from wayhand.envs.tabletop.gl import renderer_info
from wayhand.envs.tabletop.rendering import Renderer
from wayhand.envs.tabletop.robots import load_robot
from wayhand.envs.tabletop.scene import ROBOT, compile_scene
from wayhand.envs.tabletop.sim import TabletopSim

import mujoco  # isort: skip  (after the package, which chooses the GL backend)

VIEWS = ("front", ROBOT + "wrist")
LEAST_SSIM, LEAST_DEFAULT, LEAST_TUNED = 0.97, 12.0, 1.2


def states(model: mujoco.MjModel, count: int) -> list[np.ndarray]:
    """Joint positions [nq] of `count` moments in which the arm moves over one scene."""
    sim = TabletopSim(tasks=("pick",), cameras=())
    sim.reset(0)
    lower, upper, _, _ = sim.joint_limits
    rng = np.random.default_rng(0)
    out = []
    for _ in range(count):
        sim.command(np.clip(np.append(sim.joints, 0.04) + rng.uniform(-0.08, 0.08, 8), lower, upper))
        sim.advance(sim.substeps)
        out.append(sim.data.qpos.copy())
    copy_looks(sim.model, model)
    sim.close()
    return out


def copy_looks(source: mujoco.MjModel, target: mujoco.MjModel) -> None:
    """Give `target` the shapes and colours that the layout put into `source`."""
    target.geom_rgba[:] = source.geom_rgba
    target.body_pos[:] = source.body_pos


def peer_model(tuned: bool, size: int) -> mujoco.MjModel:
    """The scene as a user of `mujoco.Renderer` would have it."""
    model = compile_scene(load_robot("embedded"), 500.0)
    model.vis.global_.offwidth = model.vis.global_.offheight = size
    model.light_castshadow[:] = 1
    model.mat_reflectance[:] = 0.2
    model.vis.quality.shadowsize = 4096
    model.vis.quality.offsamples = 0 if tuned else 4
    return model


def peer_draw(
    model: mujoco.MjModel, tuned: bool, size: int
) -> tuple[Callable[[mujoco.MjData], list[np.ndarray]], Callable[[], None]]:
    """(draw both views, close) of `mujoco.Renderer`."""
    renderer = mujoco.Renderer(model, size, size)

    def draw(data: mujoco.MjData) -> list[np.ndarray]:
        out = []
        for view in VIEWS:
            renderer.update_scene(data, view)
            if tuned:
                renderer.scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = 0
                renderer.scene.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = 0
            out.append(renderer.render())
        return out

    return draw, renderer.close


def ssim(a: np.ndarray, b: np.ndarray, window: int = 8) -> float:
    """Mean structural similarity (Wang et al. 2004) of two uint8 pictures in windows of grey values."""
    height, width = (n // window * window for n in a.shape[:2])

    def blocks(x: np.ndarray) -> np.ndarray:
        grey = x[:height, :width].mean(-1)
        return grey.reshape(height // window, window, width // window, window).swapaxes(1, 2).reshape(-1, window**2)

    x, y = blocks(a), blocks(b)
    mx, my = x.mean(1), y.mean(1)
    cov = ((x - mx[:, None]) * (y - my[:, None])).mean(1)
    c1, c2 = 6.5025, 58.5225
    return float((((2 * mx * my + c1) * (2 * cov + c2)) / ((mx**2 + my**2 + c1) * (x.var(1) + y.var(1) + c2))).mean())


def quartiles(values: list[float]) -> str:
    low, mid, high = np.percentile(values, [25, 50, 75])
    return f"{mid:6.2f}  [{low:.2f}, {high:.2f}]"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument(
        "--frames", type=int, default=8, help="pairs of views per round for the fast two; the slow one draws 2"
    )
    parser.add_argument("--size", type=int, default=224)
    options = parser.parse_args()
    print("GL:", ", ".join(f"{k} {v}" for k, v in renderer_info().items()))

    model = peer_model(tuned=True, size=options.size)
    poses = states(model, options.frames)
    default_model, our_model = peer_model(tuned=False, size=options.size), peer_model(tuned=True, size=options.size)
    for other in (default_model, our_model):
        copy_looks(model, other)
    ours = Renderer(our_model, VIEWS, options.size)
    tuned, close_tuned = peer_draw(model, True, options.size)
    default, close_default = peer_draw(default_model, False, options.size)
    data = [mujoco.MjData(model) for _ in poses]
    for d, qpos in zip(data, poses, strict=True):
        d.qpos[:] = qpos
        mujoco.mj_forward(model, d)

    def ours_draw(d: mujoco.MjData) -> list[np.ndarray]:
        return list(ours.render(d).images.values())

    pairs = [(a, b) for d in data for a, b in zip(ours_draw(d), tuned(d), strict=True)]
    similarity = float(np.mean([ssim(a, b) for a, b in pairs]))
    difference = float(np.mean([np.abs(a.astype(int) - b).mean() for a, b in pairs]))
    default(data[0])

    def seconds(draw: Callable[[mujoco.MjData], list[np.ndarray]], frames: int) -> float:
        start = time.perf_counter()
        for d in data[:frames]:
            draw(d)
        return (time.perf_counter() - start) / frames

    times: dict[str, list[float]] = {"ours": [], "tuned": [], "default": []}
    for k in range(options.rounds):
        turns = [("ours", ours_draw, len(data)), ("tuned", tuned, len(data)), ("default", default, 2)]
        for name, draw, frames in turns if k % 2 else reversed(turns):
            times[name].append(seconds(draw, frames))
    print(f"two {options.size}² views, ms (median over {options.rounds} interleaved rounds)")
    for name, values in times.items():
        print(f"  {name:8s} {quartiles([1e3 * v for v in values])}")
    ratio = {n: [a / b for a, b in zip(times[n], times["ours"], strict=True)] for n in ("default", "tuned")}
    print(f"times faster than mujoco.Renderer, defaults:    {quartiles(ratio['default'])}   (aim ≥ {LEAST_DEFAULT})")
    print(f"times faster than mujoco.Renderer, hand-tuned:  {quartiles(ratio['tuned'])}   (aim ≥ {LEAST_TUNED})")
    print(
        f"same picture as the tuned peer: SSIM {similarity:.4f} (≥ {LEAST_SSIM}), "
        f"mean |difference| {difference:.2f} of 255"
    )
    ours.close()
    close_tuned()
    close_default()
    good = (
        np.median(ratio["default"]) >= LEAST_DEFAULT
        and np.median(ratio["tuned"]) >= LEAST_TUNED
        and similarity >= LEAST_SSIM
    )
    print("PASS" if good else "FAIL")
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())
