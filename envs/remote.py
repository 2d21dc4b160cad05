"""A simulator that lives in another Python: it may crash, hang or need old libraries, and the run goes on.

The other Python needs numpy and the simulator's own library, not this package: its few modules are brought along.
Moves travel through a socket pair, pictures through anonymous shared memory; both vanish with their processes, however
these end. The protocol is `remote_wire`.
"""

from __future__ import annotations

import fcntl
import json
import mmap
import os
import signal
import socket
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from ..vla import errors
from ..vla.errors import ConfigError, RobotError, SpecError, WayhandError
from . import remote_wire as wire
from .navigation_state import ACTIONS, NavState

# Packages are made by hand, since importing them properly would import what the other Python does not have.
_BOOT = """
import importlib, json, sys, types
told = json.loads(sys.argv[1])
for name, folder in told["packages"].items():
    package = types.ModuleType(name)
    package.__path__ = [folder] if folder else []
    sys.modules[name] = package
sys.path[:0] = told["paths"]
module, _, name = told["call"].partition(":")
getattr(importlib.import_module(module), name)(*told["arguments"])
"""
SERVER = "wayhand.envs.remote_server:serve"
_TAIL = 2000
_LONGEST_LOG = 1 << 20
_GRACE, _DYING = 10.0, 0.3
T = TypeVar("T")


class RemoteSimulator:
    """A `NavSimulator` in a process of another Python.

    What the simulator refuses arrives as the error it raised. Where its process ends, does not answer in time or
    answers nonsense, the process group is killed and a `RobotError` tells why, with the last words it printed; the next
    `begin` starts a new one. Not to be shared between threads or forked processes.

    Args:
        command: the other Python, e.g. `("/opt/conda/envs/habitat/bin/python",)`.
        factory: `"module:class"` that builds the simulator there, e.g. `"wayhand.envs.habitat:HabitatSimulator"`.
        arguments: its keyword arguments, plain JSON.
        patience: time to start and to load a building [s].
        timeout: time for a move or a path [s].
        paths: folders to import from there.
        environment: variables to set there; PYTHONPATH and PYTHONHOME are not inherited.
        memory: bytes for one step's pictures; only what is used is taken.
    """

    def __init__(
        self,
        command: Sequence[str],
        factory: str,
        arguments: Mapping[str, Any] | None = None,
        *,
        patience: float = 300.0,
        timeout: float = 60.0,
        paths: Sequence[str | Path] = (),
        environment: Mapping[str, str] | None = None,
        memory: int = 256 << 20,
    ) -> None:
        if not command or ":" not in factory:
            raise ConfigError(
                "A remote simulator needs a Python and the name of what it builds",
                expected="command=[python], factory='module:class'",
                got=f"command={list(command)}, factory='{factory}'",
            )
        self._command = tuple(map(str, command))
        self._hello = {"factory": factory, "arguments": dict(arguments or {})}
        self._patience, self._timeout, self._memory = patience, timeout, memory
        self._paths = [str(Path(p).resolve()) for p in paths]
        self._environment = dict(environment or {})
        self._server: _Server | None = None

    @property
    def running(self) -> bool:
        """Whether there is a process; it may yet turn out to have died."""
        return self._server is not None

    @property
    def pid(self) -> int | None:
        """Of the simulator's process."""
        return None if self._server is None else self._server.process.pid

    def begin(self, scan: str, position: Sequence[float], heading: float, goals: Sequence[Sequence[float]]) -> NavState:
        """See `NavSimulator`; starts the process where there is none."""
        told = {
            "scan": scan,
            "position": [float(c) for c in position],
            "heading": float(heading),
            "goals": [[float(c) for c in g] for g in goals],
        }
        if self._server is None:
            self._server = _Server(self._command, self._paths, self._environment, self._memory)
            self._ask(wire.HELLO, wire.pack_json(self._hello), wire.READY, self._patience, bytes)
        return self._ask(wire.BEGIN, wire.pack_json(told), wire.STATE, self._patience, self._state)

    def step(self, action: str, *, render: bool = True) -> NavState:
        """See `NavSimulator`."""
        if action not in ACTIONS:
            raise SpecError("Unknown move", got=action, exists=ACTIONS)
        return self._ask(wire.STEP, wire.pack_step(action, render), wire.STATE, self._timeout, self._state)

    def drive(self, forward: float, turn: float, seconds: float, *, render: bool = True) -> NavState:
        """See `NavSimulator`."""
        told = wire.pack_drive(forward, turn, seconds, render)
        return self._ask(wire.DRIVE, told, wire.STATE, self._timeout, self._state)

    def path(self, goal: Sequence[float]) -> np.ndarray:
        """See `NavSimulator`."""
        return self._ask(wire.PATH, wire.pack_point(goal), wire.CORNERS, self._timeout, wire.unpack_corners)

    def close(self) -> None:
        """End the process; a second call does nothing."""
        server, self._server = self._server, None
        if server is not None:
            server.close()

    def _state(self, payload: bytes) -> NavState:
        return wire.unpack_state(payload, self._started.pictures)

    @property
    def _started(self) -> _Server:
        if self._server is None:
            raise RobotError(
                "The simulator's process is not running", run="begin(scan, position, heading, goals) first"
            )
        return self._server

    def _ask(self, kind: int, payload: bytes, wanted: int, seconds: float, read: Callable[[bytes], T]) -> T:
        """Send a request, wait for its answer and read it; kill the process where that fails."""
        server = self._started
        try:
            answer, told = server.exchange(kind, payload, seconds)
            if answer == wire.FAILED:
                failure = wire.unpack_json(told, {"kind": str, "what": str, "more": dict})
            elif answer == wanted:
                return read(told)
            else:
                raise wire.WireError("The simulator answers something else", expected=str(wanted), got=str(answer))
        except BaseException as error:
            # Whatever interrupts an exchange, even Ctrl-C, leaves an answer under way that belongs to no request.
            self._server = None
            code, words = server.kill()
            why = _reason(error, seconds, code)
            if why is None:
                raise
            raise RobotError(
                f"The simulator's process {why}",
                got=words or "(it printed nothing)",
                run=f"{' '.join(self._command)} to see whether that Python works; begin() starts it again",
            ) from error
        if kind == wire.HELLO:
            self.close()
        raise _revived(failure)


