"""Robots described by people we do not know: refused at once, by name, and nothing outside their folder is opened."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from wayhand.vla.bridge.console.model3d import from_mjcf as drawn
from wayhand.vla.bridge.description import LARGEST, compile_mjcf
from wayhand.vla.bridge.limit_files import from_mjcf, from_urdf
from wayhand.vla.errors import ConfigError

BODY = '<worldbody><body><joint name="q" range="-1 1" limited="true"/><geom size="0.1"/></body></worldbody>'
MESH = '<worldbody><body><joint name="q"/><geom type="mesh" mesh="m"/></body></worldbody>'
BOMB = '<!DOCTYPE l [<!ENTITY a "aaaaaaaaaa">' + "".join(
    f'<!ENTITY {"abcdefghij"[k + 1]} "{10 * ("&" + "abcdefghij"[k] + ";")}">' for k in range(9)
) + "]>"  # fmt: skip
TETRAHEDRON = "v 0 0 0\nv 1 0 0\nv 0 1 0\nv 0 0 1\nf 1 3 2\nf 1 2 4\nf 1 4 3\nf 2 3 4\n"


def mjcf(body: str, asset: str = "", more: str = "") -> str:
    return f"<mujoco>{more}<asset>{asset}</asset>{body}</mujoco>"


HOSTILE = {
    "entities": (BOMB + mjcf(BODY), "must not declare entities"),
    "entities in UTF-16": ((BOMB + mjcf(BODY)).encode("utf-16"), "is UTF-8"),
    "a mesh above": (mjcf(MESH, '<mesh name="m" file="../secret.obj"/>'), "outside its folder"),
    "a mesh anywhere": (mjcf(MESH, '<mesh name="m" file="/etc/secret.obj"/>'), "outside its folder"),
    "a folder above": (mjcf(MESH, '<mesh name="m" file="secret.obj"/>', '<compiler meshdir=".."/>'), "outside"),
    "a texture above": (mjcf(BODY, '<texture name="t" type="cube" fileup="../a.png"/>'), "outside its folder"),
    "an include above": (mjcf(BODY, more='<include file="../secret.xml"/>'), "outside its folder"),
    "a link": (mjcf(MESH, '<mesh name="m" file="link.obj"/>'), "outside its folder"),
    "an include of itself": (mjcf(BODY, more='<include file="robot.xml"/>'), "includes itself"),
    "a billion faces": (mjcf(MESH, '<mesh name="m" file="huge.stl"/>'), "not an MJCF"),
    "a billion vertices": (mjcf(MESH, '<mesh name="m" file="huge.msh"/>'), "not an MJCF"),
    "no XML": ("<mujoco", "not an MJCF"),
    "a URDF's mesh above": (
        '<robot name="r"><link name="a"><visual><geometry><mesh filename="../secret.obj"/></geometry></visual></link>'
        "</robot>",
        "outside its folder",
    ),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "robot"
    folder.mkdir()
    (tmp_path / "secret.obj").write_text(TETRAHEDRON)
    (tmp_path / "secret.xml").write_text("<mujoco/>")
    (folder / "link.obj").symlink_to(tmp_path / "secret.obj")
    (folder / "huge.stl").write_bytes(bytes(80) + struct.pack("<I", 10**9) + bytes(500))
    (folder / "huge.msh").write_bytes(struct.pack("<4i", 10**9, 0, 0, 10**9) + bytes(500))
    return folder


@pytest.mark.parametrize("reader", [compile_mjcf, from_mjcf, lambda path: drawn(path, ["q"])])
@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_description_is_refused_by_every_reader(
    folder: Path, what: str, reader: Callable[[Path], object]
) -> None:
    text, words = HOSTILE[what]
    path = folder / "robot.xml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError, match=words):
        reader(path)


def test_what_lies_in_the_folder_is_read(folder: Path) -> None:
    (folder / "meshes").mkdir()
    (folder / "meshes" / "part.obj").write_text(TETRAHEDRON)
    (folder / "rest.xml").write_text(mjcf("", '<mesh name="m" file="part.obj"/>'))
    path = folder / "robot.xml"
    path.write_text(mjcf(MESH, more='<compiler meshdir="meshes"/><include file="rest.xml"/>'))
    assert compile_mjcf(path).nmesh == 1


def test_too_large_or_missing(folder: Path) -> None:
    path = folder / "robot.xml"
    with path.open("wb") as file:
        file.truncate(LARGEST + 1)
    for reader in (compile_mjcf, from_urdf):
        with pytest.raises(ConfigError, match="too large"):
            reader(path)
        with pytest.raises(ConfigError, match="no such"):
            reader(folder / "none.xml")
    path.write_text(BOMB + "<robot/>")
    with pytest.raises(ConfigError, match="entities"):
        from_urdf(path)
