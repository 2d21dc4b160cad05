"""Fast pictures of a MuJoCo scene: all cameras into one offscreen buffer, one readback, flags tuned for speed.

Shadows, reflections and multisampling dominate MuJoCo's cost on software rasterisers (they are 10 to 20 times the
price of the picture itself) and are off; primitives are drawn with few slices. `mujoco.Renderer` is the peer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import mujoco
import numpy as np

from ...vla.errors import ConfigError
from .gl import abandon, current_context

_FLAGS_OFF = (
    mujoco.mjtRndFlag.mjRND_SHADOW,
    mujoco.mjtRndFlag.mjRND_REFLECTION,
    mujoco.mjtRndFlag.mjRND_FOG,
    mujoco.mjtRndFlag.mjRND_HAZE,
    mujoco.mjtRndFlag.mjRND_SKYBOX,
)


def tune(model: mujoco.MjModel, width: int, height: int) -> None:
    """Set the visual options of `model` (in place) that a `Renderer` with a buffer of this size needs."""
    model.vis.global_.offwidth = width
    model.vis.global_.offheight = height
    quality = model.vis.quality
    quality.offsamples = 0
    quality.shadowsize = 0
    quality.numslices, quality.numstacks, quality.numquads = 16, 8, 1


@dataclass(frozen=True)
class Views:
    """One rendering of every camera; the arrays are fresh and belong to the caller.

    Args:
        images: camera → uint8 [h w 3].
        depth: camera → float32 [h w], planar metres (distance along the optical axis).
        semantics: camera → int32 [h w], geom id or −1 for the background.
    """

    images: dict[str, np.ndarray]
    depth: dict[str, np.ndarray] = field(default_factory=dict)
    semantics: dict[str, np.ndarray] = field(default_factory=dict)


class Renderer:
    """Draws square pictures of fixed cameras of one model.

    Args:
        model: the compiled model; `tune` is applied to it when it is first drawn.
        cameras: names of cameras in the model.
        size: height and width in pixels.
        depth, semantics: whether `render` also returns these.

    Raises:
        ConfigError: unknown camera, or no OpenGL.
    """

    def __init__(
        self,
        model: mujoco.MjModel,
        cameras: Sequence[str],
        size: int,
        *,
        depth: bool = False,
        semantics: bool = False,
    ) -> None:
        self._model = model
        self._size = size
        self._depth, self._semantics = depth, semantics
        self._ids: dict[str, int] = {}
        for name in cameras:
            index = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_CAMERA, name)
            if index < 0:
                exists = [model.camera(i).name for i in range(model.ncam)]
                raise ConfigError("Unknown camera", got=name, exists=exists)
            self._ids[name] = index
        width = size * max(1, len(self._ids))
        self._context: mujoco.MjrContext | None = None
        self._gl: object = None
        self._scene = mujoco.MjvScene(model, maxgeom=max(400, 2 * model.ngeom))
        for flag in _FLAGS_OFF:
            self._scene.flags[flag] = 0
        self._option = mujoco.MjvOption()
        self._perturb = mujoco.MjvPerturb()
        self._camera = mujoco.MjvCamera()
        self._camera.type = mujoco.mjtCamera.mjCAMERA_FIXED
        self._atlas = mujoco.MjrRect(0, 0, width, size)
        self._rgb = np.empty((size, width, 3), np.uint8)
        self._z = np.empty((size, width), np.float32)
        self._rects = [mujoco.MjrRect(i * size, 0, size, size) for i in range(len(self._ids))]

    def _bind(self) -> mujoco.MjrContext:
        gl = current_context()
        if self._context is None or self._gl is not gl:
            abandon(self._context)
            tune(self._model, self._atlas.width, self._atlas.height)
            self._context = mujoco.MjrContext(self._model, mujoco.mjtFontScale.mjFONTSCALE_50)
            self._gl = gl
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._context)
        return self._context

    def _draw(self, data: mujoco.MjData, context: mujoco.MjrContext) -> None:
        model, scene, camera = self._model, self._scene, self._camera
        for i, index in enumerate(self._ids.values()):
            camera.fixedcamid = index
            if i == 0:
                mujoco.mjv_updateScene(
                    model, data, self._option, self._perturb, camera, mujoco.mjtCatBit.mjCAT_ALL, scene
                )
            else:
                mujoco.mjv_updateCamera(model, data, camera, scene)
            mujoco.mjr_render(self._rects[i], scene, context)

    def render(self, data: mujoco.MjData) -> Views:
        """Pictures of the present state. Positions must be up to date (`mj_forward` or `mj_step` has run)."""
        if not self._ids:
            return Views({})
        context = self._bind()
        self._draw(data, context)
        mujoco.mjr_readPixels(self._rgb, self._z if self._depth else None, self._atlas, context)
        images = self._split(self._rgb)
        depth = self._split(self._metres(self._z)) if self._depth else {}
        semantics = self._segment(data, context) if self._semantics else {}
        return Views(images, depth, semantics)

    def _split(self, atlas: np.ndarray) -> dict[str, np.ndarray]:
        # OpenGL's first row is the lowest one: the reversed view is copied once, into the array that is handed out.
        size = self._size
        return {name: atlas[::-1, i * size : (i + 1) * size].copy() for i, name in enumerate(self._ids)}

    def _metres(self, z: np.ndarray) -> np.ndarray:
        extent = self._model.stat.extent
        near, far = self._model.vis.map.znear * extent, self._model.vis.map.zfar * extent
        return (near / (1.0 - z * (1.0 - near / far))).astype(np.float32)

    def _segment(self, data: mujoco.MjData, context: mujoco.MjrContext) -> dict[str, np.ndarray]:
        flags = self._scene.flags
        flags[mujoco.mjtRndFlag.mjRND_SEGMENT] = flags[mujoco.mjtRndFlag.mjRND_IDCOLOR] = 1
        self._draw(data, context)
        mujoco.mjr_readPixels(self._rgb, None, self._atlas, context)
        flags[mujoco.mjtRndFlag.mjRND_SEGMENT] = flags[mujoco.mjtRndFlag.mjRND_IDCOLOR] = 0
        segment = self._rgb.astype(np.int32) @ np.array([1, 1 << 8, 1 << 16], np.int32)
        table = np.full(self._scene.ngeom + 1, -1, np.int32)
        for geom in self._scene.geoms[: self._scene.ngeom]:
            if geom.segid >= 0 and geom.objtype == mujoco.mjtObj.mjOBJ_GEOM:
                table[geom.segid + 1] = geom.objid
        return self._split(table[segment])

    def close(self) -> None:
        """Free the GL resources; safe to call twice."""
        if self._context is not None:
            if current_context() is self._gl:
                self._context.free()
            self._context = None
