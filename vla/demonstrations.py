"""Demonstrations of scripted experts, recorded by parallel processes and handed out in seed order.

An environment that can be recorded is a Gymnasium environment whose `unwrapped` has `body` (its `EnvSpec`),
`oracle(rng)` (the expert's action [A] for the current state) and `oracle_name`.
"""

from __future__ import annotations

import itertools
import multiprocessing
import signal
import time
import traceback
from collections import deque
from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

import numpy as np

from .contract import EnvSpec, Episode, EpisodeBuilder, Observation, Policy
from .errors import WayhandError

QUEUED = 2
"""Seeds a worker holds at a time: the one it runs and the next, so that it never waits for the writer."""
AHEAD = 4
"""Unwritten episodes per worker, at most: what bounds the memory when one seed takes much longer than the rest."""


@dataclass(frozen=True)
class Attempt:
    """One episode of the expert.

    Args:
        seconds: what it took in its worker, resets included.
        episode: None where it failed and failures are not kept.
    """

    seed: int
    task: str
    steps: int
    seconds: float
    success: bool
    episode: Episode | None


DISTURBED = 0.1
"""Share of the steps that are disturbed. Rare knocks show the way back and leave the rest of a chunk predictable;
noise on every step would fill the targets of a chunk with corrections of noise that is yet to come."""


TURN = 16
"""Steps for which student or expert act before it is drawn anew who does."""


def noise_scale(spec: EnvSpec, noise: float) -> np.ndarray:
    """[A] standard deviations: `noise` × the range of every continuous element, none on grippers and indices.

    A disturbed gripper drops what it holds, which no later action of the expert can mend.
    """
    scale = np.zeros(spec.action_dim)
    for group, where in spec.group_slices():
        if group.name != "gripper" and group.kind not in ("discrete", "candidate"):
            scale[where] = noise * (np.array(group.upper) - np.array(group.lower))
    return scale


