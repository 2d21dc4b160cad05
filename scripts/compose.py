"""The composition root's own configuration folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from ..vla.config import Config, compose, typed

CONF = Path(__file__).parent / "conf"
T = TypeVar("T")


def load(name: str, overrides: Sequence[str], schema: type[T]) -> tuple[T, Config]:
    """`conf/<name>.yaml` with overrides, as the command's dataclass and as the whole frozen configuration."""
    config = compose(CONF, name, overrides)
    return typed(config, schema), config
