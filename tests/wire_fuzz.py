"""Frames made to break the decoder: honest ones mutated, headers that lie, random bytes.

    python tests/wire_fuzz.py 1000000 [seed]

Each must be decoded or refused with a `WireError`; anything else is a finding, and so is memory that grows.
"""

from __future__ import annotations

import random
import resource
import struct
import sys
import time
from dataclasses import dataclass

import msgpack
import numpy as np

from wayhand.vla.bridge.wire import Limits, WireError, pack, unpack

LIMITS = Limits(size=1 << 20)
MARKERS = [
    b"\xc4\x0b__ndarray__\xc3",
    b"\xc4\x0d__npgeneric__\xc3",
    b"\xc4\x04data",
    b"\xc4\x05dtype",
    b"\xc4\x05shape",
]
BYTES = [0x80, 0x81, 0x84, 0x8F, 0x90, 0x91, 0x9F, 0xA1, 0xBF, *range(0xC0, 0xE0), 0xFF, 0x00, 0x7F]
DTYPES = ["<f4", "|u1", "|O", "<U4", "|V8", "<c16", "<M8[s]", ">i8", "|b1", "f4,O", "", "\0"]


@dataclass
class Counts:
    frames: int = 0
    taken: int = 0
    refused: int = 0


def honest(rng: random.Random) -> bytes:
    """A frame as clients send it, small."""
    array = np.frombuffer(rng.randbytes(24), np.uint8)
    value = {
        "observation/image": array.reshape(2, 4, 3),
        "observation/state": array[:8].view(np.float32),
        "nested": {"list": [rng.random(), None, True, rng.getrandbits(60), "text"], "scalar": np.float32(rng.random())},
        "prompt": "pick up the cup",
    }
    return pack(dict(rng.sample(list(value.items()), rng.randint(1, 4))))


def lying(rng: random.Random) -> bytes:
    """A well-formed map whose marked array does not fit itself."""
    shape = [rng.choice([0, 1, 2, -1, 2**31, 2**63 - 1, 1.5, None, True]) for _ in range(rng.choice([0, 1, 2, 9, 65]))]
    fields = {
        b"__ndarray__": rng.choice([True, True, True, 1, None]),
        b"data": rng.choice([rng.randbytes(rng.randint(0, 40)), "text", 3, [1]]),
        b"dtype": rng.choice([*DTYPES, 5, [["a", "<f4"]]]),
        b"shape": rng.choice([shape, shape, "2", 2, {"a": 1}]),
    }
    kept = rng.sample(list(fields.items()), rng.choice([4, 4, 4, 3]))
    return msgpack.packb(dict(kept))


def mutated(rng: random.Random, frame: bytes) -> bytes:
    out = bytearray(frame)
    for _ in range(rng.randint(1, 6)):
        at = rng.randrange(len(out) + 1)
        kind = rng.randrange(7)
        if kind == 0 and out:
            out[at % len(out)] ^= 1 << rng.randrange(8)
        elif kind == 1:
            out[at:at] = bytes([rng.choice(BYTES)])
        elif kind == 2 and out:
            out[at % len(out)] = rng.choice(BYTES)
        elif kind == 3:
            del out[at : at + rng.randint(1, 16)]
        elif kind == 4:
            out[at:at] = rng.choice(MARKERS)
        elif kind == 5:
            size = struct.pack(">I", rng.choice([0, 1, 2**16, 2**31, 2**32 - 1]))
            out[at:at] = bytes([rng.choice([0xC6, 0xDB, 0xDD, 0xDF, 0xC9])]) + size
        else:
            out[at:at] = out[: rng.randint(0, 64)]
    return bytes(out)


def frame_of(rng: random.Random) -> bytes:
    kind = rng.random()
    if kind < 0.05:
        return honest(rng)
    if kind < 0.6:
        return mutated(rng, honest(rng))
    if kind < 0.8:
        return lying(rng)
    if kind < 0.9:
        return mutated(rng, lying(rng))
    if kind < 0.95:
        return bytes(rng.choice(BYTES) for _ in range(rng.randint(0, 64)))
    return rng.choice([b"\x91", b"\x81\xa1a", b"\x80", b"\x90"]) * rng.randint(1, 2_000) + rng.randbytes(8)


def run(frames: int, seed: int = 0) -> Counts:
    """Decode so many frames; raises whatever is no `WireError`, with the frame that did it."""
    rng, counts = random.Random(seed), Counts()
    for _ in range(frames):
        frame = frame_of(rng)
        counts.frames += 1
        try:
            unpack(frame, LIMITS)
            counts.taken += 1
        except WireError as error:
            counts.refused += 1
            if len(str(error)) > 1_000:
                raise AssertionError(f"a long error from {frame.hex()}") from error
        except BaseException as error:
            raise AssertionError(f"{type(error).__name__} from {frame.hex()}") from error
    return counts


def main(frames: int, seed: int) -> None:
    run(min(frames, 20_000), seed)  # what is allocated once is allocated now
    before, start = _resident(), time.monotonic()
    counts = run(frames, seed + 1)
    took, grown = time.monotonic() - start, _resident() - before
    print(f"{counts.frames} frames in {took:.0f} s: {counts.taken} taken, {counts.refused} refused, none else")
    print(f"memory grew by {grown} KiB; at most {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss} KiB")


def _resident() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * resource.getpagesize() // 1024


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0)
