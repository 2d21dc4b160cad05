"""A minimal PNG writer whose bytes do not depend on the compression library of a machine: it stores, uncompressed."""

from __future__ import annotations

import struct
import zlib

import numpy as np


def encode(pixels: np.ndarray) -> bytes:
    """PNG of uint8 [h w 3]; grey pictures are written with a palette, a third of the size."""
    height, width = pixels.shape[:2]
    grey = bool((pixels == pixels[..., :1]).all())
    rows = pixels[..., 0] if grey else pixels.reshape(height, -1)
    raw = np.concatenate([np.zeros((height, 1), np.uint8), rows], axis=1).tobytes()
    header = struct.pack(">IIBBBBB", width, height, 8, 3 if grey else 2, 0, 0, 0)
    palette = _chunk(b"PLTE", bytes(v for v in range(256) for _ in range(3))) if grey else b""
    body = _chunk(b"IHDR", header) + palette + _chunk(b"IDAT", _stored(raw)) + _chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _stored(raw: bytes) -> bytes:
    """A zlib stream of stored blocks (RFC 1950, 1951)."""
    out = [b"\x78\x01"]
    for at in range(0, len(raw), 65535):
        block = raw[at : at + 65535]
        last = at + 65535 >= len(raw)
        out.append(struct.pack("<BHH", last, len(block), len(block) ^ 0xFFFF) + block)
    return b"".join(out) + struct.pack(">I", zlib.adler32(raw))
