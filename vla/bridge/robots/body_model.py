"""A real robot's geometry, from the MJCF that its file names: zones, collisions, and kinematics for Cartesian policies.

```toml
[model]
mjcf = "arm.xml"                  # beside the robot's file; what stands around the robot may be in it
base = "base_link"                # the robot's root body
tool = "tcp"                      # a site: what Cartesian actions move
points = ["tcp", "elbow"]         # sites that zones look at; the tool alone where nothing is said
unmodelled = ["width"]            # joints of the robot that the MJCF lacks
home = {shoulder = 0.5}           # a posture without collisions, 0 where nothing is said
collision = true                  # of the robot with itself and with what is around it
margin = 0.01                     # metres that count as touching

[[workspace]]                     # boxes in the model's world frame [m]: to stay in
name = "table"
lower = [0.2, -0.5, 0.0]
upper = [0.8, 0.5, 0.7]

[[keep_out]]                      # and to stay out of
name = "shelf"
lower = [0.5, 0.3, 0.0]
upper = [0.9, 0.6, 0.9]
```
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import ConfigError
from ..collision import CollisionGuard
from ..description import LARGEST, compile_mjcf
from ..limits import Limits
from ..safety import Guard
from ..zones import Box, Points, ZoneGuard

KEYS = ("mjcf", "base", "tool", "points", "unmodelled", "home", "collision", "margin")
_DAMPING, _FLOOR = 1e-2, 1e-7  # λ² = damping · |error|² + floor
_LONGEST = 0.3  # of a step of the search [rad, m]


class BodyModel:
    """The MJCF of a robot with joints `limits.names`; compiled where it is used, so that this travels to processes.

    Args:
        table: `[model]`; its path is relative to `folder`.
        workspace, keep_out: boxes.

    Raises `ConfigError` naming what the model lacks.
    """

    def __init__(
        self,
        table: Mapping[str, Any],
        folder: Path,
        limits: Limits,
        workspace: Sequence[Mapping[str, Any]] = (),
        keep_out: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        self._table, self._limits = dict(table), limits
        if odd := [key for key in table if key not in KEYS]:
            raise ConfigError("Unknown key in [model]", got=", ".join(odd), exists=KEYS)
        self._path = folder / str(self._said("mjcf"))
        if not self._path.is_file() or self._path.stat().st_size > LARGEST:
            raise ConfigError("There is no such MJCF file, or it is too large", got=str(self._path))
        self._workspace, self._keep_out = [_box(b) for b in workspace], [_box(b) for b in keep_out]
        model = self._compiled()
        unmodelled = list(table.get("unmodelled", ()))
        self.joints = [name for name in limits.names if name not in unmodelled]
        known = [model.joint(j).name for j in range(model.njnt)]
        if missing := [name for name in self.joints if name not in known]:
            run = "unmodelled = […] for those that it lacks on purpose"
            raise ConfigError("The MJCF lacks joints of the robot", got=", ".join(missing), exists=known, run=run)
        self._columns = np.array([limits.names.index(name) for name in self.joints], np.int64)
        self._at = np.array([model.joint(name).qposadr[0] for name in self.joints], np.int64)
        self._rest = np.array(model.qpos0)
        self._home = np.array([float(dict(table.get("home", {})).get(n, 0.0)) for n in limits.names])
        self._home = np.clip(self._home, limits.lower, limits.upper)

    def _said(self, key: str) -> Any:
        if key not in self._table:
            raise ConfigError(f"[model] lacks '{key}'", exists=sorted(self._table))
        return self._table[key]

    def _compiled(self) -> Any:
        return compile_mjcf(self._path)

    def posture(self, q: np.ndarray) -> np.ndarray:
        """Commanded joints [A] → `qpos` [nq]; what is not modelled or not the robot's stays as the file has it."""
        out = self._rest.copy()
        out[self._at] = q[self._columns]
        return out

    def guards(self) -> list[Guard]:
        """Zones and collisions, as the file wants them."""
        guards: list[Guard] = []
        if self._workspace or self._keep_out:
            guards.append(ZoneGuard(self._points(), workspace=self._workspace, keep_out=self._keep_out))
        if self._table.get("collision", True):
            margin = float(self._table.get("margin", 0.01))
            base = str(self._said("base"))
            model = self._compiled()
            guards.append(CollisionGuard(model, robot=base, posture=self.posture, home=self._home, margin=margin))
        return guards

    def _points(self) -> Points:
        import mujoco

        model = self._compiled()
        sites = [_site(model, name) for name in self._table.get("points", [self._said("tool")])]
        data: Any = mujoco.MjData(model)

        def points(q: np.ndarray) -> np.ndarray:
            data.qpos[:] = self.posture(q)
            mujoco.mj_kinematics(model, data)
            return np.array(data.site_xpos[sites])

        return points

    def kinematics(self, joints: Sequence[str]) -> ModelKinematics:
        """Of the tool, moved by `joints` alone; all others stay at home."""
        if odd := [name for name in joints if name not in self.joints]:
            raise ConfigError("The MJCF lacks joints of the robot", got=", ".join(odd), exists=self.joints)
        model = self._compiled()
        site = _site(model, str(self._said("tool")))
        return ModelKinematics(model, site, joints, self.posture(self._home), self._limits.select(joints))


