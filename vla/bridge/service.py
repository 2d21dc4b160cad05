"""A policy as a service: requests in, answers out, sessions kept, whatever the transport."""

from __future__ import annotations

import logging
import secrets
import time
from collections import OrderedDict
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import numpy as np

from ..contract import ActionChunk, EnvSpec, Observation, Policy
from ..errors import RobotError, SpecError, WayhandError
from . import messages, wire
from .messages import Terms, checked_chunk
from .metrics import ServingMetrics
from .request_keys import RequestReader
from .shared import LONGEST_CHUNK
from .warmup import blank
from .wire import WireError
from .worker import Worker

LOG = logging.getLogger("wayhand.serve")
SESSIONS = 64
"""A connection may hold so many; the one least recently used goes when another begins."""
_UNNAMED, _PREFIX = "", f"{messages.OURS}/"
_EXTENSIONS = frozenset(messages.EXTENSIONS)


@dataclass(frozen=True)
class Failure:
    """What a client is told of a request that failed, in one short text without inner workings.

    Args:
        ours: whether the fault lies here; else it lies in the request.
    """

    text: str
    ours: bool


@dataclass
class _Session:
    memory: Any
    rng: list[np.random.Generator]


@dataclass
class Peer:
    """What is remembered of one connection."""

    sessions: OrderedDict[str, _Session] = field(default_factory=OrderedDict)
    previous: float | None = None
    """Seconds that the previous request took from its arrival until its answer was sent."""


