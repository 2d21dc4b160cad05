"""What travels between a policy server and its clients: metadata, chunks, and what our own ends add.

An openpi client sends flat keys (`observation/image`, `observation/state`, `prompt`) and gets `actions` [H A]. Ours
sends the contract's dotted paths and, where the metadata offers them, the extensions: keys that begin with `wayhand/`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..contract import ActionChunk, EnvSpec
from ..errors import RobotError, SpecError
from .shared import LONGEST_CHUNK

PROTOCOL = 1
OURS = "wayhand"
SESSION, RESET, SEQUENCE, DELAY = "wayhand/session", "wayhand/reset", "wayhand/sequence", "wayhand/delay"
PREFIX, PREFIX_TIMES, PREFIX_FROM = "wayhand/prefix", "wayhand/prefix_times", "wayhand/prefix_observed_at"
EXTENSIONS = (SESSION, RESET, SEQUENCE, DELAY, PREFIX, PREFIX_TIMES, PREFIX_FROM)


# --- metadata --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Terms:
    """What a server says of itself when a client connects: the contract both sides check.

    Args:
        spec: of the policy; None from a server that does not tell (openpi's).
        horizon: H of its chunks, 0 where it does not tell.
        statistics: SHA-256 of the normalisation statistics, empty where there are none.
        extensions: request keys beyond openpi's that it understands.
        size: bytes of the largest request it takes, 0 where it does not tell.
    """

    spec: EnvSpec | None
    horizon: int = 0
    statistics: str = ""
    extensions: tuple[str, ...] = ()
    size: int = 0

    def to_metadata(self) -> dict[str, Any]:
        """Plain values; the upper ones in words any client can read, the exact ones under `wayhand`."""
        spec = self.spec
        assert spec is not None, "a server of ours always knows its spec"
        return {
            "action_dim": spec.action_dim,
            "action_horizon": self.horizon,
            "action_space": [
                {"name": e.name, "unit": e.unit, "group": g.name, "kind": g.kind, "frame": g.frame}
                for g in spec.action
                for e in g.elements
            ],
            "control_hz": 1.0 / spec.control_dt,
            "image_keys": [c.name for c in spec.cameras],
            "state_dim": spec.state_dim,
            "norm_stats_sha256": self.statistics,
            OURS: {
                "protocol": PROTOCOL,
                "spec": spec.to_dict(),
                "extensions": list(self.extensions),
                "max_bytes": self.size,
            },
        }

    @staticmethod
    def from_metadata(metadata: Any) -> Terms:
        """Raises `RobotError` where the server claims our protocol and does not keep to it."""
        if not isinstance(metadata, dict):
            raise RobotError("A policy server must begin with a map", got=type(metadata).__name__)
        statistics, ours = metadata.get("norm_stats_sha256", ""), metadata.get(OURS)
        if ours is None:
            return Terms(None, statistics=statistics if isinstance(statistics, str) else "")
        try:
            if ours["protocol"] != PROTOCOL:
                raise RobotError("The server speaks another version", expected=str(PROTOCOL), got=str(ours["protocol"]))
            return Terms(
                spec=EnvSpec.from_dict(ours["spec"]),
                horizon=int(metadata["action_horizon"]),
                statistics=str(statistics),
                extensions=tuple(str(e) for e in ours["extensions"]),
                size=int(ours["max_bytes"]),
            )
        except (KeyError, TypeError, ValueError, SpecError) as error:
            raise RobotError("The server's metadata cannot be read", got=f"{type(error).__name__}: {error}") from None


# --- chunks ----------------------------------------------------------------------------------------------------


def checked_chunk(actions: Any, times: Any, observed_at: float, width: int) -> ActionChunk:
    """A chunk from a server or a policy; raises `RobotError` where its shape or times are not those of one.

    Whether its values are safe is the gate's to judge.
    """
    a, t = np.asarray(actions), np.asarray(times, np.float64)
    fits = a.ndim == 2 and a.dtype.kind in "fiu" and 1 <= len(a) <= LONGEST_CHUNK and a.shape[1] == width
    if not fits:
        raise RobotError(
            "What came is no action chunk", expected=f"numbers [1…{LONGEST_CHUNK}, {width}]", got=f"{a.dtype} {a.shape}"
        )
    increasing = t.shape == (len(a),) and bool((t[1:] > t[:-1]).all())
    if not increasing or not math.isfinite(t[0]) or not math.isfinite(t[-1]):
        raise RobotError("The times of an action chunk are no times", expected=f"{len(a)} increasing seconds")
    return ActionChunk(a if a.dtype.kind == "f" else a.astype(np.float64), t, observed_at)
