"""Pictures of a house: colour, planar depth and instance ids in one pass, many views in one call.

Only instances inside the view and in rooms that doorways let one see are drawn (`portals`); their triangles are
gathered into one draw call a view. Every view has a framebuffer of its own size, so that a picture does not depend on
what else was asked for in the same call.
Light is baked into the vertices, so a fragment is one texture sample and one product.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from math import atan2, cos, pi, radians, sin, tan, tau
from struct import Struct
from typing import Any

import numpy as np

from ...vla.errors import ConfigError
from . import egl
from .house import House
from .scene import STORAGE, Scene, share, upload

SENSORS = ("rgb", "depth", "semantics")
NEAR, FAR = 0.02, 200.0
"""Clipping planes [m]."""
_KEPT_HOUSES, _MOST_VIEWS = 16, 64
_MATRIX = Struct("<16f")


class HouseRenderer:
    """Draws views of one house at a time.

    Args:
        width, height: of a view in pixels.
        hfov_deg: horizontal field of view; pixels are square.
        sensors: any of `"rgb"`, `"depth"`, `"semantics"`.

    Raises:
        ConfigError: no OpenGL (with the packages to install), or an unknown sensor.
    """

    def __init__(self, width: int, height: int, hfov_deg: float, sensors: Sequence[str] = SENSORS) -> None:
        unknown = [s for s in sensors if s not in SENSORS]
        if unknown or not sensors:
            raise ConfigError("Unknown sensor of a house renderer", got=", ".join(unknown) or "none", exists=SENSORS)
        if not 1.0 <= hfov_deg <= 170.0:
            raise ConfigError("The field of view cannot be drawn", expected="1 to 170 degrees", got=str(hfov_deg))
        self._width, self._height = width, height
        self._sensors = tuple(s for s in SENSORS if s in sensors)
        self._tan = (tan(radians(hfov_deg) / 2), tan(radians(hfov_deg) / 2) * height / width)
        self._scenes: OrderedDict[str, Scene] = OrderedDict()
        self._targets: list[tuple[Any, list[Any]]] = []
        self._house: House | None = None
        self._process = 0
        with egl.current() as context:
            self._renderer = str(context.info["GL_RENDERER"])
            # A GPU draws the next views while one is read back; the CPU draws them itself, best into warm caches.
            self._pool = 1 if "llvmpipe" in self._renderer or "softpipe" in self._renderer else 32
            share(context).program(self._sensors)
            self._process = egl.process()

    @property
    def gl_renderer(self) -> str:
        """`GL_RENDERER`: what draws, e.g. `"llvmpipe (LLVM 15.0.6, 256 bits)"`."""
        return self._renderer

    def load(self, house: House) -> None:
        """Draw this house from now on. The last 16 houses stay on the GPU and come back at once."""
        self._house = house
        with egl.current() as context:
            self._scene(context, house)

    def _scene(self, context: Any, house: House) -> Scene:
        if self._process != egl.process():
            # A forked child starts anew: the parent's buffers are not its own.
            self._scenes, self._targets, self._process = OrderedDict(), [], egl.process()
        key = house.digest
        if key not in self._scenes:
            self._scenes[key] = upload(context, house, self._sensors)
            if len(self._scenes) > _KEPT_HOUSES:
                self._scenes.popitem(last=False)[1].release()
        self._scenes.move_to_end(key)
        return self._scenes[key]

    def render(
        self,
        positions: Sequence[Sequence[float]] | np.ndarray,
        headings: Sequence[float] | np.ndarray,
        elevations: Sequence[float] | np.ndarray,
    ) -> dict[str, np.ndarray]:
        """Views from camera points.

        Args:
            positions: [n 3] of the cameras, world frame, metres.
            headings: [n], clockwise from +y [rad].
            elevations: [n], above the horizon [rad].

        Returns:
            Fresh arrays: `"rgb"` uint8 [n h w 3]; `"depth"` float32 [n h w], metres along the optical axis, 0 where
            there is nothing; `"semantics"` int32 [n h w], rows of `solids.instances`, 0 where there is nothing.

        Raises:
            ConfigError: no house is loaded, or the arguments differ in length.
        """
        if self._house is None:
            raise ConfigError("No house is loaded", run="renderer.load(house) before renderer.render(…)")
        points = np.asarray(positions, np.float64).reshape(-1, 3)
        heading, elevation = np.asarray(headings, np.float64).ravel(), np.asarray(elevations, np.float64).ravel()
        n = len(points)
        if len(heading) != n or len(elevation) != n:
            raise ConfigError(
                "A view needs a position, a heading and an elevation each",
                expected=f"{n} headings and elevations",
                got=f"{len(heading)} and {len(elevation)}",
            )
        out = self._arrays(n)
        with egl.current() as context:
            scene = self._scene(context, self._house)
            for start in range(0, n, _MOST_VIEWS):
                part = slice(start, start + _MOST_VIEWS)
                views = {sensor: images[part] for sensor, images in out.items()}
                self._draw(context, scene, points[part], heading[part], elevation[part], views)
        return out

    def _arrays(self, n: int) -> dict[str, np.ndarray]:
        shape = (n, self._height, self._width)
        kinds = {"rgb": np.uint8, "depth": np.float32, "semantics": np.int32}
        return {s: np.empty((*shape, 3) if s == "rgb" else shape, kinds[s]) for s in self._sensors}

    def _target(self, context: Any, index: int) -> Any:
        while len(self._targets) <= index:
            size = (self._width, self._height)
            images = [context.renderbuffer(size, *STORAGE[s][:1], dtype=STORAGE[s][1]) for s in self._sensors]
            images.append(context.depth_renderbuffer(size))
            self._targets.append((context.framebuffer(images[:-1], images[-1]), images))
        return self._targets[index][0]

    def _draw(
        self,
        context: Any,
        scene: Scene,
        points: np.ndarray,
        headings: np.ndarray,
        elevations: np.ndarray,
        out: Mapping[str, np.ndarray],
    ) -> None:
        matrices: list[bytes] = []
        runs: list[np.ndarray] = []
        ends = [0]
        for point, heading, elevation in zip(points.tolist(), headings.tolist(), elevations.tolist(), strict=True):
            matrix, planes = _camera(point, heading, elevation, *self._tan)
            seen = self._gather(scene, point, heading, elevation, planes)
            matrices.append(matrix)
            runs += seen
            ends.append(ends[-1] + sum(map(len, seen)))
        data = np.concatenate(runs) if runs else np.empty(0, np.int32)
        if data.nbytes > scene.indices.size:
            scene.indices.orphan(2 * data.nbytes)
        if data.nbytes:
            scene.indices.write(data)
        context.enable_only(context.DEPTH_TEST | context.CULL_FACE)
        context.front_face = "cw"  # views are drawn upside down, so that their first row is the upper one
        share(context).textures.bind()
        program = share(context).program(self._sensors)
        for start in range(0, len(points), self._pool):
            views = range(start, min(start + self._pool, len(points)))
            for i in views:
                target = self._target(context, i - start)
                target.use()
                target.clear()
                program["view"].write(matrices[i])
                if ends[i + 1] > ends[i]:
                    scene.array.render(vertices=ends[i + 1] - ends[i], first=ends[i])
            for i in views:
                self._read(self._target(context, i - start), {sensor: images[i] for sensor, images in out.items()})

    def _read(self, target: Any, out: Mapping[str, np.ndarray]) -> None:
        for k, sensor in enumerate(self._sensors):
            kind = STORAGE[sensor][1]
            target.read_into(out[sensor], components=3 if sensor == "rgb" else 1, attachment=k, alignment=1, dtype=kind)

    def _gather(
        self, scene: Scene, point: Sequence[float], heading: float, elevation: float, planes: list[tuple[float, ...]]
    ) -> list[np.ndarray]:
        """The indices of triangles that may be seen, by instance, near ones first."""
        low, width = self._wedge(heading, elevation)
        shown = scene.shown(point, scene.portals.views(point, low, width))
        reach = np.array(planes) @ scene.boxes
        rows = np.flatnonzero((reach > -1e-6).all(0) & shown)
        x, y, z = scene.boxes[0, rows] - point[0], scene.boxes[1, rows] - point[1], scene.boxes[2, rows] - point[2]
        order = rows[np.argsort(x * x + y * y + z * z, kind="stable")]
        return [scene.runs[k] for k in order.tolist()]

    def _wedge(self, heading: float, elevation: float) -> tuple[float, float]:
        """The field of view in plan: (low, width), counter-clockwise from +x."""
        tx, ty = self._tan
        c, s = cos(elevation), sin(abs(elevation))
        ahead = c - ty * s
        half = atan2(tx, ahead) if ahead > 0.05 else pi
        return (0.0, tau) if half > 0.49 * pi else (pi / 2 - heading - half, 2 * half)

    def close(self) -> None:
        """Free the GPU's memory; a second call does nothing."""
        if self._process == egl.process() and (self._scenes or self._targets):
            with egl.current():
                for scene in self._scenes.values():
                    scene.release()
                for target in self._targets:
                    _release(target)
        self._scenes, self._targets, self._house = OrderedDict(), [], None

    def __enter__(self) -> HouseRenderer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _release(target: tuple[Any, list[Any]]) -> None:
    target[0].release()
    for image in target[1]:
        image.release()


