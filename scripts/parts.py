"""Swapping one part of a vision-language model for another by one word of a command."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..vla.config import TARGET, bind
from ..vla.errors import ConfigError


def swapped(vlm: Mapping[str, Any], **parts: Mapping[str, Any] | None) -> dict[str, Any]:
    """The node of a vision-language model with some of its parts replaced, as in `vision=siglip connector=qformer`.

    A part is replaced as a whole, never merged with the one that was there; None leaves it. Widths need no word: the
    composition fills them in.

    Raises:
        ConfigError: where the model has no such part, as a complete model of transformers.
    """
    given = {name: _plain(node) for name, node in parts.items() if node is not None}
    out = {**_plain(vlm), **given}
    try:
        bind({**out, "_partial_": True})
    except ConfigError as error:
        unknown = [name for name in given if name not in vlm]
        if not unknown:
            raise
        raise ConfigError(
            f"This model has no part '{unknown[0]}' to swap",
            got=str(vlm.get(TARGET)),
            exists=[name for name, value in vlm.items() if isinstance(value, Mapping)],
            run="choose a composition, such as vlm=scratch",
        ) from error
    return out


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, (list, tuple)) else value
