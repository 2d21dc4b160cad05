"""habitat-sim behind the same task: where it is installed, it does what our own simulator does."""

from __future__ import annotations

import importlib.util
import inspect
import json
import math
import os
import sys

import numpy as np
import pytest
from houses import flat, tower

from wayhand.envs import habitat_simulator
from wayhand.envs.habitat import HabitatNavigation, settings, simulator
from wayhand.envs.habitat_simulator import HabitatSimulator, find_scene
from wayhand.envs.house import glb
from wayhand.envs.house.simulator import HouseSimulator
from wayhand.envs.navigation import NavTask
from wayhand.envs.navigation_spec import NavBody
from wayhand.envs.remote import RemoteSimulator
from wayhand.scripts.habitat_parity import MOVES, PRIOR, Motion, walk
from wayhand.vla.errors import ConfigError, DataError, SpecError
from wayhand.vla.navigation import Goal, NavEpisode

HERE = importlib.util.find_spec("habitat_sim") is not None
PYTHON = os.environ.get("WAYHAND_HABITAT_PYTHON") or (sys.executable if HERE else "")
needs_habitat = pytest.mark.skipif(
    not PYTHON, reason="habitat-sim is not installed, nor does WAYHAND_HABITAT_PYTHON name a Python that has it"
)
SIZE = {"width": 40, "height": 24}


# --- without habitat-sim ------------------------------------------------------------------------------------------


@pytest.mark.skipif(HERE, reason="habitat-sim is installed")
def test_without_it_the_error_says_how_to_get_it(tmp_path) -> None:
    with pytest.raises(ConfigError, match="habitat-sim is not installed") as caught:
        HabitatSimulator(str(tmp_path))
    assert "conda" in str(caught.value) and "python=" in str(caught.value)
    away = simulator(tmp_path, python=sys.executable)
    with pytest.raises(ConfigError, match="habitat-sim is not installed"):
        away.begin("scan", (0, 0, 0), 0, [])
    assert not away.running


def test_the_body_is_what_the_simulator_takes() -> None:
    told = settings(NavBody(sensors=("rgb", "semantics"), looks=True))
    assert json.loads(json.dumps(told)) == told
    known = inspect.signature(HabitatSimulator).parameters
    assert set(told) | {"scenes", "gpu"} == set(known)
    body = NavBody()
    assert all(known[k].default == getattr(body, k) for k in told)


@pytest.mark.parametrize("path", ["a1.glb", "a1/a1.glb", "00800-a1/a1.basis.glb", "a1.basis.glb"])
def test_scenes_are_found_where_the_datasets_put_them(tmp_path, path) -> None:
    scene = tmp_path / path
    scene.parent.mkdir(exist_ok=True)
    scene.touch()
    (tmp_path / "a12.glb").touch()
    assert find_scene(str(tmp_path), "a1") == str(scene)
    assert find_scene(f"{tmp_path}/{path.replace('a1', '{scan}')}", "a1") == str(scene)
    with pytest.raises(DataError, match="no scene of 'b2'"):
        find_scene(str(tmp_path), "b2")


def test_axes_there_and_back() -> None:
    point = (1.0, 2.0, 3.0)
    assert tuple(habitat_simulator._to_habitat(point)) == (1.0, 3.0, -2.0)
    assert habitat_simulator._from_habitat(habitat_simulator._to_habitat(point)) == point


# --- with habitat-sim ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("houses")
    for house in (flat(), tower()):
        glb.write(house, path)
    return path


@pytest.fixture(scope="module")
def seeing(folder):
    body = NavBody(sensors=("rgb", "depth", "semantics"), looks=True, **SIZE)
    sim = simulator(folder, body, python=PYTHON)
    yield sim
    sim.close()


@pytest.fixture(scope="module")
def start():
    mesh = HouseSimulator({flat().scan: flat()}, NavBody(sensors=())).mesh(flat().scan)
    return mesh.random_point((0.5, 0.5, 0.5))


