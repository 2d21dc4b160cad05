"""Every task of the tabletop keeps the contract, is deterministic, and is solved by its oracle."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv

from wayhand.envs.tabletop.env import TabletopEnv
from wayhand.envs.tabletop.oracles import ORACLES, ee_delta
from wayhand.envs.tabletop.registration import register
from wayhand.envs.tabletop.sim import DOWN
from wayhand.envs.tabletop.tasks import PRESS_DEPTH, TASKS
from wayhand.vla.contract import EpisodeBuilder, Observation, decode_text
from wayhand.vla.errors import ConfigError, SpecError

ALL = tuple(TASKS)
SIZE = 24


@pytest.fixture(scope="module")
def suite() -> Iterator[TabletopEnv]:
    env = TabletopEnv(tasks=ALL, image_size=SIZE)
    yield env
    env.close()


@pytest.fixture(scope="module")
def blind() -> Iterator[TabletopEnv]:
    env = TabletopEnv(tasks=ALL, cameras=())
    yield env
    env.close()


def flat(nested: dict[str, Any], path: str = "") -> dict[str, np.ndarray]:
    out: dict[str, np.ndarray] = {}
    for key, value in nested.items():
        out.update(flat(value, f"{path}{key}.") if isinstance(value, dict) else {path + key: np.asarray(value)})
    return out


def assert_same_bits(a: dict[str, Any], b: dict[str, Any]) -> None:
    left, right = flat(a), flat(b)
    assert left.keys() == right.keys()
    for path in left:
        assert left[path].tobytes() == right[path].tobytes(), path


def play(env: TabletopEnv, seed: int, limit: int = 400, noise: float = 0.0, **options: Any) -> dict[str, Any]:
    env.reset(seed=seed, options=options)
    rng = np.random.default_rng(seed)
    for _ in range(limit):
        *_, terminated, truncated, info = env.step(env.oracle(rng, noise))
        if terminated or truncated:
            return info
    raise AssertionError("The episode has no end")


@pytest.mark.parametrize("task", ALL)
def test_observations_fit_the_spec_and_the_space(suite: TabletopEnv, task: str) -> None:
    nested, info = suite.reset(seed=1, options={"task": task})
    rng = np.random.default_rng(0)
    builder = EpisodeBuilder(suite.body, info["instruction"])
    for _ in range(3):
        observation = Observation.from_nested(nested)
        observation.check(suite.body)
        assert suite.observation_space.contains(nested)
        assert observation.instruction == info["instruction"]
        action = suite.oracle(rng)
        assert suite.action_space.contains(action)
        nested, reward, *_ = suite.step(action)
        builder.add(observation, action, reward)
    builder.finish(Observation.from_nested(nested), None, {}).check()
    assert info["compatible"] == {"place": 4, "stack": 6}.get(task, 3)
    assert suite.oracle_name == f"tabletop-{task}"


@pytest.mark.parametrize("task", ALL)
def test_oracle_succeeds(blind: TabletopEnv, task: str) -> None:
    for seed, noise in ((0, 0.0), (1, 0.0), (2, 0.15)):
        info = play(blind, seed, task=task, noise=noise)
        assert info["success"] and info["chosen"] == blind.sim.target.name


@pytest.mark.parametrize("task", ALL)
def test_the_wrong_choice_ends_the_episode_without_success(blind: TabletopEnv, task: str) -> None:
    blind.reset(seed=3, options={"task": task})
    layout = blind.sim.layout
    assert layout is not None
    wrong = layout.candidates[layout.other]
    assert wrong is not blind.sim.target
    info: dict[str, Any] = {}
    terminated = truncated = False
    while not (terminated or truncated):
        world = blind.sim.world()
        action = ee_delta(world, ORACLES[task](world, wrong), DOWN, blind.sim.control_dt)
        _, reward, terminated, truncated, info = blind.step(action)
        assert reward == 0.0
    assert terminated and not info["success"] and info["chosen"] == wrong.name


@pytest.mark.parametrize("task", ALL)
def test_same_seed_and_actions_give_the_same_bits_whatever_came_before(suite: TabletopEnv, task: str) -> None:
    rng = np.random.default_rng(5)
    first, _ = suite.reset(seed=7, options={"task": task})
    actions = [suite.oracle(rng, 0.5) for _ in range(1)]
    trace = [suite.step(actions[0])[0]]
    for _ in range(11):
        actions.append(suite.oracle(rng, 0.5))
        trace.append(suite.step(actions[-1])[0])
    for other in (0, 1):
        suite.reset(seed=other, options={"task": ALL[(ALL.index(task) + 1 + other) % len(ALL)]})
        for _ in range(5):
            suite.step(suite.oracle(rng, 1.0))
    again, _ = suite.reset(seed=7, options={"task": task})
    assert_same_bits(first, again)
    for action, expected in zip(actions, trace, strict=True):
        assert_same_bits(suite.step(action)[0], expected)
    suite.reset(seed=7, options={"task": task})
    nested, rewards, *_ = suite.step_chunk(np.stack(actions))
    assert_same_bits(nested, trace[-1])
    assert rewards == [0.0] * len(actions)
    fresh = TabletopEnv(tasks=(task,), image_size=SIZE)
    fresh.reset(seed=7)
    for action in actions:
        nested = fresh.step(action)[0]
    assert_same_bits(nested, trace[-1])
    fresh.close()


def test_returned_arrays_belong_to_the_caller(suite: TabletopEnv) -> None:
    first, _ = suite.reset(seed=0)
    kept = {k: v.copy() for k, v in flat(first).items()}
    second = suite.step(suite.oracle(np.random.default_rng(0)))[0]
    for path, array in flat(first).items():
        assert array.tobytes() == kept[path].tobytes(), path
        assert not np.shares_memory(array, flat(second)[path]), path
    for array in flat(second).values():
        if array.ndim:
            array[...] = 0
    third = suite.step(suite.oracle(np.random.default_rng(0)))[0]
    assert third["images"]["front"].any() and third["state"].any()


@pytest.mark.parametrize("task", ALL)
def test_no_observation_is_constant(suite: TabletopEnv, task: str) -> None:
    rng = np.random.default_rng(0)
    rows = [flat(suite.reset(seed=2, options={"task": task})[0])]
    for _ in range(25):
        nested, _, terminated, *_ = suite.step(suite.oracle(rng, 0.3))
        rows.append(flat(nested))
        if terminated:
            break
    for path in rows[0]:
        if path != "instruction":
            assert any(row[path].tobytes() != rows[0][path].tobytes() for row in rows), path
    states = np.stack([row["state"] for row in rows])
    moving = [e.name for e, std in zip(suite.body.state, states.std(0), strict=True) if std > 0]
    assert {e.name for e in suite.body.state} - set(moving) <= {"gripper_width"}


def test_swap_keeps_the_scene_and_asks_for_something_else(suite: TabletopEnv) -> None:
    for seed in range(12):
        a, info_a = suite.reset(seed=seed)
        b, info_b = suite.reset(seed=seed, options={"swap": True})
        left, right = flat(a), flat(b)
        del left["instruction"], right["instruction"]
        assert_same_bits(left, right)
        assert info_a["target"] != info_b["target"]
        assert info_a["instruction"] != info_b["instruction"]
        assert info_b["target"] in info_a["alternatives"]
    assert play(suite, 4, swap=True)["success"]


def test_default_task_cycles_with_the_seed(suite: TabletopEnv) -> None:
    assert [suite.reset(seed=s)[1]["task"] for s in range(len(ALL) + 1)] == [*ALL, ALL[0]]


def test_splits_change_only_what_they_say(suite: TabletopEnv) -> None:
    seen, info = suite.reset(seed=6)
    phrased, phrased_info = suite.reset(seed=6, options={"split": "unseen_phrasing"})
    assert phrased["images"]["front"].tobytes() == seen["images"]["front"].tobytes()
    assert phrased_info["target"] == info["target"] and phrased_info["instruction"] != info["instruction"]
    for task in ("reach", "push", "pick"):
        suite.reset(seed=6, options={"split": "distractors", "task": task})
        assert suite.sim.layout is not None and len(suite.sim.layout.things) == 5


@pytest.mark.parametrize("task", ALL)
@pytest.mark.parametrize("split", ["unseen_pair", "distractors"])
def test_oracle_succeeds_on_other_splits(blind: TabletopEnv, task: str, split: str) -> None:
    assert play(blind, 11, task=task, split=split)["success"]


def test_joint_position_actions_reach_the_same_goal() -> None:
    env = TabletopEnv(tasks=("pick",), action="joint_position", cameras=())
    assert [g.kind for g in env.body.action] == ["joint_position", "joint_position"]
    assert play(env, 0)["success"]
    env.close()


def test_commanded_pose_is_tracked_closely(blind: TabletopEnv) -> None:
    blind.reset(seed=0, options={"task": "reach"})
    errors = []
    for k in range(24):
        angle = 2 * np.pi * k / 24  # a circle of 5 cm radius at 0.26 m/s
        delta = 0.013 * np.array([np.cos(angle), np.sin(angle), 0.0])
        *_, info = blind.step(np.concatenate([delta, [0.0, 0.0, 0.02, 0.04]]))
        errors.append(info["measures"]["tracking_error"])
    assert max(errors) < 0.002


def test_commanded_pose_cannot_run_away_from_the_hand(blind: TabletopEnv) -> None:
    blind.reset(seed=0, options={"task": "reach"})
    for _ in range(30):
        blind.step(np.array([0, 0, -0.03, 0, 0, 0, 0.0]))
    here, _ = blind.sim.pose
    goal, _ = blind.sim.goal_pose
    assert np.abs(goal - here).max() < 0.061 and goal[2] > 0.005


def test_depth_and_semantics_are_observed_on_request() -> None:
    env = TabletopEnv(tasks=("pick",), image_size=SIZE, depth=True, semantics=True)
    nested, _ = env.reset(seed=0)
    Observation.from_nested(nested).check(env.body)
    assert env.observation_space.contains(nested)
    env.close()


def test_randomisation_changes_looks_but_not_the_scene(suite: TabletopEnv) -> None:
    plain, _ = suite.reset(seed=8)
    for kind in ("light", "texture", "camera"):
        env = TabletopEnv(tasks=ALL, image_size=SIZE, randomize=(kind,))
        first, _ = env.reset(seed=8)
        env.reset(seed=9)
        again, _ = env.reset(seed=8)
        assert_same_bits(first, again)
        assert first["state"].tobytes() == plain["state"].tobytes()
        assert first["images"]["front"].tobytes() != plain["images"]["front"].tobytes(), kind
        env.close()
    env = TabletopEnv(tasks=ALL, cameras=(), randomize=("light", "texture", "camera", "friction"))
    assert all(play(env, s, task="stack")["success"] for s in range(3))
    env.close()


@pytest.mark.parametrize("task", ALL)
def test_check_env_has_nothing_to_say(task: str) -> None:
    register()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = gym.make(f"wayhand/Tabletop{task.title()}-v0", image_size=16, render_mode="rgb_array")
        check_env(env.unwrapped)
        env.close()


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_instructions_survive_vector_environments(kind: str) -> None:
    make = partial(TabletopEnv, tasks=ALL, image_size=8, cameras=("front",))
    makers = [make, make]
    vector = SyncVectorEnv(makers) if kind == "sync" else AsyncVectorEnv(makers, shared_memory=True, context="spawn")
    observations, infos = vector.reset(seed=3)
    assert [decode_text(row) for row in observations["instruction"]] == list(infos["instruction"])
    observations, *_ = vector.step(np.zeros((2, 7), np.float32))
    assert [decode_text(row) for row in observations["instruction"]] == list(infos["instruction"])
    vector.close()


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"control_hz": 30}, "divide"),
        ({"tasks": ("pik",)}, "pick"),
        ({"tasks": ()}, "at least one task"),
        ({"action": "joint_positon"}, "joint_position"),
        ({"cameras": ("back",)}, "front"),
        ({"randomize": ("colour",)}, "texture"),
        ({"robot": "ur5"}, "embedded"),
        ({"distractors": 9}, "1 to 4"),
        ({"render_mode": "human"}, "rgb_array"),
    ],
)
def test_wrong_arguments_are_explained(arguments: dict[str, Any], word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        TabletopEnv(**arguments)


def test_wrong_resets_and_steps_are_explained(blind: TabletopEnv) -> None:
    with pytest.raises(ConfigError, match="unseen_pair"):
        blind.reset(seed=0, options={"split": "unseen_pairs"})
    with pytest.raises(ConfigError, match="swap"):
        blind.reset(seed=0, options={"swop": True})
    blind.reset(seed=0)
    with pytest.raises(SpecError, match="7 finite numbers"):
        blind.step(np.zeros(6))
    with pytest.raises(SpecError, match="finite"):
        blind.step(np.full(7, np.nan))
    play(blind, 0, task="reach")
    with pytest.raises(SpecError, match="over"):
        blind.step(np.zeros(7))


def test_buttons_stand_only_on_tables_built_for_them() -> None:
    env = TabletopEnv(tasks=("pick",), cameras=())
    with pytest.raises(ConfigError, match="no buttons"):
        env.reset(seed=0, options={"task": "press"})
    names = {env.sim.model.body(i).name for i in range(env.sim.model.nbody)}
    assert not {n for n in names if "button" in n}
    env.close()


def test_a_button_springs_back(blind: TabletopEnv) -> None:
    play(blind, 3, task="press")
    assert blind.sim.world().buttons.max() > PRESS_DEPTH
    rest = np.zeros(7)
    rest[2] = 0.04
    blind.reset(seed=3, options={"task": "press"})
    blind.sim.data.qpos[blind.sim.model.joint("button0").qposadr[0]] = 0.012
    for _ in range(20):
        blind.step(rest)
    assert np.abs(blind.sim.world().buttons).max() < 0.001


def test_time_limit_truncates() -> None:
    env = TabletopEnv(tasks=("pick",), cameras=(), max_seconds=0.2)
    env.reset(seed=0)
    _, rewards, terminated, truncated, info = env.step_chunk(np.zeros((9, 7)))
    assert len(rewards) == 4 and truncated and not terminated and info["chosen"] is None
    env.close()
