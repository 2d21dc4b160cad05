"""Domain randomisation of looks and contacts, drawn from the seed of the episode but never moving the scene.

Tobin et al. (2017) randomise looks, Peng et al. (2018) dynamics, to let policies leave the simulator.
"""

from __future__ import annotations

from collections.abc import Sequence

import mujoco
import numpy as np

from ...vla.errors import ConfigError

RANDOMIZATIONS = ("light", "texture", "camera", "friction")


class Randomizer:
    """Edits a compiled model at each reset; what is not randomised keeps its compiled value.

    Args:
        kinds: any of `RANDOMIZATIONS`.

    Raises:
        ConfigError: an unknown kind.
    """

    def __init__(self, model: mujoco.MjModel, kinds: Sequence[str]) -> None:
        for kind in kinds:
            if kind not in RANDOMIZATIONS:
                raise ConfigError("Unknown randomisation", got=repr(kind), exists=RANDOMIZATIONS)
        self._model = model
        self._kinds = tuple(k for k in RANDOMIZATIONS if k in kinds)
        self._table = model.geom("table").id
        self._materials = [i for i in range(model.nmat) if model.mat(i).name.startswith("table")]
        self._front = model.camera("front").id
        self._friction = model.geom_friction.copy()
        self._light_dir, self._light_diffuse = model.light_dir.copy(), model.light_diffuse.copy()
        self._ambient = np.array(model.vis.headlight.ambient)
        self._table_rgba = model.mat_rgba.copy()
        self._camera = (model.cam_pos.copy(), model.cam_quat.copy(), model.cam_fovy.copy())

    def apply(self, seed: int) -> None:
        """Redraw everything that is randomised, each kind from a stream of its own."""
        for kind in self._kinds:
            rng = np.random.default_rng([seed, 3, RANDOMIZATIONS.index(kind)])
            getattr(self, f"_{kind}_kind")(rng)

    def _light_kind(self, rng: np.random.Generator) -> None:
        direction = self._light_dir + rng.uniform(-0.5, 0.5, self._light_dir.shape) * [1.0, 1.0, 0.0]
        self._model.light_dir[:] = direction / np.linalg.norm(direction, axis=-1, keepdims=True)
        self._model.light_diffuse[:] = self._light_diffuse * rng.uniform(0.5, 1.3)
        self._model.vis.headlight.ambient[:] = self._ambient * rng.uniform(0.75, 1.2)

    def _texture_kind(self, rng: np.random.Generator) -> None:
        material = self._materials[int(rng.integers(len(self._materials)))]
        self._model.geom_matid[self._table] = material
        tint = rng.uniform(0.75, 1.1) * rng.uniform(0.9, 1.1, 3)
        self._model.mat_rgba[material, :3] = np.clip(self._table_rgba[material, :3] * tint, 0.0, 1.0)

    def _camera_kind(self, rng: np.random.Generator) -> None:
        position, quaternion, fovy = self._camera
        turn, out = np.zeros(4), np.zeros(4)
        mujoco.mju_axisAngle2Quat(turn, np.array([0.0, 0.0, 1.0]), rng.uniform(-0.03, 0.03))
        mujoco.mju_mulQuat(out, turn, quaternion[self._front])
        self._model.cam_quat[self._front] = out
        self._model.cam_pos[self._front] = position[self._front] + rng.uniform(-0.02, 0.02, 3)
        self._model.cam_fovy[self._front] = fovy[self._front] + rng.uniform(-1.5, 1.5)

    def _friction_kind(self, rng: np.random.Generator) -> None:
        self._model.geom_friction[:, 0] = self._friction[:, 0] * rng.uniform(0.8, 1.3)
