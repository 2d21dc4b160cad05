"""Small files of every navigation format, written by hand after the layouts of their repositories."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from wayhand.vla.navigation import Goal, Instruction, NavEpisode, TimedWord

A, B, C = (letter * 32 for letter in "abc")
SCAN = "17DRP5sb8fy"

R2R: list[dict[str, Any]] = [
    {
        "distance": 10.84,
        "scan": SCAN,
        "path_id": 31,
        "path": [A, B, C],
        "heading": 1.804,
        "instructions": ["a", "b", "c"],
    },
    {
        "path_id": "x1",
        "scan": SCAN,
        "heading": 0,
        "path": [A],
        "instructions": list("abcd"),
        "instr_encodings": [[101]],
    },
    {"distance": 3, "scan": SCAN, "path_id": 32, "heading": -0.0, "instructions": ["\ud83d\ude00", "\ud800", ""]},
]
R2R_RESULTS: list[dict[str, Any]] = [
    {"instr_id": "31_0", "trajectory": [[A, 0.5, 0.0], [B, 1, -0.25]]},
    {"trajectory": [[A], [B, C], []], "instr_id": "31_1", "confidence": 0.5},
    {"instr_id": "31_2", "trajectory": [A, B]},
    {"instr_id": 7, "trajectory": []},
]
RXR: list[dict[str, Any]] = [
    {
        "path_id": 11,
        "split": "val_seen",
        "scan": SCAN,
        "heading": 3.105381634905035,
        "path": [A, B],
        "instruction_id": 26,
        "annotator_id": 19,
        "language": "hi-IN",
        "instruction": "ठीक है",
        "timed_instruction": [{"start_time": 0.4, "word": "ठीक", "end_time": 1.0}, {"word": "है"}],
        "edit_distance": 0.1,
    },
    {
        "split": "test_standard",
        "instruction_id": 27,
        "annotator_id": 19,
        "language": "en-US",
        "path_id": 11,
        "scan": SCAN,
        "path": [A],
        "heading": 0.0,
        "instruction": "Go.",
        "timed_instruction": [{"word": "Go.", "start_time": None, "end_time": 1, "note": 1}],
        "edit_distance": 0,
    },
]
RXR_RESULTS: list[dict[str, Any]] = [
    {"instruction_id": 26, "path": [A, B]},
    {"demonstration_id": 5, "instruction_id": 27, "annotator_id": 43, "path": [A], "metrics": {"ne": 0, "sr": 1.0}},
]
REVERIE: list[dict[str, Any]] = [
    {
        "distance": 11.65,
        "ix": 208,
        "scan": SCAN,
        "heading": 4.59,
        "instructions_l": ["long"],
        "path_id": 1357,
        "objId": 66,
        "path": [A, B],
        "id": "1357_66",
        "instructions": ["one"],
    },
    {
        "id": "7172_156",
        "path": [A],
        "objId": "156",
        "instructions": ["a", "b"],
        "heading": 0.32,
        "scan": SCAN,
        "path_id": 7172,
    },
    {"id": "4", "path": [A], "instructions": ["a"], "heading": 1, "scan": SCAN, "path_id": 4, "objId": None},
]
REVERIE_RESULTS: list[dict[str, Any]] = [
    {"instr_id": "1357_66_0", "trajectory": [[A, 0.0, 0.0]], "predObjId": 66},
    {"instr_id": "7172_156_0", "trajectory": [[A], [B]], "pred_objid": "156"},
    {"instr_id": "7172_156_1", "trajectory": [[A, 0.0, 0.0]], "predObjId": None},
]
_CORNER = {"heading": 0.1, "elevation": -0.2}
_TARGET = dict.fromkeys(("left_top", "right_top", "right_bottom", "left_bottom"), _CORNER)
SOON: list[dict[str, Any]] = [
    {
        "path_id": 5,
        "scan": SCAN,
        "path": [[A, B], [C, B]],
        "instructions": [["chair", "red", "by the table", "in the hall", "the red chair by the table in the hall"]],
        "bboxes": [
            {"image_id": B, "scan": SCAN, "obj_name": "chair", "heading": 1.0, "elevation": 0, "target": _TARGET}
        ],
    },
    {
        "path_id": "6",
        "scan": SCAN,
        "path": [A, B],
        "heading": 0.5,
        "instructions": [{"obj": "a", "full": "b"}],
        "bboxes": [],
        "instr_encodings": [{"full": [1]}],
    },
]
SOON_RESULTS: list[dict[str, Any]] = [
    {"instr_id": "5_0", "trajectory": {"path": [[A, 0, 0.5]], "obj_heading": [1.0], "obj_elevation": [0.0]}},
    {
        "instr_id": "6_0",
        "trajectory": {"obj_heading": [0.2], "path": [[A], [B]], "obj_elevation": [0.0], "x": 1},
        "y": 2,
    },
]


def vlnce_episode(number: int, **changes: Any) -> dict[str, Any]:
    """An R2R-CE episode."""
    return {
        "episode_id": number,
        "trajectory_id": 4,
        "scene_id": f"mp3d/{SCAN}/{SCAN}.glb",
        "start_position": [-16.267200469970703, 0.1518409252166748, -0.0],
        "start_rotation": [0, 0.0007963267107332633, 0, 0.9999996829318346],
        "info": {"geodesic_distance": 6.425291538238525},
        "goals": [{"position": [-12.337400436401367, 0, 4.213699817657471], "radius": 3.0}],
        "instruction": {"instruction_text": "Go on.", "instruction_tokens": [2, 3] + [0] * 198},
        "reference_path": [[-16.0, 0.15, 0.72], [-12.0, 0.15, 4]],
    } | changes


VOCABULARY = {"word_list": ["<pad>", "<unk>", "go", "on"], "num_vocab": 4, "UNK_INDEX": 1, "PAD_INDEX": 0}
_HIDDEN = {k: v for k, v in vlnce_episode(9).items() if k not in ("info", "goals", "reference_path")}
VLNCE: dict[str, Any] = {
    "episodes": [
        vlnce_episode(1),
        vlnce_episode(
            2, trajectory_id="t", start_rotation=[0.0, -1.0, -0.0, 0.0], info={"geodesic_distance": 1, "x": 2}
        ),
        vlnce_episode(3, scene_id="hm3d/00800-TEEsavR23oF/TEEsavR23oF.basis.glb", extra_field=[1.5]),
        _HIDDEN,
        _HIDDEN | {"episode_id": "10", "goals": None, "info": None, "start_rotation": [0.1, 0.2, 0.3, 0.9]},
    ],
    "instruction_vocab": VOCABULARY,
}
_SPOKEN = {
    "instruction_text": "ठीक",
    "instruction_id": 26,
    "language": "hi-IN",
    "annotator_id": 19,
    "edit_distance": 0.1,
    "timed_instruction": [{"end_time": 1.0, "word": "ठीक"}],
}
RXR_CE: dict[str, Any] = {"version": 0, "episodes": [vlnce_episode(1, instruction=_SPOKEN)]}
VLNCE_GT: dict[str, Any] = {
    "302": {"locations": [[-2.0, 3.5, 15.1], [-2.0, 3.5, 15]], "forward_steps": 1, "actions": [2, 1, 0]},
    "7": {"actions": [0], "forward_steps": 0, "locations": [[-0.0, 0, 1.5]], "note": "x"},
}
VLNCE_RESULTS: dict[str, Any] = {
    "1": [
        {"position": [1.5, 0.0, -0.0], "heading": 0.0, "stop": False},
        {"position": [1.5, 0, 2], "heading": 6, "stop": True},
    ],
    "2": [{"heading": -1.5, "position": [1.5, 0.0, 2.0], "stop": False, "distance": 3.5}],
    "3": [
        {"position": [0.0, 0.0, 0.0], "heading": 0.0, "stop": True},
        {"position": [0.0, 0.0, 0.0], "heading": 0.0, "stop": True},
    ],
    "4": [],
}
RXR_CE_RESULTS: list[dict[str, Any]] = [
    {"instruction_id": 26, "path": [[1.5, 0.0, -0.0], [1.5, 0.0, -0.0], [1, 0, 2]]},
    {"path": [], "instruction_id": 27, "x": None},
]


def habitat_episode(number: str, **changes: Any) -> dict[str, Any]:
    """A PointNav episode."""
    return {
        "episode_id": number,
        "scene_id": f"gibson/{SCAN}.glb",
        "start_position": [1.5, 0.25, -2.0],
        "start_rotation": [0, 0.5, 0, 0.8660254037844386],
        "info": {"geodesic_distance": 4.5, "difficulty": "easy"},
        "goals": [{"position": [3.0, 0.25, 1.0], "radius": None}],
        "shortest_paths": None,
        "start_room": None,
    } | changes


_VIEW = {"agent_state": {"position": [1.0, 0.5, -2.0], "rotation": [0, 0.6, 0, 0.8]}, "iou": 0.25}
_CHAIR = {
    "position": [1.0, 1.5, 2.0],
    "radius": None,
    "object_id": 17,
    "object_name": "chair_17",
    "object_category": "chair",
    "room_id": None,
    "view_points": [_VIEW],
}
POINTNAV: dict[str, Any] = {"episodes": [habitat_episode("0"), habitat_episode("1", episode_id=1)]}
OBJECTNAV_TOP: dict[str, Any] = {
    "category_to_task_category_id": {"chair": 0, "bed": 1},
    "category_to_mp3d_category_id": {"chair": 2, "bed": 3},
    "episodes": [],
}
OBJECTNAV_CONTENT: dict[str, Any] = {
    "goals_by_category": {f"{SCAN}.glb_chair": [_CHAIR], f"{SCAN}.glb_bed": []},
    "episodes": [habitat_episode(n, goals=[], object_category="chair", scene_dataset_config="x") for n in ("0", "1")],
    "category_to_task_category_id": {"chair": 0, "bed": 1},
}


def connectivity() -> list[dict[str, Any]]:
    """Three viewpoints of which the first two are joined."""
    rows = []
    for i, name in enumerate((A, B, C)):
        pose = [1, 0, 0, 2.5 * i, 0, 1, 0, -0.125, 0, 0, 1, 1.5, 0, 0, 0, 1]
        sees = [j != i and max(i, j) < 2 for j in range(3)]
        row = {"image_id": name, "pose": pose, "included": i < 2, "visible": sees, "unobstructed": sees, "height": 1.5}
        rows.append(row)
    return rows


def made(number: int = 0, **changes: Any) -> NavEpisode:
    """An episode as a generator makes it: no file behind it."""
    fields: dict[str, Any] = {
        "id": f"house-{number}",
        "scan": "house",
        "instructions": tuple(
            Instruction(f"house-{number}_{i}", f"Walk past the red chair, {word}.")
            for i, word in enumerate(("stop", "wait", "halt"))
        ),
        "path": (A, B, C),
        "heading": 1.25,
        "start": (1.5, -2.25, 0.0),
        "reference": ((1.5, -2.25, 0.0), (3.0, -2.25, 0.0)),
        "goals": (Goal((3.0, -2.25, 0.0)),),
        "distance": 1.5,
    }
    return NavEpisode(**(fields | changes))


def spoken(number: int = 0) -> NavEpisode:
    """The same with words that have times."""
    words = (TimedWord("Walk", 0.25, 0.5), TimedWord("on."))
    return made(number, instructions=(Instruction("i", "Walk on.", "en-US", words),))


def put(path: Path, value: Any) -> Path:
    """Write a value as JSON, as JSON lines where the name says so."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = path.suffix == ".jsonl"
    text = "".join(json.dumps(item) + "\n" for item in value) if lines else json.dumps(value)
    path.write_text(text, encoding="utf-8")
    return path


def got(path: Path) -> Any:
    """Read what `put` writes."""
    text = path.read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()] if path.suffix == ".jsonl" else json.loads(text)
