"""How a dataset lies on disk: which zarr v3 arrays there are, their chunks and codecs, and the one commit record.

    zarr.json                        the commit record: group metadata with every array's size (consolidated)
    data/<dotted path>/              [frames, …]    rows of all episodes, concatenated
    final/<dotted path>/             [episodes, …]  the observation after each episode's last action
    meta/episode_ends/               [episodes]     cumulative ends on axis 0 of data/* (as in Diffusion Policy)
    meta/{instruction,success,sha256,provenance_ends,provenance}/

Everything is derived from the spec, the layout and four counts, so a reader builds the metadata it expects and
refuses any other: nothing in a file chooses a path, a codec or an allocation.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from ..vla.contract import INSTRUCTION_BYTES, EnvSpec
from ..vla.errors import CorruptDataError, DataError, SpecError

SCHEMA_VERSION = 1
CODECS = ("lz4", "zstd", "raw")
RECORD = "zarr.json"
GROUPS = ("data", "final", "meta")

FRAME_BYTES = 4096  # rows at least this large are read one by one and live in shards
ROW_CHUNK_BYTES = 128 * 1024
SHARD_BYTES = {
    "lz4": 64 << 20,
    "zstd": 64 << 20,
    "raw": 32 << 20,
}  # before compression; an append rewrites the last one
MAX_CHUNK_BYTES = 1 << 30
MAX_SHARD_CHUNKS = 1 << 20
DTYPES = ("bool", *(f"{s}int{b}" for s in ("", "u") for b in (8, 16, 32, 64)), "float16", "float32", "float64")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]*")


@dataclass(frozen=True)
class Layout:
    """How arrays of large rows (images, depth) are chunked and compressed.

    Args:
        codec: `"lz4"` (blosc LZ4-HC), `"zstd"` or `"raw"` (uncompressed); all carry a CRC-32C per chunk.
        chunk_frames: rows per chunk. 1 is fastest for random rows; 8 compresses static cameras much better.
        shard_frames: rows per shard file, a multiple of `chunk_frames`; 0 chooses by size.
    """

    codec: str = "lz4"
    chunk_frames: int = 1
    shard_frames: int = 0

    def __post_init__(self) -> None:
        if self.codec not in CODECS:
            raise DataError("Unknown codec", got=repr(self.codec), exists=CODECS)
        if not (isinstance(self.chunk_frames, int) and 1 <= self.chunk_frames <= 4096):
            raise DataError("chunk_frames is out of range", expected="1 … 4096", got=repr(self.chunk_frames))
        if not (isinstance(self.shard_frames, int) and 0 <= self.shard_frames <= MAX_SHARD_CHUNKS):
            raise DataError(
                "shard_frames is out of range", expected=f"0 … {MAX_SHARD_CHUNKS}", got=repr(self.shard_frames)
            )
        if self.shard_frames % self.chunk_frames:
            raise DataError(
                "A shard holds whole chunks",
                expected="shard_frames a multiple of chunk_frames",
                got=f"{self.shard_frames} and {self.chunk_frames}",
            )

    def to_dict(self) -> dict[str, Any]:
        return {"codec": self.codec, "chunk_frames": self.chunk_frames, "shard_frames": self.shard_frames}


@dataclass(frozen=True)
class Counts:
    """What the commit record commits: the sizes from which every array's shape follows."""

    episodes: int = 0
    frames: int = 0
    provenance_bytes: int = 0


