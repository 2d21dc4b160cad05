"""The console's picture of a robot, from its compiled MuJoCo model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from wayhand.vla.bridge.console.model3d import Model3D, from_mjcf
from wayhand.vla.errors import ConfigError

MJCF = """
<mujoco>
  <asset><mesh name="wedge" vertex="0 0 0  1 0 0  0 1 0  0 0 1"/><material name="red" rgba="1 0 0 1"/></asset>
  <worldbody>
    <geom name="floor" type="plane" size="1 1 1"/>
    <geom name="pad" type="box" size="0.2 0.1 0.05" rgba="0 1 0 1"/>
    <body name="link" pos="0 0 0.5">
      <joint name="q1" axis="0 0 1"/>
      <geom type="capsule" size="0.05 0.2" material="red"/>
      <geom type="cylinder" size="0.05 0.1" pos="0.3 0 0" material="red"/>
      <geom type="sphere" size="0.07" group="3"/>
      <body name="tip" pos="0.5 0 0">
        <joint name="q2" axis="1 0 0" type="slide"/>
        <geom type="mesh" mesh="wedge" rgba="0 0 1 0.5"/><geom type="ellipsoid" size="0.1 0.2 0.3" rgba="0 0 0 0"/>
      </body>
    </body>
  </worldbody>
</mujoco>
"""


@pytest.fixture
def model(tmp_path: Path) -> Model3D:
    pytest.importorskip("trimesh", reason="primitives are drawn with trimesh, which comes with viser")
    (tmp_path / "robot.xml").write_text(MJCF)
    return from_mjcf(tmp_path / "robot.xml", ["q2", "q1"])


def test_a_model_is_drawn_by_body_and_colour(model: Model3D) -> None:
    parts = {(p.body, p.colour): p for p in model.parts()}
    assert set(parts) == {(0, (0.0, 1.0, 0.0, 1.0)), (1, (1.0, 0.0, 0.0, 1.0)), (2, (0.0, 0.0, 1.0, 0.5))}
    pad = parts[0, (0.0, 1.0, 0.0, 1.0)].vertices
    np.testing.assert_allclose([pad.min(0), pad.max(0)], [[-0.2, -0.1, -0.05], [0.2, 0.1, 0.05]], atol=1e-6)
    link = parts[1, (1.0, 0.0, 0.0, 1.0)].vertices
    np.testing.assert_allclose([link.min(0), link.max(0)], [[-0.05, -0.05, -0.25], [0.35, 0.05, 0.25]], atol=1e-3)
    for part in parts.values():
        assert part.vertices.dtype == np.float32 and part.faces.max() < len(part.vertices)


def test_a_mesh_lies_where_its_file_says(model: Model3D) -> None:
    """MuJoCo moves a mesh to its centre of mass and turns it to its principal axes; the picture must not."""
    wedge = next(p for p in model.parts() if p.body == 2).vertices
    for corner in np.vstack([np.zeros(3), np.eye(3)]):
        assert np.linalg.norm(wedge - corner, axis=1).min() < 1e-6


def test_measured_joints_move_the_bodies_by_name(model: Model3D) -> None:
    positions, quaternions = model.poses(np.array([0.2, np.pi / 2]))  # q2, q1
    np.testing.assert_allclose(positions[2], [0.0, 0.7, 0.5], atol=1e-9)
    np.testing.assert_allclose(np.abs(quaternions[1]), [np.sqrt(0.5), 0, 0, np.sqrt(0.5)], atol=1e-9)


def test_models_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        from_mjcf(tmp_path / "absent.xml", ["q1"])
    (tmp_path / "robot.xml").write_text(MJCF)
    with pytest.raises(ConfigError, match="lacks a joint"):
        from_mjcf(tmp_path / "robot.xml", ["elbow"])
