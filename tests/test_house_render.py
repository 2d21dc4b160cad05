"""Pictures of a house: exact against a ray caster, equal however they are asked for, and those of MuJoCo."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Iterator
from math import atan, atan2, degrees, pi, radians, tan
from pathlib import Path

import numpy as np
import pytest
from houses import flat, tower
from raycast import cast, directions

from wayhand.envs.house.generate import generate
from wayhand.envs.house.house import House
from wayhand.envs.house.mjcf import assets, instance_of, to_mjcf
from wayhand.envs.house.portals import Portals
from wayhand.envs.house.renderer import HouseRenderer, panorama_instances
from wayhand.envs.house.solids import instances, solids
from wayhand.vla.errors import ConfigError

import mujoco  # isort: skip  (after the package, which chooses the GL backend)

SIZE, HFOV = 64, 90.0
POINTS = np.array([[2.5, 2.0, 1.5], [6.5, 1.0, 1.5], [5.08, 2.0, 1.5], [0.5, 0.5, 0.4]])
HEADINGS, ELEVATIONS = np.array([0.3, 4.0, pi / 2, 0.9]), np.array([0.0, -0.4, 0.1, 0.5])


@pytest.fixture(scope="module")
def renderer() -> Iterator[HouseRenderer]:
    with HouseRenderer(SIZE, SIZE, HFOV) as made:
        yield made


def test_depth_of_a_wall_is_planar_and_exact(renderer: HouseRenderer) -> None:
    renderer.load(flat())
    # From the middle of the bedroom southwards: 3 m to the wall, in every pixel that shows it.
    view = renderer.render([[6.6, 3.0, 1.5]], [pi], [0.0])
    south = next(r for r, i in enumerate(instances(flat())) if i.category == "wall" and i.room == 1)
    wall = view["semantics"][0] == south
    assert wall.sum() > 500
    assert np.abs(view["depth"][0][wall] - 3.0).max() < 1e-4


@pytest.mark.parametrize("make", [flat, tower, lambda: generate(11, rooms=(2, 3))])
def test_pictures_are_what_rays_hit(renderer: HouseRenderer, make: object) -> None:
    assert callable(make)
    house: House = make()
    renderer.load(house)
    parts = solids(house)
    (x0, y0), (x1, _) = house.rooms[0].polygon[:2]
    points = [((x0 + x1) / 2, y0 + 1.1, 1.5), (x0 + 0.6, y0 + 0.5, 1.2)]
    for point, heading, elevation in zip(points, (0.4, 1.1), (-0.3, 0.2), strict=True):
        got = renderer.render([point], [heading], [elevation])
        depth, hit = cast(parts, point, directions(SIZE, SIZE, HFOV, heading, elevation))
        ids = np.array([s.instance for s in parts])[hit]
        # Away from outlines, where a ray through a pixel's middle is no matter of rounding.
        calm = np.ones_like(ids, bool)
        for shift in ((1, 0), (-1, 0), (0, 1), (0, -1)):
            calm &= np.roll(ids, shift, (0, 1)) == ids
        boxes = np.array([s.shape == "box" for s in parts])[hit]
        assert (got["semantics"][0] == ids)[calm].mean() > 0.998
        error = np.abs(got["depth"][0] - depth)[calm & boxes]
        assert np.quantile(error, 0.99) < 1e-3 and np.median(error) < 1e-5


def test_one_pass_equals_separate_passes(renderer: HouseRenderer) -> None:
    renderer.load(flat())
    together = renderer.render(POINTS, HEADINGS, ELEVATIONS)
    for sensor, image in together.items():
        with HouseRenderer(SIZE, SIZE, HFOV, (sensor,)) as alone:
            alone.load(flat())
            assert np.array_equal(alone.render(POINTS, HEADINGS, ELEVATIONS)[sensor], image)


def test_batch_equals_single(renderer: HouseRenderer) -> None:
    renderer.load(generate(11, rooms=(2, 3)))
    batch = renderer.render(POINTS, HEADINGS, ELEVATIONS)
    for i in range(len(POINTS)):
        one = renderer.render(POINTS[i : i + 1], HEADINGS[i : i + 1], ELEVATIONS[i : i + 1])
        for sensor, image in batch.items():
            assert np.array_equal(one[sensor][0], image[i])
    assert batch["rgb"].dtype == np.uint8 and batch["rgb"].shape == (4, SIZE, SIZE, 3)
    assert batch["depth"].dtype == np.float32 and batch["semantics"].dtype == np.int32


def test_culling_leaves_out_nothing_that_is_seen(renderer: HouseRenderer, monkeypatch: pytest.MonkeyPatch) -> None:
    house = generate(7, rooms=(5, 7))
    rooms = len(house.rooms)
    points = [(sum(p[0] for p in r.polygon) / len(r.polygon), sum(p[1] for p in r.polygon) / len(r.polygon), 1.5)
              for r in house.rooms for _ in range(6)]  # fmt: skip
    headings = [k * pi / 3 for _ in house.rooms for k in range(6)]
    renderer.load(house)
    culled = renderer.render(points, headings, [-0.2] * len(points))
    monkeypatch.setattr(Portals, "views", lambda *_: [(r, 0.0, 2 * pi) for r in range(rooms)])
    whole = renderer.render(points, headings, [-0.2] * len(points))
    for sensor in culled:
        assert np.array_equal(culled[sensor], whole[sensor])


def test_panorama_agrees_where_views_overlap() -> None:
    # With this field of view, column 47 of a view and column 16 of the next, 30° to its right, look the same way.
    hfov = degrees(2 * atan(tan(radians(15)) / ((47.5 - 32) / 32)))
    with HouseRenderer(SIZE, SIZE, hfov) as camera:
        camera.load(flat())
        headings = np.arange(12) * pi / 6
        views = camera.render([[2.5, 2.0, 1.5]] * 12, headings, np.zeros(12))
    same, near = [], []
    for k in range(12):
        a, b = (k, slice(None), 47), ((k + 1) % 12, slice(None), 16)
        same.append(views["semantics"][a] == views["semantics"][b])
        near.append(np.abs(views["depth"][a] - views["depth"][b]) < 1e-3)
    assert np.mean(same) > 0.995 and np.mean(near) > 0.995


def test_panorama_counts_pixels_of_instances(renderer: HouseRenderer) -> None:
    house = flat()
    renderer.load(house)
    counts = panorama_instances(renderer, (2.5, 2.0, 1.5))
    assert sum(c.sum() for c in counts.values()) == 36 * SIZE * SIZE
    sofa = next(r for r, i in enumerate(instances(house)) if i.category == "sofa")
    # It stands to the north: seen looking north and down, not south.
    assert counts[sofa][0] > 0 and counts[sofa][6] == 0


def test_two_renderers_and_many_houses_do_not_disturb_each_other() -> None:
    with HouseRenderer(32, 32, HFOV) as a, HouseRenderer(48, 32, 60.0, ("rgb",)) as b:
        a.load(flat())
        first = a.render(POINTS, HEADINGS, ELEVATIONS)
        b.load(tower())
        b.render(POINTS, HEADINGS, ELEVATIONS)
        a.load(tower())
        a.render(POINTS, HEADINGS, ELEVATIONS)
        a.load(flat())
        again = a.render(POINTS, HEADINGS, ELEVATIONS)
        b.close()
        after = a.render(POINTS, HEADINGS, ELEVATIONS)
    for sensor in first:
        assert np.array_equal(first[sensor], again[sensor]) and np.array_equal(first[sensor], after[sensor])


def test_close_twice_and_mistakes() -> None:
    renderer = HouseRenderer(16, 16, HFOV)
    with pytest.raises(ConfigError, match="No house is loaded"):
        renderer.render(POINTS, HEADINGS, ELEVATIONS)
    renderer.load(flat())
    with pytest.raises(ConfigError, match="expected: 4 headings"):
        renderer.render(POINTS, HEADINGS[:2], ELEVATIONS)
    assert renderer.gl_renderer
    renderer.close()
    renderer.close()
    with pytest.raises(ConfigError, match="thermal"):
        HouseRenderer(16, 16, HFOV, ("thermal",))


_PROGRAM = """
import hashlib, sys
sys.path.insert(0, sys.argv[1])
from houses import flat
from wayhand.envs.house.renderer import HouseRenderer
with HouseRenderer(32, 32, 90.0) as r:
    r.load(flat())
    out = r.render([[2.5, 2.0, 1.5]], [0.3], [-0.1])
