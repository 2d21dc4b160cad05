"""habitat-sim as a `NavSimulator`. Imports on Python 3.9 with numpy alone; habitat-sim when a simulator is made.

Written for habitat-sim 0.3 (Savva et al. 2019, Szot et al. 2021), with the calls that 0.2.3 and later share. Its world
is y up: (x, y, z) here is (x, z, −y) there, and headings grow the other way round.
"""

from __future__ import annotations

import glob
import importlib
import json
import math
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ..vla.errors import ConfigError, DataError, SpecError
from .navigation_state import ACTIONS, NavState, Vector

LAYOUTS = ("{scan}.glb", "{scan}/{scan}.glb", "*-{scan}/{scan}.basis.glb", "{scan}.basis.glb")
"""Where a folder of scenes may hold one: our houses, Matterport3D, HM3D."""
INSTALL = (
    "conda create -n habitat python=3.9 habitat-sim headless -c conda-forge -c aihabitat, "
    "then python=<path of that environment>/bin/python"
)
MOVES = {"forward": "move_forward", "left": "turn_left", "right": "turn_right", "up": "look_up", "down": "look_down"}
"""What habitat-sim calls our moves."""
_SENSORS = {"rgb": "COLOR", "depth": "DEPTH", "semantics": "SEMANTIC"}
_COLLISION = 1e-5
"""habitat-sim calls a move cut short when its square falls short of the wanted one's by this much [m²]."""
_SUBSTEP = 0.05
_TILT = 90.0
_LIFT = 0.5
_STOREY = 2.0