def _camera(
    point: Sequence[float], heading: float, elevation: float, tx: float, ty: float
) -> tuple[bytes, list[tuple[float, ...]]]:
    """The shader's matrix (float32 [4 4], column-major, upside down) and the frustum's planes.

    A plane is (normal, normal's absolute values, offset): with a box's (centre, half extents, 1) it gives how far the
    box reaches to the inner side. Plain numbers, since arrays of four cost more than they compute.
    """
    ch, sh, ce, se = cos(heading), sin(heading), cos(elevation), sin(elevation)
    x, y, z = point
    fx, fy, fz = forward = (sh * ce, ch * ce, se)
    rx, ry = ch, -sh
    ux, uy, uz = -sh * se, -ch * se, ce
    a, b = (FAR + NEAR) / (FAR - NEAR), 2 * FAR * NEAR / (FAR - NEAR)
    f0, r0, u0 = -(fx * x + fy * y + fz * z), -(rx * x + ry * y), -(ux * x + uy * y + uz * z)
    matrix = _MATRIX.pack(
        *(rx / tx, -ux / ty, fx * a, fx),
        *(ry / tx, -uy / ty, fy * a, fy),
        *(0.0, -uz / ty, fz * a, fz),
        *(r0 / tx, -u0 / ty, f0 * a - b, f0),
    )
    normals = (
        forward,
        (tx * fx + rx, tx * fy + ry, tx * fz),
        (tx * fx - rx, tx * fy - ry, tx * fz),
        (ty * fx + ux, ty * fy + uy, ty * fz + uz),
        (ty * fx - ux, ty * fy - uy, ty * fz - uz),
    )
    planes = [(p, q, r, abs(p), abs(q), abs(r), -(p * x + q * y + r * z)) for p, q, r in normals]
    return matrix, planes


# --- panoramas --------------------------------------------------------------------------------------------------


def panorama_instances(renderer: HouseRenderer, point: Sequence[float]) -> dict[int, np.ndarray]:
    """How much of each instance a panorama shows: instance → int64 [36] pixels per view.

    The views are those of the Matterport3D simulator: elevations −30°, 0, 30°, and 12 headings of 30° each.

    Args:
        renderer: with the `"semantics"` sensor and a loaded house.
        point: of the camera [x, y, z].
    """
    views = [(h * pi / 6, e * pi / 6) for e in (-1, 0, 1) for h in range(12)]
    images = renderer.render([point] * 36, [h for h, _ in views], [e for _, e in views])["semantics"]
    most = int(images.max()) + 1
    counts = np.stack([np.bincount(image.ravel(), minlength=most) for image in images])
    return {int(k): counts[:, k].astype(np.int64) for k in np.flatnonzero(counts.sum(0)) if k > 0}
