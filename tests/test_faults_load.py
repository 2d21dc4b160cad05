"""A machine under load: what is late is counted, told and never made up for, and the watchdog is not late with it."""

from __future__ import annotations

import errno
import gc
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from bridge_body import CARTESIAN, LIMITS, ROBOT, START, Plane, Steady, StickBody, unstarved
from rich.console import Console

from wayhand.scripts.deploy_report import save
from wayhand.vla.bridge.cells import BEAT, Cells
from wayhand.vla.bridge.chunking import JointTargets
from wayhand.vla.bridge.clock import VirtualClock
from wayhand.vla.bridge.loop import ControlLoop
from wayhand.vla.bridge.loop_link import Status
from wayhand.vla.bridge.planner import Planner
from wayhand.vla.bridge.process import LoopSettings
from wayhand.vla.bridge.safety import SafetyGate
from wayhand.vla.bridge.session import Episode, Session
from wayhand.vla.bridge.watchdog import Watchdog, silence_limit
from wayhand.vla.config import Config
from wayhand.vla.contract import ActionChunk, EnvSpec, Observation
from wayhand.vla.contract import Episode as Recorded
from wayhand.vla.errors import WayhandError

# How long things hold a process up [s]: `reference/safety.md` measures a full collection of 300k and of a million
# objects, the tails of loaded loops, and a fork of a large process.
STALLS = {"hogs": 0.0035, "hogs without rights": 0.0075, "fork": 0.012, "swap": 0.045, "300k": 0.073, "1M": 0.188}
WORK = 0.0003


class Stalled:
    """A robot on whose line the loop is held up, once at each of some ticks."""

    spec: EnvSpec = ROBOT

    def __init__(self, clock: VirtualClock, stalls: dict[int, float]) -> None:
        self._clock, self._stalls = clock, stalls
        self.told: list[tuple[float, float]] = []

    def read(self) -> Observation:
        raise AssertionError("the loop reads no image")

    def command(self, action: np.ndarray, t: float) -> None:
        self.told.append((t, float(action[0])))
        self._clock.sleep_until(self._clock.now() + WORK + self._stalls.get(len(self.told), 0.0))

    def stop(self) -> None:
        pass


class Halted:
    """What a watchdog stops."""

    def __init__(self) -> None:
        self.at: list[float] = []

    def halt(self, t: float, reason: str) -> None:
        self.at.append(t)


@pytest.mark.parametrize("cause", STALLS)
@pytest.mark.parametrize("rate", [100.0, 500.0])
def test_a_stall_is_counted_exactly_made_up_for_by_nothing_and_seen_by_the_watchdog(cause: str, rate: float) -> None:
    stall, dt = STALLS[cause], 1 / rate
    clock, driver, cells = VirtualClock(), Halted(), Cells(BEAT)
    robot = Stalled(clock, {100: stall, 150: stall})
    steps = 0.05 * np.arange(1, 101)
    chunks = [ActionChunk(START + steps[:, None] * [0.2, 0, 0], steps, 0.0)]
    watchdog, looked = Watchdog(cells, driver, rate), [0.0]

    def look(now: float) -> None:
        """Every period of the watchdog's, in the time that the loop spends asleep or held up."""
        while looked[0] + watchdog.period <= now:
            looked[0] += watchdog.period
            watchdog.look(looked[0])

    def beat(now: float) -> None:
        cells["beat"] = now

    clock.on_advance.append(look)
    try:
        cells["armed"] = 1.0
        gate = SafetyGate(limits=LIMITS, dt=dt, oldest=9.0)
        loop = ControlLoop(
            robot=robot, gate=gate, source=lambda: chunks.pop() if chunks else None, clock=clock, rate_hz=rate,
            beat=beat, longest=9.0,
        )  # fmt: skip
        loop.start(START)
        loop.run(lambda deadline: deadline < 400 * dt)
    finally:
        cells.close()
    missed = 2 * int((WORK + stall) / dt + 1e-9)
    report = loop.report()
    assert report["missed_deadlines"] == missed and report["ticks"] == len(robot.told) == 399 - missed
    assert report["work_us"]["max"] == pytest.approx(1e6 * (WORK + stall))
    times, path = np.array(robot.told).T
    # One command a period, each for a later one, and none of them faster for having waited.
    assert (np.diff(times) > dt - 1e-9).all() and (np.abs(np.diff(path)) <= LIMITS.velocity[0] * dt + 1e-9).all()
    silent = WORK + stall + min(dt, 0.005)  # from the last sign of life at the most
    limit = silence_limit(rate)
    if WORK + stall >= limit:
        held_up = [robot.told[99][0] - dt, robot.told[149][0] - dt]
        assert len(driver.at) == 2 and all(at - began <= limit for at, began in zip(driver.at, held_up, strict=True))
    elif silent < limit - 2.5 * watchdog.period:
        assert driver.at == []
    blocked = [f"the loop was blocked for {(WORK + stall - dt) * 1000:.0f} ms"] if WORK + stall - dt > 0.1 else []
    assert report["latches"] == blocked


