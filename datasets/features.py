"""A cache of view features on disk: one memory-mapped array a building, found by what it was computed from.

    FOLDER/<source>/<scan>.npy    float16 [n 36 D]
    FOLDER/<source>/<scan>.json   scan, viewpoints, and the digest of the building

`source` is a hash of whatever makes the features: weights, image size, field of view. A file is complete or absent.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..vla.errors import DataError


def source_of(described: Mapping[str, Any]) -> str:
    """16 hex digits: the hash of JSON values that say how features are made."""
    text = json.dumps(described, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class FeatureCache:
    """Features of many buildings from one source; a call gives float32 [36 D] of a viewpoint.

    Args:
        folder: created where it does not exist.
        source: see `source_of`.
    """

    def __init__(self, folder: Path | str, source: str) -> None:
        self.folder = Path(folder) / source
        self.folder.mkdir(parents=True, exist_ok=True)
        self._open: dict[str, tuple[dict[str, int], np.ndarray]] = {}

    @property
    def width(self) -> int:
        """D; raises `DataError` where nothing is cached yet."""
        first = next(iter(sorted(self.folder.glob("*.npy"))), None)
        if first is None:
            raise DataError(f"{self.folder} holds no features yet")
        return int(np.load(first, mmap_mode="r", allow_pickle=False).shape[2])

    def has(self, scan: str, digest: str) -> bool:
        """Whether the features of a building with this digest are there."""
        return self._head(scan).get("digest") == digest

    def put(self, scan: str, digest: str, viewpoints: Sequence[str], values: np.ndarray) -> None:
        """Keep `values` float [n 36 D] of a building's viewpoints; the JSON file comes last and makes them valid."""
        if values.ndim != 3 or len(values) != len(viewpoints):
            raise DataError(
                f"Features of '{scan}' do not fit its viewpoints",
                expected=f"[{len(viewpoints)} 36 D]",
                got=str(values.shape),
            )
        head = {"scan": scan, "digest": digest, "viewpoints": list(viewpoints)}
        array, description = self.folder / f"{scan}.npy", self.folder / f"{scan}.json"
        aside = [path.with_name(f".{path.name}-{os.getpid()}") for path in (array, description)]
        description.unlink(missing_ok=True)
        with aside[0].open("wb") as file:
            np.save(file, values.astype(np.float16), allow_pickle=False)
        aside[1].write_text(json.dumps(head), encoding="utf-8")
        for written, path in zip(aside, (array, description), strict=True):
            written.replace(path)
        self._open.pop(scan, None)

    def __call__(self, scan: str, viewpoint: str) -> np.ndarray:
        """float32 [36 D]; raises `DataError` for a viewpoint that is not there."""
        if scan not in self._open:
            names = self._head(scan).get("viewpoints", [])
            if not names:
                where = f"{self.folder}/{scan}.npy"
                raise DataError("There are no features of this building", got=scan, expected=where)
            values = np.load(self.folder / f"{scan}.npy", mmap_mode="r", allow_pickle=False)
            self._open[scan] = {name: i for i, name in enumerate(names)}, values
        rows, values = self._open[scan]
        if viewpoint not in rows:
            raise DataError(f"There are no features of this viewpoint of '{scan}'", got=viewpoint)
        return values[rows[viewpoint]].astype(np.float32)

    def _head(self, scan: str) -> dict[str, Any]:
        try:
            return json.loads((self.folder / f"{scan}.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except ValueError as error:
            raise DataError(f"{self.folder / scan}.json is broken", got=str(error), run="remove it") from error
