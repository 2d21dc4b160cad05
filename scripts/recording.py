"""Where a recorded run goes: the dataset that a recorder's process opens, as it was or as a demonstration."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from ..datasets.store import Writer, create, open_for_append
from ..vla.bridge.teleop.labels import demonstration, require_learnable
from ..vla.contract import EnvSpec, Episode, EpisodeSink
from ..vla.errors import ConfigError


class DatasetSink:
    """Opens the dataset at `path` for episodes of a spec: a new one, or one to append to.

    Args:
        option: that named the path, for messages.
    """

    def __init__(self, path: Path, option: str = "record") -> None:
        self.path, self._option = path, option

    def __call__(self, spec: EnvSpec) -> AbstractContextManager[EpisodeSink]:
        """Raises `ConfigError` where the dataset holds something else than runs of this robot at this rate."""
        if not self.path.exists() or (self.path.is_dir() and not any(self.path.iterdir())):
            return create(self.path, spec)
        writer: Writer = open_for_append(self.path)
        if different := writer.spec.diff(spec):
            writer.close()
            raise ConfigError(
                f"{self.path} holds something else than runs of this robot at this rate",
                got="; ".join(different),
                run=f"choose another {self._option}=DIR",
            )
        return writer


class DemonstrationSink:
    """Opens the dataset at `path` for demonstrations of `spec`, a policy's, made of recorded runs of its robot."""

    def __init__(self, path: Path, spec: EnvSpec) -> None:
        self.path, self.spec = path, spec

    def __call__(self, spec: EnvSpec) -> AbstractContextManager[EpisodeSink]:
        """Raises `SpecError` where runs of `spec` cannot teach such a policy; else see `DatasetSink`."""
        require_learnable(spec, self.spec)
        return _demonstrations(DatasetSink(self.path, "out")(self.spec), self.spec)


@contextmanager
def _demonstrations(opened: AbstractContextManager[EpisodeSink], spec: EnvSpec) -> Iterator[EpisodeSink]:
    with opened as writer:
        yield _Demonstrations(writer, spec)


class _Demonstrations:
    def __init__(self, writer: EpisodeSink, spec: EnvSpec) -> None:
        self._writer, self._spec = writer, spec

    def append(self, episode: Episode) -> object:
        return self._writer.append(demonstration(episode, self._spec))
