"""Frozen navigation protocols: everything two numbers must share before they may be compared.

Each preset reproduces one published evaluator, its quirks included; the `wayhand-*` ones are ours. A protocol never
changes: a different one gets a new name. Its hash stands beside every number it produced.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any, Literal, cast

from ..errors import ConfigError, did_you_mean


@dataclass(frozen=True)
class Success:
    """When an episode ends well.

    Args:
        radius: [m].
        strict: `<` radius rather than `<=`.
        stop_required: the agent must have called STOP; else where it ends counts.
        at: the `goal`, the `nearest_goal` of several, an `object_visible` from the last viewpoint, or
            `seen_or_goal`: a last viewpoint that sees the object becomes the goal.
    """

    radius: float
    strict: bool = True
    stop_required: bool = False
    at: Literal["goal", "nearest_goal", "object_visible", "seen_or_goal"] = "goal"


@dataclass(frozen=True)
class Alignment:
    """How the path is aligned with the reference for nDTW, SDTW and CLS.

    Args:
        distance: between two places, along the `graph` or `euclid`.
        reference: its `viewpoints`, or `dense` locations a step apart.
        repeats: places equal to the one before are `kept` or `dropped`.
    """

    distance: Literal["graph", "euclid"]
    reference: Literal["viewpoints", "dense"]
    repeats: Literal["kept", "dropped"]


@dataclass(frozen=True)
class Motion:
    """Step [m], turn and tilt [degrees], the step budget, and whether the body slides along walls."""

    max_steps: int
    step: float
    turn: float
    sliding: bool
    tilt: float = 0.0


@dataclass(frozen=True)
class Senses:
    """The colour camera: size in pixels, horizontal field of view [degrees], height above the floor [m]."""

    width: int
    height: int
    hfov: float
    camera_height: float


@dataclass(frozen=True)
class Body:
    """The agent's cylinder [m]."""

    height: float
    radius: float


@dataclass(frozen=True)
class NavProtocol:
    """What is measured, and in which world.

    Args:
        name: identifies the protocol together with `hash`.
        success: see `Success`.
        distance: to the goal, along the `graph` or the `navmesh`.
        path_length: sum over consecutive places, of `graph` distances or `euclid`.
        spl_length: the numerator of SPL, the `shortest` path from start to goal or the `reference` path's length.
        spl_floor: a least denominator of SPL [m].
        alignment: see `Alignment`; None where a benchmark has no reference path.
        steps_checked: consecutive viewpoints of a result must be joined, consecutive positions at most a step apart.
        instructions: each path has exactly so many; None: as many as its file holds.
        missing: a missing result is an `error`; or a `failure` that has not moved, with nDTW and CLS of 0; or is
            `left_out` of the mean.
        others: results of unknown ids, or after the first of an id, are `ignored` or an `error`.
        motion, senses, body: of continuous benchmarks.
    """

    name: str
    success: Success
    distance: Literal["graph", "navmesh"]
    path_length: Literal["graph", "euclid"]
    spl_length: Literal["shortest", "reference"] = "shortest"
    spl_floor: float = 0.0
    alignment: Alignment | None = None
    steps_checked: bool = False
    instructions: int | None = None
    missing: Literal["error", "failure", "left_out"] = "error"
    others: Literal["ignored", "error"] = "ignored"
    motion: Motion | None = None
    senses: Senses | None = None
    body: Body | None = None

    @property
    def hash(self) -> str:
        """16 hexadecimal digits over everything the protocol fixes."""
        return hashlib.sha256(json.dumps(_fixed(asdict(self)), sort_keys=True).encode()).hexdigest()[:16]

    @property
    def discrete(self) -> bool:
        """Whether paths are viewpoints of a graph."""
        return self.distance == "graph"

    def id(self, split_hash: str, n: int) -> str:
        """The identity of a number: protocol, its hash, and what it was measured on."""
        return f"{self.name}/{self.hash}/{split_hash}/{n}"


def _fixed(value: Any) -> Any:
    """A protocol's fields for its hash: 15 and 15.0 are one number, and a field that says nothing is not there."""
    if isinstance(value, dict):
        return {k: _fixed(v) for k, v in cast("dict[str, Any]", value).items() if v is not None}
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