def demonstrate(
    env: Any,
    seed: int,
    *,
    noise: float = 0.0,
    student: Policy | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> Episode:
    """Run the expert once on `seed`.

    With `noise` some executed actions are disturbed and the expert's own are stored, so that the data shows how to
    come back (after DART, Laskey et al. 2017). A `student` takes turns with the expert, `TURN` steps each, drawn
    evenly, while it is always the expert's action that is stored: the data shows how to leave where only the student
    gets to (DAgger, Ross et al. 2011), and in the expert's turns whole chunks of it. Everything follows from the seed.
    """
    body: EnvSpec = env.unwrapped.body
    rng = np.random.default_rng([seed, 0])
    disturbance = np.random.default_rng([seed, 1])
    scale = noise_scale(body, noise)
    nested, start = env.reset(seed=seed)
    observation = Observation.from_nested(nested)
    builder = EpisodeBuilder(body, observation.instruction)
    pupil = None if student is None else _Student(student, body, seed)
    done, info = False, start
    while not done:
        action = np.asarray(env.unwrapped.oracle(rng), np.float64)
        knock = scale * disturbance.standard_normal(scale.shape) * (disturbance.random() < DISTURBED)
        chosen = action if pupil is None else pupil(observation, action)
        executed = np.clip(chosen + knock, body.action_lower, body.action_upper)
        nested, reward, terminated, truncated, info = env.step(executed.astype(np.float32))
        builder.add(observation, action, float(reward))
        observation = Observation.from_nested(nested)
        done = terminated or truncated
    record = {
        "seed": seed,
        "task": str(start.get("task", "")),
        "split": str(start.get("split", "seen")),
        "oracle": env.unwrapped.oracle_name,
        "noise": noise,
    }
    return builder.finish(observation, bool(info["success"]), {**record, **(provenance or {})})


class _Student:
    """A policy that chooses the actions of one episode in turns with the expert: the first of each of its chunks."""

    def __init__(self, policy: Policy, body: EnvSpec, seed: int) -> None:
        policy.spec.require_same(body, "the student (left) meets the environment (right)")
        self._policy, self._memory = policy, policy.init(body, [seed])
        self._rng, self._turns = [np.random.default_rng([seed, 2])], np.random.default_rng([seed, 3])
        self._left, self._acts = 0, False

    def __call__(self, observation: Observation, experts: np.ndarray) -> np.ndarray:
        if not self._left:
            self._left, self._acts = TURN, bool(self._turns.random() < 0.5)
        self._left -= 1
        if not self._acts:
            return experts
        chunks, self._memory, _ = self._policy.act([observation], self._memory, rng=self._rng)
        return np.asarray(chunks[0].actions[0], np.float64)


def attempts(
    make_env: Callable[[], Any],
    seeds: Iterable[int],
    *,
    workers: int,
    noise: float = 0.0,
    keep_failures: bool = False,
    make_student: Callable[[], Policy] | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> Generator[Attempt, None, None]:
    """The expert on every one of `seeds` (possibly endless), in their order whatever the number of workers.

    Args:
        make_env: builds an environment inside a worker process; must be importable there.
        make_student: loads there who acts in turns with the expert.
        provenance: added to that of every episode.

    Closing the generator ends the workers. Raises `WayhandError` with the worker's traceback where one fails.
    """
    crew = [_Worker(make_env, noise, keep_failures, make_student, dict(provenance or {})) for _ in range(workers)]
    seeds = iter(seeds)
    order: deque[int] = deque()
    finished: dict[int, Attempt] = {}
    try:
        while True:
            # Round by round, so that the first seeds spread over all workers instead of filling the first one's queue.
            for _, worker in itertools.product(range(QUEUED), crew):
                if len(worker.seeds) < QUEUED and len(order) < AHEAD * workers:
                    seed = next(seeds, None)
                    if seed is None:
                        break
                    worker.give(seed)
                    order.append(seed)
            if not order:
                return
            ready = wait([w.connection for w in crew if w.seeds])
            for worker in crew:
                if worker.connection in ready:
                    attempt = worker.take()
                    finished[attempt.seed] = attempt
            while order and order[0] in finished:
                yield finished.pop(order.popleft())
    finally:
        for worker in crew:
            worker.end()


@dataclass(frozen=True)
class _Failure:
    error: str
    trace: str


@dataclass
class _Worker:
    make_env: Callable[[], Any]
    noise: float
    keep_failures: bool
    make_student: Callable[[], Policy] | None
    provenance: dict[str, Any]
    seeds: deque[int] = field(default_factory=deque)

    def __post_init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        arguments = (theirs, self.make_env, self.noise, self.keep_failures, self.make_student, self.provenance)
        self.process: BaseProcess = context.Process(target=_work, args=arguments, daemon=True)
        self.process.start()
        theirs.close()  # so that the death of the worker is an end of file here

    def give(self, seed: int) -> None:
        self.seeds.append(seed)
        try:
            self.connection.send(seed)
        except BrokenPipeError:
            pass  # what the worker died of is read by `take`

    def take(self) -> Attempt:
        seed = self.seeds[0]
        again = "the same command: it goes on after the last episode that was written"
        try:
            message = self.connection.recv()
        except (EOFError, ConnectionResetError):
            self.process.join(5)
            raise WayhandError(
                f"A worker died at seed {seed}", got=f"exit code {self.process.exitcode}", run=again
            ) from None
        if isinstance(message, _Failure):
            raise WayhandError(
                f"A worker failed at seed {seed}: {message.error}", got="\n" + message.trace.rstrip(), run=again
            )
        self.seeds.popleft()
        return message

    def end(self) -> None:
        self.connection.close()
        self.process.terminate()
        self.process.join(10)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        self.process.close()


def _work(
    connection: Connection,
    make_env: Callable[[], Any],
    noise: float,
    keep_failures: bool,
    make_student: Callable[[], Policy] | None,
    provenance: dict[str, Any],
) -> None:
    # Ctrl-C reaches the whole group; the parent decides what it means and ends us.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        env = make_env()
        student = None if make_student is None else make_student()
        while True:
            seed = connection.recv()
            begin = time.perf_counter()
            episode = demonstrate(env, seed, noise=noise, student=student, provenance=provenance)
            success = bool(episode.success)
            connection.send(
                Attempt(
                    seed=seed,
                    task=episode.provenance["task"],
                    steps=len(episode),
                    seconds=time.perf_counter() - begin,
                    success=success,
                    episode=episode if success or keep_failures else None,
                )
            )
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return  # the parent is gone
    except Exception as error:
        connection.send(_Failure(f"{type(error).__name__}: {error}", traceback.format_exc()))
