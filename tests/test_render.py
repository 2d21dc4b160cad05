"""Pictures: fresh arrays, the geometry they claim, and the same pixels from every backend and process."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest

from wayhand.envs.tabletop import gl
from wayhand.envs.tabletop.rendering import Renderer
from wayhand.envs.tabletop.sim import TabletopSim
from wayhand.vla.errors import ConfigError

import mujoco  # isort: skip  (after the package, which chooses the GL backend)

DIGEST = """
import hashlib, sys
from wayhand.envs.tabletop.gl import renderer_info
from wayhand.envs.tabletop.env import TabletopEnv
env = TabletopEnv(tasks=("place",), image_size=48)
nested, _ = env.reset(seed=0)
digest = hashlib.sha256()
for _ in range(3):
    nested, *_ = env.step(env.action_space.low * 0.3)
    for name in ("front", "wrist"):
        digest.update(nested["images"][name].tobytes())
env.close()
print(renderer_info()["backend"], digest.hexdigest())
"""


FORK = """
import os
from wayhand.envs.tabletop.sim import TabletopSim
sim = TabletopSim(image_size=32)
sim.reset(0)
before = sim.observe().images["front"]
child = os.fork()
if child == 0:
    other = TabletopSim(image_size=32)
    other.reset(0)
    same = (sim.observe().images["front"] == before).all() and (other.observe().images["front"] == before).all()
    os._exit(0 if same else 1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert (sim.observe().images["front"] == before).all()
sim.close()
"""


def digest(backend: str) -> list[str]:
    environment = {**os.environ, "MUJOCO_GL": backend}
    for name in ("PYOPENGL_PLATFORM", "DISPLAY") + (("MUJOCO_GL",) if not backend else ()):
        environment.pop(name, None)
    done = subprocess.run([sys.executable, "-c", DIGEST], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert not done.stderr.strip(), done.stderr
    return done.stdout.split()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_forked_child_draws_too() -> None:
    subprocess.run([sys.executable, "-c", FORK], check=True, timeout=120)


@pytest.fixture(scope="module")
def sim() -> Iterator[TabletopSim]:
    sim = TabletopSim(tasks=("pick",), image_size=64, depth=True, semantics=True)
    sim.reset(0)
    yield sim
    sim.close()


def test_egl_and_osmesa_draw_the_same_pixels_in_any_process() -> None:
    for backend, available in (("egl", gl.egl_available()), ("osmesa", gl.osmesa_available())):
        if not available:
            pytest.skip(f"{backend} is not installed here")
    chosen, first = digest("")
    assert chosen == "egl"
    assert digest("egl") == ["egl", first]
    assert digest("osmesa") == ["osmesa", first]


def test_pictures_are_fresh_and_equal_for_equal_states(sim: TabletopSim) -> None:
    a, b = sim.observe(), sim.observe()
    for name in a.images:
        assert a.images[name].flags.owndata and a.images[name].flags.c_contiguous
        assert not np.shares_memory(a.images[name], b.images[name])
        assert (a.images[name] == b.images[name]).all() and a.images[name].std() > 5
        assert (a.depth[name] == b.depth[name]).all() and (a.semantics[name] == b.semantics[name]).all()


def test_depth_and_semantics_are_what_rays_meet(sim: TabletopSim) -> None:
    observation, camera = sim.observe(), sim.body_for("ee_delta").camera("front")
    model, data = sim.model, sim.data
    index = model.camera("front").id
    turn, eye = data.cam_xmat[index].reshape(3, 3), data.cam_xpos[index]
    agree, total = 0, 0
    for row in range(2, camera.height, 6):
        for column in range(2, camera.width, 6):
            ray = turn @ [(column + 0.5 - camera.cx) / camera.fx, -(row + 0.5 - camera.cy) / camera.fy, -1.0]
            length, geom = float(np.linalg.norm(ray)), np.array([-1], np.int32)
            distance = mujoco.mj_ray(
                model, data, eye, ray / length, np.array([1, 1, 1, 0, 0, 0], np.uint8), 1, -1, geom
            )
            total += 1
            close = abs(distance / length - observation.depth["front"][row, column]) < 0.005
            agree += close and int(geom[0]) == int(observation.semantics["front"][row, column])
    assert agree >= 0.97 * total


def test_intrinsics_project_the_world_into_the_picture(sim: TabletopSim) -> None:
    observation, camera = sim.observe(), sim.body_for("ee_delta").camera("front")
    world = sim.world()
    turn = np.zeros(9)
    mujoco.mju_quat2Mat(turn, np.array(camera.quaternion))
    for i, position in enumerate(world.objects):
        seen = turn.reshape(3, 3).T @ (position - np.array(camera.position))
        column = camera.cx + camera.fx * seen[0] / -seen[2]
        row = camera.cy - camera.fy * seen[1] / -seen[2]
        geom = int(observation.semantics["front"][int(row), int(column)])
        assert sim.model.body(sim.model.geom_bodyid[geom]).name == f"slot{i}"


def test_two_renderers_share_the_process() -> None:
    a, b = TabletopSim(image_size=16), TabletopSim(image_size=32)
    for sim in (a, b):
        sim.reset(1)
    first = a.observe().images["front"]
    assert b.observe().images["front"].shape == (32, 32, 3)
    b.close()
    assert (a.observe().images["front"] == first).all()
    a.close()
    a.close()
    assert (a.observe().images["front"] == first).all()
    a.close()


def test_a_renderer_is_the_picture_of_mujoco(sim: TabletopSim) -> None:
    """With MuJoCo's own renderer at the same flags the pixels are the same."""
    with mujoco.Renderer(sim.model, 64, 64) as peer:
        peer.update_scene(sim.data, "front")
        for flag in (mujoco.mjtRndFlag.mjRND_SHADOW, mujoco.mjtRndFlag.mjRND_REFLECTION):
            peer.scene.flags[flag] = 0
        theirs = peer.render()
    ours = sim.observe().images["front"]
    assert hashlib.sha256(ours.tobytes()).digest() == hashlib.sha256(theirs.tobytes()).digest()


def test_unknown_cameras_and_backends_are_explained(sim: TabletopSim, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="overview"):
        Renderer(sim.model, ("back",), 16)
    monkeypatch.setattr(gl, "_context", None)
    monkeypatch.setenv("MUJOCO_GL", "")
    with pytest.raises(ConfigError, match="apt-get install"):
        gl.current_context()
    monkeypatch.setenv("MUJOCO_GL", "vulkan")
    with pytest.raises(ConfigError, match="osmesa"):
        gl.current_context()


def test_renderer_info_names_the_hardware() -> None:
    info = gl.renderer_info()
    assert set(info) == {"backend", "vendor", "renderer", "version"} and all(info.values())
