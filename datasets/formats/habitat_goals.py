"""The goals of habitat-lab's episodes: places, and objects with the places that see them."""

from __future__ import annotations

from typing import Any

from ...vla.errors import DataError
from ...vla.navigation import Goal, NavEpisode
from .fields import WRITTEN, Fields, Vector, as_number, remember, restore, to_habitat, unknown, with_extra, without

FORM = "habitat"
_KNOWN = ("position", "radius", "object_id", "object_category", "view_points")


def key(scene_id: str, category: str) -> str:
    """Where `goals_by_category` holds the goals of a category in a building."""
    return f"{scene_id.rsplit('/', 1)[-1]}_{category}"


def category(episode: NavEpisode) -> str | None:
    """What an ObjectNav episode looks for; None in PointNav."""
    named = episode.extra.get("object_category")
    return named if named is not None else next((g.category for g in episode.goals if g.category), None)


def decode_table(part: Fields) -> dict[str, tuple[Goal, ...]]:
    """A file's `goals_by_category`."""
    table = part.object("goals_by_category")
    return {name: tuple(decode(goal) for goal in table.objects(name)) for name in table.value}


def decode(item: Fields) -> Goal:
    """One goal; `viewpoints` are the floor points of its view points."""
    goal = _decode(item)
    return with_extra(goal, remember(FORM, item.value, _encode(goal)))


def encode(goal: Goal) -> dict[str, Any]:
    """One goal as a file holds it; those that `decode` gave come out as they were."""
    return restore(FORM, goal, _encode, lambda item: without(_decode(Fields(item, "")), WRITTEN))


def _decode(item: Fields) -> Goal:
    return Goal(
        position=item.point("position"),
        radius=item.number("radius") if item.has("radius") else None,
        object_id=item.id("object_id") if item.has("object_id") else None,
        category=item.text("object_category") if item.has("object_category") else None,
        viewpoints=_viewpoints(item) if item.has("view_points") else (),
        extra=item.rest(_KNOWN),
    )


def _viewpoints(item: Fields) -> tuple[Vector, ...]:
    return tuple(view.object("agent_state").point("position") for view in item.objects("view_points"))


def _encode(goal: Goal) -> dict[str, Any]:
    if goal.position is None:
        raise DataError("A goal cannot be written for habitat", expected="a position", got="none")
    item: dict[str, Any] = {"position": to_habitat(goal.position), "radius": goal.radius}
    if goal.object_id is None and goal.category is None and not goal.viewpoints:
        return item | unknown(goal.extra)
    if goal.object_id is not None:
        item["object_id"] = as_number(goal.object_id)
    if goal.category is not None:
        item["object_category"] = goal.category
    # An agent at a view point may turn as it likes, so goals of other sources have no rotation to tell.
    views = [
        {"agent_state": {"position": to_habitat(p), "rotation": [0, 0, 0, 1]}, "iou": None} for p in goal.viewpoints
    ]
    return item | {"view_points": views} | unknown(goal.extra)
