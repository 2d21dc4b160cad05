"""The lerobot robot: its protocol with a robot that only looks like lerobot's, and once lerobot itself.

The latter runs where WAYHAND_LEROBOT_PYTHON names the interpreter of an environment that has lerobot.
"""

from __future__ import annotations

import json
import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wayhand.scripts.robots import FileRobot
from wayhand.vla.bridge.limits import Limits
from wayhand.vla.bridge.robots import lerobot_server
from wayhand.vla.bridge.robots.conformance import inspect
from wayhand.vla.bridge.robots.driver import Driver
from wayhand.vla.bridge.robots.exercise import exercise
from wayhand.vla.bridge.robots.lerobot import Environment, LeRobotDriver
from wayhand.vla.bridge.robots.lerobot_server import ProtocolError, Server, accepted, pack, receive
from wayhand.vla.bridge.sensors import Plausibility
from wayhand.vla.contract import ActionGroup, Camera, Element, EnvSpec
from wayhand.vla.errors import ConfigError, RobotError

LEROBOT = os.environ.get("WAYHAND_LEROBOT_PYTHON", "")
TOKEN = "a token of sixteen or more"
NAMES = ("shoulder", "elbow")
JOINTS = tuple(Element(n, "deg") for n in NAMES)
SPEC = EnvSpec(
    embodiment="two-joints",
    control_dt=0.05,
    cameras=(Camera("front", 4, 6, 1.0, 1.0, 3.0, 2.0),),
    state=JOINTS[::-1],  # another order than the robot's
    action=(ActionGroup("arm", "joint_position", JOINTS[::-1], (-90.0, -90.0), (90.0, 90.0)),),
)
LIMITS = Limits(NAMES, np.full(2, -90.0), np.full(2, 90.0), np.full(2, 200.0), np.full(2, 2000.0))
LATE = Plausibility(late=5.0)  # a busy machine is not what is tested here
TIMED = {"state rate", "state latency", "camera 'front'"}


class Motors:
    """What the server uses of a robot of lerobot: two joints that are where they were sent."""

    name = "motors"
    observation_features = {"shoulder.pos": float, "elbow.pos": float, "front": (4, 6, 3)}
    action_features = {"shoulder.pos": float, "elbow.pos": float}

    def __init__(self) -> None:
        self.at = {"shoulder.pos": 10.0, "elbow.pos": -20.0}
        self.sent: list[dict[str, float]] = []
        self.broken = False
        self.threads: set[int] = set()

    def get_observation(self) -> dict[str, Any]:
        self.threads.add(threading.get_ident())
        if self.broken:
            raise ConnectionError("the bus is unplugged")
        return {**self.at, "front": np.full((4, 6, 3), 40 + int(time.monotonic() * 50) % 200, np.uint8)}

    def send_action(self, action: dict[str, float]) -> dict[str, float]:
        self.threads.add(threading.get_ident())
        self.sent.append(action)
        self.at = dict(action)
        return action


@contextmanager
def served(tmp_path: Path, motors: Motors) -> Iterator[tuple[Path, list[str]]]:
    """A server on a Unix socket; what it ended with is in the list."""
    path, ended = tmp_path / "robot", []

    def serve() -> None:
        with accepted(str(path), TOKEN) as link:
            ended.append(Server(motors, 50.0).serve(link))

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        until(path.exists)
        yield path, ended
    finally:
        thread.join(20.0)
        assert not thread.is_alive()


