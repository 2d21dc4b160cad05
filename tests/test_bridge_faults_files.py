"""Files of people we do not know: what they may cost, and what they may reach."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from bridge_body import ROBOT
from dataset_fixtures import fill
from numcodecs import zstd
from test_description import BODY, BOMB, MESH, TETRAHEDRON, mjcf

from wayhand.datasets.codecs import with_crc
from wayhand.datasets.store import Dataset
from wayhand.vla.bridge.description import COPIES, FILES, LARGEST, PARTS, compile_mjcf, parse_xml
from wayhand.vla.bridge.limit_files import from_toml
from wayhand.vla.bridge.robots.robot_file import RobotFile
from wayhand.vla.bridge.robots.ros2_sensors import unpack
from wayhand.vla.errors import ConfigError, CorruptDataError, RobotError

ATTACHED = '<worldbody><frame><attach model="s" body="b" prefix="a"/></frame></worldbody>'
PART = MESH.replace("<body>", '<body name="b">')
SPACE = 512 << 20
"""Bytes of address space that all of them together may add to a process."""
SECONDS = 1
"""CPU seconds for each of them."""


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int) -> bytes:
    """A picture of zeros, a thousand times smaller than what it becomes."""
    squeeze = zlib.compressobj(9)
    rows = b"".join(squeeze.compress(bytes(width + 1)) for _ in range(height)) + squeeze.flush()
    head = struct.pack(">2I5B", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


TEXTURE, FIELD = '<texture name="t" type="2d" {}/>', '<hfield name="h" size="1 1 1 1" {}/>'
CABLE = '<composite type="cable" curve="s" size="1 1 1" count="{}"><geom type="capsule" size=".01"/></composite>'
COSTLY: dict[str, str | bytes] = {
    "entities": BOMB + mjcf(BODY.replace("0.1", "&j;", 1)),
    "a billion faces": mjcf(MESH, '<mesh name="m" file="huge.stl"/>'),
    "a billion vertices": mjcf(MESH, '<mesh name="m" file="huge.msh"/>'),
    "a field that is not there": mjcf(BODY, FIELD.format('file="huge.bin"')),
    "a field of a size": mjcf(BODY, FIELD.format('nrow="100000" ncol="100000"')),
    "a texture of a size": mjcf(BODY, TEXTURE.format('builtin="flat" width="60000" height="60000"')),
    "a texture that unfolds": mjcf(BODY, TEXTURE.format('file="huge.png"')),
    "a field that unfolds": mjcf(BODY, FIELD.format('file="huge.png"')),
    "a hundred million copies": mjcf(f'<worldbody><replicate count="{10**8}">{BODY}</replicate></worldbody>'),
    "copies of copies": mjcf(
        '<worldbody><replicate count="1e3"><replicate count="1000"><geom size="1"/></replicate></replicate></worldbody>'
    ),
    "a cable": mjcf(f"<worldbody><body>{CABLE.format('10000000 1 1')}</body></worldbody>"),
    "a billion numbers of a user's": mjcf(BODY, more='<size nuser_geom="1000000000"/>'),
    "empty elements": b"<mujoco>" + b"<a/>" * (LARGEST // 4 - 8) + b"</mujoco>",
    "attributes": b"<mujoco " + b" ".join(b'a%x=""' % k for k in range(PARTS + 1)) + b"/>",
    "depth": b"<mujoco>" + b"<body>" * 60_000 + b"</body>" * 60_000 + b"</mujoco>",
    "too large": b"<mujoco>" + bytes(LARGEST),
    "a hundred files": mjcf(BODY, more="".join(f'<include file="i{k}.xml"/>' for k in range(100))),
}
PROGRAM = """
import json, resource, sys, tracemalloc
from pathlib import Path
import mujoco
from wayhand.datasets.codecs import with_crc
from wayhand.datasets.store import Dataset
from wayhand.vla.bridge.description import compile_mjcf
from wayhand.vla.errors import ConfigError

