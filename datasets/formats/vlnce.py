"""Navigation in continuous environments: R2R-CE and RxR-CE episodes, ground truth and submissions (Krantz et al. 2020).

Layout of `{split}.json[.gz]`, positions in Habitat's axes (y up) and metres:

    episodes: [{episode_id: int, trajectory_id: int, scene_id: "mp3d/<scan>/<scan>.glb", start_position: [x, y, z],
        start_rotation: [x, y, z, w], info: {geodesic_distance}, goals: [{position, radius}],
        instruction: {instruction_text, instruction_tokens: [int]*200}, reference_path: [[x, y, z], …]}]
    instruction_vocab: {word_list, word2idx_dict, stoi, itos, num_vocab, UNK_INDEX, PAD_INDEX}

RxR-CE's instructions hold `instruction_id, language, annotator_id, edit_distance, timed_instruction` as well. Test
splits have neither info nor goals nor reference_path. `{split}_gt.json[.gz]` and submissions: see `vlnce_runs`.
Everything here is in our axes, z up, and headings are clockwise from +y.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...vla.errors import DataError
from ...vla.navigation import Goal, Instruction, NavEpisode
from . import numbering, vlnce_runs
from .fields import AROUND, Fields, as_number, distinct, remember, restore, to_habitat, unknown, with_extra, wrong
from .jsonfile import read, write
from .rotation import heading_field, rotation_of
from .scenes import scan_of
from .timed import decode_words, encode_words
from .vocabulary import Vocabulary

FORM = "vlnce"
SCENE = "mp3d/{scan}/{scan}.glb"
RADIUS = 3.0
_KNOWN = (
    "episode_id",
    "scene_id",
    "start_position",
    "start_rotation",
    "info",
    "goals",
    "instruction",
    "reference_path",
)
_SPOKEN = ("instruction_text", "instruction_id", "language", "timed_instruction")

GroundTruth = vlnce_runs.GroundTruth
load_ground_truth = vlnce_runs.load_ground_truth
save_ground_truth = vlnce_runs.save_ground_truth
ground_truth_path = vlnce_runs.ground_truth_path
load_results = vlnce_runs.load_results
save_results = vlnce_runs.save_results


def load(path: Path | str) -> list[NavEpisode]:
    """The episodes of a file, one an instruction; the file's other fields (its vocabulary) are shared by them all.

    An instruction's id is what submissions refer to: RxR's `instruction_id`, else the `episode_id`.

    Raises:
        DataError: with file, item, field and expected type of the first mistake.
    """
    top = Fields(read(path), str(path))
    rows = top.list("episodes")
    around = {k: None if k == "episodes" else v for k, v in top.value.items()}
    episodes: list[NavEpisode] = []
    places = [f"{path}, episode {i}" for i in range(len(rows))]
    for place, row in zip(places, rows, strict=True):
        episode = _decode(Fields(row, place))
        episodes.append(with_extra(episode, remember(FORM, row, _encode(episode, SCENE)) | {AROUND: around}))
    distinct([e.id for e in episodes], places, "episode_id")
    return episodes


def save(
    path: Path | str,
    episodes: Iterable[NavEpisode],
    *,
    vocabulary: Vocabulary | None = None,
    scene: str = SCENE,
) -> None:
    """Write episodes; those that `load` gave come out as they were.

    Episodes from elsewhere are numbered if need be (see `numbered`), get tokens, goals of 3 m, and have what else
    they carry put into `info`, where the readers of this format allow it.

    Args:
        vocabulary: of the tokens; a benchmark's splits share the one of its training split. None: the episodes' own
            where all come from one file, else one made of their words.
        scene: `scene_id` of a scan.

    Raises:
        DataError: an episode lacks what this format needs.
    """
    episodes = list(episodes)
    around = episodes[0].extra.get(AROUND) if episodes else {"episodes": None}
    if around is None or vocabulary or any(e.extra.get(AROUND) != around for e in episodes):
        episodes, around = _prepared(episodes, vocabulary)
    items = [restore(FORM, e, lambda e: _encode(e, scene), lambda item: _decode(Fields(item, ""))) for e in episodes]
    distinct([str(i["episode_id"]) for i in items], [f"{path}, episode {n}" for n in range(len(items))], "episode_id")
    write(path, {k: items if k == "episodes" else v for k, v in around.items()})


def numbered(episodes: Sequence[NavEpisode]) -> list[NavEpisode]:
    """One episode an instruction, with integers for ids, as `save` writes them: ground truth belongs to these ids.

    `extra["trajectory_id"]` says which share a path. Episodes that are so already stay as they are.
    """
    made: list[NavEpisode] = []
    for episode in numbering.numbered(episodes, "trajectory_id"):
        instruction = _only(episode)
        told = instruction if _is_spoken(instruction) else replace(instruction, id=episode.id)
        made.append(replace(episode, instructions=(told,)))
    return made


def _only(episode: NavEpisode) -> Instruction:
    if len(episode.instructions) != 1:
        raise DataError(
            f"Episode '{episode.id}' cannot be written as VLN-CE",
            expected="one instruction an episode",
            got=str(len(episode.instructions)),
        )
    return episode.instructions[0]


def _prepared(episodes: list[NavEpisode], vocabulary: Vocabulary | None) -> tuple[list[NavEpisode], dict[str, Any]]:
    """Episodes of several sources as those of one file, with its other fields."""
    episodes = [_complete(e) for e in numbered(episodes)]
    texts = [i.text for e in episodes for i in e.instructions if not _is_spoken(i)]
    if not texts and vocabulary is None:
        return episodes, {"episodes": None}
    vocabulary = vocabulary or Vocabulary.of(texts)
    made: list[NavEpisode] = []
    for episode in episodes:
        instruction = _only(episode)
        if not _is_spoken(instruction):
            instruction = with_extra(instruction, {"instruction_tokens": vocabulary.encode(instruction.text)})
        made.append(replace(episode, instructions=(instruction,)))
    return made, {"episodes": None, "instruction_vocab": vocabulary.to_field()}


def _complete(episode: NavEpisode) -> NavEpisode:
    """An episode of another source with what this format asks for."""
    if AROUND in episode.extra:
        return episode
    told = {
        "goals": bool(episode.goals),
        "reference": bool(episode.reference),
        "distance": episode.distance is not None,
    }
    lacks = [name for name, there in told.items() if not there]
    if episode.start is None or lacks not in ([], list(told)):
        raise DataError(
            f"Episode '{episode.id}' cannot be written as VLN-CE",
            expected="start, and goals, reference and distance (all three, or none of them in a test split)",
            got=f"no {', '.join(['start'] * (episode.start is None) + lacks)}",
        )
    goals = tuple(replace(g, radius=RADIUS if g.radius is None else g.radius) for g in episode.goals)
    # The original readers refuse unknown fields anywhere but in `info`.
    more = {k: v for k, v in unknown(episode.extra).items() if k not in ("trajectory_id", "info")}
    instruction = _only(episode)
    if not _is_spoken(instruction) and unknown(instruction.extra):
        more["instruction"] = unknown(instruction.extra)
        instruction = replace(instruction, extra={})
    info = {**episode.extra.get("info", {}), **more}
    extra = {
        "trajectory_id": episode.extra.get("trajectory_id", as_number(episode.id)),
        **({"info": info} if info else {}),
    }
    return replace(episode, goals=goals, instructions=(instruction,), extra=extra)


def _is_spoken(instruction: Instruction) -> bool:
    """Whether an instruction is one of RxR's, which have ids of their own, a language tag and words with times."""
    return bool(instruction.words) or instruction.language != "en" or "annotator_id" in instruction.extra