class PolicyService:
    """Context manager: one policy, on a thread of its own.

    Args:
        policy: any policy of the contract. It must not be used elsewhere meanwhile.
        names: request keys of foreign clients → dotted paths (see `request_keys.key_map`).
        statistics: SHA-256 of the policy's normalisation statistics, empty where it has none.
        limits: of a request.

    `ready` is done once the policy has answered a first time, so that nobody waits for compilation or allocation,
    and holds the exception where it could not.
    """

    def __init__(
        self,
        *,
        policy: Policy,
        names: Mapping[str, str] | None = None,
        statistics: str = "",
        limits: wire.Limits = wire.DEFAULT,
    ) -> None:
        self.metrics = ServingMetrics()
        self.worker = Worker("policy")
        self.ready: Future[None] = Future()
        self.spec: EnvSpec = policy.spec
        self.limits = limits
        self._policy, self._statistics = policy, statistics
        self._read = RequestReader(self.spec, names)
        self._horizon = 0

    def __enter__(self) -> PolicyService:
        """Begin to warm up; what is asked meanwhile waits."""
        self.worker.submit(self._warm_up)
        self.worker.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self.worker.close():
            LOG.warning("the policy is still computing; it is left behind")

    def metadata(self) -> dict[str, Any]:
        """What every connection begins with; once `ready`."""
        terms = Terms(self.spec, self._horizon, self._statistics, messages.EXTENSIONS, self.limits.size)
        return terms.to_metadata()

    # --- called on the policy's thread -------------------------------------------------------------------------

    def answer(self, peer: Peer, frame: bytes, arrived: float) -> bytes | Failure:
        """The answer to one request frame that arrived at monotonic time `arrived` [s]."""
        begun = time.monotonic()
        try:
            reply, took = self._reply(peer, wire.unpack(frame, self.limits), begun - arrived)
            out = wire.pack(reply)
        except Exception as error:
            return self.failure(error)
        self.metrics.answered(len(frame), len(out), begun - arrived, took)
        return out

    def failure(self, error: Exception) -> Failure:
        """Counts and logs an error. Faults of a request are told; ours only by a number that the log explains."""
        if isinstance(error, (WireError, SpecError)):
            self.metrics.requests.add(1, "refused")
            LOG.info("refused: %s", error)
            return Failure(f"{type(error).__name__}: {error}", ours=False)
        self.metrics.requests.add(1, "failed")
        number = secrets.token_hex(4)
        LOG.error("request failed, number %s", number, exc_info=error)
        return Failure(f"InternalError: the policy failed; the server's log tells why under number {number}", ours=True)

    def reset(self, peer: Peer, name: str, told: Mapping[str, Any]) -> None:
        """Begin an episode in session `name`. `told`: `seed`, and what the client expects: `spec`, `statistics`.

        Raises `SpecError` where the policy is for another body or has other statistics.
        """
        seed, spec, statistics = told.get("seed", 0), told.get("spec"), told.get("statistics")
        if type(seed) is not int or not 0 <= seed < 2**63:
            raise SpecError("A seed must be an integer from 0 on", got=repr(seed)[:40])
        if statistics not in (None, "", self._statistics):
            raise SpecError(
                "The client expects other normalisation statistics",
                expected=str(statistics)[:64],
                got=self._statistics or "none",
            )
        if spec is not None and not isinstance(spec, dict):
            raise SpecError("This is not a serialised EnvSpec", got=type(spec).__name__)
        robot = self.spec if spec is None else EnvSpec.from_dict(spec)
        self.spec.require_same(robot, "the policy (left) meets the robot (right)")
        memory = self._guarded(lambda: self._policy.init(robot, [seed]))
        # The same draws as `Planner` makes for this seed.
        peer.sessions[name] = _Session(memory, [np.random.default_rng([seed, 2])])
        peer.sessions.move_to_end(name)
        while len(peer.sessions) > SESSIONS:
            peer.sessions.popitem(last=False)

    def act(
        self, peer: Peer, name: str, observation: Observation, prefix: ActionChunk | None = None, delay: int = 0
    ) -> tuple[ActionChunk, float]:
        """The next chunk of session `name`, and the seconds it took."""
        session = peer.sessions.get(name)
        if session is None:
            if name != _UNNAMED:
                raise SpecError("This session has not begun, or was given up for newer ones", run="reset it first")
            self.reset(peer, name, {})
            session = peer.sessions[name]
        start = time.monotonic()
        chunks, session.memory, _ = self._guarded(
            lambda: self._policy.act([observation], session.memory, rng=session.rng, prefix=[prefix], delay=delay)
        )
        seconds = time.monotonic() - start
        chunk = chunks[0]
        if chunk.actions.shape[1] != self.spec.action_dim or not 1 <= len(chunk) <= LONGEST_CHUNK:
            raise RobotError("The policy's chunk has the wrong shape", got=str(chunk.actions.shape))
        if not np.isfinite(chunk.actions).all():
            raise RobotError("The policy's actions are not finite")
        peer.sessions.move_to_end(name)
        return chunk, seconds

    def _guarded(self, call: Any) -> Any:
        """What the policy says of its own troubles is not for clients."""
        try:
            return call()
        except WayhandError as error:
            raise RobotError("The policy failed", got=str(error)) from error

    def _reply(self, peer: Peer, request: Any, waited: float) -> tuple[dict[str, Any], float]:
        """The answer to a decoded request that waited so long [s], and the seconds it took the policy."""
        if not isinstance(request, dict):
            raise WireError("A request is a map", got=type(request).__name__)
        extra = {key: value for key, value in request.items() if key.startswith(_PREFIX)}
        if extra and (unknown := extra.keys() - _EXTENSIONS):
            raise SpecError("Unknown extension", got=", ".join(sorted(unknown))[:80], exists=messages.EXTENSIONS)
        name = extra.get(messages.SESSION, _UNNAMED)
        if not isinstance(name, str) or len(name) > 64:
            raise SpecError("A session's name is a text of at most 64 characters")
        ours = {"sequence": extra[messages.SEQUENCE]} if messages.SEQUENCE in extra else {}
        if messages.RESET in extra:
            if not isinstance(extra[messages.RESET], dict):
                raise SpecError("A reset is a map", expected="seed, spec, statistics")
            self.reset(peer, name, extra[messages.RESET])
            return {messages.OURS: ours}, 0.0
        observation = self._read(request, time.monotonic())
        prefix, delay = _prefix(extra, self.spec.action_dim) if extra else (None, 0)
        chunk, seconds = self.act(peer, name, observation, prefix, delay)
        timing = {"infer_ms": seconds * 1e3, "queue_ms": waited * 1e3}
        if peer.previous is not None:
            timing["prev_total_ms"] = peer.previous * 1e3
        out = {"actions": chunk.actions, "policy_timing": {"infer_ms": seconds * 1e3}, "server_timing": timing}
        if extra:
            # Lists: brokers of openpi slice every array of an answer along time.
            out[messages.OURS] = {**ours, "times": chunk.times.tolist(), "observed_at": chunk.observed_at}
        return out, seconds

    def _warm_up(self) -> None:
        try:
            peer = Peer()
            nothing = blank(self.spec)
            for _ in range(2):
                chunk, seconds = self.act(peer, _UNNAMED, nothing)
                self._horizon = len(chunk)
                LOG.info("warm-up: one inference took %.0f ms", seconds * 1e3)
        except Exception as error:
            self.ready.set_exception(error)
        else:
            self.ready.set_result(None)


def _prefix(extra: Mapping[str, Any], width: int) -> tuple[ActionChunk | None, int]:
    delay = extra.get(messages.DELAY, 0)
    if type(delay) is not int or not 0 <= delay <= 10_000:
        raise SpecError("A delay is a number of control periods", got=repr(delay)[:40])
    if messages.PREFIX not in extra:
        return None, delay
    try:
        times, source = extra[messages.PREFIX_TIMES], float(extra[messages.PREFIX_FROM])
        return checked_chunk(extra[messages.PREFIX], times, source, width), delay
    except (KeyError, TypeError, ValueError, RobotError) as error:
        raise SpecError("The prefix is no chunk", got=str(error)[:200]) from None
