"""Continuous navigation in procedural houses as Gymnasium environments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ...vla.errors import ConfigError
from ...vla.navigation import NavEpisode
from ..navigation import NavigationEnv
from ..navigation_spec import TASKS, NavBody, NavTask
from .episodes import CATEGORIES, HouseEpisodes
from .house import House
from .lidar import Lidar
from .simulator import HouseSimulator

PRESETS: dict[str, tuple[NavBody, NavTask]] = {
    "vln": (NavBody(), NavTask()),
    "pointnav": (NavBody(turn=10.0), NavTask(name="pointnav", radius=0.2)),
    "objectnav": (
        NavBody(hfov=79.0, turn=30.0, camera_height=0.88, radius=0.18, looks=True, sliding=False),
        NavTask(name="objectnav", radius=0.1),
    ),
}
"""Body and task of each preset: VLN-CE's R2R, habitat's PointNav on Gibson, habitat's ObjectNav."""


class HouseNavigation(NavigationEnv):
    """`NavigationEnv` in generated houses, or with given episodes in given houses.

    Every argument left at None is that of the task's preset (`PRESETS`).

    Args:
        task: `"vln"`, `"pointnav"` or `"objectnav"`.
        houses: how many generated houses a split has.
        rooms: fewest and most rooms of a generated house.
        distance: least and most distance of the goal in generated PointNav and ObjectNav episodes [m].
        episodes: to play instead of generated ones, in the houses of `scans`.
        scans: houses by name, for `episodes`.
        sensors, width, height, hfov, camera_height, forward, turn, tilt, looks, sliding, radius, tall: see `NavBody`.
        success_radius, max_steps, reward, stand: see `NavTask`.
        continuous, goal_in_state, render_mode: see `NavigationEnv`.
        clearance: how much wider than the body the expert keeps its way where there is room [m], and the ways to
            generated points are: what a base needs that does not slide along walls.
        lidar, lidar_range: beams of a planar laser scanner, 0 for none, and how far it sees [m]; its distances are part
            of the state.

    Raises:
        ConfigError: an unknown task, or episodes without houses.
    """

    def __init__(
        self,
        *,
        task: str = "pointnav",
        houses: int = 1000,
        rooms: Sequence[int] = (2, 10),
        distance: Sequence[float] = (2.0, 30.0),
        episodes: Sequence[NavEpisode] | None = None,
        scans: Mapping[str, House] | None = None,
        sensors: Sequence[str] | None = None,
        width: int | None = None,
        height: int | None = None,
        hfov: float | None = None,
        camera_height: float | None = None,
        forward: float | None = None,
        turn: float | None = None,
        tilt: float | None = None,
        looks: bool | None = None,
        sliding: bool | None = None,
        radius: float | None = None,
        tall: float | None = None,
        success_radius: float | None = None,
        max_steps: int | None = None,
        reward: str | None = None,
        stand: float | None = None,
        continuous: bool = False,
        goal_in_state: bool = False,
        clearance: float = 0.0,
        lidar: int = 0,
        lidar_range: float = 3.0,
        render_mode: str | None = None,
    ) -> None:
        if task not in PRESETS:
            raise ConfigError("Unknown task", got=task, exists=TASKS)
        if (episodes is None) != (scans is None):
            raise ConfigError("Given episodes need their houses", expected="both 'episodes' and 'scans', or neither")
        body, goal = PRESETS[task]
        body = _changed(
            body,
            sensors=None if sensors is None else tuple(sensors),
            width=width,
            height=height,
            hfov=hfov,
            camera_height=camera_height,
            forward=forward,
            turn=turn,
            tilt=tilt,
            looks=looks,
            sliding=sliding,
            radius=radius,
            tall=tall,
        )
        goal = _changed(goal, radius=success_radius, max_steps=max_steps, reward=reward, stand=stand)
        low, high = rooms
        source = HouseEpisodes(
            task,
            houses=houses,
            radius=body.radius,
            tall=body.tall,
            rooms=(low, high),
            distance=(distance[0], distance[1]),
            clearance=clearance,
        )
        if scans is None:
            wide = source.roomy if clearance else None
            simulator = HouseSimulator(source.house, body, meshes=source.mesh, clearance=clearance, wide=wide)
        else:
            simulator = HouseSimulator(scans, body, clearance=clearance)
        super().__init__(
            simulator,
            source if episodes is None else episodes,
            body=body,
            task=goal,
            continuous=continuous,
            categories=CATEGORIES if task == "objectnav" else (),
            goal_in_state=goal_in_state,
            ranges=Lidar(simulator.house, beams=lidar, reach=lidar_range, tall=body.tall) if lidar else None,
            render_mode=render_mode,
        )


def _changed(preset: Any, **values: Any) -> Any:
    """The preset with every value that is not None."""
    return replace(preset, **{k: v for k, v in values.items() if v is not None})
