"""A simulator in another process answers as in this one, and its death is an error of its environment alone."""

from __future__ import annotations

import ast
import gc
import json
import math
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from plane import PlaneSimulator

from wayhand.envs import remote, remote_wire
from wayhand.envs.navigation_state import ACTIONS, NavState
from wayhand.envs.remote import RemoteSimulator
from wayhand.vla.errors import ConfigError, DataError, RobotError, SpecError

HERE = Path(__file__).parent
FACTORY = "plane:PlaneSimulator"
GOALS = [(0.0, 3.0, 0.0), (9.0, 9.0, 0.0)]


def start(**options):
    return RemoteSimulator([sys.executable], FACTORY, paths=[HERE], **options)


@pytest.fixture(scope="module")
def shared():
    simulator = start()
    yield simulator
    simulator.close()


def same(a: NavState, b: NavState) -> bool:
    numbers = all(getattr(a, k) == getattr(b, k) for k in ("position", "heading", "elevation", "collided", "distance"))
    return (
        numbers
        and a.images.keys() == b.images.keys()
        and all(np.array_equal(a.images[k], b.images[k]) for k in a.images)
    )


def gone(pid: int, seconds: float = 20.0) -> bool:
    """Whether a process ends in time; one that only waits to be reaped has ended."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z":
                return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.05)
    return False


# --- the same answers ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("goals", [GOALS, []])
def test_answers_as_in_process(shared, goals) -> None:
    here = PlaneSimulator()
    begin = ("plane", (1.0, -2.0, 0.5), 0.3, goals)
    assert same(here.begin(*begin), shared.begin(*begin))
    for i, action in enumerate(ACTIONS):
        assert same(here.step(action, render=i % 2 == 0), shared.step(action, render=i % 2 == 0))
    assert same(here.drive(0.4, 0.2, 0.1), shared.drive(0.4, 0.2, 0.1))
    assert np.array_equal(here.path((3.0, 2.0, 1.0)), shared.path((3.0, 2.0, 1.0)))


def test_pictures_stay_what_they_were(shared) -> None:
    first = shared.begin("plane", (0.0, 0.0, 0.0), 0.0, GOALS)
    second = shared.step("forward")
    assert first.images["rgb"].max() == 0 and second.images["rgb"].min() == 1
    second.images["rgb"][:] = 9
    assert shared.step("forward").images["rgb"].max() == 2


def test_what_the_simulator_refuses_arrives_as_it_was_raised(shared) -> None:
    shared.begin("plane", (0.0, 0.0, 0.0), 0.0, GOALS)
    pid = shared.pid
    with pytest.raises(DataError, match="no such building") as caught:
        shared.begin("nowhere", (0.0, 0.0, 0.0), 0.0, GOALS)
    assert (caught.value.got, caught.value.exists, caught.value.run) == ("nowhere", ("plane",), "look elsewhere")
    shared.begin("bug", (0.0, 0.0, 0.0), 0.0, GOALS)
    with pytest.raises(RobotError, match="KeyError: 'lost'"):
        shared.step("forward")
    with pytest.raises(SpecError, match="Unknown move"):
        shared.step("jump")
    assert shared.pid == pid


def test_pictures_that_are_none_are_refused(shared) -> None:
    shared.begin("odd", (0.0, 0.0, 0.0), 0.0, GOALS)
    with pytest.raises(RobotError, match="thermal|badly where"):
        shared.step("forward")


# --- death --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scan", "words"),
    [("crash", "died of SIGSEGV"), ("exit", "ended with exit code 3"), ("lost", "answered nonsense")],
)
def test_a_crash_is_an_error_and_the_next_begin_mends_it(shared, scan, words) -> None:
    shared.begin(scan, (0.0, 0.0, 0.0), 0.0, GOALS)
    pid = shared.pid
    with pytest.raises(RobotError, match=words) as caught:
        shared.step("forward")
    assert ("last words" in str(caught.value)) == (scan == "crash")
    assert gone(pid) and not shared.running
    with pytest.raises(RobotError, match="not running"):
        shared.step("forward")
    assert shared.begin("plane", (0.0, 0.0, 0.0), 0.0, GOALS).distance == 3.0
    assert shared.pid != pid


def test_a_hang_ends_with_everything_it_started() -> None:
    simulator = start(timeout=1.0)
    simulator.begin("hang", (0.0, 0.0, 0.0), 0.0, GOALS)
    pid = simulator.pid
    with pytest.raises(RobotError, match="did not answer within 1 s"):
        simulator.step("forward")
    assert gone(pid)
    for _ in range(6000):  # killed, which a busy machine may take a while to carry out
        left = subprocess.run(["ps", "-eo", "sid,stat"], capture_output=True, text=True, check=True).stdout.split("\n")
        if not [line for line in left if line.split()[:1] == [str(pid)] and "Z" not in line]:
            return
        time.sleep(0.01)
    pytest.fail("something that the simulator started is still there")


def test_nothing_is_left_behind(tmp_path) -> None:
    def held():
        gc.collect()
        return sorted(os.readlink(f) for f in Path("/proc/self/fd").iterdir() if f.is_symlink())

    before, note = held(), tmp_path / "note"
    simulator = start(arguments={"note": str(note)})
    simulator.begin("plane", (0.0, 0.0, 0.0), 0.0, GOALS)
    pid = simulator.pid
    simulator.close()
    simulator.close()
    assert note.read_text() == "closed\n"
    dropped = start()
    dropped.begin("plane", (0.0, 0.0, 0.0), 0.0, GOALS)
    other = dropped.pid
    del dropped
    assert gone(pid) and gone(other) and held() == before


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel of Linux ends the orphan")
def test_a_killed_client_takes_even_a_stubborn_simulator_along() -> None:
    code = f"""
