"""The navigation task on habitat-sim: the same observations and actions as in our houses, in whatever scenes it loads.

habitat-sim rarely fits the Python that trains. With `python` it runs in another one, which needs nothing of ours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .habitat_simulator import HabitatSimulator as HabitatSimulator
from .navigation import EpisodeSource, NavigationEnv, NavTask
from .navigation_spec import NavBody
from .navigation_state import NavSimulator
from .remote import RemoteSimulator

FACTORY = "wayhand.envs.habitat_simulator:HabitatSimulator"


def simulator(
    scenes: str | Path,
    body: NavBody | None = None,
    *,
    python: str | Path | Sequence[str] | None = None,
    gpu: int | None = None,
    **remote: Any,
) -> NavSimulator:
    """habitat-sim in this Python, or in another one.

    Args:
        scenes: a folder of scenes or a pattern with `{scan}`; see `HabitatSimulator`.
        body: how it moves and what it sees.
        python: path of the other Python, or a command that starts it; None for this one.
        gpu: see `HabitatSimulator`.
        remote: see `RemoteSimulator`: `patience`, `timeout`, `environment`, `memory`.

    Raises:
        ConfigError: habitat-sim is not installed in this Python; in another one, its first `begin` says so.
    """
    arguments = {**settings(body or NavBody()), "scenes": str(scenes), "gpu": gpu}
    if python is None:
        return HabitatSimulator(**arguments)
    command = [str(python)] if isinstance(python, (str, Path)) else list(python)
    # A relative folder would be another one there only if the other Python changed its own.
    arguments["scenes"] = str(Path(scenes).absolute())
    return RemoteSimulator(command, FACTORY, arguments, **remote)


def settings(body: NavBody) -> dict[str, Any]:
    """Keyword arguments of `HabitatSimulator` for a body, plain JSON."""
    return {
        "sensors": list(body.sensors),
        "width": body.width,
        "height": body.height,
        "hfov": body.hfov,
        "camera_height": body.camera_height,
        "radius": body.radius,
        "tall": body.tall,
        "forward": body.forward,
        "turn": body.turn,
        "tilt": body.tilt,
        "sliding": body.sliding,
    }


class HabitatNavigation(NavigationEnv):
    """`NavigationEnv` on habitat-sim.

    Args:
        scenes: a folder of scenes or a pattern with `{scan}`; see `HabitatSimulator`.
        episodes: what to play; see `NavigationEnv`.
        body, task: see there.
        python: path of another Python that has habitat-sim, or a command that starts it; None for this one.
        gpu: see `HabitatSimulator`.
        continuous, categories, render_mode: see `NavigationEnv`.
        remote: further arguments of `RemoteSimulator`.
    """

    def __init__(
        self,
        scenes: str | Path,
        episodes: EpisodeSource,
        *,
        body: NavBody | None = None,
        task: NavTask | None = None,
        python: str | Path | Sequence[str] | None = None,
        gpu: int | None = None,
        continuous: bool = False,
        categories: Sequence[str] = (),
        render_mode: str | None = None,
        remote: Mapping[str, Any] | None = None,
    ) -> None:
        body = body or NavBody()
        super().__init__(
            simulator(scenes, body, python=python, gpu=gpu, **dict(remote or {})),
            episodes,
            body=body,
            task=task,
            continuous=continuous,
            categories=categories,
            render_mode=render_mode,
        )
