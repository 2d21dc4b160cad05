"""JSON, JSON lines and their gzipped forms: read with bounds, written whole or not at all.

Texts are UTF-8. A name's suffix says what a file is: `.gz` for gzip, `.jsonl` for one object a line.
"""

from __future__ import annotations

import gzip
import itertools
import json
import os
import struct
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ...vla.errors import DataError

# A gzipped file may grow this much when it is read: real annotation files grow 5 to 15 times, a bomb 1,000 times.
MAX_RATIO = 200
FREE_BYTES = 64 << 20
MAX_BYTES = 4 << 30
_serial = itertools.count()


class _Duplicate(ValueError):
    """A key that stands twice in one object."""


def read_bytes(path: Path | str) -> bytes:
    """The contents of a file, unpacked where its name ends in `.gz`.

    Raises:
        DataError: it is missing, no regular file, cut short, damaged, or unpacks to more than the bounds above allow.
    """
    path = Path(path)
    if not path.is_file():
        near = sorted(p.name for p in path.parent.iterdir())[:12] if path.parent.is_dir() else None
        raise DataError(f"There is no file {path}", expected="a regular file", exists=near)
    packed = path.stat().st_size
    if path.suffix != ".gz":
        if packed > MAX_BYTES:
            raise DataError(f"{path} is too large", expected=f"at most {MAX_BYTES} bytes", got=f"{packed} bytes")
        return path.read_bytes()
    bound = min(MAX_BYTES, max(FREE_BYTES, MAX_RATIO * packed))
    try:
        with gzip.open(path) as file:
            data = file.read(bound + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be unpacked", expected="a whole gzip file", got=str(error)) from error
    if len(data) > bound:
        raise DataError(
            f"{path} unpacks to far more than annotation files do",
            expected=f"at most {bound} bytes from {packed}",
            got="more",
        )
    return data


def parse(text: bytes, where: str) -> Any:
    """The JSON value of `text`; `where` names it in errors.

    Raises:
        DataError: with the line of a syntax error, or the key that stands twice in one object.
    """
    try:
        return json.loads(text.decode("utf-8-sig"), object_pairs_hook=_unique)
    except UnicodeDecodeError as error:
        raise DataError(f"{where} is not UTF-8", got=f"byte {text[error.start]:#x} at offset {error.start}") from error
    except json.JSONDecodeError as error:
        raise DataError(
            f"{where} is not JSON",
            expected="JSON",
            got=f"{error.msg} at line {error.lineno}, column {error.colno}",
        ) from error
    except _Duplicate as error:
        raise DataError(f"{where} holds an object with a key twice", expected="unique keys", got=str(error)) from None
    except RecursionError:
        raise DataError(f"{where} is nested too deeply", expected="the nesting of an annotation file") from None
    except ValueError as error:
        raise DataError(f"{where} holds a value that cannot be read", got=str(error)) from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        seen: set[str] = set()
        key = next(k for k, _ in pairs if k in seen or seen.add(k))
        raise _Duplicate(f"'{key}', in an object with the keys {', '.join(made)}"[:300])
    return made


def read(path: Path | str) -> Any:
    """The JSON value of a file; see `read_bytes` and `parse` for errors."""
    return parse(read_bytes(path), str(path))


def read_lines(path: Path | str) -> list[tuple[int, Any]]:
    """`(line number from 1, value)` of each line of a JSON lines file that is not blank."""
    lines = read_bytes(path).split(b"\n")
    return [(n, parse(line, f"{path}, line {n}")) for n, line in enumerate(lines, 1) if line.strip()]


def read_items(path: Path | str) -> list[tuple[str, Any]]:
    """`(place, value)` of each item of a JSON list, or of each line of a JSON lines file, whichever it is.

    Places read "FILE, item 3" (from 0) or "FILE, line 4" (from 1).
    """
    data = read_bytes(path)
    if data.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"[":
        return [(f"{path}, item {i}", value) for i, value in enumerate(parse(data, str(path)))]
    lines = data.split(b"\n")
    places = ((f"{path}, line {n}", line) for n, line in enumerate(lines, 1) if line.strip())
    return [(place, parse(line, place)) for place, line in places]


def is_lines(path: Path | str) -> bool:
    """Whether the name says JSON lines."""
    return Path(path).name.removesuffix(".gz").endswith(".jsonl")


def write_bytes(path: Path | str, data: bytes) -> None:
    """Put `data` at `path`, gzipped where its name ends in `.gz`, in one step: a reader sees the old file or the new.

    The same data gives the same bytes: the gzip header carries neither time nor name.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    packed = _gzip(data) if path.suffix == ".gz" else data
    beside = path.with_name(f".{path.name}.{os.getpid()}-{next(_serial)}.part")
    try:
        with open(beside, "xb") as file:
            file.write(packed)
        os.replace(beside, path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def _gzip(data: bytes) -> bytes:
    # Python's own header differs between versions, so it is written here: no name, no time, unknown system.
    deflate = zlib.compressobj(6, zlib.DEFLATED, -zlib.MAX_WBITS)
    body = deflate.compress(data) + deflate.flush()
    return (
        b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
        + body
        + struct.pack("<II", zlib.crc32(data), len(data) & 0xFFFFFFFF)
    )


def dumps(value: Any, *, compact: bool = False) -> str:
    """JSON text in ASCII, so that any string, an unpaired surrogate too, survives."""
    try:
        return json.dumps(value, separators=(",", ":") if compact else None)
    except (TypeError, ValueError, RecursionError) as error:
        raise DataError(
            "This cannot be written as JSON", expected="text, numbers, lists, objects", got=str(error)
        ) from error


def write(path: Path | str, value: Any, *, compact: bool = False) -> None:
    """Write one JSON value; nothing is touched where it cannot be."""
    write_bytes(path, dumps(value, compact=compact).encode())


def write_items(path: Path | str, items: Iterable[Any]) -> None:
    """Write items as JSON lines where the name says so, else as one JSON list."""
    if is_lines(path):
        write_bytes(path, "".join(f"{dumps(item)}\n" for item in items).encode())
    else:
        write(path, list(items))


def lines_of(text: str) -> Iterator[str]:
    """The lines of a text file that are not blank, stripped."""
    return (line.strip() for line in text.splitlines() if line.strip())