@dataclass(frozen=True)
class ArrayLayout:
    """One zarr array.

    Args:
        path: group and name, e.g. `"data/observation.images.front"`.
        row_shape: shape of one row; axis 0 of the array counts rows.
        chunk_rows: rows per (inner) chunk.
        shard_chunks: chunks per shard file, or 0 where each chunk is a file of its own.
    """

    path: str
    row_shape: tuple[int, ...]
    dtype: np.dtype[Any]
    codec: str
    chunk_rows: int
    shard_chunks: int
    unit: str = ""

    @property
    def row_bytes(self) -> int:
        return prod(self.row_shape) * self.dtype.itemsize

    @property
    def chunk_bytes(self) -> int:
        return self.chunk_rows * self.row_bytes

    @property
    def file_chunks(self) -> int:
        """Chunks per file."""
        return self.shard_chunks or 1

    @property
    def file_rows(self) -> int:
        """Rows per file."""
        return self.chunk_rows * self.file_chunks

    @property
    def index_bytes(self) -> int:
        """Size of a file's index with its CRC-32C; a file of one bare chunk has none."""
        return self.shard_chunks * 16 + 4 if self.shard_chunks else 0

    def files(self, rows: int) -> int:
        """How many files hold `rows` rows."""
        return -(-rows // self.file_rows)

    def key(self, file: int) -> str:
        """Name of file number `file` inside the array's folder."""
        return ".".join(["c", str(file), *("0" for _ in self.row_shape)])

    def metadata(self, rows: int) -> dict[str, Any]:
        """The array's zarr v3 metadata at a length of `rows`."""
        chunk = [self.chunk_rows, *self.row_shape]
        codecs = _codecs(self.codec, self.dtype)
        if self.shard_chunks:
            codecs = [
                {
                    "name": "sharding_indexed",
                    "configuration": {
                        "chunk_shape": chunk,
                        "codecs": codecs,
                        "index_codecs": _codecs("raw", np.dtype("uint64")),
                        "index_location": "end",
                    },
                }
            ]
        return {
            "zarr_format": 3,
            "node_type": "array",
            "shape": [rows, *self.row_shape],
            "data_type": self.dtype.name,
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [self.file_rows, *self.row_shape]}},
            "chunk_key_encoding": {"name": "default", "configuration": {"separator": "."}},
            "fill_value": _fill(self.dtype),
            "codecs": codecs,
            "attributes": {"unit": self.unit} if self.unit else {},
            "storage_transformers": [],
        }


def _fill(dtype: np.dtype[Any]) -> bool | int | float:
    return np.zeros((), dtype).item()


def _codecs(codec: str, dtype: np.dtype[Any]) -> list[dict[str, Any]]:
    numbers: dict[str, Any] = {"name": "bytes"}
    if dtype.itemsize > 1:
        numbers["configuration"] = {"endian": "little"}
    compressors: dict[str, dict[str, Any]] = {
        "zstd": {"name": "zstd", "configuration": {"level": 3, "checksum": False}},
        "lz4": {
            "name": "blosc",
            "configuration": {"cname": "lz4hc", "clevel": 5, "shuffle": "noshuffle", "typesize": 1, "blocksize": 0},
        },
    }
    middle = [compressors[codec]] if codec in compressors else []
    return [numbers, *middle, {"name": "crc32c"}]


