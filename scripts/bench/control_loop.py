"""Lateness of the control loop against the loops of LeRobot and openpi, same work, same run, under stress.

    python scripts/bench/control_loop.py [seconds=10] [rate_hz=500] [rounds=3] [stress=2] [awake_us=400]
                                          [peers=FOLDER]

Ours: absolute deadlines, SCHED_FIFO, locked memory, frozen collector, and awake for so long before a deadline. FOLDER
holds the unpacked wheels of the peers (`pip download --no-deps lerobot openpi-client`, Python ≥ 3.12 for the first):
then LeRobot's side sleeps with its own `precise_sleep`, as its rollout strategies do, and openpi's is its own
`Runtime`, both around our tick. Without FOLDER both are the same pattern, a bare `time.sleep` of what is left. A peer's
lateness is counted from the wake-up it asked for, so that its drift is not held against it; ours from the absolute
deadline. Every side runs in its own process. Where cyclictest is installed (Debian's rt-tests), it is the floor: what
this machine grants a program in C that does nothing but wake up, in the same class, with the same period and locked
memory.
"""

from __future__ import annotations

import importlib.util
import multiprocessing
import re
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from wayhand.vla.bridge import realtime
from wayhand.vla.bridge.clock import MonotonicClock
from wayhand.vla.bridge.limits import Limits
from wayhand.vla.bridge.loop import ControlLoop, Histogram
from wayhand.vla.bridge.safety import SafetyGate
from wayhand.vla.bridge.shared import Ring, chunk_layout, to_chunk, write_chunk
from wayhand.vla.contract import ActionChunk, ActionGroup, Element, EnvSpec, Observation

JOINTS = tuple(Element(f"q{i}", "rad") for i in range(1, 8))
SPEC = EnvSpec("bench", 0.05, action=(ActionGroup("arm", "joint_position", JOINTS, (-3.0,) * 7, (3.0,) * 7),))
BINS = 500_000
"""Of a histogram, each 1 µs."""
OBJECTS = 300_000
"""Live objects, as a process with a robot stack in it has them; they are what a collection has to walk through."""


class NoRobot:
    spec = SPEC

    def read(self) -> Observation:
        return Observation({"state": 0.0}, {}, np.zeros(0, np.float32))

    def command(self, action: np.ndarray, t: float) -> None:
        pass

    def stop(self) -> None:
        pass


def make_loop(ring: Ring, rate: float) -> ControlLoop:
    """Safety gate on 7 joints, newest chunk from shared memory."""
    ones = np.ones(7)
    limits = Limits(tuple(e.name for e in JOINTS), -3 * ones, 3 * ones, 2 * ones, 10 * ones, 1000 * ones)
    seen = 0

    def newest() -> ActionChunk | None:
        nonlocal seen
        if ring.count == seen:
            return None
        seen = ring.count
        record = ring.latest()
        return None if record is None else to_chunk(record)

    gate = SafetyGate(limits=limits, dt=1 / rate)
    loop = ControlLoop(robot=NoRobot(), gate=gate, source=newest, clock=MonotonicClock(), rate_hz=rate)
    loop.start(np.zeros(7))
    return loop


def ours(loop: ControlLoop, seconds: float, peers: str) -> tuple[Histogram, int]:
    end = time.monotonic() + seconds
    loop.timing.lateness = Histogram(1e-6, BINS)
    loop.run(lambda deadline: deadline < end)
    return loop.timing.lateness, loop.timing.missed


class Intervals:
    """Lateness of a loop that says when each period starts: what it exceeds the period by."""

    def __init__(self, period: float) -> None:
        self.lateness, self.missed = Histogram(1e-6, BINS), 0
        self._period, self._last = period, None

    def start(self) -> None:
        now = time.perf_counter()
        if self._last is not None:
            late = now - self._last - self._period
            self.lateness.add(late)
            self.missed += late > self._period
        self._last = now


