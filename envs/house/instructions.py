"""Instructions of a path in four registers, their verification, and benchmark episodes made of both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from ...vla.navigation import Instruction, NavEpisode, TimedWord, ViewpointGraph
from .combinations import combinations as combinations
from .combinations import holds_out
from .derive import Detail, derive, without_repetition
from .dice import Dice
from .distractors import with_distractors
from .follower import Follower
from .goals import describe_goal, targets
from .grammar import Realisation, realise
from .house import House
from .lexicon import Lexicon, Phrasing
from .lexicon_en import ENGLISH
from .paths import LONG, SHORT, Path, sample_paths
from .program import DISTRACTING, InstructionError, Program
from .scene_graph import SceneGraph
from .verification import verify

Register = Literal["r2r", "rxr", "reverie", "soon", "alfred"]
BOUNDS: Final[dict[str, tuple[int, int]]] = {"r2r": (20, 35), "rxr": (60, 100), "alfred": (20, 60)}
"""Least and most words of a text, by register; of a long path twice as many."""
_DETAIL: Final[dict[str, tuple[Detail, ...]]] = {
    # From terse to talkative: a short path needs more to be said of it than one with many turns.
    "r2r": (
        Detail(0.0, 0.0, 0.0, between=0.0, implied=1.0),
        Detail(0.05, 0.1, 0.0, between=0.6, implied=1.0),
        Detail(0.25, 0.4, 0.1, between=0.9, implied=0.85),
        Detail(0.6, 0.5, 0.3, implied=0.6),
        Detail(0.9, 0.6, 0.8, implied=0.4),
        Detail(1.0, 0.7, 1.0, views=0.3),
    ),
    "rxr": (
        Detail(0.3, 0.4, 0.5, implied=0.4, views=0.2, start=True),
        Detail(0.7, 0.6, 0.8, implied=0.3, views=0.4, start=True),
        Detail(0.95, 0.7, 1.0, implied=0.2, views=0.8, start=True, most=2),
        Detail(1.0, 0.8, 1.0, views=1.0, start=True, most=3),
    ),
    "alfred": (Detail(0.3, 0.3, 0.3), Detail(0.6, 0.5, 0.6)),
}
_FIRST: Final = {"r2r": 2}
"""How talkative the first try is."""
_REALISATIONS = 10


@dataclass(frozen=True)
class Told:
    """A path in words.

    Args:
        register: the style.
        text: the words.
        program: what they mean; followers never see it.
        realisation: the words with their operations.
        parts: of goal-and-steps texts, each part; otherwise the text alone.
    """

    register: Register
    text: str
    program: Program
    realisation: Realisation
    parts: tuple[str, ...]

    def timed(self, seed: str) -> tuple[TimedWord, ...]:
        """The words with the seconds at which a guide would speak them: by length, with pauses at punctuation."""
        dice = Dice(f"speech {seed}")
        pace, at, out = dice.real(0.85, 1.2), 0.0, list[TimedWord]()
        for word in self.realisation.words:
            seconds = pace * (0.12 + 0.05 * len(word.text))
            out.append(TimedWord(word.text, round(at, 3), round(at + seconds, 3)))
            at += seconds + pace * (0.6 if word.text[-1] in ".!?" else 0.25 if word.text[-1] == "," else 0.03)
        return tuple(out)

    @property
    def nodes(self) -> tuple[int, ...]:
        """For each word the position in the path that it tells of."""
        return tuple(self.program[word.op].node for word in self.realisation.words)


def describe(
    scene: SceneGraph,
    path: Path,
    seed: str,
    *,
    register: Register = "r2r",
    phrasing: Phrasing = "training",
    distractors: int = 0,
    held_out_combinations: bool | None = False,
    lexicon: Lexicon = ENGLISH,
) -> Told | None:
    """Tell a path.

    Args:
        seed: different seeds choose different landmarks and words.
        register: `"r2r"` (20–35 words), `"rxr"` (60–100, spoken), `"reverie"` and `"soon"` (the goal alone), `"alfred"`
            (goal and steps).
        distractors: clauses to add that mean nothing for the way or contradict it; the length does not count them.
        held_out_combinations: whether it must (True), may (None) or must not (False) contain a combination of landmark,
            relation and turn that is held out for `val_compositional`.

    Returns:
        None where the path cannot be told this way within the register's length.
    """
    if register in ("reverie", "soon"):
        return _goal(scene, path, seed, register, phrasing, lexicon)
    low, high = (n * (2 if len(path.viewpoints) > 8 else 1) for n in BOUNDS[register])
    level = _FIRST.get(register, 1)
    for attempt in range(_REALISATIONS):
        name = f"{seed} {attempt}"
        detail = _DETAIL[register][level]
        program = derive(scene, path.viewpoints, path.heading, name, detail, held_out_combinations)
        if program is None:
            return None
        program = without_repetition(program)
        if register == "alfred":
            goal = describe_goal(scene, program[-1].item, name) if program[-1].item >= 0 else None
            if goal is None:
                continue
            program = (*(replace(step, node=len(path.viewpoints) - 1) for step in goal), *program)
        if held_out_combinations is not None and holds_out(program) != held_out_combinations:
            continue
        if distractors:
            program = with_distractors(scene, program, name, distractors)
        told = _say(program, name, register, phrasing, lexicon)
        words = sum(program[word.op].op.kind not in DISTRACTING for word in told.realisation.words)
        if low <= words <= high:
            return told
        level = min(len(_DETAIL[register]) - 1, level + 1) if words < low else max(0, level - 1)
    return None


def _say(program: Program, seed: str, register: Register, phrasing: Phrasing, lexicon: Lexicon) -> Told:
    said = realise(
        program, seed, phrasing=phrasing, spoken=register == "rxr", lexicon=lexicon, separate=register == "alfred"
    )
    parts = (said.text,) if register != "alfred" else tuple(s if s.endswith(".") else f"{s}." for s in said.sentences)
    return Told(register, said.text, program, said, parts)


def _goal(
    scene: SceneGraph, path: Path, seed: str, register: Register, phrasing: Phrasing, lexicon: Lexicon
) -> Told | None:
    """A description of an object that is best seen from the path's end."""
    follower = Follower(scene, lexicon)
    end = scene.graph.index(path.viewpoints[-1])
    here = [i for i in targets(scene) if follower.best_view(i) == end]
    for item in Dice(f"object {seed}").shuffled(here):
        program = describe_goal(scene, item, seed, full=register == "soon")
        if program is not None:
            program = tuple(replace(step, node=len(path.viewpoints) - 1) for step in program)
            return _say(program, seed, register, phrasing, lexicon)
    return None


