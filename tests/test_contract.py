"""Laws of the contract: round trips, mirrored names, and errors that name what differs."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wayhand.vla.contract import (
    INSTRUCTION_BYTES,
    ActionChunk,
    ActionGroup,
    ArraySpec,
    Camera,
    Element,
    EnvSpec,
    EpisodeBuilder,
    Observation,
    Step,
    decode_text,
    encode_text,
)
from wayhand.vla.errors import SpecError, WayhandError, did_you_mean


def arm_group(**changes: object) -> ActionGroup:
    values: dict = dict(
        name="arm",
        kind="ee_delta",
        elements=(Element("dx", "m"), Element("dy", "m")),
        lower=(-0.1, -0.1),
        upper=(0.1, 0.1),
        frame="world",
        rotation="rotvec",
    )
    return ActionGroup(**{**values, **changes})


def make_spec() -> EnvSpec:
    return EnvSpec(
        embodiment="toy",
        control_dt=0.05,
        cameras=(
            Camera("front", 4, 6, 5.0, 5.0, 3.0, 2.0, depth=True),
            Camera("wrist", 8, 8, 5.0, 5.0, 4.0, 4.0, frame="hand", semantics=True),
        ),
        state=(Element("q1", "rad"), Element("width", "m")),
        action=(arm_group(), ActionGroup("gripper", "joint_position", (Element("grip", "m"),), (0.0,), (0.08,))),
        extras={"target": ArraySpec((3,), "float32", "m")},
    )


def make_observation(rng: np.random.Generator, text: str = "push the red cube") -> Observation:
    return Observation(
        times={"front": 0.1, "wrist": 0.2, "state": 0.3},
        images={
            "front": rng.integers(0, 256, (4, 6, 3), dtype=np.uint8),
            "wrist": rng.integers(0, 256, (8, 8, 3), dtype=np.uint8),
        },
        state=rng.normal(size=2).astype(np.float32),
        instruction=text,
        depth={"front": rng.random((4, 6), dtype=np.float32)},
        semantics={"wrist": rng.integers(0, 9, (8, 8), dtype=np.int32)},
        extras={"target": rng.random(3, dtype=np.float32)},
    )


def assert_equal(a: Observation, b: Observation) -> None:
    assert a.times == b.times and a.instruction == b.instruction
    ours, theirs = a.columns(), b.columns()
    assert ours.keys() == theirs.keys()
    for path in ours:
        np.testing.assert_array_equal(ours[path], theirs[path])
        assert ours[path].dtype == theirs[path].dtype


def test_spec_survives_its_dictionary() -> None:
    spec = make_spec()
    assert EnvSpec.from_dict(spec.to_dict()) == spec
    assert spec.diff(EnvSpec.from_dict(spec.to_dict())) == []


def test_a_broken_spec_dictionary_says_so() -> None:
    data = make_spec().to_dict()
    del data["state"]
    with pytest.raises(SpecError, match="state"):
        EnvSpec.from_dict(data)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (dict(embodiment="other"), "embodiment: toy → other"),
        (dict(control_dt=0.1), "control_dt: 0.05 s → 0.1 s"),
        (dict(state=(Element("q1", "deg"), Element("width", "m"))), "state.q1: [rad] → [deg]"),
        (dict(state=(Element("width", "m"), Element("q1", "rad"))), "state order"),
        (dict(cameras=(Camera("front", 4, 6, 5.0, 5.0, 3.0, 2.0, depth=True),)), "cameras.wrist: present → absent"),
        (dict(action=(arm_group(frame="ee"),)), "action.arm.frame: world → ee"),
        (dict(extras={}), "extras"),
    ],
)
def test_a_mismatch_is_named(change: dict, expected: str) -> None:
    spec = make_spec()
    other = dataclasses.replace(spec, **change)
    assert any(expected in line for line in spec.diff(other)), spec.diff(other)
    with pytest.raises(SpecError, match="policy meets robot"):
        spec.require_same(other, "policy meets robot")


def test_mounting_may_differ() -> None:
    spec = make_spec()
    moved = dataclasses.replace(spec.cameras[0], position=(1.0, 2.0, 3.0), fx=9.0)
    assert spec.diff(dataclasses.replace(spec, cameras=(moved, spec.cameras[1]))) == []


def test_group_slices_tile_the_action() -> None:
    spec = make_spec()
    covered = [i for _, s in spec.group_slices() for i in range(s.start, s.stop)]
    assert covered == list(range(spec.action_dim))
    assert spec.action_lower.tolist() == [-0.1, -0.1, 0.0]
    assert spec.action[0].relative and not spec.action[1].relative


@pytest.mark.parametrize(
    "bad",
    [
        dict(kind="teleport"),
        dict(lower=(0.0,)),
        dict(lower=(0.2, 0.2)),
        dict(kind="discrete"),
        dict(lower=(float("nan"), 0.0)),
    ],
)
def test_a_bad_action_group_is_refused(bad: dict) -> None:
    with pytest.raises(SpecError, match="arm|index"):
        arm_group(**bad)


def test_names_are_unique() -> None:
    spec = make_spec()
    with pytest.raises(SpecError, match="camera name"):
        dataclasses.replace(spec, cameras=(spec.cameras[0], spec.cameras[0]))


def test_observation_round_trips() -> None:
    observation = make_observation(np.random.default_rng(0))
    observation.check(make_spec())
    assert_equal(Observation.from_nested(observation.to_nested()), observation)
    assert_equal(Observation.from_columns(observation.columns(), observation.instruction), observation)
    assert observation.time == 0.1


@pytest.mark.malformed
@pytest.mark.parametrize("path", ["images.front", "state", "depth.front", "extras.target"])
def test_an_observation_that_does_not_fit_is_named(path: str) -> None:
    columns = make_observation(np.random.default_rng(0)).columns()
    columns[f"observation.{path}"] = columns[f"observation.{path}"][..., None]
    with pytest.raises(SpecError, match=path):
        Observation.from_columns(columns).check(make_spec())


@given(st.text(st.characters(blacklist_characters="\0", blacklist_categories=("Cs",)), max_size=60))
def test_text_round_trips(text: str) -> None:
    encoded = encode_text(text)
    assert encoded.dtype == np.uint8 and encoded.shape == (INSTRUCTION_BYTES,)
    assert decode_text(encoded) == text


@pytest.mark.parametrize("text", ["x" * (INSTRUCTION_BYTES + 1), "a\0b"])
def test_text_that_would_be_mangled_is_refused(text: str) -> None:
    with pytest.raises(SpecError, match="Instruction"):
        encode_text(text)


def test_an_episode_gives_back_its_rows() -> None:
    rng = np.random.default_rng(1)
    spec = make_spec()
    seen = [make_observation(rng) for _ in range(4)]
    builder = EpisodeBuilder(spec, seen[0].instruction)
    actions = rng.normal(size=(3, 3)).astype(np.float32)
    for observation, action in zip(seen, actions, strict=False):
        builder.add(observation, action, 1.0)
    episode = builder.finish(seen[3], True, {"seed": 7})
    episode.check()
    assert len(episode) == 3
    for i in range(3):
        assert_equal(episode.row(i), seen[i])
    np.testing.assert_array_equal(episode.columns["action"], actions)
    assert_equal(episode.final, seen[3])
    broken = dataclasses.replace(episode, columns={**episode.columns, "action": actions.astype(np.float64)})
    with pytest.raises(SpecError, match="action"):
        broken.check()


def test_an_empty_episode_is_refused() -> None:
    with pytest.raises(SpecError, match="at least one row"):
        EpisodeBuilder(make_spec(), "").finish(make_observation(np.random.default_rng(0)), None, {})


def test_a_chunk_needs_one_time_per_action() -> None:
    assert len(ActionChunk(np.zeros((5, 2)), np.arange(5.0), 0.0)) == 5
    with pytest.raises(SpecError, match="times"):
        ActionChunk(np.zeros((5, 2)), np.arange(4.0), 0.0)


def test_done_is_either_end() -> None:
    observation = make_observation(np.random.default_rng(0))
    for terminated in (False, True):
        for truncated in (False, True):
            assert Step(observation, 0.0, terminated, truncated).done == (terminated or truncated)


def test_an_error_answers_four_questions() -> None:
    error = WayhandError("No such task", expected="a task", got="pik", exists=["pick", "push"], run="wayhand list envs")
    text = str(error)
    for part in ("No such task", "a task", "pik", "pick, push", "wayhand list envs"):
        assert part in text
    assert did_you_mean("pik", ["pick", "push"]) == "pick"
    assert did_you_mean("zzz", ["pick", "push"]) is None