class HabitatSimulator:
    """A round body in the scenes of habitat-sim.

    habitat's navigation mesh floats up to two of its voxels (0.2 m) above the floor. Where an episode starts below the
    mesh, as those of our houses do, the body is taken to stand on the floor: positions and cameras are lower by that
    much. Where it starts on the mesh, as those of VLN-CE do, nothing is moved.

    Semantics are the scene's own ids: in our houses rows of `solids.instances`, as our renderer's, and 0 in scenes that
    bring none.

    Args:
        scenes: a folder, in one of `LAYOUTS`, or a pattern with `{scan}`, e.g. `"mp3d/{scan}/{scan}.glb"`.
        sensors, width, height, hfov, camera_height, radius, tall, forward, turn, tilt, sliding: as in `NavBody`.
        gpu: number of the GPU; −1 for software, needed where there is no NVIDIA one; None to see for itself.

    Raises:
        ConfigError: habitat-sim is not installed in this Python.
        DataError: a scan has no scene, or its scene no floor.
    """

    def __init__(
        self,
        scenes: str,
        *,
        sensors: Sequence[str] = ("rgb", "depth"),
        width: int = 224,
        height: int = 224,
        hfov: float = 90.0,
        camera_height: float = 1.25,
        radius: float = 0.1,
        tall: float = 1.5,
        forward: float = 0.25,
        turn: float = 15.0,
        tilt: float = 30.0,
        sliding: bool = True,
        gpu: int | None = None,
    ) -> None:
        self._gpu = _gpu() if gpu is None else gpu
        self._habitat = _habitat(self._gpu)
        self._scenes, self._sensors = str(scenes), tuple(sensors)
        self._size, self._hfov, self._eyes = (height, width), hfov, camera_height
        self._radius, self._tall, self._sliding = radius, tall, sliding
        self._forward, self._turn, self._tilt = forward, turn, tilt
        self._sim: Any = None
        self._agent: Any = None
        self._scan = ""
        self._lift = self._elevation = 0.0
        self._goals: Any = None

    # --- NavSimulator ---------------------------------------------------------------------------------------------

    def begin(self, scan: str, position: Sequence[float], heading: float, goals: Sequence[Sequence[float]]) -> NavState:
        """Put the body at the nearest point of the navigation mesh; see `NavSimulator`."""
        if self._sim is None or scan != self._scan:
            self._load(scan)
        wanted = _to_habitat(position)
        at = np.asarray(self._finder.snap_point(wanted), np.float64)
        if not np.isfinite(at).all() or abs(at[1] - wanted[1]) > _STOREY:
            raise DataError(
                f"Scene '{scan}' has no floor near the start",
                expected=f"navigable ground within {_STOREY:g} m of {tuple(position)}",
                got="none" if not np.isfinite(at).all() else f"{_from_habitat(at)}",
            )
        rise = float(at[1] - wanted[1])
        self._lift = rise if 0 < rise <= _LIFT else 0.0
        self._place(at, heading, anew=True)
        self._elevation = 0.0
        for sensor in self._cameras():
            sensor.node.translate(np.array([0.0, -self._lift, 0.0], np.float32))
        self._goals = None
        if len(goals):
            self._goals = self._habitat.MultiGoalShortestPath()
            self._goals.requested_ends = [self._ground(g) for g in goals]
        return self._state(False, render=True)

    def step(self, action: str, *, render: bool = True) -> NavState:
        """See `NavSimulator`."""
        if action not in ACTIONS:
            raise SpecError("Unknown move", got=action, exists=ACTIONS)
        collided = False
        if action != "stop":
            collided = bool(self._ready.act(MOVES[action]))
        if action in ("up", "down"):
            way = self._tilt if action == "up" else -self._tilt
            self._elevation = min(max(self._elevation + way, -_TILT), _TILT)
        return self._state(collided, render=render)

    def drive(self, forward: float, turn: float, seconds: float, *, render: bool = True) -> NavState:
        """Move with constant speeds, in pieces of at most 0.05 s; see `NavSimulator`."""
        n = max(1, math.ceil(seconds / _SUBSTEP - 1e-9))
        dt, half = seconds / n, turn * seconds / n / 2
        # The chord of an arc points along the heading in its middle.
        chord = forward * dt * (math.sin(half) / half if abs(half) > 1e-9 else 1.0)
        move = self._finder.try_step if self._sliding else self._finder.try_step_no_sliding
        at, heading = self._pose()
        collided = False
        for _ in range(n):
            middle = heading - half
            to = at + np.array([chord * math.sin(middle), 0.0, -chord * math.cos(middle)])
            end = np.asarray(move(at.astype(np.float32), to.astype(np.float32)), np.float64)
            collided = collided or float(((end - at) ** 2).sum()) + _COLLISION < chord * chord
            at, heading = end, heading - turn * dt
        self._place(at, heading)
        return self._state(collided, render=render)

    def path(self, goal: Sequence[float]) -> np.ndarray:
        """See `NavSimulator`."""
        found = self._habitat.ShortestPath()
        found.requested_start = self._pose()[0].astype(np.float32)
        found.requested_end = self._ground(goal)
        if not self._finder.find_path(found):
            return np.zeros((0, 3))
        return np.array([_from_habitat(p, self._lift) for p in found.points], np.float64).reshape(-1, 3)

    def close(self) -> None:
        """Release the simulator; a second call does nothing."""
        if self._sim is not None:
            self._sim.close()
            self._sim, self._agent, self._goals, self._scan = None, None, None, ""

    @property
    def native(self) -> Any:
        """The `habitat_sim.Simulator` of the building last begun; None before and after."""
        return self._sim

    # --- inside ---------------------------------------------------------------------------------------------------

    @property
    def _ready(self) -> Any:
        if self._agent is None:
            raise SpecError("The body is in no building yet", run="begin(scan, position, heading, goals) first")
        return self._agent

    @property
    def _finder(self) -> Any:
        return None if self._ready is None else self._sim.pathfinder

    def _load(self, scan: str) -> None:
        scene = find_scene(self._scenes, scan)
        cfg = self._configuration(scene)
        with _without_environment_map():
            if self._sim is None:
                self._sim = self._habitat.Simulator(cfg)
            else:
                self._sim.reconfigure(cfg)
        self._agent, self._scan = self._sim.get_agent(0), scan
        settings = self._habitat.NavMeshSettings()
        settings.set_defaults()
        settings.agent_radius, settings.agent_height = self._radius, self._tall
        finder = self._sim.pathfinder
        if not self._sim.recompute_navmesh(finder, settings) or not finder.is_loaded:
            self._scan = ""
            raise DataError(
                f"Scene '{scan}' has no floor for this body",
                expected=f"room for a radius of {self._radius} m and a height of {self._tall} m",
                got=scene,
            )

    def _configuration(self, scene: str) -> Any:
        habitat = self._habitat
        backend = habitat.SimulatorConfiguration()
        backend.scene_id, backend.gpu_device_id, backend.allow_sliding = scene, self._gpu, self._sliding
        backend.load_semantic_mesh = "semantics" in self._sensors
        agent = habitat.agent.AgentConfiguration()
        agent.radius, agent.height = self._radius, self._tall
        agent.sensor_specifications = [self._camera(name) for name in self._sensors]
        amounts = {"forward": self._forward, "left": self._turn, "right": self._turn}
        agent.action_space = {
            name: habitat.agent.ActionSpec(
                name,
                habitat.agent.ActuationSpec(amount=amounts[ours])
                if ours in amounts
                else habitat.agent.ActuationSpec(amount=self._tilt, constraint=_TILT),
            )
            for ours, name in MOVES.items()
        }
        return habitat.Configuration(backend, [agent])

    def _camera(self, name: str) -> Any:
        spec = self._habitat.CameraSensorSpec()
        spec.uuid, spec.sensor_type = name, getattr(self._habitat.SensorType, _SENSORS[name])
        spec.resolution, spec.hfov = list(self._size), self._hfov
        spec.position = [0.0, float(self._eyes), 0.0]
        return spec

    def _cameras(self) -> list[Any]:
        sensors = getattr(self._agent, "sensors", None) or self._agent._sensors
        return list(sensors.values())

    def _place(self, at: np.ndarray, heading: float, *, anew: bool = False) -> None:
        """Put the body at a point in habitat's axes; `anew` also takes back what was looked up or down."""
        quaternion = [0.0, math.sin(-heading / 2), 0.0, math.cos(heading / 2)]
        self._ready.set_state(self._habitat.AgentState(at.astype(np.float32), quaternion), anew)

    def _pose(self) -> tuple[np.ndarray, float]:
        """Point of the mesh in habitat's axes, and our heading."""
        node = self._ready.scene_node
        rotation = node.rotation
        yaw = 2 * math.atan2(rotation.vector[1], rotation.scalar)
        return np.array(node.absolute_translation, np.float64), -yaw % (2 * math.pi)

    def _ground(self, point: Sequence[float]) -> np.ndarray:
        x, y, z = _to_habitat(point)
        return np.array([x, y + self._lift, z], np.float32)

    def _state(self, collided: bool, *, render: bool) -> NavState:
        at, heading = self._pose()
        distance = math.inf
        if self._goals is not None:
            self._goals.requested_start = at.astype(np.float32)
            if self._finder.find_path(self._goals):
                distance = float(self._goals.geodesic_distance)
        images = self._look() if render and self._sensors else {}
        return NavState(
            _from_habitat(at, self._lift), heading, math.radians(self._elevation), collided, distance, images
        )

    def _look(self) -> Mapping[str, np.ndarray]:
        seen = self._sim.get_sensor_observations()
        images: dict[str, np.ndarray] = {}
        for name in self._sensors:
            image = np.asarray(seen[name])
            images[name] = np.ascontiguousarray(image[..., :3]) if name == "rgb" else image
        if "semantics" in images:
            images["semantics"] = images["semantics"].astype(np.int32)
        return images