def test_without_rights_the_missed_periods_are_told() -> None:
    code = "from wayhand.vla.bridge.realtime import acquire; print(acquire(50).warning)"
    nobody = "import os, resource; resource.setrlimit(resource.RLIMIT_RTPRIO, (0, 0)); resource.setrlimit("
    nobody += "resource.RLIMIT_MEMLOCK, (0, 0)); os.setgid(65534); os.setuid(65534)\n"
    if os.getuid() != 0:
        nobody = ""
    program = f"import wayhand.vla.bridge.realtime\n{nobody}{code}"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    warning = done.stdout.strip()
    assert "SCHED_FIFO" in warning and "deadlines may be missed" in warning and "\n" not in warning, done.stderr


def test_no_collection_stops_the_loop_s_process() -> None:
    """A million objects of before the first deadline are never walked through again, and none is started."""
    code = (
        "import gc; from wayhand.vla.bridge.realtime import acquire; heap = [[k] for k in range(100_000)]; acquire(50)"
    )
    code += "; assert not gc.isenabled() and gc.get_freeze_count() > 100_000; print(len(gc.get_objects()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and int(done.stdout) < 1000, done.stderr


def test_a_report_that_the_disk_does_not_take_is_told(tmp_path: Path) -> None:
    (tmp_path / "full").write_text("")
    cfg: Any = SimpleNamespace(folder=tmp_path / "full")
    with pytest.raises(WayhandError, match="cannot be written"):
        save(cfg, Config({}), {}, Console())


# --- once for real ---------------------------------------------------------------------------------------------


class FullDisk:
    """A sink on a disk that takes nothing more."""

    @contextmanager
    def __call__(self, spec: EnvSpec) -> Iterator[FullDisk]:
        yield self

    def append(self, episode: Recorded) -> object:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def burden(at: int) -> Callable[[Status, float], None]:
    """What the policy's process does to itself once in a run: a heap, a collection, a fork."""
    done: list[float] = []

    def act(status: Status, seconds: float) -> None:
        if done or status.chunks < at:
            return
        done.append(seconds)
        heap = [[k] for k in range(200_000)]
        gc.collect()
        del heap
        if (child := os.fork()) == 0:
            os._exit(0)
        os.waitpid(child, 0)

    return act


def test_neither_a_collection_nor_a_fork_nor_a_full_disk_ends_a_run() -> None:
    with Session(factory=StickBody, settings=LoopSettings(rate_hz=50.0), sink=FullDisk()) as session:
        targets = JointTargets(policy=CARTESIAN, robot=session.spec, kinematics=Plane())
        planner = Planner(policy=Steady(0.04), spec=CARTESIAN, targets=targets)
        for seed in range(2):
            run = burden(session.status.chunks + 2)
            outcome = unstarved(lambda run=run, seed=seed: session.run(Episode(seed, {}, 4, 0.0), planner, run))
            assert outcome.success
        warning = session.recording_warning
        assert "No space left" in warning and "no episode was written" in warning and session.recorded == 0
