"""`wayhand doctor`: what this machine can do, and the command that mends what it cannot."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.text import Text

from ..vla.errors import ConfigError
from .doctor_robot import examine

HELP = """\
Usage: wayhand doctor [robot=ROBOT [move=true] [key=value …]]

Checks Python, packages, processor, memory, disk, GPU, off-screen rendering and real-time rights. Each line is
ok, warn (something is slower or absent) or fail (the basics do not work), with the command that mends it.
Exit code 0 where nothing fails.

With a robot it connects to that instead, and only reads: names, limits, posture, rates, latency, clock, cameras (of a
simulated one in virtual time).
move=true also moves every joint by a small share of its range and back, stops it in motion and sees whether it obeys
a command it must not. Clear the robot's space first, and keep a hand on its own emergency stop.

Examples:
  wayhand doctor
  wayhand doctor robot=arm.toml
  wayhand doctor robot=arm.toml move=true amplitude=0.02
"""
STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red"}
PACKAGES = ("torch", "mujoco", "gymnasium", "zarr", "transformers", "accelerate", "hydra-core", "numpy")
GL_PACKAGES = {"egl": "libegl1 libegl-mesa0 libopengl0 libgl1-mesa-dri", "osmesa": "libosmesa6"}
GL_PROBE = """
import mujoco
from OpenGL import GL
context = mujoco.GLContext(64, 64)
context.make_current()
print(GL.glGetString(GL.GL_RENDERER).decode())
context.free()
"""
REALTIME_PROBE = """
import ctypes, os
try:
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(80))
    print("SCHED_FIFO", end=" ")
except PermissionError:
    pass
if ctypes.CDLL(None, use_errno=True).mlockall(3) == 0:
    print("mlockall", end="")
