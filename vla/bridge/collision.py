"""Does a posture touch something? Self- and scene collision by MuJoCo's geometry, without its dynamics."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from ..errors import ConfigError

Posture = Callable[[np.ndarray], np.ndarray]
"""Commanded joints [A] → the model's `qpos` [nq]."""


class CollisionGuard:
    """`Guard` over a MuJoCo model of the robot and of what stands around it.

    Args:
        model: an `mujoco.MjModel`, which becomes ours to edit. Bodies under `robot` collide with each other and with
            everything else; the scene does not collide with itself.
        robot: the name of the robot's root body.
        posture: where a command puts the model's joints.
        home: [A] a posture that is fine. Bodies that touch there, as neighbouring links do whose covers overlap, are
            never told apart.
        allowed: pairs of body names that may touch: fingers and the table; `world` is what is fixed in the scene.
        margin: the distance [m] that counts as touching. It covers what is not seen between the postures of a path.
        period: how often it is asked [s].

    One question costs one kinematics pass and MuJoCo's broad phase a posture, tens of microseconds with primitive
    geometry; give meshes as their convex hulls or as primitives.

    Raises `ConfigError` for a body that the model lacks.
    """

    def __init__(
        self,
        model: Any,
        *,
        robot: str,
        posture: Posture,
        home: np.ndarray,
        allowed: Iterable[tuple[str, str]] = (),
        margin: float = 0.01,
        period: float = 0.01,
    ) -> None:
        import mujoco

        self._mujoco, self._model, self._posture = mujoco, model, posture
        self._data: Any = mujoco.MjData(model)
        self._margin, self._period = margin, period
        self._names = [model.body(i).name for i in range(model.nbody)]
        self._body_of = np.array(model.geom_bodyid)
        ours = self._under(robot)
        of_robot = np.isin(self._body_of, ours)
        shown = np.array(model.geom_contype) + np.array(model.geom_conaffinity) > 0
        model.geom_contype[:] = of_robot.astype(np.int32)
        model.geom_conaffinity[:] = (of_robot | shown).astype(np.int32)
        model.geom_margin[:] = margin
        # The broad phase looks at what the compiler summed up per body.
        for summed, single in (
            (model.body_contype, model.geom_contype),
            (model.body_conaffinity, model.geom_conaffinity),
        ):
            summed[:] = 0
            np.bitwise_or.at(summed, self._body_of, single)
        model.body_margin[:] = margin
        self._allowed = {self._pair(self._id(a), self._id(b)) for a, b in allowed}
        self._allowed |= set(self._touching(np.asarray(home, np.float64)))

    @property
    def period(self) -> float:
        return self._period

    def fault(self, path: np.ndarray) -> str:
        for q in path:
            for a, b in self._touching(q):
                if (a, b) not in self._allowed:
                    return f"collision of '{self._names[a]}' with '{self._names[b]}'"
        return ""

    def _touching(self, q: np.ndarray) -> list[tuple[int, int]]:
        """Pairs of bodies nearer than the margin at joints `q` [A]."""
        data = self._data
        data.qpos[:] = self._posture(q)
        self._mujoco.mj_kinematics(self._model, data)
        self._mujoco.mj_collision(self._model, data)
        if not data.ncon:
            return []
        near = data.contact.dist < self._margin
        bodies = self._body_of[data.contact.geom[near]]
        return [self._pair(int(a), int(b)) for a, b in bodies]

    @staticmethod
    def _pair(a: int, b: int) -> tuple[int, int]:
        return (a, b) if a <= b else (b, a)

    def _id(self, name: str) -> int:
        if name not in self._names:
            raise ConfigError("The collision model has no such body", got=name, exists=self._names)
        return self._names.index(name)

    def _under(self, root: str) -> list[int]:
        """The body `root` and all that hang on it."""
        inside = {self._id(root)}
        for body, parent in enumerate(self._model.body_parentid):
            if int(parent) in inside:
                inside.add(body)
        return sorted(inside)
