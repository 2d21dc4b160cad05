"""Pictures with words on disk: the cache of rendered pairs, and any folder or zarr group of pairs.

    CACHE/part-00000/images.npy    uint8 [n h w 3], mapped into memory
    CACHE/part-00000/texts.jsonl   one record a picture
    FOLDER/pairs.jsonl             {"image": "a.png", "captions": [text, …], "questions": [[question, answer, kind], …],
                           "places": [[phrase, x, y], …]}
    GROUP (zarr)                   images uint8 [n h w 3]; texts uint8, the same records as lines of JSON

A part is written aside and renamed when it is whole.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..vla.errors import DataError
from ..vla.pairs import Pairs, Texts

IMAGES, TEXTS, FOLDER_INDEX = "images.npy", "texts.jsonl", "pairs.jsonl"
_PART = "part-"


def write_part(root: str | Path, index: int, pairs: Iterable[tuple[np.ndarray, Texts]], count: int) -> Path:
    """Write part `index` of a cache from a stream of exactly `count` pairs; a part that is there stays as it is."""
    target = part_path(root, index)
    if target.exists():
        return target
    aside = target.with_name(f".writing-{target.name}-{os.getpid()}")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    images: np.ndarray | None = None
    written = 0
    with (aside / TEXTS).open("w", encoding="utf-8") as lines:
        for image, texts in pairs:
            if images is None:
                shape = (count, *image.shape)
                images = np.lib.format.open_memmap(aside / IMAGES, mode="w+", dtype=np.uint8, shape=shape)
            images[written] = image
            lines.write(json.dumps(texts.to_dict(), ensure_ascii=False) + "\n")
            written += 1
        lines.flush()
        os.fsync(lines.fileno())
    if images is None or written != count:
        raise DataError(f"{target} would not be whole", expected=f"{count} pairs", got=str(written))
    images.flush()  # pyright: ignore[reportAttributeAccessIssue]
    aside.rename(target)
    return target


def rewrite_texts(root: str | Path, index: int, change: Callable[[Texts], Texts]) -> None:
    """Replace the texts of part `index` of a cache by what `change` makes of them, all at once."""
    path = part_path(root, index) / TEXTS
    aside = path.with_name(f".writing-{TEXTS}-{os.getpid()}")
    with aside.open("w", encoding="utf-8") as lines:
        for number, line in enumerate(_lines(path), 1):
            lines.write(json.dumps(change(_parsed(line, f"{path}:{number}")).to_dict(), ensure_ascii=False) + "\n")
        lines.flush()
        os.fsync(lines.fileno())
    aside.rename(path)


def part_path(root: str | Path, index: int) -> Path:
    return Path(root) / f"{_PART}{index:05d}"


class CachedPairs:
    """A cache that `write_part` wrote; pictures are read from mapped files, texts parsed when asked for.

    Raises:
        DataError: there is no part, or parts differ in size or are damaged.
    """

    def __init__(self, root: str | Path) -> None:
        parts = sorted(Path(root).glob(f"{_PART}[0-9]*"))
        if not parts:
            raise DataError(
                f"There are no pairs in {root}", expected="part-00000, …", run="wayhand pretrain data=pairs …"
            )
        self._images = [_mapped(p / IMAGES) for p in parts]
        self._lines = [line for p, i in zip(parts, self._images, strict=True) for line in _lines(p / TEXTS, len(i))]
        self._parts = parts
        self._ends = np.cumsum([len(i) for i in self._images])
        if len({i.shape[1:] for i in self._images}) > 1:
            raise DataError(f"The parts of {root} differ in picture size", got=str([i.shape for i in self._images]))

    def __len__(self) -> int:
        return int(self._ends[-1])

    def images(self, indices: Sequence[int]) -> np.ndarray:
        where = np.searchsorted(self._ends, np.asarray(indices), side="right")
        starts = self._ends - [len(i) for i in self._images]
        return np.stack([self._images[p][i - starts[p]] for p, i in zip(where, indices, strict=True)])

    def texts(self, index: int) -> Texts:
        return _parsed(self._lines[index], f"pair {index} of {self._parts[0].parent}")


class FolderPairs:
    """A folder of picture files and `pairs.jsonl`; pictures are decoded and scaled to a square when asked for.

    Args:
        size: height and width they are scaled to; None keeps theirs, which must then agree.
    """

    def __init__(self, root: str | Path, *, size: int | None = None) -> None:
        self._root, self._size = Path(root), size
        self._records: list[tuple[Path, str]] = []
        for number, line in enumerate(_lines(self._root / FOLDER_INDEX), 1):
            name = _json(line, f"{self._root / FOLDER_INDEX}:{number}").get("image")
            path = (self._root / str(name)).resolve()
            if not isinstance(name, str) or not path.is_relative_to(self._root.resolve()):
                raise DataError(f"{self._root / FOLDER_INDEX}:{number} names no picture in its folder", got=repr(name))
            self._records.append((path, line))
        if not self._records:
            raise DataError(f"{self._root / FOLDER_INDEX} is empty")

    def __len__(self) -> int:
        return len(self._records)

    def images(self, indices: Sequence[int]) -> np.ndarray:
        return np.stack([self._picture(self._records[i][0]) for i in indices])

    def texts(self, index: int) -> Texts:
        return _parsed(self._records[index][1], f"{self._root / FOLDER_INDEX}:{index + 1}")

    def _picture(self, path: Path) -> np.ndarray:
        from PIL import Image, UnidentifiedImageError

        try:
            with Image.open(path) as file:
                picture = file.convert("RGB")
        except (OSError, UnidentifiedImageError) as error:
            raise DataError(f"{path} is not a picture", got=str(error)) from error
        return np.asarray(picture if self._size is None else picture.resize((self._size, self._size)))


class ZarrPairs:
    """A zarr group with `images` uint8 [n h w 3] and `texts` uint8, lines of JSON."""

    def __init__(self, root: str | Path) -> None:
        import zarr

        try:
            group: Any = zarr.open_group(str(root), mode="r")
            self._images: Any = group["images"]
            self._lines = bytes(np.asarray(group["texts"])).decode("utf-8").splitlines()
        except (KeyError, OSError, UnicodeDecodeError) as error:
            raise DataError(f"{root} holds no pairs", expected="arrays 'images' and 'texts'", got=str(error)) from error
        if self._images.ndim != 4 or self._images.dtype != np.uint8 or len(self._lines) != self._images.shape[0]:
            raise DataError(
                f"{root} is malformed",
                expected="images uint8 [n h w 3] and as many lines of text",
                got=f"{self._images.dtype} {self._images.shape}, {len(self._lines)} lines",
            )
        self._root = root

    def __len__(self) -> int:
        return len(self._lines)

    def images(self, indices: Sequence[int]) -> np.ndarray:
        return np.asarray(self._images.oindex[np.asarray(indices)])

    def texts(self, index: int) -> Texts:
        return _parsed(self._lines[index], f"pair {index} of {self._root}")


class Subset:
    """Some of the pairs of a set."""

    def __init__(self, pairs: Pairs, rows: Sequence[int]) -> None:
        self._pairs, self._rows = pairs, list(rows)

    def __len__(self) -> int:
        return len(self._rows)

    def images(self, indices: Sequence[int]) -> np.ndarray:
        return self._pairs.images([self._rows[i] for i in indices])

    def texts(self, index: int) -> Texts:
        return self._pairs.texts(self._rows[index])


def by_count(pairs: Pairs) -> dict[str, Subset]:
    """The pairs by how many facts hold of a picture, the number as a name, fewest first."""
    rows: dict[int, list[int]] = {}
    for i in range(len(pairs)):
        rows.setdefault(len(pairs.texts(i).facts), []).append(i)
    return {str(count): Subset(pairs, rows[count]) for count in sorted(rows)}


def write_zarr(root: str | Path, images: np.ndarray, texts: Sequence[Texts], *, chunk: int = 256) -> None:
    """A new zarr group of pairs."""
    import zarr

    group: Any = zarr.open_group(str(root), mode="w-")
    array = group.create_array("images", shape=images.shape, dtype="uint8", chunks=(chunk, *images.shape[1:]))
    array[:] = images
    lines = "".join(json.dumps(t.to_dict(), ensure_ascii=False) + "\n" for t in texts).encode()
    stored = group.create_array("texts", shape=(len(lines),), dtype="uint8", chunks=(1 << 20,))
    stored[:] = np.frombuffer(lines, np.uint8)


def open_pairs(path: str | Path, *, size: int | None = None) -> CachedPairs | FolderPairs | ZarrPairs:
    """Pairs of any of the three kinds; raises `DataError` naming what a folder must hold."""
    root = Path(path)
    if (root / FOLDER_INDEX).exists():
        return FolderPairs(root, size=size)
    if (root / "zarr.json").exists() or (root / ".zgroup").exists():
        return ZarrPairs(root)
    if any(root.glob(f"{_PART}[0-9]*")):
        return CachedPairs(root)
    raise DataError(
        f"{root} holds no pairs", expected=f"{FOLDER_INDEX} beside pictures, a zarr group, or a cache of rendered pairs"
    )


def _mapped(path: Path) -> np.ndarray:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read", got=str(error)) from error
    if array.ndim != 4 or array.dtype != np.uint8:
        raise DataError(f"{path} is malformed", expected="uint8 [n h w 3]", got=f"{array.dtype} {array.shape}")
    return array


def _lines(path: Path, count: int | None = None) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read", got=str(error)) from error
    if count is not None and len(lines) != count:
        raise DataError(f"{path} and its pictures disagree", expected=f"{count} lines", got=str(len(lines)))
    return lines


def _json(line: str, where: str) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except ValueError as error:
        raise DataError(f"{where} is not JSON", got=str(error)) from error
    if not isinstance(record, dict):
        raise DataError(f"{where} is not an object", got=type(record).__name__)
    return record


def _parsed(line: str, where: str) -> Texts:
    return Texts.from_dict(_json(line, where), where)
