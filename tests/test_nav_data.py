"""Work spread over processes: the same results as without them, and no process left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from wayhand.scripts.navigation.data import pool


def squared(x: int) -> int:
    return x * x


@pytest.mark.parametrize("workers", [0, 2])
def test_results_come_in_order(workers: int) -> None:
    with pool(workers) as each:
        assert list(each(squared, range(20))) == [x * x for x in range(20)]


PROGRAM = """
import os, time
from wayhand.scripts.navigation.data import pool

def work(path):
    with open(path, "w") as file:
        file.write(str(os.getpid()))
    time.sleep(600)

if __name__ == "__main__":
    import sys
    with pool(2) as each:
        list(each(work, sys.argv[1:]))
"""


def gone(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return True
    return state in "ZX"  # who adopts an orphan collects it, sooner or later


def test_workers_end_with_their_parent(tmp_path: Path) -> None:
    program, notes = tmp_path / "program.py", [tmp_path / "a", tmp_path / "b"]
    program.write_text(PROGRAM)
    parent = subprocess.Popen([sys.executable, str(program), *map(str, notes)], env={**os.environ})
    limit = time.monotonic() + 120
    while not all(n.exists() and n.read_text() for n in notes):
        assert time.monotonic() < limit and parent.poll() is None
        time.sleep(0.02)
    workers = [int(n.read_text()) for n in notes]
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    while not all(gone(pid) for pid in workers):
        assert time.monotonic() < limit
        time.sleep(0.02)
