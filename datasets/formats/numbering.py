"""Ids of formats that have one instruction an item and integers for ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ...vla.errors import DataError
from ...vla.navigation import NavEpisode
from .fields import as_number


def is_integer(name: str) -> bool:
    """Whether an id spells an integer in its usual form."""
    return type(as_number(name)) is int


def numbered(episodes: Sequence[NavEpisode], path_field: str) -> list[NavEpisode]:
    """One episode an instruction; where ids are not integers or shared, episodes count from 1 in their order.

    `extra[path_field]` says which episodes came from one path: the number that its id was, or one counted from 1.
    An instruction whose id is an integer of its own keeps it while its episode keeps its id.

    Raises:
        DataError: an episode has no instruction.
    """
    keep = all(len(e.instructions) == 1 and is_integer(e.id) for e in episodes)
    keep = keep and len({e.id for e in episodes}) == len(episodes)
    paths: dict[str, int] = {}
    made: list[NavEpisode] = []
    for episode in episodes:
        if not episode.instructions:
            raise DataError(f"Episode '{episode.id}' cannot be written", expected="an instruction", got="none")
        if keep and path_field in episode.extra:
            made.append(episode)
            continue
        own = str(episode.extra.get(path_field, episode.id))
        path = int(own) if is_integer(own) else paths.setdefault(own, len(paths) + 1)
        for instruction in episode.instructions:
            name = episode.id if keep else str(len(made) + 1)
            told = instruction if keep and is_integer(instruction.id) else replace(instruction, id=name)
            extra = {**episode.extra, path_field: path}
            made.append(replace(episode, id=name, instructions=(told,), extra=extra))
    return made
