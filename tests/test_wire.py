"""The wire is openpi's to the byte, and nothing that arrives on it can hurt."""

from __future__ import annotations

import math
import os
import struct
import subprocess
import sys
from pathlib import Path

import msgpack
import numpy as np
import pytest
import wire_fuzz
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from wayhand.vla.bridge import wire
from wayhand.vla.bridge.wire import Limits, WireError, pack, unpack

ROOT = Path(__file__).resolve().parents[1]
ARRAY, SCALAR = "84c40b5f5f6e6461727261795f5fc3c40464617461", "83c40d5f5f6e7067656e657269635f5fc3c40464617461"
DTYPE, SHAPE = "c4056474797065", "c4057368617065"
GOLDEN = [
    (np.array([0, 1, 2], np.uint8), f"{ARRAY} c403 000102 {DTYPE} a3 7c7531 {SHAPE} 91 03"),
    (
        {"actions": np.zeros((1, 2), np.float32)},
        f"81 a7 616374696f6e73 {ARRAY} c408 0000000000000000 {DTYPE} a3 3c6634 {SHAPE} 92 01 02",
    ),
    (np.array(2.0), f"{ARRAY} c408 0000000000000040 {DTYPE} a3 3c6638 {SHAPE} 90"),
    (np.float32(1.5), f"{SCALAR} cb 3ff8000000000000 {DTYPE} a3 3c6634"),
    (np.int64(3), f"{SCALAR} 03 {DTYPE} a3 3c6938"),
    (np.bool_(True), f"{SCALAR} c3 {DTYPE} a3 7c6231"),
    (np.float64(1.5), "cb 3ff8000000000000"),
    ({}, "80"),
    ({"prompt": "x"}, "81 a6 70726f6d7074 a1 78"),
]


@pytest.mark.parametrize(("value", "written"), GOLDEN, ids=[repr(v) for v, _ in GOLDEN])
def test_golden_bytes(value: object, written: str) -> None:
    frame = bytes.fromhex(written.replace(" ", ""))
    assert pack(value) == frame
    assert pack(unpack(frame)) == frame


DTYPES = st.sampled_from([np.dtype(order + code) for code in wire.DTYPES for order in "<>"])
ARRAYS = DTYPES.flatmap(lambda d: hnp.arrays(d, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5)))
TEXTS = st.text(st.characters(codec="utf-8"), max_size=9)
LEAVES = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | TEXTS | st.binary() | ARRAYS
VALUES = st.recursive(LEAVES, lambda v: st.lists(v, max_size=4) | st.dictionaries(TEXTS, v, max_size=4))


def same(a: object, b: object) -> bool:
    if isinstance(a, (np.ndarray, np.generic)):
        same_kind = type(a) is type(b) and a.dtype == b.dtype and a.shape == b.shape  # type: ignore[union-attr]
        return same_kind and a.tobytes() == b.tobytes()  # type: ignore[union-attr]
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list):
        return isinstance(b, list) and len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, float) and math.isnan(a):
        return isinstance(b, float) and math.isnan(b)
    return type(a) is type(b) and a == b


@given(VALUES)
def test_what_is_packed_comes_back(value: object) -> None:
    assert same(value, unpack(pack(value)))


@given(st.dictionaries(TEXTS, LEAVES, max_size=5))
def test_plain_msgpack_reads_every_frame(value: dict[str, object]) -> None:
    """The codec is msgpack with a convention, so that any language can speak it."""
    assert len(msgpack.unpackb(pack(value))) == len(value)


def test_arrays_travel_whatever_their_layout() -> None:
    base = np.arange(24, dtype=">f4").reshape(2, 3, 4)
    for array in (base[:, ::-1], base.T, np.asfortranarray(base), base[..., 0], base[:0]):
        back = unpack(pack(array))
        assert back.dtype.str == ">f4" and np.array_equal(back, array) and not back.flags.writeable
    large = np.arange(40_000, dtype=np.int16).reshape(200, 200)
    assert np.array_equal(unpack(pack(large[::2, ::3])), large[::2, ::3])


def test_tuples_travel_as_lists_and_numpy_texts_as_texts() -> None:
    assert unpack(pack({"a": (1, 2), "b": np.str_("x")})) == {"a": [1, 2], "b": "x"}


def test_text_markers_and_binary_keys_are_read_too() -> None:
    array = {"__ndarray__": True, "data": b"\1\2", "dtype": b"|u1", "shape": [2]}
    assert np.array_equal(unpack(msgpack.packb(array)), [1, 2])
    assert unpack(msgpack.packb({b"state": 1})) == {"state": 1}


@pytest.mark.parametrize(
    "value",
    [np.array(["a"]), np.array([None]), np.zeros(2, complex), np.zeros(2, "M8[s]"), np.zeros(2, "V4"), {1, 2}, 2**64],
    ids=repr,
)
def test_what_cannot_travel_is_refused(value: object) -> None:
    with pytest.raises(WireError):
        pack({"x": value})


# --- hostile frames --------------------------------------------------------------------------------------------


def marked(**fields: object) -> bytes:
    whole = {"__ndarray__": True, "data": b"\0" * 8, "dtype": "<f4", "shape": [2], **fields}
    return msgpack.packb({k.encode(): v for k, v in whole.items() if v is not ...})


