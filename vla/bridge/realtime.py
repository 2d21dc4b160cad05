"""Real-time rights for the control loop's process: scheduling class, locked memory, a quiet garbage collector."""

from __future__ import annotations

import ctypes
import gc
import os
from dataclasses import dataclass

MCL_CURRENT, MCL_FUTURE = 1, 2


@dataclass(frozen=True)
class Rights:
    """What the system granted. `missing` says what it refused, and why."""

    fifo: bool
    locked: bool
    missing: tuple[str, ...] = ()

    @property
    def warning(self) -> str:
        """One line for the operator; empty where everything was granted."""
        if not self.missing:
            return ""
        return (
            f"No real-time rights ({'; '.join(self.missing)}): deadlines may be missed under load. "
            "Run as root, or grant 'rtprio 50' and 'memlock unlimited' in /etc/security/limits.conf"
        )


def acquire(priority: int = 50) -> Rights:
    """Ask for SCHED_FIFO at `priority` and locked memory; freeze and stop the garbage collector.

    Call it in the loop's own process after warm-up. A full collection costs 70 ms and more with a few hundred
    thousand objects; the loop makes no cycles, so it does without.
    """
    gc.collect()
    gc.freeze()
    gc.disable()
    missing: list[str] = []
    fifo, locked = _set_fifo(priority, missing), _lock_memory(missing)
    return Rights(fifo, locked, tuple(missing))


def _set_fifo(priority: int, missing: list[str]) -> bool:
    if not hasattr(os, "sched_setscheduler"):
        missing.append("this system has no SCHED_FIFO")
        return False
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(priority))
    except OSError as error:
        missing.append(f"SCHED_FIFO: {error.strerror}")
        return False
    return True


def _lock_memory(missing: list[str]) -> bool:
    try:
        mlockall = ctypes.CDLL(None, use_errno=True).mlockall
    except AttributeError:
        missing.append("this system has no mlockall")
        return False
    if mlockall(MCL_CURRENT | MCL_FUTURE) != 0:
        missing.append(f"mlockall: {os.strerror(ctypes.get_errno())}")
        return False
    return True


def stolen_seconds() -> float | None:
    """CPU seconds that the hypervisor has kept from this virtual machine since it started; None where unknown.

    No priority helps against it: a report of missed deadlines names it beside them.
    """
    try:
        with open("/proc/stat", encoding="ascii") as file:
            fields = file.readline().split()
    except OSError:
        return None
    return int(fields[8]) / os.sysconf("SC_CLK_TCK") if len(fields) > 8 else None
