"""A pickle that would leave a trace, sent to every door and put into every file: no trace."""

from __future__ import annotations

import pickle
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from recorded_runs import record_stick
from serving import SPEC, Echo, observation, served
from test_client import attach, remote
from test_server import Raw

from wayhand.datasets.store import Dataset
from wayhand.scripts.recording import DatasetSink
from wayhand.vla import checkpoint
from wayhand.vla.bridge import wire
from wayhand.vla.bridge.cells import EmergencyStop
from wayhand.vla.bridge.console.panel import Panel
from wayhand.vla.bridge.console.proxy import _harmless
from wayhand.vla.bridge.console.talk import Talk
from wayhand.vla.bridge.description import compile_mjcf
from wayhand.vla.bridge.limit_files import from_toml, from_urdf
from wayhand.vla.bridge.robots.lerobot_server import ProtocolError, receive
from wayhand.vla.bridge.robots.robot_file import RobotFile
from wayhand.vla.bridge.tokens import read_token
from wayhand.vla.errors import WayhandError


class Trap:
    """Unpickling it would leave a trace."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> Any:
        return Path.touch, (self.trace,)


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    return tmp_path / "trace"


@pytest.fixture(params=[0, 2, pickle.HIGHEST_PROTOCOL])
def gadget(trace: Path, request: pytest.FixtureRequest) -> bytes:
    made = pickle.dumps(Trap(trace), protocol=request.param)
    pickle.loads(made)  # noqa: S301 - our own
    assert trace.exists(), "the trap works"
    trace.unlink()
    return made


def test_doors_run_nothing(gadget: bytes, trace: Path, tmp_path: Path) -> None:
    socket_path = tmp_path / "s"
    with served(Echo(), local=socket_path) as running:
        for frame in (gadget, wire.pack({"prompt": gadget})):
            with Raw(running.address) as client:
                client.hear()
                client.send(frame)
                assert isinstance(client.hear(), str)
        assert attach(socket_path, lambda link: link.sendall(gadget)) == b""
        with remote(running.address) as there:
            assert len(there.act([observation()], there.init(SPEC, [0]), rng=[])[0][0]) == 4, "it still serves"
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.settimeout(5.0)
        ours.sendall(gadget + bytes(64))
        with pytest.raises(ProtocolError):
            receive(theirs)
    panel, button = Panel(), EmergencyStop()
    try:
        talk = Talk(panel, button, {}, lambda text: None)
        assert talk._hear(None, gadget) == "This message is not one" and not _harmless(gadget)  # type: ignore[arg-type]
        assert not button.pressed and panel.starts == 0
    finally:
        panel.close()
        button.close()
    assert not trace.exists()


READERS: dict[str, Callable[[Path], object]] = {
    "robot": RobotFile.load, "limits": from_toml, "urdf": from_urdf, "mjcf": compile_mjcf, "token": read_token,
}  # fmt: skip


@pytest.mark.parametrize("reader", READERS)
def test_files_of_a_robot_run_nothing(gadget: bytes, trace: Path, tmp_path: Path, reader: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(gadget)
    path.chmod(0o600)
    with pytest.raises(WayhandError):
        READERS[reader](path)
    assert not trace.exists()


def test_a_recorded_run_and_a_checkpoint_run_nothing(gadget: bytes, trace: Path, tmp_path: Path) -> None:
    episode = record_stick()
    with DatasetSink(tmp_path / "runs")(episode.spec) as writer:
        writer.append(episode)
    whole = Dataset(tmp_path / "runs").hash()
    files = [p.relative_to(tmp_path / "runs") for p in (tmp_path / "runs").rglob("*") if p.is_file()]
    for k, name in enumerate(files):
        copy = tmp_path / f"copy{k}"
        shutil.copytree(tmp_path / "runs", copy)
        (copy / name).write_bytes(gadget)
        try:
            assert Dataset(copy).hash(verify=True) == whole, "nothing that is read was replaced"
        except WayhandError:
            pass
    for name in ("manifest.json", "model.safetensors", "data.pkl"):
        folder = tmp_path / "step-1"
        folder.mkdir(exist_ok=True)
        (folder / name).write_bytes(gadget)
        with pytest.raises(WayhandError):
            checkpoint.load(folder)
    assert not trace.exists()
