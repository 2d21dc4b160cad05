"""Files of precomputed view features: MatterSim's TSV and the HDF5 of HAMT and DUET.

TSV, one viewpoint a line, no header: `scanId viewpointId image_w image_h vfov features`, the last base64 of float32
[36 D] (`ResNet-152-imagenet.tsv`, Anderson et al. 2018). HDF5, one data set a viewpoint, named `<scan>_<viewpoint>`:
float [36 + objects, D], of which the views are the first 36 rows (Chen et al. 2021, 2022).

The 36 views are numbered as in MatterSim: 0–11 look down, 12–23 level, 24–35 up, each from heading 0 in steps of 30°.
"""

from __future__ import annotations

import base64
import binascii
import importlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from ...vla.errors import DataError

VIEWS = 36
Key = tuple[str, str]


@dataclass(frozen=True)
class Geometry:
    """Image size in pixels and vertical field of view in degrees, as a TSV file says them."""

    width: int = 640
    height: int = 480
    vfov: int = 60


@dataclass(frozen=True, eq=False)
class FeatureTable:
    """Features in memory.

    Args:
        keys: (scan, viewpoint) of each row.
        values: float [n 36 D].
        geometry: of the images they were computed from.
    """

    keys: tuple[Key, ...]
    values: np.ndarray
    geometry: Geometry = Geometry()

    def __post_init__(self) -> None:
        if self.values.ndim != 3 or self.values.shape[:2] != (len(self.keys), VIEWS):
            raise DataError(
                "Features do not fit their viewpoints",
                expected=f"[{len(self.keys)} {VIEWS} D]",
                got=str(self.values.shape),
            )
        object.__setattr__(self, "_row", {key: i for i, key in enumerate(self.keys)})

    @property
    def width(self) -> int:
        """D."""
        return int(self.values.shape[2])

    def __len__(self) -> int:
        return len(self.keys)

    def __call__(self, scan: str, viewpoint: str) -> np.ndarray:
        """float [36 D]; raises `DataError` for a viewpoint that is not there."""
        rows: Mapping[Key, int] = self.__dict__["_row"]
        if (scan, viewpoint) not in rows:
            raise DataError("There are no features of this viewpoint", got=f"{scan} {viewpoint}")
        return self.values[rows[scan, viewpoint]]


def load_tsv(path: Path | str) -> FeatureTable:
    """The features of a TSV file; raises `DataError` naming file and line where one is broken."""
    path = Path(path)
    keys: list[Key] = []
    rows: list[np.ndarray] = []
    geometry = Geometry()
    for number, fields in _lines(path):
        where = f"{path}, line {number}"
        if len(fields) != 6:
            raise DataError(f"{where} is broken", expected="6 tab separated fields", got=f"{len(fields)}")
        scan, viewpoint, width, height, vfov, text = fields
        try:
            geometry = Geometry(int(width), int(height), int(vfov))
            raw = base64.b64decode(text, validate=True)
        except (ValueError, binascii.Error) as error:
            raise DataError(
                f"{where} is broken", expected="whole numbers, then base64 of float32", got=str(error)
            ) from error
        if not raw or len(raw) % (VIEWS * 4):
            raise DataError(f"{where} is broken", expected=f"float32 [{VIEWS} D]", got=f"{len(raw)} bytes")
        row = np.frombuffer(raw, "<f4").reshape(VIEWS, -1)
        if rows and row.shape != rows[0].shape:
            raise DataError(f"{where} has another width", expected=str(rows[0].shape[1]), got=str(row.shape[1]))
        keys.append((scan, viewpoint))
        rows.append(row)
    if not rows:
        raise DataError(f"{path} holds no features", expected="one viewpoint a line")
    return FeatureTable(tuple(keys), np.stack(rows).astype(np.float32), geometry)


def _lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    try:
        with path.open(encoding="ascii") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield number, line.rstrip("\n").split("\t")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read", expected="a TSV file of features", got=str(error)) from error


def save_tsv(path: Path | str, table: FeatureTable) -> None:
    """Write a TSV file that MatterSim's readers take."""
    size = (str(table.geometry.width), str(table.geometry.height), str(table.geometry.vfov))
    with Path(path).open("w", encoding="ascii", newline="\n") as file:
        for (scan, viewpoint), row in zip(table.keys, table.values, strict=True):
            text = base64.b64encode(np.ascontiguousarray(row, "<f4").tobytes()).decode("ascii")
            file.write("\t".join((scan, viewpoint, *size, text)) + "\n")


class HDF5Features:
    """Features that stay on disk; one open file, to be closed.

    Args:
        path: an HDF5 file of HAMT's or DUET's layout.

    Raises `DataError` where it cannot be read, or where `h5py` is not installed.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        try:
            self._file: Any = _h5py().File(self.path, "r")
            first = next(iter(self._file.values()), None)
        except OSError as error:
            raise DataError(f"{path} cannot be read", expected="an HDF5 file of features", got=str(error)) from error
        if first is None or first.ndim != 2 or first.shape[0] < VIEWS:
            self._file.close()
            got = "no data set" if first is None else str(first.shape)
            raise DataError(f"{path} holds no view features", expected=f"[{VIEWS} or more, D]", got=got)
        self.width = int(first.shape[1])

    def __call__(self, scan: str, viewpoint: str) -> np.ndarray:
        """float32 [36 D]; raises `DataError` for a viewpoint that is not there."""
        name = f"{scan}_{viewpoint}"
        if name not in self._file:
            raise DataError(f"{self.path} has no features of this viewpoint", got=name)
        return np.asarray(self._file[name][:VIEWS], np.float32)

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> HDF5Features:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def save_hdf5(path: Path | str, table: FeatureTable) -> None:
    """Write features in HAMT's and DUET's layout."""
    with _h5py().File(Path(path), "w") as file:
        for (scan, viewpoint), row in zip(table.keys, table.values, strict=True):
            file.create_dataset(f"{scan}_{viewpoint}", data=row.astype(np.float32), compression="gzip")


def _h5py() -> Any:
    try:
        return importlib.import_module("h5py")
    except ModuleNotFoundError as error:
        raise DataError("HDF5 files of features need h5py", run="pip install h5py") from error