import sys, threading, time
from wayhand.envs.remote import RemoteSimulator
simulator = RemoteSimulator([sys.executable], {FACTORY!r}, paths=[{str(HERE)!r}])
simulator.begin("plane", (0, 0, 0), 0, [])
print(simulator.pid, flush=True)
simulator.begin("stubborn", (0, 0, 0), 0, [])
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as client:
        assert client.stdout is not None
        pid = int(client.stdout.readline())
        time.sleep(0.3)
        client.send_signal(signal.SIGKILL)
    assert gone(pid)


# --- nonsense -----------------------------------------------------------------------------------------------------

FAKE = """
import json, socket, struct, sys
link = socket.socket(fileno=json.loads(sys.argv[-1])["arguments"][0])
header = struct.Struct("<4sHHII")
def answer(kind, payload, magic=b"WYNS", number=None, length=None):
    global last
    number, length = last if number is None else number, len(payload) if length is None else length
    link.sendall(header.pack(magic, 1, kind, number, length))
    link.sendall(payload)
def read():
    global last
    _, _, kind, last, length = header.unpack(link.recv(header.size, socket.MSG_WAITALL))
    link.recv(length, socket.MSG_WAITALL)
read(); answer(65, b"{}")
read()
"""
STATE = "struct.pack('<6d?', 0, 0, 0, 0, 0, 1, 0)"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("answer(66, b'', magic=b'HTTP')", "cannot be read"),
        ("answer(66, b'', length=2**31)", "cannot be read"),
        ("answer(66, b'', number=77)", "another request"),
        ("answer(67, b'')", "something else"),
        ("answer(66, b'short')", "too short"),
        (f"answer(66, {STATE} + b'nonsense')", "badly where"),
        (f"answer(66, {STATE} + b'[[\"rgb\", [2, 2, 3], 1000000000]]')", "does not fit"),
        (f"answer(66, {STATE} + b'[[\"rgb\", [-2, 2, 3], 0]]')", "does not fit"),
        (f"answer(66, {STATE} + b'[[\"passwords\", [2, 2], 0]]')", "badly where"),
        ("answer(68, b'{\"kind\": 1}')", "other fields"),
        ("link.sendall(b'WYNS')", "exit code 0"),
    ],
)
def test_nonsense_is_an_error(tmp_path, line, words) -> None:
    (tmp_path / "fake.py").write_text(FAKE + line)
    simulator = RemoteSimulator([sys.executable, "-S", str(tmp_path / "fake.py")], FACTORY, timeout=20.0)
    with pytest.raises(RobotError, match=words):
        simulator.begin("plane", (0.0, 0.0, 0.0), 0.0, GOALS)
    assert not simulator.running


