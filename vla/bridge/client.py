"""A policy that lives in a server: here another process, there another machine, ours or one of openpi.

To whoever calls it, it is a `Policy` like any other. Its connection may break and come back; a chunk counts only as the
answer to the very observation it was asked for.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import numpy as np

from ..contract import ActionChunk, EnvSpec, Memory, Observation
from ..errors import ConfigError, RobotError, SpecError
from .clock import Clock, MonotonicClock
from .messages import Terms
from .request_keys import key_map

RETRY = 0.2
"""Seconds between two attempts to connect."""


@dataclass
class Counters:
    """What happened to requests.

    Args:
        requests: sent.
        answers: that came in time.
        stale: answers to another request than the last, thrown away.
        timeouts: requests without an answer in time.
        connections: made.
    """

    requests: int = 0
    answers: int = 0
    stale: int = 0
    timeouts: int = 0
    connections: int = 0


class Link(Protocol):
    """One connection to a server. Every call ends by `deadline` (monotonic [s]) or raises; after an error other than
    `SpecError` and `TimeoutError` the connection is of no more use, and `usable` says so."""

    @property
    def terms(self) -> Terms: ...

    @property
    def usable(self) -> bool: ...

    @property
    def alive(self) -> bool:
        """False once the server has closed its end, between two requests too; never waits."""
        ...

    def reset(self, session: int, told: Mapping[str, Any], deadline: float) -> None: ...

    def infer(
        self, session: int, observation: Observation, prefix: ActionChunk | None, delay: int, deadline: float
    ) -> ActionChunk: ...

    def close(self) -> None: ...


class Dial(Protocol):
    """Makes a link; raises `RobotError` where trying again may help, `ConfigError` or `SpecError` where it cannot."""

    def __call__(self, deadline: float) -> Link: ...


@dataclass(frozen=True)
class _Session:
    """Memory of one environment: the history itself stays with the server."""

    number: int
    seed: int
    spec: EnvSpec


class RemotePolicy:
    """`Policy` over a connection. Not to be shared between threads.

    Args:
        address: `host:port`, `ws://…`, `wss://…`, or `local:PATH` of a server on this host.
        spec: of the policy; needed for servers that do not tell (openpi's), checked against those that do.
        names: request key of a foreign server → dotted path (see `request_keys.key_map`), e.g.
            `{"observation/image": "observation.images.front", "observation/state": "observation.state"}`.
        token: the server's secret.
        authority: PEM file of the authority to trust for `wss`, None for the system's.
        statistics: SHA-256 that the server's normalisation statistics must have, empty for any.
        timeout: seconds a chunk may take before the call gives up, connecting included.
        patience: seconds without any answer after which the connection itself is given up.
        clock: monotonic.

    `act` raises `RobotError` where no answer came in time and connects again by itself at the next call; a session then
    begins anew with its seed, since its history went with the server. Randomness is drawn by the server from the seed
    of `init`, as `Planner` does it; `rng` is not used. `counters` tells what happened so far.
    """

    def __init__(
        self,
        *,
        address: str,
        spec: EnvSpec | None = None,
        names: Mapping[str, str] | None = None,
        token: str | None = None,
        authority: Path | None = None,
        statistics: str = "",
        timeout: float = 1.0,
        patience: float = 5.0,
        clock: Clock | None = None,
    ) -> None:
        if timeout <= 0 or patience < timeout:
            raise ConfigError("A client's patience is at least its timeout", got=f"{patience:g} s, {timeout:g} s")
        self.counters = Counters()
        self._clock = clock or MonotonicClock()
        self._timeout, self._wanted, self._statistics = timeout, spec, statistics
        self._dial = _dial(address, names, spec, token, authority, patience, self.counters)
        self._link: Link | None = None
        self._numbers = itertools.count(1)
        self._begun: set[int] = set()
        self._spec = self._connected(self._clock.now() + max(timeout, patience)).terms.spec or spec

    def __enter__(self) -> RemotePolicy:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the connection; a later call makes a new one."""
        link, self._link = self._link, None
        if link is not None:
            link.close()

    @property
    def spec(self) -> EnvSpec:
        assert self._spec is not None, "checked when the first connection was made"
        return self._spec

    @property
    def alive(self) -> bool:
        """Whether the connection is not known to be broken: a server that dies between two requests is gone at once.
        Never waits."""
        return self._link is not None and self._link.usable and self._link.alive

    @property
    def terms(self) -> Terms:
        """What the server said of itself."""
        return self._connected(self._clock.now() + self._timeout).terms

    def init(self, spec: EnvSpec, seeds: Sequence[int]) -> Memory:
        """Begin one session per seed, on both sides; raises `SpecError` where either finds `spec` another body."""
        self.spec.require_same(spec, "the served policy (left) meets the robot (right)")
        sessions = [_Session(next(self._numbers), int(seed), spec) for seed in seeds]
        self._begun.clear()  # the server keeps those of earlier episodes only as long as it has room
        for session in sessions:
            self._begin(session, self._clock.now() + self._timeout)
        return sessions

    def act(
        self,
        observations: Sequence[Observation],
        memory: Memory,
        *,
        rng: Sequence[np.random.Generator],
        prefix: Sequence[ActionChunk | None] | None = None,
        delay: int = 0,
    ) -> tuple[list[ActionChunk], Memory, dict[str, Any]]:
        """One chunk per observation, each within the timeout."""
        prefixes = prefix if prefix is not None else [None] * len(observations)
        chunks = [
            self._ask(session, observation, before, delay)
            for session, observation, before in zip(memory, observations, prefixes, strict=True)
        ]
        return chunks, memory, {}

    def _ask(self, session: _Session, observation: Observation, prefix: ActionChunk | None, delay: int) -> ActionChunk:
        deadline = self._clock.now() + self._timeout
        try:
            self._begin(session, deadline)
            self.counters.requests += 1
            chunk = self._connected(deadline).infer(session.number, observation, prefix, delay, deadline)
        except TimeoutError:
            self.counters.timeouts += 1
            raise RobotError("The policy server did not answer in time", expected=f"{self._timeout:g} s") from None
        self.counters.answers += 1
        return chunk

    def _begin(self, session: _Session, deadline: float) -> None:
        link = self._connected(deadline)
        if session.number in self._begun:
            return
        told = {"seed": session.seed, "spec": session.spec.to_dict(), "statistics": self._statistics}
        try:
            link.reset(session.number, told, deadline)
        except TimeoutError:
            self.counters.timeouts += 1
            raise RobotError("The policy server did not answer in time", expected=f"{self._timeout:g} s") from None
        self._begun.add(session.number)

    def _connected(self, deadline: float) -> Link:
        """The connection, made again where it broke, attempts apart, until `deadline`."""
        if self._link is not None and self._link.usable:
            return self._link
        self.close()
        while True:
            try:
                link = self._dial(deadline)
                break
            except RobotError:
                again = self._clock.now() + RETRY
                if again >= deadline:
                    raise
                self._clock.sleep_until(again)
        try:
            self._check(link.terms)
        except Exception:
            link.close()
            raise
        self.counters.connections += 1
        self._begun.clear()
        self._link = link
        return link

    def _check(self, terms: Terms) -> None:
        if terms.spec is None and self._wanted is None:
            raise SpecError("The server does not tell what its policy is for", run="RemotePolicy(…, spec=…, names=…)")
        if terms.spec is not None and self._wanted is not None:
            self._wanted.require_same(terms.spec, "the wanted policy (left) meets the served one (right)")
        if self._statistics and terms.statistics != self._statistics:
            raise SpecError(
                "The server has other normalisation statistics", expected=self._statistics, got=terms.statistics
            )
        # From now on every connection must lead to the same policy.
        self._wanted = terms.spec or self._wanted
        self._statistics = terms.statistics


def _dial(
    address: str,
    names: Mapping[str, str] | None,
    spec: EnvSpec | None,
    token: str | None,
    authority: Path | None,
    patience: float,
    counters: Counters,
) -> Dial:
    if address.startswith("local:"):
        from .local_link import LocalDial

        return LocalDial(Path(address.removeprefix("local:")))
    from .websocket_link import WebsocketDial

    if names is not None and spec is None:
        raise ConfigError("Names of keys need the spec they are for", run="RemotePolicy(…, spec=…, names=…)")
    keys = None if names is None or spec is None else key_map(names, spec)
    return WebsocketDial(address, keys, spec, token, authority, patience, counters)