def arrays(spec: EnvSpec, layout: Layout) -> dict[str, ArrayLayout]:
    """Every array of a dataset by path. Columns whose rows are empty (a state of no elements) are not stored."""
    out: dict[str, ArrayLayout] = {}

    def add(path: str, shape: tuple[int, ...], dtype: str, unit: str = "") -> None:
        name = path.split("/", 1)[1]
        if not _NAME.fullmatch(name) or name.startswith("__") or len(name) > 200:
            raise SpecError(
                "This column name cannot be a file name", expected="letters, digits, '_', '-', '.'", got=repr(name)
            )
        if dtype not in DTYPES:
            raise SpecError(f"Column '{name}' has a dtype that cannot be stored", got=repr(dtype), exists=DTYPES)
        if any(not isinstance(n, int) or n < 0 for n in shape):
            raise SpecError(f"Column '{name}' has an impossible shape", got=str(shape))
        kind = np.dtype(dtype)
        row = prod(shape) * kind.itemsize
        if not row:
            return
        if row < FRAME_BYTES or path.startswith("meta/"):
            out[path] = ArrayLayout(path, shape, kind, "zstd", max(1, ROW_CHUNK_BYTES // row), 0, unit)
            return
        chunk = row * layout.chunk_frames
        if chunk > MAX_CHUNK_BYTES:
            raise SpecError(
                f"A chunk of '{name}' would be too large", expected=f"at most {MAX_CHUNK_BYTES} bytes", got=str(chunk)
            )
        chunks = layout.shard_frames // layout.chunk_frames or max(1, SHARD_BYTES[layout.codec] // chunk)
        out[path] = ArrayLayout(path, shape, kind, layout.codec, layout.chunk_frames, chunks, unit)

    for name, array in spec.columns().items():
        add(f"data/{name}", array.shape, array.dtype, array.unit)
    for name, array in spec.columns().items():
        if name.startswith("observation."):
            add(f"final/{name}", array.shape, array.dtype, array.unit)
    add("meta/provenance", (), "uint8")
    add("meta/provenance_ends", (), "int64")
    add("meta/sha256", (32,), "uint8")
    add("meta/success", (), "int8")
    add("meta/instruction", (INSTRUCTION_BYTES,), "uint8")
    add("meta/episode_ends", (), "int64")
    return out


def rows_of(path: str, counts: Counts) -> int:
    """Length on axis 0 that array `path` has at `counts`."""
    if path.startswith("data/"):
        return counts.frames
    return counts.provenance_bytes if path == "meta/provenance" else counts.episodes


def dumps(document: Mapping[str, Any]) -> bytes:
    """The one serialisation of a metadata document: a byte differs exactly where the content does."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def group(attributes: Mapping[str, Any] | None = None) -> dict[str, Any]:
    return {"zarr_format": 3, "node_type": "group", "attributes": dict(attributes or {})}


def description(spec: EnvSpec, layout: Layout) -> dict[str, Any]:
    """What a dataset is, apart from how much of it there is; also kept beside the record, to rebuild it from."""
    return {"schema_version": SCHEMA_VERSION, "layout": layout.to_dict(), "spec": spec.to_dict()}


def record(spec: EnvSpec, layout: Layout, counts: Counts) -> bytes:
    """The commit record: the root's zarr.json at `counts`."""
    nodes: dict[str, Any] = {name: group() for name in GROUPS if name != "meta"}
    nodes["meta"] = meta_group(spec, layout)
    nodes |= {path: array.metadata(rows_of(path, counts)) for path, array in arrays(spec, layout).items()}
    state = {"episodes": counts.episodes, "frames": counts.frames, "provenance_bytes": counts.provenance_bytes}
    document = group({"wayhand": {**description(spec, layout), **state}})
    document["consolidated_metadata"] = {"kind": "inline", "must_understand": False, "metadata": nodes}
    return seal(document)


def meta_group(spec: EnvSpec, layout: Layout) -> dict[str, Any]:
    return json.loads(seal(group({"wayhand": description(spec, layout)})))


def seal(document: dict[str, Any]) -> bytes:
    """Serialise with a SHA-256 of the document itself at `attributes.wayhand.checksum`."""
    attributes = document["attributes"]["wayhand"]
    attributes["checksum"] = ""
    attributes["checksum"] = hashlib.sha256(dumps(document)).hexdigest()
    return dumps(document)


def parse(data: bytes, file: str) -> tuple[EnvSpec, Layout, dict[str, Any]]:
    """The spec, layout and `wayhand` attributes of a sealed document; the checksum is verified first.

    Raises:
        CorruptDataError: a byte is not what was written.
        DataError: the file is intact but not a dataset this version reads.
    """
    try:
        document = json.loads(data)
        attributes = document["attributes"]["wayhand"]
        version = attributes["schema_version"]
        sealed = seal(json.loads(data))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CorruptDataError(
            f"{file} cannot be read", expected="a sealed metadata document", got=str(error), run=_REPAIR
        ) from error
    if sealed != data:
        raise CorruptDataError(
            f"{file} does not match its checksum",
            got=f"a difference at or before offset {first_difference(sealed, data)}",
            run=_REPAIR,
        )
    if version != SCHEMA_VERSION:
        raise DataError(f"{file} has another schema", expected=f"schema_version {SCHEMA_VERSION}", got=repr(version))
    try:
        return EnvSpec.from_dict(attributes["spec"]), Layout(**attributes["layout"]), attributes
    except TypeError as error:
        raise DataError(f"{file} describes no dataset", got=str(error)) from error


def parse_record(data: bytes, file: str) -> tuple[EnvSpec, Layout, Counts]:
    """What a commit record commits. Refuses a record that this code would not have written at the same counts."""
    spec, layout, attributes = parse(data, file)
    values: list[Any] = [attributes.get(name) for name in ("episodes", "frames", "provenance_bytes")]
    if any(not isinstance(n, int) or isinstance(n, bool) or not 0 <= n < 1 << 48 for n in values):
        raise DataError(f"{file} has impossible sizes", got=str(values))
    counts = Counts(*values)
    if record(spec, layout, counts) != data:
        raise DataError(
            f"{file} describes arrays that are not those of its spec", expected="a record written by Wayhand"
        )
    return spec, layout, counts


def first_difference(a: bytes, b: bytes) -> int:
    """Offset of the first byte in which two files differ (the shorter length where one is a prefix)."""
    n = min(len(a), len(b))
    unequal = np.flatnonzero(np.frombuffer(a, np.uint8, n) != np.frombuffer(b, np.uint8, n))
    return int(unequal[0]) if len(unequal) else n


_REPAIR = "wayhand data repair PATH"