class ModelKinematics:
    """`chunking.Kinematics` of a site: damped least squares on the Jacobian (Wampler 1986; damping by the error as in
    Sugihara 2011), from the posture it is given, within the joints' limits.

    Args:
        model: an `mujoco.MjModel`.
        joints: that move, all others stay as in `qpos` [nq].
    """

    def __init__(self, model: Any, site: int, joints: Sequence[str], qpos: np.ndarray, limits: Limits) -> None:
        import mujoco

        self._mujoco, self._model, self._site, self._limits = mujoco, model, site, limits
        self._data: Any = mujoco.MjData(model)
        self._data.qpos[:] = qpos
        self._at = np.array([model.joint(name).qposadr[0] for name in joints], np.int64)
        self._dof = np.array([model.joint(name).dofadr[0] for name in joints], np.int64)

    def forward(self, q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Position [3] m and quaternion [4] w x y z of the site in the world frame."""
        data, quaternion = self._data, np.zeros(4)
        data.qpos[self._at] = q
        self._mujoco.mj_kinematics(self._model, data)
        self._mujoco.mju_mat2Quat(quaternion, data.site_xmat[self._site])
        return data.site_xpos[self._site].copy(), quaternion

    def solve(self, position: np.ndarray, quaternion: np.ndarray, seed: np.ndarray) -> np.ndarray:
        """Joints [J] whose pose is nearest to the one asked for; a pose out of reach gives the nearest one found."""
        lower, upper = self._limits.lower, self._limits.upper
        q = np.clip(np.asarray(seed, np.float64), lower, upper)
        for _ in range(50):
            error = self._error(q, position, quaternion)
            if np.abs(error).max() < 1e-6:
                break
            jacobian = self._jacobian()
            gram = jacobian @ jacobian.T + (_DAMPING * float(error @ error) + _FLOOR) * np.eye(6)
            step = jacobian.T @ np.linalg.solve(gram, error)
            q = np.clip(q + step * min(1.0, _LONGEST / max(np.abs(step).max(), 1e-12)), lower, upper)
        return q

    def _error(self, q: np.ndarray, position: np.ndarray, quaternion: np.ndarray) -> np.ndarray:
        """[6] m and rad, world axes."""
        here, turned = self.forward(q)
        inverse, turn, rotation = np.zeros(4), np.zeros(4), np.zeros(3)
        self._mujoco.mju_negQuat(inverse, turned)
        self._mujoco.mju_mulQuat(turn, np.asarray(quaternion, np.float64), inverse)
        self._mujoco.mju_quat2Vel(rotation, turn, 1.0)
        return np.concatenate([position - here, rotation])

    def _jacobian(self) -> np.ndarray:
        full = np.zeros((6, self._model.nv))
        self._mujoco.mj_comPos(self._model, self._data)
        self._mujoco.mj_jacSite(self._model, self._data, full[:3], full[3:], self._site)
        return full[:, self._dof]


def _site(model: Any, name: str) -> int:
    names = [model.site(i).name for i in range(model.nsite)]
    if name not in names:
        raise ConfigError("The MJCF has no such site", got=name, exists=names)
    return names.index(name)


def _box(values: Mapping[str, Any]) -> Box:
    try:
        return Box(str(values["name"]), tuple(values["lower"]), tuple(values["upper"]))
    except (KeyError, TypeError, ValueError) as error:
        what = "A workspace or keep-out box needs name, lower and upper"
        raise ConfigError(what, got=f"{values}: {type(error).__name__} {error}") from error
