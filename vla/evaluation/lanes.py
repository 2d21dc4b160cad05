"""The loop of environments × policy inside one process: several episodes in flight, one call of the policy for all."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ..contract import ActionChunk, EnvSpec, Episode, EpisodeBuilder, Memory, Observation, Policy
from ..errors import SpecError
from .ablations import Ablation, ablation
from .records import EpisodeRequest, EpisodeResult

EnvFactory = Callable[[], Any]
"""Builds a Gymnasium environment whose `unwrapped` has `body`, its `EnvSpec`."""
PolicyFactory = Callable[[EnvSpec], Policy]
"""Builds the policy for the environment's body."""


@dataclass(frozen=True)
class Finished:
    """An episode that is over; `ticket` is the caller's number for it, `episode` is None unless asked for."""

    ticket: int
    result: EpisodeResult
    episode: Episode | None = None


@dataclass(frozen=True)
class Recipe:
    """What a process needs to run episodes; picklable where its factories are.

    Args:
        policy: None lets the environment's own `oracle` act, step by step.
        environments: how many episodes are in flight at a time.
        execute: how many actions of each chunk are executed before the policy is asked again.
        record: hand back whole episodes (every step is observed then, which costs rendering).
    """

    env: EnvFactory
    policy: PolicyFactory | None
    environments: int = 1
    execute: int = 8
    record: bool = False


@dataclass
class _Running:
    """The state of one episode in flight; everything random in it follows from its seed."""

    ticket: int
    request: EpisodeRequest
    ablation: Ablation
    observation: Observation
    start: dict[str, Any]
    told: str
    memory: Memory
    rng: np.random.Generator
    builder: EpisodeBuilder | None
    began: float
    info: dict[str, Any] = field(default_factory=dict)
    steps: int = 0
    total: float = 0.0
    digest: Any = field(default_factory=hashlib.sha256)

    def result(self) -> EpisodeResult:
        info, last = self.info, self.observation
        self.digest.update(np.ascontiguousarray(last.state).tobytes())
        self.digest.update(np.array([last.times[k] for k in sorted(last.times)], np.float64).tobytes())
        return EpisodeResult(
            seed=self.request.seed,
            options=dict(self.request.options),
            ablation=self.request.ablation,
            task=str(self.start.get("task", "")),
            split=str(self.start.get("split", self.request.options.get("split", ""))),
            instruction=last.instruction,
            told=self.told,
            success=bool(info.get("success", False)),
            target=self.start.get("target"),
            chosen=info.get("chosen"),
            compatible=int(self.start.get("compatible", 1)),
            steps=self.steps,
            episode_return=self.total,
            measures={str(k): float(v) for k, v in info.get("measures", {}).items()},
            digest=self.digest.hexdigest(),
            seconds=time.perf_counter() - self.began,
        )