HOSTILE = {
    "object dtype": marked(dtype="|O"),
    "void dtype": marked(dtype="|V8"),
    "complex dtype": marked(dtype="<c8", shape=[1]),
    "text dtype": marked(dtype="<U1"),
    "time dtype": marked(dtype="<M8[ns]", shape=[1]),
    "structured dtype": marked(dtype="f4,f4", shape=[1]),
    "dtype of another type": marked(dtype=[["a", "O"]]),
    "negative shape": marked(shape=[-2]),
    "huge shape": marked(shape=[2**62]),
    "overflowing shape": marked(shape=[2**32, 2**32]),
    "empty but huge": marked(shape=[0] + [2**26] * 7, data=b""),
    "shape of floats": marked(shape=[2.0]),
    "shape of booleans": marked(shape=[True, 2]),
    "shape no list": marked(shape=2),
    "rank 65": marked(shape=[1] * 64 + [2]),
    "rank 9": marked(shape=[1] * 8 + [2]),
    "too few bytes": marked(data=b"\0" * 7),
    "too many bytes": marked(data=b"\0" * 9),
    "data no bytes": marked(data="\0" * 8),
    "data missing": marked(data=...),
    "one field more": marked(more=1),
    "marker not true": marked(__ndarray__=1),
    "scalar out of range": msgpack.packb({b"__npgeneric__": True, b"data": 256, b"dtype": "|u1"}),
    "scalar no number": msgpack.packb({b"__npgeneric__": True, b"data": [1], b"dtype": "<f4"}),
    "nested 10,000 deep": b"\x91" * 10_000 + b"\xc0",
    "maps nested 10,000 deep": b"\x81\xa1a" * 10_000 + b"\xc0",
    "truncated": pack({"a": np.zeros(100)})[:-1],
    "trailing": pack({"a": 1}) + b"\0",
    "duplicate keys": b"\x82\xa1a\x01\xa1a\x02",
    "duplicate as text and bytes": b"\x82\xa1a\x01\xc4\x01a\x02",
    "integer keys": b"\x81\x01\x02",
    "array as key": b"\x81\x91\x01\x02",
    "2 GiB binary": b"\xc6\x80\x00\x00\x00",
    "4 GiB text": b"\xdb\xff\xff\xff\xff",
    "4 billion items": b"\xdd\xff\xff\xff\xff",
    "4 billion pairs": b"\xdf\xff\xff\xff\xff",
    "a million empty maps": b"\xdd" + struct.pack(">I", 1_000_000) + b"\x80" * 1_000_000,
    "extension type": msgpack.packb(msgpack.ExtType(1, b"x")),
    "timestamp": msgpack.packb(msgpack.Timestamp(0, 0)),
    "the unused byte": b"\xc1",
    "text that is no UTF-8": b"\xa2\xff\xfe",
    "key that is no UTF-8": b"\x81\xc4\x01\xff\x01",
    "nothing": b"",
    "pickle": bytes.fromhex("80049527000000000000008c05706f736978948c0673797374656d9493948c0c746f7563682063616e617279"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_frames_are_refused(name: str) -> None:
    with pytest.raises(WireError) as caught:
        unpack(HOSTILE[name])
    assert "Traceback" not in str(caught.value) and len(str(caught.value)) < 400


def test_limits_are_the_reader_s() -> None:
    frame = pack({"a": [np.zeros((2, 2))]})
    unpack(frame, Limits(size=len(frame), nodes=20, depth=4, rank=2))
    for limits in (Limits(size=len(frame) - 1), Limits(nodes=5), Limits(depth=1), Limits(rank=1)):
        with pytest.raises(WireError):
            unpack(frame, limits)


def test_a_frame_costs_no_more_memory_than_its_size_allows() -> None:
    """In a process of its own: the largest bombs of each kind, and how much memory they took."""
    code = (
        "import resource, struct, sys\n"
        "from wayhand.vla.bridge.wire import unpack, WireError\n"
        "now = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "size = 8 << 20\n"
        "far, rest = struct.pack('>I', 2**31 - 1), bytes(size)\n"
        "frames = [b'\\xdd' + struct.pack('>I', size) + b'\\x80' * size, b'\\xdd' + far + b'\\x90' * size,\n"
        "          b'\\x91' * size, b'\\xc6' + far + rest, b'\\xdf' + far + rest]\n"
        "before = now()\n"
        "for frame in frames:\n"
        "    try: unpack(frame); sys.exit('taken')\n"
        "    except WireError: pass\n"
        "print(now() - before)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 2 * (8 << 10)  # KiB


@pytest.mark.parametrize("seed", range(4))
def test_fuzzed_frames_are_read_or_refused(seed: int) -> None:
    """`python tests/wire_fuzz.py 1000000` does the same a million times."""
    counts = wire_fuzz.run(2_500, seed)
    assert counts.frames == 2_500 and counts.taken > 0 and counts.refused > 0


# --- where it runs ---------------------------------------------------------------------------------------------


def test_the_codec_runs_on_python_3_9_with_numpy_and_msgpack_alone() -> None:
    code = (
        "import sys, types\n"
        "package = types.ModuleType('vla'); package.__path__ = [sys.argv[1]]; sys.modules['vla'] = package\n"
        "import numpy, vla.bridge.wire as wire\n"
        "assert wire.unpack(wire.pack({'a': numpy.arange(3)}))['a'].sum() == 3\n"
        "known = set(sys.stdlib_module_names) if sys.version_info >= (3, 10) else set()\n"
        "print(*sorted({m.split('.')[0] for m in sys.modules} & {'websockets', 'torch', 'scipy', 'wayhand'}))\n"
    )
    old = os.environ.get("WAYHAND_PYTHON39", "python3.9")
    probe = "import sys, numpy, msgpack; sys.exit(sys.version_info[:2] != (3, 9))"
    try:
        if subprocess.run([old, "-c", probe], capture_output=True, timeout=60).returncode:
            pytest.skip("no python3.9 with numpy and msgpack; WAYHAND_PYTHON39 may name one")
    except FileNotFoundError:
        pytest.skip("no python3.9 on this machine; WAYHAND_PYTHON39 may name one")
    done = subprocess.run([old, "-c", code, str(ROOT / "vla")], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr
