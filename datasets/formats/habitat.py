"""habitat-lab's PointNav and ObjectNav episodes.

Layout of `{split}/{split}.json[.gz]` and, one a building, `{split}/content/{scene}.json[.gz]`; y up, metres:

    episodes: [{episode_id: str, scene_id, start_position: [x, y, z], start_rotation: [x, y, z, w],
        info: {geodesic_distance, …}, goals: [{position, radius}], shortest_paths, start_room, object_category}]
    goals_by_category: {"<scene file>_<category>": [{object_id, object_name, object_category, position, radius,
        view_points: [{agent_state: {position, rotation}, iou}], …}]}
    category_to_task_category_id, category_to_scene_annotation_category_id (or …mp3d_category_id): {name: int}

The first file may hold no episodes. ObjectNav's goals stand once under their category and are shared by its episodes.
Everything here is in our axes, z up, and headings are clockwise from +y.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ...vla.errors import DataError
from ...vla.navigation import Goal, NavEpisode
from . import habitat_goals
from .fields import Fields, distinct, kept, remember, restore, to_habitat, unknown, with_extra, without
from .jsonfile import read, write
from .rotation import heading_field, rotation_of
from .scenes import scan_of

FORM = "habitat"
SCENE = "mp3d/{scan}/{scan}.glb"
CONTENT = "(content)"
FOLDER = "{data_path}/content/{scene}.json.gz"
_KNOWN = ("episode_id", "scene_id", "start_position", "start_rotation", "info", "goals")
_CATEGORIES = ("category_to_task_category_id", "category_to_scene_annotation_category_id")


@dataclass(frozen=True)
class Content:
    """The file an episode stands in.

    Args:
        name: of the building's file without its suffixes; empty for the first file.
        fields: the file's other fields in order, with None for the episodes.
        top: the same of the first file.
    """

    name: str = ""
    fields: Mapping[str, Any] = field(default_factory=dict)
    top: Mapping[str, Any] = field(default_factory=dict)


def load(path: Path | str) -> list[NavEpisode]:
    """The episodes of a split: of its first file, then of its buildings' files, in the order of their names.

    Those of a building's file have the id "<name>/<episode_id>", since files count from 0 each.

    Raises:
        DataError: with file, episode, field and expected type of the first mistake, or where a category has no goals.
    """
    path = Path(path)
    top = Fields(read(path), str(path))
    around = _around(top)
    episodes = _episodes(top, Content("", around, around))
    folder, suffix = _content(path, top.value.get("content_scenes_path", FOLDER))
    for file in sorted(folder.glob(f"*{suffix}")) if folder.is_dir() else []:
        part = Fields(read(file), str(file))
        episodes += _episodes(part, Content(file.name.removesuffix(suffix), _around(part), around))
    return episodes


def _around(top: Fields) -> dict[str, Any]:
    return {k: None if k == "episodes" else v for k, v in top.value.items()}


def _content(path: Path, pattern: Any) -> tuple[Path, str]:
    """The folder of the buildings' files, and their suffix."""
    head, found, suffix = str(pattern).partition("{scene}")
    inside = head.removeprefix("{data_path}/").strip("/")
    if not found or not head.startswith("{data_path}/") or ".." in Path(inside).parts or "/" in suffix or "{" in inside:
        raise DataError(
            f"{path}: field 'content_scenes_path' has the wrong type or form",
            expected="a pattern like " + FOLDER,
            got=repr(pattern),
        )
    return path.parent / inside, suffix


def _episodes(part: Fields, content: Content) -> list[NavEpisode]:
    goals = habitat_goals.decode_table(part) if part.has("goals_by_category") else {}
    rows = part.list("episodes")
    places = [f"{part.place}, episode {i}" for i in range(len(rows))]
    episodes: list[NavEpisode] = []
    for place, row in zip(places, rows, strict=True):
        item = Fields(row, place)
        episode = _decode(item, goals)
        more = remember(FORM, row, _encode(episode, SCENE)) | {CONTENT: content}
        name = f"{content.name}/{episode.id}" if content.name else episode.id
        episodes.append(replace(with_extra(episode, more), id=name))
    distinct([e.id for e in episodes], places, "episode_id")
    return episodes


def save(path: Path | str, episodes: Iterable[NavEpisode], *, scene: str = SCENE, scene_files: bool = False) -> None:
    """Write the first file and those of the buildings; episodes that `load` gave go where they stood.

    Args:
        scene: `scene_id` of a scan.
        scene_files: put episodes of other sources into a file for each scan.

    Raises:
        DataError: an episode has instructions or lacks what this format needs, episodes of one building and category
            have different goals, or the folder holds files of other buildings.
    """
    path, parts = Path(path), {"": Content()}
    grouped: dict[str, list[NavEpisode]] = {"": []}
    for episode in episodes:
        content = episode.extra.get(CONTENT) or _new_content(episode, scene_files)
        if not content.name or "" not in parts or not parts[""].fields:
            parts[""] = Content("", content.top, content.top) if content.top else parts[""]
        parts.setdefault(content.name, content)
        grouped.setdefault(content.name, []).append(episode)
    categories = sorted({c for group in grouped.values() for e in group if (c := habitat_goals.category(e))})
    texts = {name: _file(parts[name], grouped.get(name, []), categories, scene) for name in parts}
    folder, suffix = _content(path, texts[""].get("content_scenes_path", FOLDER))
    strangers = [f.name for f in folder.glob(f"*{suffix}")] if folder.is_dir() else []
    strangers = [name for name in strangers if name.removesuffix(suffix) not in parts]
    if strangers:
        raise DataError(f"{folder} holds files of other buildings, which a reader would add", exists=strangers[:10])
    for name in sorted(texts, reverse=True):
        write(folder / f"{name}{suffix}" if name else path, texts[name])


def _new_content(episode: NavEpisode, scene_files: bool) -> Content:
    if episode.instructions:
        raise DataError(
            f"Episode '{episode.id}' has instructions, for which PointNav and ObjectNav have no place",
            run="wayhand.datasets.formats.vlnce.save",
        )
    return Content(episode.scan if scene_files else "")


def _file(content: Content, episodes: Sequence[NavEpisode], categories: Sequence[str], scene: str) -> dict[str, Any]:
    """One file as JSON holds it."""
    prefix = f"{content.name}/" if content.name else ""
    items: list[dict[str, Any]] = []
    table: dict[str, tuple[Goal, ...]] = {}
    for episode in episodes:
        episode = without(replace(episode, id=episode.id.removeprefix(prefix)), CONTENT)
        items.append(_item(episode, _shared(episode, scene, table), scene))
    names = [str(item["episode_id"]) for item in items]
    distinct(names, [f"{prefix or 'first file, '}episode {n}" for n in range(len(names))], "episode_id")
    made: dict[str, Any] = {k: items if k == "episodes" else v for k, v in content.fields.items()}
    made.setdefault("episodes", items)
    if categories and not content.fields:
        made |= {name: {c: i for i, c in enumerate(categories)} for name in _CATEGORIES}
    if table:
        before: Mapping[str, Any] = made.get("goals_by_category") or {}
        made["goals_by_category"] = {**before, **{k: [habitat_goals.encode(g) for g in v] for k, v in table.items()}}
    return made


def _item(episode: NavEpisode, goals: Mapping[str, tuple[Goal, ...]], scene: str) -> dict[str, Any]:
    def decode(item: dict[str, Any]) -> NavEpisode:
        return _decode(Fields(item, ""), goals, again=True)

    return restore(FORM, episode, lambda e: _encode(e, scene), decode)


def _shared(episode: NavEpisode, scene: str, table: dict[str, tuple[Goal, ...]]) -> dict[str, tuple[Goal, ...]]:
    """Adds an episode's goals to those of its category; gives them as `_decode` wants them."""
    category = habitat_goals.category(episode)
    inline = kept(FORM, episode.extra, "goals") or []
    if category is None or (inline and tuple(habitat_goals.decode(Fields(g, "")) for g in inline) == episode.goals):
        return {}
    key = habitat_goals.key(_scene_id(episode, scene), category)
    if not episode.goals and key not in table:
        return {}
    if table.setdefault(key, episode.goals) != episode.goals:
        raise DataError(f"Episodes of '{key}' have different goals", expected="the same for one building and category")
    return {key: episode.goals}


def _scene_id(episode: NavEpisode, scene: str) -> str:
    written = kept(FORM, episode.extra, "scene_id")
    return written if written and scan_of(written) == episode.scan else scene.format(scan=episode.scan)


def _decode(item: Fields, table: Mapping[str, tuple[Goal, ...]], *, again: bool = False) -> NavEpisode:
    extra = item.rest((*_KNOWN, CONTENT))
    info = item.object("info").value if item.has("info") else {}
    if more := {k: v for k, v in info.items() if k != "geodesic_distance"}:
        extra["info"] = more
    goals = tuple(habitat_goals.decode(goal) for goal in item.objects("goals")) if item.has("goals") else ()
    if not goals and item.has("object_category") and (table or again):
        key = habitat_goals.key(item.text("scene_id"), item.text("object_category"))
        if key not in table and not again:
            raise DataError(f"{item.place}: no goals for '{key}'", expected="it in goals_by_category", exists=table)
        goals = table.get(key, ())
    return NavEpisode(
        id=item.id("episode_id"),
        scan=scan_of(item.text("scene_id")),
        heading=heading_field(item, "start_rotation"),
        start=item.point("start_position"),
        goals=goals,
        distance=item.object("info").number("geodesic_distance", finite=False) if "geodesic_distance" in info else None,
        extra=extra,
    )


def _encode(episode: NavEpisode, scene: str) -> dict[str, Any]:
    if episode.start is None:
        raise DataError(
            f"Episode '{episode.id}' cannot be written for habitat", expected="a start position", got="none"
        )
    extra = unknown(episode.extra)
    info = extra.pop("info", {})
    category = habitat_goals.category(episode)
    item: dict[str, Any] = {"episode_id": episode.id, "scene_id": scene.format(scan=episode.scan)}
    item |= {"start_position": to_habitat(episode.start), "start_rotation": rotation_of(episode.heading)}
    if episode.distance is not None or info:
        item["info"] = ({} if episode.distance is None else {"geodesic_distance": episode.distance}) | info
    item["goals"] = [] if category else [habitat_goals.encode(goal) for goal in episode.goals]
    return item | extra | ({"object_category": category} if category else {})