# --- episodes --------------------------------------------------------------------------------------------------------


def make_episodes(
    house: House,
    graph: ViewpointGraph,
    seed: int,
    count: int,
    *,
    split: str = "train",
    register: Register = "r2r",
    paraphrases: int = 3,
    scene: SceneGraph | None = None,
) -> list[NavEpisode]:
    """Verified episodes of one house in the layout of R2R.

    Args:
        seed: the same house and seed give the same episodes; ids begin with `seed * 1000`.
        count: as many as these, at most 1,000, fewer where the house has no more paths that can be told.
        split: `val_unseen_phrasing` says everything in held-out words, `val_compositional` holds combinations that no
            other split contains, `val_long` has longer paths, `val_distractor` clauses to see through; `train` and
            `val_seen` share no pair of ends.
        paraphrases: independent texts of each path.
    """
    if not 0 < count <= 1000:
        raise InstructionError("A house gives at most 1,000 episodes at once", expected="1 … 1000", got=str(count))
    scene = SceneGraph(house, graph) if scene is None else scene
    follower = Follower(scene)
    demands = LONG if split == "val_long" else SHORT
    out: list[NavEpisode] = []
    for path in sample_paths(house, graph, seed, 4 * count, demands=demands, split=split, scene=scene):
        if len(out) == count:
            break
        name = str(seed * 1000 + len(out))
        texts = [_verified(follower, path, f"{seed} {path.viewpoints[0]} {path.viewpoints[-1]} {i}", split, register)
                 for i in range(paraphrases)]  # fmt: skip
        told = [t for t in texts if t is not None]
        if len(told) == paraphrases:
            out.append(_episode(scene, path, name, told))
    return out


def _verified(follower: Follower, path: Path, seed: str, split: str, register: Register) -> Told | None:
    phrasing: Phrasing = "held_out" if split == "val_unseen_phrasing" else "training"
    for attempt in range(3):
        told = describe(
            follower.scene,
            path,
            f"{seed} {attempt}",
            register=register,
            phrasing=phrasing,
            distractors=2 if split == "val_distractor" else 0,
            held_out_combinations=split == "val_compositional",
        )
        if told is not None and verify(follower, path, told.text).accepted:
            return told
    return None


def _episode(scene: SceneGraph, path: Path, name: str, texts: Sequence[Told]) -> NavEpisode:
    instructions = tuple(
        Instruction(f"{name}_{i}", told.text, words=told.timed(f"{name} {i}"), extra=_extra(told))
        if told.register == "rxr"
        else Instruction(f"{name}_{i}", told.text, extra=_extra(told))
        for i, told in enumerate(texts)
    )
    distance = round(scene.graph.length(path.viewpoints), 3)
    start = tuple(round(float(v), 3) for v in scene.floor[scene.graph.index(path.viewpoints[0])])
    return NavEpisode(
        name,
        scene.house.scan,
        instructions,
        path.viewpoints,
        path.heading,
        start=(start[0], start[1], start[2]),
        distance=distance,
    )


def _extra(told: Told) -> dict[str, Any]:
    steps = [{"op": s.op.to_dict(), "node": s.node, "item": s.item, "room": s.room} for s in told.program]
    extra: dict[str, Any] = {"register": told.register, "templates": list(told.realisation.templates), "program": steps}
    if told.register == "rxr":
        extra["word_nodes"] = list(told.nodes)
        extra["word_ops"] = [word.op for word in told.realisation.words]
    if told.register == "alfred":
        extra["parts"] = list(told.parts)
    return extra
