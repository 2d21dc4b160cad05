"""The bridge on a machine that is ill-treated: which periods the loop misses, and how soon the watchdog acts.

    python scripts/bench/load.py [seconds=60] [rate_hz=500] [hogs=4] [memory=0.5] [env=tabletop/reach]

The simulated arm stands still under a null policy while `hogs` processes compute, one more fills `memory` of what is
free and touches it over and over, the policy's own process collects a heap of a million objects and forks every second,
and the recorder's disk takes nothing. Told at the end: missed periods, lateness [µs], what stopped the robot, the
CPU seconds the hypervisor kept, and what became of a process that only wakes up, in the loop's class and at its rate:
periods that it misses are the machine's. Then the loop is killed under the same load: how long after its last sign of
life the driver was stopped.
"""

from __future__ import annotations

import errno
import gc
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from typing import Any

import numpy as np
from floor import floor, told
from rich.console import Console

from wayhand.scripts.compose import load
from wayhand.scripts.deploy_config import DeployConfig, load_policy
from wayhand.scripts.robots import robot_of
from wayhand.vla.bridge.loop_link import Status
from wayhand.vla.bridge.planner import Planner
from wayhand.vla.bridge.realtime import stolen_seconds
from wayhand.vla.bridge.session import Session
from wayhand.vla.bridge.watchdog import silence_limit
from wayhand.vla.contract import EnvSpec, Episode
from wayhand.vla.errors import RobotError

OBJECTS = 1_000_000


class FullDisk:
    """A sink that every episode is too much for."""

    @contextmanager
    def __call__(self, spec: EnvSpec) -> Iterator[FullDisk]:
        yield self

    def append(self, episode: Episode) -> object:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def compute() -> None:
    while True:
        sum(range(10_000))


def fill(share: float) -> None:
    with open("/proc/meminfo", encoding="ascii") as file:
        free = next(int(line.split()[1]) for line in file if line.startswith("MemAvailable"))
    pages = np.zeros(int(share * free * 1024) // 8)
    while True:
        pages[::512] += 1


class Burden:
    """What the policy's process does to itself once a second for some seconds."""

    def __init__(self, seconds: float) -> None:
        self._seconds, self._end = seconds, float("inf")
        self._heap = [[k] for k in range(OBJECTS)]
        self._due = 0.0
        self.collections, self.longest = 0, 0.0

    def look(self, status: Status, _: float) -> None:
        now = time.monotonic()
        self._end = min(self._end, now + self._seconds)
        if now > self._end:
            raise KeyboardInterrupt
        if now < self._due:
            return
        self._due = now + 1.0
        gc.collect()
        if (child := os.fork()) == 0:
            os._exit(0)
        os.waitpid(child, 0)
        self.collections += 1
        self.longest = max(self.longest, time.monotonic() - now)


@contextmanager
def ill_treated(hogs: int, memory: float) -> Iterator[None]:
    context = multiprocessing.get_context("spawn")
    others: list[BaseProcess] = [context.Process(target=compute, daemon=True) for _ in range(hogs)]
    others += [context.Process(target=fill, args=(memory,), daemon=True)] if memory else []
    for process in others:
        process.start()
    try:
        yield
    finally:
        for process in others:
            process.kill()
            process.join()


def planner_of(cfg: DeployConfig, factory: Any, session: Session) -> Planner:
    spec = factory.policy_spec()
    policy: Any = load_policy(cfg, spec, factory)
    return Planner(policy=policy, spec=spec, targets=factory.targets(policy.spec, session.spec))


def run(cfg: DeployConfig, factory: Any, session: Session, seconds: float, console: Console) -> None:
    """So many seconds of episodes, and what they came to."""
    stops: list[str] = []
    planner, stolen, missed = planner_of(cfg, factory, session), stolen_seconds() or 0.0, session.status.missed
    burden = Burden(seconds)
    try:
        for episode in cfg.planned(10_000):
            stops.append(session.run(episode, planner, burden.look).reason)
    except KeyboardInterrupt:
        pass
    report = session.finish()
    console.print(f"missed {report['missed_deadlines'] - missed} of {report['ticks']} periods at {cfg.rate_hz:g} Hz")
    console.print("lateness [µs] " + " · ".join(f"{k} {v:.0f}" for k, v in report["lateness_us"].items()))
    console.print(f"{burden.collections} collections and forks of {1000 * burden.longest:.0f} ms at most")
    console.print(f"episodes stopped by: {[s for s in stops if s] or 'nothing'}", soft_wrap=True)
    console.print(session.recording_warning, soft_wrap=True)
    console.print(f"the hypervisor kept {(stolen_seconds() or 0.0) - stolen:.2f} CPU s")


def kill(cfg: DeployConfig, factory: Any, session: Session, console: Console) -> None:
    """Kill the loop, and tell how long after its last sign of life the driver was stopped."""

    def act(status: Status, seconds: float) -> None:
        if seconds > 0.5 and session._loop.pid is not None:
            os.kill(session._loop.pid, signal.SIGKILL)

    try:
        session.run(cfg.planned(1)[0], planner_of(cfg, factory, session), act)
    except RobotError:
        pass
    deadline = time.monotonic() + 5.0
    while not session._body.halted_at and time.monotonic() < deadline:
        time.sleep(0.001)
    after = 1000 * (session._body.halted_at - session._link.beat["beat"])
    limit = 1000 * silence_limit(cfg.rate_hz)
    console.print(f"loop killed: the driver was stopped {after:.1f} ms after its last beat, limit {limit:g}")


def main(options: dict[str, str]) -> None:
    seconds, hogs, memory = (float(options.get(k, d)) for k, d in (("seconds", 60), ("hogs", 4), ("memory", 0.5)))
    console = Console()
    overrides = ["checkpoint=none", f"env={options.get('env', 'tabletop/reach')}", "env.cameras=[]"]
    cfg, _ = load("deploy", [*overrides, f"rate_hz={options.get('rate_hz', '500')}"], DeployConfig)
    factory = robot_of(cfg.robot, cfg.env)
    settings = cfg.settings(factory)
    with Session(factory=factory, settings=settings, sink=FullDisk()) as session:
        console.print(session.warning or "all real-time rights", soft_wrap=True)
        with ill_treated(int(hogs), memory), floor(settings.rate_hz, settings.priority) as idle:
            run(cfg, factory, session, seconds, console)
        console.print(told(idle), soft_wrap=True)
    with Session(factory=factory, settings=settings) as session, ill_treated(int(hogs), memory):
        kill(cfg, factory, session, console)


if __name__ == "__main__":
    main(dict(a.split("=", 1) for a in sys.argv[1:]))
