"""The few file operations a dataset is made of, so that there is one place where a disk can fail.

Reading follows no symbolic link below the dataset's root and opens nothing but regular files.
"""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ..vla.errors import DataError

STAGING = ".staging"
LOCK = ".lock"
_FLUSHES = 16


def open_inside(root: Path, path: str) -> int:
    """A read-only descriptor of the regular file at `path` below `root`, following no symbolic link on the way.

    Raises:
        FileNotFoundError: there is nothing.
        DataError: something on the way is a link or no regular file.
    """
    parts = path.split("/")
    folder = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for depth, part in enumerate(parts):
            last = depth == len(parts) - 1
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | (0 if last else os.O_DIRECTORY)
            try:
                if part in ("", ".", ".."):
                    raise OSError("not a plain name")
                opened = os.open(part, flags, dir_fd=folder)
            except FileNotFoundError:
                raise
            except OSError as error:
                raise DataError(
                    f"Refused to open {root / path}",
                    expected="regular files in regular folders, no symbolic link",
                    got=str(error),
                ) from error
            os.close(folder)
            folder = opened
        if not stat.S_ISREG(os.fstat(folder).st_mode):
            raise DataError(f"Refused to open {root / path}", expected="a regular file")
        return folder
    except BaseException:
        os.close(folder)
        raise


def read_inside(root: Path, path: str, limit: int = 1 << 28) -> bytes:
    """The whole of a file below `root`; refuses more than `limit` bytes."""
    with os.fdopen(open_inside(root, path), "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size > limit:
            raise DataError(f"Refused to read {root / path}", expected=f"at most {limit} bytes", got=f"{size} bytes")
        return file.read()


class Disk:
    """Writes of one dataset folder. With `durable`, `flush` makes what it is given survive a power cut."""

    def __init__(self, root: Path, *, durable: bool = True) -> None:
        self.root = root
        self.durable = durable
        self._count = 0

    def stage(self, parts: Iterable[bytes | memoryview]) -> Path:
        """A new complete file in the staging folder."""
        self._count += 1
        path = self.root / STAGING / f"{os.getpid()}-{self._count}"
        with open(path, "wb") as file:
            file.writelines(parts)
        return path

    def publish(self, staged: Path, path: str) -> None:
        """Give a staged file its name below the root, replacing atomically what was there."""
        os.replace(staged, self.root / path)

    def flush(self, paths: Iterable[Path]) -> None:
        """Wait until files, or the names in folders, are on the disk; all at once, to share the journal's commit."""
        if not self.durable:
            return
        with ThreadPoolExecutor(_FLUSHES, "flush") as pool:
            for done in [pool.submit(_fsync, path) for path in paths]:
                done.result()

    def clear_staging(self) -> list[str]:
        """Remove what an interrupted write left; returns the names."""
        folder = self.root / STAGING
        folder.mkdir(exist_ok=True)
        left = sorted(p.name for p in folder.iterdir())
        for name in left:
            (folder / name).unlink()
        return left


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Lock:
    """At most one writer per dataset; released by the kernel when the process ends, however it ends."""

    def __init__(self, root: Path) -> None:
        self._file = open(root / LOCK, "a+")  # noqa: SIM115
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._file.seek(0)
            owner = self._file.read(32).strip()
            self._file.close()
            raise DataError(
                f"{root} is being written by another process",
                expected="one writer at a time",
                got=f"process {owner or '?'}",
            ) from error
        self._file.truncate(0)
        self._file.write(str(os.getpid()))
        self._file.flush()

    def release(self) -> None:
        self._file.close()
