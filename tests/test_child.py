"""A process of a run: what its parent hears of its failure, its death and its silence."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from multiprocessing.connection import Connection

import pytest

from wayhand.vla.bridge.child import Child, ChildError, reporting
from wayhand.vla.bridge.robots.link import tell
from wayhand.vla.errors import ConfigError, RobotError


def obey(pipe: Connection) -> None:
    """Says that it is there, then does what it hears."""
    with reporting(pipe):
        tell(pipe, {"ready": True})
        while True:
            message = json.loads(pipe.recv_bytes())
            if "die" in message:
                os._exit(message["die"])
            if "fail" in message:
                raise ConfigError(message["fail"])
            if "answer" in message:
                tell(pipe, message)


def fail(pipe: Connection) -> None:
    with reporting(pipe):
        raise ConfigError("there is no such thing")


@contextmanager
def obedient() -> Iterator[Child]:
    with closing(Child("helper", obey)) as child:
        assert child.started() == {"ready": True} and child.alive and child.pid
        yield child


def test_what_it_fails_of_is_told_with_its_traceback() -> None:
    with obedient() as child:
        child.tell({"answer": 1})
        assert child.hear(30.0) == {"answer": 1}
        child.check()
        child.tell({"fail": "no arm"})
        with pytest.raises(ChildError, match="process of the helper failed") as told:
            child.hear(30.0)
        assert told.value.why == "ConfigError: no arm" and "Traceback" in str(told.value)


def test_a_failure_that_nobody_heard_is_heard_by_who_speaks_next() -> None:
    with obedient() as child:
        child.tell({"fail": "no arm"})
        child._process.join(30.0)
        with pytest.raises(ChildError, match="failed"):
            child.tell({"answer": 1})
        with pytest.raises(ChildError, match="died\n  got:      exit code 0"):
            child.check()


def test_its_death_and_its_silence_are_told() -> None:
    with obedient() as child:
        with pytest.raises(ChildError, match=r"does not answer\n  got:      no answer in 0.05 s"):
            child.hear(0.05)
        child.tell({"die": 7})
        with pytest.raises(ChildError, match=r"helper died\n  got:      exit code 7"):
            child.hear(30.0)


def test_one_that_cannot_start_is_ended() -> None:
    child = Child("helper", fail)
    with pytest.raises(RobotError, match=r"The helper cannot start\n  got:      ConfigError: there is no such thing$"):
        child.started()
    with pytest.raises(ValueError, match="closed"):
        child._process.is_alive()


def test_one_whose_parent_is_gone_ends_without_a_word(capfd: pytest.CaptureFixture[str]) -> None:
    with obedient() as child:
        process = child._process
        child._pipe.close()
        process.join(30.0)
        assert process.exitcode == 0
    assert capfd.readouterr().err == ""
