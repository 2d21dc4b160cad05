"""Room-across-Room: `rxr_{split}_guide.jsonl[.gz]`, follower files and submissions (Ku et al. 2020).

Layout, one JSON object a line:

    guide       path_id: int, split, scan, heading [rad], path: [viewpoint], instruction_id: int, annotator_id: int,
                language: en-IN | en-US | hi-IN | te-IN, instruction: str,
                timed_instruction: [{start_time, word, end_time}], edit_distance: float
    follower    demonstration_id: int, instruction_id: int, annotator_id: int, path: [viewpoint], metrics: {…}
    submission  instruction_id: int, path: [viewpoint]

Some words have no times. Test splits tell only the start of a path.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...vla.errors import DataError
from ...vla.navigation import Instruction, NavEpisode, NavResult
from .fields import Fields, as_number, decoded, distinct, restore, unknown
from .jsonfile import read_items, write_items
from .numbering import numbered
from .timed import decode_words, encode_words

FORM = "rxr"
_KNOWN = ("scan", "heading", "path", "instruction_id", "language", "instruction", "timed_instruction")
_SPOKEN = ("annotator_id", "edit_distance")


def load(path: Path | str) -> list[NavEpisode]:
    """The episodes of a guide file, one an instruction; its id is the `instruction_id`, `extra` has the `path_id`.

    Raises:
        DataError: with file, line, field and expected type of the first mistake.
    """
    rows = read_items(path)
    episodes = decoded(FORM, rows, _decode, _encode)
    distinct([e.id for e in episodes], [place for place, _ in rows], "instruction_id")
    return episodes


def save(path: Path | str, episodes: Iterable[NavEpisode]) -> None:
    """Write episodes, one line an instruction; those that `load` gave come out as they were.

    Where ids of other sources are not integers, instructions are counted from 1.
    """
    items = [restore(FORM, e, _encode, lambda item: _decode(Fields(item, ""))) for e in _single(list(episodes))]
    distinct(
        [str(i["instruction_id"]) for i in items], [f"{path}, item {n}" for n in range(len(items))], "instruction_id"
    )
    write_items(path, items)


def _single(episodes: list[NavEpisode]) -> list[NavEpisode]:
    """One instruction each, whose id is the episode's; those of one `load` stay as they are."""
    if all([i.id for i in e.instructions] == [e.id] and "path_id" in e.extra for e in episodes):
        return episodes
    return [replace(e, id=e.instructions[0].id) for e in numbered(episodes, "path_id")]


def _decode(item: Fields) -> NavEpisode:
    name = item.id("instruction_id")
    item.id("path_id")
    extra = item.rest(_KNOWN)
    instruction = Instruction(
        id=name,
        text=item.text("instruction"),
        language=item.text("language"),
        words=decode_words(item) if item.has("timed_instruction") else (),
        extra={k: extra.pop(k) for k in _SPOKEN if k in extra},
    )
    return NavEpisode(
        id=name,
        scan=item.text("scan"),
        instructions=(instruction,),
        path=item.texts("path"),
        heading=item.number("heading"),
        extra=extra,
    )


def _encode(episode: NavEpisode) -> dict[str, Any]:
    if len(episode.instructions) != 1:
        raise DataError(
            f"Episode '{episode.id}' cannot be written as RxR",
            expected="one instruction",
            got=str(len(episode.instructions)),
        )
    instruction = episode.instructions[0]
    extra = unknown(episode.extra)
    item: dict[str, Any] = {k: extra.pop(k) for k in ("path_id", "split") if k in extra}
    item |= {"scan": episode.scan, "heading": episode.heading, "path": list(episode.path)}
    spoken = unknown(instruction.extra)
    item["instruction_id"] = as_number(instruction.id)
    if "annotator_id" in spoken:
        item["annotator_id"] = spoken.pop("annotator_id")
    item |= {"language": instruction.language, "instruction": instruction.text}
    item["timed_instruction"] = encode_words(instruction.words)
    return item | spoken | extra


def load_results(path: Path | str) -> list[NavResult]:
    """The paths of a submission or of a follower file, by `instruction_id`; raises `DataError` as `load` does."""
    return decoded(FORM, read_items(path), _decode_result, _encode_result)


def save_results(path: Path | str, results: Iterable[NavResult]) -> None:
    """Write paths, one line each where the name ends in `.jsonl` or `.jsonl.gz`."""
    write_items(
        path, [restore(FORM, r, _encode_result, lambda item: _decode_result(Fields(item, ""))) for r in results]
    )


def _decode_result(item: Fields) -> NavResult:
    return NavResult(item.id("instruction_id"), item.texts("path"), extra=item.rest(("instruction_id", "path")))


def _encode_result(result: NavResult) -> dict[str, Any]:
    return {"instruction_id": as_number(result.id), "path": list(result.path)} | unknown(result.extra)
