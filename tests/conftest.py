"""Strict under test, free in production: shapes are checked, the network is closed, hypothesis repeats itself."""

from __future__ import annotations

import functools
import ipaddress
import os
import socket
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import settings

from wayhand.vla.contract import ActionChunk, Observation, Step

# Libraries that could ask a hub must not, and pools of threads must not outnumber the cores when tests run in parallel.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_OFFLINE"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

settings.register_profile("repeatable", derandomize=True, deadline=None, max_examples=50, database=None)
settings.load_profile("repeatable")


# --- shapes ----------------------------------------------------------------------------------------------------

_strict = True


@pytest.fixture(autouse=True)
def strict_shapes(request: pytest.FixtureRequest) -> Iterator[None]:
    """Off for a test marked `malformed`, which builds ill-shaped values to see them refused elsewhere."""
    global _strict
    _strict = request.node.get_closest_marker("malformed") is None
    yield
    _strict = True


def _array(where: str, array: Any, dtype: str, ndim: int, last: int | None = None) -> None:
    shape = getattr(array, "shape", None)
    fits = isinstance(array, np.ndarray) and array.dtype == dtype and array.ndim == ndim
    if not fits or (last is not None and array.shape[-1] != last):
        want = f"{dtype} with {ndim} axes" + (f", the last of {last}" if last else "")
        pytest.fail(f"{where} must be {want}; got {type(array).__name__} {getattr(array, 'dtype', '')} {shape}")


def _check_observation(value: Observation) -> None:
    _array("Observation.state", value.state, "float32", 1)
    for name, image in value.images.items():
        _array(f"Observation.images[{name!r}]", image, "uint8", 3, 3)
    for name, depth in value.depth.items():
        _array(f"Observation.depth[{name!r}]", depth, "float32", 2)
    for name, ids in value.semantics.items():
        _array(f"Observation.semantics[{name!r}]", ids, "int32", 2)
    for name, t in value.times.items():
        if not isinstance(t, (int, float)) or not np.isfinite(t):
            pytest.fail(f"Observation.times[{name!r}] must be a finite number of seconds; got {t!r}")


def _check_chunk(value: ActionChunk) -> None:
    _array("ActionChunk.times", value.times, "float64", 1)
    if value.actions.dtype.kind != "f":
        pytest.fail(f"ActionChunk.actions must be floating point; got {value.actions.dtype}")
    if not (np.diff(value.times) > 0).all():
        pytest.fail(f"ActionChunk.times must increase strictly; got {value.times}")


def _check_step(value: Step) -> None:
    for name in ("terminated", "truncated"):
        if type(getattr(value, name)) is not bool:
            pytest.fail(f"Step.{name} must be a bool; got {getattr(value, name)!r}")


def _after_init(cls: type, check: Callable[[Any], None]) -> None:
    original = cls.__init__

    @functools.wraps(original)
    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        if _strict:
            check(self)

    cls.__init__ = init


_after_init(Observation, _check_observation)
_after_init(ActionChunk, _check_chunk)
_after_init(Step, _check_step)


# --- network ---------------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True, scope="session")
def no_network() -> Iterator[None]:
    """Connections leave this machine in no test; the loopback stays open for servers that tests start."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6):
            host = str(address[0])
            local = host == "localhost" or (_is_ip(host) and ipaddress.ip_address(host).is_loopback)
            if not local:
                pytest.fail(f"A test tried to reach {host}: tests run without a network")
        connect(self, address)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", guarded)
        yield


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