@needs_habitat
def test_moves_and_pictures(seeing, start) -> None:
    goal = (start[0], start[1] + 0.5, start[2])
    a = seeing.begin(flat().scan, start, 0.0, [goal])
    assert np.allclose(a.position, start, atol=1e-3) and a.heading == 0.0 and not a.collided
    assert a.distance == pytest.approx(0.5, abs=1e-2)
    shapes = {k: (v.shape, v.dtype.name) for k, v in a.images.items()}
    assert shapes == {"rgb": ((24, 40, 3), "uint8"), "depth": ((24, 40), "float32"), "semantics": ((24, 40), "int32")}
    assert a.images["rgb"].std() > 1 and a.images["depth"].max() > 0.5
    assert seeing.step("right").heading == pytest.approx(math.radians(15), abs=1e-4)
    assert seeing.step("left").heading % (2 * math.pi) == pytest.approx(0.0, abs=1e-4)
    assert seeing.step("forward", render=False).images == {}
    up = seeing.step("up")
    assert up.elevation == pytest.approx(math.radians(30)) and not np.array_equal(up.images["rgb"], a.images["rgb"])
    for _ in range(4):
        up = seeing.step("up")
    assert up.elevation == pytest.approx(math.pi / 2)
    again = seeing.begin(flat().scan, start, 0.0, [])
    assert all(np.array_equal(a.images[k], again.images[k]) for k in a.images) and again.distance == math.inf
    assert len(seeing.path(goal)) >= 2
    with pytest.raises(SpecError, match="Unknown move"):
        seeing.step("jump")
    with pytest.raises(DataError, match="no scene"):
        seeing.begin("nowhere", start, 0.0, [])


@needs_habitat
def test_the_view_is_our_view(seeing, start) -> None:
    with_ours = HouseSimulator({flat().scan: flat()}, NavBody(sensors=("rgb", "depth", "semantics"), **SIZE))
    theirs = seeing.begin(flat().scan, start, 0.7, [])
    ours = with_ours.begin(flat().scan, theirs.position, 0.7, ())
    with_ours.close()
    assert np.median(np.abs(ours.images["depth"] - theirs.images["depth"])) < 0.01
    assert np.abs(ours.images["rgb"].astype(int) - theirs.images["rgb"].astype(int)).mean() < 2
    assert (ours.images["semantics"] == theirs.images["semantics"]).mean() > 0.99


@needs_habitat
def test_a_base_drives_the_same_arc(seeing, start) -> None:
    ours = HouseSimulator({flat().scan: flat()}, NavBody(sensors=()))
    for one in (ours, seeing):
        one.begin(flat().scan, start, 0.0, [start])
    for _ in range(5):
        a, b = ours.drive(0.3, 0.8, 0.2, render=False), seeing.drive(0.3, 0.8, 0.2, render=False)
    assert np.allclose(a.position[:2], b.position[:2], atol=1e-3) and a.heading == pytest.approx(b.heading, abs=1e-4)


@needs_habitat
def test_walks_alike(folder, start) -> None:
    body = NavBody(sensors=())
    ours, theirs = HouseSimulator({flat().scan: flat()}, body), simulator(folder, body, python=PYTHON)
    motion = Motion()
    walk(ours, theirs, flat().scan, start, np.random.default_rng(0).choice(MOVES, 150, p=PRIOR).tolist(), motion)
    theirs.close()
    report = motion.report()
    assert report["touched"]["steps"] > 5
    assert report["free"]["max_mm"] <= 1 and report["free"]["max_deg"] <= 0.1
    assert report["touched"]["max_cm"] <= 5 and report["flags_equal"] >= 0.98


@needs_habitat
def test_without_sliding_both_stop_where_they_touch(folder) -> None:
    # From there on rounding decides whether habitat-sim 0.3 takes a body for inside the wall and slides it after all.
    body = NavBody(sensors=(), sliding=False)
    ours, theirs = HouseSimulator({flat().scan: flat()}, body), simulator(folder, body, python=PYTHON)
    rng = np.random.default_rng(0)
    for _ in range(8):
        start, heading = ours.mesh(flat().scan).random_point(rng.random(3).tolist()), float(rng.uniform(0, 6))
        a, b = (one.begin(flat().scan, start, heading, ()) for one in (ours, theirs))
        for _ in range(100):
            assert not a.collided and not b.collided
            a, b = ours.step("forward"), theirs.step("forward")
            assert math.dist(a.position[:2], b.position[:2]) < 0.005
            if a.collided or b.collided:
                break
        assert a.collided and b.collided
    theirs.close()


@needs_habitat
def test_the_expert_arrives(folder, start) -> None:
    goal = HouseSimulator({flat().scan: flat()}, NavBody(sensors=())).mesh(flat().scan).random_point((0.1, 0.9, 0.9))
    episode = NavEpisode("0", flat().scan, start=start, goals=(Goal(position=goal),), reference=(start, goal))
    body, task = NavBody(**SIZE), NavTask(name="pointnav", radius=0.3)
    env = HabitatNavigation(folder, [episode], body=body, task=task, python=PYTHON)
    assert isinstance(env.simulator, RemoteSimulator)
    observation, _ = env.reset(seed=0)
    assert env.observation_space.contains(observation)
    over, info = False, {}
    while not over:
        observation, _, terminated, truncated, info = env.step(env.oracle(np.random.default_rng(0)))
        over = terminated or truncated
    env.close()
    assert info["success"] and info["measures"]["spl"] > 0.8
