"""Any robot of the lerobot package as a driver: lerobot stays in a Python environment of its own.

    driver = "lerobot"

    [lerobot]
    python = "/home/me/lerobot/bin/python"       # that environment's; or address = "127.0.0.1:7010"
    modules = []                                 # imported there first, to register a robot of your own
    rate_hz = 30.0                               # of observations

    [lerobot.config]                             # as on lerobot's command line: --robot.type=… --robot.port=…
    type = "so101_follower"
    port = "/dev/ttyACM0"
    id = "follower"

    [lerobot.features]                           # where a joint is not called <joint>.pos there
    gripper = "gripper.pos"

Its numbers are lerobot's (degrees, or percent of the range); `[calibration.<joint>]` turns them into rad and m.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ...contract import EnvSpec, Observation
from ...errors import ConfigError, RobotError
from ..clock import Clock
from ..limits import Limits
from ..tokens import VARIABLE, read_token
from . import lerobot_server
from .driver import PositionDriver
from .lerobot_server import ProtocolError, answer, pack, receive
from .robot_file import RobotFile

_KEYS = ("python", "address", "token_file", "modules", "rate_hz", "config", "features", "patience")


@dataclass(frozen=True, kw_only=True)
class Environment:
    """Where lerobot lives.

    Args:
        python: interpreter of its environment; the server is started there and ends with us.
        address: `HOST:PORT` or path of a server that is already running; it asks for the token.
        token: the secret of that server.
        modules: imported there first.
        rate_hz: of observations.
        config: of the robot, with its `type`.
        patience: until the robot must answer [s].

    Raises `ConfigError` unless exactly one of `python` and `address` is given.
    """

    python: str | None = None
    address: str | None = None
    token: str | None = None
    modules: Sequence[str] = ()
    rate_hz: float = 30.0
    config: Mapping[str, Any] = field(default_factory=dict)
    patience: float = 60.0

    def __post_init__(self) -> None:
        if (self.python is None) == (self.address is None):
            raise ConfigError(
                "A lerobot robot needs the interpreter of its environment, or a server's address",
                expected="[lerobot] python or address",
                got=f"{self.python!r}, {self.address!r}",
            )
        if self.python is not None and not os.access(self.python, os.X_OK):
            raise ConfigError("There is no such Python interpreter", got=self.python, run="[lerobot] python = …")


class LeRobotDriver(PositionDriver):
    """One robot of lerobot.

    Args:
        spec, limits: in lerobot's numbers; cameras have the names of lerobot's.
        environment: where it lives.
        features: joint → name of its feature; `<joint>.pos` where it is not there.
    """

    def __init__(
        self,
        *,
        spec: EnvSpec,
        limits: Limits,
        environment: Environment,
        features: Mapping[str, str] | None = None,
        clock: Clock | None = None,
    ) -> None:
        super().__init__(spec=spec, limits=limits, clock=clock)
        self._environment, self._features = environment, dict(features or {})
        self._process: subprocess.Popen[bytes] | None = None
        self._link: socket.socket | None = None
        self._listener: threading.Thread | None = None
        self._newest: Observation | None = None
        self._fresh = threading.Event()
        self._fault = ""
        self._state: list[int] = []
        self._action: list[int] = []

    def connect(self) -> None:
        """Start the server or reach it, and match joints and cameras by name."""
        self._link = self._reach()
        self._link.settimeout(self._environment.patience)
        about = self._receive(self._link)[0]
        if "error" in about:
            raise RobotError("lerobot cannot give us its robot", got=str(about["error"]))
        if about.get("version") != lerobot_server.VERSION:
            raise RobotError("The server speaks another version", expected=str(lerobot_server.VERSION), got=str(about))
        self._match(about)
        self._link.settimeout(None)
        self._listener = threading.Thread(target=self._listen, args=(self._link,), name="lerobot", daemon=True)
        self._listener.start()
        if not self._fresh.wait(self._environment.patience) or self._fault:
            raise RobotError("The lerobot robot does not tell where it is", got=self._fault or "nothing")

    def read(self) -> Observation:
        """The newest observation; `RobotError` where the server failed or is gone."""
        if self._fault:
            raise RobotError("The lerobot robot failed", got=self._fault)
        if self._newest is None:
            raise RobotError("The lerobot robot has not said anything yet")
        return self._newest

    def send(self, positions: np.ndarray) -> None:
        if self._link is None or self._fault:
            raise RobotError("The lerobot robot cannot be told anything", got=self._fault or "not connected")
        action = np.zeros(len(self._action))
        action[self._action] = positions
        try:
            self._link.sendall(pack({"op": "send"}, {"action": action}))
        except OSError as error:
            raise RobotError("The lerobot robot is gone", got=type(error).__name__) from error

    def close(self) -> None:
        """Disconnect the robot as lerobot does, with torque off where its configuration says so."""
        self._leave()
        if self._process is not None:
            try:
                self._process.wait(10.0)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        if self._listener is not None:
            self._listener.join(5.0)  # ends with the server's end of the line
        if self._link is not None:
            self._link.close()

    def _leave(self) -> None:
        if self._link is not None:
            try:
                self._link.sendall(pack({"op": "bye"}))
                self._link.shutdown(socket.SHUT_WR)
            except OSError:
                pass

    # --- reaching it ---

    def _reach(self) -> socket.socket:
        there = self._environment
        if there.python is None:
            return self._dial(str(there.address))
        ours, theirs = socket.socketpair()
        command = [there.python, str(Path(lerobot_server.__file__)), "--fd", str(theirs.fileno())]
        command += ["--rate", str(there.rate_hz), "--config", json.dumps(dict(there.config))]
        command += [word for module in there.modules for word in ("--module", module)]
        environment = {k: v for k, v in os.environ.items() if k != VARIABLE}
        with theirs:
            # A session of its own: Ctrl-C is for us, who stop the robot before they let it go.
            self._process = subprocess.Popen(
                command,
                pass_fds=[theirs.fileno()],
                env=environment,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        return ours

    def _dial(self, address: str) -> socket.socket:
        token = self._environment.token
        if token is None:
            raise ConfigError("A lerobot server asks for a token", run=f"set {VARIABLE}, or token_file in [lerobot]")
        host, _, port = address.rpartition(":")
        link = socket.socket(socket.AF_UNIX if address.startswith("/") else socket.AF_INET)
        link.settimeout(self._environment.patience)
        try:
            link.connect(address if address.startswith("/") else (host, int(port)))
            nonce = self._receive(link)[0].get("nonce")
            link.sendall(pack({"proof": answer(token, str(nonce))}))
        except (OSError, ValueError) as error:
            link.close()
            raise RobotError("No lerobot server answers", got=f"{address}: {error}") from error
        return link

    def _receive(self, link: socket.socket) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        try:
            return receive(link)
        except (OSError, EOFError, ProtocolError) as error:
            what = "The lerobot server does not answer"
            raise RobotError(what, got=f"{type(error).__name__}: {error}", run="see what it printed above") from error

    def _match(self, about: Mapping[str, Any]) -> None:
        senses, acts = about["observation"], list(about["action"])
        numbers = [name for name, f in senses.items() if f == "float"]
        self._state = [self._index(e.name, numbers) for e in self.spec.state]
        self._action = [self._index(e.name, acts) for e in self.spec.action_elements]
        if unmoved := [name for k, name in enumerate(acts) if k not in self._action]:
            raise ConfigError("Every motor of the robot needs a joint", expected=", ".join(unmoved), exists=acts)
        for camera in self.spec.cameras:
            shape = senses.get(camera.name)
            if shape != [camera.height, camera.width, 3]:
                pictures = [f"{n} {f}" for n, f in senses.items() if f != "float"]
                raise ConfigError(f"Camera '{camera.name}' is not lerobot's", got=str(shape), exists=pictures)

    def _index(self, joint: str, features: Sequence[str]) -> int:
        feature = self._features.get(joint, f"{joint}.pos")
        if feature not in features:
            run = "[lerobot.features] names the feature of a joint"
            raise ConfigError(f"lerobot has no feature of joint '{joint}'", got=feature, exists=features, run=run)
        return list(features).index(feature)

    # --- what it says ---

    def _listen(self, link: socket.socket) -> None:
        try:
            while True:
                message, arrays = receive(link)
                if "error" in message:
                    self._fault = str(message["error"])[:500]
                else:
                    self._newest = self._observation(float(message["time"]), arrays)
                self._fresh.set()
        except (OSError, EOFError, ProtocolError, LookupError, TypeError, ValueError) as error:
            self._fault = self._fault or f"{type(error).__name__}: {error}"
            self._fresh.set()

    def _observation(self, t: float, arrays: Mapping[str, np.ndarray]) -> Observation:
        state = arrays["state"][self._state].astype(np.float32)
        images = {c.name: arrays[c.name] for c in self.spec.cameras}
        return Observation({"state": t, **dict.fromkeys(images, t)}, images, state)


def lerobot_robot(file: RobotFile) -> LeRobotDriver:
    """The driver of a robot's file, in raw joints. Raises `ConfigError` for a key that is not known."""
    options = dict(file.options)
    if odd := [k for k in options if k not in _KEYS]:
        raise ConfigError(f"Unknown key in [lerobot] of {file.path}", got=", ".join(odd), exists=_KEYS)
    features, token_file = options.pop("features", {}), options.pop("token_file", None)
    token = None
    if "address" in options:
        token = read_token(None if token_file is None else Path(token_file))
    environment = Environment(**options, token=token)
    return LeRobotDriver(spec=file.spec, limits=file.raw_limits, environment=environment, features=features)