size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + int(sys.argv[2]), size + int(sys.argv[2])))
used = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
limit = int(used + 1 + int(sys.argv[3]) * len(sys.argv[4:]))
resource.setrlimit(resource.RLIMIT_CPU, (limit, limit))
for name in sys.argv[4:]:
    try:
        compile_mjcf(Path(sys.argv[1]) / name)
    except ConfigError:
        print(name)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "robot"
    folder.mkdir()
    (tmp_path / "secret.obj").write_text(TETRAHEDRON)
    (tmp_path / "secret.xml").write_text(mjcf(""))
    return folder


def test_a_costly_description_is_refused_within_a_second_and_half_a_gibibyte(folder: Path) -> None:
    """One process with hard limits of its CPU time and address space reads them all."""
    (folder / "huge.stl").write_bytes(bytes(80) + struct.pack("<I", 10**9) + bytes(500))
    (folder / "huge.msh").write_bytes(struct.pack("<4i", 10**9, 0, 0, 10**9) + bytes(500))
    (folder / "huge.bin").write_bytes(struct.pack("<2i", 10**5, 10**5) + bytes(400))
    (folder / "huge.png").write_bytes(png(20_000, 5_000))
    for k in range(100):
        (folder / f"i{k}.xml").write_text(mjcf(""))
    names = [f"{k}.xml" for k in range(len(COSTLY))]
    for name, text in zip(names, COSTLY.values(), strict=True):
        (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    command = [sys.executable, "-c", PROGRAM, str(folder), str(SPACE), str(SECONDS), *names]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    refused = done.stdout.split()
    assert [what for what, name in zip(COSTLY, names, strict=True) if name not in refused] == [], done.stderr
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("what", ["entities", "empty elements", "attributes", "too large"])
def test_what_is_refused_by_its_bytes_is_never_parsed(folder: Path, what: str) -> None:
    path, text = folder / "robot.xml", COSTLY[what]
    path.write_bytes(raw := text if isinstance(text, bytes) else text.encode())
    tracemalloc.start()
    try:
        with pytest.raises(ConfigError):
            parse_xml(path, "a URDF")
        assert tracemalloc.get_traced_memory()[1] < min(len(raw), LARGEST) + (1 << 20)
    finally:
        tracemalloc.stop()


# --- what lies elsewhere ---------------------------------------------------------------------------------------

ELSEWHERE = {
    "a mesh folder of an include": (
        mjcf(MESH, '<mesh name="m" file="secret.obj"/>', '<include file="a.xml"/>'),
        {"a.xml": mjcf("", more='<compiler meshdir=".."/>')},
    ),
    "an attached model's mesh": (
        mjcf(ATTACHED, '<model name="s" file="a.xml"/>'),
        {"a.xml": mjcf(PART, '<mesh name="m" file="../secret.obj"/>')},
    ),
    "an attached model": (mjcf(ATTACHED, '<model name="s" file="../secret.xml"/>'), {}),
    "an include of an attached model": (
        mjcf(ATTACHED, '<model name="s" file="in/a.xml"/>'),
        {"in/a.xml": mjcf(PART, more='<include file="b.xml"/>'),
         "in/b.xml": mjcf("", '<mesh name="m" file="../../secret.obj"/>')},
    ),
    "an include of an include in a folder": (
        mjcf(MESH, more='<include file="in/a.xml"/>'),
        {"in/a.xml": mjcf("", more='<include file="b.xml"/>'),
         "in/b.xml": mjcf("", '<mesh name="m" file="../../secret.obj"/>')},
    ),
    "a folder and back": (mjcf(MESH, '<mesh name="m" file="in/../../secret.obj"/>'), {"in/x": ""}),
    "a link to a description": (mjcf(BODY, more='<include file="link.xml"/>'), {}),
    "a linked folder": (mjcf(MESH, '<mesh name="m" file="out/secret.obj"/>'), {}),
    "a field": (mjcf(BODY, FIELD.format('file="../secret.obj"')), {}),
}  # fmt: skip
WITNESS = """
import json, sys
from pathlib import Path
import mujoco
from wayhand.datasets.codecs import with_crc
from wayhand.datasets.store import Dataset
from wayhand.vla.bridge.description import compile_mjcf
from wayhand.vla.errors import ConfigError

opened = []
sys.addaudithook(lambda event, args: opened.append(str(args[0])) if event == "open" else None)
mujoco.MjModel.from_xml_path = lambda path: opened.append("MuJoCo")
try:
    compile_mjcf(Path(sys.argv[1]))
except ConfigError as error:
    words = str(error)
print(json.dumps({"words": words, "opened": opened}))
"""


@pytest.mark.parametrize("what", ELSEWHERE)
def test_nothing_outside_a_robot_s_folder_is_opened(folder: Path, what: str) -> None:
    text, others = ELSEWHERE[what]
    (folder / "robot.xml").write_text(text)
    (folder / "link.xml").symlink_to(folder.parent / "secret.xml")
    (folder / "out").symlink_to(folder.parent)
    for name, inside in others.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(inside)
    command = [sys.executable, "-c", WITNESS, str(folder / "robot.xml")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert "outside its folder" in told["words"]
    assert "MuJoCo" not in told["opened"] and not [name for name in told["opened"] if "secret" in name]
    assert [Path(name).name for name in told["opened"] if name.endswith(".xml")].count("link.xml") == 0


def test_attached_and_included_parts_in_the_folder_are_read(folder: Path) -> None:
    (folder / "in" / "meshes").mkdir(parents=True)
    (folder / "in" / "meshes" / "part.obj").write_text(TETRAHEDRON)
    (folder / "in" / "names.xml").write_text(mjcf("", '<mesh name="m" file="part.obj"/>'))
    inner = '<compiler meshdir="meshes"/><include file="names.xml"/>'
    (folder / "in" / "hand.xml").write_text(mjcf(PART, more=inner))
    path = folder / "robot.xml"
    path.write_text(mjcf(ATTACHED, '<model name="s" file="in/hand.xml"/>'))
    assert compile_mjcf(path).nmesh == 1
    geom = '<body><joint/><geom type="mesh" mesh="m"/></body>'
    copies = f'<replicate count="20" offset="1 0 0">{geom}</replicate>'
    path.write_text(mjcf(f"<worldbody>{copies}</worldbody>", '<mesh name="m" file="in/meshes/part.obj"/>'))
    assert compile_mjcf(path).njnt == 20 < COPIES


def test_files_that_attach_one_another_are_refused(folder: Path) -> None:
    (folder / "a.xml").write_text(mjcf(ATTACHED, '<model name="s" file="robot.xml"/>'))
    path = folder / "robot.xml"
    path.write_text(mjcf(ATTACHED, '<model name="s" file="a.xml"/>'))
    with pytest.raises(ConfigError, match="includes itself"):
        compile_mjcf(path)
    assert FILES >= 16, "and so many different ones may"


# --- pictures and tables ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", [10_000, 20_000, 2**31 - 1])
@pytest.mark.filterwarnings("ignore:.*decompression bomb")
def test_a_picture_that_unfolds_is_refused_by_its_header(side: int) -> None:
    head = struct.pack(">2I5B", side, side, 8, 0, 0, 0, 0)
    data = np.frombuffer(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", b""), np.uint8)
    tracemalloc.start()
    try:
        with pytest.raises(RobotError):
            unpack({"format": "png", "data": data}, ROBOT.cameras[0])
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("reader", [from_toml, RobotFile.load])
@pytest.mark.parametrize("text", ["a = " + "[" * 60_000, "a = " + "{a = " * 12_000])
def test_a_table_without_end_is_no_table(folder: Path, reader: object, text: str) -> None:
    path = folder / "robot.toml"
    path.write_text(text)
    assert callable(reader)
    with pytest.raises(ConfigError, match="not a TOML"):
        reader(path)


def test_a_recorded_chunk_that_unfolds_costs_no_more_than_the_chunk_it_should_be(tmp_path: Path) -> None:
    fill(tmp_path / "runs", range(3))
    bomb = with_crc(zstd.compress(bytes(64 << 20), 1))
    (tmp_path / "runs/data/action/c.0.0").write_bytes(bomb)
    tracemalloc.start()
    try:
        with pytest.raises(CorruptDataError, match="is damaged"):
            Dataset(tmp_path / "runs").read("action")
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()