def find_scene(scenes: str, scan: str) -> str:
    """Path of a scan's scene; raises `DataError` where there is none."""
    patterns = [scenes] if "{scan}" in scenes else [str(Path(scenes) / layout) for layout in LAYOUTS]
    tried = [p.replace("{scan}", glob.escape(scan)) for p in patterns]
    for pattern in tried:
        found = sorted(glob.glob(pattern))
        if found:
            return str(Path(found[0]).resolve())
    raise DataError(f"There is no scene of '{scan}'", expected="a file at one of these places", exists=tried)


def _habitat(gpu: int) -> Any:
    """The library, told to be quiet; raises `ConfigError` where it is not installed."""
    os.environ.setdefault("MAGNUM_LOG", "quiet")
    os.environ.setdefault("HABITAT_SIM_LOG", "quiet")
    if gpu < 0:
        # Mesa's own threads make one small picture slower.
        os.environ.setdefault("LP_NUM_THREADS", "0")
    try:
        return importlib.import_module("habitat_sim")
    except ImportError as error:
        raise ConfigError(
            "habitat-sim is not installed in this Python",
            expected="habitat_sim 0.2.3 to 0.3 here, or another Python that has it",
            got=str(error),
            run=INSTALL,
        ) from error


def _gpu() -> int:
    return 0 if glob.glob("/dev/nvidia[0-9]*") else -1


@contextmanager
def _without_environment_map() -> Iterator[None]:
    """Keep habitat-sim from preparing light for glossy materials, which takes seconds and flat shading never uses.

    It looks for its settings in the working directory, and does without the maps where these name none that exist.
    """
    home = os.getcwd()
    with tempfile.TemporaryDirectory() as folder:
        settings = Path(folder) / "data" / "default.pbr_config.json"
        settings.parent.mkdir()
        settings.write_text(json.dumps({"ibl_blut_filename": "none.png", "ibl_envmap_filename": "none.hdr"}))
        os.chdir(folder)
        try:
            yield
        finally:
            os.chdir(home)


def _to_habitat(point: Sequence[float]) -> np.ndarray:
    """float32 [3]."""
    return np.array([point[0], point[2], -point[1]], np.float32)


def _from_habitat(point: Any, lift: float = 0.0) -> Vector:
    return float(point[0]), -float(point[2]), float(point[1]) - lift
