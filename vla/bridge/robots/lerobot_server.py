"""Serves one robot of the lerobot package, in lerobot's own Python environment, to a driver in ours.

This one file is all that the other environment needs: it stands on the standard library and numpy, and imports
lerobot (https://github.com/huggingface/lerobot) only to build the robot. `lerobot.LeRobotDriver` starts it by path on a
socket that the two inherit; by hand it listens on loopback or on a Unix socket:

    WAYHAND_TOKEN=… python lerobot_server.py --listen 127.0.0.1:7010 --config '{"type": "so101_follower", "port": …}'

A message is two lengths (uint32, little-endian), a JSON object, and the bytes of the arrays that it describes. Nothing
in it is ever executed, and every length is checked before anything is built. The robot is used by one thread alone:
lerobot's buses are not made for more.
"""

from __future__ import annotations

import argparse
import hashlib
import hmac
import importlib
import json
import os
import pkgutil
import secrets
import socket
import struct
import sys
import threading
import time
from typing import Any

import numpy as np

VERSION = 1
LARGEST = 64 << 20
"""Bytes of the arrays of one message."""
LONGEST_HEAD = 1 << 20
DTYPES = ("uint8", "float32", "float64", "int32")
HOLD_POLL = 0.002
"""Longest wait for a command between two looks at the clock [s]."""
_LENGTHS = struct.Struct("<II")


class ProtocolError(Exception):
    """What arrived is no message."""


# --- messages --------------------------------------------------------------------------------------------------


def pack(message: dict[str, Any], arrays: dict[str, np.ndarray] | None = None) -> bytes:
    """One message; `message` in JSON types."""
    parts, about = [], []
    for name, array in (arrays or {}).items():
        array = np.ascontiguousarray(array)
        if array.dtype.name not in DTYPES:
            raise ProtocolError(f"an array of {array.dtype.name} cannot travel")
        parts.append(array.tobytes())
        about.append([name, array.dtype.name, list(array.shape)])
    head = json.dumps({**message, "arrays": about}).encode()
    body = b"".join(parts)
    if len(head) > LONGEST_HEAD or len(body) > LARGEST:
        raise ProtocolError("a message is too long")
    return _LENGTHS.pack(len(head), len(body)) + head + body


def receive(link: socket.socket) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The next message, its arrays read-only. Raises `ProtocolError`, or `EOFError` where the other end is gone."""
    head_size, body_size = _LENGTHS.unpack(_exactly(link, _LENGTHS.size))
    if head_size > LONGEST_HEAD or body_size > LARGEST:
        raise ProtocolError("a message is too long")
    head, body = _exactly(link, head_size), _exactly(link, body_size)
    try:
        message = json.loads(head)
    except (ValueError, RecursionError) as error:
        raise ProtocolError("a message is no JSON") from error
    if not isinstance(message, dict):
        raise ProtocolError("a message is no object")
    return message, _arrays(message.pop("arrays", None), body)


def _arrays(about: Any, body: bytes) -> dict[str, np.ndarray]:
    arrays: dict[str, np.ndarray] = {}
    at = 0
    if not isinstance(about, list):
        raise ProtocolError("a message does not say what arrays it has")
    for row in about:
        fits = isinstance(row, list) and len(row) == 3 and isinstance(row[0], str) and row[1] in DTYPES
        shape = row[2] if fits else None
        if (
            not isinstance(shape, list)
            or len(shape) > 4
            or not all(type(n) is int and 0 <= n <= LARGEST for n in shape)
        ):
            raise ProtocolError("an array is not described as it must be")
        size = np.dtype(row[1]).itemsize
        for n in shape:
            size *= n
        if at + size > len(body):
            raise ProtocolError("an array is cut short")
        arrays[row[0]] = np.frombuffer(body[at : at + size], row[1]).reshape(shape)
        at += size
    if at != len(body):
        raise ProtocolError("a message holds more than its arrays")
    return arrays


def _exactly(link: socket.socket, size: int) -> bytes:
    data = bytearray(size)
    view = memoryview(data)
    while size:
        got = link.recv_into(view[-size:], size)
        if not got:
            raise EOFError
        size -= got
    return bytes(data)


# --- who may talk to us ----------------------------------------------------------------------------------------


def answer(token: str, nonce: str) -> str:
    """What proves to know `token`, which itself never travels."""
    return hmac.new(token.encode(), nonce.encode(), hashlib.sha256).hexdigest()


def admit(link: socket.socket, token: str) -> bool:
    """Whether the client proves the token."""
    nonce = secrets.token_hex(16)
    link.settimeout(5.0)
    try:
        link.sendall(pack({"version": VERSION, "nonce": nonce}))
        message, _ = receive(link)
    except (OSError, ProtocolError, EOFError):
        return False
    proof = message.get("proof")
    link.settimeout(None)
    return isinstance(proof, str) and hmac.compare_digest(proof.encode(), answer(token, nonce).encode())


# --- the robot -------------------------------------------------------------------------------------------------


def build(config: dict[str, Any], modules: list[str]) -> Any:
    """The robot of a configuration, through lerobot's own registry."""
    known: Any = importlib.import_module("lerobot.robots.config").RobotConfig
    for module in modules:
        importlib.import_module(module)
    importlib.import_module("lerobot.utils.import_utils").register_third_party_plugins()
    _register("lerobot.cameras")
    if config.get("type") not in known.get_known_choices():
        _register("lerobot.robots")
    made = importlib.import_module("draccus").decode(known, config)
    return importlib.import_module("lerobot.robots.utils").make_robot_from_config(made)


