"""Meshes of a house and the files written from them."""

from __future__ import annotations

import io
import json
import struct
from pathlib import Path

import mujoco
import numpy as np
import pytest
import trimesh
from houses import flat, tower
from PIL import Image
from raycast import cast

from wayhand.envs.house import glb
from wayhand.envs.house.generate import generate
from wayhand.envs.house.mesh import LAP, Mesh, build, light
from wayhand.envs.house.mjcf import assets, instance_of, to_mjcf
from wayhand.envs.house.mjcf import write as write_mjcf
from wayhand.envs.house.png import encode
from wayhand.envs.house.solids import instances, solids


def _areas(mesh: Mesh) -> np.ndarray:
    p = mesh.positions[mesh.triangles].astype(np.float64)
    return np.cross(p[:, 1] - p[:, 0], p[:, 2] - p[:, 0]) / 2


def test_triangles_face_outwards_and_have_area() -> None:
    mesh = build(flat())
    areas = _areas(mesh)
    outwards = np.einsum("ij,ij->i", areas, mesh.normals[mesh.triangles].mean(1))
    assert (outwards > 0).all()
    assert np.allclose(np.linalg.norm(mesh.normals, axis=1), 1.0, atol=1e-5)


def test_instances_are_contiguous_runs() -> None:
    house = generate(11, rooms=(2, 3))
    mesh = build(house)
    assert len(mesh.first) == len(instances(house)) + 1 and mesh.first[-1] == len(mesh.triangles)
    for k, (a, b) in enumerate(zip(mesh.first, mesh.first[1:], strict=False)):
        assert (mesh.instance[mesh.triangles[a:b]] == k).all()


def test_the_inside_of_an_empty_room_is_all_that_is_left() -> None:
    mesh, house = build(tower()), tower()
    ceiling = next(r for r, i in enumerate(instances(house)) if i.category == "ceiling" and i.room == 0)
    span = slice(mesh.first[ceiling], mesh.first[ceiling + 1])
    down = _areas(mesh)[span]
    low = down[down[:, 2] < 0]
    # 6 m × 4 m without the hole for the stairs, 4 m × 1 m.
    assert -low[:, 2].sum() == pytest.approx(20.0, abs=0.02)
    outside = mesh.positions[:, 2] < -10 * LAP
    assert not outside.any()


def test_light_is_within_bounds_and_differs_between_walls() -> None:
    sides = light(np.array([[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1.0]]))
    assert (sides > 0.5).all() and (sides <= 1).all() and abs(sides[0] - sides[3]) > 0.05


def test_equal_descriptions_give_equal_bytes() -> None:
    assert glb.to_glb(generate(11, rooms=(2, 3))) == glb.to_glb(generate(11, rooms=(2, 3)))


def test_the_semantic_file_names_instances(tmp_path: Path) -> None:
    house = generate(11, rooms=(2, 3))
    path = glb.write(house, tmp_path)
    told = json.loads(path.with_suffix(".stage_config.json").read_text())
    data = (tmp_path / told["semantic_asset"]).read_bytes()
    length = int.from_bytes(data[12:16], "little")
    document, binary = json.loads(data[20 : 20 + length]), data[28 + length :]
    (primitive,) = document["meshes"][0]["primitives"]
    ids = document["accessors"][primitive["attributes"]["_OBJECT_ID"]]
    view = document["bufferViews"][ids["bufferView"]]
    assert ids["componentType"] == 5123 and view["byteStride"] == 4
    start = view["byteOffset"]
    assert np.array_equal(np.frombuffer(binary[start : start + view["byteLength"]], "<u2")[::2], build(house).instance)


def test_png_is_read_back(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    colour, grey = rng.integers(0, 256, (2, 90, 300, 3), np.uint8)
    grey = np.repeat(grey[..., :1], 3, -1)
    for pixels in (colour, grey):
        assert np.array_equal(np.array(Image.open(io.BytesIO(encode(pixels))).convert("RGB")), pixels)


def test_glb_is_the_mesh_with_y_up(tmp_path: Path) -> None:
    house = generate(11, rooms=(2, 3))
    path = glb.write(house, tmp_path)
    mesh, scene = build(house), trimesh.load(path, force="scene")
    low, high = mesh.positions.min(0), mesh.positions.max(0)
    assert np.allclose(scene.bounds, [[low[0], low[2], -high[1]], [high[0], high[2], -low[1]]], atol=1e-5)
    assert sum(len(g.faces) for g in scene.geometry.values()) == len(mesh.triangles)
    assert scene.area == pytest.approx(np.linalg.norm(_areas(mesh), axis=1).sum(), rel=1e-4)
    config = json.loads((tmp_path / f"{house.scan}.stage_config.json").read_text())
    assert config["render_asset"] == path.name and config["up"] == [0, 1, 0] and config["front"] == [0, 0, -1]


def test_glb_chunks_are_whole() -> None:
    data = glb.to_glb(flat())
    magic, version, length = struct.unpack("<4sII", data[:12])
    size, kind = struct.unpack("<I4s", data[12:20])
    document = json.loads(data[20 : 20 + size])
    assert (magic, version, length, kind) == (b"glTF", 2, len(data), b"JSON")
    (rest,) = struct.unpack("<I", data[20 + size : 24 + size])
    assert rest == document["buffers"][0]["byteLength"] == len(data) - 28 - size
    for view in document["bufferViews"]:
        assert view["byteOffset"] % 4 == 0 and view["byteOffset"] + view["byteLength"] <= rest


def test_mjcf_collides_where_solids_are() -> None:
    house = flat()
    model = mujoco.MjModel.from_xml_string(to_mjcf(house, base=True), assets(house))
    data = mujoco.MjData(model)
    data.qpos[:3] = 2.5, 2.0, 0.4
    mujoco.mj_forward(model, data)
    assert data.body("base").xpos[:2] == pytest.approx([2.5, 2.0])
    rng = np.random.default_rng(1)
    rays = rng.normal(size=(300, 3))
    rays /= np.linalg.norm(rays, axis=1, keepdims=True)
    expected, hit = cast(solids(house), (2.5, 2.0, 1.5), rays)
    boxes = [solids(house)[h].shape != "ellipsoid" for h in hit]
    groups, geom = np.array([0, 0, 0, 1, 0, 0], np.uint8), np.zeros(1, np.int32)
    body = model.body("base").id
    got = [mujoco.mj_ray(model, data, np.array([2.5, 2.0, 1.5]), r, groups, 1, body, geom) for r in rays]
    assert np.array(got)[boxes] == pytest.approx(expected[boxes], abs=1e-4)


def test_mjcf_files_load_from_a_folder(tmp_path: Path) -> None:
    house = generate(11, rooms=(2, 2))
    model = mujoco.MjModel.from_xml_path(str(write_mjcf(house, tmp_path)))
    drawn = [instance_of(model.geom(i).name) for i in range(model.ngeom)]
    mesh = build(house)
    assert {k for k in drawn if k} == set(np.flatnonzero(np.diff(mesh.first)).tolist())


def test_names_of_drawn_geoms_carry_the_instance() -> None:
    assert (instance_of("12:3"), instance_of("solid4"), instance_of("")) == (12, 0, 0)
