"""Normalisation statistics and their mirrored encode and decode. They travel inside every checkpoint."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from .errors import SpecError

Mode = Literal["mean_std", "min_max", "quantile", "identity"]
MODES: tuple[Mode, ...] = ("mean_std", "min_max", "quantile", "identity")
FIELDS = ("mean", "std", "min", "max", "q01", "q99")
FLOOR = 1e-3
"""Smallest scale, in the column's unit: an element that never moves is centred, not blown up."""


@dataclass(frozen=True)
class Affine:
    """encode(x) = (x − shift) / scale, per element of a row."""

    shift: NDArray[np.float64]
    scale: NDArray[np.float64]


class NormStats:
    """Per dotted path: mean, std, min, max, q01, q99 over the training data, and the mode they are used in.

    `mean_std` gives zero mean and unit deviation; `min_max` and `quantile` map [min, max] and [q01, q99] to [−1, 1]
    without clipping; `identity` changes nothing. No scale is smaller than `FLOOR`.

    Args:
        columns: path → field → array of the column's row shape. All of `FIELDS` must be there.
        modes: path → mode; paths that are not named use `mean_std`.
    """

    def __init__(self, columns: Mapping[str, Mapping[str, Any]], modes: Mapping[str, Mode] | None = None) -> None:
        self.columns: dict[str, dict[str, NDArray[np.float64]]] = {}
        self.modes: dict[str, Mode] = {}
        self._affine: dict[str, Affine] = {}
        for path, fields in columns.items():
            missing = [f for f in FIELDS if f not in fields]
            if missing:
                raise SpecError(f"Statistics of '{path}' lack {', '.join(missing)}", exists=sorted(fields))
            self.columns[path] = {f: np.asarray(fields[f], np.float64) for f in FIELDS}
            mode = (modes or {}).get(path, "mean_std")
            if mode not in MODES:
                raise SpecError(f"Unknown normalisation of '{path}'", got=str(mode), exists=MODES)
            self.modes[path] = mode
            self._affine[path] = _affine(path, self.columns[path], mode)
        unknown = [p for p in (modes or {}) if p not in self.columns]
        if unknown:
            raise SpecError(
                "A mode is given for a path without statistics", got=", ".join(unknown), exists=sorted(columns)
            )

    def affine(self, path: str) -> Affine:
        """Shift and scale of a path; raises `SpecError` naming what exists: nothing is ever passed through silently."""
        if path not in self._affine:
            raise SpecError(
                f"No statistics for '{path}'", exists=sorted(self._affine), run="train on data that holds it"
            )
        return self._affine[path]

    def require(self, path: str, size: int) -> None:
        """Raise unless `path` has statistics of `size` elements."""
        shape = self.affine(path).shift.shape
        if shape != (size,):
            raise SpecError(f"Statistics of '{path}' have the wrong size", expected=f"({size},)", got=str(shape))

    def encode(self, path: str, x: NDArray[Any]) -> NDArray[Any]:
        """[…, D] raw units → normalised, same dtype."""
        affine = self._matching(path, x)
        return ((x - affine.shift) / affine.scale).astype(x.dtype)

    def decode(self, path: str, x: NDArray[Any]) -> NDArray[Any]:
        """Inverse of `encode`."""
        affine = self._matching(path, x)
        return (x * affine.scale + affine.shift).astype(x.dtype)

    def _matching(self, path: str, x: NDArray[Any]) -> Affine:
        affine = self.affine(path)
        size = affine.shift.shape
        if x.shape[x.ndim - len(size) :] != size:
            raise SpecError(f"'{path}' does not fit its statistics", expected=f"[… {size}]", got=str(x.shape))
        return affine

    def to_dict(self) -> dict[str, Any]:
        """JSON types; `from_dict` inverts it exactly."""
        return {
            path: {"mode": self.modes[path], **{f: v.tolist() for f, v in fields.items()}}
            for path, fields in self.columns.items()
        }

    @staticmethod
    def from_dict(data: Mapping[str, Mapping[str, Any]]) -> NormStats:
        modes = {path: fields["mode"] for path, fields in data.items()}
        columns = {path: {f: v for f, v in fields.items() if f != "mode"} for path, fields in data.items()}
        return NormStats(columns, modes)

    def sha256(self) -> str:
        """Hash of the values, which both ends of a wire can compare."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()


def _affine(path: str, fields: Mapping[str, NDArray[np.float64]], mode: Mode) -> Affine:
    low, high = {"min_max": ("min", "max"), "quantile": ("q01", "q99")}.get(mode, ("min", "max"))
    if mode == "identity":
        shift, scale = np.zeros_like(fields["mean"]), np.ones_like(fields["mean"])
    elif mode == "mean_std":
        shift, scale = fields["mean"], fields["std"]
    else:
        shift, scale = (fields[low] + fields[high]) / 2, (fields[high] - fields[low]) / 2
    if not (np.isfinite(shift).all() and np.isfinite(scale).all()):
        raise SpecError(f"Statistics of '{path}' are not finite", run="wayhand data validate PATH")
    return Affine(shift, np.maximum(scale, FLOOR))
