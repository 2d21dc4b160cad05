"""What one episode is asked, what came of it, and the file of results that survives an interruption."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from ..errors import ConfigError, CorruptDataError

RESULTS = "results.jsonl"
"""The name of the results of an evaluation in its folder."""


@dataclass(frozen=True)
class EpisodeRequest:
    """One episode to run.

    Args:
        seed: fixes the scene and every random draw of the episode.
        options: of the environment's reset, JSON types, e.g. `{"split": "seen"}`.
        ablation: a name of `ablations.ABLATIONS`, or `""` for the policy as it is.
    """

    seed: int
    options: Mapping[str, Any] = field(default_factory=dict)
    ablation: str = ""

    @property
    def key(self) -> str:
        """Equal for requests that ask for the same episode."""
        return json.dumps([self.seed, dict(self.options), self.ablation], sort_keys=True)


@dataclass(frozen=True)
class EpisodeResult:
    """What came of one request; JSON types. Equal results are bit-equal episodes.

    Args:
        seed, options, ablation: of the request.
        task, split: as the environment named them.
        instruction: what the environment asked for.
        told: what the policy was told; differs from `instruction` under ablations of language.
        success: of the last step; False where the episode failed with an error.
        target: the object meant.
        chosen: the object for which the outcome of the task came true, or None.
        compatible: how many objects of the scene could have been meant.
        steps: actions executed.
        episode_return: sum of rewards.
        measures: the environment's named scalars at the last step.
        digest: SHA-256 over the actions executed and the final observation's state and times.
        error: what the environment, the policy or their process died of, or `""`.
        seconds: wall time, not part of equality.
    """

    seed: int
    options: Mapping[str, Any]
    ablation: str
    task: str = ""
    split: str = ""
    instruction: str = ""
    told: str = ""
    success: bool = False
    target: str | None = None
    chosen: str | None = None
    compatible: int = 1
    steps: int = 0
    episode_return: float = 0.0
    measures: Mapping[str, float] = field(default_factory=dict)
    digest: str = ""
    error: str = ""
    seconds: float = field(default=0.0, compare=False)

    @property
    def request(self) -> EpisodeRequest:
        return EpisodeRequest(self.seed, self.options, self.ablation)

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> EpisodeResult:
        return EpisodeResult(**data)


class ResultsLog:
    """A JSON-lines file of results: a head line that names the evaluation, then one line per finished episode.

    A batch of lines is one write followed by an fsync. A line that an interruption tore is dropped on opening.

    Args:
        path: created with its parents where it does not exist.
        head: JSON types that identify the evaluation (protocol, policy, environment).

    Raises `ConfigError` where the file holds results of another evaluation, `CorruptDataError` where a line inside
    it cannot be read.
    """

    def __init__(self, path: Path, head: Mapping[str, Any]) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        _drop_torn_line(path)
        self.results: list[EpisodeResult] = []
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        if lines:
            self._require_head(_parse(path, 1, lines[0]), head)
            self.results = [_result(path, n, line) for n, line in enumerate(lines[1:], 2)]
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        if not lines:
            self._write([head])

    def _require_head(self, found: Any, head: Mapping[str, Any]) -> None:
        wanted = json.loads(json.dumps(head))
        if found != wanted:
            found = found if isinstance(found, dict) else {}
            differ = [k for k in {**wanted, **found} if wanted.get(k) != found.get(k)]
            raise ConfigError(
                f"{self.path} holds results of another evaluation (they differ in {', '.join(differ)})",
                expected="; ".join(f"{k}={found.get(k)}" for k in differ),
                got="; ".join(f"{k}={wanted.get(k)}" for k in differ),
                run="choose another out=DIR, or remove the file to start over",
            )

    def append(self, results: Iterable[EpisodeResult]) -> None:
        batch = list(results)
        self._write([r.to_dict() for r in batch])
        self.results += batch

    def _write(self, rows: Iterable[Mapping[str, Any]]) -> None:
        data = "".join(json.dumps(row, sort_keys=True) + "\n" for row in rows).encode()
        while data:
            data = data[os.write(self._file, data) :]
        os.fsync(self._file)

    def close(self) -> None:
        os.close(self._file)

    def __enter__(self) -> ResultsLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read_results(path: Path) -> tuple[dict[str, Any], list[EpisodeResult]]:
    """Head and results of a file that may still be written to; a torn last line is not counted."""
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    whole = [line for line in lines if line.endswith("\n")]
    if not whole:
        return {}, []
    return _parse(path, 1, whole[0]), [_result(path, n, line) for n, line in enumerate(whole[1:], 2)]


def _drop_torn_line(path: Path) -> None:
    if not path.exists():
        return
    data = path.read_bytes()
    whole = data.rfind(b"\n") + 1
    if whole < len(data):
        os.truncate(path, whole)


def _parse(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        return json.loads(line)
    except ValueError as error:
        raise CorruptDataError(f"{path}, line {number} is not JSON", got=str(error)) from error


def _result(path: Path, number: int, line: str) -> EpisodeResult:
    try:
        return EpisodeResult.from_dict(_parse(path, number, line))
    except TypeError as error:
        raise CorruptDataError(f"{path}, line {number} is not the result of an episode", got=str(error)) from error