def _register(package: str) -> None:
    """Import what registers its configuration; what lacks an optional package of its own stays unknown."""
    for found in pkgutil.iter_modules(importlib.import_module(package).__path__):
        if found.ispkg:
            try:
                importlib.import_module(f"{package}.{found.name}")
            except ImportError:
                pass


def described(features: dict[str, Any]) -> dict[str, Any]:
    """lerobot's features in JSON: a number is `"float"`, an image its shape."""
    return {name: list(f) if isinstance(f, tuple) else "float" for name, f in features.items()}


class Server:
    """One robot for one client.

    Args:
        robot: of lerobot, connected.
        rate_hz: of its observations.
    """

    def __init__(self, robot: Any, rate_hz: float) -> None:
        self._robot, self._dt = robot, 1.0 / rate_hz
        self._numbers = [n for n, f in robot.observation_features.items() if not isinstance(f, tuple)]
        self._pictures = [n for n, f in robot.observation_features.items() if isinstance(f, tuple)]
        self._commands = list(robot.action_features)
        self._changed = threading.Condition()
        self._newest: np.ndarray | None = None
        self._ended = ""

    def serve(self, link: socket.socket) -> str:
        """Until the client leaves or is gone; which of the two: `bye` or why."""
        about = {
            "version": VERSION,
            "name": str(getattr(self._robot, "name", "")),
            "observation": described(self._robot.observation_features),
            "action": described(self._robot.action_features),
        }
        link.sendall(pack(about))
        reader = threading.Thread(target=self._listen, args=(link,), daemon=True)
        reader.start()
        due = time.monotonic()
        while not self._ended:
            with self._changed:
                if self._newest is None and not self._ended:
                    self._changed.wait(max(min(due - time.monotonic(), HOLD_POLL), 0.0))
                command, self._newest = self._newest, None
            now = time.monotonic()
            told = self._turn(command, observe=now >= due)
            due = max(due + self._dt, now) if now >= due else due
            try:
                link.sendall(told)
            except OSError:
                reader.join(1.0)  # it may have left in order, and what it said last is still to be read
                return self._ended or "the client is gone"
        return self._ended

    def _turn(self, command: np.ndarray | None, observe: bool) -> bytes:
        """Command the robot, observe it, and tell what there is to tell."""
        try:
            if command is not None:
                self._robot.send_action(dict(zip(self._commands, command.tolist(), strict=True)))
            return self._observation() if observe else b""
        except Exception as error:  # whatever a robot raises is the client's to know
            return pack({"error": f"{type(error).__name__}: {error}"[:500]})

    def _observation(self) -> bytes:
        before = time.monotonic()
        values = self._robot.get_observation()
        state = np.array([float(values[name]) for name in self._numbers], np.float64)
        pictures = {name: np.asarray(values[name], np.uint8) for name in self._pictures}
        return pack({"time": before}, {"state": state, **pictures})

    def _listen(self, link: socket.socket) -> None:
        try:
            while not self._ended:
                message, arrays = receive(link)
                if message.get("op") == "bye":
                    self._end("bye")
                elif message.get("op") == "send":
                    self._take(arrays.get("action"))
                else:
                    raise ProtocolError("an unknown request")
        except (OSError, EOFError):
            self._end("the client is gone")
        except ProtocolError as error:
            self._end(f"the client sends nonsense: {error}")

    def _take(self, action: np.ndarray | None) -> None:
        if action is None or action.shape != (len(self._commands),) or not np.isfinite(action).all():
            raise ProtocolError("a command must be finite, one number per motor")
        with self._changed:
            self._newest = action
            self._changed.notify()

    def _end(self, why: str) -> None:
        with self._changed:
            self._ended = self._ended or why
            self._changed.notify()