print(hashlib.sha256(b"".join(out[k].tobytes() for k in sorted(out))).hexdigest())
"""


def test_another_process_sees_the_same() -> None:
    with HouseRenderer(32, 32, 90.0) as r:
        r.load(flat())
        out = r.render([[2.5, 2.0, 1.5]], [0.3], [-0.1])
    here = hashlib.sha256(b"".join(out[k].tobytes() for k in sorted(out))).hexdigest()
    program = [sys.executable, "-c", _PROGRAM, str(Path(__file__).parent)]
    assert subprocess.run(program, capture_output=True, text=True, check=True).stdout.strip() == here


def _ssim(a: np.ndarray, b: np.ndarray) -> float:
    """Mean structural similarity (Wang et al. 2004) of grey values in windows of 8 pixels."""
    x, y = (i.mean(-1).reshape(len(i) // 8, 8, i.shape[1] // 8, 8).swapaxes(1, 2).reshape(-1, 64) for i in (a, b))
    mx, my = x.mean(1), y.mean(1)
    both = ((x - mx[:, None]) * (y - my[:, None])).mean(1)
    c, d = 6.5025, 58.5225
    return float((((2 * mx * my + c) * (2 * both + d)) / ((mx**2 + my**2 + c) * (x.var(1) + y.var(1) + d))).mean())


@pytest.mark.parametrize("make", [flat, lambda: generate(11, rooms=(2, 2))])
def test_mujoco_draws_the_same_picture(make: object) -> None:
    assert callable(make)
    house: House = make()
    model = mujoco.MjModel.from_xml_string(to_mjcf(house), assets(house))
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    model.vis.global_.fovy = HFOV
    table = np.array([0, *(instance_of(model.geom(i).name) for i in range(model.ngeom))])
    camera = mujoco.MjvCamera()
    camera.distance = 1.0
    peer = mujoco.Renderer(model, 128, 128, max_geom=2 * model.ngeom + 100)
    try:
        with HouseRenderer(128, 128, HFOV) as ours:
            ours.load(house)
            for room in house.rooms[:2]:
                xs, ys = zip(*room.polygon, strict=True)
                point = np.array([min(xs) + 0.5, min(ys) + 0.5, 1.5])
                heading = atan2(max(xs) - min(xs), max(ys) - min(ys))
                got = ours.render([point], [heading], [-0.2])
                camera.lookat = point + directions(1, 1, HFOV, heading, -0.2)[0, 0]
                camera.azimuth, camera.elevation = 90 - degrees(heading), degrees(-0.2)
                peer.update_scene(data, camera)
                rgb = peer.render().copy()
                peer.enable_segmentation_rendering()
                peer.update_scene(data, camera)
                geoms = peer.render()[..., 0].copy()
                peer.disable_segmentation_rendering()
                assert _ssim(rgb, got["rgb"][0]) >= 0.95
                assert (table[geoms + 1] == got["semantics"][0]).mean() >= 0.99
    finally:
        peer.close()