def lerobot(loop: ControlLoop, seconds: float, peers: str) -> tuple[Histogram, int]:
    """Note the time, work, sleep for what is left of the period."""
    sleep = time.sleep
    if peers:
        path = Path(peers) / "lerobot/utils/robot_utils.py"
        spec = importlib.util.spec_from_file_location("robot_utils", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        sleep = module.precise_sleep
    intervals = Intervals(loop.dt)
    for _ in range(round(seconds / loop.dt)):
        start = time.perf_counter()
        intervals.start()
        loop.tick(time.monotonic())
        rest = loop.dt - (time.perf_counter() - start)
        if rest > 0:
            sleep(rest)
    return intervals.lateness, intervals.missed


def openpi(loop: ControlLoop, seconds: float, peers: str) -> tuple[Histogram, int]:
    """Its `Runtime` steps an environment whose observation is the start of a period and whose action is our tick."""
    if not peers:
        return lerobot(loop, seconds, peers)
    sys.path.insert(0, peers)
    from openpi_client.runtime.runtime import Runtime

    intervals = Intervals(loop.dt)

    class Side:
        """Environment and agent at once."""

        def reset(self) -> None: ...

        def is_episode_complete(self) -> bool:
            return False

        def get_observation(self) -> dict:
            intervals.start()
            return {}

        def get_action(self, observation: dict) -> dict:
            return {}

        def apply_action(self, action: dict) -> None:
            loop.tick(time.monotonic())

    side = Side()
    Runtime(side, side, [], max_hz=1 / loop.dt, max_episode_steps=round(seconds / loop.dt)).run()
    return intervals.lateness, intervals.missed


SIDES = {"ours": ours, "LeRobot": lerobot, "openpi": openpi}


def measure(side: str, rate: float, seconds: float, peers: str, awake: float, ring_name: str, sender: Any) -> None:
    ballast = [{"k": k} for k in range(OBJECTS)]
    ring = Ring(chunk_layout(7), 4, ring_name)
    loop = make_loop(ring, rate)
    for _ in range(200):
        loop.tick(time.monotonic())
    if side == "ours":
        rights = realtime.acquire()
        if rights.warning:
            print(rights.warning)
        awake = awake if rights.fifo else 0.0
    loop = make_loop(ring, rate)
    loop.awake = awake
    lateness, missed = SIDES[side](loop, seconds, peers)
    sender.send((lateness.summary(1e6), missed, round(seconds * rate)))
    ring.close()
    del ballast


def stress() -> None:
    while True:
        sum(k * k for k in range(100_000))


def one(side: str, rate: float, seconds: float, peers: str, awake: float) -> tuple[dict[str, float], int, int]:
    """Feed chunks at 5 Hz while one side runs."""
    context = multiprocessing.get_context("spawn")
    ring = Ring(chunk_layout(7), 4)
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=measure, args=(side, rate, seconds, peers, awake, ring.name, sender))
    process.start()
    while not receiver.poll(0.2):
        now = time.monotonic()
        times = now + 0.05 * np.arange(1, 17)
        write_chunk(ring, ActionChunk(0.2 * np.sin(times)[:, None] * np.ones(7), times, now), 0)
    result = receiver.recv()
    process.join()
    ring.close()
    return result


def floor(rate: float, seconds: float) -> tuple[dict[str, float], int, int]:
    """cyclictest's lateness [µs], periods that began after their end, and periods."""
    period = round(1e6 / rate)
    command = ["cyclictest", "--mlockall", "--priority=50", f"--interval={period}", f"--duration={round(seconds)}"]
    said = subprocess.run([*command, "--quiet", f"--histogram={BINS}"], capture_output=True, text=True, check=True)
    counts = np.zeros(BINS + 1, int)
    for bin_, count in re.findall(r"^(\d+)\s+(\d+)$", said.stdout, re.MULTILINE):
        counts[int(bin_)] = int(count)
    counts[BINS] = int(re.search(r"Histogram Overflows: (\d+)", said.stdout)[1])
    below = np.cumsum(counts)
    summary = {
        name: float(np.searchsorted(below, q * below[-1]))
        for name, q in (("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999))
    }
    summary["max"] = float(re.search(r"Max Latencies: (\d+)", said.stdout)[1])
    return summary, int(counts[period:].sum()), int(below[-1])


def main() -> None:
    options = {"seconds": 10.0, "rate_hz": 500.0, "rounds": 3.0, "stress": 2.0, "awake_us": 400.0}
    given = dict(argument.split("=", 1) for argument in sys.argv[1:])
    peers = str(Path(given.pop("peers")).resolve()) if "peers" in given else ""
    options |= {k: float(v) for k, v in given.items()}
    context = multiprocessing.get_context("spawn")
    hogs = [context.Process(target=stress, daemon=True) for _ in range(int(options["stress"]))]
    for hog in hogs:
        hog.start()
    stolen = realtime.stolen_seconds() or 0.0
    sides = [*SIDES, *(["cyclictest"] if shutil.which("cyclictest") else [])]
    tails: dict[str, list[float]] = {side: [] for side in sides}
    print(f"{options['rate_hz']:g} Hz, {options['seconds']:g} s a side, {len(hogs)} stress processes; lateness in µs")
    print(f"peers: {peers or 'their pattern, written here'}")
    for number in range(int(options["rounds"])):
        for side in sides:
            if side in SIDES:
                summary, missed, ticks = one(
                    side, options["rate_hz"], options["seconds"], peers, options["awake_us"] / 1e6
                )
            else:
                summary, missed, ticks = floor(options["rate_hz"], options["seconds"])
            tails[side].append(summary["p99.9"])
            text = " · ".join(f"{k} {v:6.0f}" for k, v in summary.items())
            print(f"round {number + 1}  {side:18} {text} · missed {missed}/{ticks}", flush=True)
    for hog in hogs:
        hog.kill()
        hog.join()
    median = {side: statistics.median(values) for side, values in tails.items()}
    for side in sides[1:]:
        print(f"p99.9 of {side} / ours, medians: {median[side] / median['ours']:.2f}")
    print(f"the hypervisor kept {(realtime.stolen_seconds() or 0.0) - stolen:.2f} CPU s meanwhile")


if __name__ == "__main__":
    main()
