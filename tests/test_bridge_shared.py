"""Shared memory and the processes around it."""

from __future__ import annotations

import multiprocessing
import re
from pathlib import Path

import numpy as np
import pytest
from bridge_body import CARTESIAN, ROBOT, STARVED, Plane, Steady, StickBody, unstarved

from wayhand.vla.bridge import realtime
from wayhand.vla.bridge.chunking import JointTargets
from wayhand.vla.bridge.loop_link import Status
from wayhand.vla.bridge.planner import Planner
from wayhand.vla.bridge.process import LoopSettings
from wayhand.vla.bridge.session import Episode, Outcome, Session
from wayhand.vla.bridge.shared import (
    LONGEST_CHUNK,
    Layout,
    Ring,
    chunk_layout,
    observation_layout,
    observation_record,
    to_chunk,
    to_observation,
    write_chunk,
)
from wayhand.vla.contract import ActionChunk
from wayhand.vla.errors import RobotError

LAYOUT = Layout.of(number=((), "int64"), block=((5000,), "int64"))


def write_many(name: str, count: int) -> None:
    ring = Ring(LAYOUT, 3, name)
    for k in range(count):
        ring.write(number=k, block=np.full(5000, k))
    ring.close()


def test_a_ring_never_returns_a_torn_record() -> None:
    ring = Ring(LAYOUT, 3)
    count = 5000
    writer = multiprocessing.get_context("spawn").Process(target=write_many, args=(ring.name, count))
    writer.start()
    seen = []
    try:
        while not seen or seen[-1] < count - 1:
            record = ring.latest()
            if record is not None:
                assert (record["block"] == record["number"]).all()
                seen.append(int(record["number"]))
            assert writer.is_alive() or ring.count == count
    finally:
        writer.join()
        writer.close()
        ring.close()
    assert seen == sorted(seen)


def test_a_record_being_written_is_not_read() -> None:
    ring = Ring(LAYOUT, 2)
    try:
        assert ring.latest() is None and ring.count == 0
        ring.write(number=1, block=np.ones(5000))
        ring._bytes[0][0] ^= 1  # what a reader would see of a half-written record
        assert ring.since(0) == ([], 1)
    finally:
        ring.close()


def test_a_reader_gets_every_record_that_is_still_held() -> None:
    ring = Ring(Layout.of(k=((), "int64")), 4)
    reader = Ring(ring.layout, 4, ring.name)
    try:
        for k in range(3):
            ring.write(k=k)
        records, count = reader.since(0)
        assert [int(r["k"]) for r in records] == [0, 1, 2] and count == 3
        assert reader.since(count) == ([], 3)
        for k in range(3, 20):
            ring.write(k=k)
        assert [int(r["k"]) for r in reader.since(count)[0]] == [17, 18, 19]
        newest = reader.latest()
        assert newest is not None and int(newest["k"]) == 19
    finally:
        reader.close()
        ring.close()


def test_observations_survive_the_ring() -> None:
    observation = StickBody().observe()
    ring = Ring(observation_layout(ROBOT), 2)
    try:
        ring.write(**observation_record(observation, 7))
        record = ring.latest()
        assert record is not None and int(record["epoch"]) == 7
        again = to_observation(record)
        again.check(ROBOT)
        assert again.instruction == "push" and again.times == observation.times
        for path, array in observation.columns().items():
            assert (again.columns()[path] == array).all()
    finally:
        ring.close()


def test_chunks_survive_the_ring_and_wrong_ones_keep_their_shape() -> None:
    ring = Ring(chunk_layout(3), 2)
    times = np.arange(1.0, 5.0)
    try:
        for actions in (np.arange(12.0).reshape(4, 3), np.ones((4, 2)), np.ones((0, 3))):
            write_chunk(ring, ActionChunk(actions, times[: len(actions)], 0.5), 1)
            record = ring.latest()
            assert record is not None
            chunk = to_chunk(record)
            assert chunk.actions.shape == actions.shape and chunk.observed_at == 0.5
            assert actions.shape[1] != 3 or (chunk.actions == actions).all()
        long = LONGEST_CHUNK + 1
        with pytest.raises(RobotError, match="too long"):
            write_chunk(ring, ActionChunk(np.zeros((long, 3)), np.arange(float(long)), 0.0), 1)
    finally:
        ring.close()


# --- real processes --------------------------------------------------------------------------------------------


def broken_body() -> StickBody:
    raise ValueError("no such arm")


def make_planner(session: Session, policy: Steady) -> Planner:
    targets = JointTargets(policy=CARTESIAN, robot=session.spec, kinematics=Plane())
    return Planner(policy=policy, spec=CARTESIAN, targets=targets)


def mapped() -> set[Path]:
    """The shared memory this process holds."""
    return {Path(p) for p in re.findall(r"/dev/shm/psm_\w+", Path("/proc/self/maps").read_text())}


def test_real_processes_run_episodes_and_leave_nothing_behind() -> None:
    before = mapped()
    statuses = []
    with Session(factory=StickBody, settings=LoopSettings(rate_hz=50.0)) as session:
        ours = mapped() - before  # other tests may hold memory of their own meanwhile
        assert session.spec == ROBOT and ours

        def run(seed: int, delta: float) -> Outcome:
            planner = make_planner(session, Steady(delta))
            return unstarved(lambda: session.run(Episode(seed, {}, 4, 0.0), planner, lambda s, t: statuses.append(s)))

        good = run(3, 0.04)
        assert good.success and good.reason == "" and good.inferences >= 1
        poisoned = run(4, float("nan"))
        assert not poisoned.success and "not finite" in poisoned.reason
        assert run(5, 0.04).success, "a new episode is the explicit reset"
        report = session.finish()
    assert report["chunks"] >= 2 and report["rejected_chunks"] >= 1 and report["ticks"] > 0
    faults = [reason for reason in report["latches"] if not reason.startswith(STARVED)]
    assert len(faults) == 1 and "not finite" in faults[0] and statuses[-1].ticks <= report["ticks"]
    assert not mapped() & ours and not [path for path in ours if path.exists()]


def test_an_interrupt_brings_the_robot_to_rest_first() -> None:
    def interrupt(status: Status, seconds: float) -> None:
        if status.chunks > 0:
            raise KeyboardInterrupt

    with Session(factory=StickBody, settings=LoopSettings(rate_hz=50.0)) as session:
        planner = make_planner(session, Steady(0.02))
        with pytest.raises(KeyboardInterrupt):
            unstarved(lambda: session.run(Episode(0, {}, 4, 0.0), planner, interrupt))
        assert not session.status.moving and session.status.reason == "stopped by the operator"
        assert all(reason.startswith(STARVED) for reason in session.finish()["latches"])


def test_a_simulator_that_cannot_start_says_why() -> None:
    with pytest.raises(RobotError, match="no such arm"):
        Session(factory=broken_body, settings=LoopSettings())


def test_missing_rights_become_one_line() -> None:
    assert realtime.Rights(True, True).warning == ""
    warning = realtime.Rights(False, True, ("SCHED_FIFO: Operation not permitted",)).warning
    assert "\n" not in warning and "SCHED_FIFO" in warning and "limits.conf" in warning
    assert (realtime.stolen_seconds() or 0.0) >= 0.0
