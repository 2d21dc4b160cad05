"""Procedural textures: planks, parquet, tiles, carpet, brick, fabric, leather, marble, plaster, …

Only whole numbers, additions and products decide a pixel, so that textures have the same bytes on every machine.
Textures are pale: their colour comes from the material they are multiplied with. All repeat without a seam.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np

from ...vla.errors import ConfigError, did_you_mean
from .blueprint import ASSETS, POOLS
from .dice import Dice

SIZE = 256
"""Pixels along one side of a texture."""


@cache
def texture_pixels(name: str) -> np.ndarray:
    """uint8 [256 256 3] of a texture id such as `"planks/3"`; read only. Raises `ConfigError` for an unknown one."""
    family, _, number = name.partition("/")
    if family not in FAMILIES or not number.isdecimal() or int(number) >= ASSETS:
        close = did_you_mean(family, FAMILIES)
        raise ConfigError(
            "There is no such texture" + (f"; did you mean '{close}/0'?" if close else ""),
            got=name,
            exists=sorted(FAMILIES),
        )
    dice = Dice(f"texture {family} {number}")
    shade = FAMILIES[family](dice, dice.below(1 << 30))
    pixels = (np.clip(shade, 0.0, 1.0) * 255 + 0.5).astype(np.uint8)
    pixels = np.ascontiguousarray(np.broadcast_to(pixels[..., None], (*pixels.shape, 3)))
    pixels.flags.writeable = False
    return pixels


def textures(pool: str) -> tuple[str, ...]:
    """All texture ids of a pool: train, val or test."""
    return tuple(f"{family}/{n}" for family in sorted(FAMILIES) for n in POOLS[pool])


# --- noise -----------------------------------------------------------------------------------------------------------


def _hash(x: np.ndarray, y: np.ndarray, seed: int) -> np.ndarray:
    """float64 in [0, 1) of every pair of whole numbers."""
    h = x.astype(np.uint64) * np.uint64(0x9E3779B1) + y.astype(np.uint64) * np.uint64(0x85EBCA77) + np.uint64(seed)
    for shift, factor in ((15, 0x2C1B3C6D), (12, 0x297A2D39), (15, 1)):
        h = ((h & np.uint64(0xFFFFFFFF)) ^ ((h & np.uint64(0xFFFFFFFF)) >> np.uint64(shift))) * np.uint64(factor)
    return (h & np.uint64(0xFFFFFF)).astype(np.float64) / float(1 << 24)


_Y, _X = np.meshgrid(np.arange(SIZE), np.arange(SIZE), indexing="ij")


def _noise(columns: int, rows: int, seed: int) -> np.ndarray:
    """Smooth noise of `columns` × `rows` cells, in 0 … 1."""
    fx, fy = _X * (columns / SIZE), _Y * (rows / SIZE)
    x, y = fx.astype(np.int64), fy.astype(np.int64)
    u, v = fx - x, fy - y
    u, v = u * u * (3 - 2 * u), v * v * (3 - 2 * v)
    x1, y1 = (x + 1) % columns, (y + 1) % rows
    top = _hash(x, y, seed) * (1 - u) + _hash(x1, y, seed) * u
    low = _hash(x, y1, seed) * (1 - u) + _hash(x1, y1, seed) * u
    return top * (1 - v) + low * v


def _grain(seed: int) -> np.ndarray:
    return _hash(_X, _Y, seed)


def _fold(values: np.ndarray) -> np.ndarray:
    """A triangle wave of period 1, in 0 … 1."""
    part = values - np.floor(values)
    return np.where(part < 0.5, 2 * part, 2 - 2 * part)


# --- families --------------------------------------------------------------------------------------------------------


def _wood_lines(seed: int, along: int, across: int) -> np.ndarray:
    bend = _noise(along, max(2, across // 4), seed) * 2.2
    rings = _fold(_Y * (across / SIZE) + bend)
    return 0.86 + 0.06 * rings + 0.05 * _noise(along * 2, across * 8, seed + 1) + 0.02 * _grain(seed + 2)


def _wood(d: Dice, seed: int) -> np.ndarray:
    return _wood_lines(seed, d.whole(1, 2), d.whole(4, 8))


def _planks(d: Dice, seed: int) -> np.ndarray:
    rows, columns = d.pick((8, 10)), d.pick((1, 2))
    row = _Y * rows // SIZE
    shift = (_hash(row, row * 0, seed) * SIZE).astype(np.int64)
    x = (_X + shift) % SIZE
    column = x * columns // SIZE
    tone = _hash(row, column + 1, seed + 5)
    wood = np.take_along_axis(_wood_lines(seed, 2, rows * 2), x, axis=1)
    seam = (_Y * rows % SIZE < rows * 2) | (x * columns % SIZE < columns * 2)
    return np.where(seam, 0.58, wood * (0.86 + 0.16 * tone))


def _parquet(d: Dice, seed: int) -> np.ndarray:
    blocks = d.pick((4, 6)) if d.chance(0.7) else 8
    bx, by = _X * blocks // SIZE, _Y * blocks // SIZE
    turned = (bx + by) % 2 == 0
    strips = 4 if blocks < 8 else 3
    along = np.where(turned, _X, _Y)
    strip = along * blocks * strips // SIZE
    lines = _wood_lines(seed, 2, 16)
    wood = np.where(turned, lines.T, lines)
    seam = (along * blocks * strips % SIZE < blocks * strips) | (np.where(turned, _Y, _X) * blocks % SIZE < blocks)
    return np.where(seam, 0.66, wood * (0.86 + 0.16 * _hash(strip, bx * 31 + by, seed + 3)))


def _tiles(d: Dice, seed: int) -> np.ndarray:
    columns = d.pick((2, 3, 4, 5))
    rows = columns if d.chance(0.6) else columns * 2
    shift = (_Y * rows // SIZE % 2) * (SIZE // (2 * columns)) if d.chance(0.4) and rows % 2 == 0 else _Y * 0
    x = (_X + shift) % SIZE
    tone = _hash(x * columns // SIZE, _Y * rows // SIZE, seed)
    chess = d.chance(0.25) and columns % 2 == 0
    body = 0.90 + 0.06 * tone + 0.03 * _noise(8, 8, seed + 1)
    if chess:
        body = body - 0.28 * ((x * columns // SIZE + _Y * rows // SIZE) % 2)
    joint = (x * columns % SIZE < columns * 3) | (_Y * rows % SIZE < rows * 3)
    return np.where(joint, 0.70, body)


def _brick(d: Dice, seed: int) -> np.ndarray:
    rows, columns = 12, d.pick((3, 4))
    row = _Y * rows // SIZE
    x = (_X + (row % 2) * (SIZE // (2 * columns))) % SIZE
    tone = _hash(x * columns // SIZE, row, seed)
    joint = (x * columns % SIZE < columns * 3) | (_Y * rows % SIZE < rows * 3)
    return np.where(joint, 0.98, 0.66 + 0.20 * tone + 0.08 * _noise(24, 24, seed) + 0.04 * _grain(seed))


def _carpet(d: Dice, seed: int) -> np.ndarray:
    loops = 0.5 * _noise(64, 64, seed) + 0.5 * _grain(seed + 1)
    ribs = 0.06 * _fold(_Y * (d.pick((0, 16, 32)) / SIZE))
    return 0.74 + 0.22 * loops + ribs * (0.5 + 0.5 * _noise(8, 8, seed + 2))


def _fabric(d: Dice, seed: int) -> np.ndarray:
    threads = d.pick((32, 48, 64))
    weave = np.where(
        (_X * threads // SIZE + _Y * threads // SIZE) % 2 == 0, _fold(_X * threads / SIZE), _fold(_Y * threads / SIZE)
    )
    stripes = 0.10 * (_X * d.pick((4, 6, 8)) // SIZE % 2) if d.chance(0.3) else 0.0
    return 0.80 + 0.10 * weave + 0.06 * _noise(32, 32, seed) + 0.03 * _grain(seed) - stripes


def _leather(d: Dice, seed: int) -> np.ndarray:
    return (
        0.82
        + 0.10 * _noise(d.pick((24, 32)), 24, seed)
        + 0.08 * _noise(64, 64, seed + 1)
        - 0.04 * _noise(3, 3, seed + 2)
    )


def _marble(d: Dice, seed: int) -> np.ndarray:
    warp = 2.4 * _noise(4, 4, seed) + 1.1 * _noise(9, 9, seed + 1) + 0.4 * _noise(20, 20, seed + 2)
    vein = 1 - _fold(_X * (d.pick((1, 2)) / SIZE) + _Y * (1 / SIZE) + warp)
    sharp = vein * vein * vein * vein
    return 0.97 - 0.26 * sharp * sharp - 0.05 * _noise(6, 6, seed + 3)


def _plaster(d: Dice, seed: int) -> np.ndarray:
    stripes = 0.05 * (_X * d.pick((8, 12)) // SIZE % 2) if d.chance(0.25) else 0.0
    return 0.955 + 0.02 * _noise(32, 32, seed) + 0.015 * _noise(5, 5, seed + 1) + 0.012 * _grain(seed) - stripes


def _wicker(d: Dice, seed: int) -> np.ndarray:
    n = d.pick((16, 24))
    over = (_X * n // SIZE + _Y * n // SIZE) % 2 == 0
    strand = np.where(over, _fold(_Y * n / SIZE), _fold(_X * n / SIZE))
    return 0.62 + 0.30 * strand + 0.06 * _noise(16, 16, seed)


def _metal(d: Dice, seed: int) -> np.ndarray:
    return 0.86 + 0.10 * _noise(2, d.pick((96, 128)), seed) + 0.02 * _noise(4, 4, seed + 1)


def _leaf(d: Dice, seed: int) -> np.ndarray:
    n = d.pick((12, 16))
    return 0.60 + 0.28 * _noise(n, n, seed) + 0.18 * _noise(2 * n, 2 * n, seed + 1)


FAMILIES: dict[str, Callable[[Dice, int], np.ndarray]] = {
    "planks": _planks,
    "parquet": _parquet,
    "tiles": _tiles,
    "brick": _brick,
    "carpet": _carpet,
    "fabric": _fabric,
    "leather": _leather,
    "marble": _marble,
    "plaster": _plaster,
    "wood": _wood,
    "wicker": _wicker,
    "metal": _metal,
    "leaf": _leaf,
}
