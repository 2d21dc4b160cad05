"""Where a recorded run goes: the dataset that a recorder's process opens."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

from ..datasets.store import Writer, create, open_for_append
from ..vla.contract import EnvSpec, EpisodeSink
from ..vla.errors import ConfigError


class DatasetSink:
    """Opens the dataset at `path` for episodes of a spec: a new one, or one to append to."""

    def __init__(self, path: Path) -> None:
        self.path = path

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
                run="choose another record=DIR",
            )
        return writer