class _Server:
    """One process with its socket, memory and log; ends with this object, at the latest with the interpreter."""

    def __init__(self, command: Sequence[str], paths: list[str], environment: Mapping[str, str], memory: int) -> None:
        with ExitStack() as kept, ExitStack() as given:
            ours, theirs = socket.socketpair()
            kept.enter_context(ours)
            given.enter_context(theirs)
            life, held = os.pipe()
            given.callback(os.close, life)
            kept.callback(os.close, held)
            handle = _anonymous(memory)
            given.callback(os.close, handle)
            log = kept.enter_context(tempfile.TemporaryFile(buffering=0))
            fcntl.fcntl(log, fcntl.F_SETFL, fcntl.fcntl(log, fcntl.F_GETFL) | os.O_APPEND)
            handles = (theirs.fileno(), handle, life)
            try:
                self.process = subprocess.Popen(
                    [*command, *invocation(SERVER, handles, paths)],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    pass_fds=handles,
                    env=clean_environment(environment),
                    start_new_session=True,
                )
            except OSError as error:
                raise ConfigError(
                    "The other Python cannot be started", expected="a program", got=f"{command[0]}: {error.strerror}"
                ) from error
            self.pictures = wire.Pictures(mmap.mmap(handle, memory))
            self._link, self._log, self._number = ours, log.fileno(), 0
            self._end = weakref.finalize(self, _release, self.process, kept.pop_all(), os.getpid())

    def exchange(self, kind: int, payload: bytes, seconds: float) -> tuple[int, bytes]:
        """Kind and payload of the answer to a request."""
        self._number = (self._number + 1) % 2**32
        if kind == wire.BEGIN and os.fstat(self._log).st_size > _LONGEST_LOG:
            os.ftruncate(self._log, 0)
        self._link.settimeout(seconds)
        wire.send(self._link, kind, self._number, payload)
        answer, number, told = wire.receive(self._link)
        if number != self._number:
            raise wire.WireError("The simulator answers another request", expected=str(self._number), got=str(number))
        return answer, told

    def close(self) -> None:
        """Let it close its simulator, then end it."""
        try:
            self.exchange(wire.CLOSE, b"", _GRACE)
        except (OSError, EOFError, WayhandError):
            pass
        self._end()

    def kill(self) -> tuple[int | None, str]:
        """End it at once. The exit code where it had ended on its own, and what it printed last."""
        try:
            code = self.process.wait(_DYING)
        except subprocess.TimeoutExpired:
            code = None
        size = os.fstat(self._log).st_size
        words = os.pread(self._log, _TAIL, max(size - _TAIL, 0)).decode(errors="replace").strip()
        self._end()
        return code, words


