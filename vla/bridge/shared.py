"""A ring of records in shared memory: one writer, any number of readers, no locks, no copies through a pipe.

Each slot is a seqlock: its counter is odd while the writer is inside, and a reader that sees it change reads again.
A checksum over the record makes a torn read impossible to mistake for a whole one on machines that reorder stores.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.shared_memory import SharedMemory

import numpy as np

from ..contract import ActionChunk, EnvSpec, Observation, decode_text, encode_text
from ..errors import RobotError
from .chunking import HumanChunk

_ALIGN = 64


@dataclass(frozen=True)
class Layout:
    """What one record holds: name → (shape, dtype)."""

    fields: tuple[tuple[str, tuple[int, ...], str], ...]

    @staticmethod
    def of(**fields: tuple[tuple[int, ...], str]) -> Layout:
        return Layout(tuple((name, tuple(shape), dtype) for name, (shape, dtype) in fields.items()))

    def dtype(self) -> np.dtype:
        """A structured dtype whose fields each start on a cache line."""
        offsets, position = [], 0
        for _, shape, dtype in self.fields:
            offsets.append(position)
            size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
            position += -(-max(size, 1) // _ALIGN) * _ALIGN
        return np.dtype(
            {
                "names": [name for name, _, _ in self.fields],
                "formats": [(dtype, shape) for _, shape, dtype in self.fields],
                "offsets": offsets,
                "itemsize": position,
            }
        )


class Ring:
    """The last `slots` records of one writer.

    Args:
        layout: of a record.
        slots: how many records a reader may fall behind before it loses some; at least 2.
        name: of an existing ring to attach to; None makes a new one, which its maker `unlink`s.

    Record k (from 0) lives in slot k % slots. Another process attaches with `Ring(layout, slots, ring.name)`.
    """

    def __init__(self, layout: Layout, slots: int = 4, name: str | None = None) -> None:
        self.layout = layout
        self.slots = slots
        dtype = layout.dtype()
        size = _ALIGN + slots * (_ALIGN + dtype.itemsize)
        self._memory = SharedMemory(name=name, create=name is None, size=size)
        self._maker = name is None
        buffer = self._memory.buf
        assert buffer is not None
        self._count = np.ndarray((1,), np.int64, buffer)  # records written so far
        head = np.dtype({"names": ["sequence", "check"], "formats": ["i8", "u4"], "itemsize": _ALIGN})
        heads = np.ndarray((slots,), head, buffer, _ALIGN)
        self._sequence, self._check = heads["sequence"], heads["check"]
        self._records = np.ndarray((slots,), dtype, buffer, _ALIGN + slots * _ALIGN)
        names = [field for field, _, _ in layout.fields]
        self._views = [{field: self._records[slot : slot + 1][field] for field in names} for slot in range(slots)]
        start = _ALIGN + slots * _ALIGN
        self._bytes = [buffer[start + i * dtype.itemsize : start + (i + 1) * dtype.itemsize] for i in range(slots)]
        if self._maker:
            self._count[0] = 0
            heads["sequence"] = 0

    @property
    def name(self) -> str:
        return self._memory.name

    @property
    def count(self) -> int:
        """Records written so far; unchanged means nothing new."""
        return int(self._count[0])

    def write(self, **values: object) -> None:
        """Append one record; every field must be given."""
        slot = int(self._count[0]) % self.slots
        view = self._views[slot]
        self._sequence[slot] += 1
        for field in view:
            view[field][0] = values[field]
        self._check[slot] = zlib.crc32(self._bytes[slot])
        self._sequence[slot] += 1
        self._count[0] += 1

    def latest(self) -> dict[str, np.ndarray] | None:
        """A copy of the newest record, or None before the first."""
        while (count := self.count) > 0:
            record = self._read(count - 1)
            if record is not None:
                return record
        return None

    def since(self, count: int) -> tuple[list[dict[str, np.ndarray]], int]:
        """Copies of all records from number `count` on that are still held, oldest first, and the new count."""
        newest = self.count
        records = [self._read(k) for k in range(max(count, newest - self.slots + 1), newest)]
        return [r for r in records if r is not None], newest

    def _read(self, number: int) -> dict[str, np.ndarray] | None:
        """Record `number`, or None where the writer is on it or past it."""
        slot = number % self.slots
        before = int(self._sequence[slot])
        if before != 2 * (number // self.slots + 1):
            return None
        raw = bytes(self._bytes[slot])
        check = int(self._check[slot])
        if int(self._sequence[slot]) != before or zlib.crc32(raw) != check:
            return None
        row = np.frombuffer(raw, self._records.dtype)[0]
        return {field: np.array(row[field]) for field, _, _ in self.layout.fields}

    def close(self) -> None:
        """Let go of the memory; its maker also removes it."""
        for raw in self._bytes:
            raw.release()
        # Every array over the memory must be gone before it can be unmapped.
        self._views, self._bytes = [], []
        del self._count, self._sequence, self._check, self._records
        self._memory.close()
        if self._maker:
            self._memory.unlink()


# --- observations as records -----------------------------------------------------------------------------------


def observation_layout(spec: EnvSpec, images: bool = True) -> Layout:
    """The record of one observation of `spec`; `images=False` leaves cameras out."""
    cameras = {c.name for c in spec.cameras}
    fields: dict[str, tuple[tuple[int, ...], str]] = {}
    for path, array in spec.columns().items():
        kind, _, rest = path.removeprefix("observation.").partition(".")
        of_camera = kind in ("images", "depth", "semantics") or (kind == "times" and rest in cameras)
        if path.startswith("observation.") and (images or not of_camera):
            fields[path] = (array.shape, array.dtype)
    fields["instruction"] = ((len(encode_text("")),), "uint8")
    fields["epoch"] = ((), "int64")
    return Layout.of(**fields)


def observation_record(observation: Observation, epoch: int) -> dict[str, object]:
    return {**observation.columns(), "instruction": encode_text(observation.instruction), "epoch": epoch}


def to_observation(record: Mapping[str, np.ndarray]) -> Observation:
    return Observation.from_columns(record, decode_text(record["instruction"]))


# --- chunks as records -----------------------------------------------------------------------------------------

LONGEST_CHUNK = 256
"""Actions a chunk may hold on its way to the loop: 5 s at 50 Hz."""


def chunk_layout(width: int) -> Layout:
    """The record of a chunk of absolute targets with `width` elements."""
    return Layout.of(
        actions=((LONGEST_CHUNK, width), "float64"),
        times=((LONGEST_CHUNK,), "float64"),
        shape=((2,), "int64"),
        observed_at=((), "float64"),
        human=((), "uint8"),
        epoch=((), "int64"),
    )


def write_chunk(ring: Ring, chunk: ActionChunk, epoch: int) -> None:
    """Hand over `chunk`; of one with a wrong width only the shape travels, for the gate to refuse.

    Raises `RobotError` where it is longer than `LONGEST_CHUNK`.
    """
    length, width = chunk.actions.shape
    if length > LONGEST_CHUNK:
        raise RobotError("An action chunk is too long", expected=f"at most {LONGEST_CHUNK} actions", got=str(length))
    room = ring.layout.fields[0][1]
    actions, times = np.zeros(room), np.zeros(room[0])
    if width == room[1]:
        actions[:length] = chunk.actions
    times[:length] = chunk.times
    ring.write(
        actions=actions,
        times=times,
        shape=(length, width),
        observed_at=chunk.observed_at,
        human=isinstance(chunk, HumanChunk),
        epoch=epoch,
    )


def to_chunk(record: Mapping[str, np.ndarray]) -> ActionChunk:
    """Inverse of `write_chunk`; a chunk with a wrong width comes back as zeros of that width."""
    length, width = (int(n) for n in record["shape"])
    fits = width == record["actions"].shape[1]
    actions = record["actions"][:length] if fits else np.zeros((length, width))
    kind = HumanChunk if record["human"] else ActionChunk
    return kind(actions, record["times"][:length], float(record["observed_at"]))
