"""Run a policy in environments: the one loop behind evaluation, ablations, videos and episodes for learning.

An episode follows from its request alone: environment seed, the policy's random numbers and its memory are its own.
Results are therefore bit-equal for any number of processes and environments (on a CPU, where policies compute row
by row), and they are written and returned in the order of the requests.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing

from ..contract import EpisodeSink
from ..errors import ConfigError
from .ablations import ablation
from .lanes import EnvFactory, Finished, Lanes, PolicyFactory, Recipe
from .records import EpisodeRequest, EpisodeResult, ResultsLog
from .workers import Ticket, run_parallel

__all__ = ["EnvFactory", "EpisodeRequest", "EpisodeResult", "PolicyFactory", "ResultsLog", "rollout"]


def rollout(
    env_factory: EnvFactory,
    policy_factory: PolicyFactory | None,
    episodes: Sequence[EpisodeRequest],
    *,
    workers: int = 1,
    envs_per_worker: int = 1,
    execute: int = 8,
    log: ResultsLog | None = None,
    sink: EpisodeSink | None = None,
    on_result: Callable[[EpisodeResult], None] | None = None,
) -> list[EpisodeResult]:
    """One result per request, in their order.

    Args:
        env_factory, policy_factory: called inside each process, so they must be importable there. Without a policy
            the environment's `oracle` acts.
        workers: processes; 0 runs everything in this one.
        envs_per_worker: episodes in flight per process; the policy is called once for all of them.
        execute: actions of each chunk that are executed before the policy is asked again.
        log: requests it already answers are not run again; new results are appended as they come.
        sink: gets every whole episode that did not end in an error.
        on_result: called with every new result, for display.

    Raises `SpecError` where policy and environment do not fit and `WayhandError` where they cannot be built. An error
    inside an episode, or the death of its process, is a failed result with `error` set.
    """
    for name, value, least in (
        ("workers", workers, 0),
        ("envs_per_worker", envs_per_worker, 1),
        ("execute", execute, 1),
    ):
        if value < least:
            raise ConfigError(f"'{name}' is too small", expected=f"at least {least}", got=str(value))
    for request in episodes:
        ablation(request.ablation)
    done = {r.request.key: r for r in log.results} if log else {}
    results = [done.get(request.key) for request in episodes]
    todo = [(i, episodes[i]) for i, result in enumerate(results) if result is None]
    recipe = Recipe(env_factory, policy_factory, envs_per_worker, execute, record=sink is not None)
    with closing(_run(recipe, todo, workers)) as stream:
        for finished in _in_order(stream, [i for i, _ in todo]):
            if sink is not None and finished.episode is not None:
                sink.append(finished.episode)
            if log is not None:
                log.append([finished.result])
            results[finished.ticket] = finished.result
            if on_result is not None:
                on_result(finished.result)
    return [r for r in results if r is not None]


def _run(recipe: Recipe, todo: Sequence[Ticket], workers: int) -> Generator[Finished, None, None]:
    if not todo:
        return
    if workers:
        yield from run_parallel(recipe, todo, workers)
        return
    lanes = Lanes(recipe)
    waiting = list(reversed(todo))
    try:
        while waiting or lanes.free < recipe.environments:
            while waiting and lanes.free:
                broken = lanes.start(*waiting.pop())
                if broken is not None:
                    yield broken
            yield from lanes.advance()
    finally:
        lanes.close()


def _in_order(stream: Iterator[Finished], order: Sequence[int]) -> Iterator[Finished]:
    held: dict[int, Finished] = {}
    expected = iter(order)
    following = next(expected, None)
    for finished in stream:
        held[finished.ticket] = finished
        while following in held:
            yield held.pop(following)
            following = next(expected, None)
