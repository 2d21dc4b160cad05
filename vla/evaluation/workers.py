"""Episodes in parallel processes; a process that dies costs the episode that killed it, nothing else."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import traceback
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from ..errors import WayhandError
from .lanes import Finished, Lanes, Recipe, failed
from .records import EpisodeRequest

Ticket = tuple[int, EpisodeRequest]


@dataclass(frozen=True)
class _Ready:
    pass


@dataclass(frozen=True)
class _Broken:
    error: WayhandError | None
    said: str
    trace: str


def run_parallel(recipe: Recipe, todo: Sequence[Ticket], workers: int) -> Generator[Finished, None, None]:
    """Every episode of `todo`, in the order they end; closing the generator ends the processes.

    Where a process dies with several episodes in flight, each of them is tried again alone, so that exactly the
    guilty ones are recorded as errors. Raises `WayhandError` where environments or policy cannot even be built.
    """
    waiting, suspects = deque(todo), deque[Ticket]()
    crew = [_Worker(recipe) for _ in range(min(workers, len(todo)))]
    try:
        while waiting or suspects or any(w.holds for w in crew):
            _hand_out(crew, waiting, suspects, recipe.environments)
            ready = wait([w.connection for w in crew])
            for i, worker in enumerate(crew):
                if worker.connection not in ready:
                    continue
                message = worker.receive()
                if isinstance(message, Finished):
                    del worker.holds[message.ticket]
                    yield message
                elif isinstance(message, int):
                    lost = list(worker.holds.items())
                    if len(lost) > 1:
                        suspects += lost
                    for ticket, request in lost if len(lost) == 1 else []:
                        yield Finished(ticket, failed(request, f"the process died (exit code {message})"))
                    worker.end()
                    crew[i] = _Worker(recipe)
    finally:
        for worker in crew:
            worker.end()


def _hand_out(crew: Sequence[_Worker], waiting: deque[Ticket], suspects: deque[Ticket], capacity: int) -> None:
    for worker in crew:
        if suspects and not worker.holds:
            worker.alone = True
            worker.give(suspects.popleft())
        elif not worker.holds:
            worker.alone = False
    # Round by round, so that few episodes spread over all processes.
    for _ in range(capacity):
        for worker in crew:
            if waiting and not worker.alone and len(worker.holds) < capacity:
                worker.give(waiting.popleft())


@dataclass
class _Worker:
    recipe: Recipe
    holds: dict[int, EpisodeRequest] = field(default_factory=dict)
    alone: bool = False
    built: bool = False

    def __post_init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process: BaseProcess = context.Process(target=_work, args=(theirs, self.recipe), daemon=True)
        with _one_thread():
            self.process.start()
        theirs.close()  # so that the death of the process is an end of file here

    def give(self, ticket: Ticket) -> None:
        self.holds[ticket[0]] = ticket[1]
        try:
            self.connection.send(ticket)
        except (BrokenPipeError, ConnectionResetError):
            pass  # the end of file that follows says it all

    def receive(self) -> Finished | _Ready | int:
        """A message of the process, or its exit code where it died."""
        try:
            message = self.connection.recv()
        except (EOFError, ConnectionResetError):
            self.process.join(10)
            code = self.process.exitcode
            if not self.built:
                raise WayhandError(
                    "A process died while it built its environments and policy", got=f"exit code {code}"
                ) from None
            return -1 if code is None else code
        if isinstance(message, _Broken):
            if message.error is not None:
                raise message.error
            raise WayhandError(f"Evaluation cannot go on: {message.said}", got="\n" + message.trace.rstrip())
        if isinstance(message, _Ready):
            self.built = True
        return message

    def end(self) -> None:
        self.connection.close()
        self.process.terminate()
        self.process.join(10)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        self.process.close()


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Processes started inside compute and render on one thread each, because all cores have a process already."""
    wanted = {"OMP_NUM_THREADS": "1", "LP_NUM_THREADS": "1"}
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _work(connection: Connection, recipe: Recipe) -> None:
    # Ctrl-C reaches the whole group; the parent decides what it means and ends us.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    lanes: Lanes | None = None
    try:
        lanes = Lanes(recipe)
        connection.send(_Ready())
        while True:
            while lanes.free and (lanes.free == recipe.environments or connection.poll()):
                broken = lanes.start(*connection.recv())
                if broken is not None:
                    connection.send(broken)
            for finished in lanes.advance():
                connection.send(finished)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return  # the parent is gone
    except Exception as error:
        # Other people's errors need not survive pickling; of those the words travel.
        own = error if isinstance(error, WayhandError) else None
        connection.send(_Broken(own, f"{type(error).__name__}: {error}", traceback.format_exc()))
    finally:
        if lanes is not None:
            lanes.close()
