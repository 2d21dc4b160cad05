"""The nouns and protocols that environments, datasets, policies, evaluation and robots share.

Imports on Python 3.9 with numpy alone. All values are frozen; arrays inside them are not copied.

Axis legend: T rows of an episode, H actions of a chunk, A action elements, S state elements, h w pixels.
Frames: right-handed, z up, metres, radians, seconds unless a unit says otherwise.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Dict, Iterator, List, Mapping, Optional, Protocol, Sequence, Tuple, Union, runtime_checkable

import numpy as np

from .errors import SpecError

INSTRUCTION_BYTES = 4096
"""Length of the fixed UTF-8 `uint8` array in which an instruction travels through vectors and shared memory."""

ACTION_KINDS = (
    "joint_position",
    "joint_velocity",
    "ee_delta",
    "ee_pose",
    "base_velocity",
    "discrete",
    "candidate",
)
RELATIVE_KINDS = ("ee_delta",)


@dataclass(frozen=True)
class Camera:
    """A pinhole camera.

    Args:
        name: key in `Observation.images`.
        height, width: size in pixels.
        fx, fy, cx, cy: intrinsics in pixels.
        frame: the body that carries the camera (`"world"` for a fixed one).
        position: of the optical centre in `frame`, metres.
        quaternion: w x y z, camera to `frame`; the camera looks along its −z axis, +y up (OpenGL).
        depth: whether `Observation.depth` holds a planar depth image in metres.
        semantics: whether `Observation.semantics` holds an int32 id image.
    """

    name: str
    height: int
    width: int
    fx: float
    fy: float
    cx: float
    cy: float
    frame: str = "world"
    position: Tuple[float, ...] = (0.0, 0.0, 0.0)
    quaternion: Tuple[float, ...] = (1.0, 0.0, 0.0, 0.0)
    depth: bool = False
    semantics: bool = False


@dataclass(frozen=True)
class Element:
    """One scalar of a state or action vector."""

    name: str
    unit: str


@dataclass(frozen=True)
class ActionGroup:
    """A run of action elements that share a meaning.

    Args:
        name: `"arm"`, `"gripper"`, `"base"`, …
        kind: one of `ACTION_KINDS`.
        elements: the scalars, in order. A discrete or candidate group has exactly one, the index.
        lower, upper: limits per element, in the element's unit.
        frame: frame of Cartesian kinds, e.g. `"world"` or `"ee"`.
        rotation: form of a Cartesian rotation: `"rotvec"`, `"quaternion_wxyz"`, `"6d"` or `""`.
        choices: names of the alternatives of a discrete group.
        candidates: K, the padded number of candidates of a candidate group.
    """

    name: str
    kind: str
    elements: Tuple[Element, ...]
    lower: Tuple[float, ...]
    upper: Tuple[float, ...]
    frame: str = ""
    rotation: str = ""
    choices: Tuple[str, ...] = ()
    candidates: int = 0

    def __post_init__(self) -> None:
        if self.kind not in ACTION_KINDS:
            raise SpecError(f"Action group '{self.name}' has an unknown kind", got=self.kind, exists=ACTION_KINDS)
        n = len(self.elements)
        if len(self.lower) != n or len(self.upper) != n:
            raise SpecError(
                f"Action group '{self.name}' needs one lower and one upper limit per element",
                expected=f"{n} of each",
                got=f"{len(self.lower)} lower, {len(self.upper)} upper",
            )
        for element, lo, hi in zip(self.elements, self.lower, self.upper):
            if not lo < hi:
                raise SpecError(
                    f"Limits of '{self.name}.{element.name}' are not ordered",
                    expected="lower < upper",
                    got=f"{lo}, {hi}",
                )
        if self.kind in ("discrete", "candidate") and n != 1:
            raise SpecError(f"A {self.kind} group has exactly one element, its index", got=f"{n} elements")

    @property
    def relative(self) -> bool:
        """Whether an action is an increment on the observation it was computed from."""
        return self.kind in RELATIVE_KINDS


@dataclass(frozen=True)
class ArraySpec:
    """Shape, dtype and unit of one extra array."""

    shape: Tuple[int, ...]
    dtype: str
    unit: str = ""


@dataclass(frozen=True)
class EnvSpec:
    """A body and its senses: what is observed, what can be commanded, and how often.

    Travels inside datasets, checkpoints and the wire handshake. `control_dt` is in seconds.
    """

    embodiment: str
    control_dt: float
    cameras: Tuple[Camera, ...] = ()
    state: Tuple[Element, ...] = ()
    action: Tuple[ActionGroup, ...] = ()
    extras: Mapping[str, ArraySpec] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.control_dt > 0:
            raise SpecError("control_dt must be positive", got=repr(self.control_dt))
        for what, names in (
            ("camera", [c.name for c in self.cameras]),
            ("state", [e.name for e in self.state]),
            ("action", [e.name for g in self.action for e in g.elements]),
            ("action group", [g.name for g in self.action]),
        ):
            twice = sorted({n for n in names if names.count(n) > 1})
            if twice:
                raise SpecError(f"Each {what} name may occur once", got=", ".join(twice))

    @property
    def action_elements(self) -> Tuple[Element, ...]:
        return tuple(e for g in self.action for e in g.elements)

    @property
    def action_dim(self) -> int:
        return len(self.action_elements)

    @property
    def state_dim(self) -> int:
        return len(self.state)

    @property
    def action_lower(self) -> np.ndarray:
        """[A] float64, lower limits in spec units."""
        return np.array([x for g in self.action for x in g.lower], np.float64)

    @property
    def action_upper(self) -> np.ndarray:
        """[A] float64, upper limits in spec units."""
        return np.array([x for g in self.action for x in g.upper], np.float64)

    def group_slices(self) -> Iterator[Tuple[ActionGroup, slice]]:
        """Each action group with the slice of the action vector it owns."""
        start = 0
        for group in self.action:
            stop = start + len(group.elements)
            yield group, slice(start, stop)
            start = stop

    def camera(self, name: str) -> Camera:
        for camera in self.cameras:
            if camera.name == name:
                return camera
        raise SpecError("Unknown camera", got=name, exists=[c.name for c in self.cameras])

    def columns(self) -> Dict[str, ArraySpec]:
        """The dotted path, row shape, dtype and unit of everything an episode of this spec stores per step."""
        out: Dict[str, ArraySpec] = {}
        for camera in self.cameras:
            size = (camera.height, camera.width)
            out[f"observation.images.{camera.name}"] = ArraySpec((*size, 3), "uint8")
            out[f"observation.times.{camera.name}"] = ArraySpec((), "float64", "s")
            if camera.depth:
                out[f"observation.depth.{camera.name}"] = ArraySpec(size, "float32", "m")
            if camera.semantics:
                out[f"observation.semantics.{camera.name}"] = ArraySpec(size, "int32")
        out["observation.state"] = ArraySpec((self.state_dim,), "float32")
        out["observation.times.state"] = ArraySpec((), "float64", "s")
        for name, array in self.extras.items():
            out[f"observation.extras.{name}"] = array
        out["action"] = ArraySpec((self.action_dim,), "float32")
        out["reward"] = ArraySpec((), "float32")
        return out

    def to_dict(self) -> Dict[str, Any]:
        """Plain JSON types; `EnvSpec.from_dict` inverts it."""
        return asdict(self)

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> "EnvSpec":
        try:
            return EnvSpec(
                embodiment=str(data["embodiment"]),
                control_dt=float(data["control_dt"]),
                cameras=tuple(
                    Camera(**{**c, "position": tuple(c["position"]), "quaternion": tuple(c["quaternion"])})
                    for c in data["cameras"]
                ),
                state=tuple(Element(**e) for e in data["state"]),
                action=tuple(
                    ActionGroup(
                        **{
                            **g,
                            "elements": tuple(Element(**e) for e in g["elements"]),
                            "lower": tuple(g["lower"]),
                            "upper": tuple(g["upper"]),
                            "choices": tuple(g["choices"]),
                        }
                    )
                    for g in data["action"]
                ),
                extras={
                    str(k): ArraySpec(tuple(v["shape"]), str(v["dtype"]), str(v["unit"]))
                    for k, v in data["extras"].items()
                },
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise SpecError(
                "This is not a serialised EnvSpec", expected="the mapping EnvSpec.to_dict returns", got=str(error)
            ) from error

    def diff(self, other: "EnvSpec") -> List[str]:
        """Differences that matter to a policy, one line each, by name: `ours → theirs`.

        Camera mounting and intrinsics may differ (they are what randomisation and calibration change);
        camera names and sizes, the elements with their order and units, kinds, frames and the rate may not.
        """
        lines: List[str] = []

        def compare(path: str, ours: object, theirs: object) -> None:
            if ours != theirs:
                lines.append(f"{path}: {ours} → {theirs}")

        compare("embodiment", self.embodiment, other.embodiment)
        if not np.isclose(self.control_dt, other.control_dt, rtol=1e-6, atol=0):
            lines.append(f"control_dt: {self.control_dt} s → {other.control_dt} s")
        ours_cams = {c.name: c for c in self.cameras}
        theirs_cams = {c.name: c for c in other.cameras}
        for name in [*ours_cams, *(n for n in theirs_cams if n not in ours_cams)]:
            a, b = ours_cams.get(name), theirs_cams.get(name)
            if a is None or b is None:
                lines.append(f"cameras.{name}: {'present' if a else 'absent'} → {'present' if b else 'absent'}")
                continue
            compare(f"cameras.{name}.size", (a.height, a.width), (b.height, b.width))
            compare(f"cameras.{name}.depth", a.depth, b.depth)
            compare(f"cameras.{name}.semantics", a.semantics, b.semantics)
        lines += _diff_elements("state", self.state, other.state)
        ours_groups = {g.name: g for g in self.action}
        theirs_groups = {g.name: g for g in other.action}
        if list(ours_groups) != list(theirs_groups):
            lines.append(f"action groups: {list(ours_groups)} → {list(theirs_groups)}")
        for name, a in ours_groups.items():
            b = theirs_groups.get(name)
            if b is None:
                continue
            for attribute in ("kind", "frame", "rotation", "choices", "candidates", "lower", "upper"):
                compare(f"action.{name}.{attribute}", getattr(a, attribute), getattr(b, attribute))
            lines += _diff_elements(f"action.{name}", a.elements, b.elements)
        compare("extras", dict(self.extras), dict(other.extras))
        return lines

    def require_same(self, other: "EnvSpec", what: str) -> None:
        """Raise a `SpecError` that lists every difference by name. `what` says who meets whom."""
        lines = self.diff(other)
        if lines:
            raise SpecError(f"Specs disagree: {what}\n    " + "\n    ".join(lines))


def _diff_elements(path: str, ours: Sequence[Element], theirs: Sequence[Element]) -> List[str]:
    a, b = {e.name: e.unit for e in ours}, {e.name: e.unit for e in theirs}
    lines = [f"{path}.{n}: present → absent" for n in a if n not in b]
    lines += [f"{path}.{n}: absent → present" for n in b if n not in a]
    lines += [f"{path}.{n}: [{a[n]}] → [{b[n]}]" for n in a if n in b and a[n] != b[n]]
    if not lines and list(a) != list(b):
        lines.append(f"{path} order: {list(a)} → {list(b)}")
    return lines


@dataclass(frozen=True)
class Observation:
    """One instant, raw units.

    Args:
        times: seconds per sensor stream (camera names and `"state"`): simulated in simulators, monotonic on robots.
        images: camera → uint8 [h w 3].
        state: float32 [S].
        instruction: what the robot was asked to do.
        depth: camera → float32 [h w], planar metres.
        semantics: camera → int32 [h w].
        extras: further arrays as the spec declares them.
    """

    times: Mapping[str, float]
    images: Mapping[str, np.ndarray]
    state: np.ndarray
    instruction: str = ""
    depth: Mapping[str, np.ndarray] = field(default_factory=dict)
    semantics: Mapping[str, np.ndarray] = field(default_factory=dict)
    extras: Mapping[str, np.ndarray] = field(default_factory=dict)

    @property
    def time(self) -> float:
        """The oldest sensor time [s]: what an action computed from this observation must be dated against."""
        return min(self.times.values())

    def columns(self) -> Dict[str, np.ndarray]:
        """Dotted path → array, as stored per step (the instruction is stored per episode)."""
        out: Dict[str, np.ndarray] = {"observation.state": np.asarray(self.state, np.float32)}
        for name, image in self.images.items():
            out[f"observation.images.{name}"] = image
        for name, depth in self.depth.items():
            out[f"observation.depth.{name}"] = depth
        for name, ids in self.semantics.items():
            out[f"observation.semantics.{name}"] = ids
        for name, extra in self.extras.items():
            out[f"observation.extras.{name}"] = np.asarray(extra)
        for name, t in self.times.items():
            out[f"observation.times.{name}"] = np.asarray(t, np.float64)
        return out

    @staticmethod
    def from_columns(columns: Mapping[str, np.ndarray], instruction: str = "") -> "Observation":
        """Inverse of `columns`; ignores paths that are not part of an observation."""
        groups: Dict[str, Dict[str, Any]] = {"images": {}, "depth": {}, "semantics": {}, "extras": {}, "times": {}}
        for path, value in columns.items():
            parts = path.split(".", 2)
            if len(parts) == 3 and parts[0] == "observation" and parts[1] in groups:
                groups[parts[1]][parts[2]] = value
        return Observation(
            times={k: float(v) for k, v in groups["times"].items()},
            images=groups["images"],
            state=np.asarray(columns["observation.state"], np.float32),
            instruction=instruction,
            depth=groups["depth"],
            semantics=groups["semantics"],
            extras=groups["extras"],
        )

    def to_nested(self) -> Dict[str, Any]:
        """The nested dict a Gymnasium environment returns; the instruction as fixed-length UTF-8 `uint8`."""
        nested: Dict[str, Any] = {
            "times": {k: np.asarray(v, np.float64) for k, v in self.times.items()},
            "state": np.asarray(self.state, np.float32),
            "instruction": encode_text(self.instruction),
        }
        for key in ("images", "depth", "semantics", "extras"):
            group: Mapping[str, np.ndarray] = getattr(self, key)
            if group:
                nested[key] = dict(group)
        return nested

    @staticmethod
    def from_nested(nested: Mapping[str, Any]) -> "Observation":
        """Inverse of `to_nested`."""
        return Observation(
            times={k: float(v) for k, v in nested["times"].items()},
            images=nested.get("images", {}),
            state=nested["state"],
            instruction=decode_text(nested["instruction"]),
            depth=nested.get("depth", {}),
            semantics=nested.get("semantics", {}),
            extras=nested.get("extras", {}),
        )

    def check(self, spec: EnvSpec) -> None:
        """Raise a `SpecError` naming the first array that does not fit `spec`."""
        have = self.columns()
        for path, want in spec.columns().items():
            if not path.startswith("observation."):
                continue
            got = have.get(path)
            if got is None:
                raise SpecError(
                    f"Observation lacks '{path}'", expected=f"{want.dtype} {want.shape}", exists=sorted(have)
                )
            if tuple(got.shape) != want.shape or str(got.dtype) != want.dtype:
                raise SpecError(
                    f"Observation '{path}' does not fit the spec of '{spec.embodiment}'",
                    expected=f"{want.dtype} {want.shape}",
                    got=f"{got.dtype} {tuple(got.shape)}",
                )


def encode_text(text: str, length: int = INSTRUCTION_BYTES) -> np.ndarray:
    """uint8 [length]: UTF-8, zero padded. Raises `SpecError` where it does not fit or holds a NUL."""
    raw = text.encode("utf-8")
    if len(raw) > length or b"\0" in raw:
        raise SpecError(
            "Instruction cannot be encoded", expected=f"at most {length} UTF-8 bytes, no NUL", got=f"{len(raw)} bytes"
        )
    out = np.zeros(length, np.uint8)
    out[: len(raw)] = np.frombuffer(raw, np.uint8)
    return out


def decode_text(array: Union[np.ndarray, str]) -> str:
    """Inverse of `encode_text`; a str passes unchanged."""
    if isinstance(array, str):
        return array
    return np.asarray(array, np.uint8).tobytes().split(b"\0", 1)[0].decode("utf-8")


@dataclass(frozen=True)
class ActionChunk:
    """A run of actions with the moments they are meant for.

    Args:
        actions: float [H A], spec units. Relative kinds are increments that chain: action k follows action k−1,
            the first one starts from the observation the chunk was computed from.
        times: float64 [H], seconds on the observation's clock, strictly increasing.
        observed_at: `Observation.time` of the source observation [s].
    """

    actions: np.ndarray
    times: np.ndarray
    observed_at: float

    def __post_init__(self) -> None:
        if self.actions.ndim != 2 or self.times.shape != (self.actions.shape[0],):
            raise SpecError(
                "An action chunk needs actions [H, A] and times [H]",
                got=f"actions {self.actions.shape}, times {self.times.shape}",
            )

    def __len__(self) -> int:
        return int(self.actions.shape[0])


@dataclass(frozen=True)
class Step:
    """What one action led to.

    Args:
        terminated: the task ended; do not bootstrap.
        truncated: the time ran out; bootstrap.
        success: None where the task does not define it.
        measures: named scalars, e.g. collisions or distances [m].
    """

    observation: Observation
    reward: float
    terminated: bool
    truncated: bool
    success: Optional[bool] = None
    measures: Mapping[str, float] = field(default_factory=dict)

    @property
    def done(self) -> bool:
        """Whether the episode is over, for either reason."""
        return self.terminated or self.truncated


@dataclass(frozen=True)
class Episode:
    """T rows; row i is the observation before action i, then the action and its reward.

    Args:
        columns: dotted path → [T, …], exactly the paths of `spec.columns()`.
        final: the observation after the last action.
        provenance: environment id, seed, versions, task, split, …; JSON types. Not part of the content hash.
    """

    spec: EnvSpec
    instruction: str
    columns: Mapping[str, np.ndarray]
    final: Observation
    success: Optional[bool] = None
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return int(self.columns["action"].shape[0])

    def row(self, index: int) -> Observation:
        """The observation before action `index`."""
        return Observation.from_columns({k: v[index] for k, v in self.columns.items()}, self.instruction)

    def check(self) -> None:
        """Raise a `SpecError` naming the first column that does not fit the spec."""
        want = self.spec.columns()
        if set(want) != set(self.columns):
            raise SpecError(
                "Episode columns do not match its spec", expected=str(sorted(want)), got=str(sorted(self.columns))
            )
        length = len(self)
        for path, array in want.items():
            got = self.columns[path]
            if tuple(got.shape) != (length, *array.shape) or str(got.dtype) != array.dtype:
                raise SpecError(
                    f"Episode column '{path}' does not fit the spec",
                    expected=f"{array.dtype} {(length, *array.shape)}",
                    got=f"{got.dtype} {tuple(got.shape)}",
                )
        self.final.check(self.spec)


class EpisodeBuilder:
    """Collects the rows of one episode: `add` before every step, `finish` with the last observation."""

    def __init__(self, spec: EnvSpec, instruction: str) -> None:
        self.spec = spec
        self.instruction = instruction
        self._rows: Dict[str, List[np.ndarray]] = {path: [] for path in spec.columns()}

    def __len__(self) -> int:
        return len(self._rows["action"])

    def add(self, observation: Observation, action: np.ndarray, reward: float) -> None:
        """Append the row (observation, the action [A] taken on it, the reward it earned)."""
        row = observation.columns()
        row["action"] = np.asarray(action, np.float32)
        row["reward"] = np.asarray(reward, np.float32)
        for path, rows in self._rows.items():
            rows.append(row[path])

    def finish(self, final: Observation, success: Optional[bool], provenance: Mapping[str, Any]) -> Episode:
        if not len(self):
            raise SpecError("An episode needs at least one row")
        columns = {path: np.stack(rows) for path, rows in self._rows.items()}
        return Episode(self.spec, self.instruction, columns, final, success, dict(provenance))


Memory = Any
"""What a policy carries from call to call: a sequence of one opaque entry per environment, so that callers can regroup
environments between calls; an empty one for a policy without memory."""


@runtime_checkable
class Policy(Protocol):
    """A pure function from observations and memory to action chunks, batched over environments.

    No hidden state: history, recurrence, randomness and the prefix of an executing chunk are arguments, so a
    policy object may serve many robots. Row i of every argument and result belongs to environment i.
    """

    @property
    def spec(self) -> EnvSpec:
        """The spec the policy was trained for."""
        ...

    def init(self, spec: EnvSpec, seeds: Sequence[int]) -> Memory:
        """Fresh memory for `len(seeds)` environments; raises `SpecError` where `spec` does not fit."""
        ...

    def act(
        self,
        observations: Sequence[Observation],
        memory: Memory,
        *,
        rng: Sequence[np.random.Generator],
        prefix: Optional[Sequence[Optional[ActionChunk]]] = None,
        delay: int = 0,
    ) -> Tuple[List[ActionChunk], Memory, Dict[str, Any]]:
        """One chunk per observation, the next memory, and `aux` (log-probability and value for learning).

        Args:
            rng: one generator per environment; the only source of randomness.
            prefix: the still unexecuted actions of the chunk each environment executes, for real-time chunking.
            delay: control steps that will pass before the first action can take effect.
        """
        ...


@runtime_checkable
class Learner(Protocol):
    """The training side of a policy (torch): a batch is the same dotted paths over tensors [B, …]."""

    def loss(self, batch: Any) -> Tuple[Any, Dict[str, Any]]:
        """The scalar loss and its named terms."""
        ...


@runtime_checkable
class EpisodeSink(Protocol):
    """Where evaluation and the bridge hand back what they saw."""

    def append(self, episode: Episode) -> object: ...


@runtime_checkable
class Robot(Protocol):
    """What the bridge drives; a simulator, ROS 2 and real drivers look alike."""

    @property
    def spec(self) -> EnvSpec: ...

    def read(self) -> Observation:
        """The newest sensor values, dated on the monotonic clock; never blocks longer than a control period."""
        ...

    def command(self, action: np.ndarray, t: float) -> None:
        """Send one absolute target [A], meant for monotonic time `t` [s]."""
        ...

    def stop(self) -> None:
        """Bring the robot to rest and hold; must work whatever happened before."""
        ...
