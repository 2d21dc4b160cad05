"""Compiles `blocks.cpp` once for a machine and loads it; a few seconds the first time, nothing later."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from ...errors import ConfigError

SOURCES = ("blocks.cpp", "product.h")
FLAGS = ("-O3", "-march=native", "-std=c++17", "-fno-math-errno", "-fno-trapping-math", "-Wno-psabi")
LONG, POINTER = ctypes.c_long, ctypes.c_void_p
SIGNATURES: dict[str, tuple[type | None, list[type]]] = {
    "lanes": (LONG, []),
    "pack": (None, [POINTER, LONG, LONG, POINTER]),
    "linear": (None, [POINTER, LONG, LONG, POINTER, POINTER, LONG, POINTER]),
    "blocks": (None, [POINTER, POINTER, LONG, POINTER, POINTER]),
    "denoise": (None, [POINTER, POINTER, LONG, POINTER, POINTER, LONG, LONG, POINTER]),
}


def compiler() -> str | None:
    """The C++ compiler of `CXX`, or g++ or clang++ of the path; None where there is none."""
    named = os.environ.get("CXX")
    return shutil.which(named) if named else shutil.which("g++") or shutil.which("clang++")


@functools.cache
def library() -> ctypes.CDLL:
    """The kernels, compiled for this processor if they are not yet; calls release Python's lock.

    Raises:
        ConfigError: without a C++ compiler, where it fails, or where the cache is not this user's own.
    """
    command = compiler()
    if command is None:
        raise ConfigError(
            "The kernels need a C++ compiler",
            expected="g++ or clang++, or one that CXX names",
            got="none on the path",
            run="apt install g++, or leave `kernels` off",
        )
    loaded = ctypes.CDLL(str(_built(command)))
    for name, (result, arguments) in SIGNATURES.items():
        function = getattr(loaded, name)
        function.restype, function.argtypes = result, arguments
    return loaded


def _built(command: str) -> Path:
    here = Path(__file__).parent
    sources = [(here / name).read_bytes() for name in SOURCES]
    # What "native" stands for differs between machines that share a home.
    target = _run([command, "-march=native", "-E", "-v", "-x", "c++", os.devnull])
    digest = hashlib.sha256(b"\0".join([*sources, " ".join(FLAGS).encode(), target])).hexdigest()
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "wayhand"
    path = folder / f"kernels-{digest[:16]}.so"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    _require_own(folder)
    if not path.exists():
        # Compiled aside and then renamed, so that another process never loads half a file.
        handle, made = tempfile.mkstemp(suffix=".so", dir=folder)
        os.close(handle)
        try:
            _run([command, *FLAGS, "-shared", "-fPIC", str(here / SOURCES[0]), "-o", made])
            os.replace(made, path)
        finally:
            Path(made).unlink(missing_ok=True)
    _require_own(path)
    return path


def _require_own(path: Path) -> None:
    """Code is loaded from here: nobody else may be able to write it."""
    status = path.stat()
    if status.st_uid != os.getuid() or status.st_mode & 0o002:
        raise ConfigError(
            f"{path} could be written by others",
            expected="your own, and not writable by everybody",
            got=f"owner {status.st_uid}, mode {status.st_mode & 0o777:o}",
            run="set XDG_CACHE_HOME to a folder of your own",
        )


def _run(command: list[str]) -> bytes:
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode:
        last = done.stderr.decode(errors="replace").strip().splitlines()[-5:]
        raise ConfigError(
            "The C++ compiler failed", got="\n".join(last), run=f"{' '.join(command)}, or leave `kernels` off"
        )
    return done.stderr