"""
GIB = 2**30


@dataclass(frozen=True)
class Finding:
    """One line of the report; `mend` is a command."""

    name: str
    status: Literal["ok", "warn", "fail"]
    detail: str
    mend: str = ""


def main(overrides: list[str]) -> int:
    if any(o.startswith("robot") for o in overrides):
        return examine(overrides)
    if overrides:
        raise ConfigError("`wayhand doctor` takes a robot or no arguments", got=" ".join(overrides))
    console = Console(soft_wrap=True)
    findings: list[Finding] = []
    for check in CHECKS:
        for finding in check():
            findings.append(finding)
            line = Text.assemble(
                (f"{finding.status:<5}", STYLES[finding.status]), f"{finding.name:<14}{finding.detail}"
            )
            console.print(line)
            if finding.mend:
                console.print(Text(f"     run: {finding.mend}", style="dim"))
    failed = [f.name for f in findings if f.status == "fail"]
    warned = [f.name for f in findings if f.status == "warn"]
    console.print()
    if failed:
        console.print(Text(f"Not ready: {', '.join(failed)}", style=STYLES["fail"]))
        return 1
    console.print(Text("Ready." + (f" Worth a look: {', '.join(warned)}" if warned else ""), style=STYLES["ok"]))
    return 0


def check_python() -> Iterator[Finding]:
    good = (3, 11) <= sys.version_info[:2] <= (3, 13)
    yield Finding(
        "python",
        "ok" if good else "fail",
        f"{platform.python_version()} at {sys.executable}",
        "" if good else "install Python 3.11, 3.12 or 3.13, then: bash scripts/test.sh",
    )


def check_packages() -> Iterator[Finding]:
    found: list[str] = []
    missing: list[str] = []
    for name in PACKAGES:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
    yield Finding("packages", "ok", ", ".join(found))
    if missing:
        mend = f"pip install -c constraints.txt {' '.join(missing)}"
        yield Finding("packages", "fail", f"missing: {', '.join(missing)}", mend)


def check_processor() -> Iterator[Finding]:
    info = _read("/proc/cpuinfo")
    flags = set(_field(info, "flags").split())
    useful = [f for f in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if f in flags]
    cores = len(os.sched_getaffinity(0))
    model = _field(info, "model name") or platform.machine()
    bf16 = "bf16 in hardware" if {"avx512_bf16", "amx_bf16"} & flags else "bf16 emulated: train in fp32"
    yield Finding(
        "processor", "ok" if cores > 1 else "warn", f"{cores} cores, {model}, {' '.join(useful) or 'no AVX'}, {bf16}"
    )


def check_memory() -> Iterator[Finding]:
    available = int((_field(_read("/proc/meminfo"), "MemAvailable") or "0 kB").split()[0]) * 1024
    enough = available >= 4 * GIB
    yield Finding(
        "memory",
        "ok" if enough else "warn",
        f"{available / GIB:.1f} GiB available" + ("" if enough else ", 4 are good"),
    )


def check_disk() -> Iterator[Finding]:
    free = shutil.disk_usage(Path.cwd()).free
    enough = free >= 5 * GIB
    mend = "" if enough else "du -xh --max-depth=2 . | sort -h | tail"
    yield Finding("disk", "ok" if enough else "warn", f"{free / GIB:.1f} GiB free here", mend)


def check_gpu() -> Iterator[Finding]:
    import torch

    if torch.cuda.is_available():
        names = ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))
        yield Finding("gpu", "ok", f"{names}, CUDA {torch.version.cuda}")
    elif shutil.which("nvidia-smi"):
        yield Finding(
            "gpu", "warn", "a GPU is here but this torch cannot use it", "pip install --force-reinstall torch"
        )
    else:
        yield Finding("gpu", "ok", "none; everything also runs on the processor")


def check_rendering() -> Iterator[Finding]:
    """Each backend in a process of its own, because the first one that a process loads stays."""
    working = 0
    for backend, packages in GL_PACKAGES.items():
        env = {**os.environ, "MUJOCO_GL": backend, "PYOPENGL_PLATFORM": backend}
        renderer, error = _probe(GL_PROBE, env)
        working += bool(renderer)
        if renderer:
            yield Finding(f"gl {backend}", "ok", renderer)
        else:
            mend = f"apt-get install -y --no-install-recommends {packages}"
            yield Finding(f"gl {backend}", "warn", error or "no renderer", mend)
    if not working:
        packages = " ".join(GL_PACKAGES.values())
        mend = f"sudo apt-get update && sudo apt-get install -y --no-install-recommends {packages}"
        yield Finding("rendering", "fail", "no off-screen OpenGL works", mend)


def check_realtime() -> Iterator[Finding]:
    granted, _ = _probe(REALTIME_PROBE, dict(os.environ))
    missing = [right for right in ("SCHED_FIFO", "mlockall") if right not in granted]
    if not missing:
        yield Finding("real time", "ok", "SCHED_FIFO and mlockall are allowed")
        return
    limits = r"printf '%s - rtprio 90\n%s - memlock unlimited\n' $USER $USER"
    yield Finding(
        "real time",
        "warn",
        f"no {' and no '.join(missing)}: a control loop may miss deadlines on a busy machine",
        f"{limits} | sudo tee /etc/security/limits.d/wayhand.conf   # then log in again",
    )


CHECKS: tuple[Callable[[], Iterator[Finding]], ...] = (
    check_python,
    check_packages,
    check_processor,
    check_memory,
    check_disk,
    check_gpu,
    check_rendering,
    check_realtime,
)


def _probe(code: str, env: dict[str, str]) -> tuple[str, str]:
    """What `code` printed in a fresh interpreter and, where it failed, the last line of its error."""
    try:
        done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=60)
    except subprocess.TimeoutExpired:
        return "", "no answer within a minute"
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        return "", lines[-1].strip() if lines else f"ended with code {done.returncode}"
    return done.stdout.strip(), ""


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _field(text: str, name: str) -> str:
    """The value of the first `name : value` line of a /proc file."""
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return ""
