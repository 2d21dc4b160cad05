"""Image augmentation for behaviour cloning, on numpy batches, cheap enough for a loader thread."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]


def augment(
    arrays: Mapping[str, Any], seed: int, *, shift: int = 4, brightness: float = 0.1, contrast: float = 0.1
) -> dict[str, Any]:
    """Random shift (DrQ, Kostrikov et al. 2021), brightness and contrast of every image; a pure function of `seed`.

    Hue and saturation stay: colour words must keep their meaning.

    Args:
        arrays: paths `observation.images.*` hold uint8 [B h w 3] or [B n h w 3]; a history is moved as one.
        shift: largest shift in pixels; edges are replicated.
        brightness, contrast: largest relative change.
    """
    out = dict(arrays)
    for path in sorted(p for p in arrays if p.startswith("observation.images.")):
        images: Image = arrays[path]
        rng = _rng(path, seed)
        offsets = rng.integers(-shift, shift + 1, (len(images), 2))
        gains = 1 + rng.uniform(-1, 1, (len(images), 2)) * (contrast, brightness)
        moved = np.empty_like(images)
        for source, target, (dy, dx), (c, b) in zip(images, moved, offsets.tolist(), gains.tolist(), strict=True):
            target[:] = _adjust(_shift(source, dy, dx), c, b)
        out[path] = moved
    return out


def offsets_of(path: str, seed: int, count: int, shift: int) -> NDArray[np.int64]:
    """int [count 2]: by how many pixels down and right `augment` moves each image of `path`."""
    return _rng(path, seed).integers(-shift, shift + 1, (count, 2))


def _rng(path: str, seed: int) -> np.random.Generator:
    return np.random.default_rng([seed, len(path), *path.encode()])


def _shift(image: Image, dy: int, dx: int) -> Image:
    """[… h w 3] moved down by dy and right by dx, edges replicated."""
    *_, h, w, _ = image.shape
    out = np.empty_like(image)
    top, left = max(dy, 0), max(dx, 0)
    bottom, right = h + min(dy, 0), w + min(dx, 0)
    out[..., top:bottom, left:right, :] = image[..., top - dy : bottom - dy, left - dx : right - dx, :]
    out[..., :top, left:right, :] = out[..., top : top + 1, left:right, :]
    out[..., bottom:, left:right, :] = out[..., bottom - 1 : bottom, left:right, :]
    out[..., :left, :] = out[..., left : left + 1, :]
    out[..., right:, :] = out[..., right - 1 : right, :]
    return out


def _adjust(image: Image, contrast: float, brightness: float) -> Image:
    """(x − mid)·contrast + mid, times brightness, through a byte table: one pass over the bytes, no floats."""
    levels = ((np.arange(256) - 127.5) * contrast + 127.5) * brightness
    table = np.clip(np.rint(levels), 0, 255).astype(np.uint8).tobytes()
    return np.frombuffer(image.tobytes().translate(table), np.uint8).reshape(image.shape)
