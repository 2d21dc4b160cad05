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

# One chunk is small: blosc's thread pool only costs wake-ups, and its global state is not for concurrent callers.
blosc.use_threads = False


def with_crc(payload: bytes) -> bytes:
    """`payload` followed by its CRC-32C."""
    return payload + google_crc32c.value(payload).to_bytes(CRC_BYTES, "little")


def crc_ok(blob: bytes) -> bool:
    """Whether `blob` is what `with_crc` returned."""
    return len(blob) >= CRC_BYTES and google_crc32c.value(blob) == _RESIDUE


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