_VIEWPOINTS = Alignment("graph", "viewpoints", "kept")
_DENSE = Alignment("euclid", "dense", "dropped")
_VLNCE_SUCCESS = Success(3.0, stop_required=True)

PRESETS = (
    # Matterport3DSimulator tasks/R2R/eval.py; nDTW, SDTW and CLS as every later R2R codebase adds them.
    NavProtocol("r2r-v1", Success(3.0), "graph", "graph", alignment=_VIEWPOINTS, steps_checked=True, instructions=3),
    # The figures in RxR's follower annotations; SPL as in the evaluators of VLN-DUET and HAMT, where the reference
    # path need not be a shortest one.
    NavProtocol(
        "rxr-v1",
        Success(3.0),
        "graph",
        "graph",
        spl_length="reference",
        spl_floor=0.01,
        alignment=_VIEWPOINTS,
    ),
    # REVERIE tasks/REVERIE/eval_release.py: success is seeing the object, grounding does not ask where from.
    NavProtocol("reverie-v1", Success(3.0, at="object_visible"), "graph", "graph", alignment=_VIEWPOINTS),
    # SOON r2r_src/eval.py, which averages over the results there are.
    NavProtocol(
        "soon-v1",
        Success(3.0, at="seen_or_goal"),
        "graph",
        "graph",
        spl_floor=0.01,
        alignment=_VIEWPOINTS,
        missing="left_out",
    ),
    # VLN-CE habitat_extensions/config/vlnce_task.yaml and measures.py, with exact DTW.
    NavProtocol(
        "vlnce-r2r-v1-3",
        _VLNCE_SUCCESS,
        "navmesh",
        "euclid",
        alignment=_DENSE,
        motion=Motion(500, 0.25, 15, sliding=True),
        senses=Senses(224, 224, 90, 1.25),
        body=Body(1.5, 0.1),
    ),
    # VLN-CE habitat_extensions/config/rxr_vlnce_english_task.yaml; its submissions have no STOP, their end counts.
    NavProtocol(
        "vlnce-rxr",
        _VLNCE_SUCCESS,
        "navmesh",
        "euclid",
        alignment=_DENSE,
        motion=Motion(500, 0.25, 30, sliding=False, tilt=30),
        senses=Senses(640, 480, 79, 0.88),
        body=Body(0.88, 0.18),
    ),
    # habitat-lab benchmark/nav/objectnav: to within 0.1 m of any view point of any instance.
    NavProtocol(
        "objectnav",
        Success(0.1, stop_required=True, at="nearest_goal"),
        "navmesh",
        "euclid",
        motion=Motion(500, 0.25, 30, sliding=False, tilt=30),
        senses=Senses(640, 480, 79, 0.88),
        body=Body(0.88, 0.18),
    ),
    # habitat-lab benchmark/nav/pointnav on Gibson.
    NavProtocol(
        "pointnav",
        Success(0.2, stop_required=True),
        "navmesh",
        "euclid",
        motion=Motion(500, 0.25, 10, sliding=True),
        senses=Senses(256, 256, 90, 1.25),
        body=Body(1.5, 0.1),
    ),
    NavProtocol(
        "wayhand-nav-v1",
        Success(3.0),
        "graph",
        "graph",
        alignment=Alignment("graph", "viewpoints", "dropped"),
        steps_checked=True,
        missing="failure",
        others="error",
    ),
    NavProtocol(
        "wayhand-nav-ce-v1",
        _VLNCE_SUCCESS,
        "navmesh",
        "euclid",
        alignment=_DENSE,
        steps_checked=True,
        missing="failure",
        others="error",
        motion=Motion(500, 0.25, 15, sliding=True),
        senses=Senses(224, 224, 90, 1.25),
        body=Body(1.5, 0.1),
    ),
)


def nav_protocol(name: str) -> NavProtocol:
    """A preset by its name; raises `ConfigError` for an unknown one."""
    names = [p.name for p in PRESETS]
    if name not in names:
        close = did_you_mean(name, names)
        hint = f"; did you mean '{close}'?" if close else ""
        raise ConfigError(f"Unknown navigation protocol '{name}'{hint}", exists=names)
    return PRESETS[names.index(name)]
