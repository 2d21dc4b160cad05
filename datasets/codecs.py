"""Chunks to bytes and back: zarr v3's `bytes`, `blosc` or `zstd`, and `crc32c`, through their C functions.

Every encoded chunk ends in its CRC-32C, little endian. The CRC of such a string is a constant, which one call
checks without slicing.
"""

from __future__ import annotations

from typing import Any

import google_crc32c
import numpy as np
from numcodecs import blosc, zstd

from .layout import ArrayLayout

CRC_BYTES = 4
_RESIDUE = 0x48674BC7
_POLYNOMIAL = 0x82F63B78

# One chunk is small: blosc's thread pool only costs wake-ups, and its global state is not for concurrent callers.
blosc.use_threads = False


def with_crc(payload: bytes) -> bytes:
    """`payload` followed by its CRC-32C."""
    return payload + google_crc32c.value(payload).to_bytes(CRC_BYTES, "little")


def crc_ok(blob: bytes) -> bool:
    """Whether `blob` is what `with_crc` returned."""
    return len(blob) >= CRC_BYTES and google_crc32c.value(blob) == _RESIDUE


def flipped_bit(blob: bytes) -> tuple[int, int] | None:
    """The (byte, bit) whose flip alone makes `blob` match its CRC-32C, or None where no single flip does.

    The CRC is linear: a flipped bit changes it by a value that depends on its distance from the end alone, and all
    these are different up to 256 MiB.
    """
    if len(blob) < CRC_BYTES:
        return None
    syndrome = google_crc32c.value(blob) ^ _RESIDUE
    if not syndrome:
        return None
    found = np.flatnonzero(_syndromes(8 * len(blob)) == syndrome)
    if not len(found):
        return None
    distance = int(found[0])
    return len(blob) - 1 - distance // 8, 7 - distance % 8


def _syndromes(bits: int) -> np.ndarray[Any, Any]:
    """uint32 [≥ bits]: what flipping one bit does to the CRC, by the bit's distance from the end."""
    values = np.array([_POLYNOMIAL], np.uint32)
    # One step further from the end is a linear map; `columns` are its images of the 32 unit vectors.
    units = np.uint32(1) << np.arange(32, dtype=np.uint32)
    columns = units >> np.uint32(1)
    columns[0] = _POLYNOMIAL
    while len(values) < bits:
        tables = [_apply(columns, np.arange(256, dtype=np.uint32) << np.uint32(shift)) for shift in (0, 8, 16, 24)]
        parts = [table[values >> np.uint32(8 * i) & np.uint32(255)] for i, table in enumerate(tables)]
        values = np.concatenate([values, parts[0] ^ parts[1] ^ parts[2] ^ parts[3]])
        columns = _apply(columns, columns)
    return values


def _apply(columns: np.ndarray[Any, Any], vectors: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The linear map with these images of the unit vectors, of each vector."""
    out = np.zeros_like(vectors)
    for bit in range(32):
        out ^= columns[bit] * (vectors >> np.uint32(bit) & np.uint32(1))
    return out


def encode(array: ArrayLayout, chunk: np.ndarray[Any, Any]) -> bytes:
    """One whole chunk [chunk_rows, …], checksummed."""
    plain = np.ascontiguousarray(chunk, array.dtype.newbyteorder("<")).reshape(-1).view(np.uint8)
    if array.codec == "lz4":
        return with_crc(blosc.compress(plain, b"lz4hc", 5, blosc.NOSHUFFLE, 0))
    if array.codec == "zstd":
        return with_crc(zstd.compress(plain, 3))
    return with_crc(plain.tobytes())


def decode(codec: str, payload: memoryview, out: np.ndarray[Any, Any]) -> None:
    """Decode a chunk, without its CRC, into `out`, contiguous and of exactly the chunk's bytes.

    Never writes past `out` and allocates nothing of a size that the payload names. Raises `ValueError` or
    `RuntimeError` where the payload does not hold exactly that much.
    """
    if codec == "zstd":
        zstd.decompress(payload, out)
    elif codec == "lz4":
        if len(payload) < 16 or int.from_bytes(payload[4:8], "little") != out.nbytes:
            raise ValueError("the blosc header names another size")
        blosc.decompress(payload, out)
    else:
        if len(payload) != out.nbytes:
            raise ValueError("the chunk has another size")
        out.reshape(-1).view(np.uint8)[:] = np.frombuffer(payload, np.uint8)