# --- as a program ----------------------------------------------------------------------------------------------


def listening(address: str) -> socket.socket:
    """A socket that accepts on a Unix path or on loopback: dates are those of this machine's clock."""
    if address.startswith("/"):
        link = socket.socket(socket.AF_UNIX)
        before = os.umask(0o177)
        try:
            link.bind(address)
        finally:
            os.umask(before)
    else:
        host, _, port = address.rpartition(":")
        if host not in ("127.0.0.1", "localhost"):
            raise SystemExit("The server listens on 127.0.0.1 or a Unix socket only: its driver is on the same machine")
        link = socket.create_server((host, int(port)))
    link.listen(1)
    return link


def main() -> int:
    parser = argparse.ArgumentParser(description="Serve one robot of the lerobot package.")
    parser.add_argument("--config", required=True, help="the robot's configuration, JSON with its type")
    parser.add_argument("--module", action="append", default=[], help="imported first, to register a robot")
    parser.add_argument("--rate", type=float, default=30.0, help="observations per second")
    parser.add_argument("--fd", type=int, help="an inherited socket")
    parser.add_argument("--listen", help="HOST:PORT on loopback, or the path of a Unix socket")
    args = parser.parse_args()
    token = os.environ.pop("WAYHAND_TOKEN", "")
    if (args.fd is None) == (args.listen is None) or (args.listen is not None and len(token) < 16):
        raise SystemExit("Either --fd, or --listen with a WAYHAND_TOKEN of 16 characters or more")
    robot = None
    try:
        link = socket.socket(fileno=args.fd) if args.listen is None else accepted(args.listen, token)
        robot = connected(json.loads(args.config), args.module, link)
        ended = Server(robot, args.rate).serve(link) if robot is not None else "no robot"
    except KeyboardInterrupt:
        ended = "bye"
    if robot is None:
        return 1
    if ended == "bye":
        robot.disconnect()
        return 0
    print(f"{ended}: the motors hold their last goal", file=sys.stderr, flush=True)
    os._exit(3)  # leaving in order would disconnect the robot, which may let its arm fall


def accepted(address: str, token: str) -> socket.socket:
    """The first client that proves the token."""
    with listening(address) as door:
        print(f"listening on {address}", flush=True)
        while True:
            link, _ = door.accept()
            if admit(link, token):
                return link
            link.close()


def connected(config: dict[str, Any], modules: list[str], link: socket.socket) -> Any:
    """The robot, or None after the client was told why there is none."""
    try:
        robot = build(config, modules)
        robot.connect(calibrate=False)
        if not robot.is_calibrated:
            robot.disconnect()
            raise RuntimeError(f"the robot is not calibrated: lerobot-calibrate --robot.type={config.get('type')} …")
        return robot
    except Exception as error:
        link.sendall(pack({"error": f"{type(error).__name__}: {error}"[:2000]}))
        return None


if __name__ == "__main__":
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [p for p in sys.path if os.path.abspath(p) != here]  # our modules beside this file are not lerobot's
    sys.exit(main())