class Lanes:
    """`recipe.environments` environments that run episodes side by side; `start` one wherever `free`, then `advance`.

    An exception of an environment or of the policy ends that episode with an error and rebuilds its environment; the
    others go on. A `SpecError` is raised instead: it would meet every episode alike.
    """

    def __init__(self, recipe: Recipe) -> None:
        self._recipe = recipe
        self._envs: list[Any] = [recipe.env() for _ in range(recipe.environments)]
        self._running: list[_Running | None] = [None] * recipe.environments
        self._body: EnvSpec = self._envs[0].unwrapped.body
        self._policy = recipe.policy(self._body) if recipe.policy else None
        if self._policy is not None:
            self._policy.init(self._body, [0])

    @property
    def free(self) -> int:
        return self._running.count(None)

    def start(self, ticket: int, request: EpisodeRequest) -> Finished | None:
        """Reset a free environment for `request`; returns the episode at once only where that fails."""
        lane = self._running.index(None)
        began = time.perf_counter()
        try:
            self._running[lane] = self._reset(self._envs[lane], ticket, request, began)
        except SpecError:
            raise
        except Exception as error:
            return self._fail(lane, ticket, request, error, began)
        return None

    def _reset(self, env: Any, ticket: int, request: EpisodeRequest, began: float) -> _Running:
        change = ablation(request.ablation)
        nested, info = env.reset(seed=request.seed, options={**request.options, **change.options})
        observation = Observation.from_nested(nested)
        told = change.words(observation.instruction, info, np.random.default_rng([request.seed, 3]))
        return _Running(
            ticket=ticket,
            request=request,
            ablation=change,
            observation=observation,
            start=dict(info),
            told=told,
            memory=() if self._policy is None else self._policy.init(self._body, [request.seed]),
            rng=np.random.default_rng([request.seed, 2]),
            builder=EpisodeBuilder(self._body, observation.instruction) if self._recipe.record else None,
            began=began,
        )

    def advance(self) -> list[Finished]:
        """Ask the policy once for all episodes in flight, execute, and return those that are over."""
        busy = [(lane, running) for lane, running in enumerate(self._running) if running is not None]
        decided = self._decide([running for _, running in busy])
        over: list[Finished] = []
        for (lane, running), actions in zip(busy, decided, strict=True):
            try:
                if isinstance(actions, Exception):
                    raise actions
                if self._execute(self._envs[lane], running, actions):
                    over.append(self._finish(lane, running))
            except SpecError:
                raise
            except Exception as error:
                finished = self._fail(lane, running.ticket, running.request, error, running.began)
                known = {k: str(running.start[k]) for k in ("task", "split") if k in running.start}
                over.append(replace(finished, result=replace(finished.result, **known)))
        return over

    def _decide(self, rows: Sequence[_Running]) -> list[np.ndarray | Exception | None]:
        """Actions [n A] to execute per episode; None where the oracle acts; the exception where deciding failed."""
        if self._policy is None:
            return [None] * len(rows)
        before = [row.rng.bit_generator.state for row in rows]
        try:
            return [*self._act(self._policy, rows)]
        except SpecError:
            raise
        except Exception as error:
            if len(rows) == 1:
                return [error]
            # One row spoilt the batch: asked one by one, from the same random numbers, only that one fails.
            for row, state in zip(rows, before, strict=True):
                row.rng.bit_generator.state = state
            return [decided for row in rows for decided in self._decide([row])]

    def _act(self, policy: Policy, rows: Sequence[_Running]) -> list[np.ndarray]:
        seen = [row.ablation.apply(row.observation, row.told) for row in rows]
        memory = [row.memory[0] for row in rows] if len(rows[0].memory) else rows[0].memory
        chunks, memory, _ = policy.act(seen, memory, rng=[row.rng for row in rows])
        for i, row in enumerate(rows):
            row.memory = memory[i : i + 1]
        return [self._actions(chunk) for chunk in chunks]

    def _actions(self, chunk: ActionChunk) -> np.ndarray:
        actions = np.asarray(chunk.actions[: self._recipe.execute], np.float64)
        if not np.isfinite(actions).all():
            raise ValueError("the policy's actions are not finite")
        return np.clip(actions, self._body.action_lower, self._body.action_upper).astype(np.float32)

    def _execute(self, env: Any, running: _Running, actions: np.ndarray | None) -> bool:
        """Whether the episode is over."""
        whole = getattr(env, "step_chunk", None)
        if actions is not None and running.builder is None and whole is not None:
            nested, rewards, terminated, truncated, running.info = whole(actions)
            running.digest.update(actions[: len(rewards)].tobytes())
            running.steps += len(rewards)
            for reward in rewards:  # one by one, as single steps would add them
                running.total += float(reward)
            running.observation = Observation.from_nested(nested)
            return bool(terminated or truncated)
        if actions is None:
            actions = np.asarray(env.unwrapped.oracle(running.rng), np.float32)[None]
        for action in actions:
            nested, reward, terminated, truncated, running.info = env.step(action)
            if running.builder is not None:
                running.builder.add(running.observation, action, float(reward))
            running.digest.update(action.tobytes())
            running.steps += 1
            running.total += float(reward)
            running.observation = Observation.from_nested(nested)
            if terminated or truncated:
                return True
        return False

    def _finish(self, lane: int, running: _Running) -> Finished:
        self._running[lane] = None
        result = running.result()
        episode = None
        if running.builder is not None:
            provenance = {
                **{k: getattr(result, k) for k in ("seed", "task", "split", "ablation", "told")},
                "digest": result.digest,
            }
            episode = running.builder.finish(running.observation, result.success, provenance)
        return Finished(running.ticket, result, episode)

    def _fail(self, lane: int, ticket: int, request: EpisodeRequest, error: Exception, began: float) -> Finished:
        self._running[lane] = None
        _close(self._envs[lane])
        self._envs[lane] = self._recipe.env()
        said = f"{type(error).__name__}: {error}"
        return Finished(ticket, failed(request, said, time.perf_counter() - began))

    def close(self) -> None:
        for env in self._envs:
            _close(env)


def failed(request: EpisodeRequest, error: str, seconds: float = 0.0) -> EpisodeResult:
    """The result of an episode that an error ended: a failure that says why."""
    split = str(request.options.get("split", ""))
    task = str(request.options.get("task") or "")
    return EpisodeResult(
        request.seed, dict(request.options), request.ablation, task=task, split=split, error=error, seconds=seconds
    )


def _close(env: Any) -> None:
    try:
        env.close()
    except Exception:
        pass  # an environment that broke may break once more on closing
