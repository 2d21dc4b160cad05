"""Content hashes: what an episode says, whatever its chunks, codec or shards, and not where it came from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from ..vla.contract import EnvSpec, Episode, Observation
from .layout import dumps


def episode_digest(
    instruction: str,
    success: bool | None,
    columns: Mapping[str, np.ndarray[Any, Any]],
    final: Mapping[str, np.ndarray[Any, Any]],
) -> bytes:
    """SHA-256 over the instruction, the outcome, and name, dtype, shape and bytes of every column and of `final`."""
    parts = [(f"data/{k}", columns[k]) for k in sorted(columns)] + [(f"final/{k}", final[k]) for k in sorted(final)]
    header = {
        "instruction": instruction,
        "success": success,
        "arrays": [[name, array.dtype.name, list(array.shape)] for name, array in parts],
    }
    digest = hashlib.sha256(dumps(header))
    for _, array in parts:
        little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
        digest.update(little.reshape(-1).view(np.uint8).data if little.size else b"")
    return digest.digest()


def final_columns(spec: EnvSpec, final: Observation) -> dict[str, np.ndarray[Any, Any]]:
    """The last observation as the columns that the spec declares."""
    have = final.columns()
    return {path: np.asarray(have[path]) for path in spec.columns() if path.startswith("observation.")}


def digest_of(episode: Episode) -> bytes:
    """SHA-256 of an episode's content."""
    return episode_digest(
        episode.instruction, episode.success, episode.columns, final_columns(episode.spec, episode.final)
    )


def dataset_hash(spec: EnvSpec, digests: Iterable[bytes]) -> str:
    """Hex SHA-256 over the spec and the digests of all episodes in order."""
    digest = hashlib.sha256(json.dumps(spec.to_dict(), sort_keys=True).encode())
    for one in digests:
        digest.update(one)
    return digest.hexdigest()