def _release(process: subprocess.Popen[bytes], kept: ExitStack, owner: int) -> None:
    """Kill the process with everything it started, and give back what belongs to it; not from a forked copy of us."""
    if os.getpid() == owner:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass
        process.wait()
    kept.close()


def _anonymous(size: int) -> int:
    """A file without a name: it is gone when nobody holds it any more."""
    if sys.platform != "linux":
        with tempfile.TemporaryFile() as file:
            file.truncate(size)
            return os.dup(file.fileno())
    handle = os.memfd_create("wayhand", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(handle, size)
    # A mapping that shrinks would kill who reads it.
    fcntl.fcntl(handle, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
    return handle


def invocation(
    call: str, arguments: Sequence[Any], paths: Sequence[str | Path] = (), more: Mapping[str, Path] | None = None
) -> list[str]:
    """What another Python is started with to call `"module:function"` with plain JSON arguments.

    It finds `wayhand.vla`, `wayhand.envs` and the packages of `more` in their folders; of these it can import what
    needs only what it has.
    """
    ours = {"wayhand": "", "wayhand.vla": Path(errors.__file__).parent, "wayhand.envs": Path(__file__).parent}
    packages = {**ours, **(more or {})}
    told = {
        "packages": {name: str(folder) for name, folder in packages.items()},
        "paths": [str(p) for p in paths],
        "call": call,
        "arguments": list(arguments),
    }
    return ["-c", _BOOT, json.dumps(told)]


def clean_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Our variables without those that tell a Python where its libraries are."""
    kept = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME")}
    return {**kept, "PYTHONUNBUFFERED": "1", **(extra or {})}


def _reason(error: BaseException, seconds: float, code: int | None) -> str | None:
    """What became of the process; None for an error that is not its fault."""
    if isinstance(error, TimeoutError):
        return f"did not answer within {seconds:g} s"
    if isinstance(error, wire.WireError):
        return f"answered nonsense: {error.what}"
    if isinstance(error, (EOFError, OSError)):
        if code is None:
            return "closed its socket"
        return f"died of {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    return None


def _revived(failure: Mapping[str, Any]) -> WayhandError:
    """The error the simulator raised; a `RobotError` where it is none of ours."""
    kind = getattr(errors, failure["kind"], None) if failure["kind"] else None
    raised = kind if isinstance(kind, type) and issubclass(kind, WayhandError) else None
    what = failure["what"] if raised else f"The simulator failed: {failure['what']}"
    more = failure["more"]
    text = {k: None if more.get(k) is None else str(more[k]) for k in ("expected", "got", "run")}
    exists = more.get("exists")
    names = [str(e) for e in exists] if isinstance(exists, list) else None
    return (raised or RobotError)(what, exists=names, **text)