def until(true: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 20.0
    while not true():
        assert time.monotonic() < deadline, "nothing came"
        time.sleep(0.005)


def driver_at(path: Path, spec: EnvSpec = SPEC, token: str = TOKEN) -> LeRobotDriver:
    environment = Environment(address=str(path), token=token, patience=10.0)
    return LeRobotDriver(spec=spec, limits=LIMITS, environment=environment)


def test_joints_and_commands_are_matched_by_name_and_one_thread_has_the_robot(tmp_path: Path) -> None:
    motors = Motors()
    with served(tmp_path, motors) as (path, ended):
        driver = driver_at(path)
        driver.connect()
        observation = driver.read()
        observation.check(SPEC)
        np.testing.assert_allclose(observation.state, [-20.0, 10.0])
        assert 0 <= time.monotonic() - observation.time < 20.0
        assert not driver.read_state().images and set(driver.read_state().times) == {"state"}
        driver.command(np.array([-21.0, 11.0]), time.monotonic() + 1.0)
        until(lambda: motors.sent)
        assert motors.sent[0] == {"shoulder.pos": 11.0, "elbow.pos": -21.0}
        driver.stop()
        driver.command(np.array([0.0, 0.0]), time.monotonic() + 9.0)
        driver.close()
    assert ended == ["bye"] and len(motors.threads) == 1
    assert all(sent["elbow.pos"] < -20 for sent in motors.sent), "a stopped driver sends nothing new"


def test_it_conforms(tmp_path: Path) -> None:
    with served(tmp_path, Motors()) as (path, _):
        driver = driver_at(path)
        driver.connect()
        checks = inspect(driver, seconds=0.5, plausibility=LATE) + exercise(driver, amplitude=0.02)
        driver.close()
    assert {c.name: c.detail for c in checks if not c.passed and c.name not in TIMED} == {}


def test_a_robot_that_fails_is_told(tmp_path: Path) -> None:
    motors = Motors()
    with served(tmp_path, motors) as (path, _):
        driver = driver_at(path)
        driver.connect()
        motors.broken = True
        until(lambda: driver._fault)
        with pytest.raises(RobotError, match="bus is unplugged"):
            driver.read()
        with pytest.raises(RobotError, match="bus is unplugged"):
            driver.command(np.zeros(2), time.monotonic() + 1.0)
        with pytest.raises(RobotError, match="bus is unplugged"):
            driver.stop()
        driver.close()


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (replace(SPEC, state=(*JOINTS, Element("wrist", "deg"))), r"no feature of joint 'wrist'[\s\S]*elbow.pos"),
        (replace(SPEC, cameras=(replace(SPEC.cameras[0], height=5),)), r"Camera 'front'[\s\S]*\[4, 6, 3\]"),
        (replace(SPEC, action=(replace(SPEC.action[0], elements=JOINTS[:1], lower=(-9.0,), upper=(9.0,)),)),
         r"Every motor[\s\S]*elbow.pos"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named(tmp_path: Path, spec: EnvSpec, message: str) -> None:
    with served(tmp_path, Motors()) as (path, _):
        driver = driver_at(path, spec)
        with pytest.raises(ConfigError, match=message):
            driver.connect()
        driver.close()


def test_nobody_gets_the_robot_without_the_token(tmp_path: Path) -> None:
    with served(tmp_path, Motors()) as (path, ended):
        assert path.stat().st_mode & 0o077 == 0
        stranger = driver_at(path, token="another token of that length")
        with pytest.raises(RobotError, match="does not answer"):
            stranger.connect()
        stranger.close()
        raw = socket.socket(socket.AF_UNIX)
        with raw:
            raw.connect(str(path))
            receive(raw)
            raw.sendall(b"\x80\x04\x95 a pickle perhaps")
        driver = driver_at(path)
        driver.connect()
        driver.close()
    assert ended == ["bye"]
    with pytest.raises(ConfigError, match="asks for a token"):
        LeRobotDriver(spec=SPEC, limits=LIMITS, environment=Environment(address="/nowhere")).connect()
    with pytest.raises(SystemExit, match="same machine"):
        lerobot_server.listening("0.0.0.0:7010")


def test_a_client_that_dies_leaves_the_motors_where_they_are(tmp_path: Path) -> None:
    motors = Motors()
    with served(tmp_path, motors) as (path, ended):
        driver = driver_at(path)
        driver.connect()
        driver.command(np.array([-21.0, 11.0]), time.monotonic() + 5.0)
        until(lambda: motors.sent)
        assert driver._link is not None
        driver._link.shutdown(socket.SHUT_RDWR)
        until(lambda: ended)
        driver.close()
    assert ended == ["the client is gone"] and len(motors.sent) == 1


def both() -> tuple[socket.socket, socket.socket]:
    ours, theirs = socket.socketpair()
    ours.settimeout(5.0)
    theirs.settimeout(5.0)
    return ours, theirs


def test_messages_survive_the_wire() -> None:
    ours, theirs = both()
    with ours, theirs:
        arrays = {"state": np.arange(3.0), "front": np.arange(24, dtype=np.uint8).reshape(2, 4, 3), "no": np.zeros(0)}
        ours.sendall(pack({"time": 1.5, "word": "µ"}, arrays))
        message, again = receive(theirs)
        assert message == {"time": 1.5, "word": "µ"} and set(again) == set(arrays)
        for name, array in arrays.items():
            assert again[name].dtype == array.dtype and np.array_equal(again[name], array)
        with pytest.raises(ProtocolError, match="complex128"):
            pack({}, {"a": np.zeros(1, complex)})


def framed(head: bytes, body: bytes = b"") -> bytes:
    return struct.pack("<II", len(head), len(body)) + head + body


HOSTILE = [
    struct.pack("<II", 1 << 30, 0),
    struct.pack("<II", 2, (64 << 20) + 1) + b"{}",
    framed(b"[]"),
    framed(b"{"),
    framed(b"[" * 100_000),
    framed(b'{"arrays": 3}'),
    framed(b'{"arrays": [["a", "object", [1]]]}', bytes(8)),
    framed(b'{"arrays": [["a", "float64", [-1]]]}', bytes(8)),
    framed(b'{"arrays": [["a", "float64", [1, true]]]}', bytes(8)),
    framed(b'{"arrays": [["a", "float64", [999999999999, 999999999999]]]}', bytes(8)),
    framed(b'{"arrays": [["a", "float64", [1]]]}', bytes(16)),
    framed(b'{"arrays": [["a", "float64", [1, 1, 1, 1, 1]]]}', bytes(8)),
]


@pytest.mark.parametrize("raw", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_messages_are_refused(raw: bytes) -> None:
    ours, theirs = both()
    with ours, theirs:
        ours.sendall(raw)
        ours.shutdown(socket.SHUT_WR)
        with pytest.raises((ProtocolError, EOFError)):
            receive(theirs)


@given(st.binary(max_size=200), st.binary(max_size=64))
def test_no_bytes_do_more_than_be_refused(head: bytes, body: bytes) -> None:
    ours, theirs = both()
    with ours, theirs:
        ours.sendall(framed(head, body))
        try:
            receive(theirs)
        except ProtocolError:
            pass


# --- lerobot itself --------------------------------------------------------------------------------------------

TOML = """
embodiment = "two-joints"
driver = "lerobot"
control_hz = 20.0

[groups]
arm = ["shoulder", "elbow"]
hand = ["gripper"]

[units]
gripper = "m"

[limits.shoulder]
lower = -1.5
upper = 1.5
velocity = 2.0
acceleration = 20.0

[limits.elbow]
lower = -1.5
upper = 1.5
velocity = 2.0
acceleration = 20.0

[limits.gripper]
lower = 0.0
upper = 0.08
velocity = 0.1
acceleration = 2.0

[calibration.shoulder]
scale = 0.017453292519943295

[calibration.elbow]
sign = -1
scale = 0.017453292519943295

[calibration.gripper]
scale = 0.0008

[cameras.front]
height = 24
width = 32
fx = 20.0
fy = 20.0
cx = 16.0
cy = 12.0

[lerobot]
python = "PYTHON"
modules = ["lerobot_motors"]

[lerobot.config]
type = "motors"
MORE
"""


def real(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: str = "") -> Driver:
    if not LEROBOT or not Path(LEROBOT).exists():
        pytest.skip("no environment with lerobot: WAYHAND_LEROBOT_PYTHON=…/bin/python")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    monkeypatch.setenv("HF_LEROBOT_HOME", str(tmp_path / "lerobot"))
    path = tmp_path / "arm.toml"
    path.write_text(TOML.replace("PYTHON", LEROBOT).replace("MORE", more), encoding="utf-8")
    return FileRobot(file=str(path))()


def test_a_robot_of_lerobot_conforms_in_calibrated_joints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "log"
    driver = real(tmp_path, monkeypatch, f"log = {json.dumps(str(log))}")
    try:
        driver.connect()
        np.testing.assert_allclose(driver.read().state, [np.deg2rad(10), np.deg2rad(20), 0.04], atol=1e-3)
        checks = inspect(driver, seconds=0.5, plausibility=LATE) + exercise(driver, amplitude=0.02)
    finally:
        driver.close()
    assert {c.name: c.detail for c in checks if not c.passed and c.name not in TIMED} == {}
    assert log.read_text() == "disconnected\n"


def test_lerobot_says_why_it_has_no_robot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    driver = real(tmp_path, monkeypatch, "calibrated = false")
    with pytest.raises(RobotError, match="lerobot-calibrate"):
        driver.connect()
    driver.close()
