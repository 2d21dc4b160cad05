"""A committed episode is whole for ever, an uncommitted one is nowhere: whatever kills the writer, and when.

WAYHAND_KILLS sets how many times a writing process is killed.
"""

from __future__ import annotations

import errno
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import pytest
import zarr
from dataset_fixtures import assert_same, fill, make_episode, make_spec

from wayhand.datasets.check import validate
from wayhand.datasets.files import Disk
from wayhand.datasets.repair import repair
from wayhand.datasets.store import Dataset, open_for_append
from wayhand.datasets.writer import Writer
from wayhand.vla.errors import CorruptDataError, DataError

KILLS = int(os.environ.get("WAYHAND_KILLS", "8"))


class Crash(BaseException):
    """The process ends here."""


class FaultyDisk(Disk):
    """Performs `good` operations, then raises `error` at every further one until `good` is raised."""

    def __init__(self, root: Path, good: int, error: BaseException) -> None:
        super().__init__(root, durable=False)
        self.good, self.error, self.done = good, error, 0

    def _step(self) -> None:
        self.done += 1
        if self.done > self.good:
            raise self.error

    def stage(self, parts: Iterable[bytes]) -> Path:
        blob = b"".join(parts)
        try:
            self._step()
        except BaseException:
            super().stage([blob[: len(blob) // 2]])  # a full disk or a dying process leaves half a file
            raise
        return super().stage([blob])

    def publish(self, staged: Path, path: str) -> None:
        self._step()
        super().publish(staged, path)

    def flush(self, paths: Iterable[Path]) -> None:
        self._step()
        super().flush(paths)


def check(path: Path, committed: int, spec=make_spec()) -> Dataset:  # noqa: B008
    """Exactly `committed` episodes, whole, for us and for zarr-python with and without consolidated metadata."""
    dataset = Dataset(path)
    assert len(dataset) == committed
    for i in range(committed):
        assert_same(dataset.episode(i), make_episode(spec, i))
    assert dataset.hash() == dataset.hash(verify=True)
    report = validate(path)
    assert report.ok, list(map(str, report.problems))
    group = zarr.open_group(path, mode="r")
    ends = group["meta/episode_ends"][:]
    assert len(ends) == committed
    for name in dataset.arrays:
        shape = group[name].shape
        if name.startswith("data/"):
            assert shape[0] == (ends[-1] if committed else 0)
    bare = zarr.open_group(path, mode="r", use_consolidated=False)
    lengths = {n: bare[n].shape[0] for n in dataset.arrays}
    assert lengths["meta/episode_ends"] <= committed
    for name, rows in lengths.items():
        assert rows <= len(dataset.arrays[name])
        if name.startswith("data/"):
            seen = bare["meta/episode_ends"][:]
            assert not len(seen) or seen[-1] <= rows
    return dataset


def appended(path: Path, disk: FaultyDisk, number: int) -> int:
    """Operations that appending one episode takes, while `disk` lets it."""
    with Writer(path, disk=disk) as writer:
        disk.done = 0
        writer.append(make_episode(make_spec(), number))
        return disk.done


def test_a_crash_between_any_two_operations_loses_and_shows_nothing(tmp_path: Path):
    fill(tmp_path / "probe", range(3), shard_frames=8)
    total = appended(tmp_path / "probe", FaultyDisk(tmp_path / "probe", 10**9, Crash()), 3)
    path = tmp_path / "d"
    fill(path, range(1), shard_frames=8)
    committed = 1
    for good in range(0, total + 1, 3):
        disk = FaultyDisk(path, 10**9, Crash())
        writer = Writer(path, disk=disk)
        disk.done, disk.good = 0, good
        try:
            writer.append(make_episode(writer.spec, committed))
        except Crash:
            # The record is published just before the last operation, the flush of its folder.
            committed += good >= total - 1
        else:
            committed += 1
        writer._release()  # what the kernel does for a dead process
        check(path, committed)
    repair(path)
    assert not validate(path).leftovers
    check(path, committed)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_a_failing_disk_loses_nothing_and_the_writer_goes_on(tmp_path: Path, code: int):
    path = tmp_path / "d"
    fill(path, range(2), shard_frames=8)
    disk = FaultyDisk(path, 10**9, OSError(code, os.strerror(code)))
    committed = 2
    with Writer(path, disk=disk) as writer:
        for good in (0, 5, 11, 24, 30, 40, 45):
            disk.done, disk.good = 0, good
            with pytest.raises(DataError, match=f"Episode {committed} could not be written"):
                writer.append(make_episode(writer.spec, 77))
            assert len(writer) == len(Dataset(path)) == committed
            disk.done, disk.good = 0, 10**9
            writer.append(make_episode(writer.spec, committed))
            committed += 1
            operations = disk.done
        # Once the record has its name, the episode is there: only its durability can still fail.
        disk.done, disk.good = 0, operations - 1
        with pytest.raises(DataError, match="may not survive a power cut"):
            writer.append(make_episode(writer.spec, committed))
        assert len(writer) == committed + 1
    check(path, committed + 1)


def test_a_file_that_was_damaged_under_the_writer_is_not_continued(tmp_path: Path):
    path = tmp_path / "d"
    fill(path, range(2), shard_frames=64)
    file = path / "data/observation.images.front/c.0.0.0.0"
    with open_for_append(path, durable=False) as writer:
        writer.append(make_episode(writer.spec, 2))
        content = file.read_bytes()
        for damaged in (content[:9] + bytes([content[9] ^ 1]) + content[10:], content[: len(content) // 2]):
            file.write_bytes(damaged)
            with pytest.raises(CorruptDataError, match="c.0.0.0.0"):
                writer.append(make_episode(writer.spec, 3))
            assert len(writer) == 3 and not any((path / ".staging").iterdir())
        file.write_bytes(content)
        assert writer.append(make_episode(writer.spec, 3)) == 3
    check(path, 4)


def kill_once(path: Path, committed: int, rng: random.Random) -> int:
    """Let a process write and kill it at a random moment; returns how many episodes it said were committed."""
    script = Path(__file__).with_name("dataset_fixtures.py")
    command = [sys.executable, str(script), str(path), str(committed)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        for _ in range(rng.randrange(3)):
            committed = int(process.stdout.readline()) + 1
        time.sleep(rng.random() * 0.12)
        process.send_signal(signal.SIGKILL)
        for line in process.stdout:
            if line.endswith(b"\n"):
                committed = int(line) + 1
    return committed


def test_killed_writers_leave_every_committed_episode_whole(tmp_path: Path):
    rng = random.Random(0)
    path, said = tmp_path / "0", 0
    for kill in range(KILLS):
        if said > 40:
            path, said = tmp_path / str(kill), 0
        said = kill_once(path, said, rng)
        # The last commit may have come after the process could say so, never before.
        found = len(Dataset(path))
        assert found - said in (0, 1), f"kill {kill}: {found} episodes, {said} announced"
        said = found
        check(path, found)
    with open_for_append(path) as writer:
        writer.append(make_episode(writer.spec, said))
    assert not validate(path).leftovers or repair(path)[1].ok
    check(path, said + 1)
