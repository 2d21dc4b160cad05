"""The side of `envs.remote` that runs beside the simulator. Imports on Python 3.9 with numpy alone."""

from __future__ import annotations

import fcntl
import importlib
import mmap
import os
import platform
import socket
import sys
import traceback
from typing import Any

from ..vla.errors import WayhandError
from . import remote_wire as wire
from .navigation_state import NavSimulator


def serve(link_fd: int, memory_fd: int, life_fd: int) -> None:
    """Build the simulator the client names and answer until it closes or is gone.

    Args:
        link_fd: a connected stream socket.
        memory_fd: memory for pictures, of the size it has.
        life_fd: reading end of a pipe nobody writes to; the client's death closes it.
    """
    _die_with(life_fd)
    with socket.socket(fileno=link_fd) as link:
        memory = mmap.mmap(memory_fd, os.fstat(memory_fd).st_size)
        os.close(memory_fd)
        _Service(link, wire.Pictures(memory)).run()


def _die_with(life_fd: int) -> None:
    """Have the kernel end this process when the pipe closes, even while a simulator's code holds the interpreter."""
    if sys.platform == "linux":
        # The default action of SIGIO is to terminate.
        fcntl.fcntl(life_fd, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(life_fd, fcntl.F_SETFL, fcntl.fcntl(life_fd, fcntl.F_GETFL) | os.O_ASYNC)
        if os.getppid() == 1:
            os._exit(1)


class _Service:
    def __init__(self, link: socket.socket, pictures: wire.Pictures) -> None:
        self._link, self._pictures = link, pictures
        self._simulator: NavSimulator | None = None

    def run(self) -> None:
        try:
            while True:
                kind, number, payload = wire.receive(self._link)
                if kind == wire.CLOSE:
                    break
                try:
                    answer, told = self._answer(kind, payload)
                except Exception as error:
                    answer, told = wire.FAILED, _failure(error)
                wire.send(self._link, answer, number, told)
            self._close()
            wire.send(self._link, wire.BYE, number, b"")
        except (EOFError, OSError):
            self._close()

    def _close(self) -> None:
        if self._simulator is not None:
            self._simulator.close()
            self._simulator = None

    def _answer(self, kind: int, payload: bytes) -> tuple[int, bytes]:
        if kind == wire.HELLO:
            return wire.READY, self._hello(payload)
        simulator = self._simulator
        if simulator is None:
            raise wire.WireError("There is no simulator yet", expected="HELLO first")
        if kind == wire.STEP:
            action, render = wire.unpack_step(payload)
            return wire.STATE, wire.pack_state(simulator.step(action, render=render), self._pictures)
        if kind == wire.DRIVE:
            forward, turn, seconds, render = wire.unpack_drive(payload)
            return wire.STATE, wire.pack_state(simulator.drive(forward, turn, seconds, render=render), self._pictures)
        if kind == wire.PATH:
            return wire.CORNERS, wire.pack_corners(simulator.path(wire.unpack_point(payload)))
        if kind == wire.BEGIN:
            told = wire.unpack_json(payload, {"scan": str, "position": list, "heading": (int, float), "goals": list})
            (position,) = wire.unpack_points([told["position"]])
            goals = wire.unpack_points(told["goals"])
            state = simulator.begin(told["scan"], position, float(told["heading"]), goals)
            return wire.STATE, wire.pack_state(state, self._pictures)
        raise wire.WireError("Unknown request", got=str(kind))

    def _hello(self, payload: bytes) -> bytes:
        told = wire.unpack_json(payload, {"factory": str, "arguments": dict})
        module, _, name = told["factory"].partition(":")
        build: Any = getattr(importlib.import_module(module), name)
        self._close()
        self._simulator = build(**told["arguments"])
        return wire.pack_json({"python": platform.python_version(), "pid": os.getpid()})


def _failure(error: Exception) -> bytes:
    if isinstance(error, WayhandError):
        kind, text = type(error).__name__, error.what
        told = {"expected": error.expected, "got": error.got, "exists": error.exists, "run": error.run}
    else:
        kind, text = "", f"{type(error).__name__}: {error}"
        told = {"expected": None, "got": traceback.format_exc()[-2000:], "exists": None, "run": None}
    exists = list(told["exists"]) if told["exists"] is not None else None
    return wire.pack_json({"kind": kind, "what": text, "more": {**told, "exists": exists}})
