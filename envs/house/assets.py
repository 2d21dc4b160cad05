"""All categories, and their assets by split."""

from __future__ import annotations

from functools import cache

from ...vla.errors import ConfigError, did_you_mean
from . import assets_decor, assets_kitchen, assets_living, assets_private, assets_things
from .blueprint import ASSETS, POOLS, Asset, Kind, build

KINDS: dict[str, Kind] = {
    **assets_living.KINDS,
    **assets_private.KINDS,
    **assets_kitchen.KINDS,
    **assets_decor.KINDS,
    **assets_things.KINDS,
}
HELD_OUT = tuple(sorted(name for name, kind in KINDS.items() if kind.held_out))
"""Categories that only occur in houses of the split `val_unseen_object`."""


@cache
def asset(category: str, number: int) -> Asset:
    """One asset; raises `ConfigError` for an unknown category or number."""
    if category not in KINDS or not 0 <= number < ASSETS:
        close = did_you_mean(category, KINDS)
        raise ConfigError(
            "There is no such asset" + (f"; did you mean '{close}'?" if close and close != category else ""),
            expected=f"a category, a slash and a number below {ASSETS}",
            got=f"{category}/{number}",
            exists=sorted(KINDS),
        )
    return build(category, number, KINDS[category])


def numbers(pool: str) -> range:
    """The asset numbers that belong to a pool: train, val or test."""
    return POOLS[pool]