def _decode(item: Fields) -> NavEpisode:
    name = item.id("episode_id")
    info = item.object("info").value if item.has("info") else {}
    extra = item.rest(_KNOWN)
    if more := {k: v for k, v in info.items() if k != "geodesic_distance"}:
        extra["info"] = more
    distance = item.object("info").number("geodesic_distance", finite=False) if "geodesic_distance" in info else None
    return NavEpisode(
        id=name,
        scan=scan_of(item.text("scene_id")),
        instructions=(_decode_instruction(item.object("instruction"), name),),
        heading=heading_field(item, "start_rotation"),
        start=item.point("start_position"),
        reference=item.points("reference_path") if item.has("reference_path") else (),
        goals=tuple(_decode_goal(goal) for goal in item.objects("goals")) if item.has("goals") else (),
        distance=distance,
        extra=extra,
    )


def _decode_instruction(item: Fields, episode: str) -> Instruction:
    if "instruction_tokens" in item.value:
        item.list("instruction_tokens")
    return Instruction(
        id=item.id("instruction_id") if item.has("instruction_id") else episode,
        text=item.text("instruction_text"),
        language=item.text("language") if item.has("language") else "en",
        words=decode_words(item) if item.has("timed_instruction") else (),
        extra=item.rest(_SPOKEN),
    )


def _decode_goal(item: Fields) -> Goal:
    return Goal(
        position=item.point("position"),
        radius=item.number("radius") if item.has("radius") else None,
        extra=item.rest(("position", "radius")),
    )


def _encode(episode: NavEpisode, scene: str) -> dict[str, Any]:
    instruction = _only(episode)
    extra = unknown(episode.extra)
    item: dict[str, Any] = {"episode_id": as_number(episode.id)}
    if "trajectory_id" in extra:
        item["trajectory_id"] = extra.pop("trajectory_id")
    item["scene_id"] = scene.format(scan=episode.scan)
    if episode.start is None:
        raise DataError(f"Episode '{episode.id}' cannot be written as VLN-CE", expected="a start position", got="none")
    item |= {"start_position": to_habitat(episode.start), "start_rotation": rotation_of(episode.heading)}
    info = extra.pop("info", {})
    if episode.distance is not None or info:
        item["info"] = ({} if episode.distance is None else {"geodesic_distance": episode.distance}) | info
    if episode.goals:
        item["goals"] = [_encode_goal(goal, episode.id) for goal in episode.goals]
    item["instruction"] = _encode_instruction(instruction)
    if episode.reference:
        item["reference_path"] = [to_habitat(p) for p in episode.reference]
    return item | extra


def _encode_instruction(instruction: Instruction) -> dict[str, Any]:
    item: dict[str, Any] = {"instruction_text": instruction.text}
    if _is_spoken(instruction):
        item |= {"instruction_id": as_number(instruction.id), "language": instruction.language}
        item |= unknown(instruction.extra)
        return item | ({"timed_instruction": encode_words(instruction.words)} if instruction.words else {})
    return item | unknown(instruction.extra)


def _encode_goal(goal: Goal, episode: str) -> dict[str, Any]:
    if goal.position is None:
        raise wrong(f"Episode '{episode}'", "goals", "goals with a position", None)
    return {"position": to_habitat(goal.position), "radius": goal.radius} | unknown(goal.extra)