def test_a_python_that_is_not_there() -> None:
    with pytest.raises(ConfigError, match="cannot be started"):
        RemoteSimulator(["/nowhere/python"], FACTORY).begin("plane", (0, 0, 0), 0, [])
    with pytest.raises(ConfigError, match="needs a Python"):
        RemoteSimulator([], FACTORY)
    simulator = RemoteSimulator([sys.executable], "no_such_module:Thing")
    with pytest.raises(RobotError, match="no_such_module"):
        simulator.begin("plane", (0, 0, 0), 0, [])
    assert not simulator.running


# --- the wire -----------------------------------------------------------------------------------------------------

numbers = st.floats(allow_nan=False, allow_infinity=False)


@given(st.tuples(numbers, numbers, numbers), st.lists(st.tuples(numbers, numbers, numbers), max_size=5), st.booleans())
def test_what_is_packed_comes_back(point, points, flag) -> None:
    assert remote_wire.unpack_point(remote_wire.pack_point(point)) == point
    assert remote_wire.unpack_drive(remote_wire.pack_drive(*point, flag)) == (*point, flag)
    path = np.array(points, float).reshape(-1, 3)
    assert np.array_equal(remote_wire.unpack_corners(remote_wire.pack_corners(path)), path)
    told = remote_wire.pack_json({"points": points})
    assert remote_wire.unpack_points(remote_wire.unpack_json(told, {"points": list})["points"]) == points


@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_refused(data: bytes) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(data)
        ours.shutdown(socket.SHUT_WR)
        with pytest.raises((remote_wire.WireError, EOFError)):
            any(remote_wire.receive(theirs)[0] < 0 for _ in range(len(data) + 1))
    for read in (
        lambda: remote_wire.unpack_step(data),
        lambda: remote_wire.unpack_corners(data),
        lambda: remote_wire.unpack_json(data, {"kind": str}),
        lambda: remote_wire.unpack_state(data, remote_wire.Pictures(bytearray(64))),
    ):
        try:
            read()
        except remote_wire.WireError:
            pass


def test_infinite_distances_travel() -> None:
    pictures = remote_wire.Pictures(bytearray(64))
    state = NavState((1.0, 2.0, 3.0), 4.0, 5.0, True, math.inf)
    assert remote_wire.unpack_state(remote_wire.pack_state(state, pictures), pictures) == state


@pytest.mark.parametrize("module", ["remote_server.py", "habitat_simulator.py"])
def test_what_the_other_python_imports_is_little(module) -> None:
    """What runs there reads on Python 3.9 and needs numpy and the standard library alone."""
    folder = Path(remote.__file__).parent
    todo, seen = [folder / module], set()
    while todo:
        file = todo.pop()
        seen.add(file.name)
        for node in ast.walk(ast.parse(file.read_text(), feature_version=(3, 9))):
            if isinstance(node, ast.ImportFrom) and node.level:
                root = folder.parents[node.level - 2] if node.level > 1 else folder
                base = root / Path(*(node.module or "").split("."))
                files = [base.with_suffix(".py")] if node.module else []
                files += [base / f"{a.name}.py" for a in node.names]
                todo += [f for f in files if f.exists() and f.name not in seen]
            elif isinstance(node, (ast.Import, ast.ImportFrom)):
                names = [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module or ""]
                for name in names:
                    top = name.split(".")[0]
                    assert top in sys.stdlib_module_names or top == "numpy", f"{file.name} imports {name}"
    assert seen >= {module, "navigation_state.py", "errors.py"}


def test_runs_on_another_python() -> None:
    other = os.environ.get("WAYHAND_HABITAT_PYTHON")
    if not other:
        pytest.skip("WAYHAND_HABITAT_PYTHON names no other Python")
    simulator = RemoteSimulator([other], FACTORY, paths=[HERE])
    assert simulator.begin("plane", (0.0, 0.0, 0.0), 0.0, GOALS).distance == 3.0
    simulator.close()


def test_the_arguments_are_json() -> None:
    with pytest.raises(TypeError):
        start(arguments={"size": object()}).begin("plane", (0, 0, 0), 0, [])
    assert json.loads(remote_wire.pack_json({"size": 3}))["size"] == 3
