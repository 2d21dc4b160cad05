"""Lateness of the control loop against the `time.sleep(rest)` loops of the field, same work, same run, under stress.

    python scripts/bench/control_loop.py [seconds=10] [rate_hz=500] [rounds=3] [stress=2]

Ours: absolute deadlines, SCHED_FIFO, locked memory, frozen collector. The peers are the *patterns* of LeRobot
(`precise_sleep` on Linux: a bare `time.sleep` of what is left by `perf_counter`) and of openpi's runtime (the same
by the wall clock), written again here around our tick. A peer's lateness is counted from the wake-up it asked for,
so that its drift is not held against it; ours from the absolute deadline. Every side runs in a process of its own.
"""

from __future__ import annotations

import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from wayhand.vla.bridge import realtime
from wayhand.vla.bridge.clock import MonotonicClock
from wayhand.vla.bridge.loop import ControlLoop, Histogram
from wayhand.vla.bridge.safety import Limits, SafetyGate
from wayhand.vla.bridge.shared import Ring, chunk_layout, to_chunk, write_chunk
from wayhand.vla.contract import ActionChunk, ActionGroup, Element, EnvSpec, Observation

JOINTS = tuple(Element(f"q{i}", "rad") for i in range(1, 8))
SPEC = EnvSpec("bench", 0.05, action=(ActionGroup("arm", "joint_position", JOINTS, (-3.0,) * 7, (3.0,) * 7),))
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
    limits = Limits(tuple(e.name for e in JOINTS), -3 * ones, 3 * ones, 2 * ones, 10 * ones)
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


def ours(loop: ControlLoop, seconds: float) -> tuple[Histogram, int]:
    end = time.monotonic() + seconds
    loop.timing.lateness = Histogram(1e-6, 500_000)
    loop.run(lambda deadline: deadline < end)
    return loop.timing.lateness, loop.timing.missed


def sleep_rest(now: Callable[[], float]) -> Callable[[ControlLoop, float], tuple[Histogram, int]]:
    """The peers' pattern: note the time, work, sleep for what is left of the period."""

    def run(loop: ControlLoop, seconds: float) -> tuple[Histogram, int]:
        lateness, missed = Histogram(1e-6, 500_000), 0
        for _ in range(round(seconds / loop.dt)):
            start = now()
            loop.tick(time.monotonic())
            rest = loop.dt - (now() - start)
            if rest > 0:
                time.sleep(rest)
            late = now() - start - loop.dt
            lateness.add(late)
            missed += late > loop.dt
        return lateness, missed

    return run


SIDES = {"ours": ours, "LeRobot's pattern": sleep_rest(time.perf_counter), "openpi's pattern": sleep_rest(time.time)}


def measure(side: str, rate: float, seconds: float, ring_name: str, sender: Any) -> None:
    ballast = [{"k": k} for k in range(OBJECTS)]
    ring = Ring(chunk_layout(7), 4, ring_name)
    loop = make_loop(ring, rate)
    for _ in range(200):
        loop.tick(time.monotonic())
    if side == "ours":
        warning = realtime.acquire().warning
        if warning:
            print(warning)
    loop = make_loop(ring, rate)
    lateness, missed = SIDES[side](loop, seconds)
    sender.send((lateness.summary(1e6), missed, round(seconds * rate)))
    ring.close()
    del ballast


def stress() -> None:
    while True:
        sum(k * k for k in range(100_000))


def one(side: str, rate: float, seconds: float) -> tuple[dict[str, float], int, int]:
    """Feed chunks at 5 Hz while one side runs."""
    context = multiprocessing.get_context("spawn")
    ring = Ring(chunk_layout(7), 4)
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=measure, args=(side, rate, seconds, ring.name, sender))
    process.start()
    while not receiver.poll(0.2):
        now = time.monotonic()
        times = now + 0.05 * np.arange(1, 17)
        write_chunk(ring, ActionChunk(0.2 * np.sin(times)[:, None] * np.ones(7), times, now), 0)
    result = receiver.recv()
    process.join()
    ring.close()
    return result


def main() -> None:
    options = {"seconds": 10.0, "rate_hz": 500.0, "rounds": 3.0, "stress": 2.0}
    options |= {k: float(v) for k, v in (argument.split("=") for argument in sys.argv[1:])}
    context = multiprocessing.get_context("spawn")
    hogs = [context.Process(target=stress, daemon=True) for _ in range(int(options["stress"]))]
    for hog in hogs:
        hog.start()
    stolen = realtime.stolen_seconds() or 0.0
    tails: dict[str, list[float]] = {side: [] for side in SIDES}
    print(f"{options['rate_hz']:g} Hz, {options['seconds']:g} s a side, {len(hogs)} stress processes; lateness in µs")
    for number in range(int(options["rounds"])):
        for side in SIDES:
            summary, missed, ticks = one(side, options["rate_hz"], options["seconds"])
            tails[side].append(summary["p99.9"])
            text = " · ".join(f"{k} {v:6.0f}" for k, v in summary.items())
            print(f"round {number + 1}  {side:18} {text} · missed {missed}/{ticks}", flush=True)
    for hog in hogs:
        hog.kill()
        hog.join()
    median = {side: statistics.median(values) for side, values in tails.items()}
    for side in list(SIDES)[1:]:
        print(f"p99.9 of {side} / ours, medians: {median[side] / median['ours']:.1f}")
    print(f"the hypervisor kept {(realtime.stolen_seconds() or 0.0) - stolen:.2f} CPU s meanwhile")


if __name__ == "__main__":
    main()
